"""backend + hosts + engine -> each rank's environment, files and command. Pure.

The oracle is `mlx.launch` 0.32 (python/mlx/_distributed_utils/launch.py): a differential test
holds `plan` against it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

from .engine import Engine
from .settings import COORDINATOR_PORT

if TYPE_CHECKING:
    from .hostfile import Host, Rdma


FAST_SYNCH = "MLX_METAL_FAST_SYNCH"


@dataclass(frozen=True)
class Rank:
    """One process of the server.

    `env` holds all that it gets, `MLX_RANK` last; `files` maps a variable to the content of the
    file whose path it gets; `command` starts with the python; `ports` are what it listens on for
    its peers.
    """

    rank: int
    host: Host
    env: Mapping[str, str]
    files: Mapping[str, str]
    command: tuple[str, ...]
    cwd: str | None
    ports: tuple[int, ...]


def fast_synch_of(env: Mapping[str, str]) -> str:
    """What an environment makes of MLX_METAL_FAST_SYNCH: unset, on or off."""
    value = env.get(FAST_SYNCH)
    return "unset" if value is None else "off" if value in ("", "0") else "on"


def resolve(wanted: str, hosts: Sequence[Host]) -> str:
    """The backend that `any` (or nothing said) comes to: jaccl if every host has an RDMA row."""
    if wanted not in ("", "any"):
        return wanted
    complete = len(hosts) > 1 and all(len(host.rdma) == len(hosts) for host in hosts)
    return "jaccl" if complete and not missing_links("jaccl", hosts) else "ring"


def missing_links(backend: str, hosts: Sequence[Host]) -> list[tuple[int, int]]:
    """The pairs (from, to) of ranks that `backend` needs a device for and that have none."""
    size = len(hosts)
    near = [(i, (i + step) % size) for i in range(size) for step in (-1, 1)]
    every = [(i, j) for i in range(size) for j in range(size)]
    pairs = near if backend == "jaccl-ring" else every
    return sorted({(i, j) for i, j in pairs if i != j and hosts[i].rdma[j] is None})


def check(backend: str, hosts: Sequence[Host]) -> str | None:
    """What keeps `backend` from running on these hosts, as entry and remedy, or None."""
    if backend == "ring":
        bare = [i for i, host in enumerate(hosts) if not host.ips]
        return f'hosts[{bare[0]}] has no "ips": ring needs an address per host' if bare else None
    names = list(dict.fromkeys(host.ssh for host in hosts))
    is_bare = not any(host.rdma for host in hosts)
    if is_bare and (wrong := _crowded(backend, hosts)):
        return wrong
    if is_bare and len(names) > 1:
        return (
            f'no host has an "rdma" row: {backend} needs one each: write such a hostfile with'
            f" inv rdma.discover --hosts {','.join(names)} --write FILE, or {_with('ring')}"
        )
    if not hosts[0].ips:
        return f'hosts[0] has no "ips": {backend} needs the address of the coordinator'
    for index, host in enumerate(hosts):
        if len(host.rdma) != len(hosts):
            return (
                f'hosts[{index}] has no "rdma" row of {len(hosts)}: {backend} needs one,'
                f" or {_with('ring')}"
            )
    if missing := missing_links(backend, hosts):
        i, j = missing[0]
        other = "ring" if missing_links("jaccl-ring", hosts) else "jaccl-ring"
        return (
            f"hosts[{i}].rdma[{j}] is null: {backend} needs a device from host {i} to host {j}"
            f", or {_with(other)}"
        )
    return None


def _crowded(backend: str, hosts: Sequence[Host]) -> str | None:
    """That a host has several ranks: no cable leads from it to itself."""
    count = len({host.ssh for host in hosts})
    if count == len(hosts):
        return None
    return f"{backend} runs one rank on a host: -n {count} at most, or {_with('ring')}"


def _with(backend: str) -> str:
    """Where another backend is said: tasks that start nothing have no such option."""
    return f'--backend {backend} ("backend" in the file)'


POOL = IPv4Network("10.254.0.0/16")  # of which rdma.discover gives addresses
MESH = 8  # ranks at most: MESH_MAX_PEERS of JACCL's mesh_impl.h
WIRES = 4  # devices to a neighbour at most: RING_MAX_CONNS of JACCL's ring_impl.h


def impossible(backend: str, hosts: Sequence[Host]) -> str | None:
    """What can't work although `mlx.launch` would start it, as entry and remedy, or None.

    A mesh has at most 8 ranks (mesh.cpp of JACCL), a cable one other end, and neighbours of a ring
    as many connections to the left as to the right (ring.cpp, is_valid_ring of jaccl.cpp), of
    jaccl's at most 4.
    """
    size = len(hosts)
    if backend == "ring":
        uneven = [index for index, host in enumerate(hosts) if len(host.ips) != len(hosts[0].ips)]
        return _uneven("ips", 0, uneven[0], [len(host.ips) for host in hosts]) if uneven else None
    if backend == "jaccl" and size > MESH:
        most = f"a mesh has at most {MESH} ranks, and these are {size}"
        return f'{most}: jaccl-ring takes more: --backend, or "backend" in the file'
    wrong = _crowded(backend, hosts) or forked(backend, hosts)
    return wrong or (_wrong_rows(hosts) if backend == "jaccl-ring" else None)


def forked(backend: str, hosts: Sequence[Host]) -> str | None:
    """The first device that leads to two hosts, among those that the backend uses."""
    size = len(hosts)
    each = (_forked(hosts, i, partners(backend, size, i)) for i in range(size))
    return next(filter(None, each), None)


def partners(backend: str, size: int, rank: int) -> list[int]:
    """The ranks that a rank has a queue pair with: all others in a mesh, in a ring its two."""
    near = {(rank - 1) % size, (rank + 1) % size} if backend == "jaccl-ring" else {*range(size)}
    return sorted(near - {rank})


def devices(cell: Rdma) -> tuple[str, ...]:
    """The devices of an entry of an rdma row."""
    return (cell,) if isinstance(cell, str) else cell or ()


def _forked(hosts: Sequence[Host], index: int, others: Sequence[int]) -> str | None:
    leads: dict[str, int] = {}
    for other in others:
        for name in devices(hosts[index].rdma[other]):
            first = leads.setdefault(name, other)
            if first != other:
                names = ",".join(host.ssh for host in hosts)
                return (
                    f"hosts[{index}].rdma: {name} of {hosts[index].ssh} leads to"
                    f" {hosts[first].ssh} and to {hosts[other].ssh}, and a cable has one other end:"
                    f" correct the row, or inv rdma.discover --hosts {names} --write FILE"
                )
    return None


def _wrong_rows(hosts: Sequence[Host]) -> str | None:
    """What neighbours of a ring of JACCL can't have between them."""
    size = len(hosts)
    counts = [
        {len(devices(hosts[i].rdma[j])) for j in partners("jaccl-ring", size, i)}
        for i in range(size)
    ]
    flat = sorted({count for each in counts for count in each})
    if len(flat) > 1:
        index = next(i for i, each in enumerate(counts) if each != {flat[0]})
        return (
            f"hosts[{index}].rdma has {flat[-1]} devices to a neighbour, others have {flat[0]}: a"
            f" ring wants the same number between all neighbours: write {min(flat[0], WIRES)}"
        )
    if flat and flat[0] > WIRES:
        most = f"jaccl-ring takes {WIRES} at most, leave out {flat[0] - WIRES}"
        return f"hosts[0].rdma has {flat[0]} devices to a neighbour: {most}"
    return None


