"""The canary with real ranks: rounding is let pass, and what is wrong is found."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import small_models
from conftest import Inv, processes, wait_for
from real_ranks import GetRanks, Ranks
from real_ranks import ranks as ranks

from tasks.cluster.config.hostfile import Host
from tasks.cluster.http.api import Api
from tasks.cluster.http.canary import RIGHT, WRONG, Position, Reference, Verdict, judge
from tasks.cluster.http.orders import MARK, Orders
from tasks.cluster.ssh.node import Node
from tasks.commands.tp.canary import CanaryOptions, measure, score

API = Api(Node(Host("127.0.0.1")), "127.0.0.1", 0)
FEW = CanaryOptions(prompts=4, max_tokens=32, prompt_tokens=16)
MANY = replace(FEW, prompts=200, max_tokens=16)


@dataclass(frozen=True)
class RankOrders(Orders):
    """Orders to ranks that have no server around them."""

    ranks: Ranks

    def _send(self, order: dict[str, Any], count: int) -> dict[str, Any]:
        if "encode" in order:
            said: Any = [[*text.encode()] for text in order["encode"]]
        else:
            # Packed matrices are slow on a CPU: sixteen sequences may take minutes.
            said = self.ranks.order("obey", order, seconds=600)[0]
        return {"error": said if isinstance(said, str) else MARK + json.dumps(said)}


@dataclass
class Holds:
    """What the canary says of ranks of small models; references are kept."""

    ranks: GetRanks
    folder: Path
    known: dict[Any, Reference] = field(default_factory=dict)

    def orders(self, folder: Path, count: int, harm: str = "") -> Orders:
        ranks = self.ranks(count)
        assert set(ranks.order("open", str(folder), harm)) == {"ok"}
        return RankOrders(API, "m", 60, ranks)

    def model(self, dtype: str, bits: int, kind: str, like: str) -> Path:
        folder = self.folder / f"{dtype}-{bits}-{kind}-{like}"
        if not folder.exists():
            folder.mkdir()
            config = {**small_models.config(kind, like), "torch_dtype": dtype}
            assert self.ranks(0).order("make", str(folder), config, bits, dtype) == ["ok"]
        return folder

    def reference(self, folder: Path, options: CanaryOptions) -> Reference:
        if (folder, options) not in self.known:
            orders = self.orders(folder, 0)
            self.known[folder, options] = measure(orders, options, "m", 1, "1 rank")
        return self.known[folder, options]

    def __call__(
        self, dtype: str, bits: int, count: int, harm: str = "", options: CanaryOptions = FEW,
        kind: str = "llama", like: str = "friendly",
    ) -> Verdict:  # fmt: skip
        folder = self.model(dtype, bits, kind, like)
        reference = self.reference(folder, options)
        return judge(reference, self.found(folder, count, reference, harm))

    def found(
        self, folder: Path, count: int, reference: Reference, harm: str = ""
    ) -> list[Position]:
        """What so many ranks say of the reference's tokens."""
        tokens = [[each] for each in reference.tokens]
        return score(self.orders(folder, count, harm), tokens, reference.first)


@pytest.fixture(scope="module")
def hold(ranks: GetRanks, tmp_path_factory: pytest.TempPathFactory) -> Holds:
    return Holds(ranks, tmp_path_factory.mktemp("models"))


KINDS = {"float32": ("float32", 0), "bf16": ("bfloat16", 0), "4 bits": ("bfloat16", 4)}
SAMPLE = [
    ("float32", 2, ""), ("float32", 2, "one_matrix"), ("float32", 2, "dropped_head"),
    ("bf16", 3, ""), ("bf16", 3, "all_matrices"), ("bf16", 2, "exchanged"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "count", "harm"), SAMPLE)
def test_ranks(hold: Holds, kind: str, count: int, harm: str) -> None:
    found = hold(*KINDS[kind], count, harm)
    assert found.verdict == (WRONG if harm else RIGHT), found
    assert found.positions == 128


def test_ranks_that_do_not_divide_it(hold: Holds) -> None:
    """Heads of which three ranks have parts: no error, and other answers."""
    assert hold("float32", 0, 3, like="odd").verdict == WRONG


