"""No output upsets a parser, and none that was damaged says more good than the truth.

The outputs in data/macos are ours, in the form of macOS's; test_samples.py has real ones.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.cluster import checks, facts
from tasks.cluster.checks import Expected
from tasks.cluster.checks import model as model_checks
from tasks.cluster.checks import servers as servers_checks
from tasks.cluster.checks.models import divide, whole
from tasks.cluster.config.engine import MLX_LM
from tasks.cluster.config.hostfile import Host
from tasks.cluster.config.ranks import Rank
from tasks.cluster.facts import Fact, Key, NodeFacts, Unknown
from tasks.cluster.facts.links import ping, rdma, routes, thunderbolt
from tasks.cluster.facts.links.routes import Route
from tasks.cluster.facts.machine import files, gpu, memory, ports, processes, versions
from tasks.cluster.facts.models import model, split
from tasks.cluster.facts.server import state
from tasks.cluster.facts.snapshot import Snapshot
from tasks.cluster.known_errors.hints import describe_exit, first_error, hint
from tasks.cluster.server import logs

DATA = Path(__file__).parent / "data" / "macos"
MATRIX = '[[null, "rdma_en5"], ["rdma_en5", null]]\n'
Parse = Callable[[str, int], Any]


LISTING = "4038471504 3 ./a b\n7 0 ./empty\n3000000 ./large\nlink ./gone\n"
PLACE = "folder /Users/me/copy\nid 16777232:42\nrsync\nis state\nholds store\nend 2\n"
PART = "model-0000{}-of-00002.safetensors"
SPLIT = {
    "mlx_lm": "0.32.2",
    "kind": "llama",
    "layers": 2,
    "bare": [],
    "context": 8192,
    "rows": [
        {"n": 2, "mode": "tensor", "answer": "no", "why": "1 KV head can't be divided by 2 ranks"},
        {"n": 1, "mode": "tensor", "answer": "yes", "why": "", "bytes": [17000],
         "kv_heads": [1], "cache": [[None, 64], [512, 32]], "state": 8},
    ],
    "named": [PART.format(1), PART.format(2)],
    "implied": {PART.format(1): 9108, PART.format(2): 8208},
    "lost": [["a.weight", PART.format(2)]],
    "lost_count": 2,
    "seconds": 0.4,
}  # fmt: skip


def data(name: str) -> str:
    return (DATA / name).read_text()


# What a damaged output may say: (what was read, the truth) -> is it no better than the truth?


def _same(value: Any, truth: Any) -> bool:
    return bool(value == truth)


def _part(value: Any, truth: Any) -> bool:
    """Less is worse: devices, interfaces of ports."""
    is_map = isinstance(truth, Mapping)
    return set(value.items() if is_map else value) <= set(truth.items() if is_map else truth)


def _no_freer(value: Mapping[int, Any], truth: Mapping[int, Any]) -> bool:
    """All ports that are taken are still taken."""
    return set(truth) <= set(value)


def _still_serves(value: Mapping[int, Any], truth: Mapping[int, Any]) -> bool:
    def servers(listed: Mapping[int, Any]) -> set[int]:
        return set(servers_checks.servers(MLX_LM, NodeFacts("mac1", {processes.KEY: listed})))

    assert servers(truth) == {4130}
    return servers(truth) <= servers(value)


def _no_readier(value: Mapping[str, Any], truth: Mapping[str, Any]) -> bool:
    """No device is active, or has an IPv4-mapped GID, that has not."""
    ready = {name for name, each in value.items() if each.is_active}
    mapped = {name for name, each in value.items() if each.ipv4_gids}
    return ready <= {name for name, each in truth.items() if each.is_active} and mapped <= {
        name for name, each in truth.items() if each.ipv4_gids
    }


def _no_more_cables(value: Any, truth: Any) -> bool:
    whole = {port.domain: port for port in truth}
    return all(
        port.domain in whole
        and set(port.peers) <= set(whole[port.domain].peers)
        and port.speed in (None, whole[port.domain].speed)
        and port.top in (None, whole[port.domain].top)
        for port in value
        if port.domain  # else no cable of it is known
    )


def _answered_no_more(value: Mapping[str, Any], truth: Mapping[str, Any]) -> bool:
    return all(not each.answered or truth[name].answered for name, each in value.items())


def _no_deader(value: state.State, truth: state.State) -> bool:
    alive = {rank.rank for rank in truth.ranks.values() if rank.alive}
    still = {rank.rank for rank in value.ranks.values() if rank.alive}
    return alive <= still and value.sigkill == truth.sigkill


def _same_or_told(value: model.Model, truth: model.Model) -> bool:
    """Beside a node that has the whole model, the check tells the difference."""
    told = (("mac1", truth), ("mac2", value))
    both = Snapshot({node: NodeFacts(node, {model.KEY: each}) for node, each in told}, {})
    rank = Rank(0, Host("mac1"), {}, {}, ("python", "--model", "llama"), None, ())
    expected = Expected([rank], "ring", MLX_LM, 8000, "llama", 0, 0)
    levels = [finding.level for finding in model_checks.model(expected, both)]
    return value.files == truth.files or checks.FAIL in levels


def _differs_if_other(value: Mapping[str, str], truth: Mapping[str, str]) -> bool:
    """Beside what was copied, the comparison tells the difference."""
    return files.compare(truth, value) != files.Difference([], [], []) or value == truth


def _no_roomier(value: int, truth: int) -> bool:
    """A smaller limit, and neither macOS's own choice nor none at all."""
    return 0 < value <= truth


