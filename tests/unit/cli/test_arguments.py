"""Typed options: what Invoke's parser and help are told, and what the body gets."""

from __future__ import annotations

import subprocess
import sys
from copy import deepcopy
from typing import Annotated, Any, Literal

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from invoke.context import Context
from invoke.parser.context import ParserContext
from invoke.tasks import Task

from tasks import ns
from tasks.cli.arguments import Argument
from tasks.cli.options import Checks, OptionsTask, cluster_task, options_task
from tasks.cluster.checks import CHECKS
from tasks.cluster.config.values import Count, Files, Patterns, Seconds, Whole, Wholes
from tasks.cluster.errors import BadInput
from tasks.cluster.text import one_line

GOT: dict[str, Any] = {}


@options_task(help={"count": "how many", "nothing": "no option of it"})
def typed(
    c: Context,
    name: str,
    timeout: Seconds | None = None,
    count: Count = 5,
    ports: Annotated[tuple[int, ...], Wholes("PORTS", 1, 65535)] = (1, 2),
    order: Literal["leader", "all"] = "leader",
    skip: Checks = (),
    exclude: Patterns = (),
    files: Files = ("a", "b"),
    label: str | None = None,
    yes: bool = False,
    colour: bool = True,
) -> None:
    """A task with an option of each type."""
    GOT.update(locals())


def context(of: Task[Any]) -> ParserContext:
    return ParserContext("x", args=of.get_arguments())


def call(**options: Any) -> dict[str, Any]:
    """What the body gets, as Invoke calls it: with each option that its parser knows."""
    GOT.clear()
    typed(Context(), **{**context(typed).as_kwargs, "name": "n", **options})
    return {key: value for key, value in GOT.items() if key not in ("c", "name")}


def test_help() -> None:
    shown = dict(context(typed).help_tuples())
    assert shown == {
        "--name=NAME": "",
        "--timeout=SECONDS": "seconds until a server that has given no token is stopped; while it"
        " reads weights they do not run (default: tp.timeout, 900)",
        "--count=COUNT": "how many (default 5)",
        "--ports=PORTS": " (default 1,2)",
        "--order=leader|all": " (default leader)",
        "--skip=CHECKS": "skip some checks: "
        + ", ".join(f"{check.name} ({check.what})" for check in CHECKS.values()),
        "--exclude=PATTERN": "what to leave out (repeat): a name, or a path from /; an option adds"
        " to it (default: dev.exclude, .git,__pycache__,.venv,*.pyc,.DS_Store)",
        "--files=FILES": " (default a,b)",
        "--label=LABEL": "",
        "--yes": "",
        "--[no-]colour": " (default True)",
    }


def test_help_of_a_short_option() -> None:
    names = [name for name, _ in context(ns["tp.start"]).help_tuples()]
    assert "-n RANKS, --num-ranks=RANKS" in names


def test_help_of_others_is_invokes() -> None:
    def plain(c: Context, name: str = "x", number: int = 5) -> None:
        pass

    names = [name for name, _ in context(Task(plain)).help_tuples()]
    assert names == ["-n STRING, --name=STRING", "-u INT, --number=INT"]


