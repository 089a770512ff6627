"""Options and configuration -> the cluster that a task works on."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from .config import engine as engines
from .config import hostfile as hostfiles
from .config import ranks
from .config.engine import Engine
from .config.hostfile import Host, Hostfile
from .config.keys import KeySource
from .config.ranks import Rank
from .config.settings import DEFAULT, RANKS, Place, Settings, option_name, read
from .errors import BadInput
from .facts import old
from .facts.machine.memory import GIB
from .ssh import resolve
from .ssh.node import Node, no_such_host
from .ssh.nodes import Connections, each
from .text import at_home

if TYPE_CHECKING:
    from .checks import Expected

P = ParamSpec("P")
T = TypeVar("T")

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Site:
    """Where a cluster's state and its lock are: all that is needed to act for it on its nodes."""

    nodes: Sequence[Node]
    name: str
    state_dir: str
    lock_wait: float

    @property
    def leader(self) -> Node:
        """The node of rank 0."""
        return self.nodes[0]

    def connect(self) -> None:
        """Begin to connect to all nodes: what asks them can be imported meanwhile."""
        for node in self.nodes:
            node.connect()

    def close(self) -> None:
        """Close its connections; who asks a node again is connected anew."""
        for node in self.nodes:
            node.close()

    @property
    def folder(self) -> str:
        """Its state on each node, and its logs here."""
        return f"{self.state_dir}/{self.name}"

    @property
    def where(self) -> dict[str, str]:
        """The values by which a script on a node finds its state there (remote/runs.sh)."""
        return {"state_dir": self.state_dir, "cluster": self.name}


@dataclass(frozen=True)
class Cluster(Site):
    """The server to be: its ranks, the nodes they run on, and what the tasks need to know.

    `recalled` names a run and variables whose values its nodes have kept for this start. `log_dir`
    is None where logs lie with their run; `notes` are things decided for the user that
    they should be told once.
    """

    source: str
    backend: str
    engine: Engine
    ranks: Sequence[Rank]
    args: Sequence[str]
    model: str | None
    bind: str
    http_port: int
    env_names: Sequence[str]
    fast_synch: str
    keep_env: bool
    log_dir: str | None
    log_dir_given: bool
    keep_logs: int
    log_limit: int
    timeout: float
    join_timeout: float
    stop_timeout: float
    unload_limit: float
    cooldown: float
    wired_limit: int
    notes: Sequence[str] = ()
    connections: Connections = field(default_factory=Connections)
    ssh_config: str | None = None
    recalled: tuple[str, Sequence[str]] = ("", ())
    api_key: KeySource | None = None
    other_models: bool = False

    @property
    def served(self) -> str:
        """What requests call the model, where the server knows it by that, else `model`."""
        names = self.engine.keeps_to_model and engines.name_of(self.args, self.model)
        return names or self.model or ""

    def with_nodes(self, names: Iterable[str]) -> Cluster:
        """The same with these nodes besides, which a run has that the hostfile no longer names."""
        here = {node.name for node in self.nodes}
        if not (more := [Host(name) for name in dict.fromkeys(names) if name not in here]):
            return self
        return replace(self, nodes=[*self.nodes, *self.connections.of(more, self.ssh_config)])

    def on(self, node: Node) -> list[Rank]:
        return [rank for rank in self.ranks if rank.host.ssh == node.name]

    def engine_named(self, name: str) -> Engine | None:
        """The engine of that name, as it is configured here or built in."""
        return self.engine if name == self.engine.name else engines.BUILT_IN.get(name)

    @property
    def has_rdma(self) -> bool:
        return self.backend.startswith("jaccl")

    @property
    def expected(self) -> Expected:
        """What the checks hold the facts against."""
        from .checks import Expected

        at = at_home(self.model or "", str(Path.home()))
        return Expected(
            ranks=self.ranks,
            backend=self.backend,
            engine=self.engine,
            http_port=self.http_port,
            model=self.model,
            wired_limit=self.wired_limit,
            cooldown=self.cooldown,
            model_at_home="" if at == self.model else at,
        )

    @property
    def wanted(self) -> Expected:
        old("a cluster's `wanted`", "its `expected`")
        return self.expected