def _no_wholer(value: split.Split, truth: split.Split) -> bool:
    """With a file too short and one too few, it is never taken for whole, nor for divisible."""
    lengths = {PART.format(1): "9108", PART.format(2): "8207"}
    damaged = [dict([pair]) for pair in lengths.items()] + [lengths]
    there = [model.Model("/m", {"config.json": "9 1", **each}) for each in damaged]
    values = [{model.KEY: each, split.KEY: value} for each in there]
    facts = [{"n": NodeFacts("n", each)} for each in values]
    found = [whole.complete(each)[0] for each in facts]
    found += [divide.divides(each, 2, "tensor")[0] for each in facts]
    return all(each.level == checks.FAIL for each in found)


@dataclass(frozen=True)
class Case:
    """A parser, a good output, and what may be done to it without its seeming better.

    `status` is False where the parser may read what a command printed that then failed.
    """

    parse: Parse
    text: str
    no_better: Callable[[Any, Any], bool]
    damage: tuple[str, ...] = ("cut", "gap", "crlf", "indent")
    status: bool = True

    @property
    def truth(self) -> Any:
        return self.parse(self.text, 0)


# "gap", a line that is missing, can't be told in a list; and that ifconfig and netstat were cut
# short only their exit status tells. They are not numbered, and have no last line of their own.
CASES: Mapping[str, Case] = {
    "memory": Case(
        memory.parse, data("memory.txt"), _same, ("cut", "gap", "crlf", "indent", "digits")
    ),
    "ports": Case(ports.parse, data("ports.txt"), _no_freer, ("cut", "crlf", "indent"), False),
    "processes": Case(
        processes.parse, data("processes.txt"), _still_serves, ("cut", "crlf", "indent"), False
    ),
    "versions": Case(versions.parse, data("versions.txt"), _same),
    "state": Case(state.parse, data("state.txt"), _no_deader, ("cut", "crlf", "indent")),
    "model": Case(model.parse, data("model.txt"), _same_or_told),
    "rdma_enabled": Case(rdma.parse_enabled, "enabled\n", _same, status=False),
    "rdma_disabled": Case(rdma.parse_enabled, "disabled\n", _same, status=False),
    "ibv_devices": Case(rdma.parse_devices, data("ibv_devices.txt"), _part, status=False),
    "ibv_devinfo": Case(rdma.parse_devinfo, data("ibv_devinfo.txt"), _no_readier, status=False),
    "interfaces": Case(rdma.parse_interfaces, data("ifconfig.txt"), _same, ("crlf", "indent")),
    "matrix": Case(rdma.parse_matrix, MATRIX, _same, status=False),
    "thunderbolt": Case(thunderbolt.parse_ports, data("system_profiler.json"), _no_more_cables),
    "hardware_ports": Case(thunderbolt.parse_hardware_ports, data("networksetup.txt"), _part),
    "routes": Case(routes.parse, data("netstat_routes.txt"), _same, ("crlf", "indent", "digits")),
    "ping": Case(ping.parse, data("ping.txt"), _answered_no_more),
    "files": Case(files.parse_files, LISTING, _differs_if_other, ("cut", "crlf", "indent")),
    "place": Case(files.parse_place, PLACE, _same, ("cut", "gap", "crlf")),
    "gpu": Case(gpu.parse, "iogpu.wired_limit_mb: 498000\n", _no_roomier, ("cut", "gap", "digits")),
    "split": Case(split.parse, json.dumps(SPLIT) + "\n", _no_wholer),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def _digits(text: str) -> list[str]:
    """Numbers as other languages write them: in groups, or with digits of their own."""
    groups = [
        re.sub(r"(?<=\d)(?=(\d{3})+(?!\d))", mark, text) for mark in (",", ".", "'", "\u202f")
    ]
    arabic = {ord("0") + n: ord("\u0660") + n for n in range(10)}
    return [*groups, text.translate(arabic)]


def _damaged(case: Case) -> list[str]:
    """All damaged forms of the case's output."""
    lines = case.text.splitlines(keepends=True)
    forms = {
        "cut": [case.text[:end] for end in range(len(case.text))],
        "gap": ["".join(lines[:i] + lines[i + 1 :]) for i in range(len(lines))],
        "crlf": [case.text.replace("\n", "\r\n")],
        "indent": [
            case.text.expandtabs(8),
            re.sub(r"^ {8}", "\t", case.text, flags=re.MULTILINE),
            re.sub(r"$", "  ", case.text, flags=re.MULTILINE),
        ],
        "digits": _digits(case.text),
    }
    return [text for kind in case.damage for text in forms[kind]]


@each_case
def test_damage_never_looks_better(case: Case) -> None:
    truth = case.truth
    for text in _damaged(case):
        try:
            value = case.parse(text, 0)
        except ValueError:
            continue
        assert case.no_better(value, truth), text


@each_case
@given(cut=st.floats(0, 1), status=st.integers(1, 255).filter(lambda n: n != 3))
def test_a_failed_command_is_unknown(case: Case, cut: float, status: int) -> None:
    """What a command printed before it failed is not all there is."""
    text = case.text[: round(cut * len(case.text))]
    try:
        value = case.parse(text, status)
    except ValueError:
        return
    assert not case.status
    assert case.no_better(value, case.truth)


# Any text: letters, and pieces of what parsers look for, in any order.
_PIECES = sorted({line for case in CASES.values() for line in case.text.splitlines(keepends=True)})
anything = st.one_of(
    st.text(),
    st.lists(st.one_of(st.sampled_from(_PIECES), st.text(max_size=9))).map("".join),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "SPThunderboltDataType",
                        "_items",
                        "_name",
                        "domain_uuid_key",
                        "receptacle_1_tag",
                        "current_speed_key",
                        "python",
                        "mlx",
                        "mlx-lm",
                        *SPLIT,
                    ]
                ),
                inner,
            )
        ),
    ).map(json.dumps),
)


