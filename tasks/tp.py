"""inv tp.*: the life of a tensor-parallel server, from the checks to the shutdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from invoke.context import Context
from invoke.tasks import call

from . import commands
from . import session as sessions
from .cli import envelope
from .cli.executor import server_arguments
from .cli.options import SERVER_OPTIONS, TARGET_OPTIONS, Checks, cluster_task, options_task
from .cluster.config.values import (
    Count,
    File,
    Files,
    Free,
    Number,
    Seconds,
    Tokens,
    Whole,
    Wholes,
    Words,
)
from .cluster.errors import BadInput
from .commands.tp import hold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .cluster.cluster import Cluster
    from .session import Session

Counts = Annotated[tuple[int, ...], Wholes("COUNTS", 1, 256)]
Interval = Annotated[float, Number("SECONDS", 0.1)]
Lines = Annotated[int, Whole("LINES")]
Order = Literal["leader", "all"]
TokenPatience = Annotated[float, Number("SECONDS", 1)]
Pattern = Annotated[str, Free("REGEX")]
RankNumber = Annotated[int, Whole("RANK", 0, 1023)]
Repeats = Annotated[int, Whole("COUNT", 1, 1000)]
Requests = Annotated[int, Whole("COUNT", 1, 100_000)]
Restarts = Annotated[int, Whole("COUNT", 0, 1000)]
Sizes = Annotated[tuple[int, ...], Wholes("TOKENS", 1, 1_000_000)]
SomeTokens = Annotated[int, Whole("TOKENS", 2, 1_000_000)]
Temperature = Annotated[float, Number("NUMBER", 0, 100)]
Url = Annotated[str, Free("URL")]
WholeSeconds = Annotated[int, Whole("SECONDS", 1, 3600)]


def last(c: Context, **given: Any) -> Cluster:
    """Imported late: only a restart reads the nodes before its body."""
    return commands.tp.restart.last(c, **given)


def _named(c: Context, **given: object) -> Sequence[Cluster]:
    """A hook's cluster is that of the task that it hangs on."""
    call = sessions.of(c).call  # type: ignore[union-attr]  # a task of ours has one
    is_it = call is not None and getattr(call.task, "make", None) is _named
    return commands.tp.status.named(c, **(call.cluster_options if call and is_it else given))


@cluster_task(*SERVER_OPTIONS)
def model(session: Session, cluster: Cluster, dry_run: bool = False) -> None:
    """Make the tiny model if the cluster asks for it.

    Only where it is not there yet.
    """
    commands.dev.tiny_model.ensure(cluster.model, session.dry)


@cluster_task(*SERVER_OPTIONS)
def preflight(
    session: Session,
    cluster: Cluster,
    skip: Checks = (),
    skip_checks: bool = False,
) -> None:
    """Check all nodes at once; nothing is changed.

    Memory, processes, ports, RDMA, model, versions, cooldown. Exit 3 if a check fails,
    5 if a node can't be reached.

    inv tp.preflight --hosts mac1,mac2 --skip model -- --port 8001
    """
    if not skip_checks:
        cluster.connect()
        commands.tp.preflight.run(session, cluster, skip, session.is_asked)


@cluster_task(*TARGET_OPTIONS, "num_ranks")
def cooldown(
    session: Session, cluster: Cluster, skip_checks: bool = False, dry_run: bool = False
) -> None:
    """Wait out the rest of 30 s since a rank's unclean end.

    Only over RDMA: after a rank that did not leave in order, whoever ended it, the kernel needs
    some 30 s to reclaim its resources (tp.cooldown in invoke.yaml).
    """
    if not skip_checks:
        commands.tp.cooldown.run(session, cluster)


@cluster_task(*SERVER_OPTIONS, "keep_logs", "lock_wait")
def launch(session: Session, cluster: Cluster, dry_run: bool = False) -> None:
    """Start the ranks and come back at once (tp.wait waits).

    Rank 0 first, then the others.

    No check is made: tp.start is this with checks before and a wait after.
    """
    with commands.tp.lock.locked(session, cluster, "tp.launch"):
        commands.tp.launch.run(session, cluster)


@cluster_task(*SERVER_OPTIONS)
def wait(session: Session, cluster: Cluster, timeout: Seconds | None = None) -> None:
    """Wait until ready, or until a rank has died.

    A rank that dies fails this at once (exit 4).
    """
    commands.tp.wait.run(session, cluster, timeout)


@cluster_task(*SERVER_OPTIONS, help={"timeout": "seconds to wait for the token"})
def health(
    session: Session,
    cluster: Cluster,
    timeout: Seconds | None = None,
    foreground: bool = False,
    dry_run: bool = False,
) -> None:
    """Ask the server for one real token.

    Exit 3 if it gives none.

    A health page may be green over an engine that is dead: only a token proves it.
    """
    if not foreground and not session.dry:
        commands.tp.health.run(session, cluster, timeout)


