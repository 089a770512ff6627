"""Hostfiles: good forms, wrong ones as data, any JSON at all, and MLX's own reader and writer."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from mlx._distributed_utils import common
from mlx._distributed_utils.config import save_hostfile

from tasks.cluster import cluster
from tasks.cluster.config import hostfile
from tasks.cluster.config.hostfile import Host, Hostfile
from tasks.cluster.errors import BadInput

# All that a file may say, ours and MLX's.
FULL: dict[str, Any] = {
    "backend": "jaccl",
    "envs": ["MLX_METAL_FAST_SYNCH=1", "EMPTY=", "TEXT=a b\n\"c\"='d'"],
    "engine": "mlx-lm",
    "model": "~/models/tiny",
    "args": ["--port", "8001", "", "{\"a\": 'b c'}"],
    "python": "/opt/homebrew/bin/python3",
    "cwd": "~/work",
    "user": "admin",
    "port": 2222,
    "gateway": "gate",
    "hosts": [
        {"ssh": "mac1", "ips": ["10.0.0.1", "10.0.1.1"], "rdma": [None, "rdma_en5", "rdma_en3"]},
        {
            "ssh": "mac2",
            "ips": ["10.0.0.2"],
            "rdma": [["rdma_en5", "rdma_en4"], None, "rdma_en3"],
            "python": "~/venv/bin/python",
            "cwd": "/srv",
            "user": "other",
            "port": 22,
            "gateway": "admin@gate2",
        },
        {"ssh": "root@mac3.local", "rdma": ["rdma_en3", ["rdma_en2"], None]},
    ],
}
A = {"ssh": "a", "ips": ["10.0.0.1"]}


def parse(data: Any) -> Hostfile:
    return hostfile.parse(json.dumps(data), "F")


def test_all_keys() -> None:
    file = parse(FULL)
    assert (file.source, file.backend, file.engine) == ("F", "jaccl", "mlx-lm")
    assert file.envs == tuple(FULL["envs"])
    assert file.args == tuple(FULL["args"])
    assert file.model == "~/models/tiny"
    shared: dict[str, Any] = {"python": "/opt/homebrew/bin/python3", "cwd": "~/work", "port": 2222}
    assert file.hosts == (
        Host(
            "mac1",
            ("10.0.0.1", "10.0.1.1"),
            (None, "rdma_en5", "rdma_en3"),
            user="admin",
            gateway="gate",
            **shared,
        ),
        Host(
            "mac2",
            ("10.0.0.2",),
            (("rdma_en5", "rdma_en4"), None, "rdma_en3"),
            python="~/venv/bin/python",
            cwd="/srv",
            user="other",
            port=22,
            gateway="admin@gate2",
        ),
        # A user in `ssh` is nearer than the one of the whole cluster.
        Host("root@mac3.local", (), ("rdma_en3", ("rdma_en2",), None), gateway="gate", **shared),
    )


@pytest.mark.parametrize(
    ("data", "hosts"),
    [
        ([{"ssh": "a"}], (Host("a"),)),
        ({"hosts": [{"ssh": "a"}]}, (Host("a"),)),
        ([A, {"ssh": "b"}], (Host("a", ("10.0.0.1",)), Host("b"))),
        ([{**A, "rdma": []}], (Host("a", ("10.0.0.1",)),)),
        ([{**A, "rdma": [None]}], (Host("a", ("10.0.0.1",), (None,)),)),
        ([{"ssh": "a", "hostname": "MLX may say more one day"}], (Host("a"),)),
        ({"hosts": [{"ssh": "a"}], "comment": {"anything": [1, None]}}, (Host("a"),)),
        ({"hosts": [{"ssh": "a"}], "backend": "", "envs": []}, (Host("a"),)),
        ([{"ssh": "127.0.0.1"}] * 2, (Host("127.0.0.1"),) * 2),
        ([{"ssh": "localhost"}] * 3, (Host("localhost"),) * 3),
        ([{"ssh": "fe80::1%en5"}], (Host("fe80::1%en5"),)),
        ([{"ssh": "me@mac-1_x.local"}], (Host("me@mac-1_x.local"),)),
        ([{"ssh": "a", "port": 22.0}], (Host("a", port=22),)),
        ([{"ssh": "a", "port": 65535, "user": "x@corp"}], (Host("a", port=65535, user="x@corp"),)),
    ],
    ids=str,
)
def test_good(data: Any, hosts: tuple[Host, ...]) -> None:
    file = parse(data)
    assert file.hosts == hosts
    assert [type(host.port) for host in file.hosts] == [type(host.port) for host in hosts]


def test_links() -> None:
    links = {"en4": "10.254.0.5/30", "en5": "10.254.0.9/30"}
    assert parse([{**A, "links": links}]).hosts == (
        Host("a", ("10.0.0.1",), links=tuple(links.items())),
    )
    with pytest.raises(BadInput) as raised:
        parse([{**A, "links": {**links, "en6": "10.254.0.300/30"}}])
    wrong = "F: hosts[0].links.en6: '10.254.0.300' is no IPv4 address: "
    assert str(raised.value) == f"{wrong}give one such as 10.254.0.5/30"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_saved_by_an_editor_elsewhere(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "hosts.json"
    path.write_bytes(json.dumps([A], ensure_ascii=False).encode(encoding))
    assert hostfile.load(str(path)).hosts[0].ssh == A["ssh"]
    assert hostfile.written(str(path)) == {"hosts": [A]}


def test_what_the_project_ships() -> None:
    local = hostfile.load(str(ROOT / "hosts" / "local.json"))
    assert (local.backend, local.engine) == ("ring", "mlx-lm")
    assert all(host.is_local for host in local.hosts)
    macs = hostfile.load(str(ROOT / "hosts" / "hwstudio.json"))
    assert macs.backend == "jaccl"
    assert macs.envs == ()
    assert [host.rdma for host in macs.hosts] == [(None, "rdma_en5"), ("rdma_en5", None)]
    assert not any(host.is_local for host in macs.hosts)


@pytest.mark.parametrize(
    ("names", "hosts"),
    [
        (["a,b"], (Host("a"), Host("b"))),
        (["a", "b"], (Host("a"), Host("b"))),
        ([" a , b "], (Host("a"), Host("b"))),
        (["10.0.0.1"], (Host("10.0.0.1", ("10.0.0.1",)),)),
        (["127.0.0.1,127.0.0.1"], (Host("127.0.0.1", ("127.0.0.1",)),) * 2),
    ],
    ids=str,
)
def test_names(names: list[str], hosts: tuple[Host, ...]) -> None:
    assert hostfile.from_names(names).hosts == hosts


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["a,,b", "c"], "--hosts 'a,,b,c': a host is empty: give names as in --hosts a,b"),
        (["a", "A."], "--hosts: hosts[1].ssh: "),
    ],
)
def test_wrong_names(names: list[str], says: str) -> None:
    with pytest.raises(BadInput) as found:
        hostfile.from_names(names)
    assert str(found.value.message).startswith(says)


def test_repeat() -> None:
    """-n: fewer ranks cut the rows too; more repeat each host in a row, without rows."""
    file = parse(FULL)
    assert [host.rdma for host in hostfile.repeat(file, 2).hosts] == [
        (None, "rdma_en5"),
        (("rdma_en5", "rdma_en4"), None),
    ]
    assert hostfile.repeat(file, 3) == file
    twice = hostfile.repeat(file, 6).hosts
    assert [host.ssh for host in twice] == ["mac1"] * 2 + ["mac2"] * 2 + ["root@mac3.local"] * 2
    assert all(host.rdma == () for host in twice)
    with pytest.raises(BadInput, match=r"^-n 4: F has 3 hosts: give at most 3 or a multiple of it"):
        hostfile.repeat(file, 4)


def linked(name: str, *ends: int, ips: Sequence[str] | None = None) -> Host:
    """A host of a ring: by its links' last numbers; it is called at the first, or at `ips`."""
    links = tuple((f"en{end}", f"10.254.0.{end}/30") for end in ends)
    return Host(name, (f"10.254.0.{ends[0]}",) if ips is None else tuple(ips), links=links)


