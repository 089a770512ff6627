"""Hooks of the configuration: shell commands around our tasks, and what they are told."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from conftest import DEADLINE, Inv, own_servers, wait_for
from invoke.collection import Collection
from invoke.config import Config
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import Task, task

from tasks.cli import hooks
from tasks.cli.executor import Executor, run
from tasks.cli.options import TARGET_OPTIONS, cluster_task
from tasks.cluster.errors import ActionFailed, BadInput, CheckFailed
from tasks.session import Session

Names = Callable[[], list[str]]


@pytest.fixture
def said(tmp_path: Path) -> Names:
    """What hooks and tasks have said so far, in order."""
    return lambda: (tmp_path / "said").read_text().split("\n")[:-1]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Task[Any]]:
    """Makes a task that says its name, and raises."""

    def make(name: str, error: BaseException | None = None, **given: Any) -> Task[Any]:
        def body(c: Context, dry_run: bool = False) -> None:
            with (tmp_path / "said").open("a") as file:
                file.write(f"{name}\n")
            if error:
                raise error

        # Invoke takes tasks with one code for the same.
        made: Any = task(body, name=name, klass=hooks._Step, **given)
        return cast("Task[Any]", made)

    return make


@pytest.fixture
def execute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs the last of the tasks by its name, as `inv` does."""
    monkeypatch.chdir(tmp_path)

    def execute(config: dict[str, Any], *tasks: Task[Any], **options: Any) -> None:
        executor = Executor(Collection(*tasks), Config({"hooks": config}))
        executor.execute((tasks[-1].name, options))

    return execute


def says(word: str) -> str:
    return f"echo {word}:$MLX_TP_TASK:$MLX_TP_OUTCOME:$MLX_TP_EXIT >>said"


AROUND = {"pre": [says("pre"), says("pre2")], "post": [says("post")], "failed": [says("failed")]}


def test_around_the_whole_task(execute: Any, make: Any, said: Names) -> None:
    """Before its first pre hook in Python and after its last; those of inner tasks within."""
    main = make("main", pre=[make("before")], post=[inner := make("inner")])
    execute({"main": AROUND, "inner": {"pre": [says("pre")]}}, inner, main)
    assert said() == [
        "pre:main::", "pre2:main::", "before", "main", "pre:inner::", "inner", "post:main:done:0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (CheckFailed("a reason"), "failed:main:failed:3"),
        (Exit(code=7), "failed:main:failed:7"),
        (RuntimeError("x"), "failed:main:failed:1"),
        (KeyboardInterrupt(), "failed:main:interrupted:130"),
    ],
)
def test_a_task_that_fails(
    execute: Any, make: Any, said: Names, error: BaseException, told: str
) -> None:
    with pytest.raises((Exit, RuntimeError)):
        execute({"main": AROUND}, make("main", error))
    assert said() == ["pre:main::", "pre2:main::", "main", told]


def test_a_failure_within(execute: Any, make: Any, said: Names) -> None:
    """It is the failure of every task around it, and a hook that fails then is only told."""
    inner = make("inner", BadInput("wrong"))
    failed = {"failed": ["exit 9", says("failed")]}
    with pytest.raises(BadInput):
        execute({"main": failed, "inner": failed}, inner, make("main", pre=[inner]))
    assert said() == ["inner", "failed:inner:failed:2", "failed:main:failed:2"]


def test_a_pre_hook_that_fails(execute: Any, make: Any, said: Names) -> None:
    config = {"main": {**AROUND, "pre": [says("pre"), "exit 3", says("never")]}}
    with pytest.raises(ActionFailed) as failed:
        execute(config, make("main", pre=[make("before")]))
    assert failed.value.message == "hooks.main.pre[1] ended with status 3: main was not begun"
    assert said() == ["pre:main::"]


def test_a_post_hook_that_fails(execute: Any, make: Any, said: Names) -> None:
    """The task is done: nothing is undone, and it has not failed."""
    with pytest.raises(ActionFailed) as failed:
        execute({"main": {**AROUND, "post": ["exit 1"]}}, make("main"))
    assert failed.value.message == "hooks.main.post[0] ended with status 1: main is done"
    assert said() == ["pre:main::", "pre2:main::", "main"]


def test_dry(execute: Any, make: Any, said: Names, capsys: pytest.CaptureFixture[str]) -> None:
    execute({"main": AROUND}, make("main"), dry_run=True)
    assert said() == ["main"]
    shown = capsys.readouterr().out
    assert f"# here, hooks.main.pre[1]\n{says('pre2')}\n" in shown
    assert "failed" not in shown