@cluster_task(
    *SERVER_OPTIONS,
    "keep_logs",
    "lock_wait",
    pre=[call(hold.hold, what="tp.start"), model, preflight, cooldown],
    post=[health, hold.release],
)
def start(
    session: Session,
    cluster: Cluster,
    timeout: Seconds | None = None,
    skip: Checks = (),
    skip_checks: bool = False,
    foreground: bool = False,
    dry_run: bool = False,
) -> None:
    """Check, start all ranks, wait until one real token.

    What follows -- goes to the server exactly. Exit 3: a check failed, or another command is at
    work, and nothing was started; 4: a rank died or the timeout passed, and the others were
    stopped, or the server runs and can't be asked (it wants a key: tp.api_key), and is left as it
    is; 5: a node can't be reached. Ctrl-C while it waits leaves the server as it is, twice
    stops it.

    inv tp.start
    inv tp.start --hosts mac1,mac2 --backend ring --engine mlx-lm -- --model M --port 8000
    inv tp.start --hostfile hosts/hwstudio.json --fast-synch on -- --model M
    """
    if foreground and envelope.current():
        raise BadInput("--json is for a start that comes to an end: leave out --foreground")
    commands.tp.start.run(session, cluster, timeout, foreground)


@cluster_task(
    *TARGET_OPTIONS,
    "log_dir",
    "lock_wait",
    help={
        "force": "SIGKILL at once: may leave wired memory that only a reboot frees",
        "timeout": "seconds until SIGKILL, whatever memory does (default: tp.stop_timeout)",
        "order": "leader: rank 0 first, it takes the others along; all: all at once",
        "all": "also every server of this engine on these nodes, whoever started it: it asks",
        "yes": "with --all: do not ask",
    },
)
def stop(
    session: Session,
    cluster: Cluster,
    force: bool = False,
    timeout: Seconds | None = None,
    order: Order = "leader",
    all: bool = False,
    yes: bool = False,
    dry_run: bool = False,
) -> None:
    """Stop the server, rank 0 first; SIGKILL only in need.

    The engine's own signal to rank 0, SIGTERM to what is left; SIGKILL only at the timeout, and not
    while a rank's memory still falls (at most tp.unload_limit, 180 s; --timeout and --force do).

    Only what is ours: recorded ranks with what they have started, and ranks of this user without a
    record that meet at this cluster's ports. What else serves or holds such a port is named and
    left; --all also ends every server of this engine on these nodes. Nothing to stop is fine. Exit
    3 if another holds one of our ports, or another command is at work (inv tp.unlock tp.stop ends a
    start that hangs), 4 if something could not be stopped, 5 if a node could not be reached.

    inv tp.stop --hosts mac1,mac2 --timeout 30
    """
    cluster.connect()
    commands.tp.stop.run(session, cluster, order, force, timeout, all, yes)


@cluster_task(
    *SERVER_OPTIONS,
    "with_",
    "keep_logs",
    "lock_wait",
    of=last,
    help={
        "sync": "first copy dev.source to dev.target on all nodes, as dev.sync does",
        "follow": "show all ranks' lines from the start on, until the first error or Ctrl-C",
    },
)
def restart(
    session: Session,
    cluster: Cluster,
    timeout: Seconds | None = None,
    sync: bool = False,
    follow: bool = False,
    dry_run: bool = False,
) -> None:
    """Stop the server, and start what was started last.

    The same arguments, engine and backend.

    Options override; what follows -- replaces the server's arguments, --with adds to them. Values
    of --env are kept nowhere: give them again. The server goes on until what it is to be
    restarted with has been copied and checked. --follow ends with exit 4 at the first error, 3 when
    the server has failed or was stopped; it is left as it is.

    inv tp.restart
    inv tp.restart --sync --follow
    inv tp.restart --sync --with '--port 8001'
    """
    commands.tp.restart.run(session, cluster, timeout, sync, follow)


@cluster_task(*TARGET_OPTIONS)
def unlock(session: Session, cluster: Cluster, dry_run: bool = False) -> None:
    """Take the lock away, and say whose it was.

    From then on every node that answers refuses what the command that had it sends, which stops
    with exit 4; what it has started is left as it is. A node that can't be reached is named (exit
    5): there it may act still. Of all commands that change a server, on any control machine, one
    acts at a time. There may be no lock at all.

    inv tp.unlock tp.stop
    """
    commands.tp.lock.unlock(session, cluster)


