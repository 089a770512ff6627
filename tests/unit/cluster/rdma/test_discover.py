"""From Thunderbolt ports to a hostfile: cables, subnets, backend, and what has moved since."""

from __future__ import annotations

import copy
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from ipaddress import IPv4Interface, IPv4Network
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx._distributed_utils import common, config

from tasks.cluster.checks import FAIL, WARN
from tasks.cluster.config import hostfile, ranks
from tasks.cluster.config.engine import MLX_LM
from tasks.cluster.config.hostfile import as_dict
from tasks.cluster.errors import BadInput
from tasks.cluster.facts import Key, NodeFacts, Unknown
from tasks.cluster.facts.links import rdma, routes, thunderbolt
from tasks.cluster.facts.links.rdma import Interface
from tasks.cluster.facts.links.routes import Route
from tasks.cluster.facts.machine import hardware
from tasks.cluster.rdma import cables as cabling
from tasks.cluster.rdma import diff, discover, links
from tasks.cluster.rdma.links import Link, LinkEnd

Facts = dict[str, NodeFacts]

# A cable is "host receptacle, host receptacle"; what is in between follows: a dock.
PAIR = ["mac1 4, mac2 4"]
TWO_CABLES = ["mac1 4, mac2 4", "mac1 2, mac2 6"]
MESH3 = ["mac1 1, mac2 1", "mac1 2, mac3 1", "mac2 2, mac3 2"]
MESH4 = [
    *MESH3,
    "mac1 3, mac4 1",
    "mac2 3, mac4 2",
    "mac3 3, mac4 3",
]
RING4 = ["mac1 1, mac3 1", "mac3 2, mac2 1", "mac2 2, mac4 1", "mac4 2, mac1 2"]
CHAIN3 = ["mac1 1, mac2 1", "mac2 2, mac3 1"]


def profile(host: str, cables: Sequence[str], ports: int, top: int) -> dict[str, Any]:
    """What system_profiler says on `host`."""
    buses = []
    for number in range(1, ports + 1):
        items: list[Any] = []
        speed = f"Up to {top} Gb/s"
        for cable in cables:
            *ends, between = [*cable.split(", "), ""][:3]
            if f"{host} {number}" in ends:
                peer = next((end for end in ends if end != f"{host} {number}"), ends[0])
                item = {"_name": f"{peer.split()[0]}'s name", "domain_uuid_key": f"UUID {peer}"}
                items += [{"_name": between, "_items": [item]}] if between else [item]
                speed = f"{min(top, 80)} Gb/s"
        tag = {"current_speed_key": speed, "receptacle_id_key": str(number)}
        domain = f"UUID {host} {number}"
        bus = {"device_name_key": "Mac", "domain_uuid_key": domain, "receptacle_1_tag": tag}
        buses.append({**bus, "_items": items})
    return {"SPThunderboltDataType": buses}


def lab(
    cables: Sequence[str], size: int | None = None, ports: int = 6, top: Mapping[str, int] = {}
) -> Facts:
    """Facts of as many Macs as the cables name: receptacle N is en(N+1), the office is en0."""
    size = size or max(int(end[3]) for cable in cables for end in cable.split(", ")[:2])
    facts = {}
    for host in (f"mac{n}" for n in range(1, size + 1)):
        said = json.dumps(profile(host, cables, ports, top.get(host, 120)))
        names = {f"Thunderbolt {n}": f"en{n + 1}" for n in range(1, ports + 1)}
        office = IPv4Interface(f"192.0.2.{host[3:]}/24")
        interfaces = {
            name: Interface(name, "active", addresses, ())
            for name, addresses in {
                "lo0": (IPv4Interface("127.0.0.1/8"),),
                **dict.fromkeys(names.values(), ()),
                "en0": (office,),
            }.items()
        }
        values = {
            thunderbolt.KEY: thunderbolt.parse_ports(said, 0),
            thunderbolt.HARDWARE_PORTS: names,
            rdma.INTERFACES_KEY: interfaces,
            routes.KEY: (
                Route(IPv4Network("0.0.0.0/0"), "en0", office.network[254]),
                Route(IPv4Network("127.0.0.0/8"), "lo0"),
                Route(office.network, "en0"),
            ),
            rdma.DEVICES_KEY: tuple(f"rdma_{name}" for name in names.values()),
            rdma.ENABLED_KEY: True,
        }
        facts[host] = NodeFacts(host, values)
    return facts


def changeable(facts: NodeFacts) -> dict[Any, Any]:
    """What was read, to be changed by a test."""
    assert isinstance(facts.values, dict)
    return facts.values


def addressed(facts: Facts, made: Sequence[Link]) -> Facts:
    """The facts after rdma.setup: addresses, and the routes that macOS makes of them."""
    facts = copy.deepcopy(facts)
    for end in (end for link in made for end in link):
        values = facts[end.host]
        interface = values[rdma.INTERFACES_KEY][end.interface]
        changeable(values)[rdma.INTERFACES_KEY][end.interface] = replace(
            interface, addresses=(end.address,)
        )
        changeable(values)[routes.KEY] += (
            Route(end.address.network, end.interface),
            Route(IPv4Network(end.address.ip), end.interface),
        )
    return facts


def have(facts: Facts, *ends: str) -> Facts:
    """Addresses given by hand: "mac1 en5 10.254.0.5/30"."""
    made = [LinkEnd(a, b, IPv4Interface(c)) for a, b, c in map(str.split, ends)]
    return addressed(facts, [(end, end) for end in made])


def wired(facts: Facts, **more: Any) -> list[Link]:
    found, findings = cabling.cables(facts)
    assert [each for each in findings if each.level == FAIL] == []
    return discover.subnets(found, facts, **more)


def reached(facts: Facts) -> dict[str, str]:
    return {host: f"192.0.2.{host[3:]}" for host in facts}


def discovered(facts: Facts) -> Any:
    made = wired(facts)
    name, _ = discover.backend(made, facts)
    return discover.hostfile(name, made, facts, reached(facts))


def shown(cable: cabling.Cable) -> str:
    return f"{cable.a.host} {cable.a.interface} - {cable.b.host} {cable.b.interface}"


# Cables.


