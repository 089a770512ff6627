"""Whether a model divides over ranks: against known answers, and against real ranks."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import small_models
from conftest import DEADLINE, ROOT, Inv, read_here
from real_ranks import GetRanks
from real_ranks import ranks as ranks

from tasks.cluster import facts
from tasks.cluster.checks.finding import OK
from tasks.cluster.checks.models.whole import complete
from tasks.cluster.facts import Unknown
from tasks.cluster.facts.models import model, split
from tasks.cluster.facts.models.split import PIPELINE, TENSOR, Split

KNOWN = json.loads((Path(__file__).parent / "data/models/known.json").read_text())["models"]
PACKED = {"bits": 4, "group_size": 64}
NASTY_FOLDER = 'it\'s $(touch a-canary) "ü 日" {a} \\n %d ; touch a-canary'


def ask(
    folder: Path | str, mode: str, *ranks: int, state: str = "/dev/null", cwd: Path | None = None
) -> Split:
    """What this Python's mlx_lm says; no answer is kept without a `state`."""
    where = None if cwd is None else str(cwd)
    fact = split.fact(str(folder), where, sys.executable, state, mode, ranks)
    said = read_here(fact).get(split.KEY)
    assert isinstance(said, Split), said
    return said


# Known answers.


def known(name: str, how: str, folder: Path, *only: str) -> None:
    """Divides, bytes and KV heads of a public configuration, for all numbers that are known."""
    config, rows = dict(KNOWN[name]["config"]), KNOWN[name][how]
    expected = {number: rows[number] for number in only or rows}
    config |= {"quantization": PACKED} if how == "at_4bit_group_64" else {}
    (folder / "config.json").write_text(json.dumps(config))
    said = ask(folder, TENSOR, *map(int, expected))
    for number, row in expected.items():
        found = said.row(int(number), TENSOR)
        assert found.answer == row["tp"], (name, number, found)
        if row["tp"] == "yes":
            assert set(found.sizes) == {row["bytes"]}, (name, number)
            assert [*found.kv_heads] == row["kv_heads"], (name, number)
            assert sum(each for _, each in found.cache) == row["kv_bytes_per_token"]


SURE = [(name, how) for name, each in KNOWN.items() for how in each if how[:3] in ("at_", "as_")]
SURE = [(name, how) for name, how in SURE if KNOWN[name]["sure"]]
# MLA, repeated KV heads, sizes that a group does not divide, no shard(), few KV heads.
SAMPLE: tuple[str, ...] = (
    "Moonlight-16B-A3B-Instruct",
    "Qwen3.5-35B-A3B",
    "GLM-4.5-Air",
    "gemma-4-26B-A4B",
)
SAMPLE = (*SAMPLE, "gpt-oss-20b", "Qwen3-30B-A3B")


def test_there_are_forty() -> None:
    assert len({name for name, _ in SURE}) == 40
    assert {name for name, _ in SURE} > {*SAMPLE}


@pytest.mark.parametrize("name", SAMPLE)
def test_known_answers(name: str, tmp_path: Path) -> None:
    known(name, "at_4bit_group_64", tmp_path, "2", "3", "8")


@pytest.mark.long
@pytest.mark.parametrize(("name", "how"), SURE)
def test_all_known_answers(name: str, how: str, tmp_path: Path) -> None:
    known(name, how, tmp_path)


def test_nothing_is_evaluated_and_it_is_quick(tmp_path: Path) -> None:
    """A model of 2.8 T numbers costs neither memory nor the time to touch it."""
    config = {**KNOWN["Kimi-K3"]["config"], "quantization": PACKED}
    (tmp_path / "config.json").write_text(json.dumps(config))
    line = [
        sys.executable,
        str(ROOT / "tasks/remote/facts/split.py"),
        str(tmp_path),
        TENSOR,
        "2",
    ]
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=DEADLINE)
    assert json.loads(done.stdout)["rows"][0]["answer"] == "yes"
    assert json.loads(done.stdout)["peak"] < 10**6


# Real ranks: yes if and only if N of them answer as one does.


