"""Hostfiles of the world: what MLX's own tool writes for 2 to 8 hosts; remedies that lead on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from conftest import ROOT, Inv
from mlx._distributed_utils import common, config
from rig import Rig, ring

from tasks.cluster import cluster
from tasks.cluster.config import hostfile, ranks
from tasks.cluster.errors import BadInput
from tasks.cluster.rdma import diff, links

Rigs = Callable[..., Rig]

# MLX's own tool, on paper.


def cabled(size: int, kind: str, count: int) -> list[tuple[int, int]]:
    """The pairs of hosts that have a cable, `count` times each."""
    near = [(i, (i + 1) % size) for i in range(size)] if size > 2 else [(0, 1)]
    return list(near if kind == "ring" else combinations(range(size), 2)) * count


def answers(pairs: list[tuple[int, int]], size: int) -> Mapping[str, Mapping[str, Any]]:
    """What the hosts say to the tool: their ports, each with its peer, and their addresses."""
    buses: dict[str, list[dict[str, Any]]] = {f"mac{i}": [] for i in range(size)}
    for pair in pairs:
        ends = [(f"mac{i}", len(buses[f"mac{i}"]) + 1) for i in pair]
        for (host, port), peer in zip(ends, reversed(ends), strict=True):
            bus = {
                "device_name_key": "Mac Studio",
                "domain_uuid_key": f"{host}/{port}",
                "receptacle_1_tag": {"receptacle_id_key": str(port)},
                "_items": [{"domain_uuid_key": f"{peer[0]}/{peer[1]}"}],
            }
            buses[host].append(bus)
    # Receptacle N is not en(N+1) everywhere.
    ports = [f"Hardware Port: Thunderbolt {n}\nDevice: en{17 - n}\n" for n in range(1, 16)]
    return {
        host: {
            "system_profiler": json.dumps({"SPThunderboltDataType": each}),
            "networksetup": "".join(ports).encode(),
            # A host whose en0 and en1 are off has none, and the tool only warns of it.
            "ipconfig": "" if host == "mac1" else f"192.0.2.{int(host[3:]) + 1}\n",
            "ibv_devices": "".join(f"rdma_en{17 - n}\n" for n in range(1, 16)),
        }
        for host, each in buses.items()
    }


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """`written(size, pairs, *words)`: the file that `mlx.distributed_config WORDS` writes."""

    def get(size: int, pairs: list[tuple[int, int]], *words: str) -> Path:
        said = answers(pairs, size)
        path = tmp_path / "mlx.json"

        def run(command: list[str], **_: Any) -> Any:
            host, program = command[1], command[2]
            if command[1] == "-o":  # whether it can be logged in to, and has sudo
                return SimpleNamespace(stdout="", returncode=0)
            return SimpleNamespace(stdout=said[host][program], returncode=0)

        line = ["mlx.distributed_config", "--hosts", ",".join(said), *words]
        patched: list[Any] = [
            mock.patch.object(config, "run", run),
            mock.patch("builtins.input", return_value=""),
            mock.patch("sys.argv", [*line, "--output-hostfile", str(path)]),
        ]
        for each in patched:
            each.start()
        try:
            config.main()
        finally:
            for each in patched:
                each.stop()
        return path

    return get


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kind", ["mesh", "ring"])
@pytest.mark.parametrize("size", range(2, 9))
def test_jaccl_files_of_mlx(
    written: Callable[..., Path], size: int, kind: str, count: int, capsys: Any
) -> None:
    """Planned as MLX would, whatever the addresses; each device pair is a cable that there is."""
    pairs = cabled(size, kind, count)
    path = written(size, pairs, "--env", "A=1")
    file = hostfile.load(str(path))
    assert file.backend == ("jaccl" if kind == "mesh" or size < 4 else "jaccl-ring")
    made = cluster.build({}, hostfile=str(path), engine="mlx-lm")
    assert (len(made.ranks), made.backend) == (size, file.backend)
    assert made.ranks[0].env["MLX_JACCL_COORDINATOR"] == "192.0.2.1:32323"
    rows = [host.rdma for host in common.Hostfile.from_file(path).hosts]
    assert json.loads(made.ranks[0].files["MLX_IBV_DEVICES"]) == rows
    if count == 2:
        assert isinstance(rows[0][1], list)
    wiring = links.from_hostfile(file)
    assert wiring.ends == ()
    assert sorted(wiring.cables) == sorted(true_cables(pairs, file))
    # Neither does it get in the way of what finds the addresses.
    assert diff.diff(json.loads(path.read_text()), json.loads(path.read_text())) == []


def true_cables(pairs: list[tuple[int, int]], file: hostfile.Hostfile) -> list[Any]:
    """The cables as they were put in, the host of the lower rank first."""
    order = [host.ssh for host in file.hosts]
    used = dict.fromkeys(order, 0)
    found = []
    for pair in pairs:
        ends = []
        for host in (f"mac{i}" for i in pair):
            used[host] += 1
            ends.append((host, f"en{17 - used[host]}"))
        found.append(tuple(sorted(ends, key=lambda end: order.index(end[0]))))
    return found


@pytest.mark.parametrize("size", range(2, 9))
def test_ring_files_of_mlx(written: Callable[..., Path], size: int, capsys: Any) -> None:
    """Their addresses are the links', of which no interface is told: that is found by discover."""
    path = written(size, cabled(size, "ring", 2), "--backend", "ring")
    made = cluster.build({}, hostfile=str(path), engine="mlx-lm")
    assert made.backend == "ring"
    assert all(len(rank.host.ips) == 2 for rank in made.ranks)
    assert ranks.impossible("ring", [rank.host for rank in made.ranks]) is None
    with pytest.raises(BadInput, match=r"inv rdma\.discover --hosts mac0,.* --write FILE$"):
        links.from_hostfile(hostfile.load(str(path)))