@pytest.mark.parametrize(
    ("cables", "expected"),
    [
        (PAIR, ["mac1 en5 - mac2 en5"]),
        # One order for both ends: by the interface of the host that comes first.
        (TWO_CABLES, ["mac1 en3 - mac2 en7", "mac1 en5 - mac2 en5"]),
        (
            MESH3,
            ["mac1 en2 - mac2 en2", "mac1 en3 - mac3 en2", "mac2 en3 - mac3 en3"],
        ),
        (
            RING4,
            [
                "mac1 en2 - mac3 en2",
                "mac1 en3 - mac4 en3",
                "mac2 en2 - mac3 en3",
                "mac2 en3 - mac4 en2",
            ],
        ),
        (["mac1 4, mac2 4, Dock"], ["mac1 en5 - mac2 en5"]),
        (CHAIN3, ["mac1 en2 - mac2 en2", "mac2 en3 - mac3 en2"]),
    ],
)
def test_cables(cables: list[str], expected: list[str]) -> None:
    found, findings = cabling.cables(lab(cables))
    assert [shown(each) for each in found] == expected
    assert findings == []
    assert {each.speed for each in found} == {80}


def test_a_cable_names_its_ports() -> None:
    cable = cabling.cables(lab(PAIR))[0][0]
    assert asdict(cable) == {
        "a": {"host": "mac1", "interface": "en5", "receptacle": "4", "domain": "UUID mac1 4"},
        "b": {"host": "mac2", "interface": "en5", "receptacle": "4", "domain": "UUID mac2 4"},
        "speed": 80,
    }


@given(order=st.permutations(MESH4), hosts=st.permutations(range(4)))
def test_cables_are_the_same_from_every_side(order: list[str], hosts: list[int]) -> None:
    """Neither the order of cables nor that of hosts changes which ends belong together."""
    facts = lab(order)
    names = [list(facts)[n] for n in hosts]
    found, findings = cabling.cables({name: facts[name] for name in names})
    ends = {frozenset(((c.a.host, c.a.interface), (c.b.host, c.b.interface))) for c in found}
    whole, _ = cabling.cables(lab(MESH4))
    assert ends == {
        frozenset(((c.a.host, c.a.interface), (c.b.host, c.b.interface))) for c in whole
    }
    assert [names.index(c.a.host) < names.index(c.b.host) for c in found] == [True] * 6
    assert findings == []


def test_interfaces_are_counted_as_numbers() -> None:
    """en9 comes before en10."""
    facts = lab(["mac1 9, mac2 1", "mac1 8, mac2 2"], ports=9)
    assert [each.a.interface for each in cabling.cables(facts)[0]] == ["en9", "en10"]


def test_drives_and_empty_ports_are_no_cables() -> None:
    said = (Path(__file__).parents[3] / "data" / "macos" / "system_profiler.json").read_text()
    facts = lab(PAIR)
    changeable(facts["mac1"])[thunderbolt.KEY] = tuple(
        replace(port, peers={}) for port in thunderbolt.parse_ports(said, 0)
    )
    changeable(facts["mac2"])[thunderbolt.KEY] = lab(["mac1 1, mac1 2"], size=2)["mac2"][
        thunderbolt.KEY
    ]
    assert cabling.cables(facts) == ([], [])


def _without_peer(facts: Facts) -> None:
    """mac2 no longer sees the cable in its port 4."""
    changeable(facts["mac2"])[thunderbolt.KEY] = lab([], size=2)["mac2"][thunderbolt.KEY]


def _set(host: str, key: Key[Any], value: Any) -> Any:
    return lambda facts: facts[host].values.update({key: value})


def _three_at_a_dock(facts: Facts) -> None:
    cables = ["mac1 1, mac2 1, Dock", "mac1 1, mac3 1, Dock"]
    facts.update(lab(cables))


ODD: dict[str, tuple[list[str], Any, list[str], tuple[str, str, str]]] = {
    "one end only": (
        PAIR,
        _without_peer,
        [],
        (FAIL, "mac2", "en5 does not see the cable that mac1 has in en5"),
    ),
    "a stranger": (
        ["mac1 1, mac9 1", *PAIR],
        lambda facts: [facts.pop(f"mac{n}") for n in range(3, 10)],
        ["mac1 en5 - mac2 en5"],
        (WARN, "mac1", 'en2 leads to "mac9\'s name", which is none of the hosts'),
    ),
    "one side unreadable": (
        PAIR,
        _set("mac2", thunderbolt.KEY, Unknown("no answer in time")),
        [],
        (FAIL, "mac2", "unknown: no answer in time"),
    ),
    "the other end of one that is unreadable": (
        PAIR,
        _set("mac2", thunderbolt.KEY, Unknown("no answer in time")),
        [],
        (
            WARN,
            "mac1",
            'en5 leads to "mac2\'s name", which is none of the hosts'
            " (it may be mac2, which can't be read)",
        ),
    ),
    "interfaces unreadable": (
        PAIR,
        _set("mac2", thunderbolt.HARDWARE_PORTS, Unknown("not found")),
        [],
        (FAIL, "mac2", "unknown: not found"),
    ),
    "a port without an interface": (
        TWO_CABLES,
        _set("mac2", thunderbolt.HARDWARE_PORTS, {"Thunderbolt 6": "en7"}),
        ["mac1 en3 - mac2 en7"],
        (
            FAIL,
            "mac2",
            "Thunderbolt port 4 has no known interface, so its cable to mac1 can't be used",
        ),
    ),
    "not asked": (
        PAIR,
        lambda facts: facts["mac2"].values.pop(thunderbolt.KEY),
        [],
        (FAIL, "mac2", "unknown: it was not asked"),
    ),
    "no ports": (
        PAIR,
        _set("mac2", thunderbolt.KEY, ()),
        [],
        (FAIL, "mac2", "it has no Thunderbolt port"),
    ),
    "a loop": (
        ["mac1 5, mac1 2", *PAIR],
        lambda facts: None,
        ["mac1 en5 - mac2 en5"],
        (WARN, "mac1", "en3 and en6 are cabled to each other"),
    ),
    "several computers at a dock": (
        MESH3,
        _three_at_a_dock,
        [],
        (WARN, "mac1", "en2 leads to 2 computers at once"),
    ),
    "one machine by two names": (
        PAIR,
        lambda facts: facts.update(mac3=facts["mac1"]),
        ["mac1 en5 - mac2 en5"],
        (FAIL, "mac3", "it is the same machine as mac1"),
    ),
    "Thunderbolt 4": (
        PAIR,
        lambda facts: facts.update(lab(PAIR, top={"mac2": 40})),
        ["mac1 en5 - mac2 en5"],
        (WARN, "mac2", "its ports are Thunderbolt 4: they can't do RDMA"),
    ),
    "a slow cable": (
        PAIR,
        lambda facts: facts["mac1"].values.update(
            {
                thunderbolt.KEY: tuple(
                    replace(port, speed=port.speed and 40)
                    for port in facts["mac1"][thunderbolt.KEY]
                )
            }
        ),
        ["mac1 en5 - mac2 en5"],
        (WARN, "mac1", "en5 to mac2 runs at 40 Gb/s"),
    ),
}