def hold(ranks: GetRanks, kind: str, like: str, bits: int, counts: Sequence[int], at: Path) -> None:
    """dev.model's answer for so many ranks is that of so many real ranks, in both modes."""
    assert ranks(0).order("make", str(at), small_models.config(kind, like), bits) == ["ok"]
    said = ask(at, TENSOR, 1, *counts)
    whole = read_here(model.fact(str(at), None)).values
    (found,) = complete({"n": facts.NodeFacts("n", {**whole, split.KEY: said})})
    assert found.level == OK, found
    for count in counts:
        for mode in (TENSOR, PIPELINE):
            row = said.row(count, mode)
            if "no shard" in row.why or "has no --pipeline" in row.why:
                continue  # sharded_load itself says so, before it loads
            seen, what = ranks(count).outcome(at, mode)
            assert (row.answer == "yes") == (seen == "same"), (kind, like, mode, row, seen, what)
            if seen == "same":
                assert what == row.sizes, (kind, like, count, mode)


@pytest.mark.parametrize(
    ("kind", "like", "bits", "count"),
    [("llama", "odd", 0, 3), ("qwen3_moe", "few", 4, 2), ("deepseek_v3", "friendly", 4, 3)],
)
def test_real_ranks(
    ranks: GetRanks, kind: str, like: str, bits: int, count: int, tmp_path: Path
) -> None:
    hold(ranks, kind, like, bits, [count], tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("bits", [0, 4])
@pytest.mark.parametrize("like", small_models.HEADS)
@pytest.mark.parametrize("kind", small_models.KINDS)
def test_all_real_ranks(ranks: GetRanks, kind: str, like: str, bits: int, tmp_path: Path) -> None:
    hold(ranks, kind, like, bits, [2, 3, 4], tmp_path)


# The files.


def tensor_file(path: Path, *ends: int, spaced: bool = False, name: str = "layer") -> int:
    """A safetensors file whose tensors end at `ends`; its size."""
    starts = [0, *ends]
    header: dict[str, Any] = {
        f"{name}.{number}": {"dtype": "U8", "shape": [end], "data_offsets": [starts[number], end]}
        for number, end in enumerate(ends)
    }
    # A name that looks like an offset is a name.
    header["__metadata__"] = {"format": "mlx"}
    text = json.dumps(header, separators=None if spaced else (",", ":")).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(max(ends, default=0)))
    return path.stat().st_size


PARTS = [f"model-{number:05d}-of-00002.safetensors" for number in (1, 2)]


def test_weights_are_read(tmp_path: Path) -> None:
    folder = tmp_path / NASTY_FOLDER
    folder.mkdir()
    whole = tensor_file(folder / PARTS[0], 10, 300, 1000)
    spaced = tensor_file(folder / PARTS[1], 4096, 70000, spaced=True)
    empty = tensor_file(folder / "no tensors.safetensors")
    cut = folder / "cut.safetensors"
    full = tensor_file(cut, 5000)
    cut.write_bytes(cut.read_bytes()[:2000])
    (folder / "pointer.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    (folder / "nothing.safetensors").touch()
    (folder / "deep.safetensors").write_bytes(struct.pack("<Q", 10**5) + b"[" * 10**5)
    names = {"layer.0": PARTS[0], "layer.1": PARTS[1], "x": PARTS[1], "y": PARTS[1]}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    said = ask(folder, TENSOR, 2)
    assert said.weights.named == frozenset(PARTS)
    assert said.weights.implied == {
        PARTS[0]: whole,
        PARTS[1]: spaced,
        "no tensors.safetensors": empty,
        "cut.safetensors": full,
        "pointer.safetensors": None,
        "nothing.safetensors": None,
        "deep.safetensors": None,
    }
    assert (said.weights.lost, said.weights.lost_count) == (("x", PARTS[1]), 2)
    # There is no config.json: nothing loads, and the files can be told of.
    assert said.row(2, TENSOR).answer == "no"
    (folder / "model.safetensors.index.json").write_text("[")
    assert ask(folder, TENSOR, 2).weights.named == frozenset()
    assert not (tmp_path / "a-canary").exists()


def test_a_model_that_is_gone(tmp_path: Path) -> None:
    fact = split.fact(str(tmp_path / "no"), None, sys.executable, "/dev/null", TENSOR, [2])
    assert read_here(fact).get(split.KEY) == Unknown("the model is not there (exit status 3)")


def broken(tiny: Path, folder: Path, **config: Any) -> Path:
    """The tiny model with another config.json."""
    shutil.copytree(tiny, folder)
    whole = {**json.loads((folder / "config.json").read_text()), **config}
    (folder / "config.json").write_text(json.dumps(whole))
    return folder


def fewer_heads(tiny: Path, folder: Path, heads: int) -> Path:
    """The tiny model with so many KV heads, in its files too."""
    broken(tiny, folder, num_key_value_heads=heads)
    path = folder / "model.safetensors"
    data = path.read_bytes()
    size = 8 + struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8:size]), b""
    header.pop("__metadata__", None)
    for name, each in header.items():
        first, last = each["data_offsets"]
        if re.search(r"\.[kv]_proj\.", name):
            each["shape"][0] = each["shape"][0] * heads // 12
            last = first + (last - first) * heads // 12
        each["data_offsets"] = [len(body), len(body) + last - first]
        body += data[size + first : size + last]
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return folder