def build(
    config: Mapping[str, object],
    args: Sequence[str] = (),
    whole: bool = False,
    connections: Connections | None = None,
    **options: object,
) -> Cluster:
    """The cluster of `tp` in the configuration, overridden by options (None: not given).

    `args` are the server's arguments after those of hostfile and configuration, or, if they are
    `whole`, instead of them; raise BadInput with one line on what is wrong. Clusters that are
    given the same `connections` share them, and their locks.
    """
    connections = connections or Connections()
    connections.known = partial(known_hosts, config)
    said = {key: value for key, value in options.items() if value not in (None, [], (), "")}
    number = said.pop("num_ranks", None)
    given = _read(said, option_name)
    configured = _of_cluster(config, given.cluster if "cluster" in said else None)
    settings = replace(configured, **{key: getattr(given, key) for key in said})
    ssh = _ssh_config(settings)
    file = _hostfile(settings, said)
    count = len(file.hosts)
    if number is not None:
        file = hostfiles.repeat(file, _checked(RANKS.read, number, "-n"))
    chosen = _engine(settings, given, file)
    backend = ranks.resolve(settings.backend or file.backend, file.hosts)
    # An option goes over the host's own, that over the configuration.
    hosts = [_complete(host, configured, given) for host in file.hosts]
    if backend == "ring" and len(hosts) < count:
        hosts = hostfiles.facing(hosts)
    hosts, notes = _resolved(connections, ssh, hosts, backend)
    envs = [*file.envs, *settings.env]
    words = [*args] if whole else [*map(str, file.args), *settings.args, *args]
    _checked(engines.check_words, chosen, args, words)
    words, bind = _arguments(chosen, words, _model(file, hosts), hosts)
    http_port, planned = _planned(file.source, backend, chosen, hosts, words, envs, settings)
    return Cluster(
        source=file.source,
        backend=backend,
        engine=chosen,
        ranks=planned,
        nodes=connections.of(hosts, ssh),
        args=words,
        model=engines.option(words, "--model"),
        bind=bind,
        http_port=http_port,
        env_names=sorted({pair.partition("=")[0] for pair in envs}),
        log_dir_given="log_dir" in said,
        log_limit=settings.log_limit * 1_000_000,
        name=settings.cluster,
        state_dir=_folder(settings.state_dir),
        wired_limit=int(settings.wired_limit_gib * GIB),
        notes=notes,
        connections=connections,
        ssh_config=ssh,
        api_key=settings.api_key,
        cooldown=settings.cooldown,
        fast_synch=settings.fast_synch,
        join_timeout=settings.join_timeout,
        keep_env=settings.keep_env,
        keep_logs=settings.keep_logs,
        lock_wait=settings.lock_wait,
        log_dir=settings.log_dir,
        other_models=settings.other_models,
        stop_timeout=settings.stop_timeout,
        timeout=settings.timeout,
        unload_limit=settings.unload_limit,
    )


def _arguments(
    engine: Engine, given: Sequence[str], model: str | None, hosts: Sequence[Host]
) -> tuple[list[str], str]:
    """The server's arguments, and the address that it listens on."""
    default = "127.0.0.1" if all(host.is_local for host in hosts) else "0.0.0.0"
    words = list(engine.arguments(given, model, default))
    bind = engines.option(words, "--host") or default
    for word in words:
        if re.search("[\x00\ud800-\udfff]", word):
            raise BadInput(f"the server's argument {word!r} is no text: write it in UTF-8")
    if not re.fullmatch(r"[0-9A-Za-z.:%_-]*", bind):
        raise BadInput(f"--host {bind!r}: write a name or an address to listen on")
    return words, bind


def _planned(
    source: str,
    backend: str,
    engine: Engine,
    hosts: Sequence[Host],
    words: Sequence[str],
    envs: Sequence[str],
    settings: Settings,
) -> tuple[int, Sequence[Rank]]:
    """The server's port, and what each rank is started with."""
    try:
        http_port = engines.http_port(words)
        planned = ranks.plan(
            hosts,
            backend,
            engine,
            envs=envs,
            args=words,
            port=settings.starting_port,
            fast_synch=settings.fast_synch,
        )
        wrong = ranks.impossible(backend, hosts)
    except ValueError as error:
        wrong = str(error)
    if wrong:
        raise BadInput(f"{source}: {wrong}")
    if any(http_port in rank.ports for rank in planned if rank.host.ssh == planned[0].host.ssh):
        raise BadInput(f"--port {http_port}: the ranks meet there: choose another: -- --port N")
    return http_port, planned


def _of_cluster(config: Mapping[str, object], name: str | None) -> Settings:
    """The configuration with what `tp.clusters` says of the cluster over it."""
    whole = _read(config)
    name = name or whole.cluster
    if name == "all":
        raise BadInput("--cluster all is for tp.status: name one cluster")
    if name not in whole.clusters:
        if whole.clusters and name != DEFAULT:
            known = ", ".join(sorted({DEFAULT, *whole.clusters}))
            raise BadInput(f"--cluster {name}: no such cluster: choose one of {known}")
        return replace(whole, cluster=name)
    return _read({**config, **whole.clusters[name], "cluster": name})


def _read(given: Mapping[str, object], place: Place = str) -> Settings:
    return _checked(read, Settings, given, place)


