"""Specs and hostfiles -> links; facts -> refusals and changes. All pure."""

from __future__ import annotations

import ipaddress
import json
import subprocess
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
from conftest import DEADLINE
from hypothesis import given
from hypothesis import strategies as st

from tasks.cluster.checks import FAIL, WARN
from tasks.cluster.config import hostfile
from tasks.cluster.errors import BadInput
from tasks.cluster.facts import Key, NodeFacts, Unknown
from tasks.cluster.facts.links import ping, rdma, thunderbolt
from tasks.cluster.facts.links import routes as routing
from tasks.cluster.facts.links.ping import Ping
from tasks.cluster.facts.links.rdma import Interface
from tasks.cluster.facts.links.routes import Route
from tasks.cluster.rdma import launchd, link_checks, links, setup, sudo
from tasks.cluster.rdma.links import LinkPlan

TWO = ["mac1:en5:10.254.0.5", "mac2:en5:10.254.0.6"]
TWO_CABLES = [*TWO, "mac1:en3:10.254.0.9", "mac2:en4:10.254.0.10"]


def specs(*pairs: tuple[int, int], cables: int = 1) -> list[str]:
    """Specs of a wiring: host i's interface to host j is en<j> (en<j+10> for a second cable)."""
    found = []
    subnet = 0
    for one, two in pairs:
        for cable in range(cables):
            subnet += 4
            base = ipaddress.IPv4Address("10.254.0.0") + subnet
            found.append(f"mac{one}:en{two + 10 * cable}:{base + 1}")
            found.append(f"mac{two}:en{one + 10 * cable}:{base + 2}")
    return sorted(found)


def mesh(size: int, cables: int = 1) -> list[str]:
    return specs(*combinations(range(1, size + 1), 2), cables=cables)


def wired(found: list[str], netmask: str = "30") -> LinkPlan:
    return links.from_specs(found, [], netmask)


@pytest.mark.parametrize(
    ("found", "matrix"),
    [
        (TWO, [[None, "rdma_en5"], ["rdma_en5", None]]),
        (TWO_CABLES, [[None, ["rdma_en5", "rdma_en3"]], [["rdma_en5", "rdma_en4"], None]]),
        (
            mesh(3),
            [
                [None, "rdma_en2", "rdma_en3"],
                ["rdma_en1", None, "rdma_en3"],
                ["rdma_en1", "rdma_en2", None],
            ],
        ),
        (
            specs((1, 2), (2, 3), (3, 4), (1, 4)),
            [
                [None, "rdma_en2", None, "rdma_en4"],
                ["rdma_en1", None, "rdma_en3", None],
                [None, "rdma_en2", None, "rdma_en4"],
                ["rdma_en1", None, "rdma_en3", None],
            ],
        ),
    ],
    ids=["two", "two cables", "mesh of three", "ring of four"],
)
def test_matrix(found: list[str], matrix: list[list[Any]]) -> None:
    assert json.loads(setup.matrix_text(wired(found))) == matrix


@pytest.mark.parametrize("cables", [1, 2])
@pytest.mark.parametrize("size", [2, 3, 4, 6])
def test_full_mesh(size: int, cables: int) -> None:
    wiring = wired(mesh(size, cables))
    assert not wiring.unlinked
    assert len(wiring.links) == size * (size - 1) / 2 * cables
    for i, row in enumerate(wiring.matrix):
        assert row[i] is None
        assert all(cell for j, cell in enumerate(row) if j != i)


def test_pairs_without_a_link_are_known() -> None:
    wiring = wired(specs((1, 2), (2, 3), (3, 4), (1, 4)))
    assert wiring.unlinked == [("mac1", "mac3"), ("mac2", "mac4")]


def test_hosts_are_in_the_order_of_mention_and_reached_by_proxy() -> None:
    wiring = links.from_specs([*reversed(TWO)], ["mac1:mac2"], "255.255.255.252")
    assert [host.ssh for host in wiring.hosts] == ["mac2", "mac1"]
    assert wiring.hosts[0].gateway == "mac1"
    assert wiring.hosts[1].gateway is None


