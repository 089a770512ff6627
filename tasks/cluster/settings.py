"""Every key of `tp` in the configuration, with its default; docs/configuration.md explains them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

COORDINATOR_PORT = 32323  # as mlx.launch has it

# About 350 GiB at 16 KiB pages: what a 512 GB Mac Studio has wired after a leak.
WIRED_PAGES = 23_000_000

DEFAULTS: dict[str, Any] = {
    "hostfile": "hosts/local.json",
    "hosts": None,
    "ssh_config": None,
    "backend": None,
    "engine": None,
    "engines": {},
    "python": None,
    "cwd": None,
    "env": [],
    "args": [],
    "log_dir": "/tmp",
    "keep_logs": 5,
    "state_dir": "~/.mlx-tp",
    "timeout": 600,
    "stop_timeout": 15,
    "lock_wait": 0,
    "cooldown": 30,
    "wired_limit_gib": round(WIRED_PAGES * 16384 / 1024**3, 1),
    "starting_port": COORDINATOR_PORT,
}


def wrong(defaults: Mapping[str, Any], given: Any, environ: Mapping[str, str]) -> str | None:
    """What Invoke can't make one configuration of, as a line that names the key, or None.

    `given` is what files say (Invoke's Config, or a mapping); it is laid over `defaults`, and then
    `INVOKE_*` of `environ` is. Invoke itself would end with a traceback that shows the values, and
    pass over a variable that it can't tell.
    """
    files = {key: value for key in defaults if (value := given.get(key, _ABSENT)) is not _ABSENT}
    return next(chain(_kinds(defaults, files, ""), _variables(defaults, files, environ)), None)


def unreadable(error: BaseException) -> str:
    """Why a configuration file can't be read, in a line that shows no value of it."""
    # A YAML error tells file and line by its marks; it has no other text of the file.
    if isinstance(getattr(error, "problem", None), str):
        return f"a configuration file is no YAML: {error}"
    if isinstance(error, AttributeError) or "Merge" in type(error).__name__:
        return f"a configuration file has a value where it should have keys, or none: {_SEE}"
    return f"a configuration file can't be read: {error}"


_ABSENT = object()
_SEE = "see docs/configuration.md"


def _kinds(defaults: Mapping[str, Any], given: Any, path: str) -> Iterator[str]:
    if not isinstance(given, Mapping):
        yield f"{path[:-1]} in the configuration is wrong: give keys and values: {_SEE}"
        return
    for key, value in given.items():
        if not isinstance(key, str):
            yield f"{path}{key} in the configuration: write the key in quotes"
        elif isinstance(defaults.get(key, value), Mapping):
            yield from _kinds(defaults.get(key, {}), value, f"{path}{key}.")
        elif isinstance(value, Mapping):
            yield f"{path}{key} in the configuration is wrong: it has no keys of its own: {_SEE}"


def _variables(
    defaults: Mapping[str, Any], given: Mapping[str, Any], environ: Mapping[str, str]
) -> Iterator[str]:
    for space, keys in defaults.items():
        prefix = f"INVOKE_{space.upper()}_"
        for name in sorted(name for name in environ if name.startswith(prefix)):
            key = name[len(prefix) :].lower()
            value = given.get(space, {}).get(key, keys.get(key))
            if key in keys:
                yield from _castable(name, environ[name], value)
            elif not key.startswith("engines_"):
                yield f"{name} in the environment is unknown: {_SEE}"


def _castable(name: str, text: str, value: Any) -> Iterator[str]:
    if isinstance(value, (list, tuple, Mapping)):
        yield f"{name} in the environment: only a file can give it: write it into invoke.yaml"
    elif type(value) in (int, float):
        try:
            type(value)(text)
        except ValueError:
            what = "a whole number" if type(value) is int else "a number"
            yield f"{name} in the environment is {text!r}: give {what}"
