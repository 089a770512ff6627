"""The steps of `inv maintain.big`, in their order: each writes rows, and what fails is a row."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from tasks.cluster.http.load import LoadDocument

from . import view
from .job import Job
from .node import on_node
from .trial import PAUSE, Trial
from .view import Look

OWN_START = 2.0  # seconds of a start that are neither imports, load nor first token
OWN_RECOVERY = 1.5  # the same of a restart, on ring
NAMED = 2.0  # seconds from a rank's death while it loads to the message that names it
POINTS = 10.0  # of a hundred: what progress may be off the truth
LONG = 6.0  # seconds of a load in which something can be done to it
HELD = 20.0  # seconds that a rank comes late, so that the others wait
LONG_ANSWER = "600"  # tokens, of one rank: a token without a text would end it
ANSWER = "32"
CANARY = 150.0  # seconds that it may take
BENCH = {
    "cpu": "--prompt-tokens 24 --max-tokens 8 --requests 2 --concurrency 1,2 --timeout 120",
    "": "--prompt-tokens 128,1024 --max-tokens 16 --requests 2 --concurrency 1,2 --timeout 60",
}


def one(trial: Trial) -> None:
    """A single rank: its speed, and what it answers, which the canary is held against."""
    if not trial.has_time("one rank", 1, 30):
        return
    job, series = trial.serve(1)
    _parts(trial, "one rank", job, series, None)
    if trial.kind != "cpu":
        _ask(trial, LONG_ANSWER)
    _bench(trial, 1)
    file = str(Path(trial.folder).expanduser() / f"reference-{time.time():.0f}.json")
    job = trial.inv("tp.bench", "--canary", *_positions(trial), "--record", file, limit=CANARY)
    if job.code == 0:
        trial.reference = file
    trial.row("canary", "answers of one rank written down", _took(job), holds=job.code == 0)


def start(trial: Trial) -> None:
    """The first start of all ranks, and whether they answer."""
    if not trial.has_time("start", 1):
        return
    job, series = trial.serve(trial.wanted.ranks)
    _parts(trial, "start", job, series, OWN_START)
    _loaded(trial, job, series)
    _progress(trial, "progress", series)
    _ask(trial, "4" if trial.kind == "cpu" else ANSWER)


def bench(trial: Trial) -> None:
    """Tokens/s of all ranks, against one's; the canary, which must find nothing."""
    if trial.has_time("bench", int(trial.up != trial.wanted.ranks), 30):
        trial.have(trial.wanted.ranks)
        said = _bench(trial, trial.wanted.ranks)
        _fewer(trial, said)
    if trial.has_time("canary", int(trial.up != trial.wanted.ranks), 30):
        trial.have(trial.wanted.ranks)
        _canary(trial, f"{trial.wanted.ranks} ranks that are right", is_wrong=False)


def idle(trial: Trial) -> None:
    """Each rank killed while nothing is asked, and a restart."""
    for number in range(trial.wanted.ranks):
        if trial.has_time("kill idle", 1 + (trial.up != trial.wanted.ranks), 5):
            trial.have(trial.wanted.ranks)
            at = trial.kill(number)
            _named_by_status(trial, "kill idle", number, at)
            _recover(trial, f"restart after rank {number} died idle")


def generating(trial: Trial) -> None:
    """Each rank killed while an answer is made, and a restart."""
    for number in range(trial.wanted.ranks):
        if trial.has_time("kill generating", 1 + (trial.up != trial.wanted.ranks), 15):
            trial.have(trial.wanted.ranks)
            chat = _generates(trial)
            at = trial.kill(number)
            _named_by_status(trial, "kill generating", number, at)
            chat.wait()
            what = f"rank {number}: what the client is told, and when"
            found = f"{chat.ended - at:.1f} s: {chat.ending}"
            trial.row("kill generating", what, found, holds=chat.code == 4)
            _recover(trial, f"restart after rank {number} died generating")


def loading(trial: Trial) -> None:
    """Each rank killed while weights are read, and after the last one a restart."""
    for number in range(trial.wanted.ranks):
        if trial.has_time("kill loading", 1, 5):
            trial.clear()
            job = trial.start(trial.wanted.ranks, _slow(trial))
            series = trial.watch(job, lambda now: (now.told or 0) > 0.3)
            _die(trial, "kill loading", job, number, series)
    if trial.has_time("restart after a kill while loading", 1):
        _recover(trial, "restart after a kill while loading")