def test_ethernet_files_of_mlx(written: Callable[..., Path], capsys: Any) -> None:
    """One host has no address: it is looked up."""
    path = written(3, [], "--over", "ethernet")
    hosts = hostfile.load(str(path)).hosts
    assert [host.ips for host in hosts] == [("192.0.2.1",), (), ("192.0.2.3",)]
    with mock.patch.object(cluster, "_lookup", return_value="192.0.2.2"):
        made = cluster.build({}, hostfile=str(path), engine="mlx-lm")
    assert made.backend == "ring"
    assert [rank.host.ips for rank in made.ranks] == [(f"192.0.2.{n}",) for n in (1, 2, 3)]


# The inputs of the field: (file, what is said where a cluster is made of it, None where one is).
CASES = ROOT / "tests" / "data" / "hostfiles"
FIELD: list[tuple[str, str | None]] = [
    ("20-hf-mlx-distributed-config-lan-ips", None),
    ("21-hf-wwdc-4node", None),
    ("23-hf-apipa", None),
    (
        "24-hf-nine-hosts-jaccl",
        "a mesh has at most 8 ranks, and these are 9: jaccl-ring takes more",
    ),
    ("26-hf-same-ip-twice", "192.168.2.1 is the address of two hosts, mac1 and mac2"),
    ("27-hf-envs-dict", 'envs is wrong: write a list of "NAME=value" strings'),
    (
        "29-hf-mesh-with-hole",
        "hosts[1].rdma[3] is null: jaccl needs a device from host 1 to host 3",
    ),
]


@pytest.mark.parametrize(("name", "says"), FIELD, ids=[name for name, _ in FIELD])
def test_field_cases(name: str, says: str | None) -> None:
    path = CASES / f"{name}.json"
    if says is None:
        made = cluster.build({}, hostfile=str(path), engine="mlx-lm")
        wiring = links.from_hostfile(hostfile.load(str(path)))
        assert made.backend == "jaccl"
        assert (wiring.ends, wiring.unlinked) == ((), [])
        return
    with pytest.raises(BadInput) as raised:
        cluster.build({}, hostfile=str(path), engine="mlx-lm")
    assert says in str(raised.value.message)
    assert "\n" not in str(raised.value.message)