WRONG_SPECS: list[tuple[list[str], str]] = [
    (["mac1"], "give HOST:IFACE:IP"),
    (["mac1:en5"], "give HOST:IFACE:IP"),
    ([":en5:10.254.0.5"], "give HOST:IFACE:IP"),
    (["-oProxyCommand=x:en5:10.254.0.5"], "give HOST:IFACE:IP"),
    (["$(x):en5:10.254.0.5"], "give HOST:IFACE:IP"),
    (["mac1:5:10.254.0.5"], "'5' is no interface"),
    (["mac1:en5;reboot:10.254.0.5"], "is no interface"),
    (["mac1::10.254.0.5"], "'' is no interface"),
    (["mac1:en5:10.254.0"], "'10.254.0' is no IPv4 address"),
    (["mac1:en5:10.254.0.256"], "is no IPv4 address"),
    (["mac1:en5:fe80::1"], "is no IPv4 address"),
    (["mac1:en5:10.254.0.5/30"], "is no IPv4 address"),
    (["mac1:en5:mac1"], "is no IPv4 address"),
    (["mac1:en5:10.254.0.5", "mac2:en5:10.254.0.5"], "address 10.254.0.5 is there twice"),
    (
        ["mac1:en5:10.254.0.5", "mac1:en5:10.254.0.9", "mac2:en5:10.254.0.6"],
        "interface en5 of mac1 is there twice",
    ),
    (["mac1:en5:10.254.0.4", "mac2:en5:10.254.0.5"], "is not an address of a host in"),
    (["mac1:en5:10.254.0.7", "mac2:en5:10.254.0.5"], "is not an address of a host in"),
    (["mac1:en5:127.0.0.1", "mac2:en5:127.0.0.2"], "is a special address"),
    (["mac1:en5:169.254.0.1", "mac2:en5:169.254.0.2"], "is a special address"),
    (["mac1:en5:224.0.0.1", "mac2:en5:224.0.0.2"], "is a special address"),
    (["mac1:en5:10.254.0.5"], "is alone in 10.254.0.4/30"),
    (["mac1:en5:10.254.0.5", "mac2:en5:10.254.0.9"], "is alone in"),
    (["mac1:en5:10.254.0.5", "mac1:en6:10.254.0.6"], "a subnet of its own"),
]


@pytest.mark.parametrize(("found", "says"), WRONG_SPECS, ids=[" ".join(w[0]) for w in WRONG_SPECS])
def test_wrong_specs(found: list[str], says: str) -> None:
    with pytest.raises(BadInput) as raised:
        wired(found)
    assert says in str(raised.value.message)
    assert "\n" not in str(raised.value.message)


def test_three_hosts_in_one_subnet_are_no_cable() -> None:
    with pytest.raises(BadInput, match="a subnet of its own"):
        wired(["a:en1:10.254.0.1", "b:en1:10.254.0.2", "c:en1:10.254.0.3"], "24")


@pytest.mark.parametrize("text", ["31", "7", "33", "x", "", "255.0.255.0", "-1", "0.0.0.3"])
def test_wrong_netmask(text: str) -> None:
    with pytest.raises(BadInput, match="--netmask"):
        wired(TWO, text)


@pytest.mark.parametrize("text", ["30", "/30", "255.255.255.252"])
def test_netmask(text: str) -> None:
    assert {end.address.network.prefixlen for end in wired(TWO, text).ends} == {30}


@pytest.mark.parametrize("proxy", ["mac1", ":mac2", "mac1:", "a:b:c", "x:nobody"])
def test_wrong_proxy(proxy: str) -> None:
    with pytest.raises(BadInput, match="--proxy"):
        links.from_specs(TWO, [proxy], "30")


def file(*hosts: dict[str, Any], **more: Any) -> hostfile.Hostfile:
    return hostfile.parse(json.dumps({"hosts": [*hosts], **more}), "hosts.json")


def host(name: str, device: str, ips: list[str], self_at: int, **more: Any) -> dict[str, Any]:
    row: list[Any] = [device, device]
    row[self_at] = None
    return {"ssh": name, "ips": ips, "rdma": row, **more}


def test_hostfile_without_links_has_one_device_and_address_per_host() -> None:
    """Of our own range, as before there were `links`."""
    old = file(host("a", "rdma_en5", ["10.254.0.5"], 0), host("b", "rdma_en5", ["10.254.0.6"], 1))
    shipped = hostfile.load("hosts/hwstudio.json")
    for made, names in ((old, "ab"), (shipped, ("hwstudio1", "hwstudio2"))):
        wiring = links.from_hostfile(made)
        ends = [f"{name}:en5:10.254.0.{n}" for name, n in zip(names, (5, 6), strict=True)]
        assert [str(end) for end in wiring.ends] == ends
        assert wiring.rdma