def joining(trial: Trial) -> None:
    """Each rank killed while it waits for one that comes late."""
    for number in range(trial.wanted.ranks):
        if trial.wanted.ranks > 1 and trial.has_time("kill joining", 1, 5):
            trial.clear()
            late = 0 if number else trial.wanted.ranks - 1
            job = trial.start(trial.wanted.ranks, {"MLX_BIG_HOLD": f"{late}:{HELD:g}"})
            series = trial.watch(job, partial(_waits, number))
            _die(trial, "kill joining", job, number, series)
            trial.clear()


def stops(trial: Trial) -> None:
    """A stop of what is idle, of what makes an answer, and of what loads."""
    if trial.has_time("stop idle", int(trial.up != trial.wanted.ranks), 25):
        trial.have(trial.wanted.ranks)
        _stop(trial, "stop idle")
    if trial.has_time("stop generating", 1, 30):
        trial.have(trial.wanted.ranks)
        chat = _generates(trial)
        _stop(trial, "stop generating")
        chat.wait()
    if trial.has_time("stop loading", 1, 25):
        trial.clear()
        job = trial.start(trial.wanted.ranks, _slow(trial))
        trial.watch(job, lambda now: (now.told or 0) > 0.3)
        _stop(trial, "stop loading", "tp.unlock")
        job.wait()
        trial.row("stop loading", "what the start says then", job.ending, holds=job.code in (3, 4))


def sigkill(trial: Trial) -> None:
    """SIGKILL to all ranks at once: their memory, and a stop after it."""
    if trial.has_time("SIGKILL to all", int(trial.up != trial.wanted.ranks), 25):
        trial.have(trial.wanted.ranks)
        trial.memory_back(trial.kill(), "SIGKILL to all")
        _stop(trial, "stop after SIGKILL to all")


def wrong(trial: Trial) -> None:
    """Servers with a rank that is really wrong: the canary must find both."""
    for how, what in (
        ("scale", "the last rank's matrices x 1.05"),
        ("exchange", "ranks 0 and 1 with each other's o_proj"),
    ):
        if trial.wanted.ranks > 1 and trial.has_time("canary", 1, 40):
            trial.serve(trial.wanted.ranks, {"MLX_BIG_WRONG": how})
            _canary(trial, what, is_wrong=True)
            trial.clear()


def cold(trial: Trial) -> None:
    """A start with nothing of the model in the page cache."""
    if trial.has_time("load from disk", 1, 30):
        trial.clear()
        trial.speed = read_speed(trial, "cold")
        trial.row("load from disk", "one reader", f"{trial.speed / 1e9:.2f} GB/s")
        job, series = trial.serve(trial.wanted.ranks)
        _parts(trial, "load from disk", job, series, OWN_START)
        _progress(trial, "load from disk", series)


def slow(trial: Trial) -> None:
    """A load that takes minutes."""
    if trial.has_time("slow load", 1, trial.wanted.slow):
        job, series = trial.serve(trial.wanted.ranks, {"MLX_BIG_SLOW": f"{trial.wanted.slow:g}"})
        _parts(trial, "slow load", job, series, None)
        _loaded(trial, job, series)
        _progress(trial, "slow load", series)


STEPS: Mapping[str, Callable[[Trial], None]] = {
    each.__name__: each
    for each in (
        one, start, bench, idle, generating, loading, joining, stops, sigkill, wrong, cold, slow
    )
}  # fmt: skip


def read_speed(trial: Trial, how: str) -> float:
    """Bytes/s of one reader of the weights, on rank 0's node."""
    most = min(trial.bytes, 4_000_000_000)
    said = on_node(trial.cluster, trial.folder, [how, trial.model, str(most)], 120)
    return float(said["bytes"] / max(said["seconds"], 0.001))


