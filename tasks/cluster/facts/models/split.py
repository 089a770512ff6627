"""How a model divides over ranks, by a node's own mlx_lm, and what its files say of themselves."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...ssh import scripts
from .. import FOLDER, Fact, Key
from . import model

SECONDS = 25  # a model of 1T takes under 5 on an idle node
TABLE_SECONDS = 80
TENSOR, PIPELINE = "tensor", "pipeline"


@dataclass(frozen=True)
class SplitRow:
    """The answer for `ranks` in a mode: "yes", "no" or "unknown", and why.

    `sizes` are the bytes of weights of each rank; `cache` pairs a window in tokens (None: all are
    kept) with the bytes that a rank keeps per token, `state` are bytes that it keeps in any case
    (of the rank that holds most). Nothing of this is there where the answer is not known.
    """

    ranks: int
    mode: str
    answer: str
    why: str = ""
    sizes: tuple[int, ...] = ()
    kv_heads: tuple[int, ...] = ()
    cache: tuple[tuple[int | None, int], ...] = ()
    state: int = 0

    def cached(self, tokens: int) -> int:
        """Bytes of a rank's cache that holds so many tokens."""
        return self.state + sum(min(tokens, most or tokens) * each for most, each in self.cache)

    def room(self, size: float, most: int) -> int:
        """How many tokens, up to `most`, a cache of `size` bytes holds."""
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.cached(middle) <= size else (low, middle - 1)
        return low


@dataclass(frozen=True)
class Weights:
    """`named` are the files that the index names, None where there is no index.

    `implied` is the size in bytes that each `*.safetensors` of the folder must have by its header,
    None where it has no header that can be read. `lost` is a tensor that the index names and its
    file has not, with the file; `lost_count` is how many there are.
    """

    named: frozenset[str] | None
    implied: Mapping[str, int | None]
    lost: tuple[str, str] | None = None
    lost_count: int = 0


@dataclass(frozen=True)
class Split:
    """What a node says of a model; `version` is its mlx-lm's, empty where that can't be asked.

    `layers` is how many the model has, `bare` which of them have no weights in the files, `context`
    the most tokens by config.json. It took `seconds`, unless it was `kept` from another time.
    """

    version: str
    kind: str
    layers: int
    bare: tuple[int, ...]
    context: int | None
    rows: tuple[SplitRow, ...]
    weights: Weights
    seconds: float = 0.0
    kept: bool = False

    def row(self, ranks: int, mode: str) -> SplitRow:
        # For one rank there is nothing to divide.
        fitting = [r for r in self.rows if r.ranks == ranks and (r.mode == mode or ranks == 1)]
        return fitting[0] if fitting else SplitRow(ranks, mode, "unknown", "it was not asked")


def parse(text: str, status: int) -> Split:
    """The line of JSON that facts/split.py prints."""
    if status == model.MISSING:
        raise ValueError("the model is not there")
    if status != 0:
        raise ValueError("python can't be asked")
    # What it warns of may come after.
    lines = [line for line in text.splitlines() if line.startswith("{")]
    try:
        said = _object(json.loads(lines[-1]))
        return Split(
            version=_text(said["mlx_lm"]),
            kind=_text(said["kind"]),
            layers=_whole(said["layers"]),
            bare=_wholes(said["bare"]),
            context=_maybe(said["context"]),
            rows=tuple(_row(_object(row)) for row in _list(said["rows"])),
            weights=_weights(said),
            seconds=_number(said["seconds"]),
            kept=said.get("kept") is True,
        )
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise ValueError("python gave no answer that can be read") from None


def _weights(said: Mapping[str, object]) -> Weights:
    named = said["named"]
    return Weights(
        named=None if named is None else frozenset(map(_text, _list(named))),
        implied={name: _maybe(size) for name, size in _object(said["implied"]).items()},
        lost=next(((_text(name), _text(file)) for name, file in _pairs(said["lost"])), None),
        lost_count=_whole(said["lost_count"]),
    )


def _row(said: Mapping[str, object]) -> SplitRow:
    if said["answer"] not in ("yes", "no", "unknown") or said["mode"] not in (TENSOR, PIPELINE):
        raise ValueError
    sizes = _wholes(said.get("bytes", []))
    if (sizes or said["answer"] == "yes") and len(sizes) != _whole(said["n"]):
        raise ValueError
    return SplitRow(
        ranks=_whole(said["n"]),
        mode=_text(said["mode"]),
        answer=_text(said["answer"]),
        why=_text(said["why"]),
        sizes=sizes,
        kv_heads=_wholes(said.get("kv_heads", [])),
        cache=tuple((_maybe(most), _whole(each)) for most, each in _pairs(said.get("cache", []))),
        state=_whole(said.get("state", 0)),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**60:
        raise ValueError
    return value


def _maybe(value: object) -> int | None:
    return None if value is None else _whole(value)


def _number(value: object) -> float:
    if not isinstance(value, (int, float)):
        raise ValueError
    return float(value)


def _wholes(value: object) -> tuple[int, ...]:
    return tuple(map(_whole, _list(value)))


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError
    return value


def _pairs(value: object) -> list[tuple[object, object]]:
    return [(one, two) for one, two in map(_list, _list(value))]


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError
    return value


KEY = Key[Split]("split")


def fact(
    path: str,
    cwd: str | None,
    python: str,
    state_dir: str,
    mode: str = TENSOR,
    ranks: Iterable[int] = (1,),
    env: Mapping[str, str] = model.NO_ENV,
) -> Fact[Split]:
    """Asks the node's `python`, started in `cwd` as its rank is, and keeps its answer there.

    Of one number of ranks what else would do is told where the answer is no; of several all, and
    in both modes.
    """
    words = [mode, *map(str, ranks)]
    text = scripts.script(
        "facts/split.sh",
        words,
        **model.values(path, cwd, python, env),
        ask=scripts.text("facts/split.py"),
        kept=scripts.text("facts/kept.py"),
        state_dir=state_dir,
        seconds=TABLE_SECONDS if len(words) > 2 else SECONDS,
    )
    return Fact(KEY, text, parse, FOLDER, is_raw=True)
