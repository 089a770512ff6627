"""inv tp.restart: what was started last, again, with what is said over it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from conftest import Inv, free_ports


def status(inv: Inv) -> Any:
    return inv("tp.status", "--json").json()


def record(home: Path) -> Any:
    return json.loads((home / ".mlx-tp" / "rank0.json").read_text())


def test_the_same_again(served: Inv, home: Path) -> None:
    """With the arguments, ranks and engine of the last start, also after it was stopped."""
    odd = ("--chat-template-args", '{"a b": "$HOME"}')
    port = str(free_ports(1))
    served("tp.start", "-n", "4", args=("--port", port, *odd))
    before, pids = record(home), [row["pid"] for row in status(served)["ranks"]]
    done = served("tp.restart")
    assert "healthy: a token" in done.err
    again = status(served)
    assert again["url"].endswith(f":{port}")
    assert len(again["ranks"]) == 4
    assert not {row["pid"] for row in again["ranks"]} & set(pids)
    assert record(home)["command"] == before["command"]
    served("tp.stop")
    served("tp.restart")
    assert record(home)["command"] == before["command"]


def test_what_is_said_over_it(served: Inv, home: Path) -> None:
    served("tp.start")
    model = record(home)["model"]
    port = str(free_ports(1))
    (home / "code").mkdir()
    (home / "code" / "server.py").write_text("new\n")
    over = ("tp.restart", "--sync", "--with", f"--port {port} --temp 0.5")
    assert "give --source DIR, or dev.source" in served(*over, code=2).one_line()
    assert served.config is not None
    config = json.loads(served.config.read_text())
    config["dev"] = {"source": str(home / "code"), "target": "there"}
    served.config.write_text(json.dumps(config))
    shown = served(*over, "--dry-run").out
    assert "send  127.0.0.1  server.py" in shown
    assert not (home / "there").exists()
    served(*over)
    assert (home / "there" / "server.py").read_text() == "new\n"
    assert status(served)["url"].endswith(f":{port}")
    assert record(home)["command"][-4:] == ["--port", port, "--temp", "0.5"]
    served("tp.restart", args=("--model", model, "--port", str(served.port)))
    assert "0.5" not in record(home)["command"]
    assert status(served)["url"].endswith(f":{served.port}")


def test_values_of_env_are_kept_nowhere(served: Inv) -> None:
    served("tp.start", "--env", "TOKEN=s3cret")
    pids = [row["pid"] for row in status(served)["ranks"]]
    refused = served("tp.restart", code=2)
    assert "it was started with a value for TOKEN, which is kept nowhere" in refused.one_line()
    assert [row["pid"] for row in status(served)["ranks"]] == pids
    served("tp.restart", "--env", "TOKEN=other")


def test_what_would_not_run_is_found_before_the_stop(served: Inv, home: Path) -> None:
    served("tp.start")
    pids = [row["pid"] for row in status(served)["ranks"]]
    refused = served("tp.restart", "--with", "--model /no/such/model", code=3)
    assert "/no/such/model is not there" in refused.err
    assert served("tp.restart", "--with", "'", code=2).one_line().startswith("--with")
    assert [row["pid"] for row in status(served)["ranks"]] == pids


def test_nothing_was_started(served: Inv) -> None:
    assert (
        "no server was ever started there: inv tp.start" in served("tp.restart", code=3).one_line()
    )


def test_a_server_that_has_failed(served: Inv) -> None:
    served("tp.start")
    os.kill(status(served)["ranks"][1]["pid"], signal.SIGKILL)
    served("tp.restart")
    assert status(served)["state"] == "ready"


def test_dry_run(served: Inv) -> None:
    served("tp.start")
    before = status(served)["ranks"]
    shown = served("tp.restart", "--dry-run").out
    assert "kill -TERM" in shown
    assert "export MLX_RANK=1" in shown
    assert [row["pid"] for row in status(served)["ranks"]] == [row["pid"] for row in before]
