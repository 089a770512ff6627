"""What inv tp.bench --canary does: is what the ranks answer right, but for rounding?"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from ...cli import envelope, screen
from ...cluster.checks import FAIL, OK, Finding
from ...cluster.checks import model as model_checks
from ...cluster.checks.models import fit
from ...cluster.checks.models.whole import complete
from ...cluster.cluster import Cluster
from ...cluster.config import hostfile, ports_free, ranks
from ...cluster.config.hostfile import Host
from ...cluster.errors import ActionFailed, BadInput, CheckFailed
from ...cluster.facts import Fact, known
from ...cluster.facts.machine import ports
from ...cluster.facts.models import split
from ...cluster.facts.server.state import Record
from ...cluster.facts.snapshot import Snapshot
from ...cluster.http.api import Api, ApiError
from ...cluster.http.canary import (
    LEAST,
    UNKNOWN,
    WRONG,
    Position,
    Reference,
    Verdict,
    differences,
    judge,
    judge_texts,
)
from ...cluster.http.load import prompt
from ...cluster.http.orders import NoOrdersError, Orders
from ...cluster.server import snapshots
from ...cluster.server import stop as stopping
from ...cluster.ssh import background
from ...cluster.ssh.node import Node
from ...cluster.text import counted
from ...session import Session
from .. import output_file
from ..findings import lost
from . import chat, launch, lock, wait
from .chat import AFTER, Server

POSITIONS, THOROUGH = 256, 1024
PROMPT = 64  # tokens
AT_ONCE = 4
WHOLE = 512  # tokens at a time
T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class CanaryOptions:
    """What `inv tp.bench --canary` is asked for.

    `url` is a reference that runs already, `against` a file with one, `record` where to write one;
    `prompts` (None: as many as make the positions) have `prompt_tokens` each, answers `max_tokens`.
    `timeout` is in seconds per question to a server.
    """

    url: str | None = None
    record: str | None = None
    against: str | None = None
    thorough: bool = False
    prompts: int | None = None
    prompt_tokens: int = PROMPT
    max_tokens: int = 64
    timeout: float = 300

    @property
    def count(self) -> int:
        """How many prompts: so many that a mean says something."""
        wanted = THOROUGH if self.thorough else POSITIONS
        least = -(-LEAST // self.max_tokens)
        return max(self.prompts or -(-wanted // self.max_tokens), least)


def run(session: Session, cluster: Cluster, options: CanaryOptions) -> Verdict | None:
    """Hold the running server against a reference, and tell; None where one was recorded.

    Raise ActionFailed where its answers are wrong or missing, CheckFailed where none serves or no
    reference can be had.
    """
    address = reference_address(options.url)
    reference = _read(options.against)
    output_file.check(options.record, "--record")
    server = chat.running(cluster)
    if options.record:
        _record(server, options)
        return None
    if reference is None:
        with _reference(session, cluster, server, address, options) as (api, name, what):
            parts = max(server.record.size, 2)
            reference = measure(Orders(api, name, options.timeout), options, *what, parts)
    if reference.model != server.record.model:
        screen.say(f"warn: {reference.what} is of {reference.model}")
    found = verdict(Orders(server.api, server.model, options.timeout), reference, options)
    _tell(server, reference, found)
    if found.verdict == WRONG:
        raise ActionFailed(f"canary: wrong: {found.why}")
    return found


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


def _read(file: str | None) -> Reference | None:
    if file is None:
        return None
    try:
        return Reference.load(Path(file).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"--against {file}: {getattr(error, 'strerror', None) or error}") from None


def _record(server: Server, options: CanaryOptions) -> None:
    """Write down what this server answers."""
    record, orders = server.record, Orders(server.api, server.model, options.timeout)
    what = counted(record.size, "rank")
    reference = measure(orders, options, record.model, record.size, what)
    output_file.write(str(options.record), reference.dump(), "--record")
    screen.say(f"{len(reference.positions)} positions of {what}: {options.record}")


# Asking.


def measure(
    orders: Orders, options: CanaryOptions, model: str, ranks: int, what: str, parts: int = 2
) -> Reference:
    """A reference's answers, and its noise; answers in words where it takes no orders.

    `parts`: how many ranks will be held against it, whose sums are taken for noise.
    """
    about = Reference(model, ranks, what)
    with _told("the reference"):
        texts = [prompt(options.prompt_tokens, f"canary {n}") for n in range(options.count)]
        try:
            tokens = [each[: options.prompt_tokens] for each in orders.encode(texts)]
        except NoOrdersError:
            return replace(about, texts=_texts(orders, options))
        first = min(map(len, tokens))
        tokens = [each[:first] for each in tokens]
        answers = [a for some in _batches(tokens) for a in orders.answer(some, options.max_tokens)]
        tokens = [one + two for one, two in zip(tokens, answers, strict=True)]
        return _with_noise(orders, replace(about, first=first, tokens=tokens), parts)


def _with_noise(orders: Orders, about: Reference, parts: int) -> Reference:
    """How likely a reference finds its own answers, and how far it strays when asked otherwise."""
    each, tokens = [[one] for one in about.tokens], about.tokens
    positions = score(orders, each, about.first)
    ways = {
        "again": score(orders, each, about.first),
        "16 tokens at a time": score(orders, each, about.first, step=16),
        "token by token": score(orders, each[:AT_ONCE], about.first, step=1),
        "in a batch": score(orders, _batches(tokens), about.first),
        f"sums of {parts} parts": score(orders, each, about.first, parts=parts),
    }
    noise = {name: differences(positions, found) for name, found in ways.items()}
    return replace(about, positions=positions, noise=noise)


def score(
    orders: Orders,
    batches: Sequence[Sequence[Sequence[int]]],
    first: int,
    step: int = WHOLE,
    parts: int = 0,
) -> list[Position]:
    rows = [row for some in batches for row in orders.score(some, first, step, parts)]
    return [Position.of(each) for row in rows for each in row]


def _batches(tokens: Sequence[T]) -> list[Sequence[T]]:
    return [tokens[at : at + AT_ONCE] for at in range(0, len(tokens), AT_ONCE)]


def verdict(orders: Orders, reference: Reference, options: CanaryOptions) -> Verdict:
    """What the server's answers come to."""
    with _told("the server"):
        if reference.texts:
            return judge_texts(reference, _texts(orders, options))
        try:
            found = score(orders, [[each] for each in reference.tokens], reference.first)
        except NoOrdersError as error:
            return Verdict(UNKNOWN, f"the server: {error}")
        return judge(reference, found, _served(orders, reference))


