"""A node: one connection, made when it is first asked something, and scripts run through it.

A node's shell may be zsh, fish or tcsh with a banner, so every script goes to `/bin/sh -s` by
stdin: nothing of it shows in a process list either. A host named `127.0.0.1` or `localhost` is
this machine and runs without SSH.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from io import StringIO, TextIOBase
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, Protocol
from weakref import WeakSet

from invoke.config import Config
from invoke.context import Context
from invoke.exceptions import CommandTimedOut, ThreadException

from .. import shell
from ..config.hostfile import Host
from ..text import said
from . import connection as connections
from . import relay, resolve
from .auth import LoginError
from .background import begin
from .bulk import KEPT, BulkIO, BulkResult, LocalRunner
from .connection import Connection, Way
from .known_hosts import HostKeyError

if TYPE_CHECKING:
    import paramiko

    from ..server.fence import Fence
    from ..server.lock import LockClient

Output = IO[str] | TextIOBase

CONNECT_TIMEOUT = 10  # seconds, for each of: TCP, banner, authentication
SCRIPT_TIMEOUT = 30  # seconds, for a script that only reads
KEEPALIVE = 15  # seconds between keepalives, so that an idle link is not dropped
HEAD = 16384  # characters that are kept of an answer which was longer than is listened to
AT_ONCE = 64  # connections that are being made: of more, some would wait for us into their timeout


# Waits for what was begun on some nodes, by their names; with what makes something of a part.
Wait = Callable[[Mapping[str, "Future[Any]"], "Callable[..., Any] | None"], None]


@dataclass(frozen=True)
class CommandResult:
    """What a node said to a script; `failure` (and `remedy`) tell why it said nothing or not all.

    `status` is the script's exit status, None when it is not known.
    """

    node: str
    out: str = ""
    err: str = ""
    status: int | None = None
    failure: str | None = None
    remedy: str | None = None

    @property
    def ok(self) -> bool:
        return self.failure is None and self.status == 0

    @property
    def why(self) -> str:
        """Why it did not do what it was asked for: what it said, and its exit status."""
        if self.failure:
            return self.failure
        words = said(self.err.strip() or self.out) or "no reason given"
        return f"{words} (exit status {self.status})"


class Input(Protocol):
    """More for a script: `read()` gives what there is, None for not yet, "" for the end."""

    def read(self) -> str | None: ...


class SshConfig:
    """The ssh configuration of connections: `path`, or the user's and the system's."""

    def __init__(self, path: str | None = None) -> None:
        self.path = path

    @property
    def files(self) -> list[Path]:
        """The files that there are, the first one first."""
        users = resolve.home() / ".ssh" / "config"
        paths = [Path(self.path)] if self.path else [users, Path("/etc/ssh/ssh_config")]
        return [path for path in paths if path.is_file()]

    def command(self, host: Host | None = None) -> str:
        """The ssh command that goes the same way."""
        options: dict[str, str | int | None] = {"-F": self.path}
        if host:
            options |= {"-J": host.gateway, "-l": host.user, "-p": host.port}
        words = [str(word) for pair in options.items() if pair[1] for word in pair]
        return " ".join(["ssh", *map(shell.quote, words), *([host.ssh] if host else [])])


class Node:
    """One machine of the cluster; it is connected when it is first asked something.

    `pending` are the scripts of `each` that it has not answered, `locks` those that are kept
    through it, by their state directory, and `fences` the numbers of these; `is_relayed` that its
    sshd forwards no connections; `known` gives the names that there are. Of an answer `room` bytes
    are kept. `wait` is told what `each` has begun, and waits with it.
    """

    _alive: ClassVar[WeakSet[Node]] = WeakSet()  # for `close` below, and goes with it

    def __init__(
        self, host: Host, ssh: SshConfig | None = None, known: Callable[[], Sequence[str]] = tuple
    ) -> None:
        self.host = host
        self.known = known
        self.name = host.ssh
        self.ssh = ssh or SshConfig()
        self.pending: set[Future[Any]] = set()
        self.locks: dict[str, LockClient] = {}
        self.fences: dict[str, Fence] = {}
        self.is_relayed = False
        self.wait: Wait | None = None
        self._alive.add(self)
        self._connection: Connection | None = None
        self._full: list[Connection] = []
        self._refused: tuple[float, CommandResult] | None = None
        self._early: tuple[float, Future[CommandResult | None]] | None = None
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._way: Way | None = None
        self.room = KEPT

    def connect(self) -> None:
        """Begin to connect; the next script waits for that, and tells what went wrong."""
        if not self.is_connected and self._early is None:
            _runner()  # before who called goes on: beside other imports it would take longer
            self._early = time.monotonic(), begin(self._connect)

    def _connect(self) -> CommandResult | None:
        try:
            self._open()
        except _network_errors() as error:
            return self._lost(error)
        return None

    def sh(
        self,
        script: str,
        timeout: float = SCRIPT_TIMEOUT,
        out_stream: Output | None = None,
        encoding: str = "utf-8",
        in_stream: Input | None = None,
        env: Mapping[str, str] | None = None,
    ) -> CommandResult:
        """Run `script` by `/bin/sh`; never raise for what the node or the network does.

        With `in_stream` the script comes from its first `read()`, and more input from later ones.
        `env` is sent with it, of which sshd passes what its AcceptEnv names.
        A node that took long to not connect fails at once for a while: it holds up each step of a
        run only once.
        """
        if self._refused and time.monotonic() < self._refused[0]:
            return self._refused[1]
        early, self._early = self._early, None
        begun, was_connected = early[0] if early else time.monotonic(), self.is_connected
        answer = early and early[1].result()
        answer = answer or self._ask(script, timeout, out_stream, encoding, in_stream, env)
        spent = time.monotonic() - begun
        is_lost = not was_connected and not self.is_connected
        self._refused = (begun + 4 * spent, answer) if is_lost and spent > 5 else None
        return answer

    def _ask(
        self,
        script: str,
        timeout: float,
        out_stream: Output | None,
        encoding: str,
        in_stream: Input | None,
        env: Mapping[str, str] | None,
    ) -> CommandResult:
        def run(runner: Connection | LocalRunner) -> BulkResult:
            return runner.run(
                "/bin/sh -s",
                in_stream=in_stream or StringIO(script),
                hide=out_stream is None or "stderr",
                out_stream=out_stream,
                warn=True,
                timeout=timeout or None,
                encoding=encoding,
                env=env or {},
                room=self.room,
            )

        try:
            result = self._run(run)
        except CommandTimedOut as error:
            if not (out := error.result.stdout):
                self._leave()  # nothing came: the connection may be dead, a new one will show
            return CommandResult(self.name, out, failure=f"no answer within {timeout:g} s")
        except self._errors as error:
            return self._lost(error)
        if result.is_cut:
            much = f"it said more than {self.room // 1024} KiB"
            out, err = result.stdout[:HEAD], result.stderr[:HEAD]
            return CommandResult(self.name, out, err, failure=much)
        if result.exited < 0:
            return CommandResult(self.name, result.stdout, result.stderr, failure="connection lost")
        return CommandResult(self.name, result.stdout, result.stderr, result.exited)

    def socket(self, host: str, port: int) -> paramiko.Channel:
        """A socket to `host:port` as the node sees it, by a relay if need be; raise OSError."""
        try:
            found = None if self.is_relayed else self._forward(host, port)
            return found or self._relay(host, port)
        except OSError:
            raise
        except _network_errors() as error:
            why, _ = explain(error, self.name, self.ssh, self.known)
            raise ConnectionError(f"{self.name}: {why}") from None

    def _forward(self, host: str, port: int) -> paramiko.Channel | None:
        """A channel that sshd joins to the port; None where it forwards none."""
        import paramiko

        transport = self._open().transport
        try:
            return transport.open_channel("direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=5)
        except paramiko.ChannelException as error:
            if error.code != relay.FORBIDDEN:
                raise ConnectionRefusedError(f"{self.name}: {error}") from None
            self.is_relayed = True
            return None

    def _relay(self, host: str, port: int) -> paramiko.Channel:
        import paramiko

        connection, python = self._open(), self.host.python or "python3"
        with suppress(paramiko.ChannelException):
            return relay.channel(connection.transport, python, host, port)
        self._leave(connection)  # its sessions are in use (MaxSessions)
        return relay.channel(self._open().transport, python, host, port)

    @property
    def address(self) -> str:
        """The name or address by which the control machine reaches this node."""
        return "127.0.0.1" if self.host.is_local else self.way.resolved.hostname

    @property
    def login(self) -> tuple[str, str, int]:
        """The name that ssh's configuration may know, the user and the port."""
        found = self.way.resolved
        return found.name, found.user, found.port

    @property
    def way(self) -> Way:
        """How ssh would come to this node; raise BadInput where its configuration is refused."""
        # No cached_property: its lock is one for all nodes before Python 3.12, and none from there.
        with self._asking:
            if self._way is None:
                self._way = connections.way(_hop(self.host), self.ssh.path, self.host.gateway)
            return self._way

    def close(self) -> None:
        for connection in [*self._full, self._connection]:
            if connection is not None:
                with suppress(OSError, EOFError):
                    connection.close()

    def drop(self) -> None:
        """Give up the present connection: what waits for it ends, and the next script makes one."""
        connection = self._connection
        self._leave()
        if connection is not None:
            with suppress(OSError, EOFError):
                connection.close()

    def _run(self, run: Callable[[Connection | LocalRunner], BulkResult]) -> BulkResult:
        if self.host.is_local:
            return run(_local())
        import paramiko

        connection = self._open()

        for pause in (0.05, 0.0):
            # sshd lets a connection have only so many sessions (MaxSessions); nothing ran yet. The
            # last one may be about to end, else another connection has room.
            with suppress(paramiko.ChannelException):
                return run(connection)
            time.sleep(pause)
        self._leave(connection)
        return run(self._open())

    @property
    def _errors(self) -> tuple[type[BaseException], ...]:
        """What a script raises where the network fails; this machine wants no Paramiko for that."""
        return _LOCAL_ERRORS if self.host.is_local else _network_errors()

    def _lost(self, error: BaseException) -> CommandResult:
        self._leave()
        why, remedy = explain(error, self.name, self.ssh, self.known)
        return CommandResult(self.name, failure=why, remedy=remedy)

    def _leave(self, connection: Connection | None = None) -> None:
        """Use a connection (by default the present one) no more."""
        with self._lock:
            if self._connection is not None and connection in (None, self._connection):
                self._full.append(self._connection)
                self._connection = None

    @property
    def is_connected(self) -> bool:
        """Whether a connection is open; this machine needs none."""
        connection = self._connection
        return self.host.is_local or (connection is not None and connection.is_connected)

    def _open(self) -> Connection:
        with self._lock:
            if self._connection is None:
                self._connection = _remote(self.host, self.way, self.ssh)
            connection = self._connection
            if not connection.is_connected:
                with _making:
                    _open(connection)
                every = self.way.resolved.seconds("serveraliveinterval", KEEPALIVE)
                connection.transport.set_keepalive(every)
            return connection