def _parts(trial: Trial, step: str, job: Job, series: Sequence[Look], own: float | None) -> None:
    """From the command to the first token, and what that is made of."""
    seen, ready = view.look(trial.cluster), job.at(r"^ready after") or job.ended
    found = view.parts(seen, job.begun, ready, job.ended)
    trial.row(step, "from the command to a first token", f"{ready - job.begun:.1f} s")
    if not found:
        return
    floor = f" (floor {trial.bytes / trial.speed:.1f} s)" if trial.speed else ""
    trial.load = max(trial.load, found.load or 0)
    for what, seconds in (
        ("checks and all before the ranks' python", found.checks),
        ("MLX imported by all", found.mlx),
        ("all have met", found.join),
        ("the server imported, the first byte read", found.imports),
        (f"weights read{floor}", found.load),
        ("first token after the load", found.token),
        ("after it: logs and records", found.after),
    ):
        trial.row(step, f"  {what}", "not told" if seconds is None else f"{seconds:.1f} s")
    trial.row(step, "own overhead: all but imports, load, first token", f"{found.own:.1f} s",
              goal=f"at most {own:g} s" if own else "",
              holds=found.own <= own if own else None)  # fmt: skip


def _loaded(trial: Trial, job: Job, series: Sequence[Look]) -> None:
    """Nothing says ready before a token: how much was read when it was said."""
    ready = job.at(r"^ready after") or job.ended
    before = [look.told for look in series if look.told is not None and look.at <= ready]
    if len(before) >= view.SOME:  # the last mark comes a little late
        trial.row("ready", "weights read when ready was said", f"{100 * before[-1]:.0f} %",
                  goal="100 %", holds=before[-1] > 0.9)  # fmt: skip


def _progress(trial: Trial, step: str, series: Sequence[Look]) -> None:
    if not (found := view.progress(series)):
        trial.row(step, "progress as told", "the load was too short to see it")
        return
    for quarter, (told, read, _) in found.at.items():
        truth = f"; read, as seen from outside: {read:.0f} %" if read is not None else ""
        trial.row(step, f"told at {quarter} % of the load's time", f"{told:.0f} %{truth}")
    off = found.line if found.read is None else found.read
    against = "a straight line" if found.read is None else "what was read"
    trial.row(step, f"most that it is off {against}", f"{off:.1f} points of {found.looks} looks",
              goal=f"within {POINTS:g}", holds=off <= POINTS)  # fmt: skip
    trial.row(step, "goes back", "yes" if found.went_back else "never",
              goal="never", holds=not found.went_back)  # fmt: skip


def _bench(trial: Trial, ranks: int) -> Job:
    words = BENCH.get(trial.kind, BENCH[""]).split()
    job = trial.inv("tp.bench", *words, "--json", "--label", f"{ranks} ranks", limit=300)
    rows: Sequence[LoadDocument] = job.document().get("rows", ())
    for each in rows:
        rate, total = each["tokens_per_second"]["p50"], each["tokens_per_second_total"]
        first = each["first_token"]["p50"]
        if each["concurrency"] == 1 and rate:
            trial.rates.setdefault(ranks, rate)
        what = f"-n {ranks}: {each['prompt_tokens'] or 0:.0f} tokens, {each['concurrency']} at once"
        found = (
            f"{rate or 0:.1f} tokens/s each, {total or 0:.1f} in total, first {first or 0:.2f} s"
        )
        trial.row("bench", what, found)
    if job.code or not rows:
        trial.row("bench", f"-n {ranks}", job.ending, holds=False)
    return job


def _fewer(trial: Trial, job: Job) -> None:
    """Fewer ranks that are faster: the bench must say so, where one rank's speed is on record."""
    alone, all_ = trial.rates.get(1), trial.rates.get(trial.wanted.ranks)
    if not alone or not all_ or trial.wanted.ranks == 1:
        return
    said = next((line for _, line in job.lines if "faster" in line), "nothing of it")
    trial.row("bench", f"one rank against {trial.wanted.ranks}: what tp.bench says", said,
              goal="says it where fewer are faster",
              holds=("faster" in said) == (alone > all_))  # fmt: skip


def _positions(trial: Trial) -> list[str]:
    """As many prompts as the time allows."""
    if trial.kind == "cpu":
        return ["--requests", "2", "--max-tokens", "32", "--prompt-tokens", "32"]
    return ["--thorough"] if trial.left > 900 else ["--requests", "8"]


def _canary(trial: Trial, what: str, is_wrong: bool) -> None:
    against = ["--against", trial.reference] if trial.reference else []
    positions = [] if trial.reference else _positions(trial)
    job = trial.inv("tp.bench", "--canary", *positions, *against, "--json", limit=CANARY)
    found = job.document().get("canary", {})
    words = job.ending
    if found:
        nats, noise, turned = found["nats"], found["noise"], found["turned"]
        words = (
            f"{found['verdict']}: {found['prompts']} prompts, {found['positions']} positions,"
            f" {nats['mean']:.3f} nats off (limit {nats['limit']:.3f}, noise {noise['mean']:.3f}),"
            f" {turned['count']} turned, by {turned['most']:.2f} at most; {job.seconds:.0f} s"
        )
    verdict = found.get("verdict")
    trial.row("canary", what, words, goal="found" if is_wrong else "no false alarm",
              holds=verdict == "wrong" if is_wrong else verdict in ("right", "same"))  # fmt: skip