@cluster_task(*TARGET_OPTIONS, of=_named)
def status(session: Session, clusters: Sequence[Cluster]) -> None:
    """Is it ready, which model and URL; each rank's state.

    Per rank: host, pid, state, uptime, memory. Exit 3 for a degraded server (a rank gone, or no
    answer) and for one that can't be asked, 5 if a node can't be reached. --cluster all: a row
    for each cluster of tp.clusters.

    inv tp.status --cluster all
    """
    status = commands.tp.status
    if session.call and session.call.kwargs.get("cluster") == status.EVERY:
        status.run_all(session, clusters)
    else:
        clusters[0].connect()
        status.run(session, clusters[0])


@cluster_task(
    *TARGET_OPTIONS,
    "log_dir",
    help={
        "follow": "go on showing what comes, until Ctrl-C",
        "lines": "how many of the last lines (0: all)",
        "rank": "only this rank's lines",
        "grep": "only lines that match this regular expression",
        "previous": "an earlier run: 1 is the one before the last, as far as --keep-logs keeps",
        "json": "a JSON document per line of the logs",
    },
    streams=True,
)
def logs(
    session: Session,
    cluster: Cluster,
    follow: bool = False,
    lines: Lines = 100,
    rank: RankNumber | None = None,
    grep: Pattern | None = None,
    previous: Count | None = None,
) -> None:
    """All ranks' logs of the last run, tagged by rank.

    Also written to tp_server.log here, which /tmp/tp_server.log leads to (or in --log-dir).

    With --previous rank after rank, the last lines of each, from the nodes.

    inv tp.logs --follow --rank 0 --grep 'ERROR|warn'
    inv tp.logs --previous 1
    """
    cluster.connect()
    commands.tp.logs.run(cluster, follow, lines, rank, grep, previous)


@options_task(
    help={
        "fact": "what you know: mlx-lm=0.31.3, rdma.ping=ok (or fail), MLX_METAL_FAST_SYNCH=set (or"
        " unset); repeat"
    }
)
def explain(
    c: Context,
    fact: Annotated[tuple[str, ...], Words("NAME=VALUE", split=True)] = (),
    json: bool = False,
) -> None:
    """Tell what a log's first known error means, and what to do.

    Of each file that follows --, or of what comes on stdin: anybody's log, or a line of it. No
    node is asked.

    First what to do, then what next, and where it is from. Exit 3 where no known error is in any
    of them.

    inv tp.explain -- tp_server.log
    pbpaste | inv tp.explain --fact mlx-lm=0.31.3
    """
    commands.tp.explain.run(server_arguments(), fact, json)


@cluster_task(*TARGET_OPTIONS, help={"lines": "how many of the last actions (0: all)"})
def audit(session: Session, cluster: Cluster, lines: Lines = 20) -> None:
    """What was done to the nodes, by whom, and how it ended.

    From where, too; the nodes' lines are merged by time.

    Each node keeps it in audit.log of its state directory. Exit 5 if a node can't be reached.

    inv tp.audit --lines 50
    """
    cluster.connect()
    commands.tp.audit.run(cluster, lines)


@cluster_task(*TARGET_OPTIONS)
def memory(session: Session, cluster: Cluster) -> None:
    """Wired memory of every node, and what has leaked.

    What a killed server left, only a reboot frees (exit 3).
    """
    cluster.connect()
    commands.tp.memory.run(session, cluster)


@cluster_task(
    *SERVER_OPTIONS,
    "lock_wait",
    help={
        "restart": "start it again when it has failed: stop, cool down, check, start",
        "max_restarts": "how often at the most, after growing pauses",
        "interval": "seconds between two looks",
        "patience": "seconds without a token until a server whose ranks all live has failed",
        "json": "a JSON document per change, each on a line",
    },
    streams=True,
)
def watch(
    session: Session,
    cluster: Cluster,
    restart: bool = False,
    max_restarts: Restarts = 3,
    interval: Interval = 1,
    patience: TokenPatience = 600,
) -> None:
    """Watch the server: tell a dead rank or engine at once.

    Dead is an engine that gives no token, too.

    A busy server, and one that still loads, is left alone. Ends with exit 3 when the server has
    failed and is not started again. --restart starts what ran, as its record has it, unless
    somebody has stopped it (tp.stop).

    inv tp.watch --restart
    """
    how = commands.tp.watch.WatchOptions(interval, patience, max_restarts if restart else 0)
    commands.tp.watch.run(session, cluster, how)