def test_nine_hosts_as_a_ring() -> None:
    """The way out of case 24 is one."""
    path = str(CASES / "24-hf-nine-hosts-jaccl.json")
    made = cluster.build({}, hostfile=path, engine="mlx-lm", backend="jaccl-ring")
    assert len(made.ranks) == 9


# Remedies, followed.

CHECKS = "memory,processes,ports,model,versions,cooldown"


def lan(rig: Rig, path: Path, ips: Mapping[str, str] | None = None) -> Path:
    """The jaccl file that mlx.distributed_config writes for mac1 and mac2 with one cable."""
    rows = [[None, "rdma_en5"], ["rdma_en5", None]]
    own = ips or rig.addresses
    hosts = [{"ssh": n, "ips": [own[n]], "rdma": r} for n, r in zip(rig.names, rows, strict=True)]
    path.write_text(json.dumps({"backend": "jaccl", "envs": [], "hosts": hosts}))
    return path


def as_mlx_sets_up(rig: Rig, mask: str = "255.255.255.252", **ips: str) -> None:
    """`sudo ifconfig bridge0 down` and an address, as its --auto-setup does."""
    for host, ip in (ips or {"mac1": "192.168.0.1", "mac2": "192.168.0.2"}).items():
        rig.unbridge(host, "en5")
        rig.run(host, f"/sbin/ifconfig en5 inet {ip} netmask {mask}", root=True)


def followed(inv: Inv, words: tuple[str, ...], path: str, folder: Path) -> list[str]:
    """Run the words on a hostfile, then what their first failure names, until all is well.

    What fails must not be run again before something that it led to went well.
    """
    done: list[str] = []
    failed: set[str] = set()
    files = (str(folder / f"file{number}.json") for number in range(9))
    todo = [" ".join(words)]
    while todo:
        step = todo.pop(0)
        is_told = "--hosts" in step or "--hostfile" in step
        line = step if is_told else f"{step} --hostfile {path}"
        assert line not in failed, f"a circle: {done}, and again {line}"
        done.append(line)
        found = inv.run(*line.split())
        assert "Traceback" not in found.err
        if found.code == 0:
            path = line.partition("--write ")[2] or path
            failed = set()
            continue
        failed.add(line)
        named = r"\binv (rdma\.[^:\n]*?)(?:, else.*| gives.*)?$"
        fix = re.search(named, found.out + found.err, re.MULTILINE)
        assert fix, found.err + found.out
        new = fix[1].replace("FILE", next(files)).split(", then ")
        todo = [*new, step, *todo] if step not in new else [*new, *todo]
    return done


@pytest.mark.parametrize("task", ["tp.preflight", "rdma.setup", "rdma.status", "rdma.ping"])
def test_no_circle_from_the_box(inv: Inv, macs: Rigs, tmp_path: Path, task: str) -> None:
    """MLX's file, on Macs whose ports are in bridge0 and have no address."""
    path = lan(macs(), tmp_path / "mlx.json")
    skip = ("--skip", CHECKS) if task == "tp.preflight" else ()
    done = followed(inv, (task, *skip), str(path), tmp_path)
    assert any("rdma.discover --hosts mac1,mac2 --write" in each for each in done)


def test_a_jaccl_file_of_mlx_as_it_is(inv: Inv, macs: Rigs, tmp_path: Path) -> None:
    """Its `ips` are the hosts' own: all but the matrix is as MLX has made it, and that is told."""
    rig = macs()
    as_mlx_sets_up(rig)
    file = ("--hostfile", str(lan(rig, tmp_path / "mlx.json")))
    checked = inv("tp.preflight", *file, "--skip", CHECKS).out
    assert re.search(r"^ok +rdma +2 nodes +devices up, links have IPv4$", checked, re.MULTILINE)
    assert re.search(r"^ok +hosts +mac2 +reaches mac1$", checked, re.MULTILINE)
    assert "192.168.0.1" in inv("rdma.setup", *file).out
    again = inv("rdma.setup", *file).out
    assert re.findall(r"^unchanged +(\w+) +en5 192", again, re.MULTILINE) == ["mac1", "mac2"]
    assert "\nchanged" not in f"\n{again}"
    undone = inv("rdma.undo", *file)
    assert "tells no addresses of links, so they stay" in undone.err
    assert "192.168.0.1" in rig.run("mac1", "/sbin/ifconfig en5").stdout


