"""What people see of a server's life, on one light server: a line each, and as JSON."""

from __future__ import annotations

from conftest import Inv


def test_a_start_and_its_document(light: Inv) -> None:
    """A start's document has what is needed to use the server; so has tp.health's."""
    found = light("tp.start", "--json").json()
    assert found["url"] == f"http://127.0.0.1:{light.port}"
    assert list(found["phases"]) == ["checks", "launch", "load", "first token"]
    assert {each["level"] for each in found["findings"]} <= {"ok", "warn"}
    assert found["curl"].startswith(f"curl {found['url']}/v1/chat/completions")
    healthy = light("tp.health", "--json").json()
    assert (healthy["url"], healthy["model"]) == (found["url"], found["model"])
    assert light("tp.status", "--json").json()["state"] == "ready"
    assert light("tp.stop", "--json").json()["nodes"]