# a and b share the network of .1 and .2, b and c that of .5 and .6, c and a that of .9 and .10.
RING = [linked("a", 10, 1), linked("b", 2, 5), linked("c", 6, 9)]


def test_neighbours_reach_each_other() -> None:
    """A ring as it is stays; cut by -n, rank 0 is called by another, by another link."""
    assert hostfile.facing(RING) == RING
    assert [each.ips for each in hostfile.facing(RING[:2])] == [("10.254.0.1",), ("10.254.0.2",)]
    assert hostfile.facing(RING[:1]) == RING[:1]
    twice = [linked("a", 1, 13), linked("b", 2, 14)]
    both = [("10.254.0.1", "10.254.0.13"), ("10.254.0.2", "10.254.0.14")]
    assert [each.ips for each in hostfile.facing(twice)] == both


@pytest.mark.parametrize("ips", [["192.168.1.7"], ["10.254.0.10", "192.168.1.7"]])
def test_addresses_of_no_link_are_left(ips: list[str]) -> None:
    lan = [linked("a", 10, 1, ips=ips), linked("b", 2, 5)]
    assert hostfile.facing(lan)[0].ips == (ips[0],)


def test_as_many_addresses_as_the_one_with_the_fewest() -> None:
    """One without any has its own looked up later, and takes none from the others."""
    more = Host("a", ("192.168.1.1", "192.168.2.1"))
    found = hostfile.facing([more, Host("b", ("192.168.1.2",))])
    assert [each.ips for each in found] == [("192.168.1.1",), ("192.168.1.2",)]
    assert hostfile.facing([more, Host("b")]) == [more, Host("b")]