def _checked(read: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
    """What `read` gives; what it finds wrong is the user's to mend."""
    try:
        return read(*args, **more)
    except ValueError as error:
        raise BadInput(str(error)) from None


def _hostfile(settings: Settings, said: Collection[str]) -> Hostfile:
    if "hosts" in said and "hostfile" in said:
        raise BadInput("give --hosts or --hostfile, not both")
    if settings.hosts and "hostfile" not in said:
        return hostfiles.from_names(settings.hosts)
    path = settings.hostfile
    return hostfiles.load(path if "hostfile" in said else _from_root(path))


def configured(config: Mapping[str, object], name: str | None = None) -> str:
    """The path of the hostfile that is configured, for the cluster of that name or in any case."""
    return _from_root(_of_cluster(config, name).hostfile)


def known_hosts(config: Mapping[str, object], name: str | None = None) -> list[str]:
    """The names of the hosts that are configured; none where their file can't be read."""
    try:
        hosts = hostfiles.load(configured(config, name)).hosts
    except BadInput:
        return []
    return list(dict.fromkeys(host.ssh for host in hosts))


def site(config: Mapping[str, object], name: str | None, nodes: Sequence[Node]) -> Site:
    """The cluster of that name, or the configured one, on these nodes: for who runs no ranks."""
    found = _of_cluster(config, name)
    return Site(nodes, found.cluster, _folder(found.state_dir), found.lock_wait)


def state_dir(config: Mapping[str, object]) -> str:
    """The configured state directory of the nodes."""
    return _folder(_read(config).state_dir)


def _folder(path: str) -> str:
    # A slash at its end would hide that it is a link.
    return path.rstrip("/") or "/"


def ssh_config(config: Mapping[str, object]) -> str | None:
    """The configured ssh configuration; None: the user's and the system's."""
    return _ssh_config(_read(config))


def _ssh_config(settings: Settings) -> str | None:
    if path := settings.ssh_config:
        path = str(Path(_from_root(path)).expanduser())
        if not Path(path).is_file():
            raise BadInput(f"tp.ssh_config {path}: no such file")
    return path


def _from_root(path: str) -> str:
    """A configured path counts from here or from this project, wherever `inv` was called."""
    beside = ROOT / path
    return str(beside) if not Path(path).expanduser().exists() and beside.exists() else path


def _engine(settings: Settings, given: Settings, file: Hostfile) -> Engine:
    where = "tp.engine" if settings.engine else f"{file.source}: engine"
    # As for the backend: option, then configuration, then hostfile.
    name = settings.engine or file.engine or "vllm-mlx"
    return _known_engine(settings, name, "--engine" if given.engine else where)


def engine(config: Mapping[str, object], name: str) -> Engine:
    """The engine of that name, of ours or of `tp.engines` in the configuration."""
    return _known_engine(_read(config), name, "engine")


def _known_engine(settings: Settings, name: str, where: str) -> Engine:
    known = {**engines.BUILT_IN, **settings.engines}
    if name not in known:
        raise BadInput(f"{where} {name!r} is unknown: choose one of {', '.join(sorted(known))}")
    return known[name]


def _complete(host: Host, configured: Settings, given: Settings) -> Host:
    """The host with the python and working directory that its rank gets."""
    python = given.python or host.python or configured.python
    cwd = given.cwd or host.cwd or configured.cwd
    if host.is_local:
        return replace(host, python=python or sys.executable, cwd=cwd or str(ROOT))
    return replace(host, python=python or "python3", cwd=cwd)


def _resolved(
    connections: Connections, ssh: str | None, hosts: Sequence[Host], backend: str
) -> tuple[list[Host], list[str]]:
    """The hosts with the `ips` that their ranks use, and what was decided for the user.

    Where one is needed and none given it is the address that the control machine finds. What
    mlx.distributed_config finds for 127.0.0.1 begins with 127.0.0.1, which is for nobody else.
    """
    listening = hosts if backend == "ring" else hosts[: len(hosts[0].rdma) == len(hosts) > 1]
    bare = [host for host in listening if not host.ips]
    # In threads: nothing interrupts a lookup, and a name server may be silent for long.
    where = connections.of(bare, ssh) if bare else ()
    addresses = each(where, _lookup)
    looked_up = {host: addresses[host.ssh] for host in bare}
    alone = len({host.ssh for host in hosts}) == 1
    told = [_addressed(host, looked_up.get(host), alone) for host in hosts]
    found, notes = [host for host, _ in told], list(dict.fromkeys(n for _, n in told if n))
    if not resolve.has_ssh() and not all(host.is_local for host in hosts):
        notes.append("there is no ssh here to ask: its configuration is read by Paramiko")
    return found, notes


def _addressed(host: Host, looked_up: str | None, is_alone: bool) -> tuple[Host, str]:
    """A host with the addresses that its ranks use, and a note where that was decided for it."""
    if looked_up:
        return replace(host, ips=(looked_up,)), f"{host.ssh}: no ips given, using {looked_up}"
    own = tuple(ip for ip in host.ips if not ranks.is_for_itself(ip))
    if not own or own == host.ips or is_alone:
        return host, ""
    note = f"{host.ssh}: using {', '.join(own)}: others can't reach {host.ips[0]}"
    return replace(host, ips=own), note


def _lookup(node: Node) -> str:
    try:
        return str(socket.getaddrinfo(node.address, None, socket.AF_INET)[0][4][0])
    except (OSError, UnicodeError):
        why = no_such_host(node.name, node.known())
        raise BadInput(f'{why}; no IPv4 address found: give "ips" in a hostfile') from None


def _model(file: Hostfile, hosts: Sequence[Host]) -> str | None:
    """The hostfile's model; a relative path on this machine counts from the project."""
    if file.model and file.model.startswith(".") and all(host.is_local for host in hosts):
        return str(ROOT / file.model)
    return file.model