def test_real_help_fits_80_columns() -> None:
    line = [sys.executable, "-m", "invoke", "--help", "tp.start"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    options = done.stdout.partition("Options:\n")[2].splitlines()
    assert [row for row in options if len(row) > 80] == []
    for shown in ("--timeout=SECONDS ", "--env=NAME=VALUE ", "--skip=CHECKS ", "-n RANKS, --num-"):
        assert f"  {shown}" in done.stdout
    assert "STRING" not in done.stdout


def test_every_option_has_its_word() -> None:
    for name in ns.task_names:
        made = ns[name]
        if isinstance(made, OptionsTask):
            for argument in made.get_arguments():
                assert isinstance(argument, Argument)
                assert argument.help, (name, argument)
                assert bool(argument.metavar) == argument.takes_value
                assert len(argument.names[0]) + len(argument.metavar) < 40


def test_what_the_body_gets() -> None:
    assert call() == {
        "timeout": None,
        "count": 5,
        "ports": (1, 2),
        "order": "leader",
        "skip": (),
        "exclude": (),
        "files": ("a", "b"),
        "label": None,
        "yes": False,
        "colour": True,
    }
    got = call(timeout="0.5", count="7", ports="80", skip=["memory,ports", "rdma"], files=["c,d"])
    assert (got["timeout"], got["count"], got["ports"]) == (0.5, 7, (80,))
    assert (got["skip"], got["files"]) == (("memory", "ports", "rdma"), ("c", "d"))
    # From code, numbers and lists as they are.
    assert call(timeout=900, skip="memory")["timeout"] == 900
    assert call(exclude=["*.py,c"])["exclude"] == ("*.py,c",)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"timeout": "soon"}, "--timeout soon: give a number above 0"),
        ({"timeout": ""}, "--timeout is empty: give a value, or leave it out"),
        ({"count": "1.5"}, "--count 1.5: give a whole number of 1 or more"),
        ({"ports": "80,80"}, "--ports 80,80: a number is there twice"),
        ({"order": "ALL"}, "--order ALL: choose leader or all"),
        ({"skip": ["memory,prots"]}, "--skip prots: choose from memory, processes, "),
        ({"label": ""}, "--label is empty"),
    ],
)
def test_wrong(options: dict[str, Any], says: str) -> None:
    """Told when the command line is checked, and where the body is called from code."""
    with pytest.raises(BadInput) as told:
        typed.check(options)
    assert str(told.value.message).startswith(says)
    with pytest.raises(BadInput):
        call(**options)


@given(st.sampled_from(["timeout", "count", "ports", "order", "skip"]), st.text())
def test_any_text(name: str, text: str) -> None:
    value = [text] if name == "skip" else text
    try:
        typed.check({name: value})
    except BadInput as error:
        line = str(error.message)
        assert line == one_line(line)
        assert line.startswith(f"--{name}")


def test_lists_are_repeated_whatever_their_default() -> None:
    kinds = {argument.name: argument.kind for argument in typed.get_arguments()}
    assert kinds == {
        **dict.fromkeys(("name", "timeout", "count", "ports", "order", "label"), str),
        **dict.fromkeys(("skip", "exclude", "files"), list),
        **dict.fromkeys(("yes", "colour"), bool),
    }


def test_arguments_are_made_anew_each_time() -> None:
    """Invoke's own would lose their help; its parser works on copies."""
    first = context(typed)
    copy = deepcopy(first)
    copy.args["skip"].value = "memory"
    assert first.args["skip"].value == []
    assert dict(context(typed).help_tuples()) == dict(first.help_tuples())


def test_options_of_a_users_own_task() -> None:
    """Without annotations: text, a flag, and a list where a shared option of that name is one."""

    @cluster_task("hosts")
    def mine(c, cluster, timeout=None, env=None, loud=False, why="end", n=5, x=()):  # type: ignore[no-untyped-def]
        pass

    kinds = {argument.name: argument.kind for argument in mine.get_arguments()}
    assert kinds == {
        **{"hosts": list, "timeout": str, "env": list, "loud": bool, "why": str},
        **{"n": int, "x": tuple, "json": bool},
    }
    assert mine.typed({"timeout": "900", "n": 7}) == {"timeout": "900", "n": 7}


def test_a_type_that_is_imported_for_types_alone() -> None:
    @cluster_task()
    def mine(c: Context, cluster: Cluster, it: Unknown = None, rank: Rank = 0) -> None:  # type: ignore[name-defined]  # noqa: F821
        pass

    words = {each.name: getattr(each, "metavar", None) for each in mine.get_arguments()}
    assert words == {"it": "IT", "rank": "RANK", "json": ""}


Rank = Annotated[int, Whole("RANK", 0, 1023)]