def _ask(trial: Trial, tokens: str) -> None:
    job = trial.inv("tp.chat", "Count to a thousand.", "--max-tokens", tokens, limit=120)
    found = _took(job) if job.code else f"{job.seconds:.1f} s, {job.last}"
    trial.row("ask", f"an answer of up to {tokens} tokens", found, holds=job.code == 0)


def _took(job: Job) -> str:
    return f"{job.seconds:.1f} s, {job.ending}"


def _slow(trial: Trial) -> dict[str, str]:
    """Where a load is over at once, one that is slowed down."""
    return {} if trial.load > LONG else {"MLX_BIG_SLOW": "8"}


def _waits(number: int, now: Look) -> bool:
    """Whether a rank waits for the others."""
    seen = now.ranks.get(number)
    return bool(seen and seen.lives and seen.marks.meeting and not seen.marks.joined)


def _generates(trial: Trial) -> Job:
    """An answer that is being made: its first piece has come."""
    job = trial.begin("tp.chat", "Count to a thousand.", "--max-tokens", LONG_ANSWER, limit=60)
    while job.runs and not job.first_out and time.time() < job.begun + job.limit:
        time.sleep(0.02)
    return job


def _named_by_status(trial: Trial, step: str, number: int, at: float) -> None:
    """Seconds until tp.status names the rank that was killed, and why."""
    trial.up, is_named = 0, False
    while not is_named and time.time() < at + 20:
        job = trial.inv("tp.status", "--json")
        why = job.document().get("why", "")
        is_named = f"rank {number}" in why
        time.sleep(PAUSE)
    what, found = f"rank {number}: tp.status names it", f"{job.ended - at:.1f} s: {why}"
    trial.row(step, what, found, holds=is_named)


def _die(trial: Trial, step: str, job: Job, number: int, series: Sequence[Look]) -> None:
    """Kill a rank of a start that is under way: when it is named, and what is left."""
    how_far = f" at {100 * (series[-1].told or 0):.0f} %" if series and series[-1].told else ""
    at = trial.kill(number)
    job.wait()
    named = job.at(rf"\brank {number} on \S+ died|\brank {number}\b.*(?:SIGKILL|signal 9)")
    took = f"{named - at:.1f} s: " if named else "not named: "
    is_soon = named is not None and named - at <= NAMED
    trial.row(step, f"rank {number}{how_far}: until it is named", took + job.last[:200],
              goal=f"within {NAMED:g} s", holds=is_soon)  # fmt: skip
    ended = f"{job.ended - at:.1f} s after, exit {job.code}"
    trial.row(step, f"rank {number}: the start ends", ended, goal="exit 4", holds=job.code == 4)
    _nothing_left(trial, step)


def _recover(trial: Trial, step: str) -> None:
    """A restart until its token, and what of it is its own."""
    job = trial.restart()
    series = trial.watch(job)
    job.wait()
    if job.code:
        trial.row(step, "tp.restart", job.ending, holds=False)
        trial.clear()
        return
    trial.up = trial.wanted.ranks
    goal = OWN_RECOVERY if trial.cluster.backend == "ring" else None
    _parts(trial, step, job, series, goal)


def _stop(trial: Trial, step: str, *before: str) -> None:
    """A stop, what it leaves, and when the memory is back."""
    begun = time.time()
    job = trial.inv(*before, "tp.stop", limit=90)
    trial.up = 0
    trial.row(step, " ".join(["inv", *before, "tp.stop"]), _took(job), holds=job.code == 0)
    trial.memory_back(begun, step)
    _nothing_left(trial, step)


def _nothing_left(trial: Trial, step: str) -> None:
    left = trial.lives()
    state = trial.inv("tp.status", "--json").document().get("state", "unknown")
    found = ", ".join(left) or f"nothing, tp.status: {state}"
    trial.row(step, "left of it", found, goal="nothing", holds=not left and state == "stopped")
