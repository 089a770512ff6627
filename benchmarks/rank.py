"""A stub rank: rank 0 serves pages after a while, any may die; each writes down when it did.

`STUB` is a folder: `load.RANK` there says after how many seconds it is ready, `die.RANK` after how
many it ends; `ready.RANK` and `died.RANK` get the time.
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

FOLDER, RANK = Path(os.environ["STUB"]), os.environ["MLX_RANK"]


class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.answer({"data": [{"id": "stub"}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        message = {"role": "assistant", "content": "a"}
        self.answer({"choices": [{"message": message}], "usage": {"completion_tokens": 1}})

    def answer(self, data: Any) -> None:
        body = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def after(name: str) -> float | None:
    file = FOLDER / f"{name}.{RANK}"
    return float(file.read_text()) if file.exists() else None


def note(name: str) -> None:
    new = FOLDER / f"new.{RANK}"
    new.write_text(str(time.time()))
    new.rename(FOLDER / f"{name}.{RANK}")


signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
dies = after("die")
if dies is not None:
    time.sleep(dies)
    note("died")
    os._exit(3)
time.sleep(after("load") or 0)
if RANK == "0":
    port = int(sys.argv[sys.argv.index("--port") + 1])
    pages = http.server.ThreadingHTTPServer(("127.0.0.1", port), Pages)
    threading.Thread(target=pages.serve_forever, daemon=True).start()
note("ready")
while True:
    time.sleep(60)
