"""Where a key is: read from there, and never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.cluster.config.keys import KeyPlace, KeySource

SECRET = "sk-3cr3t"


@pytest.mark.parametrize(
    "value",
    [SECRET, f"env:{SECRET}", f"key:{SECRET}", "file:", 5, [SECRET], {"env": SECRET}, "env:"],
)
def test_what_is_no_place_may_be_a_key(value: object) -> None:
    with pytest.raises(
        ValueError, match=r"^tp.api_key is wrong: give env:NAME, file:PATH or"
    ) as error:
        KeyPlace().read(value, "tp.api_key")
    assert SECRET not in str(error.value)


def test_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_KEY", SECRET)
    file = tmp_path / "a key"
    file.write_text(f"{SECRET}\n")
    for value, shown in (
        ("env:MLX_KEY", "$MLX_KEY"),
        (f"file:{file}", f"$(cat '{file}')"),
        (f"command:cat '{file}'", f"$(cat '{file}')"),
    ):
        source = KeyPlace().read(value, "tp.api_key")
        assert source.key == SECRET
        assert source.shell == shown
    assert KeySource("file", "~/a b").shell == "$(cat ~/'a b')"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (KeySource("env", "MLX_NO_KEY"), r"\$MLX_NO_KEY is empty, or not set"),
        (KeySource("file", "/nowhere/key"), r"file:/nowhere/key can't be read \(No such file"),
        (KeySource("file", "~nobody-there/key"), "can't be read"),
        (KeySource("command", f"echo {SECRET} more"), "holds no key: one word of ASCII"),
        (KeySource("command", "exit 3"), "command:exit 3 ended with status 3"),
        (KeySource("command", "true"), "is empty"),
        (KeySource("file", "/dev/zero"), "holds no key"),  # of what has no end, a part is enough
    ],
)
def test_no_key(source: KeySource, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        _ = source.key


def test_it_is_asked_for_once(tmp_path: Path) -> None:
    """A vault may ask for a finger each time."""
    source = KeySource("command", f"echo >>{tmp_path}/asked; echo k")
    assert [source.key, source.key] == ["k", "k"]
    assert (tmp_path / "asked").read_text() == "\n"


def test_another_file_s_beginning_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("k" * 10**6)
    with pytest.raises(ValueError, match="holds no key"):
        _ = KeySource("file", str(tmp_path / "weights")).key
