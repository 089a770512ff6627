"""The executor: hooks inherit options, what follows `--` stays exact, Ctrl-C ends with 130."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from conftest import DEADLINE, ROOT
from hypothesis import given
from hypothesis import strategies as st
from invoke.collection import Collection
from invoke.config import Config
from invoke.context import Context
from invoke.tasks import Call, Task, call, task

from tasks.cli import executor
from tasks.cli.executor import Executor, server_arguments
from tasks.cli.options import cluster_task
from tasks.cluster.errors import Interrupted

Ran = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def ran() -> Ran:
    """Which tasks ran, with which options, in order."""
    return []


@pytest.fixture
def make(ran: Ran) -> Callable[..., Task[Any]]:
    """Makes a task with options and defaults `given` and hooks; it notes that it ran."""

    def make(name: str, given: str = "", fails: bool = False, **hooks: Any) -> Task[Any]:
        names: dict[str, Any] = {"ran": ran}
        body = f"raise RuntimeError({name!r})" if fails else "pass"
        exec(
            f"def {name}(c{given and ', ' + given}):\n"
            f"    ran.append(({name!r}, {{k: v for k, v in locals().items() if k != 'c'}}))\n"
            f"    {body}\n",
            names,
        )
        made: Any = task(names[name], **hooks)
        return cast("Task[Any]", made)

    return make


def execute(*tasks: Task[Any], call: str | None = None, **options: Any) -> dict[Task[Any], Any]:
    """Run the last of `tasks` by name with `options`, as `inv` does."""
    name = call or tasks[-1].name
    result: dict[Task[Any], Any] = Executor(Collection(*tasks), Config()).execute((name, options))
    return result


def test_hooks_inherit(make: Callable[..., Task[Any]], ran: Ran) -> None:
    """Same-named options, given or default, to pre and post hooks and to hooks of hooks."""
    deep = make("deep", "a=1, b=2, own=3")
    before = make("before", "a=1", pre=[deep])
    after = make("after", "b=2, c_=4", post=[make("last", "a=1, c_=4")])
    execute(make("main", "a=1, b=2", pre=[before], post=[after]), a="A")
    assert ran == [
        ("deep", {"a": "A", "b": 2, "own": 3}),
        ("before", {"a": "A"}),
        ("main", {"a": "A", "b": 2}),
        ("after", {"b": 2, "c_": 4}),
        ("last", {"a": "A", "c_": 4}),
    ]


def test_a_hook_without_the_option(make: Callable[..., Task[Any]], ran: Ran) -> None:
    """It gets none, but hands it on to its own hooks."""
    plain = make("plain", pre=[make("deep", "a=1")])
    execute(make("main", "a=1", pre=[plain]), a=5)
    assert ran == [("deep", {"a": 5}), ("plain", {}), ("main", {"a": 5})]


def test_call_wins(make: Callable[..., Task[Any]], ran: Ran) -> None:
    """`call(task, x=...)` over the inherited one, for the hooks below it as well."""
    deep = make("deep", "a=1, b=2")
    before = make("before", "a=1, b=2", pre=[deep])
    execute(make("main", "a=1, b=2", pre=[call(before, a="C")]), a="A", b="B")
    assert ran == [
        ("deep", {"a": "C", "b": "B"}),
        ("before", {"a": "C", "b": "B"}),
        ("main", {"a": "A", "b": "B"}),
    ]


def test_call_by_position(make: Callable[..., Task[Any]], ran: Ran) -> None:
    before = make("before", "a=1, b=2", pre=[make("deep", "a=1")])
    execute(make("main", "a=1, b=2", pre=[call(before, "C")]), a="A", b="B")
    assert ran == [
        ("deep", {"a": "C"}),
        ("before", {"a": "C", "b": "B"}),
        ("main", {"a": "A", "b": "B"}),
    ]


def test_required(make: Callable[..., Task[Any]], ran: Ran) -> None:
    """An option without default is inherited; without one to inherit, Python says so."""
    before = make("before", "a")
    execute(make("main", "a=1", pre=[before]), a="A")
    assert ran == [("before", {"a": "A"}), ("main", {"a": "A"})]
    with pytest.raises(TypeError, match="'a'"):
        execute(make("other", pre=[before]))


def test_dedupe(make: Callable[..., Task[Any]], ran: Ran) -> None:
    """A hook of two tasks runs once, though one names the default and the other leaves it out."""
    check = make("check", "a=1, b=None")
    first = make("first", "a=1", pre=[check])
    second = make("second", "b=None", pre=[call(check, a=1)])
    main = make("main", pre=[check, first, second])
    execute(main)
    assert [name for name, _ in ran] == ["check", "first", "second", "main"]


def test_no_dedupe_of_other_options(make: Callable[..., Task[Any]], ran: Ran) -> None:
    check = make("check", "a=1")
    execute(make("main", "a=1", pre=[check, call(check, a=2)]), a=3)
    assert ran == [("check", {"a": 3}), ("check", {"a": 2}), ("main", {"a": 3})]


def test_no_dedupe_when_not_wanted(make: Callable[..., Task[Any]], ran: Ran) -> None:
    check = make("check")
    main = make("main", pre=[check, check])
    Executor(Collection(main), Config(overrides={"tasks": {"dedupe": False}})).execute("main")
    assert [name for name, _ in ran] == ["check", "check", "main"]


@pytest.mark.parametrize("failing", ["before", "main"])
def test_what_follows_a_failure_does_not_run(
    make: Callable[..., Task[Any]], ran: Ran, failing: str
) -> None:
    before = make("before", fails=failing == "before")
    main = make("main", fails=failing == "main", pre=[before], post=[make("after")])
    with pytest.raises(RuntimeError, match=failing):
        execute(main)
    assert [name for name, _ in ran] == ["before", "main"][: 1 if failing == "before" else 2]


def test_results_and_names(make: Callable[..., Task[Any]], ran: Ran) -> None:
    """As Invoke's: a dict of results; the task called by an alias is the task."""
    before = make("before", "a=1")
    main = make("main", "a=1", pre=[before], aliases=["other"])
    assert execute(main, call="other", a=2) == {before: None, main: None}
    assert ran == [("before", {"a": 2}), ("main", {"a": 2})]


