"""Options and configuration -> the cluster that a task works on."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from . import engine as engines
from . import hostfile as hostfiles
from . import nodes, ranks
from .config.settings import RANKS, Place, Settings, option_name, read
from .engine import Engine
from .errors import BadInput
from .facts.memory import GIB
from .hostfile import Host, Hostfile
from .nodes import Node
from .ranks import Rank

if TYPE_CHECKING:
    from .checks import Wanted

P = ParamSpec("P")
T = TypeVar("T")

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Cluster:
    """The server to be: its ranks, the nodes they run on, and what the tasks need to know.

    `notes` are things decided for the user that they should be told once.
    """

    source: str
    backend: str
    engine: Engine
    ranks: Sequence[Rank]
    nodes: Sequence[Node]
    args: Sequence[str]
    model: str | None
    bind: str
    http_port: int
    env_names: Sequence[str]
    log_dir: str
    log_dir_given: bool
    keep_logs: int
    state_dir: str
    timeout: float
    stop_timeout: float
    lock_wait: float
    cooldown: float
    wired_limit: int
    notes: Sequence[str] = ()

    @property
    def leader(self) -> Node:
        """The node of rank 0."""
        return self.nodes[0]

    def connect(self) -> None:
        """Begin to connect to all nodes: what asks them can be imported meanwhile."""
        for node in self.nodes:
            node.connect()

    def on(self, node: Node) -> list[Rank]:
        return [rank for rank in self.ranks if rank.host.ssh == node.name]

    @property
    def wanted(self) -> Wanted:
        from .checks import Wanted

        return Wanted(
            ranks=self.ranks,
            backend=self.backend,
            engine=self.engine,
            http_port=self.http_port,
            model=self.model,
            wired_limit=self.wired_limit,
            cooldown=self.cooldown,
        )


def build(
    config: Mapping[str, object], args: Sequence[str] = (), whole: bool = False, **options: object
) -> Cluster:
    """The cluster of `tp` in the configuration, overridden by options (None: not given).

    `args` are the server's arguments after those of hostfile and configuration, or, if they are
    `whole`, instead of them; raise BadInput with one line on what is wrong.
    """
    said = {key: value for key, value in options.items() if value not in (None, [], (), "")}
    number = said.pop("num_ranks", None)
    configured, given = _read(config), _read(said, option_name)
    settings = replace(configured, **{key: getattr(given, key) for key in said})
    file = _hostfile(settings, said)
    if number is not None:
        file = hostfiles.repeat(file, _checked(RANKS.read, number, "-n"))
    engine = _engine(settings, given, file)
    backend = ranks.resolve(settings.backend or file.backend, file.hosts)
    # An option goes over the host's own, that over the configuration.
    hosts = [_complete(host, configured, given) for host in file.hosts]
    notes: list[str] = []
    if backend == "ring":
        hosts, notes = _resolved(hosts)
    envs = [*file.envs, *settings.env]
    words = [*args] if whole else [*map(str, file.args), *settings.args, *args]
    bind_default = "127.0.0.1" if all(host.is_local for host in hosts) else "0.0.0.0"
    words = list(engine.arguments(words, _model(file, hosts), bind_default))
    bind = engines.option(words, "--host") or bind_default
    _check_arguments(words, bind)
    try:
        http_port = engines.http_port(words)
        planned = ranks.plan(
            hosts, backend, engine, envs=envs, args=words, port=settings.starting_port
        )
    except ValueError as error:
        raise BadInput(f"{file.source}: {error}") from None
    if any(http_port in rank.ports for rank in planned if rank.host.ssh == planned[0].host.ssh):
        raise BadInput(f"--port {http_port}: the ranks meet there: choose another: -- --port N")
    return Cluster(
        source=file.source,
        backend=backend,
        engine=engine,
        ranks=planned,
        nodes=nodes.of(hosts),
        args=words,
        model=engines.option(words, "--model"),
        bind=bind,
        http_port=http_port,
        env_names=sorted({pair.partition("=")[0] for pair in envs}),
        log_dir=settings.log_dir,
        log_dir_given="log_dir" in said,
        keep_logs=settings.keep_logs,
        state_dir=_folder(settings.state_dir),
        timeout=settings.timeout,
        stop_timeout=settings.stop_timeout,
        lock_wait=settings.lock_wait,
        cooldown=settings.cooldown,
        wired_limit=int(settings.wired_limit_gib * GIB),
        notes=notes,
    )


def _read(given: Mapping[str, object], place: Place = str) -> Settings:
    return _checked(read, Settings, given, place)


def _checked(read: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
    """What `read` gives; what it finds wrong is the user's to mend."""
    try:
        return read(*args, **more)
    except ValueError as error:
        raise BadInput(str(error)) from None


