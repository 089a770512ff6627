"""The settings table: every key of `tp`, `dev` and `local`, each a row here and said nowhere else.

A row is a field: its annotation says what a value may be (values.py), the rest is in `_row`. What
Invoke is told of the keys, the check of files and environment, options, their help and
docs/configuration.md are all made from it.
"""
# No annotations from __future__: they are read here, as they stand.

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path as Folder
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from . import values
from .keys import KeyPlace, KeySource
from .values import (
    SEE,
    Choice,
    Flag,
    Kind,
    Name,
    Number,
    Path,
    Patterns,
    Pause,
    Seconds,
    Text,
    Variables,
    Whole,
    Words,
)

if TYPE_CHECKING:
    from dataclasses import dataclass

    from .engine import Engine

T = TypeVar("T")
S = TypeVar("S", bound="Settings | DevSettings | LocalSettings")
Place = Callable[[str], str]  # `tp.timeout` -> where that stands, as `invoke.yaml: tp.timeout`

BACKENDS = ("jaccl", "jaccl-ring", "ring", "any")
DEFAULT = "default"  # the cluster's name where none is given
TAKEN = ("lock", "ready", "runs", "baseline", "sigkill")  # of ours, and of the layout before
ELSEWHERE = ("nccl", "mpi")  # MLX's, for other machines than Macs or by another launcher
NOT_HERE = f"MLX knows it, and it is not run here: choose one of {', '.join(BACKENDS)}"
COORDINATOR_PORT = 32323  # as mlx.launch has it

# About 350 GiB at 16 KiB pages: what a 512 GB Mac Studio has wired after a leak.
WIRED_PAGES = 23_000_000


class HostfilePath(Text):
    """A path that must not be empty: it would come to mean the default one."""

    unset: tuple[object, ...] = ()

    def read(self, value: object, where: str) -> str:
        if value in (None, ""):
            raise ValueError(f"{where} is empty: name a file, or leave it out")
        return super().read(value, where)


class Backend(Choice):
    """A backend that is run here; one that only MLX knows is told as that."""

    def read(self, value: object, where: str) -> str:
        if value in ELSEWHERE:
            raise ValueError(f"{where} {value}: {NOT_HERE}")
        return super().read(value, where)


class Engines(Kind):
    """Servers by name: of one's own, or changes to a built-in one."""

    takes = "names, each with its keys"
    unset: tuple[object, ...] = (None, {})

    def read(self, value: object, where: str) -> Mapping[str, "Engine"]:
        # Imported here: few have any, and looking around should not pay for it.
        from . import engine

        return engine.engines(value, where)


class ClusterName(Text):
    """The name of a cluster: its folder in the state directory has it."""

    takes = "letters, digits, - and _, at most 64, and no name of a file that is there already"

    def __init__(self, metavar: str = "") -> None:
        super().__init__(metavar, self.takes)

    def read(self, value: object, where: str) -> str:
        name = super().read(value, where)
        # On a Mac other case is no other name.
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name) or name.lower() in TAKEN:
            raise self.refuse(value, where)
        return name


class Clusters(Kind):
    """Clusters by name, each with the keys of `tp` that differ for it."""

    takes = "names, each with its keys"
    unset: tuple[object, ...] = (None, {})

    def read(self, value: object, where: str) -> Mapping[str, Mapping[str, object]]:
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} is wrong: give {self.takes}")
        seen: dict[str, str] = {}
        for name, keys in value.items():
            ClusterName().read(name, where)
            if (other := seen.setdefault(name.lower(), name)) != name:
                why = f"a Mac takes {other} and {name} for one folder"
                raise ValueError(f"{where} is wrong: give names that differ by more: {why}")
            if not isinstance(keys, Mapping) or {"cluster", "clusters"} & {*keys}:
                raise ValueError(f"{where}.{name} is wrong: give keys of tp and values: {SEE}")
            at = f"{where}.{name}"
            read(Settings, keys, lambda key, at=at: at + key[2:])  # type: ignore[misc]
        return value


def _row(
    default: T, help: str, option: str = "", hostfile: str = "", environment: bool = True
) -> T:
    """A setting: its default, its help, and where it may stand besides in a file."""
    more = {"help": help, "option": option, "hostfile": hostfile, "environment": environment}
    return dataclasses.field(default_factory=lambda: default, metadata=more)


