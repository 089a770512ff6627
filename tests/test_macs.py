"""The whole way on test hosts: cables, setup, a tensor-parallel server over en5, and its end."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import waits
from conftest import Inv, own_servers
from rig import Rig, mesh, ring, two_cables, two_nodes

Ready = Callable[..., Rig]


@pytest.fixture
def ready(
    inv: Inv, home: Path, tiny: Path, vllm_mlx: Path, macs: Callable[..., Rig]
) -> Iterator[Callable[..., Rig]]:
    """`ready(count, cables)`: hosts whose links were found and set up, and their hostfile.

    Its ranks meet for real; with `engine="mlx-lm"` they have a model as well. The hosts are
    Thunderbolt 4, for which rdma.discover picks the ring over the links: Linux has no RDMA over
    Thunderbolt, and the ring is real.
    """
    model = home / "model"
    shutil.copytree(tiny, model)
    file = home / "hosts.json"
    made: list[Rig] = []

    def get(count: int, cables: Any, engine: str = "vllm-mlx") -> Rig:
        names = [f"mac{number + 1}" for number in range(count)]
        rig = macs(count, cables, states={name: {"thunderbolt": 4} for name in names})
        made.append(rig)
        inv("rdma.discover", "--hosts", ",".join(names), "--write", str(file))
        more: dict[str, Any] = {"engine": engine, "python": sys.executable, "model": str(model)}
        more["envs"] = [f"PYTHONPATH={vllm_mlx}:{waits.QUICK}"]
        data = {**json.loads(file.read_text()), **more, "args": ["--port", str(inv.port)]}
        file.write_text(json.dumps(data))
        inv.env["INVOKE_TP_HOSTFILE"] = str(file)
        inv.config = own_servers(home / "config.json", model)
        inv("rdma.setup")
        return rig

    yield get
    for rig in made:
        rig.end()


def hosts(inv: Inv) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(Path(inv.env["INVOKE_TP_HOSTFILE"]).read_text())[
        "hosts"
    ]
    return found


def links(inv: Inv) -> set[str]:
    """The addresses of all links."""
    return {address.partition("/")[0] for host in hosts(inv) for address in host["links"].values()}


def log(rig: Rig, inv: Inv, rank: int) -> str:
    host = hosts(inv)[rank]["ssh"]
    folder = inv.environment()["INVOKE_TP_LOG_DIR"]
    return rig.run(host, f"cat {folder}/tp_server.rank{rank}.log").stdout


@pytest.mark.parametrize(
    ("count", "cables", "engine"),
    [
        (2, two_nodes(), "mlx-lm"),
        (2, two_cables(), "vllm-mlx"),
        (3, mesh(3), "vllm-mlx"),
        (4, ring(4), "vllm-mlx"),
        (4, mesh(4), "vllm-mlx"),
    ],
    ids=["two", "two cables", "three", "ring of four", "mesh of four"],
)
def test_setup_start_chat_stop(
    inv: Inv, ready: Ready, count: int, cables: Any, engine: str
) -> None:
    rig = ready(count, cables, engine)
    started = inv("tp.start", "--skip", "versions")
    assert "healthy: a token" in started.err
    status = inv("tp.status", "--json").json()
    assert status["state"] == "ready"
    assert len(status["ranks"]) == count
    assert {row["host"] for row in status["ranks"]} == set(rig.names)

    # The ranks are connected over the links, and over nothing else.
    addresses = links(inv)
    for row in status["ranks"]:
        shown = rig.run(row["host"], f"lsof -nP -a -p {row['pid']} -iTCP -sTCP:ESTABLISHED").stdout
        ends = re.findall(r"TCP ([\d.]+):\d+->([\d.]+):\d+", shown)
        assert len(ends) >= 1
        assert {each for pair in ends for each in pair} <= addresses | {"127.0.0.1"}

    # A curl on rank 0's node, as the started server's own words have it.
    curl = next(line for line in started.out.splitlines() if line.startswith("curl"))
    answer = rig.run(status["ranks"][0]["host"], f"{curl} -s").stdout
    assert json.loads(answer)["usage"]["completion_tokens"] > 0
    inv("tp.health")

    stopped = inv("tp.stop").out
    assert len(re.findall(r"^stopped +mac\d +rank \d ", stopped, re.MULTILINE)) == count
    assert inv("tp.status").out.startswith("stopped")
    assert inv("tp.stop").code == 0


def test_verify(inv: Inv, ready: Ready) -> None:
    """A real collective over the links, with the environment that tp.start would use."""
    rig = ready(3, mesh(3))
    shown = inv("rdma.verify")
    assert "right sums on all 3 ranks" in shown.err
    assert len(re.findall(r"^\d+ (?:B|KiB|MiB) +\d+ us +[\d.]+ GB/s$", shown.out, re.M)) == 5
    pings = re.findall(r"^ping (mac\d) -> ([\d.]+): \d+ us$", shown.out, re.MULTILINE)
    assert {host for host, _ in pings} == set(rig.names)
    assert {ip for _, ip in pings} <= links(inv)
    report = inv("rdma.verify", "--json").json()
    assert [each["world"] for each in report["ranks"]] == [3, 3, 3]
    left = "for run in ~/.mlx-tp/*/runs/*; do [ -e $run/ended ] || echo $run; done"
    assert [rig.run(host, left).stdout for host in rig.names] == [""] * 3


def test_verify_finds_a_cut_link(inv: Inv, ready: Ready) -> None:
    rig = ready(2, two_nodes())
    rig.cut("mac1", "en5")
    failed = inv("rdma.verify", "--timeout", "6", code=4)
    assert "verify: " in failed.err
    assert inv("tp.status").out.startswith("stopped")


def test_verify_beside_a_server_is_refused(inv: Inv, ready: Ready) -> None:
    ready(2, two_nodes())
    inv("tp.start", "--skip", "versions")
    refused = inv("rdma.verify", code=3)
    assert "already runs: rank 0" in refused.err
    assert inv("tp.status", "--json").json()["state"] == "ready"


def test_memory_that_a_killed_server_left(inv: Inv, ready: Ready) -> None:
    """The absolute limit, and the node's own baseline, which a smaller Mac needs."""
    rig = ready(2, two_nodes())
    inv("tp.start", "--skip", "versions")
    rig.fault("mac1", "wired_leak", "60")
    rig.fault("mac2", "wired_leak", "380")
    stopped = inv("tp.stop", "--force")
    assert re.search(r"^killed +mac2 +rank 1 +389.0 of 512 GiB wired", stopped.out, re.MULTILINE)
    more = "69.0 of 512 GiB wired: 60.0 GiB (12%) more than before this boot's first start"
    assert f"fail: mac1: {more}: reboot it" in stopped.err
    assert "fail: mac2: 389.0 of 512 GiB wired (limit 351 GiB): reboot it" in stopped.err
    assert "cooldown" not in stopped.err  # a ring leaves the kernel nothing to take back
    refused = inv("tp.start", code=3)
    assert re.findall(r"^fail +memory +(\S+) ", refused.err, re.MULTILINE) == ["mac1", "mac2"]
    rig.reboot("mac1")
    shown = inv("tp.memory", code=3).out
    assert re.search(r"^ok +mac1 +9.0 of 512 GiB wired$", shown, re.MULTILINE)


