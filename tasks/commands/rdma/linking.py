"""Acting and telling for inv rdma.*: read all nodes, refuse or change, look again."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from ...cli import envelope, screen
from ...cluster.checks import FAIL, Finding
from ...cluster.errors import ActionFailed, BadInput, CheckFailed, Unreachable
from ...cluster.facts import Fact, Key, known
from ...cluster.facts.links import ping as pings
from ...cluster.facts.links import rdma, routes, thunderbolt
from ...cluster.facts.machine import hardware
from ...cluster.facts.snapshot import Snapshot
from ...cluster.rdma import launchd, link_checks, setup
from ...cluster.rdma.links import Wiring
from ...cluster.rdma.setup import Change
from ...cluster.server import audit_log, fence, snapshots
from ...cluster.ssh import nodes, scripts
from ...cluster.ssh.node import Answer
from ...cluster.text import said
from ...session import Session
from ..tp import show


def _parse_user(text: str, status: int) -> tuple[str, str]:
    found = re.fullmatch(r"\s*([A-Za-z0-9_.][A-Za-z0-9_.-]*)\n(/[^\x00-\x1f\x7f]*)\s*", text)
    if status != 0 or not found:
        raise ValueError("who we are there can't be read")
    return found.group(1), found.group(2)


USER = Fact(Key[tuple[str, str]]("user"), scripts.script("rdma/user.sh"), _parse_user)


@dataclass(frozen=True)
class How:
    """How changes are made: for which command, with their commands shown, a password asked for.

    `state_dir` is where each node notes what was done ("": nowhere).
    """

    what: str
    state_dir: str
    verbose: bool = False
    ask_sudo: bool = False


def apply(session: Session, wiring: Wiring, kinds: Sequence[str], how: How) -> None:
    """Bring about the `kinds` of change on all nodes, or refuse before the first one."""
    with acting(session, wiring, how):
        _apply(session, wiring, kinds, how)


@contextmanager
def acting(session: Session, wiring: Wiring, how: How) -> Iterator[None]:
    """The cluster's lock, by whose number nodes let us act; a node that is lost is told later."""
    site = session.site(wiring.hosts)
    if not session.dry:
        with suppress(Unreachable):
            session.lock.hold(site, how.what, session.say)
    try:
        yield
    finally:
        session.lock.release(site)


def _apply(session: Session, wiring: Wiring, kinds: Sequence[str], how: How) -> None:
    if wiring.cables and kinds != ("devices",):
        wiring = _as_addressed(session, wiring)
        kinds = [kind for kind in kinds if kind != "address"]
    read = read_nodes(
        session, wiring, [rdma.INTERFACES, thunderbolt.PORTS, routes.FACT, rdma.MATRIX_FACT, USER]
    )
    refuse(setup.refusals(wiring, read.nodes, kinds))
    for one, two in wiring.unlinked:
        screen.say(f"no link between {one} and {two}")
    todo = setup.changes(wiring, read.nodes, kinds)
    right = {
        host.ssh: ", ".join(f"{end.interface} {end.address}" for end in wiring.on(host.ssh))
        or rdma.MATRIX
        for host in wiring.hosts
    }
    carry_out(session, wiring, read, todo, right, how)
    if todo and not session.dry:
        _check_it_lasts(session, wiring, kinds)
    if not session.dry:
        screen.say(f"as wanted on {len(wiring.hosts)} nodes: inv rdma.status looks, rdma.ping asks")


def _as_addressed(session: Session, wiring: Wiring, fixed: bool = False) -> Wiring:
    """The links of a hostfile that tells no addresses, with those that the interfaces have.

    Raise where one has none, or, if they are to be `fixed`, one that it took by itself.
    """
    read = read_nodes(session, wiring, [rdma.INTERFACES])
    refuse([each for host, values in read.nodes.items() for each in setup.unreadable(host, values)])
    found = _with(wiring, read)
    refuse(link_checks.nameless(found, read.nodes))
    passing = link_checks.self_assigned(found)
    if fixed:
        refuse(passing)
    print_findings(passing)
    return found