def _served(orders: Orders, reference: Reference) -> list[list[int]]:
    """Its answers as clients get them: several at once, and again, then by its prefix cache."""
    length, prompts = len(reference.answers[0]), [t[: reference.first] for t in reference.tokens]
    twice = [*_batches(prompts), *_batches(prompts)]
    return [answer for some in twice for answer in _at_once(orders.serve, some, length)]


def _texts(orders: Orders, options: CanaryOptions) -> list[str]:
    def ask(text: str, count: int) -> str:
        data = orders.api.chat(orders.model, text, count, options.timeout, temperature=0)
        return str(data["choices"][0]["message"].get("content"))

    texts = [prompt(options.prompt_tokens, f"canary {n}") for n in range(options.count)]
    return [a for some in _batches(texts) for a in _at_once(ask, some, options.max_tokens)]


def _at_once(ask: Callable[[T, int], U], some: Sequence[T], count: int) -> list[U]:
    asked: list[Future[U]] = [background.begin(ask, each, count) for each in some]
    return [each.result() for each in asked]


@contextlib.contextmanager
def _told(who: str) -> Iterator[None]:
    try:
        yield
    except ApiError as error:
        raise ActionFailed(f"canary: {who}: {error}: {AFTER}") from None


# Telling.


def _tell(server: Server, reference: Reference, found: Verdict) -> None:
    about = {"what": reference.what, "ranks": reference.ranks, "model": reference.model}
    more = {"model": server.record.model, "ranks": server.record.size}
    more["prompts"] = len(reference.tokens or reference.texts)
    if envelope.given({"canary": {**found.document(), **more, "reference": about}}):
        return
    if found.positions:
        screen.table(_rows(found))
    what = f"{counted(server.record.size, 'rank')} against {reference.what}"
    screen.say(f"canary: {found.verdict}: {what}" + (found.why and f": {found.why}"))


def _rows(found: Verdict) -> list[tuple[str, ...]]:
    served = ", ".join(f"{count} {word}" for word, count in sorted(found.served.items()))
    turned = f"{found.turned}, preferred by {found.turned_most:.2g} nats at most"
    return [
        ("", "seen", "limit"),
        ("mean difference, nats", f"{found.mean:.2g}", f"{found.limit:.2g}"),
        ("largest difference", f"{found.largest:.2g}", ""),
        *((f"noise: {name}", f"{mean:.2g}", "") for name, mean in found.ways.items()),
        ("tokens that turned", turned, f"{found.turned_limit:.2g}"),
        ("answers as clients get them", served, ""),
        ("sees a fault of", f"{found.sees:.2g}", ""),
    ]


# A reference of our own.


@contextlib.contextmanager
def _reference(
    session: Session,
    cluster: Cluster,
    server: Server,
    address: tuple[str, int] | None,
    options: CanaryOptions,
) -> Iterator[tuple[Api, str, tuple[str, int, str]]]:
    """A reference's HTTP side, its model's name there, and what it is: one that runs, or ours."""
    model = server.record.model
    if address:
        api = Api(Node(Host("127.0.0.1")), *address)
        yield api, chat.name_of(cluster, api, server.record), (model, 0, str(options.url))
        return
    fewer = _fewest(cluster, server, options)
    size, names = len(fewer.ranks), ", ".join(rank.host.ssh for rank in fewer.ranks)
    with lock.locked(session, fewer, "tp.bench --canary"):
        what = f"{counted(size, 'rank')} on {names}"
        screen.say(f"the reference: {what}")
        run = None
        try:
            with envelope.aside():
                run = launch.run(session, fewer)
                wait.run(session, fewer, None, run)
            yield Api.of(fewer), chat.engine_of(cluster, server.record).model, (model, size, what)
        finally:
            if run:
                _stop(fewer, run)


