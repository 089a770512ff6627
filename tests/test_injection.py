"""What is put into a script, or what a node answers, is never run and orders no terminal about.

Every script builder is fed what a shell would take for more than text, and its script is run for
real in a scratch folder by each shell that may be /bin/sh; a canary would show what was run.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import layout
import pytest
from conftest import DEADLINE, ROOT, Inv, Sshd, require, wait_for
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from rig import Rig

from tasks.cli import envelope, screen
from tasks.cluster import cluster as clusters
from tasks.cluster.config.hostfile import Host
from tasks.cluster.errors import ActionFailed
from tasks.cluster.facts import NodeFacts
from tasks.cluster.facts.links import rdma
from tasks.cluster.facts.machine import files, ports, processes, versions
from tasks.cluster.facts.models import model, split
from tasks.cluster.facts.server import state
from tasks.cluster.facts.snapshot import Snapshot
from tasks.cluster.http import api as apis
from tasks.cluster.rdma import launchd, links, setup, sudo
from tasks.cluster.server import launch, lock, log_paths, logs, stop, targets, wait
from tasks.cluster.server.fence import Fence
from tasks.cluster.server.launch import Run
from tasks.cluster.server.stop import StopReport
from tasks.cluster.server.targets import Target
from tasks.cluster.ssh.node import CommandResult, Node
from tasks.cluster.text import plain
from tasks.commands.tp.status import _print_status, summary

# /bin/sh is dash on Debian, bash 3.2 on macOS, and zsh where its owner has chosen so.
SHELLS = {
    "dash": ["dash", "-s"],
    "bash": ["bash", "--posix", "-s"],
    "zsh": ["zsh", "--emulate", "sh", "-s"],
}
PIECES = [
    "$(touch canary)", "`touch canary`", "'; touch canary; '", '"; touch canary; "',
    "; touch canary;", "| touch canary", "& touch canary &", "\n touch canary\n",
    "\ntouch canary #", "<(touch canary)", ">canary", "$HOME", "${IFS}", "$((1+1))", "~root", "*",
    "?", "[a-z]", "{a,b}", "!!", "#", "=ls", "\\", "\\\n", "'", '"', "''", "-x", "--", "-n", " ",
    "  ", "\t", "END", "\nEND\n", "\nEND\ntouch canary\n", "ü", "日本", "\u202e", "\x1b]0;x\x07",
    "\x1b[2J", "\x9b2J", "\r", "%s", "%n", "\\n", "a=b", "é" * 9,
]  # fmt: skip
LETTERS = st.characters(blacklist_categories=["Cs"], blacklist_characters="\0")
TEXT = st.lists(st.sampled_from(PIECES) | st.text(LETTERS, max_size=4), max_size=5).map("".join)
LINE = TEXT.map(lambda text: "".join(c for c in text if c >= " " and c != "\x7f"))


def _fits(name: str) -> bool:
    return bool(name.strip()) and len(name.encode()) < 120 and name not in (".", "..", "~")


NAME = LINE.map(lambda text: text.replace("/", "")).filter(_fits)
KEY = st.from_regex(r"X[A-Z0-9_]{0,4}", fullmatch=True) | st.sampled_from(
    ["tp_state", "tp_log", "pid", "code", "n", "P", "T", "B", "stat", "IFS", "PS4", "CDPATH", "v"]
)
RUN = Run("abc123", "me@here", 0.0)
BOUNDED = settings(max_examples=12)


@dataclass
class Scratch:
    """A folder for scripts to run in, with a program that tells how it was started."""

    folder: Path
    shell: list[str]

    def run(self, script: str, status: int | None = 0, **env: str) -> str:
        base = {
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
            "OUT": str(self.folder / "out"),
        }
        done = subprocess.run(
            self.shell,
            input=script.encode(),
            env={**base, **env},
            cwd=self.folder,
            capture_output=True,
            timeout=DEADLINE,
            check=False,
        )
        assert status is None or done.returncode == status, done.stderr
        return done.stdout.decode("utf-8", "replace")

    def program(self, path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    def words(self) -> list[str]:
        """The arguments of the program that was run last."""
        return (self.folder / "out.args").read_bytes().decode().split("\0")[:-1]

    def environment(self) -> dict[str, str]:
        pairs = (self.folder / "out.env").read_bytes().decode().split("\0")[:-1]
        return dict(pair.partition("=")[::2] for pair in pairs)

    def check(self) -> None:
        assert not list(self.folder.rglob("canary"))


TELL = 'printf "%s\\0" "$@" >"$OUT.args"; env -0 >"$OUT.env"; pwd >"$OUT.cwd"'


@contextmanager
def scratch(name: str) -> Iterator[Scratch]:
    require(shutil.which(name), f"needs {name}")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "bin").mkdir()
        made = Scratch(Path(folder), SHELLS[name])
        yield made
        made.check()


each_shell = pytest.mark.parametrize("sh", list(SHELLS))


def cluster_of(place: Scratch, data: Any = None, args: list[str] = [], **config: Any) -> Any:  # noqa: B006
    path = place.folder / "hosts.json"
    path.write_text(json.dumps(data or [{"ssh": "mac1", "ips": ["10.0.0.1"]}]))
    mine = {"engines": {"probe": {"command": ["-m", "probe"]}}, "engine": "probe"}
    return clusters.build({**mine, **config}, args, hostfile=str(path), backend="ring")


# What keeps a log short is `python -I .../cap.py`.
RANK = f"case $2 in */cap.py) exit ;; esac\nshift 3\n{TELL}"


@each_shell
@BOUNDED
@given(
    st.dictionaries(KEY, TEXT, max_size=4),
    st.lists(TEXT.filter(lambda word: not word.startswith("--")), max_size=4),
    st.tuples(NAME, NAME, NAME, NAME),
    LINE,
)
def test_launch(
    sh: str, envs: dict[str, str], args: list[str], names: tuple[str, ...], by: str
) -> None:
    """A rank gets its words, environment and folder exactly, whatever all of them are called.

    Its python also keeps its log short, in a process of its own.
    """
    python, cwd, state_dir, log_dir = (f"{number}{name}" for number, name in enumerate(names))
    with scratch(sh) as place:
        (place.folder / cwd).mkdir()
        program = place.program(place.folder / python, RANK)
        cluster = cluster_of(
            place,
            args=args,
            env=[f"{name}={value}" for name, value in envs.items()],
            python=str(program),
            cwd=cwd,
            state_dir=state_dir,
            log_dir=log_dir,
        )
        run = replace(RUN, by=by)
        assert place.run(launch.background(cluster, cluster.ranks, run)) == ""
        home = place.folder / state_dir.rstrip("/")
        end = layout.of_rank(home, 0, "exit")
        wait_for(end.exists)
        assert end.read_text() == "0\n"
        entry = end.with_name("entry.py")
        assert place.words() == [str(entry), *cluster.ranks[0].command[1:]]
        # The program is a shell itself, which keeps IFS to itself.
        assert place.environment().items() >= {k: v for k, v in envs.items() if k != "IFS"}.items()
        assert (place.folder / "out.cwd").read_text() == f"{place.folder / cwd}\n"
        assert layout.record(home)["command"][0] == str(program)
        log = place.folder / log_dir / "tp_server.rank0.log"
        assert log.read_text() == f"{launch.header(run, cluster.ranks[0])}\n"


@each_shell
@pytest.mark.parametrize("name", ["-x", "--help", "~", "~root", "$(touch canary)", "a b", "-"])
def test_paths_that_look_like_more(sh: str, name: str) -> None:
    """Relative ones, as an option gives them: a leading dash is no option, ~name no home."""
    with scratch(sh) as place:
        program = place.program(place.folder / "py", RANK)
        options: dict[str, Any] = {"cwd": name, "state_dir": f"{name}/s", "log_dir": f"{name}/l"}
        cluster = cluster_of(place, python=str(program), **options)
        home = place.folder if name == "~" else place.folder / name
        home.mkdir(exist_ok=True)
        place.run(launch.background(cluster, cluster.ranks, RUN))
        wait_for(layout.of_rank(home / "s", 0, "exit").exists)
        assert (place.folder / "out.cwd").read_text() == f"{home}\n"
        assert (home / "l" / "tp_server.rank0.log").exists()


@each_shell
@BOUNDED
@given(NAME, NAME, LINE)
def test_readings(sh: str, folder: str, cwd: str, path: str) -> None:
    """What reads a node: the state, a model, a folder, versions, a log."""
    with scratch(sh) as place:
        where = place.folder / cwd
        (where / folder).mkdir(parents=True)
        (where / folder / "config.json").write_text("{}")
        python = place.program(where / f"py{folder}", "echo '{}'")
        for fact in (
            state.fact(folder, "default"),
            state.fact(f"{cwd}/{folder}", "default"),
            model.fact(folder, cwd),
            model.fact(path or "x", cwd),
            split.fact(folder, cwd, str(python), folder, "tensor", [2]),
            versions.fact(str(python), cwd),
            files.place(f"{where}/{folder}", path or "x", "boot"),
        ):
            place.run(fact.command, status=None)
        assert "folder" in place.run(model.fact(folder, cwd).command)
        assert place.run(files.fact(f"{cwd}/{folder}").command).endswith(" 2 ./config.json\n")
        log = where / folder / "tp.log"
        log.write_text("# first\nsecond\n")
        out = place.run(logs.read_script([(0, str(log), "", 0)], "nonce"))
        assert [piece.data for piece in logs.parse("mac1", out, "nonce")] == [log.read_bytes()]


@each_shell
@BOUNDED
@given(NAME, TEXT, TEXT)
def test_stopping(sh: str, state_dir: str, command: str, start: str) -> None:
    """What ps says of a process, and what a record says of its start, is compared and no more."""
    with scratch(sh) as place:
        own = os.getpid()
        kinds = [("command", "", command), ("child", start, command), ("start", command, start)]
        targets = [Target("mac1", own, "x", same) for same in kinds]
        cluster = cluster_of(place, state_dir=state_dir)
        script = stop.script(cluster, targets, targets, "CONT", 0.1)
        assert place.run(script).splitlines()[-1] == "left"
        held = Fence(1, "abc", f"tp.stop of {start}", "default")
        place.run(state.fact(state_dir, "default", held.values).command)
        assert (place.folder / state_dir / "default" / "fence").exists()


class Here:
    """A node whose scripts run in the scratch folder."""

    def __init__(self, place: Scratch) -> None:
        self.place = place
        self.name = "mac1"
        self.pending: set[Any] = set()
        self.fences: dict[str, Any] = {}
        self.wait = None

    def sh(self, script: str, timeout: float = 0, **_: Any) -> CommandResult:
        return CommandResult(self.name, self.place.run(script), status=0)


@each_shell
@BOUNDED
@given(NAME, LINE, st.from_regex(r"[0-9A-Za-z]+", fullmatch=True))
def test_forgetting(sh: str, state_dir: str, by: str, run: str) -> None:
    """A run's name comes from a node's record, and goes to all nodes; one of them was forgotten."""
    with scratch(sh) as place:
        cluster = replace(cluster_of(place, state_dir=state_dir), nodes=[Here(place)])
        runs = place.folder / cluster.folder / "runs"
        (runs / "abc123").mkdir(parents=True)
        (runs / "abc123" / "rank-0.pid").write_text("1\n2\nb\n")
        wait.mark_ready(cluster)
        assert (runs / "abc123" / "token").exists()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stop, "who", lambda: f"me{by}")
            stop.forget(cluster, [StopReport("mac1")], run)
            assert (runs / run / "ended").exists()
            assert (runs / "abc123" / "ended").exists() == (run == "abc123")
            stop.forget(cluster, [StopReport("mac1")])
        assert (runs / "abc123" / "ended").exists()


@each_shell
@BOUNDED
@given(NAME, TEXT, TEXT)
def test_lock(sh: str, state_dir: str, what: str, by: str) -> None:
    """Who has the lock, and what for, is told as it is, and not run."""
    with scratch(sh) as place:
        cluster = cluster_of(place, state_dir=state_dir)
        assert "held" in place.run(lock.script(cluster, what, replace(RUN, by=by)))


def wiring() -> links.LinkPlan:
    return links.from_specs(["mac1:en5:10.254.0.5", "mac2:en5:10.254.0.6"], [], "30")


@each_shell
@BOUNDED
@given(NAME, TEXT.filter(lambda text: "\n" not in text), LINE)
def test_acting_as_root(sh: str, home: str, password: str, owner: str) -> None:
    """The password reaches sudo's stdin and nothing else; a home and a user are only names."""
    assume(owner)
    with scratch(sh) as place:
        tell = 'printf "%s\\0" "$@" >>"$OUT.args"; case " $* " in *" -S "*) cat >>"$OUT.pw";; esac'
        place.program(place.folder / "bin" / "sudo", tell)
        place.program(place.folder / "bin" / "plutil", "exit 0")
        place.program(place.folder / "bin" / "chown", f"{TELL}")
        absolute = f"{place.folder}/{home}"
        installed = launchd.Daemon(None, False)
        todo = launchd.changes("mac1", absolute, installed, launchd.plist(wiring(), "mac1", owner))
        asked = [change.command for change in todo if change.command]
        place.run(sudo.may_script(asked, password))
        out = place.run(sudo.act_script(todo, password))
        assert out == "done\n" * len(todo)
        draft = Path(absolute) / ".mlx-tp" / f"{launchd.LABEL}.plist"
        assert draft.read_text().startswith("<?xml")
        words = place.words()
        assert all(word in words for command in asked for word in command)
        passwords = (place.folder / "out.pw").read_bytes().decode()
        assert set(passwords.split("\n")) <= {password, ""}
        matrix = setup.write_matrix(wiring(), owner)
        place.run(matrix.replace(rdma.MATRIX, str(place.folder / "matrix.json")))
        assert place.words()[0] == owner
        assert json.loads((place.folder / "matrix.json").read_text())


