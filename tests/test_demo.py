"""The newcomer's first command, and the engine that is not on PyPI."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

from conftest import DEADLINE, LOCAL, ROOT, Done, Inv, hostfile, own_servers


def test_demo(inv: Inv, home: Path) -> None:
    inv.config = own_servers(home / "config.json", ROOT / ".models" / "tiny")
    first, said = inv.start("demo"), ""
    assert first.stderr
    while "\nready after " not in said and (line := first.stderr.readline()):
        said += line
    # Another one is refused, and ends nothing that it has not started.
    first.send_signal(signal.SIGSTOP)
    second = inv("demo", code=3)
    first.send_signal(signal.SIGCONT)
    assert "inv tp.stop --cluster demo" in second.err
    assert "$ inv tp.stop\n" not in second.err
    out, err = first.communicate(timeout=DEADLINE)
    assert first.returncode == 0, err
    done = Done(0, out, said + err, ("demo",))
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
