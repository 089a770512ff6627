"""Changes on nodes: refused before the first one, or made on all at once and told."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from getpass import getpass
from typing import TextIO

from ...cli import envelope, screen
from ...cluster.checks import FAIL, Finding
from ...cluster.errors import ActionFailed, BadInput, CheckFailed, Unreachable
from ...cluster.facts import Fact, Key
from ...cluster.facts.snapshot import Snapshot
from ...cluster.rdma import sudo
from ...cluster.rdma.links import LinkPlan
from ...cluster.rdma.setup import Change
from ...cluster.server import audit_log, fence, snapshots
from ...cluster.ssh import nodes, scripts
from ...cluster.ssh.node import CommandResult
from ...cluster.text import said
from ...session import Session
from ..findings import by_node, lost, unreachable


def _parse_user(text: str, status: int) -> tuple[str, str]:
    found = re.fullmatch(r"\s*([A-Za-z0-9_.][A-Za-z0-9_.-]*)\n(/[^\x00-\x1f\x7f]*)\s*", text)
    if status != 0 or not found:
        raise ValueError("who we are there can't be read")
    return found.group(1), found.group(2)


USER = Fact(Key[tuple[str, str]]("user"), scripts.script("rdma/user.sh"), _parse_user)


@dataclass(frozen=True)
class ApplyOptions:
    """How changes are made; `state_dir` is where each node notes what was done ("": nowhere)."""

    what: str
    state_dir: str
    verbose: bool = False
    ask_sudo: bool = False


@contextmanager
def acting(session: Session, wiring: LinkPlan, how: ApplyOptions) -> Iterator[None]:
    """The cluster's lock, by whose number nodes let us act; a node that is lost is told later."""
    site = session.site(wiring.hosts)
    if not session.dry:
        with suppress(Unreachable):
            session.lock.hold(site, how.what, session.say)
    try:
        yield
    finally:
        session.lock.release(site)


def refuse(findings: Sequence[Finding]) -> None:
    if findings:
        print_findings(findings)
        raise CheckFailed("nothing was changed")


def carry_out(
    session: Session,
    wiring: LinkPlan,
    read: Snapshot,
    todo: Sequence[Change],
    right: Mapping[str, str],
    how: ApplyOptions,
) -> None:
    """Do `todo` on all nodes at once, or print it; say what was `right` on the others."""
    if session.dry or how.verbose:
        _print_commands(todo)
    if session.dry:
        envelope.given(_document([]))
        return
    password = _password(session, wiring, read, todo, how.ask_sudo)
    of = {change.host: [each for each in todo if each.host == change.host] for change in todo}
    answers = _act(session, wiring, of, password, how.state_dir)
    made, failed = [], []
    for host, words in right.items():
        made += _rows(host, of[host], answers[host]) if host in of else [("unchanged", host, words)]
        failed += [f"{host}: {row[2]}" for row in made if row[:2] == ("fail", host)]
    if not envelope.given(_document(made)):
        screen.table(made)
    if failed:
        raise ActionFailed(f"{failed[0]}; run it again when that is mended: it goes on from there")


def _act(
    session: Session,
    wiring: LinkPlan,
    of: Mapping[str, Sequence[Change]],
    password: str | None,
    state_dir: str,
) -> Mapping[str, CommandResult]:
    """Have each host do what is to be done `of` it, and note it in its audit log."""
    begin = fence.begin(session.site(wiring.hosts))
    texts = {host: begin + sudo.act_script(each, password) for host, each in of.items()}
    targets = session.nodes(wiring.hosts)
    answers = nodes.sh(targets, texts)
    for node in targets:
        if node.name in of and state_dir:
            outcome = audit_log.DONE if answers[node.name].ok else "failed"
            what = f"rdma: {'; '.join(change.what for change in of[node.name])}"
            session.audit.record([node], state_dir, what, outcome)
    fence.check(answers)
    return answers


def _document(rows: Sequence[tuple[str, str, str]]) -> dict[str, object]:
    return {"changes": [{"host": n, "state": s, "what": what} for s, n, what in rows]}


def _rows(host: str, todo: Sequence[Change], answer: CommandResult) -> list[tuple[str, str, str]]:
    """A row per change that was made, and one for the change at which it stopped."""
    done = answer.out.count("done\n")
    rows = [("changed", host, change.what) for change in todo[:done]]
    if done < len(todo):
        why = answer.failure or said(answer.err) or f"exit status {answer.status}"
        rows.append(("fail", host, f"{todo[done].what}: {why}"))
    return rows


def read_nodes(session: Session, wiring: LinkPlan, facts: Sequence[Fact[object]]) -> Snapshot:
    """The facts of all nodes; raise if one can't be reached, since nothing is done by halves."""
    read = snapshots.of_site(session.site(wiring.hosts), lambda node: facts)
    if read.unreachable:
        print_findings(lost(read))
    unreachable(read)
    return read


def _password(
    session: Session, wiring: LinkPlan, read: Snapshot, todo: Sequence[Change], ask_sudo: bool
) -> str | None:
    """The sudo password if one was asked for; raise unless sudo would do all of `todo`."""
    if not (commands := _commands(todo)):
        return None
    password = _ask(list(commands)) if ask_sudo else None
    texts = {host: sudo.may_script(each, password) for host, each in commands.items()}
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


def _ask(hosts: Sequence[str]) -> str:
    if not sys.stdin.isatty():
        raise BadInput("--ask-sudo: there is no terminal to ask on: allow the commands in sudoers")
    password = ""
    try:
        password = getpass(f"sudo password on {', '.join(hosts)}: ")
    except BaseException as error:
        screen.say("")  # the question's row ends
        if not isinstance(error, EOFError):
            raise
    if not password:
        raise BadInput("no password was given; nothing was changed")
    return password


def _no_sudo(
    answer: CommandResult, read: Snapshot, commands: Sequence[Sequence[str]], password: str | None
) -> Finding:
    why = answer.failure or said(answer.err) or "sudo refused"
    if password is not None:
        return Finding("sudo", FAIL, answer.node, why, "is it the password of that node?")
    if not sudo.are_fixed(commands):
        fix = "--ask-sudo: no line of sudoers may allow it, since it would allow all that root may"
        return Finding("sudo", FAIL, answer.node, why, fix)
    line = sudo.sudoers(read.on(answer.node)[USER.key][0], commands)
    fix = f"--ask-sudo, or by sudo visudo -f /etc/sudoers.d/mlx-tp: {line}"
    return Finding("sudo", FAIL, answer.node, why, fix)


def _print_commands(todo: Sequence[Change]) -> None:
    for change in todo:
        command = f"sudo {' '.join(change.command)}" if change.command else change.script.rstrip()
        screen.out(f"# {change.host}: {change.what}\n{command}")
    if not todo:
        screen.out("# nothing to change")


def print_findings(findings: Sequence[Finding], stream: TextIO | None = None) -> None:
    if not envelope.given({}, findings):
        screen.table(by_node(findings), stream or sys.stderr)
