"""Task files of users: those of docs/examples run for real, and one in a folder of its own."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Inv, free_ports, hostfile

EXAMPLES = "docs/examples"
LOCAL = [{"ssh": "127.0.0.1", "ips": ["127.0.0.1"]}] * 2


def test_nightly(served: Inv) -> None:
    """Our restart, then the user's own test of it; the user's own check is one of preflight's."""
    nightly = ("-r", EXAMPLES, "-c", "nightly", "nightly")
    assert "no server was ever started" in served(*nightly, code=3).err
    served("tp.start")
    first = served("tp.status", "--json").json()
    done = served(*nightly)
    assert "GB free" in done.err
    assert "smoke test: 32 tokens" in done.out
    assert served("tp.status", "--json").json()["ranks"][0]["pid"] != first["ranks"][0]["pid"]
    assert "is not in the answer" in served(*nightly, "--expect", "\N{SNOWMAN}" * 9, code=3).err


@pytest.fixture
def hook() -> Iterator[tuple[str, list[Any]]]:
    """A webhook on this machine: its URL, and what it was told."""
    told: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204 if self.path == "/hook" else 500)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", told
        server.shutdown()


def test_deploy(light: Inv, home: Path, hook: tuple[str, list[Any]]) -> None:
    """Steps before and after a start of ours; what fails before it starts nothing."""
    url, told = hook
    deploy = ("-r", EXAMPLES, "-c", "deploy", "deploy", "--webhook", f"{url}/hook")
    assert "give --source DIR" in light(*deploy, code=2).err
    assert light("tp.status").out.startswith("stopped")
    (home / "code").mkdir()
    (home / "code" / "server.py").write_text("print('new')\n")
    light.env.update(INVOKE_DEV_SOURCE=str(home / "code"), INVOKE_DEV_TARGET=str(home / "on-node"))
    done = light(*deploy, args=("--max-tokens", "7"))
    assert (home / "on-node" / "server.py").read_text() == "print('new')\n"
    assert "healthy: a token" in done.err
    served_at = f"http://127.0.0.1:{light.port}"
    assert told == [{"text": f"light serves {home / 'model'}", "url": served_at}]
    notify = ("-r", EXAMPLES, "-c", "deploy", "notify", "--webhook", f"{url}/else")
    assert "the webhook was not told" in light(*notify, code=4).err


def test_two_servers(inv: Inv, home: Path, tiny: Path) -> None:
    """Each is started, looked at and stopped beside the other."""
    program = str(ROOT / "tests" / "light_rank.py")
    servers = {}
    for name in ("chat", "code"):
        port = free_ports(3)
        (home / name).mkdir()
        words = {"engine": "light", "envs": [f"LIGHT_RANK={home / name}"]}
        engine = {"command": [program], "process": rf"{program} .*--port {port}( |$)"}
        servers[name] = {
            "hostfile": str(hostfile(home / f"{name}.json", LOCAL, tiny, port, **words)),
            "args": ["--port", str(port)],
            "starting_port": port + 1,
            "cluster": name,
            "log_dir": str(home / "logs" / name),
            "engines": {"light": {**engine, "ready": "/v1/models"}},
        }
    inv.config = home / "config.json"
    inv.config.write_text(json.dumps({"servers": servers}))
    two = ("-r", EXAMPLES, "-c", "two_servers")
    try:
        up = inv(*two, "up")
        assert up.err.count("healthy: a token") == 2
        assert up.err.count("GiB wired by all servers") == 2
        assert inv(*two, "status").out.count("ready") == 2
        # Kept elsewhere, and so not ours there: named and left.
        inv("tp.stop", "--hostfile", str(home / "chat.json"), "--engine", "vllm-mlx", code=3)
        assert inv(*two, "status").out.count("ready") == 2
        already = inv(*two, "up", code=3)
        assert already.err.count("already runs: rank 0") == 2
    finally:
        down = inv(*two, "down")
    assert down.out.count("rank 0") == 2
    states = [line.split()[0] for line in inv(*two, "status").out.splitlines()]
    assert states == ["stopped", "stopped"]


MINE = """
import sys

sys.path.insert(0, {root!r})

from invoke import task

from tasks import ns, rdma, tp
from tasks.cluster import checks
from tasks.cluster.checks import FAIL, OK, Finding
from tasks.cluster.facts import Fact
from tasks.options import WHERE, cluster_task


@checks.check("versions")
def versions(wanted, facts):
    return [Finding("versions", OK, node, "any will do") for node in facts]


def number(text, status):
    return int(text)


@checks.check("flag", Fact("flag", 'cat "$HOME/flag"', number))
def flag(wanted, facts):
    def judge(node, value):
        return Finding("flag", OK if value == 1 else FAIL, node, f"it is {{value}}", "write 1")

    return checks.each("flag", facts, "flag", judge)


@task
def before(c):
    print("before")


@cluster_task(*WHERE, post=[tp.stop])
def trial(c, cluster):
    print("trial of", cluster.engine.name)


tp.start.pre.insert(0, before)
trial.pre.append(tp.start)
ns.add_task(trial)
ns.configure({{"tp": {{"engine": "light", "engines": {{"light": {engine}}}}}}})
"""