@each_case
@given(text=anything, status=st.integers(0, 255))
def test_any_text_is_a_value_or_unknown(case: Case, text: str, status: int) -> None:
    said = None
    try:
        case.parse(text, status)
    except ValueError as error:
        said = str(error)
    assert said != ""


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"SPThunderboltDataType":' + '[{"_items":' * 5000, "9" * 10_000, "\0", "²"],
    ids=["deep", "deep ports", "long", "nul", "superscript"],
)
@each_case
def test_hostile_text(case: Case, text: str) -> None:
    for form in (text, f"build\n{text}\n", case.text + text, f"p {text} {text}\nrank {text}\n"):
        try:
            case.parse(form, 0)
        except ValueError:
            continue


def test_deep_items_are_walked() -> None:
    """A tree of docks as deep as JSON allows does not exhaust the walk."""
    item: dict[str, Any] = {"_name": "last", "domain_uuid_key": "X"}
    for _ in range(400):
        item = {"_name": "dock", "_items": [item]}
    bus = {"domain_uuid_key": "A", "_items": [item]}
    port = thunderbolt.parse_ports(json.dumps({"SPThunderboltDataType": [bus]}), 0)[0]
    assert (port.peers, len(port.devices)) == ({"X": "last"}, 400)


@given(text=st.text())
def test_any_text_is_a_log(text: str) -> None:
    hint(text.splitlines())
    error = first_error(text.splitlines())
    assert error is None or error.strip()
    assert logs.parse("mac1", text, "nonce") == []


@given(status=st.none() | st.integers())
def test_any_exit_status_has_words(status: int | None) -> None:
    assert describe_exit(status)


# What the good outputs say: without this, "no better" could hold for parsers that read nothing.


def test_good_outputs() -> None:
    read = {name: case.truth for name, case in CASES.items()}
    assert read["memory"] == memory.Memory(512 * memory.GIB, 1310720 * 16384, 16384)
    assert sorted(read["ports"]) == [22, 5000, 7000, 8000, 32323]
    assert [str(each) for each in read["ports"][8000]] == ["Python (pid 4130)", "Python (pid 4131)"]
    assert [str(each) for each in read["ports"][22]] == ["another user's process"]
    assert len(read["processes"]) == 5
    assert read["processes"][4130].rss == 202951136 * 1024
    assert read["versions"] == {
        "python": "3.14.0",
        "mlx": "0.32.4",
        "mlx-lm": "0.32.2",
        "os": "25E253",
    }
    assert read["rdma_enabled"] is True
    assert read["rdma_disabled"] is False
    assert read["ibv_devices"] == ("rdma_en2", "rdma_en3", "rdma_en4", "rdma_en5")
    assert read["matrix"] == [[None, "rdma_en5"], ["rdma_en5", None]]
    assert read["hardware_ports"] == {
        "Thunderbolt 1": "en2",
        "Thunderbolt 2": "en5",
        "Thunderbolt 3": "en3",
        "Thunderbolt 4": "en4",
    }


def test_good_state() -> None:
    found: state.State = CASES["state"].truth
    assert (found.now, found.sigkill, found.ready) == (1765432160.0, 1765432150.0, "r1")
    assert found.wanted == state.Wanted("running", "r1", 1765432100.0, "me@desk")
    assert (found.token, found.last[0].host) == (1765432155.0, "mac1")
    rank = found.ranks[0]
    assert rank.record is not None
    assert (rank.pid, rank.alive, rank.exit, rank.record.port) == (4130, True, None, 8000)


def test_good_devices() -> None:
    found = CASES["ibv_devinfo"].truth
    assert [(d.is_active, d.ipv4_gids) for d in found.values()] == [
        (False, ()),
        (True, ()),
        (True, ("10.254.0.9",)),
        (True, ("10.254.0.5",)),
    ]
    assert {(d.max_pd, d.max_qp) for d in found.values()} == {(11, 11)}


def test_good_interfaces() -> None:
    found = CASES["interfaces"].truth
    assert found["bridge0"].members == ("en2", "en3")
    assert found["en5"].ipv4 == ("10.254.0.5",)
    assert str(found["en5"].addresses[0].network) == "10.254.0.4/30"
    assert (found["lo0"].status, found["en2"].status) == (None, "inactive")
    assert str(found["utun4"].addresses[0]) == "100.96.0.7/32"


def test_good_ports() -> None:
    """Behind the dock there are a drive and another Mac; a drive alone is no peer."""
    by_number = {port.receptacle: port for port in CASES["thunderbolt"].truth}
    assert list(by_number["4"].peers.values()) == ["Mac mini"]
    assert by_number["4"].devices == ("Example Dock", "Example Drive")
    assert (by_number["3"].peers, by_number["3"].speed) == ({}, 40)
    assert (by_number["2"].speed, by_number["2"].top) == (80, None)
    assert (by_number["1"].speed, by_number["1"].top) == (None, 120)


@pytest.mark.parametrize(
    ("speeds", "expected"),
    [
        ([("Up to 120 Gb/s", False)], True),
        ([("Up to 40 Gb/s", False)], False),
        ([("Up to 40 Gb/s x1", False)], False),  # as older systems write it
        ([("80 Gb/s", True)], True),
        # Linked at 40 Gb/s: the port itself may be of either kind.
        ([("40 Gb/s", True)], None),
        ([("40 Gb/s", True), ("Up to 40 Gb/s", False)], False),
        ([("40 Gb/s", True), ("Up to 120 Gb/s", False)], True),
        ([("Up to 40 Gb/s", True)], None),
        ([("", False)], None),
        ([], None),
    ],
)
def test_thunderbolt_5(speeds: list[tuple[str, bool]], expected: bool | None) -> None:
    buses = [
        {
            "domain_uuid_key": "A",
            "receptacle_1_tag": {"current_speed_key": speed},
            "_items": [{"_name": "drive"}] if linked else [],
        }
        for speed, linked in speeds
    ]
    found = thunderbolt.parse_ports(json.dumps({"SPThunderboltDataType": buses}), 0)
    assert thunderbolt.is_thunderbolt5(found) is expected


def test_intel_bus_has_no_receptacle() -> None:
    """Two receptacles on one bus: which has the cable is not told."""
    bus = {
        "domain_uuid_key": "A",
        "receptacle_1_tag": {"receptacle_id_key": "1"},
        "receptacle_2_tag": {"receptacle_id_key": "2"},
    }
    found = thunderbolt.parse_ports(json.dumps({"SPThunderboltDataType": [bus]}), 0)
    assert found[0].receptacle is None


def test_good_ping() -> None:
    found = CASES["ping"].truth
    assert [(each.answered, each.mean) for each in found.values()] == [(False, None), (True, 0.106)]


def test_good_routes() -> None:
    found = CASES["routes"].truth
    assert Route(IPv4Network("0.0.0.0/0"), "en0", IPv4Address("192.0.2.1")) in found
    networks = {str(each.network): each.interface for each in found if each.interface != "utun4"}
    assert networks == {
        "0.0.0.0/0": "en0",
        "10.254.0.0/30": "en3",  # netstat writes 10.254/30
        "10.254.0.4/30": "en5",
        "10.254.0.5/32": "en5",  # not the one to lo0
        "10.254.0.6/32": "en5",
        "10.254.0.8/30": "en4",
        "127.0.0.0/8": "lo0",
        "128.0.0.0/1": "en0",
        "169.254.0.0/16": "en0",
        "172.16.0.0/12": "en0",
        "192.0.2.0/24": "en0",
        "192.0.2.1/32": "en0",
        "192.168.44.0/24": "bridge100",
        "224.0.0.0/4": "en0",
        "255.255.255.255/32": "en0",
    }


SAID = {"python": "3.14.0", "mlx": "0.32.4", "mlx-lm": None}


@pytest.mark.parametrize(
    ("build", "said"),
    [
        ("ProductName: macOS", SAID),
        ("25E253", {**SAID, "mlx": 32}),
        ("25E253", {**SAID, "mlx": ["0.32.4"]}),
        ("25E253", {**SAID, "mlx": "0.32.4 or so"}),
        ("25E253", {"python": "3.14.0"}),
        ("25E253", {}),
        ("25E253", [SAID]),
        ("25E253", "python"),
        ("25E253", None),
    ],
)
def test_versions_of_another_form_are_unknown(build: str, said: Any) -> None:
    assert versions.parse(f"25E253\n{json.dumps(SAID)}", 0)["mlx-lm"] == "missing"
    with pytest.raises(ValueError, match="python gave no versions"):
        versions.parse(f"{build}\n{json.dumps(said)}", 0)


@pytest.mark.parametrize(
    ("row", "network"),
    [
        ("default", "0.0.0.0/0"),
        ("0/1", "0.0.0.0/1"),
        ("10", "10.0.0.0/8"),
        ("10/16", "10.0.0.0/16"),
        ("10.254/30", "10.254.0.0/30"),
        ("10.254.1/30", "10.254.1.0/30"),
        ("10.254.0.4/30", "10.254.0.4/30"),
        ("172.16", "172.16.0.0/16"),
        ("192.168.0", "192.168.0.0/24"),
        ("192.168.0/16", "192.168.0.0/16"),
        ("192.168.68.1", "192.168.68.1/32"),
        ("172.16.8&0xfffff800", "172.16.8.0/21"),
        ("10.1&0xff00ff00", "10.0.0.0/8"),
        ("10&0xff000000", "10.0.0.0/8"),
        ("10.1&0x", None),
        ("10.1&0xfffffffff", None),
        ("10.1.2.3.4", None),
        ("10.1/33", None),
        ("300.1", None),
        ("fe80::1", None),
    ],
)
def test_netstat_destinations(row: str, network: str | None) -> None:
    titles = "Internet:\nDestination Gateway Flags Netif Expire\n"
    text = f"{titles}{row} link#9 UCS en5 !\nInternet6:\nDestination\ndefault fe80::1 UGc en5\n"
    if network is None:
        with pytest.raises(ValueError, match=r"."):
            routes.parse(text, 0)
    else:
        assert [str(each.network) for each in routes.parse(text, 0)] == [network]


def test_linux_routes() -> None:
    text = (
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "en5\t0400FE0A\t00000000\t0001\t0\t0\t0\tFCFFFFFF\t0\t0\t0\n"
    )
    assert routes.parse(text, 0) == (
        Route(IPv4Network("0.0.0.0/0"), "eth0", IPv4Address("192.0.2.1")),
        Route(IPv4Network("10.254.0.4/30"), "en5"),
    )
    with pytest.raises(ValueError, match="can't be read"):
        routes.parse(text[:-1], 0)
    with pytest.raises(ValueError, match=r"."):
        routes.parse(text + "en6\t0400FE0\t0\t1\t0\t0\t0\tFCFFFFFF\t0\t0\t0\n", 0)


def test_linux_memory() -> None:
    rows = "MemTotal:  2048 kB\nUnevictable:  8 kB\nSUnreclaim:  16 kB\n"
    assert memory.parse(rows, 0) == memory.Memory(2048 * 1024, 24 * 1024, 4096)
    for cut in range(len(rows) - 1):
        with pytest.raises(ValueError, match="can't be read"):
            memory.parse(rows[:cut], 0)


@given(number=st.integers(0, 65535), other=st.integers(0, 65535))
def test_linux_ports(number: int, other: int) -> None:
    """Only what listens (state 0A) is taken."""
    text = (
        "== table\n  sl  local_address rem_address   st\n"
        f"   0: 0100007F:{number:04X} 00000000:0000 0A 00000000:00000000\n"
        f"   1: 0100007F:{other:04X} 0100007F:1F90 01 00000000:00000000\n== whole\n== lsof\n"
    )
    assert list(ports.parse(text, 0)) == [number]


@pytest.mark.parametrize("row", ["tcp4 0 0 *:8000 *:* LISTEN", "tcp4 *.8000 *.* LISTEN"])
def test_a_listener_of_another_form_is_unknown(row: str) -> None:
    text = f"== table\nProto Local Address\ntcp4 0 0 *.22 *.* LISTEN\n{row}\n== whole\n== lsof\n"
    with pytest.raises(ValueError, match="can't be read"):
        ports.parse(text, 0)
    assert list(ports.parse(text.replace(row, "tcp4 0 0 *.8000 *.* LISTEN 1 2 new"), 0)) == [
        22,
        8000,
    ]


# The facts' own scripts, on this machine.


def _run(fact: Fact[Any], shell: tuple[str, ...] = ("/bin/sh", "-s"), **more: Any) -> Any:
    text = facts.script([fact], "n0nce")
    done = subprocess.run(shell, input=text, capture_output=True, text=True, check=True, **more)
    return facts.read([fact], done.stdout, "n0nce").get(fact.key)


@pytest.mark.parametrize(
    "fact", [memory.FACT, ports.FACT, processes.FACT, routes.FACT], ids=lambda fact: fact.name
)
def test_facts_here(fact: Fact[Any]) -> None:
    assert not isinstance(_run(fact), Unknown)


def test_processes_without_ps(tmp_path: Path) -> None:
    """A bare Debian has no ps: /proc tells the same."""
    for name in ("cat", "tr", "head"):
        (tmp_path / name).symlink_to(f"/bin/{name}")
    found = _run(processes.FACT, env={"PATH": str(tmp_path)})
    assert not isinstance(found, Unknown), found
    assert found[1].ppid == 0


def test_marks_of_a_rank(tmp_path: Path) -> None:
    """Who has a rank's mark, by /proc or by `ps -E`; nothing else of an environment is told."""
    env = {"PATH": "/usr/bin:/bin", "KEY": "sk-secret", "MLX_TP_RANK_OF": "0a1b.1"}
    with subprocess.Popen(["/bin/sleep", "60"], env=env) as child:
        found = _run(processes.FACT)
        child.kill()
    assert found[child.pid].mark == "0a1b.1"
    assert found[1].mark == ""
    (tmp_path / "ps").write_text(
        "#!/bin/sh\ncase $* in\n"
        "*E*) echo '  7 sleep 9 KEY=sk-secret MLX_TP_RANK_OF=0a1b.1 HOME=/'; echo ' 8 sleep 9' ;;\n"
        "*comm=) echo '7 sleep' ;;\n*) echo '7 1 7 9 sleep 9' ;;\nesac\n"
    )
    (tmp_path / "ps").chmod(0o755)
    blind = processes.FACT.command.replace("/proc/self", str(tmp_path / "no"))
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    text = subprocess.run(
        ["/bin/sh", "-c", blind], env=env, capture_output=True, text=True, check=True
    ).stdout
    assert "secret" not in text
    assert [process.mark for process in processes.parse(text, 0).values()] == ["0a1b.1"]


def test_listeners_without_ss(tmp_path: Path) -> None:
    """A bare Debian has no ss: /proc tells the same ports."""
    for name in ("cat", "grep", "head"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert taken.getsockname()[1] in _run(ports.fact([]), env={"PATH": str(tmp_path)})
        assert taken.getsockname()[1] in _run(ports.fact([]))


def test_lsof_only_for_a_port_that_may_be_taken(tmp_path: Path) -> None:
    """Who holds a port is asked only if it is one that is wanted."""
    (tmp_path / "lsof").write_text("#!/bin/sh\necho p7; echo cpython; echo f3; echo n*:$PORT\n")
    (tmp_path / "lsof").chmod(0o755)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PORT": str(port)}
        assert str(_run(ports.fact([port]), env=env)[port][0]) == "python (pid 7)"
        for wanted in ([port + 1], []):
            assert str(_run(ports.fact(wanted), env=env)[port][0]) == "another user's process"


def test_versions_by_the_names_of_folders(tmp_path: Path) -> None:
    """As importlib.metadata has them, but for a checkout, which has none."""
    for name in ("mlx-9.8.7.dist-info", "mlx_cpu-1.dist-info", "MLX_lm-0.9-py3.11.egg-info"):
        (tmp_path / name).mkdir()
    (tmp_path / "vllm_mlx.py").touch()
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path)}
    found = _run(versions.fact(sys.executable, None), env=env)
    assert (found["mlx"], found["mlx-lm"], found["vllm-mlx"]) == ("9.8.7", "0.9", "checkout")
    assert found["python"] == platform.python_version()
    bare = _run(versions.fact(sys.executable, None), env={"PATH": "/usr/bin:/bin"})
    assert (bare["mlx"], bare["mlx-lm"]) == (version("mlx"), version("mlx-lm"))


