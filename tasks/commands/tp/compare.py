"""inv tp.bench --compare and --history: runs side by side, and what of a change is noise."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict, TypeGuard

from ...cli import envelope, screen
from ...cluster.cluster import Cluster
from ...cluster.config.ranks import FAST_SYNCH
from ...cluster.errors import BadInput, CheckFailed
from ...cluster.http import noise
from ...cluster.http.load import LoadDocument
from ...cluster.http.noise import Effect
from ...cluster.text import counted, one_line
from ...drawing import plot
from .. import output_file

FORMAT = 1  # of the file
FILE = "bench.jsonl"  # the history, beside the cluster's logs here
SHOWN = 40  # rows of it
DRAWN = 6  # runs of it: as many as there are colours

RowKey = tuple[int, int]  # tokens of the prompts, requests at a time
Figure = Literal["first_token", "total"]


class _WrittenRun(TypedDict):
    label: str
    rows: list[LoadDocument]


class WrittenRun(_WrittenRun, total=False):
    """What is wanted of a file that --out has written; older ones have less."""

    date: str
    model: str | None
    ranks: int
    backend: str
    commit: str | None
    fast_synch: str | None
    max_tokens: int


class Compared(TypedDict):
    """A row of a run beside that of the first run."""

    prompt_tokens: int
    concurrency: int
    run: str
    ranks: int | None
    first_token: float | None
    first_token_change: Effect | None
    total: float | None
    total_change: Effect | None
    is_base: bool


def run(files: Sequence[str], out: str | None) -> None:
    """Runs side by side, the first one as the measure; with `out` also as a plot (SVG)."""
    if len(files) < 2:
        raise BadInput("--compare: give at least two files: --compare before.json,after.json")
    output_file.check(out)
    runs = [load(file) for file in files]
    rows = _rows(runs)
    told = ("label", "date", "model", "ranks", "backend", "fast_synch")
    heads = [{key: each.get(key) for key in told} for each in runs]
    if not envelope.given({"runs": heads, "compared": rows}):
        _tell(runs, rows)
    if out:
        output_file.write(out, plot.svg([(each["label"], each["rows"]) for each in runs]))


def _rows(runs: Sequence[WrittenRun]) -> list[Compared]:
    """Each row of each run, with its change against the first run that has it."""
    found: list[Compared] = []
    for key in dict.fromkeys(key for each in runs for key in _by_key(each)):
        having = [(each, _by_key(each)[key]) for each in runs if key in _by_key(each)]
        first, base = having[0]
        for each, row in having:
            is_base = each is first
            found.append(
                {
                    "prompt_tokens": key[0],
                    "concurrency": key[1],
                    "run": _named(each, runs),
                    "ranks": each.get("ranks"),
                    "first_token": row["first_token"]["p50"],
                    "first_token_change": None if is_base else _change(base, row, "first_token"),
                    "total": total(row)[0],
                    "total_change": None if is_base else _change(base, row, "total"),
                    "is_base": is_base,
                }
            )
    return found


def _change(base: LoadDocument, row: LoadDocument, what: Figure) -> Effect | None:
    """The effect on the repeats of a row; None where they are too few."""
    return noise.effect(_repeats(base, what), _repeats(row, what))


def _repeats(row: LoadDocument, what: Figure) -> list[float]:
    """A figure of each repeat; files of before have none."""
    return [value for each in row.get("repeats", ()) if (value := each[what]) is not None]


def _tell(runs: Sequence[WrittenRun], rows: Sequence[Compared]) -> None:
    table = [("prompt", "run", "", "", "change")]
    for row in rows:
        base = _base(row, rows)
        first, total = row["first_token"], row["total"]
        of_first = _words(row["first_token_change"], base["first_token"], first)
        of_total = _words(row["total_change"], base["total"], total)
        seconds = "-" if first is None else f"{first:.3f} s"
        prompt, is_base = f"{row['prompt_tokens']} x{row['concurrency']}", row is base
        table.append(
            (prompt, one_line(row["run"]), "first token", seconds, "" if is_base else of_first)
        )
        table.append(("", "", "in total", _per_second(total), "" if is_base else of_total))
    screen.table(table)
    screen.say("prompt: its tokens, and how many at a time; in total: tokens/s of all together")
    least = f"{100 * noise.LEAST:.0f} %"
    screen.say(
        f"noise: may be less than {least}; intervals are sure to 95 %, so of 20 comparisons of the"
        " same one looks like a change all the same"
    )
    for line in _doubts(runs):
        screen.say(line)
    for line in _speed_ups(rows):
        screen.sentence(line)


def _doubts(runs: Sequence[WrittenRun]) -> list[str]:
    """Why a change of these runs need not be one of what was measured."""
    found = []
    answers = [f"{one_line(run['label'])} {run.get('max_tokens')}" for run in runs]
    if len({run.get("max_tokens") for run in runs}) > 1:
        found.append(f"not the same work: tokens per answer (--max-tokens): {', '.join(answers)}")
    wide = {one_line(run["label"]): most for run in runs if (most := _widest(run))}
    if wide:
        who = ", ".join(f"{label} ±{100 * most:.0f} %" for label, most in wide.items())
        found.append(
            f"not narrow: {who} at the most: a change may be other work of the machine; measure"
            " again when it is quiet"
        )
    return found


def _widest(run: WrittenRun) -> float:
    """The widest interval of a run's totals that are not narrow; older files have none."""
    rows = [row for row in run["rows"] if row.get("is_narrow") is False]
    return max((doubt for row in rows if (doubt := row.get("doubt"))), default=0.0)


def _per_second(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}/s"


def _base(row: Compared, rows: Sequence[Compared]) -> Compared:
    """The row that it is held against."""
    return next(each for each in rows if each["is_base"] and _key(each) == _key(row))


