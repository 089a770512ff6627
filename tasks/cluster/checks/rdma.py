"""Preflight's check "rdma", and what is wrong with a node's devices and links. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

from ..config import ranks
from ..facts import Fact, NodeFacts, known
from ..facts.links import rdma as rdma_facts
from ..facts.links import thunderbolt as thunderbolt_facts
from ..facts.links.rdma import MATRIX
from ..facts.machine import hardware as machine_facts
from ..facts.snapshot import Snapshot
from .expected import Expected
from .finding import FAIL, OK, WARN, Finding, more
from .memory import REBOOT
from .registry import RUN_IT, check
from .servers import servers

if TYPE_CHECKING:
    from ..cluster import Cluster
    from ..config.hostfile import Host
    from ..ssh.node import Node


def _rdma(cluster: Cluster, node: Node) -> list[Fact[object]]:
    if not cluster.backend.startswith("jaccl"):
        return []
    return [*rdma_facts.FACTS, rdma_facts.IN_USE, machine_facts.FACT]


@check("rdma", _rdma, what="devices and links")
def rdma(expected: Expected, snapshot: Snapshot) -> list[Finding]:
    """RDMA is on, devices are there and up, links have IPv4; ranks get a matrix of their own."""
    if not expected.backend.startswith("jaccl"):
        return []
    findings = domains(expected, snapshot)
    setup = ranks.ready([rank.host for rank in expected.ranks])
    for node, values in snapshot.nodes.items():
        names = devices(expected.on(node)[0].host)
        wrong = (
            _machine_wrong(values)
            or rdma_off(values)
            or next(filter(None, (device_wrong(n, values, setup) for n in names)), None)
        )
        unseen = [] if wrong else [n for n in names if not values[rdma_facts.DEVINFO_KEY][n].gids]
        if wrong:
            findings.append(Finding("rdma", FAIL, node, wrong[0], wrong[1]))
        elif strange := _misled(expected, node, snapshot):
            findings.append(strange)
        elif unseen:
            what = f"{unseen[0]}: its GID table can't be seen" + more(unseen)
            findings.append(Finding("rdma", WARN, node, what, "ibv_devinfo -v on the node"))
        else:
            findings.append(Finding("rdma", OK, node, "devices up, links have IPv4"))
    return findings


def _misled(expected: Expected, node: str, snapshot: Snapshot) -> Finding | None:
    """That a device of a node is in no network of the one that it leads to: rows exchanged.

    It is sure where another of the node's links is in that network.
    """
    hosts = [rank.host for rank in expected.ranks]
    mine = _networks(snapshot.on(node))
    rank = expected.on(node)[0].rank
    for one, name, other in _ends(expected.backend, hosts, rank):
        here, there = mine.get(one, []), _networks(snapshot.on(name)).get(other, [])
        if not here or not there or {*here} & {*there}:
            continue
        rest = (mine.get(each.removeprefix("rdma_"), []) for each in devices(hosts[rank]))
        sure = any({*each} & {*there} for each in rest)
        what = apart(f"{one} {here[0]}", f"{other} {there[0]}", name)
        return Finding("rdma", FAIL if sure else WARN, node, what, ranks.ready(hosts))
    return None


def _ends(backend: str, hosts: Sequence[Host], rank: int) -> list[tuple[str, str, str]]:
    """(own interface, other host, its interface) for each cable that a rank uses."""
    found = []
    for other in ranks.partners(backend, len(hosts), rank):
        pairs = zip(
            ranks.devices(hosts[rank].rdma[other]),
            ranks.devices(hosts[other].rdma[rank]),
            strict=False,
        )
        used = list(pairs) if backend == "jaccl-ring" else list(pairs)[:1]
        found += [
            (a.removeprefix("rdma_"), hosts[other].ssh, b.removeprefix("rdma_")) for a, b in used
        ]
    return found


def _networks(values: NodeFacts) -> dict[str, list[IPv4Network]]:
    """The networks of a node's interfaces, as far as they are known."""
    interfaces = known(values, rdma_facts.INTERFACES_KEY) or {}
    return {name: [a.network for a in each.addresses] for name, each in interfaces.items()}


