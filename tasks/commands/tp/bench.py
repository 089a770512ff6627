"""inv tp.bench: a bounded load on the running server, its table and its file."""

import json
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...cli import envelope, screen
from ...cluster.cluster import Cluster
from ...cluster.errors import ActionFailed, BadInput
from ...cluster.facts import Fact, known
from ...cluster.facts.machine import hardware, memory, versions
from ...cluster.facts.models import rates
from ...cluster.facts.models.rates import Rate
from ...cluster.http.api import ApiError
from ...cluster.http.load import LoadDocument, LoadRow, LoadTest, calibrate, merged
from ...cluster.server import snapshots
from ...cluster.ssh import background
from ...cluster.ssh.node import Node
from ...cluster.text import counted
from ...cluster.version import VERSION
from ...session import Session
from .. import output_file
from ..version import commit_of
from . import chat, compare
from .chat import AFTER, Server
from .compare import FORMAT

PROMPTS = (128, 2048)  # tokens


@dataclass(frozen=True)
class LoadPlan:
    """What to measure: every size of prompt (tokens) at every concurrency, within bounds.

    `requests` is per repeat, None for as many as suit its concurrency; `timeout` is seconds per
    row, with all its repeats, of which there are `repeats` at most.
    """

    concurrency: Sequence[int]
    prompt_tokens: Sequence[int]
    requests: int | None
    max_tokens: int
    timeout: float
    label: str
    repeats: int = 1

    def asked(self, concurrency: int) -> int:
        """How many requests a repeat has."""
        return self.requests or max(4, 2 * concurrency)


def plan(
    concurrency: Sequence[int],
    prompt_tokens: Sequence[int],
    requests: int | None,
    max_tokens: int,
    timeout: float,
    label: str | None,
    repeats: int,
) -> LoadPlan:
    """The plan of the command line; raise BadInput on what is wrong, before anything is asked."""
    if requests and requests < max(concurrency):
        least = max(concurrency)
        raise BadInput(f"--requests {requests}: give {least} or more, as --concurrency has it")
    named = label or time.strftime("%Y-%m-%d %H:%M")
    return LoadPlan(concurrency, prompt_tokens, requests, max_tokens, timeout, named, repeats)


def run(session: Session, cluster: Cluster, wanted: LoadPlan, file: str | None) -> None:
    """Measure, tell, write the file; raise when a request failed."""
    output_file.check(file)
    server = chat.running(cluster)
    source = (session.context.config.get("dev") or {}).get("source")
    document = _about(cluster, server, wanted)
    document["commit"] = commit_of(Path(str(source)).expanduser()) if source else None
    load = LoadTest(
        server.api, server.model, wanted.max_tokens, wanted.timeout, secrets.token_hex(4)
    )
    rows = _measured(session, load, wanted)
    documents = [row.document() for row in rows]
    document["rows"] = documents
    if file:
        output_file.write(file, json.dumps(document, indent=2) + "\n")
    if not envelope.given(document):
        screen.table(table(documents))
    if any(row.good for row in rows):
        compare.keep(cluster, document, documents)
    _keep(cluster, server, documents)
    _judge(rows, len(wanted.concurrency) * len(wanted.prompt_tokens))


def _keep(cluster: Cluster, server: Server, rows: Sequence[LoadDocument]) -> None:
    """Write down how fast it was, and say where fewer ranks were faster."""
    record = server.record
    alone = [row for row in rows if row["concurrency"] == 1]
    # An answer that came at once has no speed of its own.
    found = [r["tokens_per_second"]["p50"] or r["tokens_per_second_total"] for r in alone]
    if not found or not found[0]:
        return
    now = Rate(record.size, record.backend, found[0], time.time(), record.model)
    read = snapshots.read(
        [cluster.leader], lambda _: [rates.fact(cluster.state_dir, cluster.name, now)]
    )
    kept = known(read.on(cluster.leader.name), rates.KEY)
    if said := rates.fewer(kept or (), now.model, now.ranks, now.backend):
        screen.say(said)


def _measured(session: Session, load: LoadTest, wanted: LoadPlan) -> list[LoadRow]:
    """All rows; those that there are by a Ctrl-C are shown: they took minutes."""
    rows: list[LoadRow] = []
    try:
        for row in _rows(session, load, wanted):
            rows.append(row)
    except KeyboardInterrupt:
        if rows:
            screen.table(table([row.document() for row in rows]))
            screen.say("these rows are kept nowhere")
        raise
    return rows


def _rows(session: Session, load: LoadTest, wanted: LoadPlan) -> Iterator[LoadRow]:
    number, all_ = 0, len(wanted.prompt_tokens) * len(wanted.concurrency)
    for tokens in wanted.prompt_tokens:
        words = _words(session, load, tokens)
        for concurrency in wanted.concurrency:
            number += 1
            each = f"{wanted.asked(concurrency)} prompts of {tokens} tokens"
            screen.say(f"row {number} of {all_}: {each}, {concurrency} at a time")
            with session.waiting.as_one():
                row = _repeated(session, load, wanted, tokens, words, concurrency)
            _tell(row, wanted)
            yield row
            if not row.good:
                return  # a server that answers nobody is not to be loaded further


