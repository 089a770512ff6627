"""The known answers of docs/models.md, asked anew of the mlx_lm of this Python."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..cli import screen
from ..cluster.cluster import ROOT
from ..cluster.ssh import scripts

KNOWN = ROOT / "tests" / "data" / "models" / "known.json"
PACKED = {"at_4bit_group_64": {"quantization": {"bits": 4, "group_size": 64}}, "as_published": {}}


Document = dict[str, Any]


def run() -> None:
    """Write the answers, say which are others than before."""
    known = json.loads(KNOWN.read_text(encoding="utf-8"))
    for name, model in known["models"].items():
        for how, packed in PACKED.items():
            if how in model:
                said = _ask({**model["config"], **packed}, [*model[how]])
                known["mlx_lm"] = said["mlx_lm"] or known["mlx_lm"]
                screen.table(_changed(name, how, model[how], said["rows"]))
    KNOWN.write_text(_text(known), encoding="utf-8")


def _changed(
    name: str, how: str, answers: Document, said: list[Document]
) -> list[tuple[str, str, str, str]]:
    """Take the answers that are others than before, and tell them."""
    new = {str(row["n"]): _answer(row) for row in said if row["mode"] == "tensor"}
    changed = {n: new[n] for n in answers if _what(new[n]) != _what(answers[n])}
    answers.update(changed)
    return [(name, how, f"-n {n}", str(_what(row))) for n, row in changed.items()]


def _ask(config: Document, counts: list[str]) -> Document:
    program = scripts.FOLDER / "facts" / "split.py"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        line = [sys.executable, str(program), folder, "tensor", *counts]
        done = subprocess.run(line, capture_output=True, text=True, check=True)
    found: Document = json.loads(done.stdout)
    return found


def _answer(row: Document) -> Document:
    if row["answer"] != "yes":
        return {"tp": row["answer"], "why": row["why"]}
    size = row["bytes"][0]
    cached = sum(each for _, each in row["cache"])
    sizes = {"bytes": size, "gb": round(size / 1e9, 2)}
    return {"tp": "yes", **sizes, "kv_heads": row["kv_heads"], "kv_bytes_per_token": cached}


def _what(answer: Document) -> Document:
    """An answer without its words, which are a version's own."""
    return {key: value for key, value in answer.items() if key not in ("why", "gb")}


def _text(known: Document) -> str:
    """A line for each number of ranks: what changes is seen."""
    models = known.pop("models")
    head = json.dumps(known, ensure_ascii=False)[1:-1]
    parts = []
    for name, model in models.items():
        rows = [
            f"   {json.dumps(how)}: {{\n    "
            + ",\n    ".join(f"{json.dumps(n)}: {json.dumps(row)}" for n, row in model[how].items())
            + "}"
            for how in PACKED
            if how in model
        ]
        rest = {key: value for key, value in model.items() if key not in PACKED}
        fields = [f"   {json.dumps(key)}: {json.dumps(value)}" for key, value in rest.items()]
        parts.append(f"  {json.dumps(name)}: {{\n" + ",\n".join([*fields, *rows]) + "}")
    return f'{{{head},\n "models": {{\n' + ",\n".join(parts) + "}}\n"