def test_hostfile_with_links() -> None:
    wiring = links.from_hostfile(
        file(
            {"ssh": "a", "links": {"en5": "10.254.0.5/30", "en3": "10.254.0.9"}},
            {"ssh": "b", "links": {"en5": "10.254.0.6/30", "en4": "10.254.0.10/30"}},
            backend="ring",
        )
    )
    assert wiring.matrix[0] == (None, ("rdma_en5", "rdma_en3"))
    assert not wiring.rdma


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        # An address there and none here.
        (host("b", "rdma_en5", ["192.0.2.6"], 1, links={"en5": "10.254.0.9"}), "is alone in"),
        (host("b", "rdma_en5", ["10.254.0.6"], 1, links={"en4": "10.254.0.6/30"}), "links give"),
        ({"ssh": "b", "links": {"en5": "10.254.0.600"}}, "links.en5"),
        ({"ssh": "b", "links": {"en5": "10.254.0.6/16"}}, "different prefixes"),
    ],
)
def test_wrong_hostfile(entry: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput) as raised:
        links.from_hostfile(file(host("a", "rdma_en5", ["10.254.0.5"], 0), entry))
    assert says in str(raised.value.message)
    assert str(raised.value.message).startswith("hosts.json: ")


LAN = {"mac1": "192.0.2.11", "mac2": "192.0.2.12", "mac3": "192.0.2.13"}


def of_mlx(*rows: list[Any], **more: Any) -> hostfile.Hostfile:
    """What mlx.distributed_config writes: the hosts' own addresses, and devices."""
    names = list(LAN)[: len(rows)]
    hosts = [{"ssh": n, "ips": [LAN[n]], "rdma": r} for n, r in zip(names, rows, strict=True)]
    return file(*hosts, **{"backend": "jaccl", **more})


PAIR = ([None, "rdma_en3"], ["rdma_en4", None])


@pytest.mark.parametrize(
    ("rows", "cables"),
    [
        (PAIR, ["mac1 en3 mac2 en4"]),
        (
            ([None, ["rdma_en3", "rdma_en5"]], [["rdma_en4", "rdma_en2"], None]),
            ["mac1 en3 mac2 en4", "mac1 en5 mac2 en2"],
        ),
        (
            ([None, "a1", "a2"], ["a1", None, "a2"], ["a1", "a2", None]),
            ["mac1 a1 mac2 a1", "mac1 a2 mac3 a1", "mac2 a2 mac3 a2"],
        ),
    ],
    ids=["two", "lists", "mesh"],
)
def test_ips_of_a_jaccl_file_are_not_the_links(rows: Any, cables: list[str]) -> None:
    wiring = links.from_hostfile(of_mlx(*rows))
    assert [" ".join((*a, *b)) for a, b in wiring.cables] == cables
    assert (wiring.ends, wiring.unlinked, wiring.rdma) == ((), [], True)
    assert json.loads(setup.matrix_text(wiring)) == list(rows)


def test_links_have_the_addresses_that_interfaces_have() -> None:
    """Also two that are self-assigned, which are in one network."""
    wiring = links.from_hostfile(of_mlx(*PAIR))
    have = {
        "mac1": {"en3": interface("en3", "169.254.1.1/16"), "en0": interface("en0", "10.0.0.1/8")},
        "mac2": {"en4": interface("en4", "169.254.2.2/16")},
    }
    found = wiring.with_(have)
    assert [(str(a), str(b)) for a, b in found.links] == [
        ("mac1:en3:169.254.1.1", "mac2:en4:169.254.2.2")
    ]
    assert found.bare == ()
    (finding,) = link_checks.self_assigned(found)
    assert (finding.level, finding.fix) == (
        WARN,
        "inv rdma.discover --hosts mac1,mac2 --write FILE gives links fixed ones",
    )
    assert finding.what == (
        "169.254.1.1 (and 1 more): self-assigned, will change with the next replug"
    )
    less = wiring.with_({**have, "mac2": {"en4": interface("en4")}})
    assert (less.bare, less.links) == ((("mac2", "en4"),), [])
    values = {name: facts(*each.values()) for name, each in have.items()}
    values["mac2"] = facts(interface("en4"))
    (bare,) = link_checks.nameless(less, values)
    assert (bare.node, bare.level) == ("mac2", FAIL)
    assert bare.what == "en4 has no IPv4 address, and hosts.json tells none"
    assert bare.fix == "inv rdma.discover --hosts mac1,mac2 --write FILE gives it one"
    # One that is not reached is told by who asked it.
    assert link_checks.nameless(less, {"mac1": values["mac1"]}) == []


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (
            of_mlx([None, "a1", "a1"], ["a1", None, "a2"], ["a1", "a2", None]),
            "a1 of mac1 leads to mac2 and to mac3, and a cable has one other end",
        ),
        (of_mlx(*PAIR, backend="ring"), None),
        (file({"ssh": "a", "ips": ["10.0.0.1"]}, {"ssh": "b"}), "--hosts a,b --write FILE"),
        (
            of_mlx([None, "a1"], [None, None]),
            "hosts[1].rdma[0] is null, but a1 of mac1 leads to mac2, and a cable has two ends",
        ),
        (of_mlx([None, None], ["a1", None]), "hosts[0].rdma[1] is null, but a1 of mac2"),
        (of_mlx([None, None], [None, None]), "--hosts mac1,mac2 --write FILE"),
    ],
    ids=["one device, two hosts", "ring needs no device", "no devices", "there", "back", "none"],
)
def test_hostfiles_of_the_world(made: hostfile.Hostfile, says: str | None) -> None:
    if says is None:
        assert not links.from_hostfile(made).rdma
        return
    with pytest.raises(BadInput) as raised:
        links.from_hostfile(made)
    assert says in str(raised.value.message)