def test_protection_domains_that_failed_starts_used_up(inv: Inv, ready: Ready) -> None:
    rig = ready(2, two_nodes())
    rig.set("mac1", thunderbolt=5)
    rig.set("mac2", thunderbolt=5)
    file = Path(inv.env["INVOKE_TP_HOSTFILE"])
    data = json.loads(file.read_text())
    for host, row in zip(data["hosts"], [[None, "rdma_en5"], ["rdma_en5", None]], strict=True):
        host["rdma"] = row
    file.write_text(json.dumps({**data, "backend": "jaccl"}))
    inv("rdma.setup")
    skip = ("--skip", "memory,processes,ports,model,versions,cooldown")
    rig.set("mac2", pds_used=3)
    warned = inv("tp.preflight", *skip).out
    assert re.search(r"^warn +rdma +mac2 +3 protection domains are in use", warned, re.MULTILINE)
    assert "warn: mac2: 3 protection domains are in use" in inv("tp.stop").err
    rig.fault("mac2", "max_pd_used")
    refused = inv("tp.preflight", *skip, code=3).out
    assert re.search(
        r"^fail +rdma +mac2 +11 protection domains .*a device has 11.*: reboot it", refused, re.M
    )


def test_logs_stay_on_their_nodes_and_are_collected(inv: Inv, ready: Ready) -> None:
    rig = ready(2, two_nodes())
    inv("tp.start", "--skip", "versions")
    inv("tp.stop")
    combined = (inv.home / "logs" / "tp_server.log").read_text()
    for rank in (0, 1):
        tagged = re.findall(rf"^rank {rank} \| (.*)$", combined, re.MULTILINE)
        assert tagged == log(rig, inv, rank).splitlines()


def test_a_reboot_ends_the_record(inv: Inv, ready: Ready) -> None:
    """A record from before a reboot is of no server, whatever has its pid now."""
    rig = ready(2, two_nodes())
    inv("tp.start", "--skip", "versions")
    rig.reboot("mac2")
    assert "mac2 was rebooted" in inv("tp.status", code=3).err
    inv("tp.stop")
    inv("rdma.setup")
    inv("tp.start", "--skip", "versions")