def _with(wiring: Wiring, read: Snapshot) -> Wiring:
    if not wiring.cables:
        return wiring
    names = [host.ssh for host in wiring.hosts]
    return wiring.with_({name: known(read.on(name), rdma.INTERFACES_KEY) or {} for name in names})


def persist(session: Session, wiring: Wiring, how: How, remove: bool = False) -> None:
    """Install (or remove) the LaunchDaemon that does at boot what setup does."""
    with acting(session, wiring, how):
        _persist(session, wiring, how, remove)


def _persist(session: Session, wiring: Wiring, how: How, remove: bool) -> None:
    if wiring.cables and not remove:
        wiring = _as_addressed(session, wiring, fixed=True)
    read = read_nodes(session, wiring, [launchd.FACT, USER])
    refuse([each for host, values in read.nodes.items() for each in setup.unreadable(host, values)])
    todo: list[Change] = []
    for host, values in read.nodes.items():
        user, home = values[USER.key]
        wanted = None if remove else launchd.plist(wiring, host, user)
        todo += launchd.changes(host, home, values[launchd.KEY], wanted)
    state = "not installed" if remove else "installed, and as it would be"
    right = {host.ssh: f"{launchd.PATH}: {state}" for host in wiring.hosts}
    carry_out(session, wiring, read, todo, right, how)


def refuse(findings: Sequence[Finding]) -> None:
    if findings:
        print_findings(findings)
        raise CheckFailed("nothing was changed")


def carry_out(
    session: Session,
    wiring: Wiring,
    read: Snapshot,
    todo: Sequence[Change],
    right: Mapping[str, str],
    how: How,
) -> None:
    """Do `todo` on all nodes at once, or print it; say what was `right` on the others."""
    if session.dry or how.verbose:
        _print_commands(todo)
    if session.dry:
        return
    password = _password(session, wiring, read, todo, how.ask_sudo)
    of = {change.host: [each for each in todo if each.host == change.host] for change in todo}
    begin = fence.begin(session.site(wiring.hosts))
    texts = {host: begin + setup.act_script(each, password) for host, each in of.items()}
    targets = session.nodes(wiring.hosts)
    answers = nodes.sh(targets, texts)
    for node in targets:
        if node.name in of and how.state_dir:
            outcome = audit_log.DONE if answers[node.name].ok else "failed"
            what = _changes(of[node.name])
            session.audit.record([node], how.state_dir, what, outcome)
    fence.check(answers)
    rows, failed = [], []
    for host, words in right.items():
        rows += _rows(host, of[host], answers[host]) if host in of else [("unchanged", host, words)]
        failed += [f"{host}: {row[2]}" for row in rows if row[:2] == ("fail", host)]
    screen.table(rows)
    if failed:
        raise ActionFailed(f"{failed[0]}; run it again when that is mended: it goes on from there")


def _changes(todo: Sequence[Change]) -> str:
    """What was to be changed on one host, for its audit log."""
    return f"rdma: {'; '.join(change.what for change in todo)}"


def _rows(host: str, todo: Sequence[Change], answer: Answer) -> list[tuple[str, str, str]]:
    """A row per change that was made, and one for the change at which it stopped."""
    done = answer.out.count("done\n")
    rows = [("changed", host, change.what) for change in todo[:done]]
    if done < len(todo):
        why = answer.failure or said(answer.err) or f"exit status {answer.status}"
        rows.append(("fail", host, f"{todo[done].what}: {why}"))
    return rows


def _check_it_lasts(session: Session, wiring: Wiring, kinds: Sequence[str]) -> None:
    read = read_nodes(session, wiring, [rdma.INTERFACES, rdma.MATRIX_FACT])
    left = setup.changes(wiring, read.nodes, kinds)
    if left:
        raise ActionFailed(f"{left[0].host}: it was done, but did not last: {left[0].what}")


def status(session: Session, wiring: Wiring, as_json: bool) -> None:
    """A row per node and per end of a link; raise unless all is as wanted."""
    facts = [*rdma.FACTS, rdma.MATRIX_FACT, routes.FACT, hardware.FACT]
    read = snapshots.read(session.nodes(wiring.hosts), lambda node: facts)
    wiring = _with(wiring, read)
    found = [*link_checks.judge(wiring, read.nodes), *link_checks.nameless(wiring, read.nodes)]
    _tell("status", read, [*found, *link_checks.self_assigned(wiring)], as_json)


