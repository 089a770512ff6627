"""What inv tp.health does: one real token, and how to ask for more."""

from __future__ import annotations

import json
import shlex
import time

from ...cli import screen
from ...cluster.cluster import Cluster
from ...cluster.errors import CheckFailed
from ...cluster.http.api import Api, ApiError
from ...cluster.server import readiness, snapshots
from ...cluster.server import wait as waiting
from ...cluster.ssh import background
from ...session import Session
from . import speed, wait
from .recorded import api_of, leader
from .wait import HEALTH_TIMEOUT, failed, leave, token, unasked


def run(session: Session, cluster: Cluster, timeout: float | None) -> None:
    """One real token, then the URL and a curl that works; raise CheckFailed if there is none."""
    seconds = timeout or HEALTH_TIMEOUT
    # What this command has started itself need not be read.
    run = session.known(cluster).started
    api = Api.of(cluster) if run else _loaded(session, cluster, timeout)
    start = time.monotonic()
    try:
        asked = session.known(cluster).proof or background.begin(token, cluster, api, seconds)
        model, took = asked.result()
    except ApiError as error:
        if error.why.is_final:
            raise unasked(error) from None
        if run:
            failure = waiting.NotReadyError([], time.monotonic() - start, refused=str(error))
            raise failed(session, cluster, failure, run) from None
        raise CheckFailed(
            f"health: {error}: see inv tp.logs; inv tp.stop stops the server"
        ) from None
    except KeyboardInterrupt as interrupt:
        leave(session, cluster, interrupt)
        raise
    screen.say(f"healthy: a token in {took:.2f} s")
    screen.out(api.url)
    screen.say(f"clients ask for the model {model}")
    screen.out(curl(api, model))
    before = session.known(cluster).last
    if before:
        speed.tell_fewer(cluster, before, cluster.model)


def _loaded(session: Session, cluster: Cluster, timeout: float | None) -> Api:
    """The HTTP side of the recorded server, once it has given a first token."""
    read = snapshots.states(cluster)
    node, _, record = leader(read)
    if readiness.judge(read, record.size).state in readiness.COMING:
        wait.run(session, cluster, timeout)
    return api_of(cluster, node, record)


def curl(api: Api, model: str) -> str:
    """A command to paste that asks the server something; it names where the key is, if any."""
    message = {"role": "user", "content": "Hello"}
    body = json.dumps({"model": model, "max_tokens": 64, "messages": [message]})
    url = f"{api.url}/v1/chat/completions"
    key = f' -H "Authorization: Bearer {api.shell_key}"' if api.key else ""
    return f"curl {url} -H 'Content-Type: application/json'{key} -d {shlex.quote(body)}"