def test_a_cable_with_ends_in_two_networks() -> None:
    """Rows whose devices are exchanged: each is right by itself, and no ping gets through."""
    wiring = links.from_hostfile(of_mlx(*PAIR))
    have = {
        "mac1": {"en3": interface("en3", "10.0.0.1/30")},
        "mac2": {"en4": interface("en4", "10.0.0.6/30")},
    }
    values = {name: facts(*each.values()) for name, each in have.items()}
    found = link_checks.judge(wiring.with_(have), values)
    assert [(f.node, f.what, f.fix) for f in found if "network" in f.what] == [
        (
            "mac1",
            "en3 10.0.0.1/30 and en4 10.0.0.6/30 of mac2 are in two networks: they are no ends of"
            " one cable",
            "inv rdma.discover --hosts mac1,mac2 --write FILE finds the cables",
        )
    ]
    lost = {"10.0.0.1": Ping(answered=False), "10.0.0.6": Ping(answered=False)}
    silent = {name: but(each, ping.KEY, lost) for name, each in values.items()}
    assert {f.fix for f in link_checks.pings(wiring.with_(have), silent)} == {"inv rdma.status"}


def test_hostfile_without_any_link() -> None:
    with pytest.raises(BadInput, match='no "links"'):
        links.from_hostfile(hostfile.load("hosts/local.json"))


def interface(name: str, *addresses: str, members: tuple[str, ...] = ()) -> Interface:
    return Interface(name, "active", tuple(map(ipaddress.IPv4Interface, addresses)), members)


def facts(*interfaces: Interface, routes: tuple[Route, ...] = (), matrix: Any = None) -> Any:
    values = {
        rdma.INTERFACES_KEY: {each.name: each for each in interfaces},
        routing.KEY: routes,
        thunderbolt.HARDWARE_PORTS: {"Thunderbolt 1": "en3", "Thunderbolt 2": "en5"},
        rdma.MATRIX_KEY: matrix,
    }
    return NodeFacts("mac1", values)


def but(values: NodeFacts, key: Key[Any], value: Any) -> NodeFacts:
    return replace(values, values={**values.values, key: value})


def route(network: str, name: str, gateway: str | None = None) -> Route:
    via = ipaddress.IPv4Address(gateway) if gateway else None
    return Route(ipaddress.IPv4Network(network), name, via)


GOOD_MATRIX = [[None, "rdma_en5"], ["rdma_en5", None]]
BARE = facts(interface("en0", "192.168.1.7/24"), interface("en5"), interface("bridge0"))
RIGHT = {
    "mac1": facts(interface("en5", "10.254.0.5/30"), matrix=GOOD_MATRIX),
    "mac2": facts(interface("en5", "10.254.0.6/30"), matrix=GOOD_MATRIX),
}


def test_nothing_to_change() -> None:
    assert setup.changes(wired(TWO), RIGHT, setup.KINDS) == []
    assert setup.refusals(wired(TWO), RIGHT, setup.KINDS) == []