if not TYPE_CHECKING:

    def dataclass(frozen):
        """Leave it to `read` to make the dataclass: what only lists tasks should not pay for it."""
        return lambda kind: kind


@dataclass(frozen=True)
class Settings:
    """What is below `tp`: the cluster, and how its server is run."""

    hostfile: Annotated[str, HostfilePath("FILE", "a path on one line")] = _row(
        "hosts/local.json",
        "MLX hostfile: JSON with hosts, ips and rdma; a path from here or from this project",
        option="hostfile",
    )
    hosts: Annotated[tuple[str, ...], Words("HOSTS", unset=(None, "", [], ()))] = _row(
        (), "hosts instead of a hostfile: a,b or repeated; rank 0 first", option="hosts"
    )
    ssh_config: Path | None = _row(
        None, "an ssh configuration to connect by instead of ~/.ssh/config"
    )
    backend: Annotated[str, Backend(*BACKENDS)] | None = _row(
        None,
        "jaccl, jaccl-ring, ring, or any: jaccl where all hosts have rdma rows, else ring",
        option="backend",
        hostfile="backend",
    )
    engine: Name | None = _row(
        None, "the server: mlx-lm, vllm-mlx, or one of tp.engines", "engine", "engine"
    )
    fast_synch: Annotated[str, Choice("unset", "on", "off")] = _row(
        "unset",
        "MLX_METAL_FAST_SYNCH of every rank: on may hang and wedge the GPU, without it the system's"
        " watchdog may end a rank that waits (--env goes over it)",
        option="fast_synch",
    )
    python: Path | None = _row(
        None, "python of the ranks on their nodes (an absolute path is best)", "python", "python"
    )
    cwd: Path | None = _row(None, "working directory of the ranks on their nodes", "cwd", "cwd")
    env: Annotated[tuple[str, ...], Variables("NAME=VALUE")] = _row(
        (),
        "NAME=value for every rank (repeat); on a node shown in no process list, log or record",
        option="env",
        hostfile="envs",
        environment=False,
    )
    keep_env: Annotated[bool, Flag()] = _row(
        False,
        "whether each node keeps the values of --env of its ranks (readable by its user alone) for"
        " tp.restart and tp.watch --restart, until a tp.stop",
    )
    args: Annotated[tuple[str, ...], Words("WORD")] = _row(
        (), "arguments for the server, before those after --", hostfile="args", environment=False
    )
    api_key: Annotated[KeySource, KeyPlace()] | None = _row(
        None,
        "where the server's key is, if it wants one of its clients: env:NAME, file:PATH, or"
        " command:LINE (as in command:op read op://vault/mlx/key); never the key itself",
    )
    other_models: Annotated[bool, Flag()] = _row(
        False,
        "whether the server loads another model where a request names one (all ranks wait for ever"
        " where one of them does not find it by that name); else that is a 404",
    )
    log_dir: Path | None = _row(
        None,
        "folder of the logs, on each node and here; without it they lie with their run in"
        " tp.state_dir, with links to them in /tmp",
        "log_dir",
    )
    keep_logs: Annotated[int, Whole("COUNT", 0, 1000)] = _row(
        5, "earlier runs whose logs are kept, on each node and here", "keep_logs"
    )
    log_limit: Annotated[int, Whole("MB", 0, 1_000_000)] = _row(
        256,
        "MB (of 1,000,000 bytes) that a rank's log may take on its node, and the combined log here,"
        " in two files each: older lines go (0: no limit)",
    )
    cluster: Annotated[str, ClusterName("NAME")] = _row(
        DEFAULT, "the cluster's name: what runs under another one is left alone", "cluster"
    )
    clusters: Annotated[Mapping[str, Mapping[str, object]], Clusters()] = _row(
        {}, "clusters by name, each with keys of tp that differ for it", environment=False
    )
    state_dir: Path = _row(
        "~/.mlx-tp", "folder of the clusters' state and of the audit log, on each node"
    )
    timeout: Seconds = _row(
        900.0,
        "seconds until a server that has given no token is stopped; while it reads weights they"
        " do not run",
        "timeout",
    )
    join_timeout: Seconds = _row(60.0, "seconds that a rank waits for the others to meet it")
    stop_timeout: Pause = _row(15.0, "seconds that ranks have to end before SIGKILL", "timeout")
    unload_limit: Pause = _row(
        180.0, "seconds that SIGKILL waits besides while a rank's memory still falls"
    )
    lock_wait: Pause = _row(
        0.0, "seconds to wait while another command holds the cluster; then exit 3", "lock_wait"
    )
    cooldown: Pause = _row(
        30.0, "seconds that a start over RDMA waits after a rank ended without clean-up"
    )
    wired_limit_gib: Annotated[float, Number("GIB")] = _row(
        round(WIRED_PAGES * 16384 / 1024**3, 1),
        "wired memory that preflight takes for a leak: 23,000,000 pages of 16 KiB;"
        " set it to suit your nodes",
    )
    starting_port: Annotated[int, Whole("PORT", 1, 65535)] = _row(
        COORDINATOR_PORT, "the coordinator's port, or the first of the ring's"
    )
    engines: Annotated[Mapping[str, "Engine"], Engines()] = _row(
        {}, "servers of your own, or changes to a built-in one", environment=False
    )


