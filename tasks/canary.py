"""inv tp.bench --canary: greedy answers of the server against those of a single rank."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from . import asking, screen, show, steps
from .asking import AFTER, Server
from .cli import envelope
from .cluster import checks, fit, greedy, nodes, ports_free, ranks, reading
from .cluster import stop as stopping
from .cluster.api import Api, ApiError
from .cluster.checks import FAIL, OK, Finding
from .cluster.cluster import Cluster
from .cluster.errors import ActionFailed, BadInput, CheckFailed
from .cluster.facts import Fact, known, ports, split
from .cluster.greedy import Greedy
from .cluster.hostfile import Host
from .cluster.load import calibrate, prompt
from .cluster.nodes import Node
from .cluster.snapshot import Snapshot
from .cluster.whole import complete
from .session import Session

LONG = 4096  # tokens
AT_ONCE = 4
SHORT = (
    "Count from one to twenty.",
    "What is the capital of France?",
    "def fibonacci(n):",
)


@dataclass(frozen=True)
class How:
    """`url` is a reference that runs already, `long` the tokens of the long prompt.

    `timeout` is in seconds per answer.
    """

    url: str | None
    long: int
    max_tokens: int
    timeout: float


@dataclass(frozen=True)
class Case:
    """Prompts that are asked together: one, or several at once."""

    name: str
    prompts: Sequence[str]


def canary(session: Session, cluster: Cluster, how: How, as_json: bool) -> None:
    """Compare; raise ActionFailed where an answer differs or is missing."""
    address = reference_address(how.url)
    server = asking.running(cluster)
    cases = _cases(server, how)
    with _reference(session, cluster, server, address, how.long) as (api, name):
        right = _answers(api, name, [Case(c.name, [p]) for c in cases for p in c.prompts], how)
    found = _answers(server.api, server.model, cases, how)
    rows = _rows(cases, right, found)
    if as_json:
        keys = ("result", "prompt", "number", "what")
        envelope.give({"answers": [dict(zip(keys, row, strict=True)) for row in rows]})
    else:
        screen.table(rows)
    wrong = [row for row in rows if row[0] != OK]
    if wrong:
        where = f"{wrong[0][1]} {wrong[0][2]}"
        raise ActionFailed(
            f"canary: {len(wrong)} of {len(rows)} answers are wrong: {where}: {wrong[0][3]}"
        )
    screen.say(f"all {len(rows)} answers are those of the reference")


def reference_address(url: str | None) -> tuple[str, int] | None:
    """(host, port) of a URL, or None without one; raise BadInput for what is none."""
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        good = parts.scheme == "http" and parts.hostname and not parts.username
        good = good and parts.path in ("", "/", "/v1", "/v1/") and url.isprintable()
        port = parts.port or 80
    except ValueError:
        good, port = False, 0
    if not good:
        raise BadInput(f"--canary-url {url}: give the reference as http://HOST:PORT")
    return str(parts.hostname), port


def _cases(server: Server, how: How) -> list[Case]:
    """Short prompts one by one, a long one, and several at once; the same at every time."""

    def count(words: int) -> int | None:
        data = server.api.chat(server.model, prompt(words, "canary"), 1, how.timeout)
        found = (data.get("usage") or {}).get("prompt_tokens")
        return found if type(found) is int and found > 0 else None

    try:
        words = calibrate(count, how.long)
    except ApiError as error:
        raise ActionFailed(f"canary: a prompt of {how.long} tokens: {error}: {AFTER}") from None
    short = [Case("short", [text]) for text in SHORT]
    several = [
        prompt(max(words // 64, 8) * (2 + number), f"canary {number}") for number in range(AT_ONCE)
    ]
    return [*short, Case("long", [prompt(words, "canary")]), Case("at once", several)]


def _answers(api: Api, name: str, cases: Sequence[Case], how: How) -> list[list[Greedy | ApiError]]:
    """The answers of each case; those of one case are asked for at once."""

    def ask(text: str) -> Greedy | ApiError:
        try:
            return greedy.ask(replace(api), name, text, how.max_tokens, how.timeout)
        except ApiError as error:
            return error

    found = []
    for case in cases:
        asked: list[Future[Greedy | ApiError]] = [nodes.begin(ask, text) for text in case.prompts]
        found.append([each.result() for each in asked])
    return found


def _rows(
    cases: Sequence[Case],
    right: Sequence[Sequence[Greedy | ApiError]],
    found: Sequence[Sequence[Greedy | ApiError]],
) -> list[tuple[str, str, str, str]]:
    flat = iter([answer for each in right for answer in each])
    rows = []
    for case, answers in zip(cases, found, strict=True):
        for number, answer in enumerate(answers):
            level, what = _compare(next(flat), answer)
            rows.append((level, case.name, str(number), what))
    return rows


def _compare(right: Greedy | ApiError, found: Greedy | ApiError) -> tuple[str, str]:
    if isinstance(right, ApiError):
        return FAIL, f"the reference gave no answer: {right}"
    if isinstance(found, ApiError):
        return FAIL, f"no answer: {found}"
    wrong = greedy.difference(right, found)
    if wrong:
        return FAIL, wrong
    if found.tokens is None:
        return OK, f"{len(found.text)} characters are the same (tokens are not told)"
    return OK, f"{len(found.tokens)} tokens are the same"


@contextlib.contextmanager
def _reference(
    session: Session,
    cluster: Cluster,
    server: Server,
    address: tuple[str, int] | None,
    long: int,
) -> Iterator[tuple[Api, str]]:
    """A reference's HTTP side and the name of its model: one that runs, or one started for it."""
    if address:
        api = Api(Node(Host("127.0.0.1")), *address)
        yield api, asking.name_of(cluster, api, server.record)
        return
    single = _single(cluster, server, long)
    with steps.locked(session, single, "tp.bench --canary"):
        screen.say(f"a single rank on {single.leader.name} as the reference")
        run = None
        try:
            run = steps.launch(session, single)
            steps.wait(session, single, None, run)
            yield Api.of(single), asking.engine_of(cluster, server.record).model
        finally:
            if run:
                _stop(single, run)


