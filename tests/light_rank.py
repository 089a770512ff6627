"""A light rank: a server without a model, for faults that need no real one.

Rank 0 listens for the others, serves pages once all are there, and answers 503 when one is lost;
the others end when rank 0 does. At each of its points ("load", "serve", "term") it waits while
`POINT.shut` is in the folder LIGHT_RANK, and does what `POINT.RANK.py` there says. The file
`stream` there is the answer to what is to be streamed; a line `: wait N` is a pause of N seconds.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import socketserver
import sys
import threading
import time
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["LIGHT_RANK"])
RANK = int(os.environ.get("MLX_RANK", "0"))
# Without a hostfile it is nobody's rank: a lone server.
RING = [
    each[0].rpartition(":")
    for each in json.loads(Path(os.environ.get("MLX_HOSTFILE", "/dev/null")).read_text() or "[]")
]
# Of several the last one counts, as with the real engines.
PORT = int(dict(zip(sys.argv, sys.argv[1:], strict=False))["--port"])
lost: list[int] = []


def point(name: str) -> None:
    (FOLDER / f"{name}.{RANK}.arrived").touch()
    while (FOLDER / f"{name}.shut").exists():
        time.sleep(0.02)
    told = FOLDER / f"{name}.{RANK}.py"
    if told.exists():
        exec(told.read_text(), globals())


def terminate(*_: Any) -> None:
    point("term")
    print("shutting down", flush=True)
    os._exit(0)


def watch(peer: socket.socket, which: int) -> None:
    while peer.recv(1):
        pass
    print(f"connection to rank {which} was lost", flush=True)
    lost.append(which)
    if RANK > 0:
        os._exit(1)


def meet() -> list[tuple[socket.socket, int]]:
    """The connections of this rank: of rank 0 to all others, of another one to rank 0."""
    if RANK > 0:
        while True:
            try:
                return [(socket.create_connection((RING[0][0], int(RING[0][2])), 1), 0)]
            except OSError:
                time.sleep(0.1)
    if not RING:
        return []
    server = socket.create_server((RING[0][0], int(RING[0][2])))
    return [(server.accept()[0], which) for which in range(1, len(RING))]


class Pages(socketserver.StreamRequestHandler):
    """A request each: http.server imports email, and a rank would take twice as long to start."""

    def handle(self) -> None:
        asked = self.rfile.readline()
        self.headers = {}
        while line := self.rfile.readline().decode().strip():
            name, _, value = line.partition(":")
            self.headers[name.title()] = value.strip()
        if asked:
            (self.post if asked.startswith(b"POST") else self.get)()

    def get(self) -> None:
        self.answer({"data": [{"id": "light"}]}, 503 if lost else 200)

    def post(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked.get("stream") and (FOLDER / "stream").exists():
            self.play((FOLDER / "stream").read_text())
            return
        message = {"role": "assistant", "content": "a"}
        self.answer({"choices": [{"message": message}], "usage": {"completion_tokens": 1}}, 200)

    def answer(self, data: Any, status: int) -> None:
        body = json.dumps(data).encode()
        self.begin(status, f"Content-Length: {len(body)}\r\n")
        self.wfile.write(body)

    def begin(self, status: int, headers: str = "") -> None:
        self.wfile.write(f"HTTP/1.0 {status} told\r\n{headers}\r\n".encode())

    def play(self, text: str) -> None:
        self.begin(200)
        for line in text.splitlines(keepends=True):
            if line.startswith(": wait "):
                time.sleep(float(line.split()[2]))
            self.wfile.write(line.encode())


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


signal.signal(signal.SIGTERM, terminate)
print("loading", flush=True)
point("load")
peers = meet()
for peer, which in peers:
    peer.settimeout(None)
    threading.Thread(target=watch, args=(peer, which), daemon=True).start()
if RANK == 0:
    pages = Server(("0.0.0.0", PORT), Pages)
    threading.Thread(target=pages.serve_forever, daemon=True).start()
print("serving", flush=True)
while not (FOLDER / f"serve.{RANK}.py").exists():
    time.sleep(0.05)
point("serve")
while True:
    time.sleep(1)