@pytest.mark.parametrize(
    ("config", "answer", "why"),
    [
        ({"num_key_value_heads": 1}, "no", r"1 KV head can't be divided by 2 ranks"),
        ({"num_attention_heads": 9}, "no", "9 heads can't be divided by 2 ranks"),
        ({"model_type": "gemma3_text"}, "no", r"mlx-lm [\d.]+ can't divide gemma3_text \(no shard"),
        ({"model_type": "new"}, "no", r"mlx-lm [\d.]+: Model type new not supported"),
        ({"model_file": "own.py"}, "unknown", r"brings its own code \(own.py\), which is not run"),
        ({"hidden_size": "x"}, "unknown", r"mlx-lm [\d.]+ can't build it: "),
        ({"quantization_config": {"quant_method": "bitnet"}}, "unknown", "bitnet"),
        ({}, "yes", ""),
    ],
    ids=str,
)
def test_answers(tiny: Path, tmp_path: Path, config: Any, answer: str, why: str) -> None:
    folder = broken(tiny, tmp_path / "m", **config)
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    row = ask(folder, TENSOR, 2).row(2, TENSOR)
    assert row.answer == answer
    assert re.search(why, row.why)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "config.json can't be read, copy it again: JSONDecodeError"),
        ('{"a": 1,}', "config.json can't be read, copy it again: JSONDecodeError"),
        ("\ufeff{}", "config.json can't be read, copy it again: JSONDecodeError: Unexpected UTF-8"),
        ("[" * 10**5, "config.json can't be read, copy it again: RecursionError"),
        ("[1]", "config.json is no JSON object, copy it again"),
        ("{}", "config.json has no 'model_type'"),
    ],
)
def test_a_config_that_is_none(tiny: Path, tmp_path: Path, text: str, why: str) -> None:
    folder = broken(tiny, tmp_path / "m")
    (folder / "config.json").write_text(text, encoding="utf-8")
    row = ask(folder, TENSOR, 2).row(2, TENSOR)
    assert (row.answer, row.why[: len(why)]) == ("no", why)


def test_a_config_that_leads_to_itself(tiny: Path, tmp_path: Path) -> None:
    folder = broken(tiny, tmp_path / "m")
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("config.json")
    row = ask(folder, TENSOR, 2).row(2, TENSOR)
    why = "config.json can't be read, copy it again: Too many levels of symbolic links"
    assert (row.answer, row.why) == ("no", why)