@given(st.lists(st.lists(LINE, min_size=1, max_size=4), min_size=1, max_size=3))
@example([["a b"], ["a", "b"]])
def test_sudoers(commands: list[list[str]]) -> None:
    """A line of sudoers allows the commands that were asked for, and none by pattern or comma."""
    allowed = sudo.sudoers("me", commands).removeprefix("me ALL=(root) NOPASSWD: ")
    parts = re.findall(r"(?:\\.|[^,\\])+", allowed)
    expected = [" ".join(each) for each in dict.fromkeys(map(tuple, [sudo.PROBE, *commands]))]
    assert [re.sub(r"\\(.)", r"\1", part[part.startswith(" ") :]) for part in parts] == expected
    assert not re.search(r"[*?\[\]!#=:]", re.sub(r"\\.", "", allowed))


ORDERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


@given(TEXT, TEXT)
def test_no_orders_to_a_terminal(first: str, second: str) -> None:
    """Whatever is said, told or raised: no control sequence, and an error is one line."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        screen.say(first)
        screen.out(first)
        screen.log_line(f"rank 0 | {first}")
        screen.log_line(first)
        envelope.give({first: second})
        screen.table([(first, second), (second, first)])
        screen.table([(first, second)], err)
    assert not ORDERS.search(out.getvalue() + err.getvalue())
    error = str(ActionFailed(f"mac1: {first}").message)
    assert not ORDERS.search(error)
    assert len(error.splitlines()) == 1


def test_rows_of_a_table_are_ours() -> None:
    out = io.StringIO()
    screen.table([("ok", "a\nfail  b"), ("fail", "c\r\n\x1b[1Aok")], out)
    assert out.getvalue().splitlines() == ["ok    a fail  b", "fail  c ok"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]52;c;ZWNobw==\x1b\\after", "after"),
        ("\x1bP1;2|tmux\x1b\\x", "x"),
        ("a\x1b", "a"),
        ("a\x1b[", "a"),
        ("\x9b2Ja", "2Ja"),
        ("a\rb\x08c\x7f", "abc"),
        ("a\tb\nc", "a\tb\nc"),
        ("a\x1b]0;never ended\nnext", "a\nnext"),
        ("abc\u202edcba\u2066", "abcdcba"),
        ("ü 日本 é", "ü 日本 é"),
        ("\ud800a", "a"),
    ],
)
def test_plain(text: str, expected: str) -> None:
    assert plain(text) == expected


GOOD = {
    "run": "abc123", "rank": 0, "size": 1, "host": "127.0.0.1", "backend": "ring",
    "engine": "mlx-lm", "ready": "/health", "model": "m", "command": ["python", "-m", "x"],
    "env": [], "bind": "127.0.0.1", "port": 8000, "ports": [32323], "log": "/somewhere/x.log",
    "started": 1.0, "by": "me@here",
}  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
RECORD = st.builds(
    lambda changes: {**GOOD, **changes}, st.dictionaries(st.sampled_from(list(GOOD)), JSON)
)


def reading_of(record: Any) -> Snapshot:
    """What a node would tell that has this record, of a process that lives."""
    told = json.dumps({"run": "1f", "ranks": [record]})
    rank = "rank 0\npid 1\nstart 2\nof b\nalive"
    text = f"now 5\nboot b\nrun 1f\nrecord {told}\n{rank}\nend"
    values = {state.KEY: state.parse(text, 0), processes.KEY: {}, ports.KEY: {}}
    return Snapshot({"127.0.0.1": NodeFacts("127.0.0.1", values)}, {})


@given(RECORD)
def test_records(record: dict[str, Any]) -> None:
    """A record with anything in any field: no crash, no order, nothing written by its word."""
    with scratch("dash") as place:
        cluster = cluster_of(place, [{"ssh": "127.0.0.1", "ips": ["127.0.0.1"]}])
        read = reading_of(record)
        with pytest.MonkeyPatch.context() as patch:
            silent = lambda _, path, **__: apis.ApiError(f"GET {path}: no")  # noqa: E731
            patch.setattr(apis.Api, "page", silent)
            found = summary(cluster, read)
        out = io.StringIO()
        with redirect_stdout(out):
            _print_status(found)
            envelope.give(found)
        assert not ORDERS.search(out.getvalue())
        combined = log_paths.place(cluster, read).combined
        assert combined.is_relative_to(Path(cluster.folder).expanduser() / "runs")
        assert ".." not in combined.parts
        (_, rank), *_ = read.ranks
        target = targets._recorded(cluster, "mac1", rank)
        assert place.run(stop.script(cluster, [target], [target], "CONT", 0)) == "\nleft\n"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("run", "a'; touch canary; '"),
        ("run", 5),
        ("bind", "evil.example/x"),
        ("bind", "user@evil.example"),
        ("ready", "http://evil.example/"),
        ("ready", "@evil.example/"),
        ("ready", "/a b"),
        ("port", 0.5),
        ("port", True),
        ("port", 70000),
        ("port", "8000"),
        ("started", "now"),
        ("started", float("nan")),
        ("started", float("inf")),
        ("log", 5),
        ("log", ["x"]),
        ("command", "python"),
        ("command", [5]),
        ("command", []),
        ("log", "a\nb"),
        ("log", "a\0b"),
        ("log", ""),
        ("ports", ["1"]),
        ("size", -1),
        ("model", None),
        ("host", {}),
    ],
)
def test_a_record_that_is_no_record(field: str, value: Any) -> None:
    (_, good), *_ = reading_of(GOOD).ranks
    assert good.record is not None
    (_, rank), *_ = reading_of({**GOOD, field: value}).ranks
    assert rank.record is None
    assert rank.alive


class Answers(BaseHTTPRequestHandler):
    """A server that answers everything with one thing."""

    status, headers_, body = 200, {"Content-Type": "application/json"}, b""
    asked: ClassVar[list[str]] = []
    keys: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.keys.append(self.headers.get("Authorization"))
        self.send_response(self.status)
        for name, value in self.headers_.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def server(**answer: Any) -> Iterator[tuple[apis.Api, list[str]]]:
    kind = type("Answer", (Answers,), {**answer, "asked": []})
    http = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    node = Node(Host("127.0.0.1"))
    try:
        yield apis.Api(node, "127.0.0.1", http.server_port), kind.asked  # type: ignore[attr-defined]
    finally:
        http.shutdown()
        http.server_close()


BODIES = [
    b"", b"null", b"5", b"[]", b"{}", b'"x"', b"[[[", b"\xff\xfe", b"[" * 100_000, b"1e999",
    b'{"data": null}', b'{"data": [null]}', b'{"data": [{}]}', b'{"data": "ids"}',
    b'{"choices": []}', b'{"choices": [null]}', b'{"choices": ["x"]}',
    b'{"choices": [{"message": []}]}',
    b'{"choices": [{"message": null}]}', b'{"choices": [{}], "usage": []}',
    b'{"choices": [{}], "usage": {"completion_tokens": 1e999}}',
    b'{"choices": [{}], "usage": {"completion_tokens": "\x1b[31m"}}',
    b'{"choices": [{}], "usage": {"completion_tokens": []}}', b"\x1b]0;x\x07", b"<html>\x1b[2J",
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES)
def test_answers_of_another_shape(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """An HTTP answer can be anything: it is an error in words, and no order to a terminal."""
    monkeypatch.setattr(apis.Api, "name_of", lambda *_: "m")  # which is an answer, too
    with server(body=body) as (api, _):
        for ask in (api.models, lambda: api.one_token("m", "m", 5)):
            with pytest.raises(apis.ApiError) as error:
                ask()
            assert not ORDERS.search(str(error.value))


@pytest.mark.parametrize("to", ["http://127.0.0.1:1/", "https://evil.example/", "/elsewhere"])
def test_no_redirect_is_followed(to: str) -> None:
    """Else a server on a node would have the control machine ask anyone for anything."""
    with server(status=302, headers_={"Location": to}) as (api, asked):
        assert api.page("/health") is not None
        with pytest.raises(apis.ApiError):
            api.models()
        assert asked == ["/health", "/v1/models"]


def test_the_key_of_a_server() -> None:
    """A server that wants a key gets it; without one none is sent, whatever ~/.netrc says."""
    sent: list[str | None] = []
    with server(body=b'{"data": [{"id": "m"}]}', keys=sent) as (api, _):
        assert api.models() == ["m"]
        assert apis.Api(api.node, api.bind, api.port, "k").models() == ["m"]
    assert sent == [None, "Bearer k"]


CANARY = "canary-of-an-answer"
EVIL = f"\x1b]0;x\x07\x1b[2J\x9b31m$(touch {CANARY})`touch {CANARY}`';touch {CANARY};\"\u202e"


def evil_json(text: str) -> str:
    """Every name in a JSON document made evil, its keys and what the parsers look for left."""

    def change(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: f"{each}{EVIL}" if key in ("_name", "device_name_key") else change(each)
                for key, each in value.items()
            }
        return [change(each) for each in value] if isinstance(value, list) else value

    return json.dumps(change(json.loads(text)))


# A command of ours, what makes its answer one that nobody expects, and the tasks that read it.
Change = Callable[[str], str]
COMMANDS: list[tuple[str, Change, list[str]]] = [
    ("sw_vers -buildVersion", lambda text: f"{text.strip()}\x1b[31m$(id)\n", ["tp.preflight"]),
    ("sysctl -n hw.memsize", lambda text: f"{EVIL}\n{text}{EVIL}\n", ["tp.memory"]),
    ("vm_stat", lambda text: f"{text}{EVIL}\n", ["tp.memory", "tp.preflight"]),
    (
        "ifconfig -a",
        lambda text: text.replace("en5", f"en5{EVIL.replace(' ', '')}"),
        ["rdma.status", "rdma.setup", "rdma.discover", "tp.preflight"],
    ),
    (
        "ifconfig -a",
        lambda text: text.replace("status: active", f"status: {EVIL}"),
        ["rdma.status", "rdma.topology --svg topology.svg"],
    ),
    (
        "netstat -rn -f inet",
        lambda text: text.replace("en0", "en0\x1b[2J$(id)"),
        ["rdma.setup", "rdma.discover"],
    ),
    ("rdma_ctl status", lambda text: f"{EVIL}\n", ["rdma.status", "rdma.discover"]),
    (
        "ibv_devices",
        lambda text: text.replace("rdma_en5", "rdma_en5\x1b[2J`id`"),
        ["rdma.status", "tp.preflight"],
    ),
    (
        "ibv_devinfo -v",
        lambda text: text.replace("rdma_en5", "rdma_en5\x1b[2J`id`"),
        ["rdma.status", "rdma.topology --svg topology.svg"],
    ),
    (
        "system_profiler SPThunderboltDataType -json",
        evil_json,
        ["rdma.discover", "rdma.topology --svg topology.svg"],
    ),
    (
        "networksetup -listallhardwareports",
        lambda text: text.replace("Device: en5", "Device: en5;touch\x1b[31m<x>&"),
        ["rdma.discover", "rdma.topology --svg topology.svg"],
    ),
    ("launchctl print x", lambda text: EVIL, ["rdma.persist --dry-run"]),
    ("id -un", lambda text: f"{EVIL}\n", ["rdma.setup", "rdma.persist --dry-run"]),
    ("lsof", lambda text: f"p1\nc{EVIL}\nf1\nn*:8000\n", ["tp.preflight", "tp.status"]),
    (
        "ps axww -o pid=,comm=",
        lambda text: f"  1 {EVIL}\n  2 python3 -m mlx_lm server {EVIL}\n",
        ["tp.preflight", "tp.status", "tp.stop --dry-run"],
    ),
]


INSTEAD = "#!/bin/sh\ncat /tmp/answer\n"


@pytest.mark.parametrize(("command", "change", "tasks"), COMMANDS)
def test_answers_of_nodes(
    inv: Inv,
    home: Path,
    macs: Callable[..., Rig],
    command: str,
    change: Change,
    tasks: list[str],
) -> None:
    """One of a node's commands answers as no Mac would: told, never run, no order to a terminal."""
    rig = macs()
    hosts: list[dict[str, Any]] = [
        {"ssh": name, "ips": [rig.address(name)], "links": {"en5": rig.links[name, "en5"]}}
        for name in rig.names
    ]
    more = {"engine": "mlx-lm", "python": sys.executable, "backend": "jaccl-ring"}
    rows = [[None, "rdma_en5"], ["rdma_en5", None]]
    hosts = [{**host, "rdma": row} for host, row in zip(hosts, rows, strict=True)]
    inv.env["INVOKE_TP_HOSTFILE"] = str(home / "hosts.json")
    (home / "hosts.json").write_text(json.dumps({**more, "hosts": hosts}))
    path = rig.run("mac1", f"command -v {command.split()[0]}").stdout.strip()
    answer = change(rig.run("mac1", command, check=False).stdout)
    rig.run("mac1", "cat >/tmp/answer", input=answer)
    rig.run("mac1", f"mv {path} {path}.real; cat >{path}", input=INSTEAD, root=True)
    rig.run("mac1", f"chmod 755 {path}", root=True)
    inv.cwd = home
    try:
        for task in tasks:
            done = inv.run("-r", str(ROOT), *task.split())
            assert "Traceback" not in done.err, f"{task}: {done.err}"
            assert not ORDERS.search(done.out + done.err), task
            assert done.code in (0, 3, 4, 5), f"{task}: {done}"
    finally:
        rig.run("mac1", f"mv -f {path}.real {path}; rm -f /tmp/answer", root=True)
    assert not list(home.rglob(CANARY))
    for name in rig.names:
        found = rig.run(name, f"find / -xdev -name {CANARY} 2>/dev/null; true")
        assert not found.stdout
    if (home / "topology.svg").exists():
        assert ET.parse(home / "topology.svg").getroot().tag.endswith("svg")