def test_skipped(execute: Any, make: Any, said: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(hooks.SKIP, "1")
    execute({"main": AROUND}, make("main"))
    assert said() == ["main"]


def test_the_same_call_twice(execute: Any, make: Any, said: Names) -> None:
    """Invoke runs equal calls once, and so are their hooks."""
    same = make("same")
    execute({"same": AROUND}, same, make("main", pre=[same, same]))
    assert said() == ["pre:same::", "pre2:same::", "same", "post:same:done:0", "main"]


def test_from_code(make: Any, said: Names, execute: Any) -> None:
    """`executor.run` knows our tasks by their full names, and tells failures, too."""
    config = Config({"hooks": {"tp.unlock": {"failed": [says("failed")]}}})
    config.tp = {"hostfile": "/nowhere.json"}
    from tasks import ns

    with pytest.raises(BadInput):
        run(config, ns["tp.unlock"])
    # The cluster itself is wrong: no hook has begun, so that none is told.
    assert not Path("said").exists()


def test_what_a_hook_is_told(execute: Any, said: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the options say of the cluster; nothing of another command's."""
    monkeypatch.setenv("MLX_TP_RUN", "stale")

    @cluster_task(*TARGET_OPTIONS, name="main")
    def main(session: Session, cluster: Any) -> None:
        session.note(run="1f")

    hosts = [{"ssh": f"mac{i}", "ips": [f"10.0.0.{i}"]} for i in (1, 2)]
    args = ["--port", "8123", "--host", "10.0.0.1"]
    file = {"engine": "mlx-lm", "hosts": hosts, "envs": ["KEY=sk-secret"], "args": args}
    Path("hosts.json").write_text(json.dumps(file))
    env = "env | grep ^MLX_TP_ | grep -v -e TIME= -e WHO= | sort >>said; echo >>said"
    execute({"main": {"pre": [env], "post": [env]}}, main, hostfile="hosts.json")
    facts = [
        "MLX_TP_BACKEND=ring", "MLX_TP_ENGINE=mlx-lm", "MLX_TP_HOSTS=mac1,mac2", "MLX_TP_MODEL=",
        "MLX_TP_TASK=main", "MLX_TP_URL=http://10.0.0.1:8123",
    ]  # fmt: skip
    outcome = ["MLX_TP_ERROR=", "MLX_TP_EXIT=0", "MLX_TP_OUTCOME=done", "MLX_TP_RUN=1f"]
    runtime = [line for line in said() if line.startswith("MLX_TP_RUNTIME=")]
    assert said() == [*facts, "", *sorted([*facts, *outcome, *runtime]), ""]


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (5, "hooks in the configuration is wrong: give names of tasks"),
        ({"tp.strat": {}}, "no such task: did you mean tp.start?"),
        ({"xyz": {}}, "no such task: inv --list shows the names"),
        ({"tp.start": ["sk-secret"]}, "hooks.tp.start in the configuration is wrong: give pre"),
        ({"tp.start": {"before": ["x"]}}, "is wrong: give pre, post or failed"),
        ({"tp.start": {"pre": "sk-secret"}}, "hooks.tp.start.pre in the configuration is wrong"),
        ({"tp.start": {"pre": [5]}}, "give a list of shell commands"),
        ({"tp.start": {"post": [" "]}}, "give a list of shell commands"),
        ({"tp.start": {"failed": ["a\0b"]}}, "give a list of shell commands"),
        ({"tp.start": {"pre": None}}, "give a list of shell commands"),
    ],
)
def test_what_is_wrong(config: Any, line: str) -> None:
    found = hooks.wrong(config, ["tp.start", "tp.stop"])
    assert found is not None
    assert line in found
    assert "sk-secret" not in found
    assert hooks.wrong({"tp.stop": {"pre": ["a"], "post": [], "failed": []}}, ["tp.stop"]) is None


def test_for_real(inv: Inv, home: Path) -> None:
    """stdout stays the task's own, and Ctrl-C in a hook ends the command as anywhere."""
    inv.config = own_servers(home / "config.json", home / "model")
    pre = f"echo $MLX_TP_HOSTS; touch {home}/begun; [ ! -e {home}/wait ] || exec sleep 60"
    status = {"pre": [pre], "failed": [f"touch {home}/failed"]}
    config = {**json.loads(inv.config.read_text()), "hooks": {"tp.status": status}}
    inv.config.write_text(json.dumps(config))
    done = inv("tp.status", "--json")
    assert done.json()["state"] == "stopped"
    assert done.err.splitlines()[:2] == ["hooks.tp.status.pre[0]", "127.0.0.1"]
    (home / "begun").unlink()
    (home / "wait").touch()
    process = inv.start("tp.status", start_new_session=True)
    wait_for((home / "begun").exists)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=DEADLINE)
    assert process.returncode == 130
    assert not (home / "failed").exists()
