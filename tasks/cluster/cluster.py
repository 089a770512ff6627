"""Options and configuration -> the cluster that a task works on."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import engine as engines
from . import hostfile as hostfiles
from . import ranks
from .engine import Engine
from .errors import BadInput
from .facts import old
from .facts.memory import GIB
from .hostfile import Host, Hostfile
from .nodes import Connections, Node
from .ranks import Rank
from .settings import DEFAULTS
from .ssh import resolve

if TYPE_CHECKING:
    from .checks import Expected

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

    def close(self) -> None:
        """Close its connections; who asks a node again is connected anew."""
        for node in self.nodes:
            node.close()

    def on(self, node: Node) -> list[Rank]:
        return [rank for rank in self.ranks if rank.host.ssh == node.name]

    @property
    def expected(self) -> Expected:
        """What the checks hold the facts against."""
        from .checks import Expected

        return Expected(
            ranks=self.ranks,
            backend=self.backend,
            engine=self.engine,
            http_port=self.http_port,
            model=self.model,
            wired_limit=self.wired_limit,
            cooldown=self.cooldown,
            state_dir=self.state_dir,
        )

    @property
    def wanted(self) -> Expected:
        old("a cluster's `wanted`", "its `expected`")
        return self.expected


def build(
    config: Mapping[str, Any],
    args: Sequence[str] = (),
    whole: bool = False,
    connections: Connections | None = None,
    **options: Any,
) -> Cluster:
    """The cluster of `tp` in the configuration, overridden by options (None: not given).

    `args` are the server's arguments after those of hostfile and configuration, or, if they are
    `whole`, instead of them; raise BadInput with one line on what is wrong. Clusters that are
    given the same `connections` share them, and their locks.
    """
    connections = connections or Connections()
    ssh = connections.ssh_config(ssh_config(config))
    unknown = sorted(set(config) - set(DEFAULTS), key=str)
    if unknown:
        raise BadInput(
            f"tp.{unknown[0]} in the configuration is unknown: see docs/configuration.md"
        )
    given = {key: value for key, value in options.items() if value not in (None, [], "")}
    settings = {**DEFAULTS, **config, **given}
    file = _hostfile(settings, given)
    chosen = _engine(settings, file)
    wanted = _text(settings, "backend") or file.backend
    if wanted not in ("", *hostfiles.BACKENDS):
        raise BadInput(f"--backend {wanted}: choose one of {', '.join(hostfiles.BACKENDS)}")
    backend = ranks.resolve(wanted, file.hosts)
    hosts = [_complete(host, settings, given) for host in file.hosts]
    notes: list[str] = []
    if backend == "ring":
        hosts, notes = _resolved(connections.of(hosts, ssh.path), hosts)
    if not resolve.has_ssh() and not all(host.is_local for host in hosts):
        notes.append("there is no ssh here to ask: its configuration is read by Paramiko")
    envs = _envs(file, settings)
    words = [*args] if whole else [*map(str, file.args), *_words("args", settings["args"]), *args]
    bind_default = "127.0.0.1" if all(host.is_local for host in hosts) else "0.0.0.0"
    words = list(chosen.arguments(words, _model(file, hosts), bind_default))
    bind = engines.option(words, "--host") or bind_default
    _check_arguments(words, bind)
    try:
        http_port = engines.http_port(words)
        planned = ranks.plan(
            hosts,
            backend,
            chosen,
            envs=envs,
            args=words,
            port=count(settings["starting_port"], "tp.starting_port", 1, 65535),
        )
    except ValueError as error:
        raise BadInput(f"{file.source}: {error}") from None
    if any(http_port in rank.ports for rank in planned if rank.host.ssh == planned[0].host.ssh):
        raise BadInput(f"--port {http_port}: the ranks meet there: choose another: -- --port N")
    return Cluster(
        source=file.source,
        backend=backend,
        engine=chosen,
        ranks=planned,
        nodes=connections.of(hosts, ssh.path),
        args=words,
        model=engines.option(words, "--model"),
        bind=bind,
        http_port=http_port,
        env_names=sorted({pair.partition("=")[0] for pair in envs}),
        log_dir=_text(settings, "log_dir") or "/tmp",
        log_dir_given="log_dir" in given,
        keep_logs=count(settings["keep_logs"], "tp.keep_logs", 0, 1000),
        state_dir=state_dir(settings),
        timeout=number(settings["timeout"], "tp.timeout", 0.001),
        stop_timeout=number(settings["stop_timeout"], "tp.stop_timeout", 0),
        lock_wait=number(settings["lock_wait"], "tp.lock_wait", 0),
        cooldown=number(settings["cooldown"], "tp.cooldown", 0),
        wired_limit=int(number(settings["wired_limit_gib"], "tp.wired_limit_gib", 0) * GIB),
        notes=notes,
    )


def number(value: Any, name: str, least: float, most: float = 1e9) -> float:
    """`value` as a number within bounds, or BadInput that names the option."""
    text = str(value).strip()
    good = re.fullmatch(r"\d{1,12}(\.\d{1,6})?", text) is not None
    if not good or not least <= float(text) <= most:
        raise BadInput(f"{name} {text}: give a number{_bounds(least, most)}")
    return float(text)


def count(value: Any, name: str, least: int, most: float = 1e9) -> int:
    """`value` as a whole number within bounds, or BadInput that names the option."""
    found = number(value, name, least, most)
    if found != int(found):
        raise BadInput(f"{name} {value}: give a whole number")
    return int(found)


def _check_arguments(words: Sequence[str], bind: str) -> None:
    for word in words:
        if re.search("[\x00\ud800-\udfff]", word):
            raise BadInput(f"the server's argument {word!r} is no text: write it in UTF-8")
    if not re.fullmatch(r"[0-9A-Za-z.:%_-]*", bind):
        raise BadInput(f"--host {bind!r}: write a name or an address to listen on")


def _bounds(least: float, most: float) -> str:
    if most < 1e9:
        return f" from {least:g} to {most:g}"
    return " above 0" if 0 < least < 1 else f" of {least:g} or more"


def _hostfile(settings: Mapping[str, Any], given: Mapping[str, Any]) -> Hostfile:
    if given.get("hosts") and given.get("hostfile"):
        raise BadInput("give --hosts or --hostfile, not both")
    names = given.get("hosts") or (None if given.get("hostfile") else settings["hosts"])
    if names:
        file = hostfiles.from_names(_words("hosts", names))
    elif given.get("hostfile"):
        file = hostfiles.load(str(given["hostfile"]))
    else:
        file = hostfiles.load(configured(settings))
    if settings.get("num_ranks") is not None:
        file = hostfiles.repeat(file, count(settings["num_ranks"], "-n", 1, 1024))
    return file


def configured(config: Mapping[str, Any]) -> str:
    """The path of the configured hostfile."""
    path = _text({**DEFAULTS, **config}, "hostfile")
    if not path:
        raise BadInput("tp.hostfile is empty: name a file, or give --hostfile FILE or --hosts a,b")
    return _from_root(path)


def state_dir(config: Mapping[str, Any]) -> str:
    """The configured state directory of the nodes."""
    # A slash at its end would hide that it is a link.
    return (_text({**DEFAULTS, **config}, "state_dir") or "~/.mlx-tp").rstrip("/") or "/"


def ssh_config(config: Mapping[str, Any]) -> str | None:
    """The configured ssh configuration; None: the user's and the system's."""
    path = _text({**DEFAULTS, **config}, "ssh_config")
    if path:
        path = str(Path(_from_root(path)).expanduser())
        if not Path(path).is_file():
            raise BadInput(f"tp.ssh_config {path}: no such file")
    return path


def _from_root(path: str) -> str:
    """A configured path counts from here or from this project, wherever `inv` was called."""
    beside = ROOT / path
    return str(beside) if not Path(path).expanduser().exists() and beside.exists() else path


def _engine(settings: Mapping[str, Any], file: Hostfile) -> Engine:
    # As for the backend: option, then configuration, then hostfile.
    return engine(settings, _text(settings, "engine") or file.engine or "vllm-mlx")


def engine(config: Mapping[str, Any], name: str) -> Engine:
    """The engine of that name, of ours or of `tp.engines` in the configuration."""
    settings = {**DEFAULTS, **config}
    try:
        known = engines.engines(settings["engines"] or {})
    except (ValueError, AttributeError) as error:
        raise BadInput(str(error)) from None
    if name not in known:
        raise BadInput(f"engine {name!r} is unknown: choose one of {', '.join(sorted(known))}")
    return known[name]


def _complete(host: Host, settings: Mapping[str, Any], given: Mapping[str, Any]) -> Host:
    """The host with the python and working directory that its rank gets."""
    python = given.get("python") or host.python or settings["python"]
    cwd = given.get("cwd") or host.cwd or settings["cwd"]
    for name, value in (("python", python), ("cwd", cwd)):
        if value and not _is_line(value):
            raise BadInput(f"{name} {value!r}: give a path on one line")
    if host.is_local:
        return replace(host, python=python or sys.executable, cwd=cwd or str(ROOT))
    return replace(host, python=python or "python3", cwd=cwd)


def _resolved(targets: Sequence[Node], hosts: Sequence[Host]) -> tuple[list[Host], list[str]]:
    """Hosts without `ips` get the address that the control machine finds for them."""
    found, notes = [], []
    by_name = {node.name: node for node in targets}
    for host in hosts:
        if not host.ips:
            address = "127.0.0.1" if host.is_local else _lookup(by_name[host.ssh].address)
            notes.append(f"{host.ssh}: no ips given, using {address}")
            host = replace(host, ips=(address,))
        found.append(host)
    return found, list(dict.fromkeys(notes))


def _lookup(name: str) -> str:
    try:
        return str(socket.getaddrinfo(name, None, socket.AF_INET)[0][4][0])
    except (OSError, UnicodeError):
        raise BadInput(f'{name}: no IPv4 address found: give "ips" in a hostfile') from None


def _envs(file: Hostfile, settings: Mapping[str, Any]) -> list[str]:
    envs = [*file.envs, *_words("env", settings["env"])]
    for pair in envs:
        wrong = ranks.env_error(pair)
        if wrong:
            raise BadInput(f"--env: {wrong}: give it as NAME=value")
    return envs


def _model(file: Hostfile, hosts: Sequence[Host]) -> str | None:
    """The hostfile's model; a relative path on this machine counts from the project."""
    if file.model and file.model.startswith(".") and all(host.is_local for host in hosts):
        return str(ROOT / file.model)
    return file.model


def _text(settings: Mapping[str, Any], key: str) -> str | None:
    value = settings[key]
    if value is not None and not _is_line(value):
        raise BadInput(f"{key} {value!r}: give text on one line")
    return value or None


def _is_line(value: Any) -> bool:
    """Whether a value is text on one line that any shell and terminal takes as it is."""
    return isinstance(value, str) and not re.search("[\x00-\x1f\x7f\ud800-\udfff]", value)


def _words(key: str, value: Any) -> list[str]:
    """A list of text or numbers; the error names the key only, since values may be secret."""
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, Sequence) or not all(isinstance(w, (str, int, float)) for w in words):
        raise BadInput(f"tp.{key} in the configuration is wrong: give a list of strings")
    return [str(word) for word in words]
