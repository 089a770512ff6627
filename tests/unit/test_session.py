"""What one command knows and has, and that it ends with the command."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from invoke.collection import Collection
from invoke.config import Config
from invoke.context import Context
from invoke.program import Program
from invoke.tasks import Task, call, task

from tasks import ns, tp
from tasks.cli import executor
from tasks.cli.executor import Executor
from tasks.cli.options import SERVER_OPTIONS, TARGET_OPTIONS, cluster_task
from tasks.cli.signals import Signalled
from tasks.cluster import cluster
from tasks.cluster.errors import CheckFailed
from tasks.cluster.server import audit_log, lock
from tasks.cluster.ssh import nodes
from tasks.session import Session, running

ROOT = Path(__file__).parents[2]
Builds = list[dict[str, Any]]


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> Builds:
    """The options of each cluster that is built."""
    build: Any = cluster.build
    made: Builds = []

    def counted(*args: Any, connections: Any = None, **options: Any) -> Any:
        made.append(options)
        return build(*args, connections=connections, **options)

    monkeypatch.setattr(cluster, "build", counted)
    return made


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """`tp` of a cluster of this machine, with files of its own."""
    hosts = [{"ssh": "127.0.0.1", "ips": ["127.0.0.1"]}, {"ssh": "mac2", "ips": ["10.0.0.2"]}]
    file = tmp_path / "hosts.json"
    file.write_text(json.dumps({"backend": "ring", "engine": "mlx-lm", "hosts": hosts}))
    return {"hostfile": str(file), "state_dir": str(tmp_path / "state")}


@pytest.fixture
def execute(settings: dict[str, Any]) -> Callable[..., None]:
    """Runs the last of the tasks by its name, as `inv` does, or all that `names` say."""

    def execute(*tasks: Task[Any], names: tuple[str, ...] = (), **options: Any) -> None:
        ours = Executor(Collection(*tasks), Config({"tp": settings, **options.pop("config", {})}))
        ours.execute(*(names or [(tasks[-1].name, options)]))

    return execute


@pytest.fixture
def inv(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """Runs `inv` in this process, on a cluster of this machine alone; its exit status."""
    hosts = [{"ssh": "127.0.0.1", "ips": ["127.0.0.1"]}] * 2
    Path(settings["hostfile"]).write_text(json.dumps({"backend": "ring", "hosts": hosts}))

    def run(*words: str, **config: Any) -> int:
        file = tmp_path / "config.json"
        file.write_text(json.dumps({"tp": settings, **config}))
        line = ["inv", "-f", str(file), *words, "--", "--model", "M"]
        monkeypatch.setattr(sys, "argv", line)
        try:
            Program(namespace=ns, executor_class=Executor, name="inv").run(line)
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    return run


DRY = ("--dry-run", "--skip-checks")
START = ("tp.start", *DRY)


@pytest.mark.parametrize(
    "words",
    [
        START,
        (*START, "-n", "2", "--backend", "ring", "--lock-wait", "5", "--env", "A=b"),
        (*START, "--hosts", "127.0.0.1", "--keep-logs", "1", "--log-dir", "/tmp/x"),
        ("tp.stop", "--dry-run"),
        ("tp.preflight", "--skip-checks"),
        ("tp.status",),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("hooks", [{}, {"pre": ["true"], "post": ["true"], "failed": ["true"]}])
def test_one_build(
    inv: Callable[..., int], builds: Builds, words: tuple[str, ...], hooks: dict[str, list[str]]
) -> None:
    """For the asked task, its hooks and those of the configuration."""
    names = dict.fromkeys(["tp.start", "tp.preflight", "tp.health", "tp.stop"], hooks)
    assert inv(*words, hooks=names if hooks else {}) == 0
    assert len(builds) == 1


def test_a_restart_builds_what_it_reads_by_and_what_it_starts(
    inv: Callable[..., int], builds: Builds
) -> None:
    """The first one is kept; without a record there is no second."""
    assert inv("tp.restart", "--dry-run") == 3
    assert len(builds) == 1


def test_each_asked_task_builds_its_own(inv: Callable[..., int], builds: Builds) -> None:
    """One may write the hostfile that the next one reads."""
    assert inv("tp.launch", "--dry-run", "tp.stop", "--dry-run") == 0
    assert len(builds) == 2


def test_a_call_that_overrides_builds_another(execute: Any, builds: Builds) -> None:
    """`call(task, x=...)`: for that task and its hooks; the others have the asked one's."""
    seen: dict[str, Any] = {}

    def made(name: str, *shared: str, **hooks: Any) -> Task[Any]:
        def body(c: Context, cluster: Any) -> None:
            seen[name] = cluster

        return cluster_task(*shared, name=name, **hooks)(body)

    deep, other = made("deep", *TARGET_OPTIONS), made("other", *TARGET_OPTIONS)
    inner = made("inner", *SERVER_OPTIONS, pre=[deep])
    execute(made("main", *SERVER_OPTIONS, pre=[call(inner, backend="any"), other]), env=["A=b"])
    assert [each.get("backend") for each in builds] == ["any", None]
    assert seen["deep"] is seen["inner"]
    assert seen["other"] is seen["main"]
    assert seen["deep"] is not seen["main"]
    # What a hook does not take itself counts for it all the same.
    assert seen["other"].env_names == ["A"]