@pytest.mark.parametrize(("cables", "fault", "found", "finding"), ODD.values(), ids=ODD)
def test_odd_cables(
    cables: list[str], fault: Any, found: list[str], finding: tuple[str, str, str]
) -> None:
    facts = lab(cables)
    fault(facts)
    good, findings = cabling.cables(facts)
    assert [shown(each) for each in good] == found
    told = [(each.level, each.node, each.what) for each in findings]
    assert finding in told
    assert len(told) == len(set(told))
    assert all(each.fix and each.check == "cabling" for each in findings)


# Subnets.


def subnet(links_: Sequence[Link]) -> list[str]:
    return [f"{one.address} - {two.address.ip}" for one, two in links_]


SUBNETS: dict[str, tuple[list[str], list[str], list[str]]] = {
    "the first ones": (
        MESH3,
        [],
        ["10.254.0.1/30 - 10.254.0.2", "10.254.0.5/30 - 10.254.0.6", "10.254.0.9/30 - 10.254.0.10"],
    ),
    "both ends have one": (
        PAIR,
        ["mac1 en5 10.254.0.5/30", "mac2 en5 10.254.0.6/30"],
        ["10.254.0.5/30 - 10.254.0.6"],
    ),
    "the other way round": (
        PAIR,
        ["mac1 en5 10.254.7.2/30", "mac2 en5 10.254.7.1/30"],
        ["10.254.7.2/30 - 10.254.7.1"],
    ),
    "one end only": (
        PAIR,
        ["mac1 en5 10.254.0.1/30"],
        ["10.254.0.5/30 - 10.254.0.6"],
    ),
    "not the same subnet": (
        PAIR,
        ["mac1 en5 10.254.0.1/30", "mac2 en5 10.254.0.6/30"],
        ["10.254.0.9/30 - 10.254.0.10"],
    ),
    "the same address": (
        PAIR,
        ["mac1 en5 10.254.0.1/30", "mac2 en5 10.254.0.1/30"],
        ["10.254.0.5/30 - 10.254.0.6"],
    ),
    "not a host's address": (
        PAIR,
        ["mac1 en5 10.254.0.0/30", "mac2 en5 10.254.0.1/30"],
        ["10.254.0.5/30 - 10.254.0.6"],
    ),
    "a wider subnet": (
        PAIR,
        ["mac1 en5 10.254.0.1/29", "mac2 en5 10.254.0.2/29"],
        ["10.254.0.9/30 - 10.254.0.10"],
    ),
    "of another network": (
        PAIR,
        ["mac1 en5 192.168.0.1/30", "mac2 en5 192.168.0.2/30"],
        ["10.254.0.1/30 - 10.254.0.2"],
    ),
    "kept ones are not given again": (
        TWO_CABLES,
        ["mac1 en5 10.254.0.1/30", "mac2 en5 10.254.0.2/30"],
        ["10.254.0.5/30 - 10.254.0.6", "10.254.0.1/30 - 10.254.0.2"],
    ),
    "both cables have the same": (
        TWO_CABLES,
        [
            "mac1 en5 10.254.0.1/30",
            "mac2 en5 10.254.0.2/30",
            "mac1 en3 10.254.0.1/30",
            "mac2 en7 10.254.0.2/30",
        ],
        ["10.254.0.5/30 - 10.254.0.6", "10.254.0.9/30 - 10.254.0.10"],
    ),
    "another host has it": (
        MESH3[:1],
        ["mac1 en2 10.254.0.1/30", "mac2 en2 10.254.0.2/30", "mac3 en7 10.254.0.1/24"],
        ["10.254.1.1/30 - 10.254.1.2"],
    ),
}


@pytest.mark.parametrize(("cables", "present", "expected"), SUBNETS.values(), ids=SUBNETS)
def test_subnets(cables: list[str], present: list[str], expected: list[str]) -> None:
    facts = have(lab(cables, size=3), *present)
    found, _ = cabling.cables(facts)
    assert subnet(discover.subnets(found, facts)) == expected


def test_routes_are_taken() -> None:
    facts = lab(PAIR, size=3)
    changeable(facts["mac3"])[routes.KEY] += (Route(IPv4Network("10.254.0.0/17"), "utun4"),)
    assert subnet(wired(facts)) == ["10.254.128.1/30 - 10.254.128.2"]


def test_no_free_subnet() -> None:
    """The office of a real Mac mini is 10.254.0.0/16."""
    facts = have(lab(PAIR), "mac2 en0 10.254.100.2/16")
    with pytest.raises(BadInput, match=r"no subnet is free: mac2 has 10\.254\.0\.0/16 on en0"):
        wired(facts)
    pool = IPv4Network("10.253.0.0/16")
    assert subnet(wired(facts, pool=pool)) == ["10.253.0.1/30 - 10.253.0.2"]


@pytest.mark.parametrize("key", [rdma.INTERFACES_KEY, routes.KEY])
def test_unknown_networks_are_not_free(key: Key[Any]) -> None:
    facts = lab(PAIR)
    changeable(facts["mac2"])[key] = Unknown("it hangs")
    with pytest.raises(BadInput, match=rf"mac2: its {key.name} can't be read \(it hangs\)"):
        wired(facts)


def test_what_a_hostfile_says_is_kept_after_a_reboot() -> None:
    """Addresses are gone then; those of the hostfile are still the best."""
    written = [
        LinkEnd("mac1", "en5", IPv4Interface("10.254.9.1/30")),
        LinkEnd("mac2", "en5", IPv4Interface("10.254.9.2/30")),
        LinkEnd("mac2", "en6", IPv4Interface("10.254.8.2/30")),
    ]
    assert subnet(wired(lab(PAIR), written=written)) == ["10.254.9.1/30 - 10.254.9.2"]
    taken = have(lab(PAIR), "mac1 en0 10.254.9.9/24")
    assert subnet(wired(taken, written=written)) == ["10.254.0.1/30 - 10.254.0.2"]
    # What is there counts more than what is written.
    there = have(lab(PAIR), "mac1 en5 10.254.0.5/30", "mac2 en5 10.254.0.6/30")
    assert subnet(wired(there, written=written)) == ["10.254.0.5/30 - 10.254.0.6"]


def test_what_is_written_for_one_cable_is_not_given_to_another() -> None:
    written = [
        LinkEnd("mac1", "en5", IPv4Interface("10.254.0.1/30")),
        LinkEnd("mac2", "en5", IPv4Interface("10.254.0.2/30")),
    ]
    assert subnet(wired(lab(TWO_CABLES), written=written)) == [
        "10.254.0.5/30 - 10.254.0.6",
        "10.254.0.1/30 - 10.254.0.2",
    ]


networks = st.builds(
    lambda bits, prefix: IPv4Network((bits, prefix), strict=False),
    st.integers(0x0AFE0000, 0x0AFEFFFF) | st.integers(0, 2**32 - 1),
    st.integers(1, 32),
)