def _key(row: Compared) -> RowKey:
    return row["prompt_tokens"], row["concurrency"]


def _words(change: Effect | None, before: float | None, after: float | None) -> str:
    """A change as people read it; where repeats are too few it is said without an interval."""
    if change is None:
        if not before or after is None:
            return ""
        return f"{_percent(after / before)} (too few repeats to tell)"
    low, high = _percent(change["low"])[:-2], _percent(change["high"])
    if change["is_noise"]:
        return f"noise ({low} to {high})"
    return f"{_percent(change['ratio'])} ({low} to {high})"


def _percent(ratio: float) -> str:
    return f"{(ratio - 1) * 100:+.0f} %"


def _speed_ups(rows: Sequence[Compared]) -> list[str]:
    """More ranks against fewer, in a sentence per row."""
    lines = []
    for row in rows:
        base = _base(row, rows)
        change, one, two = row["total_change"], base["ranks"], row["ranks"]
        if change and one and two and one != two:
            lines.append(
                f"{row['prompt_tokens']} x{row['concurrency']}: {_speed_up(one, two, change)}"
            )
    return lines


def _speed_up(one: int, two: int, change: Effect) -> str:
    """What `two` ranks are against `one` rank; `change` is from the one to the other."""
    if one > two:
        change = noise.between(1 / change["ratio"], 1 / change["high"], 1 / change["low"])
    few, many = sorted((one, two))
    who = f"{counted(many, 'rank')} against {few}"
    if change["is_noise"]:
        return f"{who}: no faster, no slower, as far as can be seen"
    ratio = change["ratio"]
    speed = f"{ratio:.2f} times as fast ({change['low']:.2f} to {change['high']:.2f})"
    if ratio < 1:
        return f"{who}: {speed}: fewer ranks are faster"
    return f"{who}: {speed} of at most {many / few:.3g}"


def _named(run: WrittenRun, runs: Sequence[WrittenRun]) -> str:
    """A run's label, with MLX_METAL_FAST_SYNCH where they differ in it; older files don't tell."""
    label, synch = str(run["label"]), run.get("fast_synch")
    differs = len({str(each.get("fast_synch")) for each in runs}) > 1
    return f"{label} ({FAST_SYNCH} {synch})" if differs and isinstance(synch, str) else label


def _by_key(run: WrittenRun) -> dict[RowKey, LoadDocument]:
    return {(row["prompt_tokens_wanted"], row["concurrency"]): row for row in run["rows"]}


def load(file: str) -> WrittenRun:
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


def _is_run(data: object) -> TypeGuard[WrittenRun]:
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
    repeats = row.get("repeats", [])
    if not isinstance(repeats, list) or not all(isinstance(each, dict) for each in repeats):
        return False
    values += [each.get(what, "") for each in repeats for what in ("first_token", "total")]
    good = all(value is None or (_is_number(value) and value >= 0) for value in values)
    return good and all(type(each) is int for each in counts)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e12


def keep(
    cluster: Cluster, document: Mapping[str, object], documents: Sequence[LoadDocument]
) -> None:
    """Add a run to the history: all but the single requests; one that can't be kept is no error."""
    rows = [{k: v for k, v in row.items() if k != "samples"} for row in documents]
    try:
        path = _file(cluster)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**document, "rows": rows}) + "\n")
    except OSError as error:
        screen.say(f"warn: the history can't be written: {error.strerror}")


def _file(cluster: Cluster) -> Path:
    return Path(os.path.expanduser(cluster.folder)) / FILE


def history(cluster: Cluster, out: str | None) -> None:
    """All runs of the cluster from here, each row against the one before of its kind."""
    output_file.check(out)
    if not (runs := _kept(_file(cluster))):
        raise CheckFailed("no run of tp.bench is kept here: inv tp.bench makes the first one")
    if not envelope.given({"history": runs}):
        head, *rows = _history(runs)
        screen.table([head, *rows[-SHOWN:]])
    if out:
        output_file.write(out, plot.svg([(each["label"], each["rows"]) for each in runs[-DRAWN:]]))


def _kept(path: Path) -> list[WrittenRun]:
    """The runs of the history; a line that is none (of a disk that was full) is passed over."""
    found: list[WrittenRun] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            run: object = json.loads(line)
        except ValueError:
            continue
        if _is_run(run):
            found.append(run)
    return found


def _history(runs: Sequence[WrittenRun]) -> list[tuple[str, ...]]:
    last: dict[tuple[object, ...], LoadDocument] = {}
    has_commits = any(run.get("commit") for run in runs)
    commit = ["commit"] if has_commits else []
    rows: list[tuple[str, ...]] = [
        ("when", "label", *commit, "ranks", "model", "prompt", "total", "change")
    ]
    for run in runs:
        for key, row in _by_key(run).items():
            same = ("model", "ranks", "backend", "max_tokens")
            kind = (*(run.get(each) for each in same), key)
            change, speed = "", total(row)[0]
            if before := last.get(kind):
                change = _words(_change(before, row, "total"), total(before)[0], speed)
            last[kind] = row
            rows.append(
                (
                    str(run.get("date"))[:16].replace("T", " "),
                    one_line(str(run["label"])),
                    *([one_line(str(run["commit"]))] if has_commits else []),
                    f"{run.get('ranks')} {run.get('backend')}",
                    one_line(str(run.get("model"))).rpartition("/")[2],
                    f"{key[0]} x{key[1]}",
                    _per_second(speed),
                    change,
                )
            )
    return rows


def total(row: LoadDocument) -> tuple[float | None, str]:
    """What all requests of a row came to in a second, and of what."""
    tokens = row["tokens_per_second_total"]
    return (tokens, "tokens") if tokens else (row.get("pieces_per_second_total"), "pieces")