def test_all_hosts_are_all_hosts(execute: Any) -> None:
    """A task that takes no --num-ranks (as tp.stop) works on every host, wherever it hangs."""
    hosts: dict[str, int] = {}

    @cluster_task(*TARGET_OPTIONS)
    def every(c: Context, cluster: Any) -> None:
        hosts["every"] = len(cluster.nodes)

    @cluster_task(*SERVER_OPTIONS, pre=[every])
    def main(c: Context, cluster: Any) -> None:
        hosts["main"] = len(cluster.nodes)

    execute(main, num_ranks="1")
    assert hosts == {"every": 2, "main": 1}
    assert "num_ranks" not in tp.stop.shared


@pytest.mark.parametrize("name", ["hosts.json", "other.json"])
def test_what_has_changed_is_built_anew(
    execute: Any, builds: Builds, settings: dict[str, Any], tmp_path: Path, name: str
) -> None:
    """A hook may write the hostfile, or name another one."""
    seen: list[int] = []

    @cluster_task(*TARGET_OPTIONS)
    def look(c: Context, cluster: Any) -> None:
        seen.append(len(cluster.nodes))

    @task(pre=[look])
    def change(c: Context) -> None:
        data = json.loads(Path(settings["hostfile"]).read_text())
        (tmp_path / name).write_text(json.dumps({**data, "hosts": data["hosts"][:1]}))
        c.config.tp.hostfile = str(tmp_path / name)

    execute(cluster_task(*TARGET_OPTIONS, name="main", pre=[change])(lambda c, cluster: look(c)))
    assert seen == [2, 1]
    assert len(builds) == 2


def test_a_function_has_its_own_options(execute: Any) -> None:
    """Called in a body, a task works on the configured cluster, as Invoke has it."""
    seen: list[int] = []

    @cluster_task(*SERVER_OPTIONS)
    def look(c: Context, cluster: Any) -> None:
        seen.append(len(cluster.nodes))

    @cluster_task(*SERVER_OPTIONS)
    def main(session: Session, cluster: Any) -> None:
        look(session)
        look(session.context, hosts=["127.0.0.1"])
        look(Context(session.context.config))

    execute(main, num_ranks="1")
    assert seen == [2, 1, 2]


