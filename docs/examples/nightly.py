"""A restart every night, with a smoke test after it and a check of our own before it.

    inv -r docs/examples -c nightly nightly --expect 4

In a crontab, whose mail then tells what went wrong:

    0 4 * * * cd ~/mlx-tp-tasks && .venv/bin/inv -r docs/examples -c nightly nightly
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # where your checkout of mlx-tp-tasks is

from tasks import ns, tp
from tasks.cli import screen
from tasks.cli.options import TARGET_OPTIONS, cluster_task
from tasks.cluster import checks
from tasks.cluster.checks import FAIL, OK, Finding
from tasks.cluster.errors import CheckFailed
from tasks.cluster.facts import Fact, Key
from tasks.commands.tp import recorded

GB = 10**9
LEAST = 2 * GB  # logs and the state directory want some room


def free(text, status):
    """Bytes free, from the last line of `df -Pk`; int() raises ValueError on what is no number."""
    words = text.split()
    if status or len(words) < 6:
        raise ValueError("df can't be read")
    return int(words[-3]) * 1024


DISK = Key[int]("disk")
SPACE = Fact(DISK, 'df -Pk "$HOME" | tail -n 1', free)


@checks.check("disk", SPACE, what="room at home for logs", remedy="run df there")
def disk(expected, snapshot):
    """Preflight's check `disk`: room in the home of the node's user."""

    def judge(node, left):
        what = f"{left / GB:.0f} GB free"
        if left < LEAST:
            return Finding("disk", FAIL, node, what, "remove old models")
        return Finding("disk", OK, node, what)

    return checks.each("disk", snapshot, DISK, judge)


@cluster_task(*TARGET_OPTIONS, pre=[tp.restart], help={"expect": "what the answer must hold"})
def nightly(c, cluster, expect=None):
    """Restart the server, then ask it something; exit 3 if the answer is not as it should be."""
    api = recorded.recorded(cluster)
    model = api.one_token(cluster.served, cluster.engine.model, timeout=60)
    answer = api.chat(model, "What is 2 + 2?", max_tokens=32)
    text = answer["choices"][0]["message"]["content"] or ""
    if expect and expect not in text:
        raise CheckFailed(f"smoke test: {expect!r} is not in the answer {text!r}")
    screen.out(f"smoke test: {answer['usage']['completion_tokens']} tokens")


ns.add_task(nightly)