def test_a_list_that_fails_midway_is_unknown(tmp_path: Path) -> None:
    """ps and netstat that print half and fail, on a node whose /proc is not there."""
    for name in ("ps", "netstat"):
        (tmp_path / name).write_text("#!/bin/sh\necho '1 1 1 1 half'\necho Local Address\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    assert isinstance(_run(processes.FACT, env=env), Unknown)
    for fact in (ports.FACT, routes.FACT):
        blind = replace(fact, command=fact.command.replace("/proc/net", str(tmp_path / "no")))
        assert isinstance(_run(blind, env=env), Unknown)


def test_a_state_directory_that_cannot_be_entered_is_unknown(tmp_path: Path) -> None:
    """Another user's record is no proof that nothing runs; root can't enter a file either."""
    (tmp_path / "state").write_text("")
    assert isinstance(_run(state.fact(str(tmp_path / "state"), "default")), Unknown)
    empty = _run(state.fact(str(tmp_path / "none"), "default"))
    assert empty.ranks == {}


def test_an_exit_status_that_comes_late(tmp_path: Path) -> None:
    """A rank has just died, and the shell that waits for it has not written its end yet."""
    record = CASES["state"].truth.ranks[0].record
    run = tmp_path / "default" / "runs" / record.run
    run.mkdir(parents=True)
    (run / "record.json").write_text(state.dump(record.run, [record]))
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    (run / "rank-0.pid").write_text(f"999999999\n1\n{boot}")
    writes = f"sleep 0.2; echo 137 >'{run}/rank-0.exit'"
    with subprocess.Popen(["/bin/sh", "-c", writes]):
        assert _run(state.fact(str(tmp_path), "default")).ranks[0].exit == 137
    (run / "rank-0.exit").unlink()
    assert _run(state.fact(str(tmp_path), "default")).ranks[0].exit is None


def test_hung_command_is_limited() -> None:
    fact = Fact(Key[int]("slow"), facts.limited(1, "sleep 600"), lambda text, status: status)
    found = _run(fact)
    assert isinstance(found, Unknown)
    assert "in time" in found.why