def test_bodies_take_a_context_or_a_session(execute: Any) -> None:
    given: list[Any] = []

    @cluster_task(*TARGET_OPTIONS)
    def ours(session: Session, cluster: Any, dry_run: bool = False) -> None:
        given.append((session, session.dry, session.is_asked))

    @cluster_task(*TARGET_OPTIONS)
    def theirs(ctx: Context, cluster: Any) -> None:
        given.append(ctx)

    @task(pre=[call(ours, dry_run=True), theirs])
    def plain(c: Context) -> None:
        ours(c)
        given.append(running())

    execute(plain)
    (session, *hook), context, (again, *called), now = given
    assert isinstance(context, Context)
    assert session is again is now is context.session
    assert hook == [True, False]
    assert called == [False, True]
    assert running() is None


def test_dry_is_of_those_that_know_it(execute: Any) -> None:
    """`inv -R`: a task without --dry-run runs, as it always has."""
    dry: list[bool] = []

    @cluster_task(*TARGET_OPTIONS)
    def without(session: Session, cluster: Any) -> None:
        dry.append(session.dry)

    @cluster_task(*TARGET_OPTIONS, pre=[without])
    def main(session: Session, cluster: Any, dry_run: bool = False) -> None:
        without(session)
        dry.append(session.dry)

    execute(main, config={"run": {"dry": True}})
    assert dry == [False, False, True]


@pytest.mark.parametrize("error", [None, CheckFailed("x"), KeyboardInterrupt(), RuntimeError("x")])
def test_the_end(execute: Any, monkeypatch: pytest.MonkeyPatch, error: Any) -> None:
    """Locks, audit lines, connections: in this order, whatever has happened before and in it."""
    ended: list[str] = []

    def ends(name: str) -> Callable[..., Any]:
        def end(self: Any, *_: float) -> Any:
            ended.append(name)
            if error:
                raise RuntimeError(name)
            return {}

        return end

    monkeypatch.setattr(lock.Locks, "close", ends("lock"))
    monkeypatch.setattr(audit_log.AuditWriter, "close", ends("audit"))
    monkeypatch.setattr(nodes.Connections, "close", ends("connections"))

    @cluster_task(*TARGET_OPTIONS)
    def main(session: Session, cluster: Any) -> None:
        assert session.lock
        assert session.audit
        if error:
            raise error

    if error:
        with pytest.raises(RuntimeError, match="connections"):
            execute(main)
    else:
        execute(main)
    assert ended == ["lock", "audit", "connections"]
    assert running() is None


def test_nothing_is_made_for_its_end(execute: Any) -> None:
    found: list[Session] = []

    @task
    def main(c: Context) -> None:
        found.append(c.session)

    execute(main)
    assert {"lock", "audit", "connections"} & set(vars(found[0])) == set()


@pytest.fixture
def local(settings: dict[str, Any]) -> Iterator[tuple[Session, cluster.Cluster]]:
    """A session whose cluster has a leader to lock: this machine."""
    session = Session()
    session.context = Context(Config({"tp": settings}))
    yield session, session.cluster({"hosts": ["127.0.0.1"]})
    session.close()


def test_known_under_the_lock_alone(local: tuple[Session, cluster.Cluster]) -> None:
    session, made = local
    session.known(made).started = "1f"
    assert not session.known(made).started
    session.lock.hold(made, "a test", print)
    session.lock.hold(made, "a test", print)
    session.known(made).started = "1f"
    session.lock.release(made)
    assert session.known(made).started == "1f"
    session.known(made).forget()
    assert not session.known(made).started
    session.known(made).started = "1f"
    session.lock.release(made)
    session.lock.release(made)  # one too many is none
    session.lock.hold(made, "a test", print)
    assert not session.known(made).started


def test_the_lock_ends_with_the_session(
    local: tuple[Session, cluster.Cluster], settings: dict[str, Any]
) -> None:
    session, made = local
    folder = Path(settings["state_dir"]) / "default" / "lock"
    session.lock.hold(made, "a test", print)
    session.lock.hold(made, "a test", print)
    assert folder.is_dir()
    session.close()
    assert not folder.exists()