@settings(max_examples=40)
@given(
    cables=st.sampled_from([PAIR, TWO_CABLES, MESH3, MESH4, RING4]),
    taken=st.lists(st.tuples(st.sampled_from(["mac1", "mac2"]), networks), max_size=8),
)
def test_subnets_collide_with_nothing_and_last(
    cables: list[str], taken: list[tuple[str, IPv4Network]]
) -> None:
    facts = lab(cables)
    for host, network in taken:
        changeable(facts[host])[routes.KEY] += (Route(network, "utun4"),)
    try:
        made = wired(facts)
    except BadInput:
        assert any(network.overlaps(ranks.POOL) for _, network in taken)
        return
    nets = [one.address.network for one, _ in made]
    assert len(set(nets)) == len(nets) == len(cables)
    for net in nets:
        assert net.subnet_of(ranks.POOL)
        assert net.prefixlen == 30
        assert not any(net.overlaps(network) for _, network in taken)
    again = addressed(facts, made)
    assert wired(again) == made
    # And rdma.setup refuses none of them, before and after.
    for values in (facts, again):
        for end in (end for link in made for end in link):
            there = values[end.host]
            assert links.collision(end, there[rdma.INTERFACES_KEY], there[routes.KEY]) is None


# Backend.

BACKENDS: dict[str, tuple[list[str], Any, str, str]] = {
    "2": (PAIR, None, "jaccl", "there is RDMA between every two of the 2 hosts"),
    "3": (MESH3, None, "jaccl", "there is RDMA between every two of the 3 hosts"),
    "4": (MESH4, None, "jaccl", "there is RDMA between every two of the 4 hosts"),
    "2 cables": (TWO_CABLES, None, "jaccl", "(2 cables each: jaccl uses one, jaccl-ring all)"),
    "ring": (
        RING4,
        None,
        "jaccl-ring",
        "RDMA links make the ring mac1-mac3-mac2-mac4; mac1 and mac2 have none",
    ),
    "mesh of 4, a cable missing": (
        MESH4[:-1],
        None,
        "jaccl-ring",
        "RDMA links make the ring mac1-mac3-mac2-mac4; mac3 and mac4 have none",
    ),
    "chain": (
        CHAIN3,
        None,
        "ring",
        "the cables make neither a full mesh nor a ring (missing: mac1-mac3);"
        " TCP goes over the hosts' own network",
    ),
    "no cable": (
        ["mac1 1, mac1 2"],
        None,
        "ring",
        "the cables make neither a full mesh nor a ring (missing: mac1-mac2);"
        " TCP goes over the hosts' own network",
    ),
    "Thunderbolt 4": (
        MESH3,
        lambda facts: facts.update(lab(MESH3, top={"mac3": 40})),
        "ring",
        "mac3's ports are Thunderbolt 4: they can't do RDMA; TCP goes over the Thunderbolt links",
    ),
    # rdma_ctl says "enabled" there, and there are no devices for ever.
    "Thunderbolt 4, which is not told as not enabled": (
        PAIR,
        lambda facts: (
            facts.update(lab(PAIR, top={"mac2": 40})),
            facts["mac2"].values.update({rdma.DEVICES_KEY: (), rdma.ENABLED_KEY: False}),
        ),
        "ring",
        "mac2's ports are Thunderbolt 4: they can't do RDMA; TCP goes over the Thunderbolt links",
    ),
    "disabled": (
        PAIR,
        lambda facts: facts["mac1"].values.update({rdma.ENABLED_KEY: False, rdma.DEVICES_KEY: ()}),
        "ring",
        "RDMA is disabled on mac1 (in Recovery: rdma_ctl enable);"
        " TCP goes over the Thunderbolt links",
    ),
    "unknown": (
        PAIR,
        _set("mac2", rdma.ENABLED_KEY, Unknown("rdma_ctl: not found")),
        "ring",
        "mac2's RDMA is unknown (rdma_ctl: not found)",
    ),
    "devices unknown": (
        PAIR,
        _set("mac2", rdma.DEVICES_KEY, Unknown("it hangs")),
        "ring",
        "mac2's RDMA is unknown (it hangs)",
    ),
    "no devices": (PAIR, _set("mac2", rdma.DEVICES_KEY, ()), "ring", "mac2 has no RDMA devices"),
    "one device missing": (
        PAIR,
        _set("mac2", rdma.DEVICES_KEY, ("rdma_en3",)),
        "ring",
        "mac2 has no device rdma_en5",
    ),
    "one device of a mesh missing": (
        MESH4,
        _set("mac1", rdma.DEVICES_KEY, ("rdma_en2", "rdma_en3")),
        "jaccl-ring",
        "RDMA links make the ring mac1-mac2-mac4-mac3; mac1 and mac4 have none",
    ),
    "several reasons": (
        PAIR,
        lambda facts: [each.values.update({rdma.ENABLED_KEY: False}) for each in facts.values()],
        "ring",
        "RDMA is disabled on mac1 (in Recovery: rdma_ctl enable), RDMA is disabled on mac2",
    ),
}


@pytest.mark.parametrize(("cables", "fault", "name", "why"), BACKENDS.values(), ids=BACKENDS)
def test_backend(cables: list[str], fault: Any, name: str, why: str) -> None:
    facts = lab(cables, size=None if "mac2" in str(cables) else 2)
    if fault:
        fault(facts)
    found = discover.backend(wired(facts), facts)
    assert found[0] == name
    assert why in found[1]
    assert "\n" not in found[1]


def test_one_host() -> None:
    facts = lab([], size=1)
    assert discover.backend([], facts) == ("ring", "one host needs no links")
    made = discovered(facts)
    assert made["hosts"] == [{"ssh": "mac1", "ips": ["192.0.2.1"], "links": {}}]
    assert discover.setup_command(made) == ""


@given(
    size=st.integers(2, 6),
    picks=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), max_size=14),
)
def test_ring_goes_round(size: int, picks: list[tuple[int, int]]) -> None:
    """A ring visits each host once over links; MLX's own search agrees on whether there is one."""
    hosts = [f"mac{n}" for n in range(1, size + 1)]
    pairs = {(a, b) for a, b in picks if a != b and max(a, b) <= size}
    ends = {host: LinkEnd(host, "en5", IPv4Interface("10.254.0.1/30")) for host in hosts}
    made = [(ends[f"mac{a}"], ends[f"mac{b}"]) for a, b in pairs]
    found = discover.ring(made, hosts)
    linked = {frozenset((one.host, two.host)) for one, two in made}
    near = [[frozenset((a, b)) in linked for b in hosts] for a in hosts]
    rings = config.extract_rings([[int(each) for each in row] for row in near])
    assert (found is not None) == config.check_valid_ring(hosts, rings, strict=False)
    if found:
        assert sorted(found) == hosts
        assert found[0] == "mac1"
        assert all(frozenset((found[i - 1], found[i])) in linked for i in range(size))


