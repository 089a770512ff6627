"""inv tp.restart: what was started last, again, with what is said over it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import layout
from conftest import Inv, free_ports


def status(inv: Inv) -> Any:
    return inv("tp.status", "--json").json()


def record(home: Path) -> Any:
    return layout.record(home / layout.STATE)


def test_the_same_again(light: Inv, home: Path) -> None:
    """With the arguments, ranks and engine of the last start, also after it was stopped."""
    odd = ("--chat-template-args", '{"a b": "$HOME"}')
    port = str(free_ports(1))
    light("tp.start", "-n", "4", args=("--port", port, *odd))
    before, pids = record(home), [row["pid"] for row in status(light)["ranks"]]
    done = light("tp.restart", "--json").json()
    assert (done["ranks"], done["nodes"][0]["node"]) == (4, "127.0.0.1")
    assert {"checks", "stop", "launch", "load"} <= done["phases"].keys()
    again = status(light)
    assert again["url"].endswith(f":{port}")
    assert len(again["ranks"]) == 4
    assert not {row["pid"] for row in again["ranks"]} & set(pids)
    assert record(home)["command"] == before["command"]
    light("tp.stop")
    assert "healthy: a token" in light("tp.restart").err
    assert record(home)["command"] == before["command"]


def test_what_is_said_over_it(light: Inv, home: Path) -> None:
    light("tp.start")
    model = record(home)["model"]
    port = str(free_ports(1))
    (home / "code").mkdir()
    (home / "code" / "server.py").write_text("new\n")
    over = ("tp.restart", "--sync", "--with", f"--port {port} --temp 0.5")
    # No --source: it has none.
    assert light(*over, code=2).one_line().startswith("give dev.source in invoke.yaml")
    assert light.config is not None
    config = json.loads(light.config.read_text())
    config["dev"] = {"source": str(home / "code"), "target": "there"}
    light.config.write_text(json.dumps(config))
    shown = light(*over, "--dry-run").out
    assert "send  127.0.0.1  server.py" in shown
    assert not (home / "there").exists()
    light(*over)
    assert (home / "there" / "server.py").read_text() == "new\n"
    assert status(light)["url"].endswith(f":{port}")
    assert record(home)["command"][-4:] == ["--port", port, "--temp", "0.5"]
    light("tp.restart", args=("--model", model, "--port", str(light.port)))
    assert "0.5" not in record(home)["command"]
    assert status(light)["url"].endswith(f":{light.port}")


def test_values_of_env_are_kept_nowhere(light: Inv) -> None:
    light("tp.start", "--env", "TOKEN=s3cret")
    pids = [row["pid"] for row in status(light)["ranks"]]
    refused = light("tp.restart", code=2)
    assert "it was started with a value for TOKEN, which is kept nowhere" in refused.one_line()
    assert [row["pid"] for row in status(light)["ranks"]] == pids
    light("tp.restart", "--env", "TOKEN=other")


def test_what_would_not_run_is_found_before_the_stop(light: Inv, home: Path) -> None:
    light("tp.start")
    pids = [row["pid"] for row in status(light)["ranks"]]
    refused = light("tp.restart", "--with", "--model /no/such/model", "--json", code=3).json()
    found = {each["what"] for each in refused["findings"] if each["level"] == "fail"}
    assert "/no/such/model is not there" in found
    assert "leave out --follow" in light("tp.restart", "--json", "--follow", code=2).one_line()
    assert light("tp.restart", "--with", "'", code=2).one_line().startswith("--with")
    assert [row["pid"] for row in status(light)["ranks"]] == pids


def test_nothing_was_started(light: Inv) -> None:
    assert (
        "no server was ever started there: inv tp.start" in light("tp.restart", code=3).one_line()
    )


def test_a_server_that_has_failed(light: Inv) -> None:
    light("tp.start")
    os.kill(status(light)["ranks"][1]["pid"], signal.SIGKILL)
    light("tp.restart")
    assert status(light)["state"] == "ready"


def test_dry_run(light: Inv) -> None:
    light("tp.start")
    before = status(light)["ranks"]
    shown = light("tp.restart", "--dry-run").out
    assert "kill -TERM" in shown
    assert "MLX_RANK=1" in shown
    assert [row["pid"] for row in status(light)["ranks"]] == [row["pid"] for row in before]