@pytest.fixture
def mine(inv: Inv, home: Path) -> Inv:
    """`inv -c mytasks` in a folder that has a task file, its engine and no more."""
    port = inv.port
    program = str(ROOT / "tests" / "light_rank.py")
    engine = {"command": [program], "process": f"{program} --port {port}( |$)", "ready": "/health"}
    folder = home / "own folder"
    folder.mkdir()
    (folder / "mytasks.py").write_text(MINE.format(root=str(ROOT), engine=engine))
    file = hostfile(home / "hosts.json", LOCAL, home, port)
    data = json.loads(file.read_text())
    file.write_text(json.dumps({key: data[key] for key in ("backend", "args", "hosts")}))
    (home / "light").mkdir()
    env = {"INVOKE_TP_HOSTFILE": str(file), "LIGHT_RANK": str(home / "light")}
    return replace(inv, cwd=folder, env={**inv.env, **env})


def test_own_folder(mine: Inv, home: Path) -> None:
    """An engine, a check and a check in place of ours, and steps around ours: no file touched."""
    mine = replace(mine, cwd=ROOT)
    own = ("-r", str(home / "own folder"), "-c", "mytasks")
    listed = mine(*own, "--list").out
    assert "trial" in listed
    assert "maintain." not in listed
    unknown = mine(*own, "trial", code=3)
    assert unknown.out == "before\n"
    assert "fail  flag" in unknown.err
    assert "unknown: " in unknown.err
    assert "any will do" in unknown.err
    (home / "flag").write_text("2")
    assert "it is 2: write 1" in mine(*own, "tp.preflight", code=3).out
    assert mine(*own, "tp.preflight", "--skip", "flag").code == 0
    assert "choose from memory" in mine("tp.preflight", "--skip", "flag", code=2).err
    (home / "flag").write_text("1")
    done = mine(*own, "trial")
    assert done.out.startswith("before\n")
    assert "trial of light" in done.out
    assert "rank 0" in done.out.split("trial of light")[1]
    assert mine(*own, "tp.status").out.startswith("stopped")


def test_what_composing_says(mine: Inv, home: Path) -> None:
    """The pieces of docs/composing.md, put together in one file, are a task file that works."""
    page = (ROOT / "docs" / "composing.md").read_text()
    pieces = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    assert pieces.count("/Users/ada/mlx-tp-tasks") == 1
    (mine.cwd / "pieces.py").write_text(pieces.replace("/Users/ada/mlx-tp-tasks", str(ROOT)))
    own = ("-c", "pieces")
    shown = mine(*own, "--list").out
    assert re.search(r"^  morning +Links looked at", shown, re.MULTILINE)
    assert re.search(r"^  evening +Stop the server", shown, re.MULTILINE)
    assert "what to write down" in mine(*own, "--help", "evening").out
    found = mine.run(*own, "tp.preflight", "--json").json()["findings"]
    levels = {each["check"]: (each["level"], each["what"]) for each in found}
    assert re.fullmatch(r"up for \d+ days", levels["uptime"][1])
    assert levels["versions"][0] != "fail"
    assert mine(*own, "tp.start", "--dry-run", "--skip-checks").out.startswith("starting\n")


def test_configuration_reaches_own_tasks(mine: Inv) -> None:
    """A collection without our `ns` still goes by INVOKE_TP_*, and refuses what is wrong."""
    plain = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom invoke import task\n"
    plain += "from tasks import tp\n@task(pre=[tp.preflight])\ndef look(c):\n    pass\n"
    (mine.cwd / "plain.py").write_text(plain)
    mine.env["INVOKE_TP_HOSTFILE"] = "nowhere.json"
    assert "nowhere.json: no such hostfile" in mine("-c", "plain", "look", code=2).one_line()
    mine.env["INVOKE_TP_HOSTFLIE"] = "x"
    assert "INVOKE_TP_HOSTFLIE" in mine("-c", "plain", "look", code=2).one_line()
    (mine.cwd / "invoke.yaml").write_text("tp: [\n")
    assert "is no YAML" in mine("-c", "plain", "look", code=2).one_line()


def test_another_executor_is_refused(mine: Inv) -> None:
    """Invoke's own would run the hooks on another cluster than the task's."""
    (mine.home / ".invoke.yaml").write_text("tasks: {executor_class: invoke.executor.Executor}")
    line = mine("-c", "mytasks", "tp.start", "--hosts", "mac1", code=2)
    assert "executor_class: tasks.executor.Executor" in line.err
    assert "Traceback" not in line.err
    (mine.home / ".invoke.yaml").write_text("tasks: {executor_class: no.such}")
    line = mine("-c", "mytasks", "tp.start", "--hosts", "mac1", code=2)
    assert "tasks.executor_class no.such: No module named 'no'" in line.one_line()
