"""A rank whose group is MLX's own and whose model is a file that it reads as slowly as it is told.

It is run as a module, so through our entry. Like mlx_lm.server it answers its page before a byte of
the model is read, and a token needs all ranks. At each of its points ("load", "prompt") it does
what `POINT.RANK.py` in its folder says; "SECONDS" in `slow` there is how long its load takes.
"""

from __future__ import annotations

import http.server
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import mlx.core as mx

FOLDER = Path(__file__).parent
RANK = int(os.environ["MLX_RANK"])
WORDS = dict(zip(sys.argv, sys.argv[1:], strict=False))
PARTS = 50  # steps in which the weights are read
group = mx.distributed.init()
loaded = threading.Event()
status = FOLDER / "status"  # what its pages answer while it loads; 200 where that is not there


def point(name: str) -> None:
    told = FOLDER / f"{name}.{RANK}.py"
    if told.exists():
        exec(told.read_text(), globals())


def load() -> None:
    """Room for all weights, and then their bytes, as MLX does it."""
    slow = FOLDER / "slow"
    seconds = float(slow.read_text()) if slow.exists() else 0
    weights = Path(WORDS["--model"]) / "model.safetensors"
    room = mx.zeros(weights.stat().st_size, dtype=mx.uint8)
    mx.eval(room)
    with weights.open("rb") as file:
        while file.read(weights.stat().st_size // PARTS + 1):
            time.sleep(seconds / PARTS)
    point("load")


class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.answer({"data": [{"id": "slow"}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if (FOLDER / "engine_died").exists():
            self.answer({"error": "generation thread died"}, 404)
            return
        if not status.exists():
            loaded.wait()
        point("prompt")
        token = mx.distributed.all_sum(mx.ones(1), group=group, stream=mx.cpu).item()
        choice = {"message": {"content": f"{token:g}"}}
        self.answer({"choices": [choice], "usage": {"completion_tokens": 1}})

    def answer(self, data: Any, code: int = 200) -> None:
        text = json.dumps(data).encode()
        fine = loaded.is_set() or not status.exists()
        self.send_response(code if fine else int(status.read_text()))
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        pass


if RANK == 0:
    pages = http.server.ThreadingHTTPServer(("127.0.0.1", int(WORDS["--port"])), Pages)
    threading.Thread(target=pages.serve_forever, daemon=True).start()
load()
loaded.set()
if RANK == 0 and group.size() > 1:
    threading.Event().wait()
while True:
    # The others take part in each token, as ranks of a model do.
    point("prompt")
    mx.eval(mx.distributed.all_sum(mx.ones(1), group=group, stream=mx.cpu))
    if group.size() == 1:
        time.sleep(1)