@cluster_task(
    *TARGET_OPTIONS,
    help={
        "prompt": "what to ask",
        "system": "a system prompt",
        "max_tokens": "how many tokens the answer may have",
        "temperature": "0 is greedy (default: the server's own)",
        "timeout": "seconds without a word from the server",
    },
)
def chat(
    session: Session,
    cluster: Cluster,
    prompt: str,
    system: str | None = None,
    max_tokens: Tokens = 512,
    temperature: Temperature | None = None,
    timeout: Seconds = 60,
) -> None:
    """Ask the running server; how fast it answered.

    The answer comes as a stream; then the time to the first token and tokens/s.

    The answer and its tool calls go to stdout, all else to stderr. Exit 3 if no server runs, 4 if
    it gives no answer or its answer breaks off.

    inv tp.chat "Why is the sky blue?" --max-tokens 100 --temperature 0
    """
    question = commands.tp.chat.ChatRequest(prompt, system, max_tokens, temperature, timeout)
    commands.tp.chat.run(session, cluster, question)


@cluster_task(
    *TARGET_OPTIONS,
    help={
        "concurrency": "how many requests at a time, with commas between (a row each)",
        "prompt_tokens": "tokens of the prompts, by the server's count (default 128,2048; with"
        " --canary 64)",
        "requests": "requests per repeat (default: twice the concurrency, at least 4), or"
        " --canary's prompts (default: as many as make its positions)",
        "max_tokens": "tokens per answer",
        "timeout": "seconds per row, with all its repeats, after which what is left has failed",
        "repeats": "how often a row is repeated at the most, until its total is known to 5 %",
        "history": "measure nothing, tell the runs so far; with --out the last ones as SVG",
        "label": "the run's name in plots (default: date and time)",
        "out": "write the run to this file as JSON; with --compare the plot, as SVG",
        "compare": "measure nothing, compare such files: before.json,after.json (or repeat)",
        "canary": "no load: are the answers right but for rounding? Against those of as few ranks"
        " as the model fits, started for it",
        "canary_url": "the same against a server that runs: http://HOST:PORT",
        "record": "with --canary: write this server's answers as a reference to a file",
        "against": "with --canary: hold the answers against such a file",
        "thorough": "with --canary: 1,024 positions instead of 256",
    },
)
def bench(
    session: Session,
    cluster: Cluster,
    concurrency: Counts = (1, 2, 4, 8),
    prompt_tokens: Sizes = (),
    requests: Requests | None = None,
    max_tokens: SomeTokens = 64,
    timeout: Seconds = 300,
    label: str | None = None,
    out: File | None = None,
    compare: Files = (),
    repeats: Repeats = 8,
    history: bool = False,
    canary: bool = False,
    canary_url: Url | None = None,
    record: File | None = None,
    against: File | None = None,
    thorough: bool = False,
) -> None:
    """Load the running server: first token, tokens/s, p50, p95.

    The load is bounded in requests and time.

    Every prompt is new, so that no cache helps; p95 is what 95 % of the requests kept to. Exit 4
    if a request failed, or (--canary) answers are wrong; 3 if no server runs.

    inv tp.bench --out before.json
    inv tp.bench --compare before.json,after.json --out change.svg
    inv tp.bench --history
    inv tp.bench --canary
    inv tp.bench --canary --record one.json
    """
    references = [each for each in (canary_url, record, against) if each]
    if compare and (canary or references):
        raise BadInput("give --compare or --canary, not both")
    if history and (compare or canary or references):
        raise BadInput("give --history or what else is to be done, not both")
    if len(references) > 1:
        raise BadInput("give one of --canary-url, --record and --against")
    if compare:
        commands.tp.compare.run(compare, out)
    elif history:
        commands.tp.compare.history(cluster, out)
    elif canary or references or thorough:
        size = max(prompt_tokens, default=commands.tp.canary.PROMPT)
        options = commands.tp.canary.CanaryOptions(
            canary_url, record, against, thorough, requests, size, max_tokens, timeout
        )
        commands.tp.canary.run(session, cluster, options)
    else:
        sizes = prompt_tokens or commands.tp.bench.PROMPTS
        plan = commands.tp.bench.plan(
            concurrency, sizes, requests, max_tokens, timeout, label, repeats
        )
        commands.tp.bench.run(session, cluster, plan, out)


@cluster_task(
    *TARGET_OPTIONS,
    help={
        "interval": "whole seconds between two looks",
        "count": "how often (default: until Ctrl-C)",
        "json": "a JSON document per node and interval, each on a line",
    },
    streams=True,
)
def top(
    session: Session,
    cluster: Cluster,
    interval: WholeSeconds = 1,
    count: Count | None = None,
) -> None:
    """All nodes live: CPU, memory, links, ranks, requests.

    Wired memory is shown against its baseline.

    Needs no sudo. In a pipe a line per node and interval. A node that is gone is shown as such,
    holds up no other and is back when it is back. Ctrl-C ends it.

    inv tp.top
    inv tp.top --interval 5 --count 12 --json
    """
    commands.tp.top.run(cluster, interval, count)