# Hostfiles.

HOSTFILES: dict[str, tuple[list[str], Any, dict[str, Any]]] = {
    "two hosts share their link": (
        PAIR,
        None,
        {
            "backend": "jaccl",
            "envs": [],
            "hosts": [
                {
                    "ssh": "mac1",
                    "ips": ["10.254.0.1"],
                    "rdma": [None, "rdma_en5"],
                    "links": {"en5": "10.254.0.1/30"},
                },
                {
                    "ssh": "mac2",
                    "ips": ["10.254.0.2"],
                    "rdma": ["rdma_en5", None],
                    "links": {"en5": "10.254.0.2/30"},
                },
            ],
        },
    ),
    "two cables": (
        TWO_CABLES,
        None,
        {
            "backend": "jaccl",
            "envs": [],
            "hosts": [
                {
                    "ssh": "mac1",
                    "ips": ["10.254.0.1"],
                    "rdma": [None, ["rdma_en3", "rdma_en5"]],
                    "links": {"en3": "10.254.0.1/30", "en5": "10.254.0.5/30"},
                },
                {
                    "ssh": "mac2",
                    "ips": ["10.254.0.2"],
                    "rdma": [["rdma_en7", "rdma_en5"], None],
                    "links": {"en7": "10.254.0.2/30", "en5": "10.254.0.6/30"},
                },
            ],
        },
    ),
    "the coordinator of three is called by all": (
        MESH3,
        None,
        {
            "backend": "jaccl",
            "envs": [],
            "hosts": [
                {
                    "ssh": "mac1",
                    "ips": ["192.0.2.1"],
                    "rdma": [None, "rdma_en2", "rdma_en3"],
                    "links": {"en2": "10.254.0.1/30", "en3": "10.254.0.5/30"},
                },
                {
                    "ssh": "mac2",
                    "ips": ["192.0.2.2"],
                    "rdma": ["rdma_en2", None, "rdma_en3"],
                    "links": {"en2": "10.254.0.2/30", "en3": "10.254.0.9/30"},
                },
                {
                    "ssh": "mac3",
                    "ips": ["192.0.2.3"],
                    "rdma": ["rdma_en2", "rdma_en3", None],
                    "links": {"en2": "10.254.0.6/30", "en3": "10.254.0.10/30"},
                },
            ],
        },
    ),
    "a ring's ranks are neighbours": (
        RING4,
        None,
        {
            "backend": "jaccl-ring",
            "envs": [],
            "hosts": [
                {
                    "ssh": "mac1",
                    "ips": ["192.0.2.1"],
                    "rdma": [None, "rdma_en2", None, "rdma_en3"],
                    "links": {"en2": "10.254.0.1/30", "en3": "10.254.0.5/30"},
                },
                {
                    "ssh": "mac3",
                    "ips": ["192.0.2.3"],
                    "rdma": ["rdma_en2", None, "rdma_en3", None],
                    "links": {"en2": "10.254.0.2/30", "en3": "10.254.0.10/30"},
                },
                {
                    "ssh": "mac2",
                    "ips": ["192.0.2.2"],
                    "rdma": [None, "rdma_en2", None, "rdma_en3"],
                    "links": {"en2": "10.254.0.9/30", "en3": "10.254.0.13/30"},
                },
                {
                    "ssh": "mac4",
                    "ips": ["192.0.2.4"],
                    "rdma": ["rdma_en3", None, "rdma_en2", None],
                    "links": {"en3": "10.254.0.6/30", "en2": "10.254.0.14/30"},
                },
            ],
        },
    ),
    # mac2 listens for mac1 (10.254.0.2), mac3 for mac2, mac1 for mac3.
    "TCP listens on the link to the left": (
        MESH3,
        lambda facts: facts["mac2"].values.update({rdma.ENABLED_KEY: False}),
        {
            "backend": "ring",
            "envs": [],
            "hosts": [
                {
                    "ssh": "mac1",
                    "ips": ["10.254.0.5"],
                    "links": {"en2": "10.254.0.1/30", "en3": "10.254.0.5/30"},
                },
                {
                    "ssh": "mac2",
                    "ips": ["10.254.0.2"],
                    "links": {"en2": "10.254.0.2/30", "en3": "10.254.0.9/30"},
                },
                {
                    "ssh": "mac3",
                    "ips": ["10.254.0.10"],
                    "links": {"en2": "10.254.0.6/30", "en3": "10.254.0.10/30"},
                },
            ],
        },
    ),
    "TCP over two cables": (
        TWO_CABLES,
        lambda facts: facts["mac2"].values.update({rdma.ENABLED_KEY: False}),
        {
            "backend": "ring",
            "envs": [],
            "hosts": [
                {
                    "ssh": "mac1",
                    "ips": ["10.254.0.1", "10.254.0.5"],
                    "links": {"en3": "10.254.0.1/30", "en5": "10.254.0.5/30"},
                },
                {
                    "ssh": "mac2",
                    "ips": ["10.254.0.2", "10.254.0.6"],
                    "links": {"en7": "10.254.0.2/30", "en5": "10.254.0.6/30"},
                },
            ],
        },
    ),
    "a chain is no ring": (
        CHAIN3,
        None,
        {
            "backend": "ring",
            "envs": [],
            "hosts": [
                {"ssh": "mac1", "ips": ["192.0.2.1"], "links": {"en2": "10.254.0.1/30"}},
                {
                    "ssh": "mac2",
                    "ips": ["192.0.2.2"],
                    "links": {"en2": "10.254.0.2/30", "en3": "10.254.0.5/30"},
                },
                {"ssh": "mac3", "ips": ["192.0.2.3"], "links": {"en2": "10.254.0.6/30"}},
            ],
        },
    ),
}


@pytest.mark.parametrize(("cables", "fault", "expected"), HOSTFILES.values(), ids=HOSTFILES)
def test_hostfile(cables: list[str], fault: Any, expected: dict[str, Any]) -> None:
    facts = lab(cables)
    if fault:
        fault(facts)
    assert discovered(facts) == expected


def test_the_pair_with_the_fewest_cables_counts() -> None:
    """MLX refuses a ring whose sides differ; the links that carry no data are still set up."""
    facts = lab([*MESH3, "mac1 5, mac2 5"])
    made = discovered(facts)
    assert [entry["rdma"] for entry in made["hosts"]] == [
        [None, "rdma_en2", "rdma_en3"],
        ["rdma_en2", None, "rdma_en3"],
        ["rdma_en2", "rdma_en3", None],
    ]
    assert list(made["hosts"][0]["links"]) == ["en2", "en6", "en3"]