def test_run(make: Callable[..., Task[Any]], ran: Ran) -> None:
    """From code: hooks and all, once, with the options given and the configuration."""
    check = make("check", "a=1")
    main = make("main", "a=1, b=2", pre=[check, check], post=[make("after", "b=2")])
    executor.run(Config(), main, a="A")
    assert ran == [("check", {"a": "A"}), ("main", {"a": "A", "b": 2}), ("after", {"b": 2})]


def test_run_configuration() -> None:
    seen = []

    def main(c: Context) -> None:
        seen.append(c.config.some.key)

    executor.run(Config(overrides={"some": {"key": 5}}), Task(main))
    assert seen == [5]


def test_interrupt_in_code() -> None:
    def main(c: Context) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted) as error:
        execute(Task(main))
    assert error.value.code == 130


def test_expanding_changes_no_task(make: Callable[..., Task[Any]]) -> None:
    """Calls are made anew: options of one run are not those of the next."""
    given = call(make("before", "a=1"), a=2)
    main = make("main", "a=1", pre=[given])
    expand = Executor(Collection(main), Config()).expand_calls
    assert [each.kwargs for each in expand([Call(main, kwargs={"a": 9})])] == [{"a": 2}, {"a": 9}]
    assert [each.kwargs for each in expand([Call(main)])] == [{"a": 2}, {"a": 1}]
    assert given.kwargs == {"a": 2}
    assert [*main.pre] == [given]


def test_tasks_of_one_name(ran: Ran) -> None:
    """Of two namespaces, each with a task `status` made by `cluster_task`, both run."""

    def status(kind: str) -> Task[Any]:
        def status(c: Context, it: str) -> None:
            ran.append((kind, {}))

        return cluster_task(of=lambda c: kind)(status)

    both = Collection(tp=Collection(status("tp")), rdma=Collection(status("rdma")))
    Executor(both, Config()).execute("tp.status", "rdma.status", "tp.status")
    assert ran == [("tp", {}), ("rdma", {})]