def test_neighbours_without_a_link() -> None:
    apart = [linked("a", 10, 1), linked("d", 21)]
    with pytest.raises(BadInput) as raised:
        hostfile.facing(apart)
    assert str(raised.value.message) == (
        "-n 2: no link between d and a, which are neighbours then:"
        " --hosts a,d goes over their own network"
    )


def two(**second: Any) -> dict[str, Any]:
    """Two hosts of which the second says more, or other, than the first."""
    return {"hosts": [A, {"ssh": "b", "ips": ["10.0.0.2"], **second}]}


def whole(**more: Any) -> dict[str, Any]:
    return {"hosts": [A], **more}


def jaccl(*rows: list[Any], backend: str = "jaccl") -> dict[str, Any]:
    hosts = [{"ssh": f"m{i}", "ips": [f"10.0.0.{i}"], "rdma": row} for i, row in enumerate(rows)]
    return {"backend": backend, "hosts": hosts}


NAME = "write a name as ssh takes it"
IP = 'write an IPv4 address such as "10.0.0.1"'
CELL = 'write null, a device name such as "rdma_en5", or a list of names, each once'
PORT = "write a port number from 1 to 65535"
TEXT = "write a string on one line that is not empty"
ENV = 'write it as "NAME=value"'
EXAMPLE = "see hosts/hwstudio.json for an example"