def _stop(single: Cluster, run: str) -> None:
    reports = stopping.stop(single, run=run)
    stopping.forget(single, reports, run)
    for report in reports:
        if report.left or report.failure:
            left = ", ".join(report.left)
            screen.say(f"warn: the reference: {report.node}: {report.word} {left} {report.failure}")


def _single(cluster: Cluster, server: Server, long: int) -> Cluster:
    """A cluster of one rank with the running server's model, on a node that has room for it."""
    record = server.record
    if not record.model:
        raise CheckFailed("the record names no model: give a reference with --canary-url URL")
    engine = asking.engine_of(cluster, record)
    home, read = _home(cluster, record.model, 2 * long)
    used = [*(known(read.on(home.ssh), ports.KEY) or {}), cluster.http_port, record.port]
    port, meeting = ports_free.choose(used, 2)
    words = _without(record.command[1 + len(engine.command) :], ("--port", "--host"))
    args = [*words, "--port", str(port), "--host", "127.0.0.1"]
    first = cluster.ranks[0]
    envs = [f"{name}={first.env[name]}" for name in cluster.env_names]
    host = replace(home, python=server.pythons.get(home.ssh, record.command[0]), rdma=())
    host = host if host.ips else replace(host, ips=("127.0.0.1",))
    planned = ranks.plan([host], "ring", engine, envs=envs, args=args, port=meeting)
    return replace(
        cluster,
        source="--canary",
        backend="ring",
        engine=engine,
        ranks=planned,
        nodes=[node for node in cluster.nodes if node.name == home.ssh],
        args=args,
        model=record.model,
        bind="127.0.0.1",
        http_port=port,
        log_dir=None,
        log_dir_given=True,
        name=f"{cluster.name}-canary",
        notes=(),
    )


def _without(words: Sequence[str], names: Sequence[str]) -> list[str]:
    """Arguments without these options and their values."""
    kept: list[str] = []
    skip = False
    for word in words:
        if not skip and word not in names and not word.startswith(tuple(f"{n}=" for n in names)):
            kept.append(word)
        skip = not skip and word in names
    return kept


def _home(cluster: Cluster, path: str, tokens: int) -> tuple[Host, Snapshot]:
    """The first node in which the whole model fits beside what is wired there now."""

    def facts(node: Node) -> list[Fact[object]]:
        return [*checks.of_model(cluster, node, path, [1]), ports.FACT]

    read = reading.read(cluster.nodes, facts)
    wrong = [each for each in complete(read.nodes) if each.level == FAIL]
    broken = {each.node for each in wrong}
    single = {node: [0] for node in read.nodes if node not in broken}
    whole = {node: read.nodes[node] for node in single}
    findings = [
        f for node in whole for f in fit.fits({node: whole[node]}, single, split.TENSOR, tokens)
    ]
    for finding in findings:
        if finding.level == OK:
            host = next(rank.host for rank in cluster.ranks if rank.host.ssh == finding.node)
            return host, read
    raise CheckFailed(_why_not([*show.lost(read), *findings]))


def _why_not(findings: Sequence[Finding]) -> str:
    why = f"{findings[0].node}: {findings[0].what}" if findings else "its size is not known"
    return f"canary: no node has room for the whole model ({why}): give --canary-url URL"
