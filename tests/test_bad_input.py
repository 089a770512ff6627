"""Wrong use: one clear line, the right exit status, no traceback, and nothing changed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from conftest import Inv
from test_wrong_use import Local
from test_wrong_use import local as local

# (words, server arguments, exit status, what the line must say)
WRONG: list[tuple[list[str], list[str] | None, int, str]] = [
    (["tp.start", "--hostfile", "nope.json"], None, 2, "nope.json: no such hostfile"),
    (["tp.start", "--hostfile", "."], None, 2, "can't be read"),
    (["tp.start", "--hostfile", "tasks.py"], None, 2, "tasks.py:1: not JSON"),
    (["tp.start", "--hosts", "a,,b"], None, 2, "a host is empty"),
    (["tp.start", "--hosts", "a,a"], None, 2, "'a' is there twice"),
    (["tp.start", "--hosts", "a b"], None, 2, "hosts"),
    (["tp.start", "--hosts", "$(touch canary)"], None, 2, "not allowed"),
    (["tp.start", "--hosts=-oProxyCommand=x"], None, 2, "not allowed"),
    (["tp.start", "--hosts", "a", "--hostfile", "hosts/local.json"], None, 2, "not both"),
    (["tp.start", "--hosts", "no-such-host.invalid"], None, 2, "no IPv4 address found"),
    (
        ["tp.start", "--backend", "nccl"],
        None,
        2,
        "--backend nccl: MLX knows it, and it is not run here",
    ),
    (
        ["tp.start", "--backend", "jaccl"],
        None,
        2,
        "runs one rank on a host: -n 1 at most, or --backend ring",
    ),
    (["tp.start", "--backend", "RING"], None, 2, "choose one of"),
    (["tp.start", "--engine", "vllm"], None, 2, "engine 'vllm' is unknown"),
    (["tp.start", "-n", "0"], None, 2, "-n 0: give a number"),
    (["tp.start", "-n", "-1"], None, 2, "-n -1"),
    (["tp.start", "-n", "x"], None, 2, "-n x: give a number"),
    (["tp.start", "-n", "1.5"], None, 2, "whole number"),
    (["tp.start", "-n", "3"], None, 2, "has 2 hosts"),
    (["tp.start", "-n", "99999999"], None, 2, "from 1 to 1024"),
    (["tp.start", "--env", "A"], None, 2, "'A' is no NAME=value"),
    (["tp.start", "--env", "=x"], None, 2, "no NAME=value"),
    (["tp.start", "--env", "1A=x"], None, 2, "no NAME=value"),
    (["tp.start", "--env", "A B=x"], None, 2, "no NAME=value"),
    (["tp.start", "--env", "$(id)=x"], None, 2, "no NAME=value"),
    (["tp.wait", "--timeout", "soon"], None, 2, "--timeout soon: give a number"),
    (["tp.wait", "--timeout", "0"], None, 2, "--timeout 0: give a number above 0"),
    (["tp.wait", "--timeout", "-5"], None, 2, "--timeout -5"),
    (["tp.start", "--timeout", "soon", "--skip-checks"], None, 2, "--timeout soon"),
    (["tp.wait", "--timeout", "inf"], None, 2, "--timeout inf"),
    (["tp.wait", "--timeout", "nan"], None, 2, "--timeout nan"),
    (["tp.wait", "--timeout", "1e3"], None, 2, "--timeout 1e3"),
    (["tp.stop", "--timeout", "x"], None, 2, "--timeout x"),
    (["tp.stop", "--order", "first"], None, 2, "--order first: choose leader or all"),
    (["tp.logs", "--lines", "many"], None, 2, "--lines many"),
    (["tp.logs", "--rank", "one"], None, 2, "--rank one"),
    (["tp.logs", "--grep", "("], None, 2, "no regular expression"),
    (["tp.preflight", "--skip", "memroy"], None, 2, "--skip memroy: choose from memory"),
    (["tp.start", "--cwd", "a\nb"], None, 2, "give a path on one line"),
    (["tp.start", "--python", "\x07"], None, 2, "give a path on one line"),
    (["tp.start", "--log-dir", "a\nb"], None, 2, "a path on one line"),
    (["tp.start"], ["--port", "0"], 2, "--port 0: write a port number"),
    (["tp.start"], ["--port", "http"], 2, "--port http"),
    (["tp.start"], ["--port=70000"], 2, "--port 70000"),
    (["tp.start", "--no-such"], None, 1, "No idea what '--no-such' is!"),
    (["tp.strat"], None, 1, "No idea what 'tp.strat' is!"),
    (["tp.start", "--timeout"], None, 1, "needed value"),
]


@pytest.mark.parametrize(
    ("words", "args", "code", "says"), WRONG, ids=[" ".join(r[0] + (r[1] or [])) for r in WRONG]
)
def test_one_line(
    local: Local, home: Path, words: list[str], args: list[str] | None, code: int, says: str
) -> None:
    # "any" would use rdma rows where there are some.
    local.patch.setenv("INVOKE_TP_HOSTFILE", "hosts/local.json")
    done = local(shlex.join([*words, *(["--", *args] if args is not None else [])]))
    assert done.code == code
    assert says in done.one_line()
    assert not done.out
    assert not (home / ".mlx-tp").exists()
    assert not list(home.rglob("canary"))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("tp: {timout: 5}", "tp.timout is unknown: did you mean timeout?"),
        ("tp: {timeout: long}", "tp.timeout long: give a number"),
        ("tp: {cooldown: -1}", "tp.cooldown -1"),
        ("tp: {starting_port: 99999}", "tp.starting_port 99999"),
        ("tp: {engines: {mine: {}}}", "tp.engines.mine: give command"),
        ("tp: {engines: {mine: {command: x, redy: y}}}", "tp.engines.mine.redy is unknown"),
        ("tp: {engines: {mine: {command: x, process: '('}}}", "no regular expression"),
        ("tp: {env: [A]}", "'A' is no NAME=value"),
        ("tp: {env: 5}", "tp.env is wrong: give a list of NAME=value"),
        ("tp: {hostfile: nowhere.json}", "nowhere.json: no such hostfile"),
        ("tp: {python: 3.11}", "give a path on one line"),
        ("tp: {backend: 5}", "tp.backend 5: choose one of"),
    ],
)
def test_configuration(local: Local, home: Path, config: str, says: str) -> None:
    local.patch.delenv("INVOKE_TP_HOSTFILE")
    done = local("tp.start", config)
    assert done.code == 2
    assert says in done.one_line()
    assert not (home / ".mlx-tp").exists()


def test_help_and_list(inv: Inv) -> None:
    listed = inv("--list").out
    for name in ("start", "stop", "preflight", "launch", "wait", "health", "status", "logs"):
        assert f"tp.{name} " in listed
    shown = inv("--help", "tp.start").out
    for option in ("--backend", "--hostfile", "--hosts", "-n", "--env", "--skip-checks"):
        assert option in shown
    assert "inv tp.start --hosts mac1,mac2" in shown


def test_from_elsewhere(inv: Inv, tmp_path: Path) -> None:
    """From a subdirectory, and with `inv -r`, the configured cluster is the same."""
    words = ("tp.launch", "--dry-run")
    here = _commands(inv(*words).out)
    assert [line for line in here if "/.models/tiny" in line]
    inv.cwd = Path(__file__).parent
    assert _commands(inv(*words).out) == here
    inv.cwd = tmp_path
    assert _commands(inv("-r", str(Path(__file__).parents[1]), *words).out) == here


def _commands(text: str) -> list[str]:
    # Each run has a number of its own.
    lines = re.sub(r"RANK_OF=\w+", "RANK_OF=", text).splitlines()
    return [line for line in lines if " -m mlx_lm server " in line]
