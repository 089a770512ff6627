"""Where the ranks meet: by which address and ports, and what the hosts lack for it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.cluster.config import ranks
from tasks.cluster.config.engine import MLX_LM
from tasks.cluster.config.hostfile import Host

TWO = (Host("a", ips=("10.0.0.1", "10.0.1.1")), Host("b", ips=("10.0.0.2", "10.0.1.2")))
PAIR = (Host("a", ips=("10.0.0.1", "9.9.9.9"), rdma=(None, "rdma_en5")),
        Host("b", rdma=("rdma_en5", None)))  # fmt: skip


def plan(hosts: Any, backend: str, **more: Any) -> list[ranks.Rank]:
    return ranks.plan(hosts, backend, MLX_LM, **more)


def test_ports_up_to_the_last_one() -> None:
    """Each address of a ring has a port of its own; 65535 is one, and there is none above it."""
    first, second = plan(TWO, "ring", port=65532)
    assert (first.ports, second.ports) == ((65532, 65533), (65534, 65535))
    assert json.loads(second.files["MLX_HOSTFILE"])[1] == ["10.0.0.2:65534", "10.0.1.2:65535"]
    with pytest.raises(ValueError, match=r"up to 65536: set tp\.starting_port"):
        plan(TWO, "ring", port=65533)


@pytest.mark.parametrize(("backend", "is_ring"), [("jaccl", False), ("jaccl-ring", True)])
def test_the_coordinator_is_rank_0_by_its_first_address(backend: str, is_ring: bool) -> None:
    """All ranks are told the same place; only rank 0 listens there."""
    first, second = plan(PAIR, backend, port=41000)
    for rank in (first, second):
        assert rank.env["MLX_JACCL_COORDINATOR"] == "10.0.0.1:41000"
        assert ("MLX_JACCL_RING" in rank.env) is is_ring
    assert (first.ports, second.ports) == ((41000,), ())
    assert (first.env["MLX_RANK"], second.env["MLX_RANK"]) == ("0", "1")


LACKS = [
    ("ring", (TWO[0], Host("b")), r'^hosts\[1\] has no "ips": ring needs'),
    ("jaccl", TWO, 'no host has an "rdma" row: jaccl needs one each'),
    ("jaccl", (Host("a", rdma=PAIR[0].rdma), PAIR[1]), r'hosts\[0\] has no "ips": jaccl needs the'),
    ("jaccl", (PAIR[0], Host("b", rdma=("rdma_en5",))), r'hosts\[1\] has no "rdma" row of 2'),
    ("jaccl", (PAIR[0], Host("b", rdma=(None, None))), r"hosts\[1\].rdma\[0\] is null"),
]


@pytest.mark.parametrize(("backend", "hosts", "says"), LACKS)
def test_what_hosts_lack(backend: str, hosts: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        plan(hosts, backend)


def test_a_choice_of_the_user_s_own_stays() -> None:
    """FAST_SYNCH of the hostfile's envs wins over tp.fast_synch, and unset sets none."""
    assert ranks.FAST_SYNCH not in plan(TWO, "ring")[0].env
    assert plan(TWO, "ring", fast_synch="off")[0].env[ranks.FAST_SYNCH] == "0"
    own = plan(TWO, "ring", fast_synch="off", envs=[f"{ranks.FAST_SYNCH}=1"])
    assert own[1].env[ranks.FAST_SYNCH] == "1"


def test_one_alone_meets_nobody() -> None:
    assert plan(TWO[:1], "ring")[0].files == {}