def ping(session: Session, wiring: Wiring, as_json: bool) -> None:
    """A row per direction of every link, with round trips in ms; raise unless all answer."""
    if wiring.cables:
        wiring = _as_addressed(session, wiring)
    peers: dict[str, list[str]] = {}
    for one, two in wiring.links:
        peers.setdefault(one.host, []).append(str(two.address.ip))
        peers.setdefault(two.host, []).append(str(one.address.ip))
    targets = session.nodes(wiring.hosts)
    # The interfaces last: what they say of a link is then not older than its answer.
    read = snapshots.read(
        targets, lambda node: [pings.fact(peers.get(node.name, [])), rdma.INTERFACES]
    )
    _tell("ping", read, link_checks.pings(wiring, read.nodes), as_json)


def read_nodes(session: Session, wiring: Wiring, facts: Sequence[Fact[object]]) -> Snapshot:
    """The facts of all nodes; raise if one can't be reached, since nothing is done by halves."""
    read = snapshots.of_site(session.site(wiring.hosts), lambda node: facts)
    if read.unreachable:
        print_findings(show.lost(read))
    show.unreachable(read)
    return read


def _password(
    session: Session, wiring: Wiring, read: Snapshot, todo: Sequence[Change], ask_sudo: bool
) -> str | None:
    """The sudo password if one was asked for; raise unless sudo would do all of `todo`."""
    commands = _commands(todo)
    if not commands:
        return None
    password = _ask() if ask_sudo else None
    texts = {host: setup.may_script(each, password) for host, each in commands.items()}
    refused = [
        _no_sudo(answer, read, commands[host], password)
        for host, answer in nodes.sh(session.nodes(wiring.hosts), texts).items()
        if not answer.ok
    ]
    if refused:
        print_findings(refused)
        raise CheckFailed("sudo is needed for these changes; nothing was changed")
    return password


def _commands(todo: Sequence[Change]) -> dict[str, list[tuple[str, ...]]]:
    found: dict[str, list[tuple[str, ...]]] = {}
    for change in todo:
        if change.command:
            found.setdefault(change.host, []).append(change.command)
    return found


def _ask() -> str:
    from getpass import getpass

    if not sys.stdin.isatty():
        raise BadInput("--ask-sudo: there is no terminal to ask on: allow the commands in sudoers")
    return getpass("sudo password of the nodes: ")


def _no_sudo(
    answer: Answer, read: Snapshot, commands: Sequence[Sequence[str]], password: str | None
) -> Finding:
    why = answer.failure or said(answer.err) or "sudo refused"
    if password is not None:
        return Finding("sudo", FAIL, answer.node, why, "is it the password of that node?")
    if not setup.are_fixed(commands):
        fix = "--ask-sudo: no line of sudoers may allow it, since it would allow all that root may"
        return Finding("sudo", FAIL, answer.node, why, fix)
    line = setup.sudoers(read.on(answer.node)[USER.key][0], commands)
    fix = f"--ask-sudo, or by sudo visudo -f /etc/sudoers.d/mlx-tp: {line}"
    return Finding("sudo", FAIL, answer.node, why, fix)


def _print_commands(todo: Sequence[Change]) -> None:
    for change in todo:
        command = f"sudo {' '.join(change.command)}" if change.command else change.script.rstrip()
        screen.out(f"# {change.host}: {change.what}\n{command}")
    if not todo:
        screen.out("# nothing to change")


def _tell(what: str, read: Snapshot, found: Sequence[Finding], as_json: bool) -> None:
    findings = [*show.lost(read), *found]
    failed = [finding for finding in findings if finding.level == FAIL]
    if as_json:
        envelope.give({}, findings)
    else:
        print_findings(findings, sys.stdout)
    show.unreachable(read)
    if failed:
        raise CheckFailed(f"{what}: {len(failed)} of {len(findings)} are not as wanted")


def print_findings(findings: Sequence[Finding], stream: Any = None) -> None:
    rows = [(each.level, each.node, show.with_fix(each)) for each in findings]
    screen.table(rows, stream or sys.stderr)
