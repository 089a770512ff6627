"""inv hosts.trust: scan host keys, show them, write those that are accepted to known_hosts."""

import sys
from collections.abc import Sequence

from ...cli import envelope, screen
from ...cluster.config.hostfile import Host
from ...cluster.errors import BadInput, CheckFailed, Unreachable
from ...cluster.ssh import keyscan, nodes
from ...cluster.ssh.keyscan import Scanned
from ...session import Session


def run(session: Session, hosts: Sequence[Host], yes: bool) -> None:
    """Accept the keys of hosts that are not known; raise for a key that is wrong, or no answer."""
    remote = [node for node in session.nodes(hosts) if not node.host.is_local]
    found = list(nodes.each(remote, keyscan.scan).values())
    if not envelope.given({"hosts": [each.document for each in found]}):
        screen.table([row for each in found for row in each.rows])
    new = [each for each in found if each.state == keyscan.NEW]
    if new and not session.dry and _is_accepted(new, yes):
        for each in new:
            screen.say(f"{each.node}: written to {keyscan.accept(each)}")
    _raise(found)


def _is_accepted(new: Sequence[Scanned], yes: bool) -> bool:
    if yes:
        return True
    if not sys.stdin.isatty():
        raise BadInput("there is no terminal to ask on: compare the fingerprints, then add --yes")
    if screen.is_agreed(f"are these the keys of {', '.join(each.node for each in new)}"):
        return True
    raise CheckFailed("not accepted; nothing was changed")


def _raise(found: Sequence[Scanned]) -> None:
    wrong = [each for each in found if each.state == keyscan.WRONG]
    lost = [each for each in found if each.state == keyscan.LOST]
    if wrong:
        raise CheckFailed(f"{wrong[0].node}: {wrong[0].why}")
    if lost:
        raise Unreachable(f"{lost[0].node}: {lost[0].why}")