def _open(connection: Connection) -> None:
    try:
        connection.open()
    except BaseException:
        # sshd lets only so many be there that have not logged in (MaxStartups).
        connection.client.close()
        raise


_making = threading.BoundedSemaphore(AT_ONCE)


def no_such_host(name: str, known: Sequence[str] = ()) -> str:
    """A name that nobody resolves, with those of the hostfile: it may be a slip."""
    others = f"; in the hostfile: {', '.join(known)}" if known and name not in known else ""
    return f"no such host: {name}{others}"


def explain(
    error: BaseException, name: str, ssh: SshConfig, known: Callable[[], Sequence[str]] = tuple
) -> tuple[str, str]:
    """A connection's error as (what, what to do) in plain words."""
    import paramiko
    from paramiko.ssh_exception import NoValidConnectionsError

    see = f"see why with: {ssh.command()} -v {name} true"
    if isinstance(error, ThreadException):
        error = error.exceptions[0].value
    if isinstance(error, HostKeyError):
        return error.why, error.remedy
    if isinstance(error, LoginError):
        return error.tried.why, error.tried.remedy(name, see)
    if isinstance(error, TimeoutError) or str(error) in _SILENCE:
        return f"SSH gave no answer within {CONNECT_TIMEOUT} s", see
    if isinstance(error, paramiko.AuthenticationException):
        return "SSH login refused", f"install your key with: ssh-copy-id {name}"
    if isinstance(error, socket.gaierror):
        return no_such_host(name, known()), see
    if isinstance(error, NoValidConnectionsError):
        reasons = {str(getattr(each, "strerror", None) or each) for each in error.errors.values()}
        return f"SSH failed ({', '.join(sorted(reasons))})", see
    return f"SSH failed ({str(error) or type(error).__name__})", see