def apart(one: str, two: str, host: str) -> str:
    """That two interfaces with their networks are no ends of one cable, in words."""
    return f"{one} and {two} of {host} are in two networks: they are no ends of one cable"


def domains(expected: Expected, snapshot: Snapshot) -> list[Finding]:
    """Protection domains that are in use though no server runs; no finding where none are told.

    At a device's maximum every start fails with errno 96, and retrying never helps (mlx PR 4209).
    """
    found = []
    for node, values in snapshot.nodes.items():
        used = known(values, rdma_facts.IN_USE_KEY)
        if not used or servers(expected.engine, values):
            continue
        devices = known(values, rdma_facts.DEVINFO_KEY) or {}
        limits = [device.max_pd for device in devices.values() if device.max_pd]
        what = f"{used} protection domains are in use (a device has {min(limits, default=11)})"
        level = FAIL if used >= min(limits, default=11) else WARN
        found.append(Finding("rdma", level, node, what, REBOOT))
    return found


def _machine_wrong(values: NodeFacts) -> tuple[str, str] | None:
    """Why a node's Mac or its macOS should do no RDMA, whatever its devices say, as (what, fix)."""
    if error := values.lacks(machine_facts.KEY):
        return f"unknown: {error.why}", RUN_IT
    machine = values[machine_facts.KEY]
    if thunderbolt_facts.has_thunderbolt5(machine.get("model", "")) is False:
        return f"{machine['model']} has Thunderbolt 4: it can't do RDMA", "--backend ring"
    return machine_facts.corrupts(machine)


def rdma_off(values: NodeFacts) -> tuple[str, str] | None:
    """Why a node can do no RDMA at all, as (what, fix), or None."""
    if error := values.lacks(*(fact.key for fact in rdma_facts.FACTS)):
        return f"unknown: {error.why}", f"try it on the node ({error.name})"
    if not values[rdma_facts.ENABLED_KEY]:
        return "RDMA is disabled", "in Recovery (hold the power button at boot): rdma_ctl enable"
    if not values[rdma_facts.DEVICES_KEY]:
        # rdma_ctl says "enabled" there too, for ever.
        return "RDMA is enabled, but there are no devices", "Thunderbolt 4 can't do RDMA: use ring"
    return None


def matrix_wrong(values: NodeFacts, matrix: object) -> tuple[str, str] | None:
    """What is wrong with MLX's matrix of devices on a node, as (what, fix), or None."""
    if values[rdma_facts.MATRIX_KEY] is None:
        return f"{MATRIX} is missing", "inv rdma.setup"
    if values[rdma_facts.MATRIX_KEY] != matrix:
        return f"{MATRIX} is not the hostfile's matrix", "inv rdma.setup"
    return None


def device_wrong(
    device: str, values: NodeFacts, setup: str = "inv rdma.setup"
) -> tuple[str, str] | None:
    """What keeps a device from carrying RDMA, as (what, fix), or None; `setup` is what mends it."""
    name = device.removeprefix("rdma_")
    interfaces, there = values[rdma_facts.INTERFACES_KEY], values[rdma_facts.DEVICES_KEY]
    interface = interfaces.get(name)
    info = values[rdma_facts.DEVINFO_KEY].get(device)
    if device not in there:
        what = f"{device} is not among the devices ({', '.join(there)})"
        return what, "names change after a reboot or replug: inv rdma.discover --diff"
    if bridges := [i.name for i in interfaces.values() if name in i.members]:
        return f"{device}: its interface is in {bridges[0]}", setup
    if info is None or not info.is_active:
        what = f"{device}: its port is {info.state if info else 'unknown'}"
        return what, "check the cable, and that RDMA is on at its other end"
    if interface is None or not interface.ipv4:
        return f"{device}: its interface has no IPv4 address", setup
    if info.gids and not info.ipv4_gids:
        return f"{device}: no IPv4-mapped GID in its table", f"{setup}, else reboot that node"
    return None


def devices(host: Host) -> list[str]:
    """The RDMA devices of a host's row, in its order."""
    return [name for cell in host.rdma for name in ranks.devices(cell)]
