"""What people see of a server's life, on one light server: a line each, and as JSON."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import layout
import pytest
import schemas
from conftest import DEADLINE, ROOT, Inv, Sshd, wait_for
from rig import Rig, mesh
from terminals import END, Terminal
from terminals import terminal as terminal

from tasks import ns
from tasks.cli import screen
from tasks.cli.program import Program

# In one process: Python's start is most of what a command takes.
ONE_PROCESS = """
import json, sys
sys.path.insert(0, "{root}")
from tasks import ns
from tasks.cli.executor import Executor
from tasks.cli.program import Program
for words in json.loads(sys.argv[1]):
    print("$")
    sys.argv = ["inv", *words]
    Program(namespace=ns, name="inv", executor_class=Executor).run(sys.argv, exit=False)
"""
COLUMNS = (80, 60)


def test_a_start_and_its_document(light: Inv) -> None:
    """A start's document has what is needed to use the server; so has tp.health's."""
    found = light("tp.start", "--json").json()
    assert found["url"] == f"http://127.0.0.1:{light.port}"
    assert list(found["phases"]) == ["checks", "launch", "load", "first token"]
    assert {each["level"] for each in found["findings"]} <= {"ok", "warn"}
    assert found["curl"].startswith(f"curl {found['url']}/v1/chat/completions")
    healthy = light("tp.health", "--json").json()
    assert (healthy["url"], healthy["model"]) == (found["url"], found["model"])
    assert light("tp.status", "--json").json()["state"] == "ready"
    assert light("tp.stop", "--json").json()["nodes"]


def test_what_became_of_ranks(light: Inv, home: Path) -> None:
    """Suspended, died or rebooted: each is said as what it is, with what to do."""
    light("tp.start")
    ranks = {row["rank"]: row["pid"] for row in light("tp.status", "--json").json()["ranks"]}
    assert "--rank 7: the run has ranks 0 to 1" in light("tp.logs", "--rank", "7", code=2).err
    os.kill(ranks[1], signal.SIGSTOP)
    wait_for(lambda: "suspended  rank 1" in light.run("tp.status").out)
    why = f"suspended: rank 1 on 127.0.0.1; kill -CONT {ranks[1]} on 127.0.0.1 lets it go on"
    assert why in light("tp.status", code=3).err
    os.kill(ranks[1], signal.SIGCONT)
    wait_for(lambda: light.run("tp.status").code == 0)
    os.kill(ranks[1], signal.SIGKILL)
    wait_for(lambda: "killed by SIGKILL" in light.run("tp.status").err)
    stopped = light("tp.stop")
    assert "rank 0; rank 1 (killed by SIGKILL) had died" in stopped.out
    light("tp.start")
    of_rank = layout.newest(home / layout.STATE) / "rank-1.pid"
    pid, start, boot = of_rank.read_text().splitlines()
    of_rank.write_text(f"{pid}\n{start}\nanother-boot\n")
    said = light("tp.status", code=3)
    assert re.search(r"127\.0\.0\.1 was rebooted \d+ \w+ ago; clean up with inv tp\.stop", said.err)
    assert re.search(r"dead +rank 1 +127\.0\.0\.1 +pid \d+ +rebooted \d+ \w+ ago", said.out)
    of_rank.write_text(f"{pid}\n{start}\n{boot}\n")
    light("tp.stop")


def test_streams_of_documents(light: Inv) -> None:
    """tp.logs and tp.watch, a document per line; the last one says how a failure ended."""
    light("tp.start")
    lines = light("tp.logs", "--json").documents()
    assert {(each["rank"], each["text"]) for each in lines} > {(0, "serving"), (1, "loading")}
    assert light("tp.logs", "--rank", "7", "--json", code=2).documents()[-1]["exit"] == 2
    process = light.start("tp.watch", "--interval", "0.2", "--json")
    assert process.stdout
    first = process.stdout.readline()
    assert json.loads(first)["state"] == "ready"
    os.kill(light("tp.status", "--json").json()["ranks"][1]["pid"], signal.SIGKILL)
    rest, err = process.communicate(timeout=DEADLINE)
    *_, died, end = schemas.check_lines(["tp.watch"], first + rest)
    assert "killed by SIGKILL" in died["why"]
    assert (end["exit"], end["error"]) == (3, err.strip().splitlines()[-1])
    light("tp.stop")


def shown(terminal: Terminal, home: Path, columns: int, *lines: list[str], **env: str) -> list[str]:
    """What these commands write on a terminal of so many columns: no row of it was wrapped."""
    script = home / "commands.py"
    script.write_text(ONE_PROCESS.format(root=ROOT))
    words = [sys.executable, str(script), json.dumps(lines)]
    return terminal.show(words, columns, {"HOME": str(home), **env})


@pytest.mark.parametrize("columns", COLUMNS)
def test_help_in_a_terminal(terminal: Terminal, home: Path, columns: int) -> None:
    """The list, `inv` alone and the help of every task, none of their rows wrapped."""
    pages = [["--help", name] for name in sorted(ns.task_names)]
    rows = shown(terminal, home, columns, ["--list"], [], *pages)
    usages = {" ".join(row.split()[:3]) for row in rows}
    assert {f"Usage: inv {name}" for name in ns.task_names} <= usages
    assert {f"{title}:" for title in Program.groups if title != "Development"} <= {*rows}


def test_rows_come_while_a_node_is_silent(
    terminal: Terminal, light_remote: Inv, sshd: Sshd
) -> None:
    """The rows of who has answered, and a line that changes; both are gone with the result."""
    light_remote("tp.start")
    words = [sys.executable, "-m", "invoke", *light_remote.line("tp.status")]
    sshd.freeze("mac2")
    env = {**light_remote.environment(), "TERM": "xterm"}
    terminal.open(f"{shlex.join(words)}; echo '{END}'; sleep 1000", env=env)

    def seconds() -> list[str]:
        rows = terminal.rows()
        lines = [row for row in rows if row.startswith("waiting for mac2, ")]
        assert not lines or any(re.match(r"running +rank 0 +mac1 ", row) for row in rows), rows
        return lines

    first = wait_for(seconds)
    wait_for(lambda: seconds() not in (first, []))
    sshd.thaw("mac2")
    wait_for(lambda: END in terminal.rows())
    rows = terminal.rows()
    assert [row.split()[:4] for row in rows if row.startswith("running")] == [
        ["running", "rank", "0", "mac1"],
        ["running", "rank", "1", "mac2"],
    ]
    assert not any("waiting" in row for row in rows)
    light_remote("tp.stop")


def test_a_server_that_thinks_long(light: Inv) -> None:
    """tp.chat says that it waits for the first word; nothing of that is in the answer."""
    light("tp.start")
    text = (ROOT / "tests" / "data" / "streams" / "one-piece.sse").read_text()
    assert "wait 2" in text
    (light.home / "light" / "stream").write_text(text.replace("wait 2", "wait 4"))
    done = light("tp.chat", "hi")
    assert re.match(r"waiting for the first word, \d s\n", done.err)
    assert "waiting" not in done.out
    light("tp.stop")


def test_a_silent_node_in_a_pipe(light_remote: Inv, sshd: Sshd) -> None:
    """A line that says who is waited for, each few seconds; none in the document."""
    sshd.freeze("mac2")
    process = light_remote.start("tp.preflight", "--json")
    assert process.stderr
    assert re.fullmatch(r"checks: waiting for mac2, \d s\n", process.stderr.readline())
    sshd.thaw("mac2")
    assert json.loads(process.communicate(timeout=DEADLINE)[0])["ok"]
    sshd.freeze("mac1")  # whose lock is wanted first
    process = light_remote.start("tp.stop")
    assert process.stderr
    assert re.fullmatch(r"waiting for mac1, \d s\n", process.stderr.readline())
    sshd.thaw("mac1")
    process.communicate(timeout=DEADLINE)
    assert process.returncode == 0


SCREENS = [
    ["tp.status"],
    ["tp.preflight", "--skip", "processes,ports"],
    ["tp.memory"],
    ["tp.audit"],
    ["tp.bench", "--concurrency", "1,2", "--prompt-tokens", "16", "--max-tokens", "4"],
    ["tp.bench", "--history"],
    ["tp.top", "--count", "1"],
    ["tp.stop", "--dry-run", "--all"],
    ["tp.status", "--cluster", "all"],
    ["tp.logs", "--grep", "serving"],
    ["hosts.list"],
    ["hosts.check"],
    ["version"],
]
OF_LINKS = [
    ["rdma.status"], ["rdma.ping"], ["rdma.topology"], ["rdma.undo"], ["hosts.check"],
    ["hosts.list"], ["hosts.selftest"], ["dev.model", "org/none"],
]  # fmt: skip


def test_tables_in_a_terminal(terminal: Terminal, light: Inv) -> None:
    """Every table at two widths, none of its rows wrapped."""
    light("tp.start")
    for columns in COLUMNS:
        lines = [light.line(*words) for words in SCREENS]
        env = {**light.environment(), "NO_COLOR": ""}
        rows = shown(terminal, light.home, columns, *lines, **env)
        # What has a colour says in a word what that means; who sees none misses nothing.
        words = {re.sub(r"rank \d", "rank", each.strip()) for each in terminal.colours}
        assert {"ok", "running", "rank"} <= words <= {*screen._COLOURS, "rank"}
        starts = [number for number, row in enumerate(rows) if row == "$"]
        assert len(starts) == len(SCREENS)
        assert [rows[number + 1] for number in starts if rows[number + 1] in ("", "$")] == []
    light("tp.stop")


def test_tables_of_links_in_a_terminal(
    terminal: Terminal, inv: Inv, macs: Callable[..., Rig], tmp_path: Path
) -> None:
    """The same of hosts and links, where one cable is out."""
    rig = macs(3, mesh(3))
    file = str(tmp_path / "hosts.json")
    inv("rdma.discover", "--hosts", ",".join(rig.names), "--write", file)
    inv.env["INVOKE_TP_HOSTFILE"] = file
    rig.cut(rig.plan[0].host, rig.plan[0].port)
    for columns in COLUMNS:
        rows = shown(terminal, inv.home, columns, *OF_LINKS, **inv.environment())
        assert rows.count("$") == len(OF_LINKS)
        assert any("missing" in row for row in rows)


LOOKS = [
    ["tp.status"], ["tp.health"], ["tp.chat", "hi"], ["tp.logs"], ["tp.wait"], ["tp.memory"],
    ["tp.preflight"],
]  # fmt: skip
NEEDS_NONE = [["tp.watch"], ["tp.bench"]]  # with a server that runs they would go on for long


def remedies(inv: Inv, *commands: list[str]) -> dict[str, set[str]]:
    """Of those of the commands that fail: the tasks that their last line names."""
    found = {}
    for words in commands:
        done = inv.run(*words)
        if done.code:
            last = done.err.strip().splitlines()[-1]
            found[words[0]] = set(re.findall(r"inv (\w+\.\w+)", last))
    return found


def no_circle(failed: dict[str, set[str]]) -> None:
    """Each that fails names something else to do, which does not lead back to it."""
    for task, named in failed.items():
        assert task not in named
        assert [each for each in named if task in failed.get(each, ())] == [], failed


def test_no_remedy_leads_in_a_circle(light: Inv) -> None:
    """In each state of a server: what a command names, run there, does not name the first again."""
    fresh = remedies(light, *LOOKS, *NEEDS_NONE, ["tp.restart"])
    assert fresh["tp.health"] == fresh["tp.restart"] == {"tp.start"}
    no_circle(fresh)
    light("tp.start")
    running = remedies(light, *LOOKS, ["tp.start"])
    assert set(running) == {"tp.start", "tp.preflight"}
    no_circle(running)
    ranks = light("tp.status", "--json").json()["ranks"]
    os.kill(ranks[1]["pid"], signal.SIGKILL)
    wait_for(lambda: light.run("tp.status").code)
    died = remedies(light, *LOOKS, *NEEDS_NONE, ["tp.start"])
    assert "tp.stop" in died["tp.status"]
    no_circle(died)
    light("tp.stop")
    no_circle(remedies(light, *LOOKS, *NEEDS_NONE))


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """All texts in it with their lines, what is filled in as X; docstrings are none."""
    docs = {each.value for each in ast.walk(tree) if isinstance(each, ast.Expr)}
    for each in ast.walk(tree):
        if isinstance(each, ast.JoinedStr):
            yield each.lineno, "".join(str(getattr(part, "value", "X")) for part in each.values)
        elif isinstance(each, ast.Constant) and isinstance(each.value, str) and each not in docs:
            yield each.lineno, each.value


def remedies_in_code() -> Iterator[tuple[str, str, set[str]]]:
    """Each in a text of tasks/: its place, the task that it names, and with what options."""
    for path in sorted((ROOT / "tasks").rglob("*.py")):
        if {"cli", "cluster", "commands"} & {*path.parts}:
            for line, text in texts(ast.parse(path.read_text())):
                for task, more in re.findall(r"inv (\w+\.\w+)([^:;,]*)", text):
                    options = set(re.findall(r"--[\w-]+", more.partition(" -- ")[0]))
                    yield f"{path.name}:{line}", task, options


OF_LINKS_AND_HOSTS = {
    "rdma.status", "rdma.ping", "rdma.topology", "rdma.verify", "rdma.discover", "rdma.undo",
    "rdma.persist", "hosts.check", "hosts.list", "dev.model", "dev.sync", "dev.loop",
    "tp.preflight",
}  # fmt: skip
OF_KEYS = {"hosts.trust"}
CHANGING = {
    "dev.sync", "hosts.clean", "rdma.persist", "rdma.setup", "rdma.undo", "rdma.unpersist",
    "tp.restart", "tp.start", "tp.stop", "tp.unlock",
}  # fmt: skip


def test_each_remedy_is_a_command_that_a_walk_runs() -> None:
    """One that names a task, or an option, that is new here is to be walked, too."""
    walks = {each[0] for each in [*LOOKS, *NEEDS_NONE]} | CHANGING | OF_LINKS_AND_HOSTS | OF_KEYS
    found = list(remedies_in_code())
    assert len(found) > 60
    for place, task, options in found:
        assert task in walks, place
        known = {f"--{each.name.replace('_', '-')}" for each in ns[task].get_arguments()}
        assert options <= known, (place, options - known)


def walked(inv: Inv, words: Callable[[str], list[str]], *first: str) -> dict[str, set[str]]:
    """Of each that fails: the tasks that its failed rows and its last line name.

    These are run too, and what they name; one that would change something is only shown.
    """
    failed: dict[str, set[str]] = {}
    seen: set[str] = set()
    todo = [*first]
    while todo:
        task = todo.pop()
        if task in seen:
            continue
        seen.add(task)
        dry = ["--dry-run"] * (task in CHANGING)
        done = inv.run(task, *words(task), *dry)
        if done.code:
            lines = (done.out + done.err).strip().splitlines()
            rows = [line for line in lines if line.startswith(("fail", "not reached"))]
            named = set(re.findall(r"inv (\w+\.\w+)", "\n".join([*rows, lines[-1]])))
            failed[task] = named
            todo += sorted(named)
    return failed


def test_no_remedy_of_links_leads_in_a_circle(
    inv: Inv, macs: Callable[..., Rig], tmp_path: Path
) -> None:
    """Of links and hosts: out of the box, with a cable out, after a reboot, and as it should be."""
    rig = macs()
    file = str(tmp_path / "hosts.json")
    inv("rdma.discover", "--hosts", "mac1,mac2", "--write", file)
    inv.env["INVOKE_TP_HOSTFILE"] = file
    more = {"dev.model": ["org/none"], "rdma.discover": ["--hostfile", file]}

    def walk() -> dict[str, set[str]]:
        failed = walked(inv, lambda task: more.get(task, []), *sorted(OF_LINKS_AND_HOSTS))
        no_circle(failed)
        return failed

    assert walk()["rdma.status"] == {"rdma.setup"}
    inv("rdma.setup")
    assert "rdma.status" not in walk()
    one = rig.plan[0]
    rig.cut(one.host, one.port)
    assert "rdma.status" in walk()
    rig.reboot("mac1")
    walk()


def test_no_remedy_of_host_keys_leads_in_a_circle(light_remote: Inv, sshd: Sshd) -> None:
    """Nodes whose keys nobody has accepted: the way out is named, and it is one."""
    sshd.trust()
    config = sshd.folder / "config"
    config.write_text(f"StrictHostKeyChecking accept-new\n{config.read_text()}")
    failed = walked(light_remote, lambda task: [], "tp.status", "hosts.check", "tp.preflight")
    assert failed["hosts.check"] | failed["tp.status"] >= OF_KEYS
    no_circle(failed)


def test_every_cluster_on_one_screen(light: Inv) -> None:
    """A row for each of tp.clusters; the exit status is that of the worst of them."""
    assert light.config
    config = json.loads(light.config.read_text())
    config["tp"]["clusters"] = {"night": {"starting_port": light.ring + 4}}
    light.config.write_text(json.dumps(config))
    light("tp.start")
    rows = [line.split() for line in light("tp.status", "--cluster", "all").out.splitlines()]
    assert [row[:2] for row in rows] == [["ready", "default"], ["stopped", "night"]]
    assert rows[0][2:] == ["2", "ranks", "model", f"http://127.0.0.1:{light.port}"]
    found = light("tp.status", "--cluster", "all", "--json").json()["clusters"]
    assert {name: each["state"] for name, each in found.items()} == {
        "default": "ready",
        "night": "stopped",
    }
    os.kill(found["default"]["ranks"][1]["pid"], signal.SIGKILL)
    wait_for(lambda: light.run("tp.status", "--cluster", "all").code)
    said = light("tp.status", "--cluster", "all", code=3)
    assert "default: inv tp.status --cluster default shows its ranks" in said.err
    light("tp.stop")