def _check_arguments(words: Sequence[str], bind: str) -> None:
    for word in words:
        if re.search("[\x00\ud800-\udfff]", word):
            raise BadInput(f"the server's argument {word!r} is no text: write it in UTF-8")
    if not re.fullmatch(r"[0-9A-Za-z.:%_-]*", bind):
        raise BadInput(f"--host {bind!r}: write a name or an address to listen on")


def _hostfile(settings: Settings, said: Collection[str]) -> Hostfile:
    if "hosts" in said and "hostfile" in said:
        raise BadInput("give --hosts or --hostfile, not both")
    if settings.hosts and "hostfile" not in said:
        return hostfiles.from_names(settings.hosts)
    path = settings.hostfile
    return hostfiles.load(path if "hostfile" in said else _from_root(path))


def configured(config: Mapping[str, object]) -> str:
    """The path of the configured hostfile."""
    return _from_root(_read(config).hostfile)


def state_dir(config: Mapping[str, object]) -> str:
    """The configured state directory of the nodes."""
    return _folder(_read(config).state_dir)


def _folder(path: str) -> str:
    # A slash at its end would hide that it is a link.
    return path.rstrip("/") or "/"


def use_ssh_config(config: Mapping[str, object]) -> None:
    """Let every connection of this run go by the configured ssh configuration."""
    path = _read(config).ssh_config
    if path:
        path = str(Path(_from_root(path)).expanduser())
        if not Path(path).is_file():
            raise BadInput(f"tp.ssh_config {path}: no such file")
    nodes.use_ssh_config(path)


def _from_root(path: str) -> str:
    """A configured path counts from here or from this project, wherever `inv` was called."""
    beside = ROOT / path
    return str(beside) if not Path(path).expanduser().exists() and beside.exists() else path


def _engine(settings: Settings, given: Settings, file: Hostfile) -> Engine:
    known = {**engines.BUILT_IN, **settings.engines}
    # As for the backend: option, then configuration, then hostfile.
    name = settings.engine or file.engine or "vllm-mlx"
    if name not in known:
        where = "tp.engine" if settings.engine else f"{file.source}: engine"
        raise BadInput(
            f"{'--engine' if given.engine else where} {name!r} is unknown:"
            f" choose one of {', '.join(sorted(known))}"
        )
    return known[name]


def _complete(host: Host, configured: Settings, given: Settings) -> Host:
    """The host with the python and working directory that its rank gets."""
    python = given.python or host.python or configured.python
    cwd = given.cwd or host.cwd or configured.cwd
    if host.is_local:
        return replace(host, python=python or sys.executable, cwd=cwd or str(ROOT))
    return replace(host, python=python or "python3", cwd=cwd)


def _resolved(hosts: Sequence[Host]) -> tuple[list[Host], list[str]]:
    """Hosts without `ips` get the address that the control machine finds for them."""
    found, notes = [], []
    for host in hosts:
        if not host.ips:
            address = "127.0.0.1" if host.is_local else _lookup(nodes.Node(host).address)
            notes.append(f"{host.ssh}: no ips given, using {address}")
            host = replace(host, ips=(address,))
        found.append(host)
    return found, list(dict.fromkeys(notes))


def _lookup(name: str) -> str:
    try:
        return str(socket.getaddrinfo(name, None, socket.AF_INET)[0][4][0])
    except (OSError, UnicodeError):
        raise BadInput(f'{name}: no IPv4 address found: give "ips" in a hostfile') from None


def _model(file: Hostfile, hosts: Sequence[Host]) -> str | None:
    """The hostfile's model; a relative path on this machine counts from the project."""
    if file.model and file.model.startswith(".") and all(host.is_local for host in hosts):
        return str(ROOT / file.model)
    return file.model
