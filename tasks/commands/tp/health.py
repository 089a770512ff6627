"""What inv tp.health does: one real token, and how to ask for more."""

import json
import shlex
import time

from ...cli import envelope, screen
from ...cluster.cluster import Cluster
from ...cluster.errors import CheckFailed
from ...cluster.http.api import Api, ApiError
from ...cluster.server import readiness, snapshots
from ...cluster.server import wait as waiting
from ...cluster.ssh import background
from ...cluster.text import counted
from ...session import Session
from . import speed, wait
from .recorded import api_of, leader
from .wait import failed, leave, unasked

HEALTH_TIMEOUT = 60  # seconds for one token: the first one may compile kernels


def run(session: Session, cluster: Cluster, timeout: float | None) -> None:
    """One real token, then what one needs to use it; raise CheckFailed if there is none."""
    seconds = timeout or HEALTH_TIMEOUT
    # What this command has started itself need not be read.
    run = session.known(cluster).started
    api = Api.of(cluster) if run else _loaded(session, cluster, timeout)
    start = time.monotonic()
    try:
        model, took = session.known(cluster).proof or _token(session, cluster, api, seconds)
        session.phases["first token"] = took
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
    if not envelope.given(_document(session, cluster, api, model, run)):
        _tell_ready(session, cluster, api, model, run)
    if before := session.known(cluster).last:
        speed.tell_fewer(cluster, before, cluster.model)


def _token(session: Session, cluster: Cluster, api: Api, timeout: float) -> tuple[str, float]:
    """The name that the model is asked by, and the seconds that a token took."""
    begun = time.monotonic()
    asked = background.begin(api.one_token, cluster.served, cluster.engine.model, timeout)
    session.waiting({"a token": asked})
    return asked.result(), time.monotonic() - begun


def _tell_ready(session: Session, cluster: Cluster, api: Api, model: str, run: str | None) -> None:
    """What there is to know of a server that answers, a line each; to be used on stdout."""
    token = session.phases["first token"]
    if run:
        took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in session.phases.items())
        screen.say(f"started: {took}")
    screen.say(f"healthy: a token in {token:.2f} s")
    screen.out(api.url)
    screen.say(f"clients ask for the model {model}")
    if run:
        names = ", ".join(node.name for node in cluster.nodes)
        screen.say(f"{counted(len(cluster.ranks), 'rank')} over {cluster.backend} on {names}")
    screen.out(curl(api, model))


def _document(
    session: Session, cluster: Cluster, api: Api, model: str, run: str | None
) -> dict[str, object]:
    found = {
        "url": api.url,
        "model": model,
        "first_token": session.phases["first token"],
        "curl": curl(api, model),
    }
    if run:
        found |= {"ranks": len(cluster.ranks), "backend": cluster.backend, "run": run}
        found |= {"phases": dict(session.phases)}
    return found


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