# (what the file holds: text, bytes, or data as JSON; what the one line says after the file's name)
BAD: list[tuple[Any, str]] = [
    # No hostfile at all.
    ("", f": is empty: {EXAMPLE}"),
    (" \n\t", f": is empty: {EXAMPLE}"),
    ("{", ":1: not JSON (Expecting property name enclosed in double quotes, column 2)"),
    ("hosts: [a]", f":1: not JSON (Expecting value, column 1): {EXAMPLE}"),
    ("[\n\n{]", ":3: not JSON (Expecting property name"),
    ("{'hosts': []}", ":1: not JSON ("),
    ('[{"ssh": "a"}] [', ":1: not JSON (Extra data, column 16)"),
    ('[{"ssh": "a\tb"}]', ":1: not JSON (Invalid control character at, column 12)"),
    ("\x00", ":1: not JSON ("),
    ('{"hosts": [], "model": "a", "hosts": [{"ssh": "a"}]}', ": hosts is in it twice: keep one"),
    ('[{"ssh": "a", "ssh": "b"}]', ": ssh is in it twice: keep one of them"),
    (b'[{"ssh": "b\xfccher"}]', ": can't be read ('utf-8' codec can't decode byte 0xfc"),
    (json.dumps([A]).encode("utf-16")[:-1], ": can't be read ('utf-16-le' codec"),
    ("[" * 100_000, ": not a hostfile (nested too deeply)"),
    ('[{"ssh": "a", "x":' + "[" * 100_000 + "]" * 100_000 + "}]", "nested too deeply"),
    ('[{"ssh": "a", "port": ' + "9" * 5000 + "}]", ": a number has too many digits"),
    (None, ": the file is wrong: write a list of hosts, or an object"),
    (5, ": the file is wrong: write a list of hosts"),
    ("NaN", ": the file is wrong: write a list of hosts"),
    ('"mac1,mac2"', ": the file is wrong: write a list of hosts"),
    # No hosts.
    ({}, ': the file has no "hosts": give "hosts": [{"ssh": "mac1", "ips": ["10.0.0.1"]}]'),
    ([], ": the file is empty: write a list of hosts"),
    ({"hosts": []}, ": hosts is empty: write a list of hosts"),
    ({"hosts": None}, ": hosts is wrong: write a list of hosts"),
    ({"hosts": {"a": {}}}, ": hosts is wrong: write a list of hosts"),
    ({"hosts": "a,b"}, ": hosts is wrong: write a list of hosts"),
    (A, ': the file has no "hosts"'),
    (["a"], ': hosts[0] is wrong: write each host as {"ssh": "mac1", "ips": ["10.0.0.1"]}'),
    ({"hosts": [A, None]}, ": hosts[1] is wrong: write each host as"),
    # ssh.
    ([{}], ': hosts[0] has no "ssh": write each host as'),
    ([A, {"ips": ["10.0.0.2"]}], ': hosts[1] has no "ssh"'),
    (two(ssh=""), f": hosts[1].ssh is not allowed: {NAME}"),
    (two(ssh=5), f": hosts[1].ssh is wrong: {NAME}"),
    (two(ssh=True), f": hosts[1].ssh is wrong: {NAME}"),
    (two(ssh=None), f": hosts[1].ssh is wrong: {NAME}"),
    (two(ssh=["b"]), f": hosts[1].ssh is wrong: {NAME}"),
    (two(ssh="a b"), f": hosts[1].ssh is not allowed: {NAME}"),
    (two(ssh="b\n"), f": hosts[1].ssh is not allowed: {NAME}"),
    (two(ssh="b\0"), f": hosts[1].ssh is not allowed: {NAME}"),
    (two(ssh="-oProxyCommand=x"), f": hosts[1].ssh is not allowed: {NAME}"),
    (two(ssh="me@-x"), f": hosts[1].ssh is not allowed: {NAME}"),
    (two(ssh="$(touch x)"), f": hosts[1].ssh is not allowed: {NAME}"),
    (two(ssh="b;reboot"), f": hosts[1].ssh is not allowed: {NAME}"),
    (two(ssh="bücher"), f": hosts[1].ssh is not allowed: {NAME}"),
    (two(ssh="me@"), f": hosts[1].ssh is not allowed: {NAME}"),
    (two(ssh="@b"), f": hosts[1].ssh is not allowed: {NAME}"),
    (two(ssh="b:22"), "(a port has a key of its own)"),
    (two(ssh="b:x"), "(a port has a key of its own)"),
    (two(ssh="[::1]"), f": hosts[1].ssh is not allowed: {NAME}"),
    (two(ssh="a"), ": hosts[1].ssh: 'a' is there twice: name each host once (-n runs several"),
    ([A, {"ssh": "b"}, A], ": hosts[2].ssh: 'a' is there twice"),
    ([{"ssh": "localhost"}, {"ssh": "127.0.0.1"}], ": hosts[1].ssh: localhost and 127.0.0.1 are"),
    (two(ssh="A"), ": hosts[1].ssh: a and A are the same machine: name it once (-n runs several"),
    (two(ssh="me@a"), ": hosts[1].ssh: a and me@a are the same machine: name it once"),
    (two(ssh="a."), ": hosts[1].ssh: a and a. are the same machine: name it once"),
    (two(ssh="a", port=2222), ": hosts[1].ssh: 'a' is the name of two machines: give each one of"),
    (two(ssh="a", gateway="g"), ": hosts[1].ssh: 'a' is the name of two machines"),
    (two(ssh="b", ips=["10.0.0.3", "10.0.0.1"]), ": hosts[1].ips: 10.0.0.1 is the address of two"),
    (two(ssh="me@b", user="you"), ": hosts[1].user is also in its ssh: write it once"),
    # ips.
    (two(ips="10.0.0.2"), ': hosts[1].ips is wrong: write a list of IPv4 addresses: ["10.0.0.1"]'),
    (two(ips=None), ": hosts[1].ips is wrong: write a list of IPv4 addresses"),
    (two(ips={}), ": hosts[1].ips is wrong: write a list of IPv4 addresses"),
    (two(ips=["10.0.0.256"]), f": hosts[1].ips[0] is wrong: {IP}"),
    (two(ips=["10.0.0.2", "10.0.1"]), f": hosts[1].ips[1] is wrong: {IP}"),
    (two(ips=["10.0.0.1.2"]), f": hosts[1].ips[0] is wrong: {IP}"),
    (two(ips=["010.0.0.1"]), f": hosts[1].ips[0] is wrong: {IP}"),
    (two(ips=["::1"]), f": hosts[1].ips[0] is wrong: {IP}"),
    (two(ips=["fe80::1%en5"]), f": hosts[1].ips[0] is wrong: {IP}"),
    (two(ips=["b.local"]), f": hosts[1].ips[0] is wrong: {IP}"),
    (two(ips=["10.0.0.2:80"]), f": hosts[1].ips[0] is wrong: {IP}"),
    (two(ips=["10.0.0.2/30"]), f": hosts[1].ips[0] is wrong: {IP}"),
    (two(ips=[" 10.0.0.2"]), f": hosts[1].ips[0] is wrong: {IP}"),
    (two(ips=["10.0.0.2\n"]), f": hosts[1].ips[0] is wrong: {IP}"),
    (two(ips=["\u0661\u0660.0.0.2"]), f": hosts[1].ips[0] is wrong: {IP}"),
    (two(ips=[""]), f": hosts[1].ips[0] is wrong: {IP}"),
    (two(ips=[167772162]), f": hosts[1].ips[0] is wrong: {IP}"),
    (two(ips=[["10.0.0.2"]]), f": hosts[1].ips[0] is wrong: {IP}"),
    # rdma.
    (two(rdma="rdma_en5"), ": hosts[1].rdma is wrong: write one entry per host: null for itself"),
    (two(rdma=None), ": hosts[1].rdma is wrong: write one entry per host"),
    (two(rdma={"0": "rdma_en5"}), ": hosts[1].rdma is wrong: write one entry per host"),
    (two(rdma=["rdma_en5"]), ": hosts[1].rdma has 1 entries for 2 hosts: write one per host"),
    (two(rdma=["rdma_en5", None, None]), ": hosts[1].rdma has 3 entries for 2 hosts"),
    (two(rdma=["rdma_en5", "rdma_en5"]), ": hosts[1].rdma[1] must be null: it is the host's link"),
    (two(rdma=["rdma_en5", ["rdma_en5"]]), ": hosts[1].rdma[1] must be null"),
    (two(rdma=[5, None]), f": hosts[1].rdma[0] is wrong: {CELL}"),
    (two(rdma=[False, None]), f": hosts[1].rdma[0] is wrong: {CELL}"),
    (two(rdma=["", None]), f": hosts[1].rdma[0] is wrong: {CELL}"),
    (two(rdma=[[], None]), f": hosts[1].rdma[0] is wrong: {CELL}"),
    (two(rdma=[["rdma_en5", None], None]), f": hosts[1].rdma[0] is wrong: {CELL}"),
    (two(rdma=[[["rdma_en5"]], None]), f": hosts[1].rdma[0] is wrong: {CELL}"),
    (two(rdma=["rdma en5", None]), f": hosts[1].rdma[0] is wrong: {CELL}"),
    (two(rdma=["rdma_en5\n", None]), f": hosts[1].rdma[0] is wrong: {CELL}"),
    # Ours, per host and per cluster.
    (two(python=""), f": hosts[1].python is not allowed: {TEXT}"),
    (two(python=3.11), f": hosts[1].python is wrong: {TEXT}"),
    (two(python="a\nb"), f": hosts[1].python is not allowed: {TEXT}"),
    (two(python="a\n"), f": hosts[1].python is not allowed: {TEXT}"),
    (two(cwd="\x07"), f": hosts[1].cwd is not allowed: {TEXT}"),
    (two(cwd="\ud800"), f": hosts[1].cwd is not allowed: {TEXT}"),
    (two(cwd=[]), f": hosts[1].cwd is wrong: {TEXT}"),
    (two(user="a b"), ": hosts[1].user is not allowed: write a user's name"),
    (two(user="-l"), ": hosts[1].user is not allowed: write a user's name"),
    (two(user=0), ": hosts[1].user is wrong: write a user's name"),
    (two(port=0), f": hosts[1].port is wrong: {PORT}"),
    (two(port=65536), f": hosts[1].port is wrong: {PORT}"),
    (two(port=-22), f": hosts[1].port is wrong: {PORT}"),
    (two(port=22.5), f": hosts[1].port is wrong: {PORT}"),
    (two(port="22"), f": hosts[1].port is wrong: {PORT}"),
    (two(port=True), f": hosts[1].port is wrong: {PORT}"),
    (two(port=None), f": hosts[1].port is wrong: {PORT}"),
    (two(port=float("inf")), f": hosts[1].port is wrong: {PORT}"),
    (two(gateway="a b"), f": hosts[1].gateway is not allowed: {NAME}"),
    (two(gateway=["a"]), f": hosts[1].gateway is wrong: {NAME}"),
    (whole(python=None), f": python is wrong: {TEXT}"),
    (whole(cwd=""), f": cwd is not allowed: {TEXT}"),
    (whole(port=0), f": port is wrong: {PORT}"),
    (whole(user=True), ": user is wrong: write a user's name"),
    (whole(gateway=""), f": gateway is not allowed: {NAME}"),
    (whole(engine=""), f": engine is not allowed: {TEXT}"),
    (whole(engine=5), f": engine is wrong: {TEXT}"),
    (whole(engine="vllm"), "engine 'vllm' is unknown: choose one of mlx-lm, vllm-mlx"),
    (whole(model="a\x00b"), f": model is not allowed: {TEXT}"),
    (whole(model=["m"]), f": model is wrong: {TEXT}"),
    (whole(args="--port 8000"), ": args is wrong: write the server's arguments as a list"),
    (whole(args=["--port", 8000]), ": args[1] is wrong: write it as a string, in quotes"),
    (whole(args=[None]), ": args[0] is wrong: write it as a string, in quotes"),
    (whole(args=["a\0"]), ": args[0] is not allowed: write it as a string, in quotes"),
    (whole(args=["\ud800"]), ": args[0] is not allowed: write it as a string, in quotes"),
    (whole(args=["--port", "0"]), ": --port 0: write a port number from 1 to 65535"),
    # backend and envs.
    (
        whole(backend="nccl"),
        ": backend 'nccl': MLX knows it, and it is not run here: choose one of",
    ),
    (whole(backend="mpi"), ": backend 'mpi': MLX knows it, and it is not run here: choose one of"),
    (
        whole(backend="tcp"),
        ': backend is wrong: write one of "jaccl", "jaccl-ring", "ring", "any"',
    ),
    (whole(backend="JACCL"), ": backend is wrong: write one of"),
    (whole(backend="jaccl_ring"), ": backend is wrong: write one of"),
    (whole(backend=None), ": backend is wrong: write one of"),
    (whole(backend=["ring"]), ": backend is wrong: write one of"),
    (whole(envs="A=b"), ': envs is wrong: write a list of "NAME=value" strings'),
    (whole(envs={"A": "b"}), ': envs is wrong: write a list of "NAME=value" strings'),
    (whole(envs=None), ': envs is wrong: write a list of "NAME=value" strings'),
    (whole(envs=["A=b", "C"]), f": envs[1] is not allowed: {ENV}"),
    (whole(envs=["=b"]), f": envs[0] is not allowed: {ENV}"),
    (whole(envs=["1A=b"]), f": envs[0] is not allowed: {ENV}"),
    (whole(envs=["A B=c"]), f": envs[0] is not allowed: {ENV}"),
    (whole(envs=["A-B=c"]), f": envs[0] is not allowed: {ENV}"),
    (whole(envs=["$(id)=c"]), f": envs[0] is not allowed: {ENV}"),
    (whole(envs=["A\n=c"]), f": envs[0] is not allowed: {ENV}"),
    (whole(envs=["É=c"]), f": envs[0] is not allowed: {ENV}"),
    (whole(envs=["A=\0"]), f": envs[0] is not allowed: {ENV}"),
    (whole(envs=["A=\udfff"]), f": envs[0] is not allowed: {ENV}"),
    (whole(envs=[5]), f": envs[0] is wrong: {ENV}"),
    (whole(envs=[["A", "b"]]), f": envs[0] is wrong: {ENV}"),
    # Typos, and keys that are not where they belong.
    (two(pyhton="x"), ': hosts[1].pyhton is unknown: did you mean "python"?'),
    (two(ip=["10.0.0.2"]), ': hosts[1].ip is unknown: did you mean "ips"?'),
    (two(IPs=["10.0.0.2"]), ': hosts[1].IPs is unknown: did you mean "ips"?'),
    (two(rmda=[]), ': hosts[1].rmda is unknown: did you mean "rdma"?'),
    (two(prot=22), ': hosts[1].prot is unknown: did you mean "port"?'),
    (two(**{"po\nrt": 22}), ': hosts[1]."po\\nrt" is unknown: did you mean "port"?'),
    (two(envs=["A=b"]), ': hosts[1].envs is out of place: it is a key of the file, beside "hosts"'),
    (two(backend="ring"), ": hosts[1].backend is out of place"),
    (whole(bakend="ring"), ': bakend is unknown: did you mean "backend"?'),
    (whole(Backend="ring"), ': Backend is unknown: did you mean "backend"?'),
    (whole(env=["A=b"]), ': env is unknown: did you mean "envs"?'),
    (whole(ips=["10.0.0.1"]), ': ips is out of place: it is a key of a host, beside "ssh"'),
    # What a backend needs, and the hosts do not have.
    (whole(backend="jaccl"), ': hosts[0] has no "rdma" row of 1: jaccl needs one'),
    (
        jaccl([None, None], ["r", None]),
        ": hosts[0].rdma[1] is null: jaccl needs a device from host 0",
    ),
    (
        jaccl([None, "r"], [None, None]),
        ": hosts[1].rdma[0] is null: jaccl needs a device from host 1",
    ),
    (jaccl([None, ["r", "r"]], ["r", None]), ": hosts[0].rdma[1] is wrong: write null, a device"),
    (
        jaccl(
            [None, "r", None, "s"],
            ["r", None, "s", None],
            [None, "r", None, "s"],
            ["r", None, "s", None],
        ),
        ": hosts[0].rdma[2] is null: jaccl needs a device from host 0 to host 2, or --backend"
        ' jaccl-ring ("backend" in the file)',
    ),
    (
        jaccl([None, "en5"], ["r", None]),
        ": hosts[0].rdma[1] is en5, an interface: write its device, rdma_en5",
    ),
    (jaccl([None, "r"], []), ': hosts[1] has no "rdma" row of 2: jaccl needs one'),
    (
        jaccl([None, "r", None], ["r", None, "r"], ["r", "r", None], backend="jaccl-ring"),
        ": hosts[0].rdma[2] is null: jaccl-ring needs a device from host 0 to host 2",
    ),
    (
        {"backend": "jaccl", "hosts": [{"ssh": "a", "rdma": [None]}]},
        ': hosts[0] has no "ips": jaccl needs the address of the coordinator',
    ),
]