def test_packed_files_of_which_config_says_nothing(tiny: Path, tmp_path: Path) -> None:
    """One rank would be told so by load_weights; ranks that divide it load whatever is there."""
    folder = broken(tiny, tmp_path / "m", max_position_embeddings=-5)
    assert ask(folder, TENSOR, 2).context is None
    name = "model.layers.1.mlp.up_proj.scales"
    text = json.dumps({name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (folder / "model-2.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
    row = ask(folder, TENSOR, 2).row(2, TENSOR)
    why = f"the files have {name}, and config.json no quantization for it"
    assert (row.answer, row.why) == ("no", why)


def test_what_would_do_is_looked_for(tiny: Path, tmp_path: Path) -> None:
    said = ask(fewer_heads(tiny, tmp_path / "m", 4), TENSOR, 8)
    good = [row.ranks for row in said.rows if row.answer == "yes"]
    assert good == [1, 2, 4]
    assert len(ask(tmp_path / "m", TENSOR, 2).rows) == 1


def test_layers_without_weights(tiny: Path, tmp_path: Path) -> None:
    folder = broken(tiny, tmp_path / "m", num_hidden_layers=6)
    said = ask(folder, TENSOR, 2)
    assert (said.layers, said.bare) == (6, (4, 5))


@pytest.mark.parametrize(
    "name", ["lm_head.weight", "model.norm.weight", "model.layers.1.mlp.up_proj.weight"]
)
def test_a_tensor_that_the_files_lack(tiny: Path, tmp_path: Path, name: str) -> None:
    """Ranks that divide it would have random numbers there, and say nothing."""
    folder = broken(tiny, tmp_path / "m")
    path = folder / "model.safetensors"
    data = path.read_bytes()
    assert data.count(name.encode()) == 1
    # As long as it was; what has another name is not the model's, and says nothing by itself.
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    del header[name]
    text = json.dumps(header, separators=(",", ":")).encode().ljust(size)
    path.write_bytes(data[:8] + text + data[8 + size :])
    row = ask(folder, TENSOR, 2).row(2, TENSOR)
    why = f"the files have no {name}, copy or download the model again"
    assert (row.answer, row.why) == ("no", why)


def test_bytes_are_those_of_the_files(tiny: Path) -> None:
    said = ask(tiny, TENSOR, 1)
    data = (tiny / "model.safetensors").read_bytes()
    tensors = len(data) - 8 - struct.unpack("<Q", data[:8])[0]
    assert said.row(1, TENSOR).sizes == (tensors,)


# Folders of the field: what one rank would refuse, or load as something else, and N would not.


def headed(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Another header for the tiny model's tensors, with the same bytes behind it."""
    path = folder / "model.safetensors"
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])


def retyped(dtype: str) -> Callable[[Path], None]:
    """The last norm has this kind of numbers."""
    return lambda folder: headed(folder, lambda h: h["model.norm.weight"].update(dtype=dtype))


def cut_tokenizer(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_text(path.read_text()[:500])


def second_set(folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder / "model-00001-of-00001.safetensors")


# (what config.json says, what is done to the folder, ranks, the answer, why)
FOLDERS: dict[str, tuple[dict[str, Any], Callable[[Path], Any], int, str, str]] = {
    "right": ({}, lambda _: None, 2, "yes", "^$"),
    # Ranks take them as the files have them; one rank refuses them.
    "wider": ({"intermediate_size": 768}, lambda _: None, 2, "unknown",
              r"more\) is \[384, 192\] in the files, by config.json \[768, 192\]"),
    "more words": ({"vocab_size": 576}, lambda _: None, 1, "no", r"is \[512, 192\] in the files"),
    "heads of another size": ({"head_dim": 32}, lambda _: None, 2, "no",
                              r"q_proj.weight \(and 15 more\) is \[192, 192\] in the files"),
    # Layers past the last are left out without a word; one rank refuses them.
    "fewer layers": ({"num_hidden_layers": 2}, lambda _: None, 2, "unknown",
                     r"have model.layers.2.input_layernorm.weight \(and 17 more\), for which"),
    "fewer layers, alone": ({"num_hidden_layers": 2}, lambda _: None, 1, "no", "for which the"),
    "numbers of 64 bits": ({}, retyped("F64"), 2, "no", "can't load model.safetensors, copy it"),
    "numbers of nobody": ({}, retyped("Q4_K"), 2, "no", "unsupported dtype Q4_K"),
    "two sets": ({}, second_set, 2, "unknown",
                 r"lm_head.weight \(and 38 more\) is in model-00001-of-00001.safetensors and in"),
    "a tokenizer cut off": ({}, cut_tokenizer, 2, "no", "tokenizer.json can't be read, copy it"),
    "a key is missing": ({"hidden_size": None}, lambda folder: without(folder, "hidden_size"), 2,
                         "no", r"none that mlx-lm [\d.]+ takes: TypeError: missing 1 required"),
    "a kind that is a list": ({"model_type": ["llama"]}, lambda _: None, 2, "no", "unhashable"),
    "packed, not how": ({"quantization": {}}, lambda _: None, 2, "no",
                        "quantization has no group_size that is a number"),
    "packed by nobody": ({"quantization_config": {"bits": 4}}, lambda _: None, 2, "no",
                         "quantization_config has no quant_method"),
}  # fmt: skip


def without(folder: Path, key: str) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config[key]
    path.write_text(json.dumps(config))


def answers(folders: Sequence[Path], counts: Sequence[int]) -> list[dict[str, Any]]:
    """The row of each folder, all by one Python: to import mlx takes most of the time."""
    program = (
        "import sys\nsys.path.insert(0, sys.argv[1])\nimport split\n"
        "mlx = split.Mlx()\nsplit.Mlx = lambda: mlx\n"
        "for folder, count in zip(sys.argv[2::2], sys.argv[3::2]):\n"
        "    print(split.lines(folder, 'tensor', count)[0])\n"
    )
    pairs = [word for pair in zip(folders, counts, strict=True) for word in map(str, pair)]
    line = [sys.executable, "-c", program, str(ROOT / "tasks/remote/facts"), *pairs]
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=DEADLINE)
    return [json.loads(each)["rows"][0] for each in done.stdout.splitlines()]


def test_folders_of_the_field(tiny: Path, tmp_path: Path) -> None:
    folders = []
    for name, (config, change, *_) in FOLDERS.items():
        folders.append(broken(tiny, tmp_path / name, **config))
        change(folders[-1])
    rows = answers(folders, [count for _, _, count, _, _ in FOLDERS.values()])
    for (name, (_, _, _, answer, why)), row in zip(FOLDERS.items(), rows, strict=True):
        assert row["answer"] == answer, (name, row)
        assert re.search(why, row["why"]), (name, row)


def test_bytes_are_of_the_numbers_that_the_files_have(
    ranks: GetRanks, tiny: Path, tmp_path: Path
) -> None:
    """Not of those that config.json tells: ranks load them as they are, packed ones too."""
    made = tmp_path / "packed"
    assert ranks(0).order("make", str(made), small_models.config("llama", "friendly"), 8) == ["ok"]
    packed = {"group_size": 32, "bits": 4}
    folders = [
        *(tiny, broken(tiny, tmp_path / "m", torch_dtype="bfloat16")),
        *(made, broken(made, tmp_path / "p", quantization=packed, quantization_config=packed)),
    ]
    one, two, three, four = (row["bytes"] for row in answers(folders, [2] * 4))
    assert (one, three) == (two, four)


# mlx-lm's other versions, and checkouts of it.


def checkout(folder: Path, **files: str) -> Path:
    """A folder in which `import mlx_lm` finds ours, with some files in place of its own."""
    import mlx_lm

    shutil.copytree(Path(mlx_lm.__path__[0]), folder / "mlx_lm")
    for name, text in files.items():
        (folder / "mlx_lm" / "models" / f"{name}.py").write_text(text)
    return folder


# How 0.30.7 and 0.31.3 divide layers (mlx_lm/models/pipeline.py there), told anew.
OLD_PIPELINE = """
class PipelineMixin:
    def __init__(self):
        super().__init__()
        self.pipeline_rank, self.pipeline_size = 0, 1
        self.start_idx, self.end_idx = 0, None

    @property
    def pipeline_layers(self):
        return self.layers[self.start_idx : self.end_idx]

    def pipeline(self, group):
        self.pipeline_rank, self.pipeline_size = group.rank(), group.size()
        each, extra = divmod(len(self.layers), self.pipeline_size)
        each += self.pipeline_rank < extra
        self.start_idx = (self.pipeline_size - self.pipeline_rank - 1) * each
        self.end_idx = self.start_idx + each
        self.layers = self.layers[: self.end_idx]
        self.layers[: self.start_idx] = [None] * self.start_idx
"""


def test_a_pipeline_that_leaves_layers_out(ranks: GetRanks, tmp_path: Path) -> None:
    folder, old = tmp_path / "m", checkout(tmp_path, pipeline=OLD_PIPELINE)
    config = small_models.config("qwen2", "friendly")
    assert ranks(0).order("make", str(folder), config, 0) == ["ok"]
    assert ask(folder, PIPELINE, 2).row(2, PIPELINE).sizes != ()
    said = ask(folder, PIPELINE, 2, cwd=old)
    assert re.search("would leave out some of 3 layers", said.row(2, PIPELINE).why)
    good = [row.ranks for row in said.rows if row.answer == "yes" and row.mode == PIPELINE]
    assert good == [1, 3]
    assert said.row(2, TENSOR).answer == "yes"
    # Each rank finds its files by it.
    index = folder / "model.safetensors.index.json"
    told = json.loads(index.read_text())["weight_map"]
    less = {name: file for name, file in told.items() if ".layers.1." not in name}
    index.write_text(json.dumps({"weight_map": less}))
    assert "names nothing of layer 1" in ask(folder, PIPELINE, 2).row(2, PIPELINE).why
    index.unlink()
    assert "wants a model.safetensors.index.json" in ask(folder, PIPELINE, 2).row(2, PIPELINE).why


@pytest.mark.long
@pytest.mark.parametrize("version", ["0.30.7", "0.31.3"])
def test_other_versions(version: str, ranks: GetRanks, tmp_path: Path) -> None:
    line = ["uv", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path / "old")]
    subprocess.run([*line, f"mlx-lm=={version}"], check=True)
    folder = tmp_path / "m"
    for kind, good in (("llama", "yes"), ("qwen3_moe", "no"), ("deepseek_v3", "yes")):
        shutil.rmtree(folder, ignore_errors=True)
        config = small_models.config(kind, "friendly")
        assert ranks(0).order("make", str(folder), config, 4) == ["ok"]
        said = ask(folder, TENSOR, 2, 3, cwd=tmp_path / "old")
        assert said.version == version
        assert [said.row(n, TENSOR).answer for n in (2, 3)] == [good, good]
    # deepseek_v3 again, with 3 layers.
    assert [said.row(n, PIPELINE).answer for n in (2, 3)] == ["no", "yes"]


# The answer that is kept.


def test_an_answer_is_kept_until_something_changes(tiny: Path, tmp_path: Path) -> None:
    folder, state = broken(tiny, tmp_path / "m"), str(tmp_path / "state")
    Path(state).mkdir(0o700)  # as a start has made it: checks make none
    place = checkout(tmp_path / "code")

    def is_kept(*ranks: int, cwd: Path | None = place) -> bool:
        said = ask(folder, TENSOR, *ranks, state=state, cwd=cwd)
        assert said.row(2, TENSOR).answer == "yes"
        return said.kept

    def changed(path: Path, more: str) -> None:
        path.write_text(path.read_text() + more)
        assert not is_kept(2)

    assert not is_kept(2)
    assert is_kept(2)
    assert not is_kept(2, 4)
    changed(folder / "config.json", "\n")
    changed(place / "mlx_lm" / "models" / "llama.py", "# edited: its version is as before\n")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    changed(folder / "model.safetensors.index.json", "\n")
    assert is_kept(2)
    os.utime(folder / "model.safetensors", (1, 1))
    assert not is_kept(2)
    # Where it is no checkout that is found first, but what is installed.
    shutil.rmtree(place / "mlx_lm")
    assert not is_kept(2)
    (kept, *_) = Path(state, "models").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert (
        Path(state).stat().st_mode & 0o777 == Path(state, "models").stat().st_mode & 0o777 == 0o700
    )
    for each in Path(state, "models").iterdir():
        each.write_text("{")
    assert not is_kept(2)


def test_nothing_is_kept_where_another_could_lay_it(tiny: Path, tmp_path: Path) -> None:
    """Nor in what is a link: what another user lays there would be believed."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "theirs")
    for _ in range(2):
        assert not ask(tiny, TENSOR, 2, state=str(tmp_path / "state")).kept
    assert not [*(tmp_path / "theirs").iterdir()]


def test_a_python_without_mlx_lm(tiny: Path) -> None:
    """Files are read by any Python; what is unknown is never ok."""
    fact = split.fact(str(tiny), None, "/usr/bin/python3", "/dev/null", TENSOR, [2])
    said = read_here(fact, PYTHONPATH="", PYTHONNOUSERSITE="1").get(split.KEY)
    assert isinstance(said, Split)
    assert (said.row(2, TENSOR).answer, said.version) == ("unknown", "")
    assert "No module named 'mlx_lm'" in said.row(2, TENSOR).why
    assert said.weights.implied["model.safetensors"] == (tiny / "model.safetensors").stat().st_size


# What people meet.


@pytest.fixture
def local(inv: Inv, tiny: Path, tmp_path: Path) -> Callable[..., Any]:
    """`local(words, config={...})`: inv on two ranks here, with the tiny model changed so."""

    def run(*words: str, code: int, args: tuple[str, ...] = (), **config: Any) -> Any:
        folder = tmp_path / "model"
        if not folder.exists():
            broken(tiny, folder, **config)
        hosts = [{"ssh": "127.0.0.1", "ips": ["127.0.0.1"]}] * 2
        file = tmp_path / "hosts.json"
        file.write_text(
            json.dumps(
                {"backend": "ring", "engine": "mlx-lm", "hosts": hosts, "model": str(folder)}
            )
        )
        line = [str(folder) if word == "MODEL" else word for word in words]
        more = ("--port", str(inv.port), *args)
        return inv(*line, "--hostfile", str(file), args=more, code=code)

    return run


def test_what_can_not_be_divided_is_not_started(
    local: Any, inv: Inv, tiny: Path, tmp_path: Path
) -> None:
    """Case 50: only --skip model gets past it."""
    fewer_heads(tiny, tmp_path / "model", 1)
    start = ("tp.start", "--skip", "memory,cooldown")
    done = local(*start, code=3)
    said = "fail  divides    127.0.0.1  1 KV head can't be divided by 2 ranks: -n 1"
    assert said in done.err
    assert "nothing was changed" in done.err
    assert not [*(inv.home / ".mlx-tp").glob("rank*")]
    told = local("dev.model", "MODEL", code=3)
    assert "1 KV head can't be divided by 2 ranks" in told.out
    local("tp.preflight", "--skip", "model,processes", code=0)
    done = local("tp.preflight", code=3, args=("--pipeline",))
    assert re.search(r"fail +divides .* has no --pipeline for llama: -n 1$", done.out, re.M)


def test_no_shard(local: Any) -> None:
    """Case 51."""
    done = local("dev.model", "MODEL", "-n", "2", code=3, model_type="gemma3_text")
    assert re.search(r"mlx-lm [\d.]+ can't divide gemma3_text \(no shard in its", done.err)


def test_more_layers_than_weights(local: Any, tmp_path: Path) -> None:
    """Case 52."""
    done = local("dev.model", "MODEL", "-n", "2", code=3, num_hidden_layers=5)
    assert re.search(r"^fail +complete .*no weights for layer 4 of 5", done.out, re.MULTILINE)
    index = {"weight_map": {"lost": "model.safetensors"}}
    (tmp_path / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    report = local("dev.model", "MODEL", "-n", "2", "--json", code=3).json()
    assert report["split"]["layers"] == 5
    assert "model.safetensors has no lost, which the index names" in str(report["findings"])


def test_code_of_its_own_is_never_ok(local: Any) -> None:
    done = local("dev.model", "MODEL", "-n", "2", code=0, model_file="own.py")
    assert re.search(r"^warn +divides .*unknown: it brings its own code", done.out, re.MULTILINE)
    assert not re.search(r"^ok +(divides|fit) ", done.out, re.MULTILINE)
