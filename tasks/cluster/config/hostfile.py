"""MLX hostfile JSON -> `Hostfile`; every error names the file, the entry and the remedy."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from ipaddress import IPv4Interface
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Union

from ..errors import BadInput
from .settings import ELSEWHERE, NOT_HERE

if TYPE_CHECKING:
    from fastjsonschema import JsonSchemaValueException

SCHEMA = Path(__file__).parents[3] / "hosts" / "schema.json"
LOCAL = ("localhost", "127.0.0.1")

Rdma = Union[None, str, "tuple[str, ...]"]


class SharedKeys(TypedDict, total=False):
    """What may stand at a host, or in the file for all of them."""

    python: str
    cwd: str
    user: str
    port: int
    gateway: str


class _Named(TypedDict):
    ssh: str


class HostEntry(SharedKeys, _Named, total=False):
    """A host as the JSON has it (hosts/schema.json)."""

    ips: list[str]
    rdma: list[str | list[str] | None]
    links: dict[str, str]


class _Hosts(TypedDict):
    hosts: list[HostEntry]


class HostfileData(SharedKeys, _Hosts, total=False):
    """A hostfile's JSON in its dict form."""

    backend: str
    envs: list[str]
    engine: str
    model: str
    args: list[str]


def as_dict(data: HostfileData | list[HostEntry]) -> HostfileData:
    """A hostfile in list form in its dict form."""
    return {"hosts": data} if isinstance(data, list) else data