def _repeated(
    session: Session, load: LoadTest, wanted: LoadPlan, tokens: int, words: int, concurrency: int
) -> LoadRow:
    """A row: repeated until it is known well enough, within its bounds."""
    batches: list[LoadRow] = []
    end = time.monotonic() + load.timeout
    while True:
        left = max(end - time.monotonic(), 0)
        once = replace(load, timeout=left, seed=f"{load.seed} {len(batches)}")
        asked = background.begin(once.run, tokens, words, concurrency, wanted.asked(concurrency))
        session.waiting({f"repeat {len(batches) + 1} of at most {wanted.repeats}": asked})
        batches.append(asked.result())
        row = merged(batches)
        is_late = time.monotonic() + batches[-1].seconds > end
        if row.errors or is_late or len(batches) >= wanted.repeats or row.is_narrow:
            return row


def _tell(row: LoadRow, wanted: LoadPlan) -> None:
    """What the table does not show of a row."""
    for error, count in row.errors.items():
        screen.say(f"  {count} of {row.requests} failed: {error}")
    if at_once := sum(sample.came_at_once for sample in row.good):
        screen.say(f"  {at_once} of {row.requests} answers came in one piece: no tokens/s of them")
    if wanted.repeats > 1 and not row.errors and not row.is_narrow:
        times = counted(len(row.repeats), "repeat")
        known = f", total ±{100 * row.doubt:.0f} %" if row.doubt else ""
        screen.say(f"  not narrow after {times}{known}: more --repeats, a quieter machine")


def _words(session: Session, load: LoadTest, tokens: int) -> int:
    """How many words make so many tokens; what is asked for it also warms the server up."""
    asked = background.begin(calibrate, load.count, tokens)
    session.waiting({f"a prompt of {tokens} tokens": asked})
    try:
        return asked.result()
    except ApiError as error:
        raise ActionFailed(f"bench: a prompt of {tokens} tokens: {error}: {AFTER}") from None


def _about(cluster: Cluster, server: Server, wanted: LoadPlan) -> dict[str, object]:
    """Where and when it was measured; no command line, which may hold a key."""
    record = server.record

    def facts(node: Node) -> list[Fact[object]]:
        python = server.pythons.get(node.name, record.command[0])
        return [hardware.FACT, memory.FACT, versions.fact(python, cluster.on(node)[0].cwd)]

    read = snapshots.read(cluster.nodes, facts)
    nodes = [
        {
            "host": node,
            **(known(values, hardware.KEY) or {}),
            "memory": getattr(known(values, memory.KEY), "total", None),
            "versions": known(values, versions.KEY),
        }
        for node, values in read.nodes.items()
    ]
    return {
        "format": FORMAT,
        "version": VERSION,
        "label": wanted.label,
        "date": envelope.now(),
        "model": record.model or server.model,
        "engine": record.engine,
        "backend": record.backend,
        "fast_synch": record.fast_synch,
        "ranks": record.size,
        "run": record.run,
        "nodes": nodes,
        "max_tokens": wanted.max_tokens,
    }


def _judge(rows: Sequence[LoadRow], wanted: int) -> None:
    failed = sum(sum(row.errors.values()) for row in rows)
    asked = sum(row.requests for row in rows)
    if failed:
        rest = f", and {wanted - len(rows)} rows were left out" if len(rows) < wanted else ""
        raise ActionFailed(f"bench: {failed} of {asked} requests failed{rest}: {AFTER}")


HEAD = (
    "prompt", "at once", "asked", "first p50", "p95", "tokens/s p50", "p5", "total",
)  # fmt: skip


def table(rows: Sequence[LoadDocument]) -> list[tuple[str, ...]]:
    """The rows of a document as people read them."""
    found: list[tuple[str, ...]] = [HEAD]
    for row in rows:
        failed = sum(row["errors"].values())
        prompt = row["prompt_tokens"]
        found.append(
            (
                f"{prompt:.0f} tokens" if prompt is not None else f"{row['prompt_words']} words",
                str(row["concurrency"]),
                f"{row['requests']}" + (f" ({failed} failed)" if failed else ""),
                *(_seconds(row["first_token"][which]) for which in ("p50", "p95")),
                *_speeds(row),
            )
        )
    return found


def _speeds(row: LoadDocument) -> list[str]:
    """Each request's tokens/s and those in total; pieces/s where the server counts no tokens.

    Of a speed the bad side is the low one: what 95 % of the requests reached is its p5.
    """
    if row["tokens_per_second_total"] is not None or row.get("pieces_per_second_total") is None:
        unit, each, total = "", row["tokens_per_second"], row["tokens_per_second_total"]
    else:
        unit, each, total = " pieces/s", row["pieces_per_second"], row["pieces_per_second_total"]
    values = [each["p50"], each["p95"], total]
    told = [_speed(value) + (unit if value is not None else "") for value in values]
    doubt = row["doubt"]
    return [*told[:2], told[2] + (f" ±{100 * doubt:.0f} %" if doubt is not None else "")]


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f} s"


def _speed(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