LABS = [PAIR, TWO_CABLES, MESH3, MESH4, RING4, [*MESH3, "mac1 5, mac2 5"]]


@pytest.mark.parametrize("has_rdma", [True, False])
@pytest.mark.parametrize("cables", LABS)
def test_hostfile_is_taken_by_all_who_read_it(
    tmp_path: Path, cables: list[str], has_rdma: bool
) -> None:
    """Ours, rdma.setup's, and MLX's own; each rank's plan follows from it."""
    facts = lab(cables)
    if not has_rdma:
        changeable(facts["mac1"])[rdma.ENABLED_KEY] = False
    made = discovered(facts)
    path = tmp_path / "hosts.json"
    path.write_text(json.dumps(made))
    file = hostfile.load(str(path))
    assert ranks.check(made["backend"], file.hosts) is None
    assert len(ranks.plan(file.hosts, made["backend"], MLX_LM)) == len(facts)
    wiring = links.from_hostfile(file)
    assert {frozenset(link) for link in wiring.links} == {frozenset(e) for e in wired(facts)}
    theirs = common.Hostfile.from_file(str(path))
    assert (theirs.backend, theirs.envs) == (made["backend"], made["envs"])
    assert [host.ips for host in theirs.hosts] == [entry["ips"] for entry in made["hosts"]]


@pytest.mark.parametrize("cables", LABS)
def test_setup_command_brings_about_the_links(cables: list[str]) -> None:
    facts = lab(cables)
    made = discovered(facts)
    words = shlex.split(discover.setup_command(made))
    assert words[:2] == ["inv", "rdma.setup"]
    assert set(words[2::2]) == {"--node"}
    wiring = links.from_specs(words[3::2], [], "30")
    assert {frozenset(link) for link in wiring.links} == {frozenset(e) for e in wired(facts)}
    assert [host.ssh for host in wiring.hosts] == [entry["ssh"] for entry in made["hosts"]]


@pytest.mark.parametrize("cables", LABS)
def test_ring_addresses_are_on_the_left_link(cables: list[str]) -> None:
    """Each rank's neighbour before it has, on the same cable, an address to connect from."""
    facts = lab(cables)
    for values in facts.values():
        changeable(values)[rdma.ENABLED_KEY] = False
    hosts = discovered(facts)["hosts"]
    assert len({len(entry["ips"]) for entry in hosts}) == 1
    for left, entry in zip([hosts[-1], *hosts], hosts, strict=False):
        own = {IPv4Interface(each).ip: each for each in entry["links"].values()}
        nets = {IPv4Interface(each).network for each in left["links"].values()}
        assert all(IPv4Interface(own[IPv4Interface(ip).ip]).network in nets for ip in entry["ips"])


@pytest.mark.parametrize("backend", ["jaccl", "jaccl-ring", "ring"])
@pytest.mark.parametrize("cables", LABS)
def test_as_mlx_would_configure_it(cables: list[str], backend: str) -> None:
    """`mlx.distributed_config` comes to the same devices and links from the same outputs."""
    facts = lab(cables)
    ports = "".join(f"Hardware Port: Thunderbolt {n}\nDevice: en{n + 1}\n" for n in range(1, 7))

    def run(words: list[str], **_: Any) -> Any:
        said = {"ipconfig": "192.0.2.1", "networksetup": ports.encode()}
        out = said.get(words[2], json.dumps(profile(words[1], cables, 6, 120)))
        return SimpleNamespace(stdout=out, returncode=0)

    hosts = [common.Host(i, name, [], []) for i, name in enumerate(facts)]
    with mock.patch.object(config, "run", run):
        tb_hosts, index = config.extract_connectivity(hosts, False)
        matrix = config.make_connectivity_matrix(tb_hosts, index)
        rings = config.extract_rings(matrix)
        if backend == "jaccl" and not config.check_valid_mesh(hosts, matrix, False):
            assert discover.backend(wired(facts), facts)[0] != "jaccl"
            return
        ips = config.IPConfigurator(hosts, tb_hosts, index)
        theirs = _mlx_hosts(backend, hosts, ips, rings)
    made = discover.hostfile(backend, wired(facts), facts, reached(facts))
    assert [host.ssh_hostname for host in theirs] == [entry["ssh"] for entry in made["hosts"]]
    if backend == "ring":
        # Addresses are of another pool there: compare the interfaces that they are on.
        names = {ip: name for pairs in ips.ips.values() for name, ip in pairs}
        assert [[names[ip] for ip in host.ips] for host in theirs] == [
            [name for ip in entry["ips"] for name, a in entry["links"].items() if f"{ip}/30" == a]
            for entry in made["hosts"]
        ]
    else:
        assert [host.rdma for host in theirs] == [entry["rdma"] for entry in made["hosts"]]


def _mlx_hosts(backend: str, hosts: Any, ips: Any, rings: Any) -> list[Any]:
    args = SimpleNamespace(verbose=False, env=[], auto_setup=False)
    saved: list[Any] = []
    with (
        mock.patch.object(config, "save_hostfile", lambda _, file: saved.extend(file.hosts)),
        mock.patch.object(config, "can_auto_setup", return_value=False),
        mock.patch.object(ips, "setup"),
    ):
        if backend == "jaccl":
            config.configure_jaccl(args, hosts, ips, [])
        elif backend == "jaccl-ring":
            config.configure_jaccl_ring(args, hosts, ips, rings[0], [])
        else:
            config.configure_ring(args, hosts, ips, rings[0], [])
    return saved


# The address that all can reach.


def _own(facts: Facts, said: str | None) -> str:
    made = wired(facts)
    given_ = {**reached(facts), "mac1": said} if said else {}
    return str(discover.hostfile("jaccl", made, facts, given_)["hosts"][0]["ips"][0])


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("198.51.100.7", "198.51.100.7"),  # its second network, which we come by
        # Ours alone, or none of its own: the address with the default route.
        ("127.0.0.1", "192.0.2.1"),
        ("203.0.113.9", "192.0.2.1"),
        ("mac1.local", "192.0.2.1"),
        ("::1", "192.0.2.1"),
        # A link's address is not for all.
        ("10.254.0.1", "192.0.2.1"),
        (None, "192.0.2.1"),
    ],
)
def test_coordinator(said: str | None, expected: str) -> None:
    facts = lab(MESH3)
    facts = addressed(facts, wired(facts))
    interfaces = facts["mac1"][rdma.INTERFACES_KEY]
    # The default route of a VPN comes second; en1 comes first among the interfaces.
    vpn = (IPv4Interface("100.96.0.7/32"),)
    second = (IPv4Interface("169.254.7.7/16"), IPv4Interface("198.51.100.7/24"))
    changeable(facts["mac1"])[rdma.INTERFACES_KEY] = {
        "en1": Interface("en1", "active", second, ()),
        "utun4": Interface("utun4", None, vpn, ()),
        **interfaces,
    }
    changeable(facts["mac1"])[routes.KEY] += (Route(IPv4Network("0.0.0.0/0"), "utun4"),)
    assert _own(facts, said) == expected