def test_changes_of_a_fresh_mac() -> None:
    bridge = interface("bridge0", members=("en3", "en5"))
    fresh = facts(interface("en5"), interface("en3"), bridge)
    found = setup.changes(wired(TWO), {**RIGHT, "mac1": fresh}, setup.KINDS)
    assert {change.host for change in found} == {"mac1"}
    assert [change.command for change in found] == [
        ("/sbin/ifconfig", "bridge0", "deletem", "en5"),
        ("/sbin/ifconfig", "en5", "inet", "10.254.0.5", "netmask", "255.255.255.252"),
        (),
    ]


@pytest.mark.parametrize(
    ("values", "kinds"),
    [
        (facts(interface("en5", "10.254.0.5/24"), matrix=GOOD_MATRIX), ["address"]),
        (facts(interface("en5", "169.254.3.4/16"), matrix=GOOD_MATRIX), ["address"]),
        (facts(interface("en5", "10.254.0.5/30"), matrix=[[None]]), ["devices"]),
        (facts(interface("en5", "10.254.0.5/30")), ["devices"]),
    ],
    ids=["other mask", "self-assigned", "other matrix", "no matrix"],
)
def test_only_what_is_wrong_is_changed(values: Any, kinds: list[str]) -> None:
    found = setup.changes(wired(TWO), {**RIGHT, "mac1": values}, setup.KINDS)
    assert [change.kind for change in found] == kinds


@pytest.mark.parametrize(
    ("addresses", "is_right"),
    [
        (("10.254.0.5/30", "169.254.3.4/16"), True),
        (("169.254.3.4/16", "10.254.0.5/30"), False),
    ],
)
def test_it_is_its_first_address_that_counts(addresses: tuple[str, ...], is_right: bool) -> None:
    """By which macOS routes; further ones do no harm."""
    values = facts(interface("en5", *addresses), matrix=GOOD_MATRIX)
    found = setup.changes(wired(TWO), {**RIGHT, "mac1": values}, setup.KINDS)
    assert (found == []) == is_right
    assert (
        [each.what for each in found] == []
        if is_right
        else ["set en5 to 10.254.0.5/30 (had 169.254.3.4/16, 10.254.0.5/30)"]
    )


@pytest.mark.parametrize("kind", setup.KINDS)
def test_only_the_kinds_that_were_asked_for(kind: str) -> None:
    """Each with its words, and what does it."""
    fresh = facts(interface("en5"), interface("bridge0", members=("en5",)))
    found = setup.changes(wired(TWO), {**RIGHT, "mac1": fresh}, [kind])
    words = {
        "unbridge": "take en5 out of bridge0",
        "address": "set en5 to 10.254.0.5/30 (had no address)",
        "devices": f"write {rdma.MATRIX} (was missing)",
    }
    assert [(each.kind, each.host, each.what) for each in found] == [(kind, "mac1", words[kind])]
    assert bool(found[0].script) == (kind == "devices")
    other = {**RIGHT, "mac1": but(fresh, rdma.MATRIX_KEY, [[None]])}
    if kind == "devices":
        assert "(was another)" in setup.changes(wired(TWO), other, [kind])[0].what


def test_no_matrix_for_a_cluster_without_rdma() -> None:
    wiring = links.from_hostfile(
        file(
            {"ssh": "mac1", "links": {"en5": "10.254.0.5/30"}},
            {"ssh": "mac2", "links": {"en5": "10.254.0.6/30"}},
            backend="ring",
        )
    )
    bare = {name: but(values, rdma.MATRIX_KEY, None) for name, values in RIGHT.items()}
    assert setup.changes(wiring, bare, setup.KINDS) == []


REFUSED = [
    (facts(interface("en0")), "interface", "no interface en5"),
    (
        but(facts(interface("en5")), thunderbolt.HARDWARE_PORTS, {"Thunderbolt 1": "en3"}),
        "interface",
        "en5 is no Thunderbolt port (those are en3)",
    ),
    (facts(interface("en5"), interface("en0", "10.254.0.7/24")), "subnet", "en0 has 10.254.0.7/24"),
    (facts(interface("en5"), routes=(route("10.0.0.0/8", "utun3"),)), "subnet", "on utun3"),
    (
        facts(interface("en5"), routes=(route("0.0.0.0/0", "en0", "10.254.0.6"),)),
        "subnet",
        "the route to everywhere goes through 10.254.0.6",
    ),
    (
        but(BARE, rdma.INTERFACES_KEY, Unknown("no ifconfig")),
        "read",
        "its interfaces can't be read",
    ),
    (but(BARE, routing.KEY, Unknown("no netstat")), "read", "its routes can't be read"),
    (but(BARE, rdma.MATRIX_KEY, Unknown("no JSON")), "read", "its matrix can't be read"),
]


