"""Whoever can be reached can be asked; a server that can't be asked is left alone, and says why."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import layout
from conftest import Inv, Sshd

WANTS_KEY = """
def answer(self, data, status, old=Pages.answer):
    known = self.headers.get("Authorization") == "Bearer s3cret"
    old(self, data if known else {"error": "no key"}, status if known else 401)
Pages.answer = answer
"""


def without_forwarding(sshd: Sshd, name: str = "mac1", **options: str) -> None:
    sshd.stop(name)
    sshd.start(name, **(options or {"AllowTcpForwarding": "no"}))


def asked(sshd: Sshd, name: str) -> str:
    return (sshd.folder / f"{name}.log").read_text()


def test_no_forwarding(remote: Inv, sshd: Sshd) -> None:
    """Real ranks behind an sshd that forwards nothing: started, asked, streamed, stopped."""
    without_forwarding(sshd)
    told = remote("tp.start")
    assert "healthy: a token in" in told.err
    answer: Any = remote("tp.chat", "Hi", "--max-tokens", "12", "--json").json()
    assert answer["tokens"] == 12
    assert 0 < answer["first"] < answer["seconds"]
    assert remote("tp.status", "--json").json()["state"] == "ready"
    # It was found out once in each command, and no request was lost for it.
    assert asked(sshd, "mac1").count("refused local port forward") >= 2
    remote("tp.stop")


def test_a_restricted_key(light_remote: Inv, sshd: Sshd) -> None:
    keys = sshd.folder / "restricted"
    keys.write_text(f"restrict {(sshd.folder / 'user.key.pub').read_text()}")
    without_forwarding(sshd, AuthorizedKeysFile=str(keys))
    light_remote("tp.start")
    assert light_remote("tp.chat", "Hi", "--json").json()["text"] == "a"
    # No way at all: it is said of a server that runs, and before a rank is started.
    tools = sshd.folder / "tools"
    tools.mkdir()
    for file in Path("/usr/bin").iterdir():
        if not file.name.startswith("python"):
            (tools / file.name).symlink_to(file)
    home = f"HOME={sshd.node_home('mac1')} PATH={tools}"
    without_forwarding(sshd, AuthorizedKeysFile=str(keys), SetEnv=home)
    hosts = light_remote.home / "hosts.json"
    hosts.write_text(hosts.read_text().replace(sys.executable, "/nowhere/python"))
    gone = "GET /v1/models: sshd there forwards no connections (AllowTcpForwarding local would)"
    # Its last token is a minute old: it is asked for another one.
    token = layout.newest(sshd.node_home("mac1") / layout.STATE) / "token"
    token.write_text(f"{int(token.read_text()) - 60}\n")
    told = light_remote("tp.status", code=3).one_line()
    assert told.startswith(f"unasked: running, can't be asked: {gone}")
    light_remote("tp.stop")
    told = light_remote("tp.start", "--skip-checks", code=3).err
    assert f"mac1: {gone}" in told
    assert "nothing was started" in told


def test_a_key(light: Inv) -> None:
    """A 401 is told at once; nobody is stopped for it; a key that is named where it is opens."""
    folder = light.home / "light"
    (folder / "load.0.py").write_text(WANTS_KEY)
    told = light("tp.start", code=4)  # its own timeout is longer than a test's
    line = told.err.splitlines()[-1]
    assert "running, can't be asked: the server wants a key (401): set tp.api_key" in line
    assert "the server is left as it is" in line
    status: Any = light.run("tp.status", "--json")
    found = json.loads(status.out)
    assert found["state"] == "unasked"
    assert [row["state"] for row in found["ranks"]] == ["running", "running"]
    assert "wants a key (401)" in light("tp.chat", "Hi", code=4).one_line()

    light.env["INVOKE_TP_API_KEY"] = "env:MLX_KEY"
    assert "tp.api_key: $MLX_KEY is empty, or not set" in light("tp.health", code=2).one_line()
    light.env["MLX_KEY"] = "s3cret"
    light("tp.wait")
    assert '-H "Authorization: Bearer $MLX_KEY"' in light("tp.health").out
    assert light("tp.chat", "Hi").out == "a\n"
    watch = light.start("tp.watch")
    assert watch.stdout
    assert watch.stdout.readline().split()[1:] == ["ready"]
    watch.terminate()
    watch.communicate()
    light("tp.stop")