def test_no_address_for_all() -> None:
    facts = lab(MESH3)
    changeable(facts["mac1"])[rdma.INTERFACES_KEY].pop("en0")
    with pytest.raises(BadInput, match="mac1: no IPv4 address that other hosts can reach"):
        _own(facts, "192.0.2.1")


# Machines and cables that are known bad.


def with_(facts: Facts, host: str, key: Key[Any], value: Any) -> Facts:
    return {**facts, host: NodeFacts(host, {**facts[host].values, key: value})}


def ports_of(model: str, *buses: dict[str, Any]) -> tuple[thunderbolt.Port, ...]:
    made = [{"device_name_key": model, **bus} for bus in buses]
    return thunderbolt.parse_ports(json.dumps({"SPThunderboltDataType": made}), 0)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("Mac15,14", True),
        ("Mac16,9", True),
        ("Mac16,10", False),
        ("Mac14,13", False),
        ("MacBookPro18,2", False),
        ("Macmini8,1", False),
        ("Mac18,1", None),
        ("", None),
        ("nonsense", None),
    ],
)
def test_thunderbolt_by_model(model: str, expected: bool | None) -> None:
    """Case 60: 40 Gb/s at every port and none of them empty; the model decides."""
    full = {"receptacle_1_tag": {"current_speed_key": "40 Gb/s"}, "domain_uuid_key": "A"}
    found = ports_of("Mac mini", {**full, "_items": [{"domain_uuid_key": "B"}]})
    assert thunderbolt.is_thunderbolt5(found, model) is expected
    told = [{"current_speed_key": "Up to 120 Gb/s"}, {"current_speed_key": "Up to 40 Gb/s"}]
    fast, slow = (ports_of("x", {**full, "receptacle_1_tag": tag}) for tag in told)
    assert thunderbolt.is_thunderbolt5(fast, model) is True
    assert thunderbolt.is_thunderbolt5(slow, model) is False


def test_thunderbolt_4_at_both_ends() -> None:
    """Devices are listed and the model tells: TCP over the cable, and why."""
    facts = lab(PAIR)
    for host in ("mac1", "mac2"):
        ports = tuple(replace(p, speed=40, top=None) for p in facts[host][thunderbolt.KEY])
        facts = with_(facts, host, thunderbolt.KEY, ports)
        facts = with_(facts, host, hardware.KEY, {"model": "Mac16,10"})
    made = wired(facts)
    name, why = discover.backend(made, facts)
    assert (name, "Thunderbolt 4" in why) == ("ring", True)
    _, findings = cabling.cables(facts)
    assert [each.node for each in findings if "Thunderbolt 4" in each.what] == ["mac1", "mac2"]


def test_a_port_without_domain_is_told() -> None:
    """It is no Mac without ports: the cable in it can't be found."""
    facts = lab(PAIR)
    bare = tuple(
        replace(each, domain="") if each.receptacle == "2" else each
        for each in facts["mac1"][thunderbolt.KEY]
    )
    _, found = cabling.cables(with_(facts, "mac1", thunderbolt.KEY, bare))
    assert [(each.node, each.level) for each in found] == [("mac1", WARN)]
    assert found[0].what.startswith("Thunderbolt port 2: no domain UUID is told")
    tag = {"receptacle_1_tag": {"receptacle_id_key": "1"}}
    alone = ports_of("Mac Studio", tag)
    _, found = cabling.cables(with_(facts, "mac1", thunderbolt.KEY, alone))
    (told,) = (each for each in found if each.node == "mac1")
    assert (told.level, "no domain UUID" in told.what) == (FAIL, True)
    assert "inv rdma.setup --node HOST:IFACE:IP" in told.fix


def test_a_cable_that_must_be_moved() -> None:
    facts = lab(["mac1 1, mac2 4"])
    assert cabling.misplaced("en2", facts["mac1"]) is None
    ports = tuple(replace(p, machine="Mac Studio") for p in facts["mac1"][thunderbolt.KEY])
    studio = with_(facts, "mac1", thunderbolt.KEY, ports)
    cables, found = cabling.cables(studio)
    assert [(each.node, each.level) for each in found] == [("mac1", WARN)]
    assert found[0].fix == "move its cable (to mac2) to another port"
    assert discover.backend(discover.subnets(cables, studio), studio)[0] == "ring"
    less = with_(facts, "mac2", rdma.DEVICES_KEY, ("rdma_en2",))
    assert cabling.misplaced("en5", less["mac2"]) == "en5 has no RDMA device"
    assert cabling.misplaced("en5", with_(facts, "mac2", rdma.DEVICES_KEY, ())["mac2"]) is None


@pytest.mark.parametrize(
    ("interface", "is_told"), [("en5", True), ("bridge0", True), ("en0", False), ("utun4", False)]
)
def test_default_route_over_a_cable(interface: str, is_told: bool) -> None:
    """Case 62, and a bridge of the ports; what is after the first does not count."""
    facts = lab(PAIR)
    bridge = Interface("bridge0", "active", (), ("en5",))
    interfaces = {**facts["mac1"][rdma.INTERFACES_KEY], "bridge0": bridge}
    default = (Route(IPv4Network("0.0.0.0/0"), interface),)
    facts = with_(facts, "mac1", rdma.INTERFACES_KEY, interfaces)
    facts = with_(facts, "mac1", routes.KEY, (*default, *facts["mac1"][routes.KEY]))
    _, found = cabling.cables(facts)
    told = [each for each in found if each.check == "route"]
    assert [each.what for each in told] == [
        f"the default route goes over {interface}, a cable to another host"
    ] * is_told


def test_systems_that_are_known_bad() -> None:
    facts = lab(PAIR)
    facts = with_(facts, "mac1", hardware.KEY, {"macos": "26.4.1 25E253"})
    assert cabling.machines(facts) == []
    other = with_(facts, "mac2", hardware.KEY, {"macos": "26.4.1 25E254"})
    assert [each.what for each in cabling.machines(other)] == [
        "macOS 26.4.1 25E254, and mac1 has 26.4.1 25E253"
    ]
    old = with_(facts, "mac2", hardware.KEY, {"macos": "26.2 25C56"})
    assert "corrupts data" in cabling.machines(old)[0].what


# What has moved.

BASE = discovered(lab(PAIR))
MESH = discovered(lab(MESH3))


