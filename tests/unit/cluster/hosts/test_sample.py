"""A sample: what is written of hosts, what is not, and that parsers take it as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.cluster.facts import Key, NodeFacts, Unknown
from tasks.cluster.facts.links import rdma
from tasks.cluster.facts.machine import processes
from tasks.cluster.facts.server import state
from tasks.cluster.facts.snapshot import Snapshot
from tasks.cluster.hosts import sample
from tasks.cluster.hosts.said import ASSUMED, Raw

DATA = Path(__file__).parents[3] / "data" / "macos"
MINE = """
== system
26.3
Darwin

== mine
user anna
host annas-mac.local
home /Volumes/Homes/anna
volume Weights of Anna

== path
/usr/bin:/Volumes/Homes/anna/bin:/Volumes/Weights of Anna/bin

== end
"""


def facts(host: str, **said: object) -> NodeFacts:
    values: dict[Key[object], object] = {Key[object](name): each for name, each in said.items()}
    return NodeFacts(host, {ASSUMED: Raw(MINE, 0), **values})


def saved(folder: Path, *hosts: NodeFacts) -> list[dict[str, Raw]]:
    read = Snapshot({each.node: each for each in hosts}, {})
    return [sample.read(path) for path in sample.write(folder, read)]


def test_names_and_statuses(tmp_path: Path) -> None:
    text = (DATA / "ifconfig.txt").read_text()
    said = {"interfaces": Raw(text, 0), "ibv_devinfo": Raw("", 127), "gpu": Unknown("no answer")}
    found = saved(tmp_path, facts("mac1", **said))[0]
    assert {path.name for path in (tmp_path / "host1").iterdir()} == {
        "assumed.txt", "ibv_devinfo.txt", "ifconfig.txt", "status.json",
    }  # fmt: skip
    assert found["ibv_devinfo"] == Raw("", 127)
    interfaces = rdma.parse_interfaces(found["interfaces"].text, 0)
    assert interfaces.keys() == rdma.parse_interfaces(text, 0).keys()


def test_what_a_host_says_of_itself(tmp_path: Path) -> None:
    found = saved(tmp_path, facts("anna@mac1.example", gpu=Raw("ANNA at mac1, annas-mac\n", 0)))[0]
    assert found["gpu"].text == "user1 at host1, host2\n"
    assert "mine" not in found["assumed"].text
    assert found["assumed"].text.count("/Users/user1/bin:/Volumes/Volume1/bin") == 1


def test_hosts_share_placeholders(tmp_path: Path) -> None:
    """What a host says of its peer is what the peer says of itself."""
    one, other = "domain 5B2F0000-0000-4000-8000-0000000000AA 10.9.8.7\n", "10.9.8.7 mac1\n"
    first, second = saved(
        tmp_path, facts("mac1", gpu=Raw(one, 0)), facts("mac2", gpu=Raw(other + one, 0))
    )
    assert second["gpu"].text.endswith(first["gpu"].text)
    assert "10.9.8.7" not in second["gpu"].text
    assert "mac1" not in second["gpu"].text


secret = st.from_regex(r"[a-z]{3}-?[A-Za-z0-9]{9}Q", fullmatch=True)


@given(key=secret, folder=secret)
def test_command_lines_keep_no_arguments(
    tmp_path_factory: pytest.TempPathFactory, key: str, folder: str
) -> None:
    text = (DATA / "processes.txt").read_text()
    text = text.replace("--port 8000\n", f"--port 8000 --api-key {key} --chat '{folder} x'\n")
    assert key in text
    said = facts("mac1", processes=Raw(text, 0))
    shown = saved(tmp_path_factory.mktemp("sample"), said)[0]["processes"].text
    assert key not in shown
    assert folder not in shown
    read, true = processes.parse(shown, 0), processes.parse(text, 0)
    assert read.keys() == true.keys()
    assert read[4130].command.split()[1:4] == ["-m", "mlx_lm", "server"]
    assert read[4130].program.endswith("Contents/MacOS/Python")


@given(key=secret)
def test_records_keep_no_command(tmp_path_factory: pytest.TempPathFactory, key: str) -> None:
    text = (DATA / "state.txt").read_text()
    text = text.replace('"mlx_lm", "server"]', f'"mlx_lm", "server", "--api-key", "{key}"]')
    text = text.replace('"MLX_RANK"', f'"{key}"').replace('"model": "llama"', f'"model": "{key}"')
    assert text.count(key) == 3
    said = facts("mac1", state=Raw(text, 0))
    shown = saved(tmp_path_factory.mktemp("sample"), said)[0]["state"].text
    assert key not in shown
    assert state.parse(shown, 0).ranks.keys() == state.parse(text, 0).ranks.keys()


def test_audit_lines_are_not_kept(tmp_path: Path) -> None:
    assert "audit" not in saved(tmp_path, facts("mac1", audit=Raw("anna did it\n", 0)))[0]