def _uneven(what: str, one: int, other: int, counts: Sequence[int]) -> str:
    return (
        f"hosts[{one}] has {counts[one]} {what}, hosts[{other}] has {counts[other]}: a ring wants"
        f" the same number of each: write {min(counts[one], counts[other])}"
    )


def is_for_itself(ip: str) -> bool:
    """Whether no other host can reach an address: loopback, or none at all."""
    address = IPv4Address(ip)
    return any(
        (
            address.is_loopback,
            address.is_unspecified,
            address.is_multicast,
            address.is_reserved,  # 240.0.0.0/4, with the broadcast address
        )
    )


def one_link(host: Host) -> tuple[str, str] | None:
    """The interface of a host's one device, and its one address of our own range."""
    names = {name for cell in host.rdma for name in devices(cell)}
    ours = [ip for ip in host.ips if IPv4Address(ip) in POOL]
    return (names.pop().removeprefix("rdma_"), ours[0]) if len(names) == len(ours) == 1 else None


def are_told(hosts: Sequence[Host]) -> bool:
    """Whether the hosts' addresses on their links are written down."""
    return any(host.links for host in hosts) or all(map(one_link, hosts))


def ready(hosts: Sequence[Host]) -> str:
    """The command that makes the hosts' links ready for RDMA."""
    if are_told(hosts):
        return "inv rdma.setup"
    names = ",".join(dict.fromkeys(host.ssh for host in hosts))
    return f"inv rdma.discover --hosts {names} --write FILE, then rdma.setup --hostfile FILE"