EXACT = [
    [],
    [""],
    ["", ""],
    ["a b", " a", "b "],
    ["it's", '"quoted"', "\\", "\\\\n", "`id`", "$HOME", "$(id)"],
    ['{"model": "m", "list": [1, 2]}'],
    ["--", "--port", "--", "8000"],
    ["--list", "--help", "-h", "--hosts", "a,b"],
    ["line\nline\n", "\t", "\r\n"],
    ["*", "~", "a;b", "a|b", "&", ">x", "#"],
    ["é", "模型", "\U0001f600"],
    ["tp.stop"],
]


@pytest.mark.parametrize("args", EXACT, ids=map(repr, EXACT))
def test_server_arguments(args: list[str]) -> None:
    assert server_arguments(["tp.start", "--env", "A=b", "--", *args]) == args


@given(st.lists(st.text().filter(lambda word: word != "--")), st.lists(st.text()))
def test_server_arguments_of_any_words(before: list[str], after: list[str]) -> None:
    assert server_arguments([*before, "--", *after]) == after
    assert server_arguments(before) == []


def test_server_arguments_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["inv", "tp.start", "--", "-x", ""])
    assert server_arguments() == ["-x", ""]
    monkeypatch.setattr(sys, "argv", ["--", "tp.start"])
    assert server_arguments() == []


# A users' own task file, beside a checkout of this project.
TASKS = """
import json, signal, sys, time
from invoke import task
from tasks.executor import server_arguments

# A test may run where its parent ignores Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

@task
def before(c, name="nobody"):
    print(json.dumps(["before", name]))

@task
def after(c, name="nobody"):
    print(json.dumps(["after", name]))

@task(pre=[before], post=[after])
def main(c, name="nobody", fails=False):
    print(json.dumps(["main", name, server_arguments()]))
    if fails:
        raise SystemExit("failed")

@task(post=[after])
def hang(c):
    print(json.dumps(["hang"]), flush=True)
    time.sleep(600)

@task(pre=[hang])
def late(c):
    print(json.dumps(["late"]))
"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a real `inv -c mytasks` in a folder that has no more than a task file."""
    (tmp_path / "mytasks.py").write_text(TASKS)
    (tmp_path / "invoke.yaml").write_text("tasks: {executor_class: tasks.executor.Executor}\n")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("INVOKE_")}
    started = []

    def start(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "invoke", "-c", "mytasks", *words],
            cwd=tmp_path,
            env={**clean, "HOME": str(tmp_path), "PYTHONPATH": path, "PYTHONUTF8": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def end(process: subprocess.Popen[str]) -> tuple[int, list[Any], str]:
    """Exit status, what the tasks said, and stderr."""
    out, err = process.communicate(timeout=DEADLINE)
    return process.returncode, [json.loads(line) for line in out.splitlines()], err


@pytest.mark.parametrize("args", EXACT, ids=map(repr, EXACT))
def test_inv_keeps_arguments(own: Callable[..., subprocess.Popen[str]], args: list[str]) -> None:
    code, said, err = end(own("main", "--name", "x", "--", *args))
    assert (code, err) == (0, "")
    assert said == [["before", "x"], ["main", "x", args], ["after", "x"]]


def test_inv_without_arguments(own: Callable[..., subprocess.Popen[str]]) -> None:
    assert end(own("main"))[:2] == (
        0,
        [["before", "nobody"], ["main", "nobody", []], ["after", "nobody"]],
    )


def test_inv_failure(own: Callable[..., subprocess.Popen[str]]) -> None:
    code, said, err = end(own("main", "--fails"))
    assert (code, err) == (1, "failed\n")
    assert [name for name, *_ in said] == ["before", "main"]


@pytest.mark.parametrize("name", ["hang", "late"])
def test_inv_interrupted(own: Callable[..., subprocess.Popen[str]], name: str) -> None:
    """Ctrl-C ends with 130 and one line; no hook and no task comes after it."""
    process = own(name)
    assert process.stdout
    assert json.loads(process.stdout.readline()) == ["hang"]
    process.send_signal(signal.SIGINT)
    assert end(process) == (130, [], "interrupted\n")