ODD = "a 'b\" $(touch canary)`touch canary`;touch canary&|*?\\ -x"


def environments() -> bytes:
    """The environments of all processes, one after another."""
    found = [b"\0"]
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            found.append((process / "environ").read_bytes())
    return b"\0".join(found)


def test_a_life_with_odd_names(remote: Inv, sshd: Sshd, home: Path) -> None:
    """A real server on two nodes whose every name and value a shell would take for more."""
    model = home / f"model {ODD}"
    (home / "model").rename(model)
    for name in sshd.names:
        (sshd.node_home(name) / ODD).mkdir()
    python = home / f"python {ODD}"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    file = Path(remote.env["INVOKE_TP_HOSTFILE"])
    odd = {"model": str(model), "python": str(python), "cwd": f"~/{ODD}"}
    file.write_text(json.dumps({**json.loads(file.read_text()), **odd}))
    assert remote.config is not None
    engine = {"process": f"-m mlx_lm server .*{re.escape(str(model))}"}
    tp = {"engines": {"mlx-lm": engine}, "state_dir": f"~/-{ODD}"}
    remote.config.write_text(json.dumps({"tp": tp}))
    remote.env["INVOKE_TP_LOG_DIR"] = f"{home}/logs {ODD}"
    value = f"{ODD}\n'{ODD}\nEND\n"
    args = ("--port", str(remote.port), "--chat-template-args", json.dumps({ODD: ODD}))
    remote("tp.start", f"--env=ODD={value}", args=args)
    rows = remote("tp.status", "--json").json()
    assert rows["state"] == "ready"
    assert rows["model"] == str(model)
    state = sshd.node_home("mac1") / f"-{ODD}"
    record = layout.record(state)
    assert record["command"][-2:] == ["--model", str(model)]
    assert args[-1] in record["command"]
    assert [row["state"] for row in rows["ranks"]] == ["running"] * 2
    assert environments().count(f"\0ODD={value}\0".encode()) == 2
    assert "rank 1 | " in remote("tp.logs").out
    stopped = remote("tp.stop").out
    assert re.search(r"^stopped +mac2 +rank 1", stopped, re.MULTILINE)
    assert not list(home.rglob("canary"))
    assert not list(ROOT.glob("canary"))


def test_a_process_that_is_called_like_two(tmp_path: Path) -> None:
    """Where there is no ps: a name with a line feed in it makes no second row of it."""
    name = "python3\n1 1 1 1 python3 -m mlx_lm server\n== end"
    code = "import ctypes, time; ctypes.CDLL(None).prctl(15, b'x\\n1 py'); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", code, name])
    (tmp_path / "bin").mkdir()
    for tool in ("cat", "tr", "sed"):
        (tmp_path / "bin" / tool).symlink_to(str(shutil.which(tool)))
    try:
        comm = Path(f"/proc/{process.pid}/comm")
        wait_for(lambda: "\n1 py" in comm.read_text())
        listed = subprocess.run(
            ["/bin/sh", "-s"],
            input=processes.FACT.command,
            env={"PATH": str(tmp_path / "bin")},
            capture_output=True,
            text=True,
            errors="replace",
            check=True,
        )
    finally:
        process.kill()
        process.wait()
    found = processes.parse(listed.stdout, 0)
    assert found[1].program != "py"
    assert "mlx_lm" not in found[1].command
    assert found[process.pid].command.endswith(name.replace("\n", " "))