def moved(cables: list[str], **more: Any) -> dict[str, Any]:
    return {**discovered(lab(cables)), **more}


DIFFS: dict[str, tuple[Any, Any, list[str] | None]] = {
    "nothing": (MESH, MESH, []),
    "renamed at one end": (
        BASE,
        moved(["mac1 2, mac2 4"]),
        ["mac1: en5 is now en3 (to mac2)"],
    ),
    "renamed at both ends": (
        BASE,
        moved(["mac1 2, mac2 3"]),
        ["mac1: en5 is now en3 (to mac2)", "mac2: en5 is now en4 (to mac1)"],
    ),
    "one of two cables renamed": (
        moved(TWO_CABLES),
        moved(["mac1 4, mac2 4", "mac1 2, mac2 5"]),
        ["mac2: en7 is now en6 (to mac1)"],
    ),
    "ends of two cables swapped": (
        moved(TWO_CABLES),
        moved(["mac1 4, mac2 6", "mac1 2, mac2 4"]),
        [
            "mac2: en7 is now en5 (to mac1)",
            "mac2: en5 is now en7 (to mac1)",
            "mac2: en5 gets 10.254.0.2/30 (had 10.254.0.6/30)",
            "mac2: en7 gets 10.254.0.6/30 (had 10.254.0.2/30)",
        ],
    ),
    "a cable is gone": (
        moved(TWO_CABLES),
        moved(["mac1 2, mac2 6"]),
        ["the cable mac1-mac2 is gone (en5 to en5)"],
    ),
    "a new cable": (
        moved(["mac1 2, mac2 6"]),
        moved(TWO_CABLES),
        ["new cable mac1-mac2 (en5 to en5)"],
    ),
    "a cable goes elsewhere": (
        MESH,
        {**moved(["mac1 1, mac2 1", "mac2 2, mac3 2", "mac2 6, mac3 6"]), "backend": "jaccl"},
        [
            "the cable mac1-mac3 is gone (en3 to en2)",
            "new cable mac2-mac3 (en7 to en7)",
            "mac2: en3 gets 10.254.0.5/30 (had 10.254.0.9/30)",
            "mac3: en3 gets 10.254.0.6/30 (had 10.254.0.10/30)",
        ],
    ),
    "another backend": (
        BASE,
        {**BASE, "backend": "ring"},
        ["the backend is now ring (was jaccl)"],
    ),
    "another address": (
        BASE,
        {
            **BASE,
            "hosts": [
                {**BASE["hosts"][0], "links": {"en5": "10.254.0.9/30"}, "ips": ["10.254.0.9"]},
                {**BASE["hosts"][1], "links": {"en5": "10.254.0.10/30"}, "ips": ["10.254.0.10"]},
            ],
        },
        [
            "mac1: en5 gets 10.254.0.9/30 (had 10.254.0.1/30)",
            "mac1: its ips are now 10.254.0.9 (were 10.254.0.1)",
            "mac2: en5 gets 10.254.0.10/30 (had 10.254.0.2/30)",
            "mac2: its ips are now 10.254.0.10 (were 10.254.0.2)",
        ],
    ),
    "a host is gone": (
        MESH,
        {**MESH, "hosts": MESH["hosts"][:2]},
        [
            "mac3 is no longer among the hosts",
            "the cable mac1-mac3 is gone (en3 to en2)",
            "the cable mac2-mac3 is gone (en3 to en3)",
        ],
    ),
    "a host is new": (
        {**MESH, "hosts": MESH["hosts"][:2]},
        MESH,
        [
            "mac3 is new",
            "new cable mac1-mac3 (en3 to en2)",
            "new cable mac2-mac3 (en3 to en3)",
        ],
    ),
    "the ranks have another order": (
        BASE,
        {**BASE, "hosts": BASE["hosts"][::-1]},
        ["the ranks are now mac2, mac1 (were mac1, mac2)"],
    ),
    # mlx.distributed_config writes no links, and older files are lists: the devices tell.
    "a hostfile of MLX's": (
        [
            {"ssh": "mac1", "ips": ["10.254.0.1"], "rdma": [None, ["rdma_en4", "rdma_en5"]]},
            {"ssh": "mac2", "ips": [], "rdma": [["rdma_en4", "rdma_en5"], None]},
        ],
        BASE,
        [
            "the cable mac1-mac2 is gone (en4 to en4)",
            "mac2: its ips are now 10.254.0.2 (were none)",
        ],
    ),
    "a hostfile with nothing but names": ([{"ssh": "mac1"}, {"ssh": "mac2"}], BASE, None),
}


@pytest.mark.parametrize(("old", "new", "lines"), DIFFS.values(), ids=DIFFS)
def test_diff(old: Any, new: Any, lines: list[str] | None) -> None:
    before = copy.deepcopy((old, new))
    expected = ["new cable mac1-mac2 (en5 to en5)"] if lines is None else lines
    assert diff.diff(as_dict(old), new) == expected
    assert (old, new) == before


def test_merged_keeps_what_people_wrote() -> None:
    old: Any = {
        "$schema": "./schema.json",
        "backend": "ring",
        "engine": "mlx-lm",
        "envs": ["A=1", "MLX_METAL_FAST_SYNCH=0"],
        "hosts": [
            {"ssh": "mac2", "ips": ["10.0.0.2"], "python": "/opt/python", "rdma": ["x", None]},
            {"ssh": "mac9", "ips": []},
        ],
    }
    made: Any = diff.merged(old, BASE)
    assert {key: made[key] for key in ("$schema", "engine", "backend")} == {
        "$schema": "./schema.json",
        "engine": "mlx-lm",
        "backend": "jaccl",
    }
    assert made["envs"] == ["A=1", "MLX_METAL_FAST_SYNCH=0"]
    assert made["hosts"][0] == BASE["hosts"][0]
    assert made["hosts"][1] == {"python": "/opt/python", **BASE["hosts"][1]}
    assert diff.merged(as_dict(old["hosts"]), BASE)["envs"] == []


def test_merged_drops_what_is_no_longer_there() -> None:
    """A hostfile that was jaccl's and is ring's now has no devices left."""
    facts = lab(PAIR)
    changeable(facts["mac1"])[rdma.ENABLED_KEY] = False
    made = diff.merged(BASE, discovered(facts))
    assert [entry.get("rdma") for entry in made["hosts"]] == [None, None]


def test_every_pair_of_hosts_is_in_the_mesh() -> None:
    """The lab itself: a full mesh of four has a cable for every pair."""
    found, _ = cabling.cables(lab(MESH4))
    assert [(each.a.host, each.b.host) for each in found] == list(
        combinations(["mac1", "mac2", "mac3", "mac4"], 2)
    )
