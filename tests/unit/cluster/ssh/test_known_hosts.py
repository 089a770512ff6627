"""Which host keys are known, and what to do where one is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.cluster.ssh import known_hosts, resolve
from tasks.cluster.ssh.known_hosts import KnownKeys

ED25519 = "ssh-ed25519"
MINE, OTHER = "AAAAbWluZQ==", "AAAAb3RoZXI="


def known(tmp_path: Path, lines: str, more: str = "") -> KnownKeys:
    file = tmp_path / "known"
    file.write_text(lines)
    said = f"hostname gate\nport 2201\nuserknownhostsfile {file}\n{more}"
    return known_hosts.known(resolve.parse("mac1", said))


def wrong(keys: KnownKeys, key: str = MINE) -> tuple[str, str] | None:
    return keys.wrong(ED25519, known_hosts.decoded(key), "ssh mac1")


def test_another_sshd_of_that_name(tmp_path: Path) -> None:
    """Behind one address there may be several: the key of port 22 says nothing of port 2201."""
    by_name = known(tmp_path, f"gate {ED25519} {OTHER}\n")
    assert wrong(by_name) == ("host key is not known", "check and accept it with: ssh mac1 true")
    assert wrong(by_name, OTHER) is None
    by_port = known(tmp_path, f"gate {ED25519} {MINE}\n[gate]:2201 {ED25519} {OTHER}\n")
    assert "(of [gate]:2201) has changed" in str(wrong(by_port))
    assert "revoked" in str(wrong(known(tmp_path, f"@revoked gate {ED25519} {MINE}\n")))


TRUST = "check and accept it with: inv hosts.trust --hosts mac1"


@pytest.mark.parametrize(
    ("more", "remedy"),
    [
        ("stricthostkeychecking ask", "check and accept it with: ssh mac1 true"),
        ("stricthostkeychecking accept-new", TRUST),
        ("stricthostkeychecking no", TRUST),
        ("stricthostkeychecking true", TRUST),  # ssh refuses it and does not ask
        ("nohostauthenticationforlocalhost yes", TRUST),  # ssh takes it and does not ask
    ],
)
def test_a_way_out_that_leads_out(tmp_path: Path, more: str, remedy: str) -> None:
    assert wrong(known(tmp_path, "", more)) == ("host key is not known", remedy)


@pytest.mark.parametrize("file", ["none", "/dev/null"])
def test_a_configuration_that_keeps_no_keys(file: str) -> None:
    """What is written there is gone: to accept a key would help nobody."""
    found = known_hosts.known(resolve.parse("mac1", f"userknownhostsfile {file}\n"))
    assert f"UserKnownHostsFile {file} keeps no key: name a file" in str(wrong(found))
