"""inv tp.bench --compare and --history: runs side by side, and what of a change is noise."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...cli import envelope, screen
from ...cluster.cluster import Cluster
from ...cluster.config.ranks import FAST_SYNCH, how_many
from ...cluster.errors import ActionFailed, BadInput, CheckFailed
from ...cluster.http import noise
from ...cluster.http.noise import Effect
from ...cluster.text import one_line
from ...drawing import plot

FORMAT = 1  # of the file
FILE = "bench.jsonl"  # the history, beside the cluster's logs here
SHOWN = 40  # rows of it
DRAWN = 6  # runs of it: as many as there are colours

Run = Mapping[str, Any]
Key = tuple[int, int]  # tokens of the prompts, requests at a time


def run(files: Sequence[str], out: str | None) -> None:
    """Runs side by side, the first one as the measure; with `out` also as a plot (SVG)."""
    if len(files) < 2:
        raise BadInput("--compare: give at least two files: --compare before.json,after.json")
    check_writable(out)
    runs = [load(file) for file in files]
    rows = _rows(runs)
    if envelope.current() is not None:
        told = ("label", "date", "model", "ranks", "backend", "fast_synch")
        heads = [{key: each.get(key) for key in told} for each in runs]
        envelope.give({"runs": heads, "compared": rows})
    else:
        _tell(runs, rows)
    if out:
        write(out, plot.svg(runs))


def _rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Each row of each run, with its change against the first run that has it."""
    found = []
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


def _change(base: Run, row: Run, what: str) -> dict[str, Any] | None:
    """The effect on the repeats of a row; None where they are too few."""
    found = noise.effect(_repeats(base, what), _repeats(row, what))
    return asdict(found) | {"is_noise": found.is_noise} if found else None


def _repeats(row: Run, what: str) -> list[float]:
    """A figure of each repeat; files of before have none."""
    return [each[what] for each in row.get("repeats", ()) if each[what] is not None]


def _tell(runs: Sequence[Run], rows: Sequence[Mapping[str, Any]]) -> None:
    table = [("prompt", "run", "", "", "change")]
    for row in rows:
        base = next(r for r in rows if r["is_base"] and _key(r) == _key(row))
        prompt, run = f"{row['prompt_tokens']} x{row['concurrency']}", one_line(row["run"])
        for what, key, words in _FIGURES:
            change = "" if row is base else _words(row[f"{key}_change"], base[key], row[key])
            value = "-" if row[key] is None else words.format(row[key])
            table.append((prompt, run, what, value, change))
            prompt = run = ""
    screen.table(table)
    screen.say("prompt: its tokens, and how many at a time; changes are sure to 95 %")
    for line in _speed_ups(rows):
        screen.out(line)


_FIGURES = (("first token", "first_token", "{:.3f} s"), ("in total", "total", "{:.1f}/s"))


def _key(row: Mapping[str, Any]) -> Key:
    return row["prompt_tokens"], row["concurrency"]


def _words(change: Mapping[str, Any] | None, before: float | None, after: float | None) -> str:
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


def _speed_ups(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """More ranks against fewer, in a sentence per row."""
    lines = []
    for row in rows:
        base = next(r for r in rows if r["is_base"] and _key(r) == _key(row))
        change, one, two = row["total_change"], base["ranks"], row["ranks"]
        if change and one and two and one != two:
            effect = Effect(change["ratio"], change["low"], change["high"])
            lines.append(
                f"{row['prompt_tokens']} x{row['concurrency']}: {_speed_up(one, two, effect)}"
            )
    return lines


def _speed_up(one: int, two: int, change: Effect) -> str:
    """What `two` ranks are against `one` rank; `change` is from the one to the other."""
    if one > two:
        change = Effect(1 / change.ratio, 1 / change.high, 1 / change.low)
    few, many = sorted((one, two))
    who = f"{how_many(many)} against {few}"
    if change.is_noise:
        return f"{who}: no faster, no slower, as far as can be seen"
    speed = f"{change.ratio:.2f} times as fast ({change.low:.2f} to {change.high:.2f})"
    if change.ratio < 1:
        return f"{who}: {speed}: fewer ranks are faster"
    return f"{who}: {speed} of at most {many / few:.3g}"


def _named(run: Run, runs: Sequence[Run]) -> str:
    """A run's label, with MLX_METAL_FAST_SYNCH where they differ in it; older files don't tell."""
    label, synch = str(run["label"]), run.get("fast_synch")
    differs = len({str(each.get("fast_synch")) for each in runs}) > 1
    return f"{label} ({FAST_SYNCH} {synch})" if differs and isinstance(synch, str) else label


def _by_key(run: Run) -> dict[Key, Mapping[str, Any]]:
    return {(row["prompt_tokens_wanted"], row["concurrency"]): row for row in run["rows"]}


def load(file: str) -> dict[str, Any]:
    """A file that --out has written; raise BadInput for what is none."""
    try:
        data = json.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"--compare {file}: can't be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise BadInput(f"--compare {file}: is no JSON: give a file that --out wrote") from None
    if not _is_run(data):
        raise BadInput(f"--compare {file}: is no run: give a file that inv tp.bench --out wrote")
    return dict(data)


def _is_run(data: Any) -> bool:
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        return False
    rows = data.get("rows")
    return isinstance(data.get("label"), str) and isinstance(rows, list) and all(map(_is_row, rows))


def _is_row(row: Any) -> bool:
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


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e12


def keep(cluster: Cluster, document: Run) -> None:
    """Add a run to the history: all but the single requests; one that can't be kept is no error."""
    rows = [{k: v for k, v in row.items() if k != "samples"} for row in document["rows"]]
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
    check_writable(out)
    runs = _kept(_file(cluster))
    if not runs:
        raise CheckFailed("no run of tp.bench is kept here: inv tp.bench makes the first one")
    if envelope.current() is not None:
        envelope.give({"history": runs})
    else:
        screen.table(_history(runs)[-SHOWN:])
    if out:
        write(out, plot.svg(runs[-DRAWN:]))


def _kept(path: Path) -> list[dict[str, Any]]:
    """The runs of the history; a line that is none (of a disk that was full) is passed over."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            run = json.loads(line)
        except ValueError:
            continue
        found += [run] if _is_run(run) else []
    return found


def _history(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    last: dict[tuple[object, ...], Run] = {}
    rows = []
    for run in runs:
        for key, row in _by_key(run).items():
            kind = (run.get("model"), run.get("ranks"), run.get("backend"), key)
            change, speed = "", total(row)[0]
            if before := last.get(kind):
                change = _words(_change(before, row, "total"), total(before)[0], speed)
            last[kind] = row
            rows.append(
                (
                    str(run.get("date"))[:16].replace("T", " "),
                    one_line(str(run["label"])),
                    *(
                        (one_line(str(run["commit"])),)
                        if any(r.get("commit") for r in runs)
                        else ()
                    ),
                    f"{run.get('ranks')} {run.get('backend')}",
                    one_line(str(run.get("model"))).rpartition("/")[2],
                    f"{key[0]} x{key[1]}",
                    "-" if speed is None else f"{speed:.1f}/s",
                    change,
                )
            )
    return rows


def total(row: Mapping[str, Any]) -> tuple[float | None, str]:
    """What all requests of a row came to in a second, and of what."""
    tokens = row["tokens_per_second_total"]
    return (tokens, "tokens") if tokens else (row.get("pieces_per_second_total"), "pieces")


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
