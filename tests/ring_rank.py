"""A rank that is real where ranks meet, and has no model: MLX's own group, and HTTP on rank 0.

It is what `vllm_mlx.distributed_launcher` is to us: a module that runs as a rank when MLX_RANK is
set, and joins the others by MLX's own environment. A token needs all of them.
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import sys
from typing import Any

import mlx.core as mx

backend = os.environ["MLX_DISTRIBUTED_BACKEND"]
group = mx.distributed.init(strict=True, backend=backend)
print("rank", group.rank(), "of", group.size(), "over", backend, flush=True)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.answer({"data": [{"id": "the-model"}]})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        token = mx.distributed.all_sum(mx.ones(1), group=group).item()
        choice = {"message": {"content": f"{token:g} {request['model']}"}}
        self.answer({"choices": [choice], "usage": {"completion_tokens": 1}})

    def answer(self, data: Any) -> None:
        text = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def end(*_: object) -> None:
    """Take the others along, where they still are."""
    signal.alarm(1)
    mx.eval(mx.distributed.all_sum(-mx.full(1, group.size()), group=group))
    os._exit(0)


if group.rank() == 0:
    signal.signal(signal.SIGTERM, end)
    port = int(sys.argv[sys.argv.index("--port") + 1])
    http.server.HTTPServer(("0.0.0.0", port), Handler).serve_forever()
while mx.distributed.all_sum(mx.ones(1), group=group).item() > 0:
    pass