def _stop(fewer: Cluster, run: str) -> None:
    reports = stopping.stop(fewer, run=run)
    stopping.forget(fewer, reports, run)
    for report in reports:
        if report.left or report.failure:
            left = ", ".join(report.left)
            screen.say(f"warn: the reference: {report.node}: {report.word} {left} {report.failure}")


def _fewest(cluster: Cluster, server: Server, options: CanaryOptions) -> Cluster:
    """The running server's model on as few ranks as there is room for beside it."""
    record = server.record
    if not record.model:
        raise CheckFailed("the record names no model: give --canary-url URL or --against FILE")
    engine = chat.engine_of(cluster, record)
    hosts, read = _homes(cluster, record, AT_ONCE * (options.prompt_tokens + options.max_tokens))
    backend = "ring" if len(hosts) == 1 or all(host.ips for host in hosts) else cluster.backend
    port = _free_port(hosts, read, (cluster.http_port, record.port))
    words = _without(record.command[1 + len(engine.command) :], ("--port", "--host"))
    args = [*words, "--port", str(port), "--host", "127.0.0.1"]
    first = cluster.ranks[0]
    envs = [f"{name}={first.env[name]}" for name in cluster.env_names]
    homes = [_home(server, host, len(hosts)) for host in hosts]
    planned = ranks.plan(homes, backend, engine, envs=envs, args=args, port=port + 1)
    return replace(
        cluster,
        source="--canary",
        backend=backend,
        engine=engine,
        ranks=planned,
        nodes=[node for host in hosts for node in cluster.nodes if node.name == host.ssh],
        args=args,
        model=record.model,
        bind="127.0.0.1",
        http_port=port,
        log_dir=None,
        log_dir_given=True,
        name=f"{cluster.name}-canary",
        notes=(),
    )


def _free_port(hosts: Sequence[Host], read: Snapshot, others: Sequence[int]) -> int:
    """A port for HTTP, behind which are as many free ones as the ranks want."""
    held = {port for host in hosts for port in known(read.on(host.ssh), ports.KEY) or {}}
    count = 1 + sum(max(len(host.ips), 1) for host in hosts)
    return ports_free.in_a_row([*held, *others], count)


def _home(server: Server, host: Host, count: int) -> Host:
    """A host of so many as a rank of the reference has it."""
    python = server.pythons.get(host.ssh, server.record.command[0])
    ips = host.ips or (("127.0.0.1",) if count == 1 else ())
    return replace(host, python=python, rdma=host.rdma[:count] if count > 1 else (), ips=ips)


def _without(words: Sequence[str], names: Sequence[str]) -> list[str]:
    """Arguments without these options and their values."""
    kept: list[str] = []
    skip = False
    for word in words:
        if not skip and word not in names and not word.startswith(tuple(f"{n}=" for n in names)):
            kept.append(word)
        skip = not skip and word in names
    return kept


def _homes(cluster: Cluster, record: Record, tokens: int) -> tuple[list[Host], Snapshot]:
    """The fewest hosts that hold the model and so many tokens beside what is wired there now."""
    mode = split.PIPELINE if "--pipeline" in record.command else split.TENSOR
    hosts = list({rank.host.ssh: rank.host for rank in reversed(cluster.ranks)}.values())[::-1]
    said: list[Finding] = []
    for count in range(1, max(min(record.size, len(hosts) + 1), 2)):

        def facts(node: Node, count: int = count) -> list[Fact[object]]:
            return [*model_checks.of_model(cluster, node, record.model, [count]), ports.FACT]

        read = snapshots.read(cluster.nodes, facts)
        groups = [[host] for host in hosts] if count == 1 else [hosts[:count]]
        for group in groups:
            found = _room(read, [host.ssh for host in group], mode, tokens)
            if found and all(each.level == OK for each in found):
                return hostfile.facing(group), read
            said += found
        said += lost(read) if count == 1 else []
    raise CheckFailed(_why_not([each for each in said if each.level != OK]))


def _room(read: Snapshot, names: Sequence[str], mode: str, tokens: int) -> list[Finding]:
    """What is to be said of the model on these nodes, a rank on each."""
    facts = {name: read.nodes[name] for name in names if name in read.nodes}
    if len(facts) < len(names):
        return []
    broken = [each for each in complete(facts) if each.level == FAIL]
    of = {name: [number] for number, name in enumerate(names)}
    return broken or fit.fits(facts, of, mode, tokens)


def _why_not(findings: Sequence[Finding]) -> str:
    why = f"{findings[0].node}: {findings[0].what}" if findings else "its size is not known"
    fix = "--record FILE of a server with fewer ranks, then --against FILE"
    return f"canary: no room for a reference beside the server ({why}): {fix}"