def test_self_assigned_addresses(inv: Inv, macs: Rigs, tmp_path: Path) -> None:
    """Case 23: told once, and looked at all the same; nothing that lasts is made of them."""
    rig = macs()
    own = {"mac1": "169.254.10.1", "mac2": "169.254.11.2"}
    as_mlx_sets_up(rig, "255.255.0.0", **own)
    file = ("--hostfile", str(lan(rig, tmp_path / "mlx.json", own)))
    inv("rdma.setup", *file)
    for words in (("rdma.status",), ("rdma.ping",), ("tp.preflight", "--skip", CHECKS)):
        found = inv(words[0], *file, *words[1:])
        told = re.findall("self-assigned, will change with the next replug", found.out + found.err)
        assert len(told) == 1, words
        assert "inv rdma.discover --hosts mac1,mac2 --write FILE" in found.out + found.err
    assert "self-assigned" in inv("rdma.persist", *file, "--ask-sudo", code=3).err


# Machines that are known bad, and hosts that are not what they are called.


def test_a_stale_neighbour(inv: Inv, macs: Rigs, tmp_path: Path) -> None:
    """Case 64: all is right but the entry, and `rdma.ping` says where to look."""
    rig = macs()
    as_mlx_sets_up(rig)
    file = ("--hostfile", str(lan(rig, tmp_path / "mlx.json")))
    stale = "/.rig/bin/ip neigh replace 192.168.0.2 lladdr 02:00:00:00:00:99 dev en5 nud permanent"
    rig.run("mac1", stale, root=True)
    found = inv("rdma.ping", *file, code=3).out
    ether = re.search(r"ether (\S+)", rig.run("mac2", "/sbin/ifconfig en5").stdout)
    assert ether
    line = f"arp -n 192.168.0.2 must say {ether[1]}; if it does not: sudo arp -d 192.168.0.2"
    assert line in found
    assert "inv rdma.status" not in found
    rig.run("mac1", "/.rig/bin/ip neigh del 192.168.0.2 dev en5", root=True)
    inv("rdma.ping", *file)


def test_cables_to_be_moved_and_a_default_route(inv: Inv, macs: Rigs, tmp_path: Path) -> None:
    """The port beside Ethernet does no RDMA: told, not used, and marked in table and picture."""
    rig = macs(2, [("mac1", "en2", "mac2", "en5")])
    rig.run("mac2", "/sbin/ifconfig en5 inet 192.168.1.57 netmask 255.255.255.0", root=True)
    rig.unbridge("mac2", "en5")
    leads = "/.rig/bin/ip route replace default via 192.168.1.1 dev en5 onlink"
    rig.run("mac2", leads, root=True)
    path = tmp_path / "made.json"
    found = inv("rdma.discover", "--hosts", "mac1,mac2", "--write", str(path))
    assert "en2, beside the Ethernet port of a Mac Studio, does no RDMA (exo#1551)" in found.err
    assert "move its cable (to mac2) to another port" in found.err
    assert re.search(r"^mac1 en2 +mac2 en5 +.* must be moved on mac1$", found.out, re.MULTILINE)
    assert "the default route goes over en5, a cable to another host" in found.err
    assert json.loads(path.read_text())["backend"] == "ring"
    drawn = inv("rdma.topology", "--hosts", "mac1,mac2", "--svg", str(tmp_path / "it.svg"))
    assert "must be moved" in drawn.out
    assert "must be moved" in (tmp_path / "it.svg").read_text()


