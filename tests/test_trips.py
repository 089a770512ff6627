"""How often a task asks each node: connections and sessions counted at sshd, polls told apart.

And how often it builds its cluster.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from conftest import DEADLINE, ROOT, Inv, Sshd

from tasks.cluster.ssh import scripts

# Runs `inv` and writes each script that it sends to a node into a file.
PROGRAM = """
import json, os, sys
from invoke.main import program
from tasks.cluster.ssh import node

ask = node.Node._ask

def told(self, script, *rest):
    with open(os.environ["TRIPS"], "a") as file:
        file.write(json.dumps([self.name, script or "keeper"]) + "\\n")
    return ask(self, script, *rest)

node.Node._ask = told
program.run(["inv", *sys.argv[1:]])
"""


# Runs `inv` and writes a line for each cluster that is built.
COUNTED = """
import os, sys
from invoke.main import program
from tasks.cluster import cluster

build = cluster.build

def counted(*args, **options):
    with open(os.environ["TRIPS"], "a") as file:
        file.write("built\\n")
    return build(*args, **options)

cluster.build = counted
program.run(["inv", *sys.argv[1:]])
"""


@dataclass
class Trips:
    """Sessions per node; how many of them only looked whether something has come to pass, and how
    many wrote the audit line, for which nothing waits."""

    sessions: Counter[str]
    polls: Counter[str]
    notes: Counter[str]
    connections: Counter[str]

    @property
    def rest(self) -> dict[str, int]:
        return dict(self.sessions - self.polls - self.notes)


def trips(inv: Inv, sshd: Sshd, *words: str) -> Trips:
    before = Trips(_sessions(sshd), Counter(), Counter(), _connections(sshd))
    found = [json.loads(row) for row in written(PROGRAM, inv, *words)]
    sessions = _sessions(sshd) - before.sessions
    # What we count is what sshd has counted.
    assert Counter(name for name, _ in found) == sessions
    polls = Counter(name for name, script in found if _is_poll(script))
    notes = Counter(name for name, script in found if _is(script, "audit/add.sh"))
    return Trips(sessions, polls, notes, _connections(sshd) - before.connections)


def written(program: str, inv: Inv, *words: str, code: int = 0) -> list[str]:
    """What a program that runs the words writes down of them, line by line."""
    file = inv.home / "trips"
    file.unlink(missing_ok=True)
    line = [sys.executable, "-c", program, "-f", str(inv.config), *words]
    env = {**inv.environment(), "TRIPS": str(file)}
    done = subprocess.run(
        line, cwd=ROOT, env=env, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert done.returncode == code, done.stderr
    return file.read_text().splitlines()


def _is_poll(script: str) -> bool:
    """Looks at the ranks while they load, and the wait for those that were told to end."""
    return _is(script, "logs/last.sh") or _is(script, "stop/signal.sh")


def _is(script: str, name: str) -> bool:
    """Whether that file for nodes is in a script: each begins with what it is for."""
    return scripts.text(name).splitlines()[0] in script


def _log(sshd: Sshd, name: str) -> str:
    return (Path(sshd.folder) / f"{name}.log").read_text()


def _sessions(sshd: Sshd) -> Counter[str]:
    return Counter({n: _log(sshd, n).count("Starting session: command") for n in sshd.names})


def _connections(sshd: Sshd) -> Counter[str]:
    return Counter({name: sshd.connections(name) for name in sshd.names})


def test_trips(remote: Inv, sshd: Sshd) -> None:
    preflight = trips(remote, sshd, "tp.preflight")
    assert preflight.sessions == {"mac1": 1, "mac2": 1}

    for is_second in (False, True):  # it finds logs of the first
        start = trips(remote, sshd, "tp.start")
        # The lock, the checks, the launch, and what is to be done once it is ready.
        assert start.rest == {"mac1": 4, "mac2": 3}
        assert start.notes == {"mac1": 1, "mac2": 1}
        assert start.connections == {"mac1": 1, "mac2": 1}

        if is_second:
            restart = trips(remote, sshd, "tp.restart")
            # The record, the lock, all that must be known, what is left, the launch, and as above.
            assert restart.rest == {"mac1": 6, "mac2": 5}

        stop = trips(remote, sshd, "tp.stop")
        # The lock, what runs, and what is left.
        assert stop.rest == {"mac1": 3, "mac2": 2}
        assert stop.polls == {"mac1": 1, "mac2": 1}
        assert stop.notes == {"mac1": 1, "mac2": 1}
        assert stop.connections == {"mac1": 1, "mac2": 1}


def test_trips_of_selftest(light_remote: Inv, sshd: Sshd) -> None:
    """All that is asked, in one session each."""
    assert trips(light_remote, sshd, "hosts.selftest").sessions == {"mac1": 1, "mac2": 1}


def builds(inv: Inv, *words: str, code: int = 0) -> int:
    """How many clusters are built for the words."""
    return len(written(COUNTED, inv, *words, code=code))


def test_builds(light: Inv) -> None:
    """One for the asked task and its hooks; a restart's second is what the record says."""
    assert light.config
    config = json.loads(light.config.read_text())
    hooks = {"pre": ["true"], "post": ["true"]}
    names = ("tp.start", "tp.preflight", "tp.health", "tp.stop")
    light.config.write_text(json.dumps({**config, "hooks": dict.fromkeys(names, hooks)}))
    assert builds(light, "tp.start", "--backend", "ring", "--lock-wait", "5", "-n", "2") == 1
    assert builds(light, "tp.preflight", code=3) == 1
    assert builds(light, "tp.restart") == 2
    assert builds(light, "tp.stop") == 1
