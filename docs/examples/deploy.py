"""The code to all nodes first, then a start, then a note to a webhook.

    inv -r docs/examples -c deploy deploy --webhook https://example.org/hook

What goes where is said in invoke.yaml (dev.source, dev.target), as for inv dev.sync. The hooks get
the options that they know: --hosts goes to dev.sync, to tp.start and to each of its checks.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # where your checkout of mlx-tp-tasks is

import requests

from tasks import dev, ns, tp
from tasks.cli import screen
from tasks.cli.options import SERVER_OPTIONS, TARGET_OPTIONS, cluster_task
from tasks.cluster.errors import ActionFailed
from tasks.commands.tp import recorded


@cluster_task(*TARGET_OPTIONS, help={"webhook": "URL that is told, as JSON, which server now runs"})
def notify(c, cluster, webhook=None):
    """Tell a webhook which server runs, and where."""
    if not webhook:
        return
    note = {
        "text": f"{cluster.engine.name} serves {cluster.model}",
        "url": recorded.recorded(cluster).url,
    }
    try:
        requests.post(webhook, json=note, timeout=10).raise_for_status()
    except requests.RequestException as error:
        raise ActionFailed(f"the server runs, but the webhook was not told: {error}") from None
    screen.say(f"told {webhook}")


@cluster_task(*SERVER_OPTIONS, pre=[dev.sync, tp.start], post=[notify])
def deploy(c, cluster, webhook=None, timeout=None):
    """Copy the code to all nodes, start the server, tell a webhook."""
    screen.say(f"deployed to {', '.join(node.name for node in cluster.nodes)}")


ns.add_task(notify)
ns.add_task(deploy)
