"""Two servers on the same nodes, each a cluster with a name, a hostfile and ports of its own.

    inv -r docs/examples -c two_servers up
    inv -r docs/examples -c two_servers status
    inv -r docs/examples -c two_servers down

`servers` in invoke.yaml goes over what is said here.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))  # where your checkout of mlx-tp-tasks is

from invoke import Exit, task

from tasks import ns, tp
from tasks.cli import screen
from tasks.cluster import checks
from tasks.cluster.checks import FAIL, OK, Finding
from tasks.cluster.facts.machine.memory import GIB, KEY
from tasks.executor import run


def server(name, port, starting_port):
    """Keys of `tp` for one of the servers: what two servers must not share."""
    return {
        "hostfile": str(HERE / f"{name}.json"),
        "args": ["--port", str(port)],
        "starting_port": starting_port,
        # Its state and logs lie in ~/.mlx-tp/NAME, and /tmp/tp_server.NAME.log leads to them.
        "cluster": name,
        # Each knows its own processes by their port: the other's are left alone.
        "engines": {"mlx-lm": {"process": rf"-m mlx_lm server .*--port {port}( |$)"}},
    }


SERVERS = {"chat": server("chat", 8001, 32400), "code": server("code", 8002, 32500)}
ns.configure({"servers": SERVERS})


@checks.check("memory")
def memory(expected, snapshot):
    """In place of ours: only the limit counts, since what the other server wires is no leak."""

    def judge(node, value):
        what = f"{value.wired / GIB:.1f} GiB wired by all servers"
        if value.wired > expected.wired_limit:
            return Finding("memory", FAIL, node, what, "stop one of the servers")
        return Finding("memory", OK, node, what)

    return checks.each("memory", snapshot, KEY, judge)


def each(c, what):
    """Run one of our tasks for every server; the first error is raised after the last server."""
    failed = []
    for name, keys in c.config.servers.items():
        screen.say(f"{name}:")
        config = c.config.clone()
        config.tp.update(keys)
        try:
            run(config, what)
        except Exit as error:
            screen.say(f"{name}: {error}")
            failed.append(error)
    if failed:
        raise failed[0]


@task
def up(c):
    """Start both servers."""
    each(c, tp.start)


@task
def down(c):
    """Stop both servers."""
    each(c, tp.stop)


@task
def status(c):
    """What runs of both servers."""
    each(c, tp.status)


for one in (up, down, status):
    ns.add_task(one)
