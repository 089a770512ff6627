"""The newcomer's first command, and the engine that is not on PyPI."""

from __future__ import annotations

import json
import re
from pathlib import Path

from conftest import LOCAL, ROOT, Inv, hostfile, own_servers


def test_demo(inv: Inv, home: Path) -> None:
    inv.config = own_servers(home / "config.json", ROOT / ".models" / "tiny")
    done = inv("demo")
    assert re.search(r"^48 tokens, [\d.]+ tokens/s", done.out, re.MULTILINE)
    assert re.search(r"^ready .*http://127.0.0.1:\d+$", done.out, re.MULTILINE)
    assert re.search(r"^stopped +127.0.0.1 +rank 0, rank 1", done.out, re.MULTILINE)
    assert inv("tp.status").out.startswith("stopped")
    files = {path.name for path in (ROOT / ".models" / "tiny").iterdir()}
    assert {"config.json", "tokenizer.json", "model.safetensors"} <= files


def test_vllm_mlx(inv: Inv, home: Path, vllm_mlx: Path) -> None:
    file = hostfile(home / "hosts.json", LOCAL, home, inv.port, engine="vllm-mlx")
    data = json.loads(file.read_text())
    del data["model"]
    file.write_text(json.dumps(data))
    inv.env["INVOKE_TP_HOSTFILE"] = str(file)
    try:
        started = inv("tp.start", "--skip", "versions", "--env", f"PYTHONPATH={vllm_mlx}")
        assert "healthy: a token" in started.err
        assert "rank 1 of 2 over ring" in inv("tp.logs", "--rank", "1").out
        assert inv("tp.status", "--json").json()["model"] == "the-model"
    finally:
        inv("tp.stop")
    assert inv("tp.status").out.startswith("stopped")