def test_one_mac_by_two_names(inv: Inv, macs: Rigs, tmp_path: Path) -> None:
    """Case 95, where nothing but its own identity tells."""
    rig = macs()
    config = Path(inv.env["INVOKE_TP_SSH_CONFIG"])
    entry = config.read_text().partition("\nHost mac2")[0].replace("Host mac1", "Host studio")
    mine = tmp_path / "ssh_config"
    mine.write_text(f"{config.read_text()}{entry}\n")
    inv.env["INVOKE_TP_SSH_CONFIG"] = str(mine)
    hosts = ("--hosts", "mac1,studio", "--backend", "ring", "--engine", "mlx-lm")
    refused = inv("tp.start", *hosts, "--skip", "versions,model", args=("--model", "M"), code=3)
    assert "mac1 and studio are the same machine: name it once" in refused.err
    assert "hosts.json" not in rig.run("mac1", "ls -R ~/.mlx-tp 2>/dev/null; true").stdout
    listed = inv("hosts.check", "--hosts", "mac1,studio", "--engine", "mlx-lm", code=3).out
    assert "mac1 and studio are the same machine" in listed


def test_loopback_as_rank_0(inv: Inv, macs: Rigs) -> None:
    """Case 93: this machine's address on the other's network is offered, and it works."""
    rig = macs()
    words = ("--hosts", "127.0.0.1,mac2", "--backend", "ring", "--engine", "mlx-lm")
    refused = inv("tp.start", *words, "--skip", "versions,model", args=("--model", "M"), code=3)
    assert "127.0.0.1 is no address that mac2 can reach: give this machine's" in refused.err
    offered = re.search(r'\{"ssh": "127.0.0.1", "ips": \["(\S+)"\]\}', refused.err)
    assert offered
    assert offered[1] == rig.gateway
    file = inv.home / "hosts.json"
    mac2 = {"ssh": "mac2", "ips": [rig.address("mac2")]}
    file.write_text(json.dumps([json.loads(offered[0]), mac2]))
    checked = inv("tp.preflight", "--hostfile", str(file), "--engine", "mlx-lm", "--skip", CHECKS)
    assert re.search(r"^ok +hosts +mac2 +reaches 127.0.0.1$", checked.out, re.MULTILINE)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mac1": "10.9.9.9"}, "10.9.9.9 is on no interface of mac1: correct the ips of mac1"),
        # The other host's: the name leads to another machine than the address.
        ({"mac1": "MAC2", "mac2": "10.9.9.9"}, "is on no interface of mac1: correct the ips"),
    ],
    ids=["nobody's", "of the other"],
)
def test_a_ring_address_that_is_not_the_hosts(
    inv: Inv, macs: Rigs, change: dict[str, str], says: str
) -> None:
    rig = macs()
    ips = {**rig.addresses, **change}
    ips = {name: ip.replace("MAC2", rig.address("mac2")) for name, ip in ips.items()}
    file = inv.home / "hosts.json"
    file.write_text(json.dumps([{"ssh": name, "ips": [ips[name]]} for name in rig.names]))
    words = ("--hostfile", str(file), "--engine", "mlx-lm", "--skip", CHECKS)
    assert says in inv("tp.preflight", *words, code=3).out


def test_a_neighbour_that_is_not_reached(inv: Inv, macs: Rigs, tmp_path: Path) -> None:
    """Links whose cable is out: asked from each node, and 32323 is left alone."""
    rig = macs(3, ring(3))
    file = tmp_path / "hosts.json"
    hosts = [
        {
            "ssh": name,
            "ips": [rig.ring_address(name)],
            "links": {port: a for (host, port), a in rig.links.items() if host == name},
        }
        for name in rig.names
    ]
    file.write_text(json.dumps({"backend": "ring", "engine": "mlx-lm", "hosts": hosts}))
    words = ("--hostfile", str(file), "--skip", CHECKS)
    inv("rdma.setup", "--hostfile", str(file))
    assert re.search(r"^ok +hosts +mac3 +reaches mac1$", inv("tp.preflight", *words).out, re.M)
    # The ring of two has another link between rank 1 and rank 0 than the ring of three.
    inv("tp.preflight", *words, "-n", "2")
    rig.fault("mac1", "link_cut", "en3")
    lost = inv("tp.preflight", *words, code=3).out
    assert re.search(
        r"^fail +hosts +mac1 +10\.254\.\S+ of mac2 is not reached \(\w+\): inv rdma.ping$",
        lost,
        re.M,
    )