@dataclass(frozen=True)
class DevSettings:
    """What is below `dev`: the copy that dev.sync makes."""

    source: Path | None = _row(None, "folder here whose contents are copied", "source")
    target: Path | None = _row(
        None, "folder on the nodes; a relative one is in their user's home", "target"
    )
    exclude: Patterns = _row(
        (".git", "__pycache__", ".venv", "*.pyc", ".DS_Store"),
        "what to leave out (repeat): a name, or a path from /; an option adds to it",
        option="exclude",
        environment=False,
    )


@dataclass(frozen=True)
class LocalSettings:
    """What is below `local`: the test hosts of this machine."""

    base: Path = _row(str(Folder(__file__).parents[3] / ".rig"), "folder of the test hosts' files")


class SettingRow:
    """A setting as the table has it."""

    def __init__(self, space: str, key: str, hint: object, said: dataclasses.Field[object]) -> None:
        kind = values.kind(hint)
        assert kind, f"{space}.{key} is annotated with no kind of values.py"
        self.kind, self.key, self.name = kind, key, f"{space}.{key}"
        self.variable = f"INVOKE_{space}_{key}".upper()
        assert callable(said.default_factory), f"{self.name} was made by _row"
        self.default = said.default_factory()
        self.help: str = said.metadata["help"]
        self.option: str = said.metadata["option"]
        self.hostfile: str = said.metadata["hostfile"]
        self.environment: bool = said.metadata["environment"]

    @property
    def shown(self) -> str:
        """Give the default as one would write it, "" for none."""
        return "" if self.default == {} else values.shown(self.default)

    @property
    def invoke(self) -> object:
        """Give the default as Invoke wants it: a list takes no variable, and None takes any."""
        if self.environment:
            return self.default or None if self.kind.is_list else self.default
        return list(self.default) if isinstance(self.default, tuple) else self.default

    def read(self, value: object, where: str) -> object:
        """Give the value as its type is; raise ValueError with a line on what is wrong with it."""
        # The default is right, also where this checkout's path is no text here.
        is_default = value in self.kind.unset or value == self.default
        return self.default if is_default else self.kind.read(value, where)


def _rows(space: str, kind: type) -> dict[str, SettingRow]:
    hints = kind.__annotations__
    return {key: SettingRow(space, key, hint, vars(kind)[key]) for key, hint in hints.items()}


SPACES: dict[str, type[Settings | DevSettings | LocalSettings]] = {
    "tp": Settings,
    "dev": DevSettings,
    "local": LocalSettings,
}
ROWS = {space: _rows(space, kind) for space, kind in SPACES.items()}
DEFAULTS = {space: {key: row.invoke for key, row in ROWS[space].items()} for space in ROWS}


RANKS = Whole("RANKS", 1, 1024)  # -n is no setting: how many ranks is each command's to say


def option_name(name: str) -> str:
    """Give the option that a key or a parameter is on the command line."""
    return f"--{name.rpartition('.')[2].strip('_').replace('_', '-')}"


def read(kind: type[S], given: Mapping[str, object], place: Place = str) -> S:
    """Give the settings with what is `given` over the defaults; raise ValueError with its place."""
    if "__dataclass_fields__" not in vars(kind):
        dataclasses.dataclass(frozen=True)(kind)
    space = next(name for name, each in SPACES.items() if each is kind)
    rows = ROWS[space]
    for key in given:
        if key not in rows:
            raise ValueError(_unknown(place(f"{space}.{key}"), key, {each: each for each in rows}))
    made: dict[str, Any] = {
        key: rows[key].read(each, place(f"{space}.{key}")) for key, each in given.items()
    }
    return kind(**made)


