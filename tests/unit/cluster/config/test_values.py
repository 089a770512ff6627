"""Kinds of values: what each takes, from text and from YAML, and what it says of the rest."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.cluster.config import values
from tasks.cluster.config.values import (
    Choice,
    Kind,
    Number,
    Text,
    Variables,
    Whole,
    Wholes,
    Words,
    env_error,
    kind,
)

SECONDS = Number("SECONDS", 0.001)
LINES = Whole("LINES")
PORT = Whole("PORT", 1, 65535)
COUNTS = Wholes("COUNTS", 1, 256)
SPLIT, WHOLE = Words("NAMES", split=True), Words("WORDS")

GOOD: list[tuple[Kind, object, object]] = [
    (SECONDS, "0.5", 0.5),
    (SECONDS, " 600 ", 600.0),
    (SECONDS, 600, 600.0),
    (SECONDS, 0.25, 0.25),
    (LINES, "0", 0),
    (LINES, 5.0, 5),
    (PORT, "65535", 65535),
    (COUNTS, "1,2,4", (1, 2, 4)),
    (COUNTS, (1, 2), (1, 2)),
    (Text(), "a b", "a b"),
    (Choice("leader", "all"), "all", "all"),
    (SPLIT, ["a,b", " c "], ("a", "b", "c")),
    (SPLIT, "a,,b", ("a", "b")),
    (WHOLE, ["a,b", 5, 0.5], ("a,b", "5", "0.5")),
    (WHOLE, "a,b", ("a,b",)),
    (WHOLE, [], ()),
    (Variables("NAME=VALUE"), ["A=1", "B=a,b=c"], ("A=1", "B=a,b=c")),
]
BAD: list[tuple[Kind, object, str]] = [
    (SECONDS, "soon", "--x soon: give a number above 0"),
    (SECONDS, "0", "--x 0: give a number above 0"),
    (SECONDS, "-1", "--x -1: give a number above 0"),
    (SECONDS, "1e3", "--x 1e3: give a number above 0"),
    (SECONDS, "inf", "--x inf: give a number above 0"),
    (SECONDS, float("nan"), "--x nan: give a number above 0"),
    (SECONDS, True, "--x True: give a number above 0"),
    (SECONDS, None, "--x None: give a number above 0"),
    (SECONDS, "\u0665", "--x \u0665: give a number above 0"),
    (SECONDS, ["sk-secret"], "--x: give a number above 0"),
    (SECONDS, {"sk-secret": 1}, "--x is wrong: it has no keys of its own"),
    (Number("SECONDS", 0.1), 0, "--x 0: give a number of 0.1 or more"),
    (Number("GIB"), 10**400, ": give a number of 0 or more"),
    (LINES, "1.5", "--x 1.5: give a whole number of 0 or more"),
    (PORT, "70000", "--x 70000: give a number from 1 to 65535"),
    (COUNTS, "1,,2", "--x 1,,2: a number is missing"),
    (COUNTS, "2,2", "--x 2,2: a number is there twice"),
    (Text(), "a\x1bb", "--x 'a\\x1bb': give text on one line"),
    (Text(), 5, "--x 5: give text on one line"),
    (Text("PATH", "a path on one line"), ["a"], "--x: give a path on one line"),
    (Text("PATH", "a path on one line"), " ", "--x is empty: give a path on one line"),
    (Number("SECONDS"), "", "--x is empty: give a number of 0 or more, in seconds"),
    (Choice("leader", "all"), "ALL", "--x ALL: choose leader or all"),
    (Choice("a", "b", "c"), 5, "--x 5: choose one of a, b, c"),
    (WHOLE, {"KEY": "sk-secret"}, "--x is wrong: give a list of strings"),
    (WHOLE, [["sk-secret"]], "--x is wrong: give a list of strings"),
    (WHOLE, None, "--x is wrong: give a list of strings"),
    (Variables("NAME=VALUE"), ["KEY: sk-secret"], "--x: 'KEY' is no NAME=value: give it as"),
]


@pytest.mark.parametrize(("kind", "value", "found"), GOOD)
def test_good(kind: Kind, value: object, found: object) -> None:
    read = kind.read(value, "--x")
    assert (read, type(read)) == (found, type(found))
    assert kind.read(read, "--x") == found  # a hook may be given what is read already


@pytest.mark.parametrize(("kind", "value", "says"), BAD)
def test_bad(kind: Kind, value: object, says: str) -> None:
    with pytest.raises(ValueError, match="--x") as error:
        kind.read(value, "--x")
    assert says in str(error.value)
    assert "sk-secret" not in str(error.value)


@given(st.floats(0.001, 1e9))
def test_any_number(number: float) -> None:
    assert SECONDS.read(number, "") == number


NESTED = Annotated[float, "else", SECONDS]


@pytest.mark.parametrize(
    ("hint", "found"),
    [
        (Annotated[float, SECONDS], SECONDS),
        (NESTED, SECONDS),
        (Annotated[float, SECONDS] | None, SECONDS),
        (Annotated["tuple[str, ...]", SPLIT], SPLIT),
        (values.Seconds | None, get_args(values.Seconds)[1]),
        (str | None, None),
        ("tuple[str, ...]", None),
        (float, None),
        (None, None),
    ],
)
def test_kind_of_an_annotation(hint: Any, found: object) -> None:
    assert kind(hint) is found


def test_a_literal_is_a_choice() -> None:
    made = kind(Literal["leader", "all"])
    assert isinstance(made, Choice)
    assert made.read("all", "") == "all"


@pytest.mark.parametrize(
    ("pair", "says"),
    [
        ("A=b", None),
        ("A=", None),
        ("_a1=b=c", None),
        ("A=b\nc", None),
        ("A='\"$(x)`", None),
        ("A", "'A' is no NAME=value"),
        ("", "'' is no NAME=value"),
        ("=b", "'' is no NAME=value"),
        ("1A=b", "'1A' is no NAME=value"),
        ("A B=c", "'A' is no NAME=value"),
        ("A-B=c", "'A' is no NAME=value"),
        ("A\n=c", "'A' is no NAME=value"),
        ("É=c", "'É' is no NAME=value"),
        ("A=b\0", "the value of A can't hold a NUL"),
    ],
)
def test_env_error(pair: str, says: str | None) -> None:
    assert env_error(pair) == says
