"""What people see of a server's life, on one light server: a line each, and as JSON."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import layout
from conftest import Inv, wait_for


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


def test_what_became_of_ranks(light: Inv, home: Path) -> None:
    """Suspended, died or rebooted: each is said as what it is, with what to do."""
    light("tp.start")
    ranks = {row["rank"]: row["pid"] for row in light("tp.status", "--json").json()["ranks"]}
    assert "--rank 7: the run has ranks 0 to 1" in light("tp.logs", "--rank", "7", code=2).err
    os.kill(ranks[1], signal.SIGSTOP)
    wait_for(lambda: "suspended  rank 1" in light.run("tp.status").out)
    why = f"suspended: rank 1 on 127.0.0.1; kill -CONT {ranks[1]} on 127.0.0.1 lets it go on"
    assert why in light("tp.status", code=3).err
    os.kill(ranks[1], signal.SIGCONT)
    wait_for(lambda: light.run("tp.status").code == 0)
    os.kill(ranks[1], signal.SIGKILL)
    wait_for(lambda: "killed by SIGKILL" in light.run("tp.status").err)
    stopped = light("tp.stop")
    assert "rank 0; rank 1 (killed by SIGKILL) had died" in stopped.out
    light("tp.start")
    of_rank = layout.newest(home / layout.STATE) / "rank-1.pid"
    pid, start, boot = of_rank.read_text().splitlines()
    of_rank.write_text(f"{pid}\n{start}\nanother-boot\n")
    said = light("tp.status", code=3)
    assert re.search(r"127\.0\.0\.1 was rebooted \d+ \w+ ago; clean up with inv tp\.stop", said.err)
    assert re.search(r"dead +rank 1 +127\.0\.0\.1 +pid \d+ +rebooted \d+ \w+ ago", said.out)
    of_rank.write_text(f"{pid}\n{start}\n{boot}\n")
    light("tp.stop")