def ident(value: Any) -> str:
    return re.sub(r"[^ -~]", "?", value if isinstance(value, str) else repr(value))[:80]


@pytest.mark.parametrize(("holds", "says"), BAD, ids=map(ident, [row[0] for row in BAD]))
def test_bad(tmp_path: Path, holds: Any, says: str) -> None:
    """One line: the file, the entry, the remedy; exit 2."""
    path = tmp_path / "hosts.json"
    if isinstance(holds, str):
        holds = holds.encode()
    path.write_bytes(holds if isinstance(holds, bytes) else json.dumps(holds).encode())
    with pytest.raises(BadInput) as error:
        cluster.build({}, hostfile=str(path))
    line = one_line(error.value)
    assert says in line
    # An engine may also come from the configuration; its line names the word itself.
    assert line.startswith((str(path), "engine "))


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("nope.json", "nope.json: no such hostfile: give --hostfile FILE or --hosts a,b"),
        ("no/such/folder.json", "no/such/folder.json: no such hostfile"),
        (".", ".: can't be read (Is a directory): give a JSON file"),
        ("~no-such-user-here/x", "can't be read (Could not determine home directory.)"),
        ("a\0b", '"a\\u0000b": can\'t be read (embedded null'),
        ("a\nb", '"a\\nb": no such hostfile'),
        ("/dev/null", "/dev/null: is empty"),
        ("x" * 5000, "can't be read (File name too long): give a JSON file"),
    ],
    ids=ident,
)
def test_no_file(path: str, says: str) -> None:
    with pytest.raises(BadInput) as error:
        hostfile.load(path)
    assert says in one_line(error.value)