@pytest.mark.long
@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_no_false_alarm(hold: Holds, kind: str, count: int) -> None:
    """200 prompts, as a whole and sixteen by sixteen."""
    folder = hold.model(*KINDS[kind], "llama", "friendly")
    whole = hold.reference(folder, MANY)
    found = hold.found(folder, count, whole)
    said = judge(whole, found)
    print(kind, count, said)
    assert (said.verdict, said.positions) == (RIGHT, 3200), said
    for first in range(0, 200, 16):
        place = slice(first * 16, (first + 16) * 16)
        noise = {name: each[place] for name, each in whole.noise.items() if each[place]}
        tokens = whole.tokens[first : first + 16]
        part = replace(whole, tokens=tokens, positions=whole.positions[place], noise=noise)
        said = judge(part, found[place])
        assert said.verdict == RIGHT, (first, said)


@pytest.mark.long
@pytest.mark.parametrize("harm", ["all_matrices", "exchanged", "dropped_head"])
@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_wrong_is_found(hold: Holds, kind: str, count: int, harm: str) -> None:
    assert hold(*KINDS[kind], count, harm).verdict == WRONG


@pytest.mark.long
@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_thorough(hold: Holds, kind: str, count: int) -> None:
    """One kind of matrix of one rank, and in float32 a single matrix, but not rounding.

    Packed, on a CPU, that kind moves answers no further than rounding does (docs/tests.md).
    """
    options = replace(FEW, prompts=64, max_tokens=16)
    assert hold(*KINDS[kind], count, "", options).verdict == RIGHT
    if kind != "4 bits":
        assert hold(*KINDS[kind], count, "down_projections", options).verdict == WRONG
    if kind == "float32":
        assert hold(*KINDS[kind], count, "one_matrix", options).verdict == WRONG


EXPERTS = ["qwen3_moe", "deepseek_v3", "gpt_oss"]
# MLX's CPU (0.32.4) multiplies by experts in float32 and packed: "[GatherMM::eval] Currently only
# supports float32".
OTHERS = [(kind, dtype) for kind in EXPERTS for dtype in ("float32", "4 bits")]
OTHERS += [("qwen3_5", dtype) for dtype in KINDS]


@pytest.mark.long
@pytest.mark.parametrize(("kind", "dtype"), OTHERS)
def test_other_kinds(hold: Holds, kind: str, dtype: str) -> None:
    """Experts, a latent cache, sinks, linear attention: all of them round in their own way."""
    said = hold(*KINDS[dtype], 2, kind=kind)
    assert said.verdict == RIGHT, said


def test_with_a_server(served: Inv, home: Path) -> None:
    """Two ranks of the real server against one, started for it; and against what was recorded."""
    served("tp.start")
    before, alive = served("tp.status", "--json").json()["ranks"], processes(home)
    few = ("--requests", "4", "--max-tokens", "16", "--prompt-tokens", "16")
    file = str(home / "reference.json")
    done = served("tp.bench", "--record", file, *few)
    assert f"64 positions of 2 ranks: {file}" in done.err
    said = served("tp.bench", "--canary", *few, "--json").json()["canary"]
    assert (said["verdict"], said["ranks"], said["positions"]) == ("right", 2, 64)
    assert said["reference"]["what"] == "1 rank on 127.0.0.1"
    assert 0 < said["nats"]["mean"] < said["nats"]["limit"] < 1e-4
    assert said["served"] == {"same": 8, "tie": 0, "wrong": 0}
    # The reference is gone, and no rank is. Who held the lock for the start may have ended since.
    rows = served("tp.status", "--json").json()["ranks"]
    assert [row["pid"] for row in rows] == [row["pid"] for row in before]
    wait_for(lambda: set(processes(home)) <= set(alive))
    told = json.loads(Path(file).read_text())
    for row in told["positions"]:
        row[0] -= 0.01
    Path(file).write_text(json.dumps(told))
    wrong = served("tp.bench", "--against", file, *few, code=4)
    assert "canary: wrong: the answers' tokens are 0.01 nats off on average" in wrong.err
    assert re.search(r"^mean difference, nats +0.01 ", wrong.out, re.MULTILINE)
