"""The newcomer's first command, and the engine that is not on PyPI."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path

from conftest import ROOT, Inv, hostfile, own_servers

# What `vllm_mlx.distributed_launcher` is to us: a module that runs as a rank when MLX_RANK is
# set, joins the others by MLX's own environment, and serves HTTP on rank 0.
LAUNCHER = textwrap.dedent(
    """
    import http.server, json, os, sys
    import mlx.core as mx

    backend = os.environ["MLX_DISTRIBUTED_BACKEND"]
    group = mx.distributed.init(strict=True, backend=backend)
    print("rank", group.rank(), "of", group.size(), "over", backend, flush=True)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.answer({"data": [{"id": "the-model"}]})

        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            token = mx.distributed.all_sum(mx.ones(1), group=group).item()
            choice = {"message": {"content": f"{token:g} {request['model']}"}}
            self.answer({"choices": [choice], "usage": {"completion_tokens": 1}})

        def answer(self, data):
            text = json.dumps(data).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    if group.rank() == 0:
        port = int(sys.argv[sys.argv.index("--port") + 1])
        http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
    while True:
        mx.eval(mx.distributed.all_sum(mx.ones(1), group=group))
    """
)


def test_demo(inv: Inv, home: Path) -> None:
    inv.config = own_servers(home / "config.json", ROOT / ".models" / "tiny")
    done = inv("demo")
    assert re.search(r"^48 tokens, [\d.]+ tokens/s", done.out, re.MULTILINE)
    assert re.search(r"^ready .*http://127.0.0.1:\d+$", done.out, re.MULTILINE)
    assert re.search(r"^stopped +127.0.0.1 +rank 0, rank 1", done.out, re.MULTILINE)
    assert inv("tp.status").out.strip() == "stopped"
    files = {path.name for path in (ROOT / ".models" / "tiny").iterdir()}
    assert {"config.json", "tokenizer.json", "model.safetensors"} <= files


def test_vllm_mlx(inv: Inv, home: Path) -> None:
    package = home / "lib" / "vllm_mlx"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "distributed_launcher.py").write_text(LAUNCHER)
    local = [{"ssh": "127.0.0.1", "ips": ["127.0.0.1"]}] * 2
    file = hostfile(home / "hosts.json", local, home, inv.port, engine="vllm-mlx")
    data = json.loads(file.read_text())
    del data["model"]
    file.write_text(json.dumps(data))
    inv.env["INVOKE_TP_HOSTFILE"] = str(file)
    try:
        started = inv("tp.start", "--env", f"PYTHONPATH={home / 'lib'}")
        assert "healthy: a token" in started.err
        assert "rank 1 of 2 over ring" in inv("tp.logs", "--rank", "1").out
        assert inv("tp.status", "--json").json()["model"] == "the-model"
    finally:
        inv("tp.stop")
    assert inv("tp.status").out.strip() == "stopped"
