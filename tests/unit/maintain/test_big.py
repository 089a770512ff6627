"""inv maintain.big: its model, what it makes of looks and marks, and its table."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import DEADLINE, ROOT, Inv, wait_for

from benchmarks.big import report, view
from benchmarks.big.job import Job
from benchmarks.big.plan import plan
from benchmarks.big.view import Look, SeenRank
from tasks.cluster.facts.server.marks import Marks

NODE = ROOT / "tasks" / "remote" / "big" / "node.py"


@pytest.mark.parametrize(
    ("gigabytes", "dtype"), [(0.05, "float32"), (4, "float32"), (20, "bfloat16"), (70, "bfloat16")]
)
def test_shapes(gigabytes: float, dtype: str) -> None:
    made = plan(gigabytes, dtype)
    assert made.bytes / 1e9 == pytest.approx(gigabytes, rel=0.1)
    for key in ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"):
        size = made.config[key]
        assert isinstance(size, int)
        assert size % 4 == 0


def test_model(tmp_path: Path) -> None:
    """Its files hold what the config says, each id has a text, and it is made once."""
    made = plan(0.05, "bfloat16")
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(made.document(str(tmp_path / "model"), 2)))
    said = _node("make", str(file))
    assert (said["bytes"], said["files"]) == (made.bytes + _vectors(made.config), 1)
    (weights,) = (tmp_path / "model").glob("*.safetensors")
    with weights.open("rb") as data:
        header = json.loads(data.read(struct.unpack("<Q", data.read(8))[0]))
    shapes = {name: each["shape"] for name, each in header.items() if name != "__metadata__"}
    index = json.loads((tmp_path / "model" / "model.safetensors.index.json").read_text())
    assert shapes.keys() == index["weight_map"].keys()
    assert shapes["model.layers.0.mlp.down_proj.weight"] == [512, 1536]
    words = json.loads((tmp_path / "model" / "tokenizer.json").read_text())["model"]["vocab"]
    assert sorted(words.values()) == list(range(len(words)))
    assert len(words) == made.config["vocab_size"]
    before = weights.stat().st_mtime_ns
    assert _node("make", str(file))["was_there"]
    assert weights.stat().st_mtime_ns == before
    assert _node("read", str(tmp_path / "model"), "1000000000")["bytes"] == weights.stat().st_size


def _vectors(config: dict[str, Any]) -> int:
    """Bytes of the norms, which the plan does not count."""
    return int((2 * config["num_hidden_layers"] + 1) * config["hidden_size"] * 2)


def _node(*words: str) -> Any:
    line = [sys.executable, str(NODE), *words]
    return json.loads(
        subprocess.run(line, capture_output=True, check=True, timeout=DEADLINE).stdout
    )


MARKS = """importing 100.0 pid=7 stacks=SIGURG
meeting 101.0 limit=60
joined 101.5 rank=0 size=2 backend=ring seconds=0.5 mlx=1 python=3
"""
LOADS = "".join(f"loading {104 + n}.0 bytes={n * 10} of=100\n" for n in range(1, 11))


def told(marks: str, read: str = "-") -> str:
    lines = "".join(f"mark {line}\n" for line in marks.splitlines())
    return "run r1\n" + "".join(f"rank {n} {7 + n} 1 {read}\n{lines}" for n in (0, 1))


def test_looks() -> None:
    run, ranks = view.parse(told(MARKS + LOADS, "350"), "mac1")
    assert (run, [*ranks]) == ("r1", [0, 1])
    one = ranks[1]
    assert (one.node, one.pid, one.lives, one.read) == ("mac1", 8, True, 350)
    assert (one.loading[0], one.loading[-1]) == ((105.0, 10, 100), (114.0, 100, 100))
    assert view.parse("run r1\n", "mac1") == ("r1", {})
    assert view.parse("", "mac1") == ("", {})
    assert view.parse(told(MARKS), "mac1")[1][0].read is None


def test_parts_add_up() -> None:
    look = Look(120.0, "r1", view.parse(told(MARKS + LOADS), "mac1")[1])
    found = view.parts(look, begun=99.0, ready=116.0, ended=117.0)
    assert found
    assert (found.checks, found.mlx, found.join, found.imports) == (1.0, 1.0, 0.5, 3.5)
    assert (found.load, found.token, found.after, found.total) == (9.0, 2.0, 1.0, 18.0)
    assert found.own == pytest.approx(2.5)  # checks, join, after
    waits = Look(1.0, "r1", view.parse(told(MARKS.partition("joined")[0]), "mac1")[1])
    assert view.parts(waits, 99.0, 116.0, 117.0) is None


def series(shares: list[int], read: int | None = None) -> list[Look]:
    """Looks half a second apart at two ranks that have told so much by then."""
    found = []
    for n in range(len(shares)):
        marks: list[tuple[float, int, int]] = [(100.0, 0, 100)]
        marks += [(100.0 + 0.5 * k, s, 100) for k, s in enumerate(shares[: n + 1])]
        seen = None if read is None else read + 1000 + 5 * n
        rank = SeenRank("mac1", 1, True, seen, Marks(), marks)
        found.append(Look(100.0 + 0.5 * n, "r1", {0: rank, 1: rank}))
    return found


def test_progress() -> None:
    """Told against what was read, seen from outside, or against a straight line."""
    found = view.progress(series([5 * n for n in range(21)], 0))
    assert found
    assert not found.went_back
    assert found.line == pytest.approx(0)
    assert found.read == pytest.approx(0)
    assert found.at[50] == pytest.approx((50, 50, 50))
    late = view.progress(series([0] * 5 + [5 * n for n in range(5, 21)]))
    assert late
    assert late.read is None
    assert late.line == pytest.approx(20)
    back = view.progress(series([*range(0, 80, 5), 70, 80, 90, 95, 100], 0))
    assert back
    assert back.went_back
    assert view.progress(series([0, 50, 100])) is None


def test_a_commands_end_is_noted_when_it_ends() -> None:
    """Not when somebody looks: that would be counted as the command's own."""
    job = Job(["--version"], {}, DEADLINE)
    wait_for(lambda: not any(reader.is_alive() for reader in job.readers))
    looked = time.time()
    assert job.begun < job.wait().ended <= looked
    assert job.code == 0


def test_page() -> None:
    rows = [
        report.TrialRow("start", "own | overhead", "2.5 s", "at most 2 s", False),
        report.TrialRow("start", "join", "0.1 s"),
    ]
    about = {"size": "0.2 GB", "ranks": "2 ranks", "command": "`inv maintain.big`"}
    text = report.page(about, rows)
    assert "2 rows, 1 with a goal that is not met." in text
    assert "| fail | start | own \\| overhead | 2.5 s | at most 2 s |" in text
    assert "| - | start | join | 0.1 s |  |" in text


def test_wrong_use(inv: Inv, tmp_path: Path) -> None:
    wrong = inv("maintain.big", "--steps", "start,sleep", code=2).one_line()
    assert "--steps sleep: choose from one, start, bench" in wrong
    page = str(tmp_path / "nowhere" / "a.md")
    nowhere = inv("maintain.big", "--report", page, code=2).one_line()
    assert nowhere == f"--report {page}: there is no such folder: make it first"
    assert "--gb" in inv("maintain.big", "--gb", "x", code=2).one_line()