def one_line(error: BadInput) -> str:
    """The message, which is one line that a terminal can show."""
    assert error.code == 2
    message = str(error.message)
    assert message.isprintable(), message
    return message


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["a", "127.0.0.1", "10.0.0.1", "ring", "jaccl", "A=b", "rdma_en5", "--port"])
    | st.sampled_from(["\ud800", "a:b", "me@b", "a\n", "\0", "jaccl-ring", "~", "mlx-lm"])
)
KEYS = st.sampled_from(
    [*FULL, "ssh", "ips", "rdma", "links", "env", "Hosts", "host", "pyhton"]
) | st.text(max_size=8)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4)
)


@given(JSON)
def test_any_json(data: Any) -> None:
    judge(json.dumps(data))


@given(st.text(max_size=40))
def test_any_text(text: str) -> None:
    judge(text)


@given(st.data())
def test_any_change_of_a_good_one(draw: st.DataObject) -> None:
    """One entry, anywhere in a good hostfile, is removed, added or something else."""
    data = json.loads(json.dumps(FULL))
    places = [data, *data["hosts"], *(host["rdma"] for host in data["hosts"])]
    places += [data["envs"], data["args"], data["hosts"], data["hosts"][0]["ips"]]
    place = draw.draw(st.sampled_from(places))
    if isinstance(place, list):
        index = draw.draw(st.integers(0, len(place)))
        place[index : index + draw.draw(st.integers(0, 1))] = draw.draw(st.lists(JSON, max_size=2))
    else:
        key = draw.draw(st.sampled_from(sorted(place)) | KEYS)
        place.pop(key, None)
        if draw.draw(st.booleans()):
            place[key] = draw.draw(JSON)
    judge(json.dumps(data))


