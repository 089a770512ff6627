"""backend + hosts + engine -> each rank's environment, files and command. Pure.

The oracle is `mlx.launch` 0.32 (python/mlx/_distributed_utils/launch.py): a differential test
holds `plan` against it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .config.settings import COORDINATOR_PORT
from .engine import Engine

if TYPE_CHECKING:
    from .hostfile import Host


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
    if not hosts[0].ips:
        return f'hosts[0] has no "ips": {backend} needs the address of the coordinator'
    for index, host in enumerate(hosts):
        if len(host.rdma) != len(hosts):
            return (
                f'hosts[{index}] has no "rdma" row of {len(hosts)}: {backend} needs one'
                " (or use --backend ring)"
            )
    missing = missing_links(backend, hosts)
    if missing:
        i, j = missing[0]
        return f"hosts[{i}].rdma[{j}] is null: {backend} needs a device from host {i} to host {j}"
    return None


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
    """Each rank of the server; `port` is the coordinator's, or the first of the ring's.

    Raise ValueError when the hosts lack what the backend needs.
    """
    wrong = check(backend, hosts)
    if wrong:
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
