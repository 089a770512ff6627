"""What one command knows and has: its cluster, connections, locks, audit lines and signals."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from invoke.config import Config
from invoke.context import Context
from invoke.tasks import Call, Task

from . import cli
from .cli.signals import Signals

if TYPE_CHECKING:
    from .cli.waiting import Waiting
    from .cluster.cluster import Cluster, Site
    from .cluster.config.hostfile import Host
    from .cluster.facts.snapshot import Snapshot
    from .cluster.server.audit_log import AuditWriter
    from .cluster.server.lock import LockClient, Locks
    from .cluster.ssh.node import Node
    from .cluster.ssh.nodes import Connections

Body = Callable[..., object]
Options = Mapping[str, Any]


class ClusterMemory:
    """What need not be read again while the lock is ours: nobody else changes it meanwhile.

    `reading` is the last snapshot and when it was begun, `started` the run of this command. Who
    acts himself forgets what is true no more.
    """

    reading: tuple[float, Snapshot] | None = None
    started: str | None = None
    last: Snapshot | None = None  # as it was before this command's start
    # By the token that this command has waited for: the model's name, and the seconds it took.
    proof: tuple[str, float] | None = None

    def forget(self) -> None:
        self.reading, self.started, self.proof = None, None, None


class SessionCall(Call):
    """A call of an executor of ours: its task is given the session.

    `above` is the call that it hangs on, `asked` the one that was asked for, `passed` what its own
    hooks get. Its cluster is built by `cluster_options`, its own over those above.
    """

    def __init__(
        self,
        task: Task[Body],
        called_as: str | None = None,
        kwargs: dict[str, object] | None = None,
        *,
        session: Session,
        above: SessionCall | None,
        cluster_options: Options,
    ) -> None:
        super().__init__(task, called_as, kwargs=kwargs)
        self.session = session
        self.asked: SessionCall = above.asked if above else self
        self.passed: Options = {**(above.passed if above else {}), **self.kwargs}
        self.cluster_options = cluster_options

    def make_context(self, config: Config) -> Context:
        context = super().make_context(config)
        context._set(session=self.session, is_asked=self.asked is self)
        self.session.enter(self, context)
        return context

    def beside(self, task: Task[Body]) -> SessionCall:
        """A call of another task for the same asked one."""
        return SessionCall(
            task, session=self.session, above=self, cluster_options=self.cluster_options
        )


class Session:
    """One per executor; it ends with the command, which no module keeps anything of.

    One that runs within another (`executor.run` in a task) shares with it what is the process's:
    connections, what is known under their locks, signals, and which notes were said.
    """

    context: Context
    call: SessionCall | None = None
    dry = False

    def __init__(self, arguments: Sequence[str] = (), outer: Session | None = None) -> None:
        self.arguments = arguments
        self.outer = outer
        self.phases: dict[str, float] = {}
        self.noted: dict[str, str] = {}
        self.signals: Signals = outer.signals if outer else Signals()
        self._said: set[str] = outer._said if outer else set()
        self._known: WeakKeyDictionary[LockClient, ClusterMemory] = (
            outer._known if outer else WeakKeyDictionary()
        )
        self._clusters: dict[str, tuple[object, Cluster]] = {}

    # Made when they are first asked for: most commands want none of them, nor their imports.

    @cached_property
    def connections(self) -> Connections:
        from .cluster.ssh.nodes import Connections

        if self.outer:
            return self.outer.connections
        made = Connections()
        made.wait = self.waiting
        return made

    @cached_property
    def waiting(self) -> Waiting:
        """Says what is waited for, where that takes long."""
        from .cli.waiting import Waiting

        return self.outer.waiting if self.outer else Waiting()

    @cached_property
    def lock(self) -> Locks:
        """The locks that this command has: `hold`, `held`, `release`."""
        from .cluster.server.lock import Locks

        return Locks(self.signals.patience)

    @cached_property
    def audit(self) -> AuditWriter:
        """Writes to the nodes what was done: `recorded`, `record`."""
        from .cluster.server.audit_log import AuditWriter

        return AuditWriter()

    def known(self, cluster: Cluster) -> ClusterMemory:
        """What this command knows of the cluster while it has its lock; nothing is kept without."""
        from .cluster.server import lock

        client = lock.client(cluster)
        return self._known.setdefault(client, ClusterMemory()) if client else ClusterMemory()

    @property
    def settings(self) -> dict[str, Any]:
        """`tp` of the configuration, as the task that runs has it."""
        return dict(self.context.config.get("tp", {}))

    @property
    def state_dir(self) -> str:
        """Where the nodes keep their state, for tasks that know no cluster."""
        from .cluster import cluster

        return cluster.state_dir(self.settings)

    @property
    def asked(self) -> SessionCall | None:
        """The call of the command line that all that runs now is for."""
        return self.outer.asked if self.outer else self.call and self.call.asked

    @property
    def is_asked(self) -> bool:
        """Whether the task that runs was asked for: what it finds is the result, on stdout."""
        return bool(getattr(self.context, "is_asked", False))

    def nodes(self, hosts: Sequence[Host]) -> list[Node]:
        """The nodes of `hosts`, for tasks that know no cluster."""
        from .cluster import cluster

        self.connections.known = partial(cluster.known_hosts, self.settings)
        return self.connections.of(hosts, cluster.ssh_config(self.settings))

    def site(self, hosts: Sequence[Host]) -> Site:
        """The cluster of the task that runs, on `hosts`, for tasks that run no ranks."""
        from .cluster import cluster

        options = self.call.cluster_options if self.call else {}
        return cluster.site(self.settings, options.get("cluster"), self.nodes(hosts))

    def check(self) -> None:
        """Raise BadInput for settings that a task needs although it knows no cluster."""
        self.nodes(())

    def cluster(self, options: Options) -> Cluster:
        """The cluster of these options: built once for an asked task, unless files change."""
        given = {key: value for key, value in options.items() if value not in (None, [], "")}
        key = repr((sorted(given.items()), self.settings))
        stamp, made = self._clusters.get(key, (None, None))
        if made is None or stamp != _stamp(made.source):
            made = self.build(**given)
            self._clusters[key] = _stamp(made.source), made
        return made

    def build(self, whole: Sequence[str] | None = None, **options: Any) -> Cluster:
        """A cluster that is not kept; `whole` are all of the server's arguments."""
        from .cluster import cluster

        args = self.arguments if whole is None else whole
        made = cluster.build(
            self.settings, args, whole is not None, connections=self.connections, **options
        )
        for note in made.notes:
            if note not in self._said:
                self._said.add(note)
                self.say(note)
        return made

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Within it a part of the command is done; `phases` has the seconds that each took."""
        begun = time.monotonic()
        try:
            with self.waiting.part(name):
                yield
        finally:
            self.phases[name] = self.phases.get(name, 0) + time.monotonic() - begun

    def note(self, **facts: str) -> None:
        """Let later hooks know what a task has found out: `note(run="1f")` is MLX_TP_RUN."""
        self.noted.update({f"MLX_TP_{name.upper()}": value for name, value in facts.items()})
        if self.outer:
            self.outer.note(**facts)

    def say(self, text: str) -> None:
        """A line of narration, on stderr."""
        cli.screen.say(text)

    def out(self, text: str) -> None:
        """A line of the result, on stdout."""
        cli.screen.out(text)

    def enter(self, call: SessionCall, context: Context) -> None:
        """Go on to the next call; an asked task builds anew what one before may have changed."""
        if self.call is None or call.asked is not self.call.asked:
            self._clusters.clear()
        self.call, self.context = call, context

    def cluster_options(self, task: Task[Body], options: Options) -> Options | None:
        """Those of the call that runs; None where a task is called as a function."""
        call = self.call
        is_it = call is not None and call.task is task and call.kwargs == options
        return call.cluster_options if call is not None and is_it else None

    @contextmanager
    def at_work(self, context: Context, is_dry: bool) -> Iterator[None]:
        """For a task's body: signals end it in an orderly way, and `dry` is as it was asked for."""
        before, self.dry = self.dry, is_dry
        try:
            with self.on(context), self.signals.watched():
                yield
        finally:
            self.dry = before

    @contextmanager
    def on(self, context: Context) -> Iterator[None]:
        """Within it the configuration is that of `context`."""
        before = getattr(self, "context", context)
        self.context = context
        try:
            yield
        finally:
            self.context = before

    @contextmanager
    def running(self) -> Iterator[None]:
        """The life of the command."""
        token = _running.set(self)
        try:
            yield
        finally:
            _running.reset(token)
            self.close()

    def close(self) -> None:
        """Give back the locks, wait for the audit lines, close the connections."""
        made = vars(self)
        with ExitStack() as last:
            if "connections" in made and not self.outer:
                last.callback(self.connections.close)
            if "audit" in made:
                last.callback(self._flush)
            if "lock" in made:
                last.callback(self.lock.close)

    def _flush(self) -> None:
        from .cluster.server.audit_log import WAIT

        for node, why in self.audit.close(self.signals.patience(WAIT)).items():
            print(f"warn: {node}: no line in its audit log: {why}", file=sys.stderr)


# `executor.run` is given a configuration and no context; a task may be called with one of its own.
_running: ContextVar[Session | None] = ContextVar("session", default=None)


def of(context: Context) -> Session | None:
    """The session of a context, else of the command that runs."""
    found = getattr(context, "session", None)
    return found if isinstance(found, Session) else running()


def running() -> Session | None:
    """The session of the command that runs in this thread."""
    return _running.get()


def _stamp(source: str) -> object:
    """What changes when a hostfile does; None for what is no file."""
    try:
        found = Path(source).expanduser().stat()
    except (OSError, ValueError):
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
