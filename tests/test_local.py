"""The main job for real: two ranks on this machine, from a bare `inv tp.start` to the stop."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import layout
import pytest
import requests
from conftest import DEADLINE, Inv, wait_for

from tasks.cluster.cluster import build
from tasks.commands.tp import cooldown
from tasks.session import Session


def pids(inv: Inv) -> list[int]:
    return [row["pid"] for row in inv("tp.status", "--json").json()["ranks"]]


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() if Path("/proc").exists() else _signalled(pid)


def _signalled(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_whole_life(served: Inv, home: Path) -> None:
    started = served("tp.start")
    url = f"http://127.0.0.1:{served.port}"
    assert url in started.out.splitlines()
    assert "ready after" in started.err
    assert "healthy: a token" in started.err
    # One token is the proof: at real size a second one takes its time.
    log = home / "logs" / "tp_server.rank0.log"
    assert log.read_text().count("POST /v1/chat/completions") == 1

    status = served("tp.status", "--json").json()
    assert status["state"] == "ready"
    assert status["url"] == url
    assert [row["rank"] for row in status["ranks"]] == [0, 1]
    assert all(row["memory"] > 10**7 and row["uptime"] >= 0 for row in status["ranks"])

    # The curl that it printed works as it is.
    curl = next(line for line in started.out.splitlines() if line.startswith("curl"))
    answer = subprocess.run(
        ["sh", "-c", f"{curl} -s"], capture_output=True, text=True, timeout=DEADLINE
    )
    assert json.loads(answer.stdout)["usage"]["completion_tokens"] > 0

    body = {"model": "default_model", "stream": True, "max_tokens": 4}
    body["messages"] = [{"role": "user", "content": "Hi"}]
    lines = requests.post(f"{url}/v1/chat/completions", json=body, stream=True, timeout=DEADLINE)
    events = [line for line in lines.iter_lines() if line.startswith(b"data: ")]
    assert len(events) >= 4
    assert events[-1] == b"data: [DONE]"

    running = pids(served)
    # mlx_lm.server leaves in order by Ctrl-C's signal.
    dry = served("tp.stop", "--dry-run").out
    assert re.search(r"kill -INT \d+  # 127.0.0.1: rank 0, first", dry)
    stopped = served("tp.stop")
    assert re.search(r"^stopped +127.0.0.1 +rank 0, rank 1 ", stopped.out, re.MULTILINE)
    assert not any(exists(pid) for pid in running)
    assert served("tp.status").out.startswith("stopped")
    assert "nothing was running" in served("tp.stop").err

    combined = (home / "logs" / "tp_server.log").read_text()
    for rank in (0, 1):
        own = (home / "logs" / f"tp_server.rank{rank}.log").read_text()
        tagged = [line for line in combined.splitlines() if line.startswith(f"rank {rank} | ")]
        assert [line.partition(" | ")[2] for line in tagged] == own.splitlines()
    assert "/v1/chat/completions" in served("tp.logs", "--rank", "0", "--grep", "POST").out


def test_again(light: Inv) -> None:
    """Start and stop twice: the second start finds nothing of the first in its way."""
    for _ in range(2):
        light("tp.start")
        light("tp.stop")
    last, before = (
        set(re.findall(r"run=(\w+)", light("tp.logs", "--lines", "0", *words).out))
        for words in ([], ["--previous", "1"])
    )
    assert len(last) == len(before) == 1
    assert last != before
    assert "starts before the last one: it has 1" in light("tp.logs", "--previous=2", code=3).err


def test_steps_alone(light: Inv) -> None:
    light("tp.preflight")
    launched = light("tp.launch", "--json").json()
    assert (launched["ranks"], launched["backend"]) == (2, "ring")
    waited = light("tp.wait", "--timeout", "60", "--json").json()
    healthy = light("tp.health", "--json").json()
    assert (waited["url"], waited["model"]) == (healthy["url"], healthy["model"])
    light("tp.memory")
    assert light("tp.cooldown", "--json").json()["cooldown"] == 0
    # A second start is refused by its checks, and even without them: nothing is lost.
    before = pids(light)
    refused = light("tp.start", code=3)
    assert "already runs: rank 0" in refused.err
    again = light("tp.launch", code=3).err.splitlines()
    assert again[-1].startswith("127.0.0.1: rank 0 already runs (pid ")
    assert pids(light) == before
    assert light("tp.status", "--json").json()["state"] == "ready"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--no-such-option",), ["exit status 2", "unrecognized arguments", "after --"]),
        (("--model", "/no/such/model"), ["rank", "first error", "HFValidationError"]),
    ],
    ids=["bad argument", "no model"],
)
def test_rank_that_dies(served: Inv, args: tuple[str, ...], words: list[str]) -> None:
    failed = served("tp.start", "--skip-checks", args=args, code=4)
    for word in words:
        assert word in failed.err
    assert "the other ranks were stopped" in failed.err
    assert "[--top-k" not in failed.err  # all options that the server has are no help
    assert served("tp.status").out.startswith("stopped")


def test_timeout(light: Inv) -> None:
    (light.home / "light" / "load.shut").touch()
    failed = light("tp.start", "--timeout", "0.3", code=4)
    assert "not ready within" in failed.err
    assert light("tp.status").out.startswith("stopped")


def test_degraded(light: Inv) -> None:
    """A rank that is gone, and then a server that is stopped nevertheless."""
    light("tp.start")
    os.kill(pids(light)[1], signal.SIGKILL)
    status = wait_for(lambda: (found := light.run("tp.status", "--json")).code == 3 and found)
    assert status.json()["state"] == "degraded"
    assert "rank 1 on 127.0.0.1 (killed by SIGKILL)" in status.err
    light("tp.stop")


@pytest.mark.parametrize("order", ["leader", "all"])
def test_stop_order(light: Inv, order: str) -> None:
    light("tp.start")
    light("tp.stop", "--order", order, "--json")
    assert light("tp.status").out.startswith("stopped")


def test_ranks_whose_record_is_lost_are_found_and_stopped(light: Inv, home: Path) -> None:
    """The file of their ring is gone with it: that it was there says whose they are."""
    light("tp.start")
    shutil.rmtree(home / layout.STATE)
    status = light("tp.status", "--json", code=3)
    assert status.json()["ranks"][0]["state"] == "unrecorded"
    checked = light("tp.preflight", code=3).out
    assert "already runs: rank 0 without a record (pid" in checked
    assert "rank 1 without a record" in light("tp.stop").out
    assert light("tp.status").out.startswith("stopped")


def test_foreground(served: Inv) -> None:
    process = served.start("tp.start", "--foreground", "--skip-checks")
    lines = []
    assert process.stderr is not None
    for line in process.stderr:
        lines.append(line)
        if line.startswith("curl "):
            break
    assert any(line.startswith("ready: http://127.0.0.1:") for line in lines)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130, err
    assert re.search(r"^rank 0 \| .*Starting httpd", out, re.MULTILINE)
    assert re.search(r"^rank 1 \| ", out, re.MULTILINE)
    assert served("tp.status").out.startswith("stopped")
    assert not list((served.home / "logs").glob("tp_server.rank*"))


def test_server_that_can_not_listen(served: Inv) -> None:
    """mlx_lm.server lives on then, without its page: the timeout is not waited out."""
    failed = served("tp.start", "--timeout", "600", args=("--host", "192.0.2.1"), code=4)
    assert served("tp.status").out.startswith("stopped")
    assert "rank 0 on 127.0.0.1 died (OSError: [Errno 99]" in failed.err.splitlines()[-1]
    assert "hint: the server can't listen on its --host" in failed.err


def test_foreground_that_is_never_ready(light: Inv) -> None:
    (light.home / "light" / "load.shut").touch()
    failed = light("tp.start", "--timeout", "1", "--foreground", "--skip-checks", code=4)
    assert light("tp.status").out.startswith("stopped")
    last = failed.err.splitlines()[-1]
    assert re.match(r"not ready within \d+\.\d s \(.*\); all ranks were stopped", last)


def test_secrets_show_nowhere(light: Inv, home: Path) -> None:
    secret = "s3cr3t-$(touch canary)'\"\\-ü"
    dry = light("tp.start", "--dry-run", "--env", f"TOKEN={secret}")
    assert "TOKEN=***" in dry.out
    light("tp.start", "--env", f"TOKEN={secret}")
    environ = Path(f"/proc/{pids(light)[0]}/environ")
    if environ.exists():
        assert f"TOKEN={secret}".encode() in environ.read_bytes()
        lines = _command_lines()
        assert b"s3cr3t" not in lines
    texts = dry.out + dry.err + light("tp.status", "--json").out
    texts += "".join(path.read_text() for path in home.rglob("*") if _is_text(path))
    assert "s3cr3t" not in texts
    assert not list(home.rglob("canary"))
    state = home / ".mlx-tp"
    assert state.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o077 == 0 for path in state.rglob("*"))


def _command_lines() -> bytes:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            found.append(path.read_bytes())
    return b"".join(found)


def _is_text(path: Path) -> bool:
    return path.is_file() and "model" not in path.parts


def test_log_view_goes_on_where_it_left_off(light: Inv, home: Path) -> None:
    log_dir = str(home / "elsewhere")
    light("tp.start", "--log-dir", log_dir)
    first = light("tp.logs", "--lines", "0").out
    again = light("tp.logs", "--lines", "0").out
    assert again.count("run=") == first.count("run=") == 2
    assert (home / "elsewhere" / "tp_server.log").exists()
    light("tp.stop")
    whole = (home / "elsewhere" / "tp_server.log").read_text()
    assert whole.startswith(first.splitlines()[0])


def test_follow(light: Inv) -> None:
    light("tp.start")
    process = light.start("tp.logs", "--follow", "--lines", "1")
    assert process.stdout is not None
    process.stdout.readline()
    (light.home / "light" / "serve.0.py").write_text("print('said later', flush=True)")
    seen = ""
    while "said later" not in seen:
        line = process.stdout.readline()
        assert line, "the view ended"
        seen += line
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=DEADLINE)
    assert process.returncode == 130


def test_dry_run_changes_nothing(served: Inv, home: Path) -> None:
    for words in (
        ("tp.start", "--dry-run"),
        ("-R", "tp.start"),
        ("tp.start", "--foreground", "--dry-run"),
    ):
        shown = served(*words).out
        assert "-m mlx_lm server" in shown
        assert "MLX_RANK=1" in shown
    assert not (home / ".mlx-tp").exists()
    assert served("tp.status").out.startswith("stopped")


def test_dry_run_stops_nothing(light: Inv) -> None:
    light("tp.start")
    shown = light("tp.stop", "--dry-run").out
    assert re.search(r"kill -TERM \d+  # 127.0.0.1: rank 0, first", shown)
    assert light("tp.status", "--json").json()["state"] == "ready"


def test_countdown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What is left of the cooldown is waited out, and said every 5 s."""
    slept: list[float] = []
    clock = SimpleNamespace(sleep=slept.append, monotonic=lambda: sum(slept))
    monkeypatch.setattr(cooldown, "time", clock)
    monkeypatch.setattr(cooldown, "cooling", lambda session, cluster: 12.0)
    cooldown.run(Session(), build({}))
    said = ["a rank has ended without clean-up lately, waiting 12 s", "7 s left", "2 s left"]
    assert capsys.readouterr().err.splitlines() == [f"cooldown: {each}" for each in said]
    assert sum(slept) == 12