def plan(
    hosts: Sequence[Host],
    backend: str,
    engine: Engine,
    *,
    envs: Sequence[str] = (),
    args: Sequence[str] = (),
    python: str = "python3",
    cwd: str | None = None,
    port: int = COORDINATOR_PORT,
    fast_synch: str = "unset",
) -> list[Rank]:
    """Each rank; `port` is the coordinator's, or the first of the ring's. Raise ValueError."""
    if wrong := check(backend, hosts):
        raise ValueError(wrong)
    ports = _ring_ports(hosts, port) if backend == "ring" else [(port,)] + [()] * len(hosts)
    shared = {**_split(envs), **_backend_env(backend, hosts, port)}
    # To MLX a jaccl ring is jaccl with another variable: it refuses the name "jaccl-ring".
    name = backend.partition("-")[0]
    shared.update({key: value.replace("{backend}", name) for key, value in engine.env.items()})
    if fast_synch != "unset":
        shared.setdefault(FAST_SYNCH, "1" if fast_synch == "on" else "0")
    files = _files(backend, hosts, ports)
    return [
        Rank(
            rank=rank,
            host=host,
            env={**shared, "MLX_RANK": str(rank)},
            files=files,
            command=(host.python or python, *engine.words(len(hosts)), *args),
            cwd=host.cwd or cwd,
            ports=ports[rank],
        )
        for rank, host in enumerate(hosts)
    ]


def _split(envs: Sequence[str]) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in envs)
    return {name: value for name, _, value in pairs}


def _ring_ports(hosts: Sequence[Host], port: int) -> list[tuple[int, ...]]:
    ports = []
    for host in hosts:
        ports.append(tuple(range(port, port + len(host.ips))))
        port += len(host.ips)
    if port > 65536:
        raise ValueError(f"the ranks' ports would go up to {port - 1}: set tp.starting_port lower")
    return ports


def _backend_env(backend: str, hosts: Sequence[Host], port: int) -> dict[str, str]:
    if backend == "ring":
        return {}
    env = {"MLX_JACCL_COORDINATOR": f"{hosts[0].ips[0]}:{port}"}
    return {**env, "MLX_JACCL_RING": "1"} if backend == "jaccl-ring" else env


def _files(backend: str, hosts: Sequence[Host], ports: Sequence[tuple[int, ...]]) -> dict[str, str]:
    if backend != "ring":
        return {"MLX_IBV_DEVICES": json.dumps([host.rdma for host in hosts])}
    ring = [
        [f"{ip}:{number}" for ip, number in zip(host.ips, ports[rank], strict=True)]
        for rank, host in enumerate(hosts)
    ]
    # One host is no ring. mlx.launch gives an empty file, on which MLX 0.32.4 fails (parse_error);
    # without one it runs a group of one.
    return {"MLX_HOSTFILE": json.dumps(ring)} if len(ring) > 1 else {}
