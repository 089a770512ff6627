"""What runs a script on a node: where its connection ends is not for the screen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import paramiko
import pytest

from tasks.cluster.config.hostfile import Host
from tasks.cluster.errors import BadInput
from tasks.cluster.ssh import node, resolve


@pytest.mark.parametrize("error", [EOFError, BrokenPipeError])
def test_too_late_on_a_connection_that_is_gone(error: type[Exception]) -> None:
    """A control machine that wakes up finds both: its timer has run out, and nobody is there."""

    def close() -> None:
        raise error

    runner: Any = object.__new__(node._runner())
    runner.channel = SimpleNamespace(close=close)
    runner.kill()


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("::1", "::1", None), ("fe80::1", "fe80::1", None), ("[::1]:2022", "::1", 2022)],
)
def test_an_address_of_ipv6_is_a_host(text: str, host: str, port: int | None) -> None:
    assert resolve.hops(text) == [resolve.Hop(host, None, port)]


def test_what_is_no_host() -> None:
    with pytest.raises(BadInput, match=r"^host a:b: write"):
        node._hop(Host(ssh="a:b"))


def test_a_host_that_takes_a_connection_and_says_nothing() -> None:
    """Paramiko's own words for that tell nobody what happened."""
    error = paramiko.SSHException("No existing session")
    assert node.explain(error, "mac1", node.SshConfig())[0] == "SSH gave no answer within 10 s"
