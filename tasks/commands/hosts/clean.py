"""What inv hosts.clean does: all that we ever put on the hosts is taken away, or only told."""

from ...cli.options import Machines
from ...cluster.errors import ActionFailed
from ...cluster.facts import Fact
from ...cluster.facts.machine import processes
from ...cluster.hosts import clean
from ...cluster.rdma import launchd
from ...cluster.rdma.links import LinkPlan
from ...session import Session
from ..rdma.change import USER, ApplyOptions, carry_out, read_nodes, refuse


def run(session: Session, machines: Machines, ask_sudo: bool) -> None:
    """Read all hosts, refuse or take away, and look again whether anything is left."""
    state, logs = session.state_dir, session.settings.get("log_dir")
    wiring = LinkPlan(machines.hostfile or "--hosts", tuple(machines.hosts), (), ())
    facts = (clean.fact(state, logs), processes.FACT, launchd.FACT, USER)
    read = read_nodes(session, wiring, facts)
    refuse(clean.refusals(read.nodes))
    text = clean.script(state, logs, False)
    todo = [
        change
        for host, values in read.nodes.items()
        for change in clean.changes(host, values[USER.key][1], values, text)
    ]
    right = {host.ssh: "nothing of ours is there" for host in wiring.hosts}
    # Without an audit line, which would be there again.
    carry_out(
        session, wiring, read, todo, right, ApplyOptions("hosts.clean", "", ask_sudo=ask_sudo)
    )
    if todo and not session.dry:
        _look_again(session, wiring, facts[0])


def _look_again(session: Session, wiring: LinkPlan, fact: Fact[clean.OurFiles]) -> None:
    for host, values in read_nodes(session, wiring, [fact]).nodes.items():
        ours = values[clean.KEY]
        for path in [*ours.user, *ours.root]:
            raise ActionFailed(f"{host}: {path} is there again: does another command run?")
        for folder in ours.left:
            session.say(f"{host}: left: {folder}: what is in it is none of ours")