def test_a_character_that_is_none_yet_is_named() -> None:
    """Found by the test above: nobody could see what is wrong with it."""
    data = {**json.loads(json.dumps(FULL)), "args": ["--port", "\ud7c7"]}
    file = hostfile.parse(json.dumps(data), "F")
    with (
        mock.patch("tasks.cluster.config.hostfile.load", return_value=file),
        pytest.raises(BadInput) as wrong,
    ):
        cluster.build({}, hostfile="F")
    assert "--port \\ud7c7: write a port number" in one_line(wrong.value)


def judge(text: str) -> None:
    """It is a hostfile, with values of the right types, or one line says why not."""
    try:
        file = hostfile.parse(text, "F")
        no_lookup = mock.patch("socket.getaddrinfo", side_effect=OSError)
        with no_lookup, mock.patch("tasks.cluster.config.hostfile.load", return_value=file):
            cluster.build({}, hostfile="F")
    except BadInput as wrong:
        one_line(wrong)
        return
    for host in file.hosts:
        assert type(host.port) in (int, type(None))
        assert all(type(ip) is str for ip in host.ips)
        assert len(host.rdma) in (0, len(file.hosts))
        # A name that Fabric takes: no word of it is an option or a port.
        assert re.fullmatch(r"[\w.@:%-]+", host.ssh, re.ASCII)
        assert not host.ssh.startswith("-")
    # What goes to a node is text that can be written.
    repr_of_all = "".join([*file.envs, *file.args, file.model or "", file.engine or ""])
    assert "\0" not in repr_of_all
    repr_of_all.encode()