@pytest.mark.parametrize(("values", "check", "says"), REFUSED, ids=[r[2] for r in REFUSED])
def test_refusals(values: Any, check: str, says: str) -> None:
    found = setup.refusals(wired(TWO), {**RIGHT, "mac1": values}, setup.KINDS)
    assert [(finding.node, finding.check, finding.level) for finding in found] == [
        ("mac1", check, "fail")
    ]
    assert says in found[0].what
    assert found[0].fix


def test_the_offices_subnet_is_refused() -> None:
    """A /30 of 192.168.1.x where the default route's network is 192.168.1/24."""
    office = facts(
        interface("en0", "192.168.1.7/24"),
        interface("en5"),
        routes=(route("0.0.0.0/0", "en0", "192.168.1.1"), route("192.168.1.0/24", "en0")),
    )
    wiring = wired(["mac1:en5:192.168.1.101", "mac2:en5:192.168.1.102"])
    found = setup.refusals(wiring, {"mac1": office, "mac2": office}, setup.KINDS)
    assert [finding.check for finding in found] == ["subnet", "subnet"]
    assert {finding.fix for finding in found} == {"take a free one of 10.254.0.0/16"}
    assert setup.refusals(wiring, {"mac1": office, "mac2": office}, ["rdma"]) == []


def test_own_and_harmless_routes_are_no_collision() -> None:
    mine = facts(
        interface("lo0", "127.0.0.1/8"),
        interface("en5", "10.254.0.5/30"),
        routes=(
            route("0.0.0.0/0", "en0", "192.168.1.1"),
            route("10.254.0.4/30", "en5"),
            route("10.254.0.6/32", "en5"),
            route("224.0.0.0/4", "en0"),
            route("255.255.255.255/32", "en0"),
        ),
        matrix=GOOD_MATRIX,
    )
    assert setup.refusals(wired(TWO), {**RIGHT, "mac1": mine}, setup.KINDS) == []


@given(password=st.text(st.characters(exclude_characters="\0\n", exclude_categories=["Cs"])))
def test_a_password_reaches_sudo_exactly(password: str) -> None:
    """By stdin, whatever it holds, and never among the words of a process."""
    stand_in = 'sudo() { [ "$*" = "-S -p  true" ] || exit 9; cat; }\n'
    script = stand_in + sudo.as_root(password) + "root true\n"
    done = subprocess.run(
        ["/bin/sh", "-s"], input=script.encode(), capture_output=True, timeout=DEADLINE
    )
    assert done.stdout == password.encode() + b"\n"


def test_sudoers_line_is_just_these_commands() -> None:
    todo = setup.changes(wired(TWO), {**RIGHT, "mac1": BARE}, setup.KINDS)
    line = sudo.sudoers("me", [change.command for change in todo if change.command])
    assert line == (
        "me ALL=(root) NOPASSWD: /sbin/ifconfig lo0,"
        " /sbin/ifconfig en5 inet 10.254.0.5 netmask 255.255.255.252"
    )


def test_a_word_of_sudoers_is_no_pattern() -> None:
    """Nor the end of a command, nor a list of arguments: each is itself."""
    word = r"a,b:c=d\e*f?[g]!^h# i"
    line = sudo.sudoers("me", [("/bin/x", word)])
    assert line.endswith(r", /bin/x a\,b\:c\=d\\e\*f\?\[g\]\!\^h\#\ i")


@pytest.mark.parametrize("owner", [None, "me"])
def test_the_matrix_that_is_written(owner: str | None) -> None:
    text = setup.write_matrix(wired(TWO), owner)
    assert f"owner={owner or repr('')}\n" in text
    assert "file=/tmp/mlx_ibv_devices.json\n" in text
    assert f"matrix='{setup.matrix_text(wired(TWO))}'\n" in text


def test_nothing_takes_an_interface_down_or_up() -> None:
    wiring = wired(mesh(4, 2))
    texts = [launchd.converge(wiring, host.ssh, "me") for host in wiring.hosts]
    texts += [" ".join(setup.assign(end)) for end in wiring.ends]
    for text in texts:
        assert not {"down", "up"} & set(text.split())