# What Paramiko says where a node took the connection and then fell silent.
_SILENCE = ("Timeout opening channel.", "Authentication timeout.", "No existing session")


def _network_errors() -> tuple[type[BaseException], ...]:
    import paramiko

    return (*_LOCAL_ERRORS, paramiko.SSHException, HostKeyError, LoginError)


_LOCAL_ERRORS = (OSError, EOFError, ThreadException)


def _local() -> LocalRunner:
    runs = {"shell": "/bin/sh"}
    # Lazy: what the user's own files say of `run` is for his tasks, not for our scripts.
    return LocalRunner(Context(Config(overrides={"run": runs}, lazy=True)))


def _hop(host: Host) -> resolve.Hop:
    """The host as ssh takes it: a name with user or port in it is taken apart."""
    named = resolve.hops(host.ssh, "host")[0]
    return resolve.Hop(named.name, host.user or named.user, host.port or named.port)


@cache
def _runner() -> type[BulkIO]:
    # First, as everywhere here: Fabric begins with a part of it, and would not wait for a thread
    # that is about to import the whole.
    import paramiko  # noqa: F401

    # isort: split
    from fabric.runners import Remote

    # Its warnings (a port that is not open yet) are told, where they matter, by us.
    logging.getLogger("paramiko").addHandler(logging.NullHandler())

    class RemoteRunner(BulkIO, Remote):  # type: ignore[misc]
        def send_start_message(self, command: str) -> None:
            # Paramiko would wait without end for a node that has just gone.
            timer = threading.Timer(CONNECT_TIMEOUT, self.kill)
            timer.daemon = True
            timer.start()
            try:
                super().send_start_message(command)
            finally:
                timer.cancel()

        def kill(self) -> None:
            # A timer calls it, whose thread has nobody to tell that the connection has gone too.
            with suppress(OSError, EOFError):
                super().kill()

        def wait(self) -> None:
            # Invoke looks every 10 ms, which for many nodes is most of what we would do.
            while not self.process_is_finished and not self.has_dead_threads:
                self.channel.status_event.wait(0.2)

    return RemoteRunner


def _remote(host: Host, way: Way, ssh: SshConfig) -> Connection:
    """A Fabric connection along `way` that no file of Fabric's own has a say in."""
    runner = _runner()
    import fabric
    import paramiko

    config = fabric.Config(
        overrides={"runners": {"remote": runner}}, ssh_config=paramiko.SSHConfig(), lazy=True
    )
    return connections.connection(way, config, ssh.command(host), CONNECT_TIMEOUT)
