"""The audit log: what is in it, whose it is, how long it grows, and how nodes' logs are merged."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import DEADLINE, Inv, Sshd
from rig import Rig

from tasks.cluster.errors import ActionFailed, BadInput, CheckFailed, Unreachable
from tasks.cluster.facts import NodeFacts, Unknown
from tasks.cluster.server import audit_log
from tasks.cluster.server.audit_log import AuditEntry

TIME = "2026-11-24T18:01:25Z"
ENTRY = AuditEntry(TIME, "ana@laptop", "tp.stop", "done")


def sh(script: str, home: Path) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": str(home)}
    line = ["/bin/sh", "-s"]
    return subprocess.run(
        line, input=script, env=env, capture_output=True, text=True, timeout=DEADLINE
    )


def written(home: Path, entry: AuditEntry = ENTRY, state: str = "~/state") -> list[AuditEntry]:
    """The log after one more line."""
    done = sh(audit_log.script(state, entry), home)
    assert done.returncode == 0, done.stderr
    read = sh(audit_log.fact(state, 0).command, home)
    return audit_log.parse(read.stdout, read.returncode)


def test_a_line_is_what_it_was(home: Path) -> None:
    """Whatever is in it, it is one line with four fields, and nothing of it is run."""
    odd = AuditEntry(TIME, "a\tb@c\nd", "$(touch canary) `id` 'x' \"y\" %s \\n \x1b[31m", "-n")
    assert written(home) == [ENTRY]
    assert written(home, odd)[1:] == [
        AuditEntry(TIME, "a b@c d", "$(touch canary) `id` 'x' \"y\" %s \\n", "-n")
    ]
    assert not list(home.rglob("canary"))


def test_it_is_for_its_owner_alone(home: Path) -> None:
    file, victim = home / "state" / audit_log.NAME, home / "victim"
    written(home)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file.parent, file)] == [0o700, 0o600]
    file.chmod(0o666)
    written(home)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    victim.write_text("mine\n")
    file.unlink()
    file.symlink_to(victim)
    read = sh(audit_log.fact("~/state", 0).command, home)
    assert read.returncode == 1
    assert "is a link or not ours: remove it" in read.stdout
    assert written(home) == [ENTRY]
    assert victim.read_text() == "mine\n"
    (home / "other").symlink_to(home / "state")
    assert "is a link or not ours" in sh(audit_log.script("~/other", ENTRY), home).stderr


def test_it_does_not_grow_for_ever(home: Path) -> None:
    file = home / "state" / audit_log.NAME
    written(home)
    line = file.read_text()
    file.write_text(line * (audit_log.LIMIT // len(line) + 1))
    last = AuditEntry(TIME, "ana@laptop", "tp.start", "failed")
    found = written(home, last)
    assert audit_log.LIMIT // 4 < file.stat().st_size <= audit_log.LIMIT // 2
    assert set(found) == {ENTRY, last}
    assert found[-1] == last
    assert file.read_text().startswith(TIME)


@pytest.mark.parametrize(
    "text", ["", "junk\n", f"{TIME}\ta\tb\n", f"{TIME}\ta\tb\tc\td\n", "yesterday\ta\tb\tc\n"]
)
def test_a_damaged_line_is_left_out(text: str) -> None:
    good = "\t".join(vars(ENTRY).values())
    assert audit_log.parse(f"{text}{good}\n", 0) == [ENTRY]


def test_merged() -> None:
    """By time; an action that several nodes tell of is one."""
    early = AuditEntry("2026-11-24T17:00:00Z", "bo@desk", "rdma: x", "done")
    late = AuditEntry("2026-11-24T19:00:00Z", "bo@desk", "tp.start", "failed")
    facts = {
        "mac1": NodeFacts("mac1", {audit_log.KEY: [ENTRY, late]}),
        "mac2": NodeFacts("mac2", {audit_log.KEY: [early, ENTRY]}),
        "mac3": NodeFacts("mac3", {audit_log.KEY: Unknown("why")}),
    }
    whole = [(early, ["mac2"]), (ENTRY, ["mac1", "mac2"]), (late, ["mac1"])]
    assert audit_log.merged(facts, 0) == whole
    assert audit_log.merged(facts, 2) == whole[1:]


def test_merged_within_a_second() -> None:
    """In the order in which they were done, whatever they are called."""
    both = [
        AuditEntry("2026-11-01T10:00:00Z", "ada@mb", what, "done") for what in ("tp.stop", "tp.a")
    ]
    facts = {node: NodeFacts(node, {audit_log.KEY: both}) for node in ("mac1", "mac2")}
    assert [entry.what for entry, _ in audit_log.merged(facts, 0)] == ["tp.stop", "tp.a"]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (CheckFailed("x"), "refused"),
        (ActionFailed("x"), "failed"),
        (Unreachable("x"), "node not reached"),
        (KeyboardInterrupt(), "interrupted"),
        (RuntimeError("sk-secret"), "failed"),
        (BadInput("x"), None),
        (None, "done"),
    ],
)
def test_outcomes(
    error: BaseException | None, outcome: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[object, ...]] = []
    writer = audit_log.AuditWriter()
    monkeypatch.setattr(writer, "record", lambda *words: said.append(words))
    with suppress(BaseException), writer.recorded([], "~/s", "what"):
        if error:
            raise error
    words = [] if outcome is None else [("what", *([outcome] if error else []))]
    assert [each[2:] for each in said] == words


def test_over_ssh(remote: Inv, sshd: Sshd) -> None:
    """Who, what and how it ended, on both nodes, over the connections that there are."""
    remote("tp.stop")
    before = {name: sshd.connections(name) for name in sshd.names}
    assert before == {"mac1": 1, "mac2": 1}
    remote("tp.launch", "--cwd", "/nowhere", code=4)
    remote("tp.unlock")
    found = remote("tp.audit", "--json").json()["actions"]
    told = [(each["what"], each["outcome"], each["nodes"]) for each in found]
    assert told == [
        ("tp.stop", "done", ["mac1", "mac2"]),
        ("tp.launch: mlx-lm over ring, 2 ranks", "failed", ["mac1", "mac2"]),
        ("tp.unlock: there was no lock", "done", ["mac1"]),
    ]
    assert all("@" in each["who"] for each in found)
    sshd.stop("mac2")
    down = remote("tp.audit", "--lines", "1", code=5)
    assert re.search(r"^done +\S+Z +mac1 +\S+@\S+ +tp.unlock", down.out, re.MULTILINE)
    assert re.search(r"^not reached +mac2 ", down.out, re.MULTILINE)


def test_links_and_copies(inv: Inv, macs: Callable[..., Rig]) -> None:
    """rdma.setup on the nodes that it changes, dev.sync on all; a dry run on none."""
    rig = macs()
    ends = [f"--node={name}:en5:10.254.0.{5 + i}" for i, name in enumerate(rig.names)]
    sync = ("dev.sync", "--hosts", ",".join(rig.names), "--source", "hosts", "--target", "there")
    inv(*sync, "--dry-run")
    inv("rdma.setup", *ends, "--dry-run")
    assert rig.run("mac1", "ls ~/.mlx-tp", check=False).returncode
    inv("rdma.devices", *ends)
    inv("rdma.devices", *ends)
    inv(*sync)
    for name in rig.names:
        log = rig.run(name, "cut -f 3,4 ~/.mlx-tp/audit.log").stdout.splitlines()
        assert len(log) == 2
        assert re.fullmatch(r"rdma: write /tmp/mlx_ibv_devices.json \(was .+\)\tdone", log[0])
        assert log[1] == "dev.sync to ~/there\tdone"