@dataclass(frozen=True)
class Host:
    """One rank's host, as MLX's `Host` has it, and how we reach it.

    `ips` are IPv4 addresses; `rdma` has one entry per host of the file (None for itself) or none
    at all. `links` (interface and "address/prefix", for rdma.setup), `python`, `cwd`, `user`,
    `port` and `gateway` are ours, and mlx.launch ignores them.
    """

    ssh: str
    ips: tuple[str, ...] = ()
    rdma: tuple[Rdma, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    python: str | None = None
    cwd: str | None = None
    user: str | None = None
    port: int | None = None
    gateway: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether the rank runs on this machine, without SSH."""
        return self.ssh in LOCAL

    @property
    def link_addresses(self) -> tuple[IPv4Interface, ...]:
        """Its ends of links, as addresses with their networks; a cable has two ends: /30."""
        return tuple(IPv4Interface(a if "/" in a else f"{a}/30") for _, a in self.links)

    def toward(self, other: Host) -> tuple[str, ...]:
        """Its addresses on the links that it shares with another host."""
        shared = {each.network for each in other.link_addresses}
        return tuple(str(each.ip) for each in self.link_addresses if each.network in shared)


@dataclass(frozen=True)
class Hostfile:
    """A cluster as its file (or `--hosts`) tells it; `source` is what errors call it."""

    source: str
    hosts: tuple[Host, ...]
    backend: str = ""
    envs: tuple[str, ...] = ()
    engine: str | None = None
    model: str | None = None
    args: tuple[str, ...] = ()


def load(path: str) -> Hostfile:
    """Read and check the file at `path`; raise `BadInput` with one line on what is wrong."""
    return parse(_text(path), _line(path))


def written(path: str) -> HostfileData:
    """What people wrote into the file at `path`, after it was found to be a right one."""
    text = _text(path)
    parse(text, _line(path))
    data: HostfileData | list[HostEntry] = json.loads(text)
    return as_dict(data)


def _text(path: str) -> str:
    try:
        data = Path(path).expanduser().read_bytes()
        # An editor may have made it UTF-16, or begun it with a mark of its encoding.
        return data.decode(json.detect_encoding(data))
    except FileNotFoundError:
        raise BadInput(
            f"{_line(path)}: no such hostfile: give --hostfile FILE or --hosts a,b"
        ) from None
    except (OSError, ValueError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise BadInput(f"{_line(path)}: can't be read ({why}): give a JSON file") from None


def parse(text: str, source: str) -> Hostfile:
    """The hostfile in `text`, dict or list form; `source` is named in errors."""
    data = _json(text, source)
    if isinstance(data, dict) and data.get("backend") in ELSEWHERE:
        raise BadInput(f"{source}: backend {data['backend']!r}: {NOT_HERE}")
    cluster = as_dict(_validated(data, source))
    _refuse_typos(cluster, source)
    return Hostfile(
        source=source,
        hosts=_hosts(cluster, source),
        backend=cluster.get("backend", ""),
        envs=tuple(cluster.get("envs", ())),
        engine=cluster.get("engine"),
        model=cluster.get("model"),
        args=tuple(cluster.get("args", ())),
    )


def _hosts(cluster: HostfileData, source: str) -> tuple[Host, ...]:
    for index, entry in enumerate(cluster["hosts"]):
        if "@" in entry["ssh"] and "user" in entry:
            raise BadInput(f"{source}: hosts[{index}].user is also in its ssh: write it once")
        for name, address in entry.get("links", {}).items():
            _check_link(f"{source}: hosts[{index}].links.{name}", address)
    hosts = tuple(_host(entry, cluster) for entry in cluster["hosts"])
    _refuse_duplicates(hosts, source)
    for index, host in enumerate(hosts):
        _check_row(index, host.rdma, len(hosts), source)
    return hosts


def from_names(names: Sequence[str]) -> Hostfile:
    """`--hosts a,b`: each a name or an IPv4 address, which is then also its `ips` (as in MLX)."""
    flat = [part.strip() for name in names for part in name.split(",")]
    if "" in flat:
        raise BadInput(
            f"--hosts {','.join(names)!r}: a host is empty: give names as in --hosts a,b"
        )
    entries = [{"ssh": name, "ips": [name] if _is_ip(name) else []} for name in flat]
    return parse(json.dumps(entries), "--hosts")


def repeat(hostfile: Hostfile, ranks: int) -> Hostfile:
    """`-n`: the first `ranks` hosts, or each host as often in a row as makes `ranks` of them."""
    hosts = hostfile.hosts
    if ranks <= len(hosts):
        cut = tuple(replace(host, rdma=host.rdma[:ranks]) for host in hosts[:ranks])
        return replace(hostfile, hosts=cut)
    if ranks % len(hosts):
        raise BadInput(
            f"-n {ranks}: {hostfile.source} has {len(hosts)} hosts:"
            f" give at most {len(hosts)} or a multiple of it"
        )
    each = ranks // len(hosts)
    # Rows of the RDMA matrix have no meaning between ranks of one host.
    return replace(
        hostfile, hosts=tuple(replace(host, rdma=()) for host in hosts for _ in range(each))
    )


def facing(hosts: Sequence[Host]) -> list[Host]:
    """The hosts of a ring that was cut by `-n`, their `ips` chosen anew from their `links`.

    A rank is called by the one before it, so its address is the one on the link to that: once hosts
    are left out, rank 0 has another before it. Addresses of no link are left. Raise BadInput where
    two that are neighbours now share no link.
    """
    found = []
    for left, host in zip([hosts[-1], *hosts[:-1]], hosts, strict=True):
        linked = {str(each.ip) for each in host.link_addresses}
        if len(hosts) > 1 and host.ips and linked.issuperset(host.ips):
            if not host.toward(left):
                names = ",".join(each.ssh for each in hosts)
                raise BadInput(
                    f"-n {len(hosts)}: no link between {left.ssh} and {host.ssh}, which are"
                    f" neighbours then: --hosts {names} goes over their own network"
                )
            host = replace(host, ips=host.toward(left))
        found.append(host)
    least = min(len(host.ips) for host in found)
    # As many connections to the left as to the right (MLX's ring.cpp).
    return [replace(host, ips=host.ips[:least] if least else host.ips) for host in found]


class _TwiceError(ValueError):
    """A key that an object has twice: JSON's readers take the last, people mean the first."""


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict[str, object]()
    for key, value in pairs:
        if key in found:
            raise _TwiceError(_line(key))
        found[key] = value
    return found


def _json(text: str, source: str) -> object:
    see = "see hosts/hwstudio.json for an example"
    if not text.strip():
        raise BadInput(f"{source}: is empty: {see}")
    try:
        return json.loads(text, object_pairs_hook=_once)
    except _TwiceError as error:
        raise BadInput(f"{source}: {error} is in it twice: keep one of them") from None
    except json.JSONDecodeError as error:
        why = f"not JSON ({error.msg}, column {error.colno})"
        raise BadInput(f"{source}:{error.lineno}: {why}: {see}") from None
    except RecursionError:
        raise BadInput(f"{source}: not a hostfile (nested too deeply): {see}") from None
    except ValueError as error:
        raise BadInput(f"{source}: a number has too many digits: write a shorter one") from error


@cache
def _schema() -> Any:
    return json.loads(SCHEMA.read_text(encoding="utf-8"))


@cache
def validator() -> Callable[[object], HostfileData | list[HostEntry]]:
    """What checks a hostfile's form; it takes several times as long to make as to run."""
    # Imported here: only a run that reads a hostfile pays for the schema.
    import fastjsonschema

    made: Callable[[object], HostfileData | list[HostEntry]] = fastjsonschema.compile(_schema())
    return made


def _validated(data: object, source: str) -> HostfileData | list[HostEntry]:
    import fastjsonschema

    try:
        return validator()(data)
    except fastjsonschema.JsonSchemaValueException as error:
        entry = re.sub(r"^data\.?", "", error.name or "")
        # A list of hosts is short for {"hosts": [...]}.
        entry = f"hosts{entry}" if entry.startswith("[") else entry or "the file"
        remedy = error.definition.get("description", "see hosts/schema.json")
        raise BadInput(f"{source}: {_line(entry)} {_wrong(error)}: {remedy}") from None


def _wrong(error: JsonSchemaValueException) -> str:
    """What is wrong with an entry; what it should be is in the schema's description of it."""
    if error.rule == "required":
        return f'has no "{error.rule_definition[0]}"'
    return {"minItems": "is empty", "pattern": "is not allowed"}.get(error.rule or "", "is wrong")


def _line(text: str) -> str:
    """Text that may hold anything (a key, a path), for one line of a message."""
    return text if text.isprintable() else json.dumps(text)


def _refuse_typos(cluster: HostfileData, source: str) -> None:
    """A key that is almost one of ours is a typo; others may be MLX's own, now or one day."""
    schema = _schema()["definitions"]
    known = {kind: list(schema[kind]["properties"]) for kind in ("cluster", "host")}
    places: list[tuple[str, Mapping[str, object], str, str]]
    places = [("", cluster, "cluster", "host")]
    places += [(f"hosts[{i}].", host, "host", "cluster") for i, host in enumerate(cluster["hosts"])]
    for prefix, entry, kind, other in places:
        for key in (key for key in entry if key not in known[kind]):
            name = f"{source}: {prefix}{_line(key)}"
            if key in known[other]:
                raise BadInput(f"{name} is out of place: it is a key of {_PLACE[other]}")
            if close := difflib.get_close_matches(key.lower(), known[kind], 1, 0.75):
                raise BadInput(f'{name} is unknown: did you mean "{close[0]}"?')


_PLACE = {"cluster": 'the file, beside "hosts"', "host": 'a host, beside "ssh"'}


def _host(entry: HostEntry, cluster: HostfileData) -> Host:
    port = entry.get("port", cluster.get("port"))
    rdma = tuple(tuple(cell) if isinstance(cell, list) else cell for cell in entry.get("rdma", ()))
    return Host(
        ssh=entry["ssh"],
        ips=tuple(entry.get("ips", ())),
        rdma=rdma,
        links=tuple(entry.get("links", {}).items()),
        python=entry.get("python", cluster.get("python")),
        cwd=entry.get("cwd", cluster.get("cwd")),
        user=None if "@" in entry["ssh"] else entry.get("user", cluster.get("user")),
        port=port and int(port),  # 22.0 is an integer in JSON schema
        gateway=entry.get("gateway", cluster.get("gateway")),
    )


def _refuse_duplicates(hosts: tuple[Host, ...], source: str) -> None:
    """A host that is there twice under one name, and an address that two of them have."""
    machine: dict[tuple[str, int | None], Host] = {}
    named: dict[str, Host] = {}
    owner: dict[str, Host] = {}
    for index, host in enumerate(hosts):
        name = _machine(host)
        firsts = (named.setdefault(host.ssh, host), machine.setdefault((name, host.port), host))
        for first in firsts:
            if first.ssh != host.ssh or (first is not host and not host.is_local):
                raise BadInput(f"{source}: hosts[{index}].ssh: {_twice(first, host)}")
        for ip in host.ips:
            other = owner.setdefault(ip, host)
            if other.ssh != host.ssh:
                raise BadInput(
                    f"{source}: hosts[{index}].ips: {ip} is the address of two hosts, {other.ssh}"
                    f" and {host.ssh}: give each its own (ifconfig on it tells)"
                )


def _machine(host: Host) -> str:
    """A name is a machine whoever logs in there, and in whatever letters; not so a port of it."""
    return "127.0.0.1" if host.is_local else host.ssh.rpartition("@")[2].lower().rstrip(".")


def _twice(first: Host, host: Host) -> str:
    if host.is_local:
        same = "localhost and 127.0.0.1 are the same machine"
        return f"{same}: write one of them for all its ranks"
    if first.ssh != host.ssh:
        same = f"{first.ssh} and {host.ssh} are the same machine"
        return f"{same}: name it once (-n runs several ranks on a host)"
    if (first.user, first.port, first.gateway) != (host.user, host.port, host.gateway):
        two = f"{host.ssh!r} is the name of two machines"
        return f"{two}: give each one of its own in ~/.ssh/config (Host, HostName, Port, ProxyJump)"
    return f"{host.ssh!r} is there twice: name each host once (-n runs several ranks on a host)"


def _check_link(where: str, address: str) -> None:
    try:
        IPv4Interface(address)
    except ValueError:
        text = address.partition("/")[0]
        raise BadInput(
            f"{where}: {text!r} is no IPv4 address: give one such as 10.254.0.5/30"
        ) from None


def _check_row(index: int, row: tuple[Rdma, ...], size: int, source: str) -> None:
    if not row:
        return
    if len(row) != size:
        raise BadInput(
            f"{source}: hosts[{index}].rdma has {len(row)} entries for {size} hosts:"
            " write one per host, null for itself"
        )
    if row[index] is not None:
        raise BadInput(
            f"{source}: hosts[{index}].rdma[{index}] must be null: it is the host's link to itself"
        )
    for other, cell in enumerate(row):
        for name in (cell,) if isinstance(cell, str) else cell or ():
            if re.fullmatch(r"en\d+", name):
                where = f"{source}: hosts[{index}].rdma[{other}]"
                raise BadInput(f"{where} is {name}, an interface: write its device, rdma_{name}")


def _is_ip(name: str) -> bool:
    return re.fullmatch(r"\d+\.\d+\.\d+\.\d+", name) is not None