MLX_FILES = ["hosts/local.json", "hosts/hwstudio.json"]


@pytest.mark.parametrize("name", [*MLX_FILES, "full"])
def test_mlx_reads_ours(tmp_path: Path, name: str) -> None:
    """mlx.launch ignores the keys that are ours, and reads the same hosts."""
    path = ROOT / name
    if name == "full":
        path = tmp_path / "full.json"
        path.write_text(json.dumps(FULL))
    ours, theirs = hostfile.load(str(path)), common.Hostfile.from_file(path)
    assert same(ours, theirs)


def mlx_hostfile(rows: list[list[Any]], backend: str, envs: list[str]) -> common.Hostfile:
    hosts = [common.Host(i, f"mac{i}", [f"192.168.{i}.1"], row) for i, row in enumerate(rows)]
    return common.Hostfile(hosts, backend, envs)


@pytest.mark.parametrize(
    "theirs",
    [
        mlx_hostfile([[], []], "", []),
        mlx_hostfile([[], [], []], "ring", ["A=b"]),
        mlx_hostfile([[None, "rdma_en2"], ["rdma_en3", None]], "jaccl", ["A=b", "C="]),
        mlx_hostfile(
            [[None, ["rdma_en2", "rdma_en3"]], [["rdma_en4", "rdma_en5"], None]], "jaccl", []
        ),
        mlx_hostfile(
            [[None if abs(i - j) != 1 and {i, j} != {0, 3} else f"rdma_en{j}" for j in range(4)]
             for i in range(4)],
            "jaccl-ring",
            [],
        ),
    ],
    ids=["ethernet", "ring", "jaccl", "two cables", "jaccl-ring"],
)  # fmt: skip
def test_ours_reads_mlx(tmp_path: Path, theirs: common.Hostfile) -> None:
    """What `mlx.distributed_config --output-hostfile` saves (0.32: its forms in config.py)."""
    path = tmp_path / "hosts.json"
    save_hostfile(argparse.Namespace(output_hostfile=str(path)), theirs)
    ours = hostfile.load(str(path))
    assert same(ours, theirs)
    assert len(ours.hosts) == len(theirs.hosts)


def same(ours: Hostfile, theirs: common.Hostfile) -> bool:
    """Whether both tell of the same cluster."""
    rows = [
        [list(cell) if isinstance(cell, tuple) else cell for cell in host.rdma]
        for host in ours.hosts
    ]
    assert [host.ssh for host in ours.hosts] == [host.ssh_hostname for host in theirs.hosts]
    assert [list(host.ips) for host in ours.hosts] == [host.ips for host in theirs.hosts]
    assert rows == [host.rdma for host in theirs.hosts]
    return (ours.backend, list(ours.envs)) == (theirs.backend, theirs.envs)
