"""The settings table: its rows, and every way in which what is said of them may be wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.cluster.cluster import build
from tasks.cluster.config.settings import (
    DEFAULTS,
    ROWS,
    SPACES,
    DevSettings,
    SettingRow,
    Settings,
    check,
    option_name,
    read,
    unreadable,
)
from tasks.cluster.errors import BadInput
from tasks.cluster.text import one_line

ALL = [row for rows in ROWS.values() for row in rows.values()]
IN_VARIABLES = [row for row in ALL if row.environment]
OPTIONS = [row for row in ALL if row.option == row.key and row.name.startswith("tp.")]
SECRET = "sk-secret"

TEXTS = st.one_of(st.text(), st.sampled_from(["", "0", "-1", "1e3", "nan", "a,b", "1.5", "99999"]))
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS)
VALUES = st.recursive(
    SCALARS,
    lambda each: st.lists(each) | st.dictionaries(TEXTS | st.integers(), each),
    max_leaves=5,
)
OUT = r": (give|choose|write|name|see|only|it has|a number)|unknown|is no "  # the way out


def names(rows: list[SettingRow]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", rows, ids=[row.name for row in rows])


def in_file(name: str) -> str:
    return f"my.yaml: {name}"


def judged(place: str, act: Any) -> None:
    """It is taken, or one line says what is wrong, and begins with where."""
    try:
        act()
    except ValueError as error:
        line = one_line(str(error))
        assert line.startswith(place)
        assert re.search(OUT, line)


# Of each row a few: the kinds of values are shared, and so thousands are drawn of each.
@names(ALL)
@settings(max_examples=30)
@given(value=VALUES)
def test_any_value_in_a_file(row: SettingRow, value: object) -> None:
    space = row.name.partition(".")[0]
    given = {space: {row.key: value}}
    judged(in_file(row.name), lambda: check(DEFAULTS, given, {}, in_file))


@names(IN_VARIABLES)
@settings(max_examples=25)
@given(text=TEXTS)
def test_any_text_in_a_variable(row: SettingRow, text: str) -> None:
    judged(row.variable, lambda: check(DEFAULTS, {}, {row.variable: text}, in_file))


@names(OPTIONS)
@settings(max_examples=25)
@given(value=st.one_of(TEXTS, st.lists(TEXTS, max_size=2)))
def test_any_value_of_an_option(row: SettingRow, value: object) -> None:
    def read_it() -> None:
        read(Settings, {row.key: value}, option_name)

    judged(option_name(row.name), read_it)


@names([row for row in ALL if not row.environment])
def test_a_list_comes_from_a_file_only(row: SettingRow) -> None:
    with pytest.raises(ValueError, match=f"^{row.variable}: only a file can give it"):
        check(DEFAULTS, {}, {row.variable: SECRET})


@pytest.mark.parametrize("key", ["env", "args"])
@pytest.mark.parametrize(
    "value", [{"KEY": SECRET}, [{"KEY": SECRET}], [[SECRET]], [{SECRET: 1}, 5], 5.5, None]
)
def test_no_secret_is_shown(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^my\.yaml: tp\.{key} is wrong: ") as error:
        check(DEFAULTS, {"tp": {key: value}}, {}, in_file)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("value", [f"KEY: {SECRET}", SECRET, f"A B={SECRET}", f"={SECRET}"])
def test_no_secret_of_a_variable_is_shown(value: str) -> None:
    with pytest.raises(ValueError, match=r"^my\.yaml: tp\.env: '\w*' is no NAME=value") as error:
        check(DEFAULTS, {"tp": {"env": [value]}}, {}, in_file)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"tp": {"timout": 5}}, "my.yaml: tp.timout is unknown: did you mean timeout?"),
        ({"tp": {"xyz": 5}}, "my.yaml: tp.xyz is unknown: see docs/configuration.md"),
        ({"dev": {"sorce": "x"}}, "my.yaml: dev.sorce is unknown: did you mean source?"),
        ({"local": {"bases": "x"}}, "my.yaml: local.bases is unknown: did you mean base?"),
        ({"tp": {1: 2}}, "my.yaml: tp.1: write the key in quotes"),
        ({"tp": None}, "my.yaml: tp is wrong: give keys and values"),
        ({"tp": {"log_dir": {"a": 1}}}, "my.yaml: tp.log_dir is wrong: it has no keys of its own"),
        ({"tp": {"engines": 5}}, "my.yaml: tp.engines is wrong: give keys and values"),
        ({"tp": {"engines": {"x": 5}}}, "my.yaml: tp.engines.x: give command"),
        ({"tp": {"engines": {"mlx-lm": {"redy": "/"}}}}, "my.yaml: tp.engines.mlx-lm.redy is unk"),
        ({"mine": {"key": {"a": 1}}}, "my.yaml: mine.key is wrong: it has no keys of its own"),
        ({"mine": 5}, "my.yaml: mine is wrong: give keys and values"),
    ],
)
def test_wrong_keys(given: Mapping[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=r"^my\.yaml: ") as error:
        check({**DEFAULTS, "mine": {"key": 5}}, given, {}, in_file)
    assert str(error.value).startswith(says)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("INVOKE_TP_TIMOUT", "5", "INVOKE_TP_TIMOUT is unknown: did you mean INVOKE_TP_TIMEOUT?"),
        ("INVOKE_DEV_XYZ", "5", "INVOKE_DEV_XYZ is unknown: see docs/configuration.md"),
        ("INVOKE_TP_HOSTS", "a,b", "INVOKE_TP_HOSTS: only a file can give it"),
        ("INVOKE_TP_COOLDOWN", "1.5", "INVOKE_TP_COOLDOWN 1.5: give a whole number"),
        ("INVOKE_MINE_KEY", "x", "INVOKE_MINE_KEY x: give a whole number"),
    ],
)
def test_wrong_variables(name: str, text: str, says: str) -> None:
    """Also what Invoke could not cast to the type that a file or another collection has there."""
    files = {"tp": {"hosts": ["a"], "cooldown": 30}}
    with pytest.raises(ValueError, match=name) as error:
        check({**DEFAULTS, "mine": {"key": 5}}, files, {name: text})
    assert str(error.value).startswith(says)


def test_a_layer_completes_another() -> None:
    """An engine that a task file defines may be changed in a configuration file."""
    engine = {"mine": {"command": ["-m", "my"], "env": {"A": "1"}}}
    below = {**DEFAULTS, "tp": {**DEFAULTS["tp"], "engines": engine}}
    check(below, {"tp": {"engines": {"mine": {"ready": "/up", "env": {"B": "2"}}}}}, {})
    with pytest.raises(ValueError, match=r"^tp.engines.mine.ready: give text"):
        check(below, {"tp": {"engines": {"mine": {"ready": 5}}}}, {})


def test_defaults_are_good() -> None:
    check(DEFAULTS, {}, {})
    for space, kind in SPACES.items():
        assert read(kind, DEFAULTS[space]) == read(kind, {}) == kind()


def test_read() -> None:
    found = read(Settings, {"timeout": "0.5", "hosts": "a", "env": ["A=1"], "log_dir": ""})
    assert (found.timeout, found.hosts, found.env, found.log_dir) == (0.5, ("a",), ("A=1",), None)
    assert read(DevSettings, {"exclude": []}).exclude == ()


def test_build_reads_options_by_the_table() -> None:
    with pytest.raises(BadInput, match=r"^--keep-logs x: give a number from 0 to 1000$"):
        build({}, hosts=["mac1"], keep_logs="x")
    with pytest.raises(BadInput, match=r"^tp.timout is unknown: did you mean timeout\?$"):
        build({"timout": 5}, hosts=["mac1"])
    made = build({"lock_wait": 5, "wired_limit_gib": 2}, hosts=["10.0.0.1"], lock_wait="0.5")
    assert (made.lock_wait, made.wired_limit, made.timeout) == (0.5, 2 * 1024**3, 900)


@names(ALL)
def test_rows_are_whole(row: SettingRow) -> None:
    assert row.help
    assert not row.help.endswith(".")
    assert row.kind.metavar or row.kind.takes
    assert row.environment or row.kind.is_list or row.key in ("engines", "clusters")


def test_the_table_is_the_settings() -> None:
    for space, kind in SPACES.items():
        assert list(ROWS[space]) == [each.name for each in fields(kind)]
    assert math.isclose(Settings().wired_limit_gib, 351.0, abs_tol=0.1)


def test_unreadable_shows_no_value() -> None:
    assert SECRET not in unreadable(AttributeError(f"{SECRET} has no attribute items"))


def test_names_of_clusters_are_told_apart_where_case_is_ignored() -> None:
    assert read(Settings, {"clusters": {"lab": {}, "Lab2": {}}}, option_name)
    with pytest.raises(ValueError, match="takes lab and Lab for one folder"):
        read(Settings, {"clusters": {"lab": {}, "Lab": {}}}, option_name)
    with pytest.raises(ValueError, match="letters, digits"):
        read(Settings, {"cluster": "Ready"}, option_name)