def check(
    defaults: Mapping[str, object],
    given: Mapping[str, object],
    environ: Mapping[str, str],
    place: Place = str,
) -> None:
    """Raise ValueError for what Invoke, or a task, could make no configuration of.

    `given` is what files say; it is laid over `defaults`, and then
    `INVOKE_*` of `environ` is. Invoke itself would end with a traceback that shows the values, and
    pass over a variable that it can't tell.
    """
    for line in chain(_kinds(defaults, given, "", place), _variables(defaults, given, environ)):
        raise ValueError(line)
    for space, kind in SPACES.items():
        read(kind, _over(_keys(defaults, space), _keys(given, space)), place)


def unreadable(error: BaseException, file: str | None = None, key: str | None = None) -> str:
    """Why a configuration file can't be read, in a line that shows no value of it."""
    # A YAML error tells file and line by its marks; it has no other text of the file.
    if isinstance(getattr(error, "problem", None), str):
        return f"a configuration file is no YAML: {error}"
    place = ": ".join(filter(None, (file or "a configuration file", key)))
    if isinstance(error, AttributeError) or "Merge" in type(error).__name__:
        return f"{place} has a value where it should have keys, or none: {SEE}"
    return f"{file or 'a configuration file'} can't be read: {error}"


def _unknown(where: str, key: str, known: Mapping[str, str]) -> str:
    """The line for a key that there is not; `known` has what to write for each that there is."""
    close = difflib.get_close_matches(key, known, 1)
    return f"{where} is unknown: {f'did you mean {known[close[0]]}?' if close else SEE}"


def _kinds(defaults: Mapping[str, object], given: object, path: str, place: Place) -> Iterator[str]:
    """What Invoke can't merge: keys that are no text, a value in place of keys or keys of one."""
    if not isinstance(given, Mapping):
        yield f"{place(path[:-1])} is wrong: give keys and values: {SEE}"
        return
    for key, value in given.items():
        if not isinstance(key, str):
            yield f"{place(f'{path}{key}')}: write the key in quotes"
        elif isinstance(defaults.get(key, value), Mapping):
            yield from _kinds(_keys(defaults, key), value, f"{path}{key}.", place)
        elif isinstance(value, Mapping):
            yield f"{place(f'{path}{key}')} is wrong: it has no keys of its own: {SEE}"


def _variables(
    defaults: Mapping[str, object], given: Mapping[str, object], environ: Mapping[str, str]
) -> Iterator[str]:
    for space in defaults:
        keys = _keys(defaults, space)
        prefix = f"INVOKE_{space.upper()}_"
        for name in sorted(name for name in environ if name.startswith(prefix)):
            key = name[len(prefix) :].lower()
            value = _keys(given, space).get(key, keys.get(key))
            row = ROWS.get(space, {}).get(key)
            if row and row.environment:
                row.read(environ[name], name)
            if key in keys:
                yield from _castable(name, environ[name], value)
            elif not key.startswith("engines_"):
                known = {each: f"{prefix}{each}".upper() for each in keys}
                yield _unknown(name, key, known)


def _castable(name: str, text: str, value: object) -> Iterator[str]:
    """What Invoke can't make of a variable: it casts it to the type of the value so far."""
    if isinstance(value, (list, tuple, Mapping)):
        yield f"{name}: only a file can give it: write it into invoke.yaml"
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            type(value)(text)
        except ValueError:
            what = "a whole number" if isinstance(value, int) else "a number"
            yield f"{name} {text}: give {what}, as the configuration has there"


def _keys(config: Mapping[str, object], name: str) -> Mapping[str, object]:
    """The keys below `name`; none where it is not there."""
    found = config.get(name, {})
    return found if isinstance(found, Mapping) else {}


def _over(base: Mapping[str, object], top: Mapping[str, object]) -> dict[str, object]:
    """What Invoke makes of two layers: keys of both are merged all the way down."""
    merged = [key for key in base if isinstance(top.get(key), Mapping)]
    both = {key: _over(_keys(base, key), _keys(top, key)) for key in merged}
    return {**base, **top, **both}
