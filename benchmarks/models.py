"""What tp.preflight pays for asking a node's mlx_lm whether the model divides."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from .farm import farm
from .measure import ROOT, Result, Row, Work, cpu, in_turn, process, python

BIGGEST = "Kimi-K3"  # of known.json: 2.8 T numbers in 93 layers
TIMES = 21


def run() -> Result:
    return Result(
        [*_kept(), *_first()],
        [
            "Before there was the question preflight compared the model's files on the nodes, as"
            " it does of an engine that is not mlx-lm's. Both nodes share this machine's cores.",
            "A first answer is a line of its own in tp.preflight, with the seconds that it took"
            " (`asked`); the time here is that of the node's whole process.",
        ],
    )


def _kept() -> list[Row]:
    """Two nodes with the tiny model, whose answer they have kept."""
    with farm(2, real=True) as nodes:
        (nodes.home / ".mlx-tp").mkdir(0o700, exist_ok=True)  # as a start has made it
        path = nodes.inv.config
        assert path
        config = json.loads(path.read_text())
        like = {"command": ["-u", "-m", "mlx_lm.server"], "ready": "/health", "model": "/m"}
        config["tp"]["engines"] = {"before": like}
        path.write_text(json.dumps(config))
        invoke = python("-m", "invoke", "-f", str(path), "tp.preflight")

        def asked(*words: str) -> Work:
            return process(*invoke, *words, cwd=ROOT, env=nodes.inv.environment())

        works = {
            "ours": asked(),
            "before": asked("--engine", "before"),
            "no model": asked("--skip", "model"),
        }
        in_turn(works, times=2)
        wall = in_turn(works, times=TIMES)
        spent = in_turn({name: cpu(work) for name, work in works.items()}, times=TIMES)
    what = "tp.preflight, 2 nodes, the model's answer kept"
    ours, before, less = wall.values()
    ctl = f"{what}: CPU on the control machine"
    return [
        Row(what, "before there was the question", ours, before, kind="ratio", goal=1.1),
        Row(what, "`--skip model`", ours, less),
        Row(
            ctl,
            "before there was the question",
            spent["ours"],
            spent["before"],
            kind="ratio",
            goal=1.1,
        ),
    ]


def _first() -> list[Row]:
    """The biggest model that is known, in the node's own process."""
    known = json.loads((ROOT / "tests/data/models/known.json").read_text())["models"]
    packed = {"quantization": {"bits": 4, "group_size": 64}}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(
            json.dumps({**known[BIGGEST]["config"], **packed})
        )
        program = str(ROOT / "tasks/remote/facts/split.py")
        ask = process(*python(program, folder, "tensor", "2"))
        samples = in_turn({"ours": ask})["ours"]
    what = f"first answer for {BIGGEST} (2.8 T numbers), on the node"
    return [Row(what, "", samples, kind="most", goal=5)]
