"""inv tp.bench: a bounded load on the running server, its table and file, and runs compared."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, TypeGuard

from ...cli import envelope, screen
from ...cluster.cluster import Cluster
from ...cluster.config.ranks import FAST_SYNCH
from ...cluster.errors import ActionFailed, BadInput
from ...cluster.facts import Fact, known
from ...cluster.facts.machine import hardware, memory, versions
from ...cluster.facts.models import rates
from ...cluster.facts.models.rates import Rate
from ...cluster.http.api import ApiError
from ...cluster.http.load import LoadDocument, LoadRow, LoadTest, calibrate
from ...cluster.server import snapshots
from ...cluster.ssh.node import Node
from ...drawing import plot
from . import chat
from .chat import AFTER, Server

FORMAT = 1  # of the file
PROMPTS = (128, 2048)  # tokens


@dataclass(frozen=True)
class LoadPlan:
    """What to measure: every size of prompt (tokens) at every concurrency, within bounds.

    `requests` is per row, None for as many as suit its concurrency; `timeout` is seconds per row.
    """

    concurrency: Sequence[int]
    prompt_tokens: Sequence[int]
    requests: int | None
    max_tokens: int
    timeout: float
    label: str

    def asked(self, concurrency: int) -> int:
        """How many requests a row has."""
        return self.requests or max(4, 2 * concurrency)


class Run(TypedDict):
    """What --compare wants of a file that --out has written."""

    label: str
    rows: list[LoadDocument]
    fast_synch: str | None  # older files don't tell


def plan(
    concurrency: Sequence[int],
    prompt_tokens: Sequence[int],
    requests: int | None,
    max_tokens: int,
    timeout: float,
    label: str | None,
) -> LoadPlan:
    """The plan of the command line; raise BadInput on what is wrong, before anything is asked."""
    if requests and requests < max(concurrency):
        least = max(concurrency)
        raise BadInput(f"--requests {requests}: give {least} or more, as --concurrency has it")
    named = label or time.strftime("%Y-%m-%d %H:%M")
    return LoadPlan(concurrency, prompt_tokens, requests, max_tokens, timeout, named)


def run(cluster: Cluster, wanted: LoadPlan, file: str | None, as_json: bool) -> None:
    """Measure, tell, write the file; raise when a request failed."""
    check_writable(file)
    server = chat.running(cluster)
    document = _about(cluster, server, wanted)
    load = LoadTest(
        server.api, server.model, wanted.max_tokens, wanted.timeout, secrets.token_hex(4)
    )
    rows = _rows(load, wanted)
    documents = [row.document() for row in rows]
    document["rows"] = documents
    if file:
        write(file, json.dumps(document, indent=2) + "\n")
    if as_json:
        envelope.give(document)
    else:
        screen.table(table(documents))
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
    said = rates.fewer(kept or (), now.model, now.ranks, now.backend)
    if said:
        screen.say(said)


def _rows(load: LoadTest, wanted: LoadPlan) -> list[LoadRow]:
    rows: list[LoadRow] = []
    for tokens in wanted.prompt_tokens:
        words = _words(load, tokens)
        for concurrency in wanted.concurrency:
            requests = wanted.asked(concurrency)
            screen.say(f"{requests} prompts of {tokens} tokens, {concurrency} at a time")
            rows.append(load.run(tokens, words, concurrency, requests))
            for error, times in rows[-1].errors.items():
                screen.say(f"  {times} of {requests} failed: {error}")
            if at_once := sum(sample.came_at_once for sample in rows[-1].good):
                screen.say(f"  {at_once} of {requests} answers came at once: no tokens/s of them")
            if not rows[-1].good:
                return rows  # a server that answers nobody is not to be loaded further
    return rows


def _words(load: LoadTest, tokens: int) -> int:
    """How many words make so many tokens; what is asked for it also warms the server up."""
    try:
        return calibrate(load.count, tokens)
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
    "prompt", "at once", "requests", "first p50", "p95", "tokens/s p50", "p5", "total",
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
    return [_speed(value) + (unit if value is not None else "") for value in values]


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f} s"


def _speed(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def compare(files: Sequence[str], out: str | None) -> None:
    """Runs side by side, the first one as the measure; with `out` also as a plot (SVG)."""
    if len(files) < 2:
        raise BadInput("--compare: give at least two files: --compare before.json,after.json")
    check_writable(out)
    runs = [load(file) for file in files]
    screen.table(_compared(runs))
    if out:
        write(out, plot.svg([(run["label"], run["rows"]) for run in runs]))


def _compared(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [
        ("prompt", "at once", "run", "first token p50", "", "in total", "")
    ]
    keys = list(dict.fromkeys(key for run in runs for key in _by_key(run)))
    for key in keys:
        base = _by_key(runs[0]).get(key)
        for run in runs:
            row = _by_key(run).get(key)
            if row is None:
                continue
            first, total = row["first_token"]["p50"], row["tokens_per_second_total"]
            found.append(
                (
                    f"{key[0]} tokens",
                    str(key[1]),
                    _named(run, runs),
                    _seconds(first),
                    _change(base and base["first_token"]["p50"], first),
                    _speed(total),
                    _change(base and base["tokens_per_second_total"], total),
                )
            )
    return found


def _named(run: Run, runs: Sequence[Run]) -> str:
    """A run's label, with MLX_METAL_FAST_SYNCH where they differ in it; older files don't tell."""
    label, synch = str(run["label"]), run.get("fast_synch")
    differs = len({str(each.get("fast_synch")) for each in runs}) > 1
    return f"{label} ({FAST_SYNCH} {synch})" if differs and isinstance(synch, str) else label


def _by_key(run: Run) -> dict[tuple[int, int], LoadDocument]:
    return {(row["prompt_tokens_wanted"], row["concurrency"]): row for row in run["rows"]}


def _change(before: float | None, after: float | None) -> str:
    if not before or after is None or after == before:
        return ""
    return f"{(after / before - 1) * 100:+.0f} %"


def load(file: str) -> Run:
    """A file that --out has written; raise BadInput for what is none."""
    try:
        data: object = json.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"--compare {file}: can't be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise BadInput(f"--compare {file}: is no JSON: give a file that --out wrote") from None
    if not _is_run(data):
        raise BadInput(f"--compare {file}: is no run: give a file that inv tp.bench --out wrote")
    return data


def _is_run(data: object) -> TypeGuard[Run]:
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        return False
    rows = data.get("rows")
    return isinstance(data.get("label"), str) and isinstance(rows, list) and all(map(_is_row, rows))


def _is_row(row: object) -> bool:
    if not isinstance(row, dict):
        return False
    counts = [row.get("prompt_tokens_wanted"), row.get("concurrency")]
    spreads = [row.get("first_token"), row.get("tokens_per_second")]
    values = [row.get("tokens_per_second_total", "")]
    for each in spreads:
        values += [each.get("p50", ""), each.get("p95", "")] if isinstance(each, dict) else [""]
    good = all(value is None or (_is_number(value) and value >= 0) for value in values)
    return good and all(type(each) is int for each in counts)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e12


def check_writable(file: str | None, option: str = "--out") -> None:
    """Found out before the load, not after it."""
    if file and not Path(file).expanduser().absolute().parent.is_dir():
        raise BadInput(f"{option} {file}: there is no folder {Path(file).parent}: make it first")


def write(file: str, text: str, option: str = "--out") -> None:
    """Write a file that is whole or not there."""
    path = Path(file).expanduser()
    new = path.with_name(path.name + ".new")
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    except OSError as error:
        raise ActionFailed(f"{option} {file}: can't be written ({error.strerror})") from None
    screen.say(f"written: {path}")