def test_one_within_another(execute: Any, settings: dict[str, Any]) -> None:
    """`executor.run` shares connections, lock and signals, and notes for the outer's hooks."""
    folder = Path(settings["state_dir"]) / "default" / "lock"
    seen: dict[str, Any] = {}

    @cluster_task(*TARGET_OPTIONS)
    def inner(session: Session, cluster: Any) -> None:
        seen.update(inner=session, node=cluster.leader, noted=dict(session.noted))
        session.lock.hold(cluster, "inner", print)
        session.note(run="2f")
        assert session.known(cluster).started == "1f"
        assert session.signals is seen["outer"].signals
        raise CheckFailed("inner")

    @cluster_task(*TARGET_OPTIONS)
    def outer(session: Session, cluster: Any) -> None:
        seen["outer"] = session
        session.note(run="1f")
        session.lock.hold(cluster, "outer", print)
        session.known(cluster).started = "1f"
        with pytest.raises(CheckFailed):
            executor.run(session.context.config, inner)
        assert seen["node"] is cluster.leader
        assert seen["inner"] is not session
        assert seen["noted"] == {}
        assert session.noted == {"MLX_TP_RUN": "2f"}
        assert folder.is_dir()
        assert session.nodes([cluster.leader.host]) == [cluster.leader]

    execute(outer, hosts=["127.0.0.1"])
    assert not folder.exists()


def test_notes_are_said_once(settings: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    outer = Session()
    for session in (outer, Session(outer=outer)):
        session.context = Context(Config({"tp": settings}))
        for _ in range(2):
            session.build(hosts=["localhost"])
    assert capsys.readouterr().err.count("no ips given") == 1


def test_signals_within_one_another() -> None:
    """The first one ends the work; what the outer session then cleans up no second one ends."""
    outer = Session()
    inner = Session(outer=outer)
    with outer.signals.watched():
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(Signalled) as first, inner.signals.watched():
            os.kill(os.getpid(), signal.SIGTERM)
        assert first.value.number == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGTERM)
        assert not outer.signals.again(0, lambda: None)
        assert outer.signals.again(0, lambda: os.kill(os.getpid(), signal.SIGINT))
        assert signal.getsignal(signal.SIGTERM) == before
        del first  # the run has ended: the next one can be ended anew


def test_without_a_session(settings: dict[str, Any]) -> None:
    """Code of its own: each cluster has connections that it can close, and may share them."""
    shared = nodes.Connections()
    one, two, alone = (
        cluster.build(settings, hosts=["127.0.0.1"], connections=each)
        for each in (shared, shared, None)
    )
    assert one.leader is two.leader is not alone.leader
    folder = Path(settings["state_dir"]) / "default" / "lock"
    with lock.held(one, "a test", print), lock.held(two, "a test", print):
        assert folder.is_dir()
        with pytest.raises(lock.LockHeld), lock.held(alone, "a test", print):
            pass
    assert not folder.exists()
    one.close()
    with pytest.deprecated_call():
        nodes.close()


def test_no_module_keeps_state() -> None:
    """Nothing is assigned through `global`; an empty container at the top is to be filled."""
    found = []
    for path in sorted((ROOT / "tasks").rglob("*.py")):
        text, name = path.read_text(), str(path.relative_to(ROOT / "tasks"))
        found += [name for _ in re.finditer(r"^ *global ", text, re.MULTILINE)]
        tree = ast.parse(text)
        for each in tree.body:
            value = each.value if isinstance(each, (ast.Assign, ast.AnnAssign)) else None
            if value is not None and ast.unparse(value) in ("{}", "[]", "set()", "dict()"):
                found.append(f"{name}: {ast.unparse(each)}")
    # What users register is a table, as the checks themselves are.
    assert found == ["cluster/checks/registry.py: CHECKS: dict[str, Check] = {}"]
