"""Which server a rank runs: its command, readiness and how it is known among processes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..text import LINE
from .values import NAME

# A process is a server only if its program is a Python that runs it: mlx.launch, its bash wrapper,
# its ssh client and an editor carry the same words in their arguments. An absolute path may hold
# spaces, but a space before "-" or "/" begins the next argument. Ours run through their entry.
_PROGRAM = re.compile(r"(.*/)?[Pp]ython[0-9.]*t?$")
_PYTHON = r"([^ ]*/|/((?! [-/])[^;&|'\"])*/)?[Pp]ython[0-9.]*t?( -[XW] [^ -][^ ]*| -[^ ]+)*? "
_ENTRY = r"(/[^;&|'\"]*/runs/[0-9A-Za-z]+/entry\.py )?"


@dataclass(frozen=True)
class Refusal:
    """An option that an engine refuses on more than `ranks` ranks; `source` is where it says so.

    Where `unless` is given, the option is refused only with a value that has not got that in it.
    """

    option: str
    ranks: int
    why: str
    fix: str
    source: str
    unless: str = ""

    def meets(self, args: Sequence[str], size: int) -> bool:
        value = option(args, self.option)
        is_given = value is not None or self.option in args
        return is_given and size > self.ranks and not (self.unless and self.unless in (value or ""))


@dataclass(frozen=True)
class Engine:
    """A server that can run as ranks.

    `command` follows the python; `ready` is the page that answers 200 once it serves; `process`
    is a regular expression on the command line after the python; `model` is the name it takes for
    "the model that is loaded"; `env` may hold `{backend}`; `defaults` are arguments added where
    the user gave none; `prepare` is /bin/sh text run before it, in its environment. `entry` is
    "module" where its ranks are started through remote/entry.py, "none" where they are not.
    `stop_signal` (TERM or INT) is what rank 0 ends by in order. `single` is the command of a rank
    that is alone, where that is another one, and `runs_with` the versions of packages (major.minor)
    that it runs with, where these are known.
    """

    name: str
    command: tuple[str, ...]
    ready: str
    process: str
    model: str = "default"
    env: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    prepare: str = ""
    entry: str = "module"
    stop_signal: str = "TERM"
    single: tuple[str, ...] = ()
    runs_with: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()

    def words(self, size: int) -> tuple[str, ...]:
        """What follows the python of each of `size` ranks."""
        return self.single if self.single and size == 1 else self.command

    def refuses(self, args: Sequence[str], size: int) -> list[Refusal]:
        """What it refuses of the arguments on `size` ranks, once it has loaded its model."""
        return [each for each in self.refusals if each.meets(args, size)]

    def unfit(self, versions: Mapping[str, str]) -> tuple[str, str] | None:
        """What is wrong with installed versions and what to do, None where they will do."""
        for package, fit in self.runs_with.items():
            found = versions.get(package, "")
            if re.match(r"\d", found) and not found.startswith(tuple(f"{each}." for each in fit)):
                takes = " or ".join(fit)
                fix = f"install {package} {takes}.x there, or choose --python"
                return f"{self.name} runs with {package} {takes}, not {found}", fix
        return None

    @property
    def has_entry(self) -> bool:
        """Whether its ranks leave marks: only what is a Python module can be run by our entry."""
        return self.entry == "module" and self.command[:1] == ("-m",)

    @property
    def keeps_to_model(self) -> bool:
        """Whether its ranks' entry keeps it to the model that it has loaded (remote/served.py)."""
        return self.has_entry and self.has_mlx_lm

    @property
    def divides_by_mlx_lm(self) -> bool:
        """Whether the ranks load by mlx_lm's sharded_load: its answer is theirs."""
        return self.command[:2] in (("-m", "mlx_lm"), ("-m", "mlx_lm.server"))

    @property
    def has_mlx_lm(self) -> bool:
        """Whether its python has mlx_lm, and can be asked what that makes of a model."""
        return self.divides_by_mlx_lm or self.command[:2] == VLLM_MLX.command[:2]

    def is_server(self, program: str, command_line: str) -> bool:
        """Whether a process is a rank of this engine (`ps -o comm=` and `ps -o command=`)."""
        # Most are none, and a regular expression takes long to say so.
        if "ython" not in command_line:
            return False
        command_line = command_line[:LINE]
        # On Linux a script's process is named after the script, not after its Python.
        script = rf"{_PYTHON}([^ ]*/)?{re.escape(program)}"
        if not _PROGRAM.match(program) and not (program and re.match(script, command_line)):
            return False
        return re.match(f"{_PYTHON}{_ENTRY}({self.process})", command_line) is not None

    def arguments(self, args: Sequence[str], model: str | None, host: str) -> tuple[str, ...]:
        """The server's arguments: the user's, and the defaults that they leave open."""
        wanted = {**self.defaults}
        if "--host" in wanted:
            wanted["--host"] = host
        if model:
            wanted["--model"] = model
        missing = [(key, value) for key, value in wanted.items() if option(args, key) is None]
        given = (word for each in args for word in _apart(each))
        return (*given, *(word for pair in missing for word in pair))


_ONE_RANK = "not supported on more than one rank"
_LM_SERVER = "mlx_lm/server.py of 0.32.2: ModelProvider"
MLX_LM = Engine(
    name="mlx-lm",
    command=("-m", "mlx_lm", "server"),
    ready="/health",
    process=r"(-m mlx_lm[. ]server|[^ ]*/mlx_lm\.server)( |$)",
    model="default_model",
    # It catches KeyboardInterrupt alone (0.32.2): rank 0 then ends its threads and leaves in order,
    # in 0.3 to 1.5 s, and rank 1 after it; of SIGTERM it dies at once.
    stop_signal="INT",
    # mlx_lm.server's own defaults are port 8080 and 127.0.0.1.
    defaults={"--port": "8000", "--host": ""},
    # Without this folder its GET /v1/models drops the connection (0.32.2).
    prepare='hub=$(hub_cache); [ -d "$hub" ] || mkdir -p "$hub"',  # remote/hub.sh
    refusals=(
        Refusal("--adapter-path", 1, _ONE_RANK, "fuse it: mlx_lm.fuse (or -n 1)", _LM_SERVER),
        Refusal("--draft-model", 1, _ONE_RANK, "leave it out (or -n 1)", _LM_SERVER),
        Refusal(
            "--chat-template",
            0,
            "mlx_lm.server takes the template itself, not its file",
            '-- --chat-template "$(cat FILE)"',
            _LM_SERVER,
            unless="{",
        ),
    ),
)
VLLM_MLX = Engine(
    name="vllm-mlx",
    command=("-m", "vllm_mlx.distributed_launcher"),
    ready="/v1/models",
    process=r"(-m vllm_mlx\.(distributed_launcher|server)"
    r"|[^ ]*/vllm_mlx/distributed_launcher\.py)( |$)",
    env={"MLX_DISTRIBUTED_BACKEND": "{backend}"},
    single=("-m", "vllm_mlx.server"),
    # With mlx 0.32 rank 1 dies ("_process_prompts", "no Stream(cpu, 0) in current thread").
    runs_with={"mlx": ("0.30", "0.31"), "mlx-lm": ("0.30",)},
    refusals=(
        Refusal("--mllm", 1, _ONE_RANK, "leave it out", "vllm_mlx/cli_args.py of develop e01f24f"),
    ),
)
BUILT_IN = {engine.name: engine for engine in (MLX_LM, VLLM_MLX)}


def engines(configured: object, where: str = "tp.engines") -> dict[str, Engine]:
    """The built-in engines and those of `tp.engines`, which is at `where`; raise ValueError."""
    if not isinstance(configured, Mapping):
        raise ValueError(f"{where}: give each engine's name and settings")
    own = {str(key): _configured(f"{where}.{key}", str(key), configured[key]) for key in configured}
    return {**BUILT_IN, **own}


# Options with paths, whose leading ~ is the home on the node: where they stand as NAME=VALUE a
# shell leaves it, vllm-mlx's launcher does not find its model, and a node has no word that is one.
_PATHS = ("--model", "--adapter-path", "--draft-model")


def _apart(word: str) -> tuple[str, ...]:
    """An option of a path as two words, and not shortened."""
    name, is_set, value = word.partition("=")
    path = next((each for each in _PATHS if _is(name, each)), None)
    if path and not is_set:
        return (path,)
    return (path, value) if path and value[:1] not in ("-", "") else (word,)


_KEYS = (
    "command", "defaults", "entry", "env", "model", "prepare", "process", "ready", "stop_signal",
)  # fmt: skip


def _configured(where: str, name: str, entry: object) -> Engine:
    """An entry of `tp.engines`: an engine of its own, or changes to a built-in one."""
    if not isinstance(entry, Mapping) or not (entry.get("command") or name in BUILT_IN):
        raise ValueError(f'{where}: give command, as in ["-m", "my.server"]')
    if unknown := sorted(str(key) for key in entry if key not in _KEYS):
        raise ValueError(f"{where}.{unknown[0]} is unknown: {', '.join(_KEYS)}")
    made: dict[str, Any] = {
        key: _setting(f"{where}.{key}", key, value) for key, value in entry.items()
    }
    if "process" in made:
        _check_pattern(f"{where}.process", made["process"])
    elif "command" in made:
        made["process"] = re.escape(" ".join(made["command"])) + "( |$)"
    base = BUILT_IN.get(name, Engine(name, (), "/v1/models", ""))
    return replace(base, **made)


def _setting(where: str, key: str, value: object) -> object:
    if key == "command":
        return _command(where, value)
    if key in ("env", "defaults"):
        return _pairs(where, key, value)
    if not isinstance(value, str) or not (value or key == "prepare"):
        raise ValueError(f"{where}: give text, in quotes")
    if key == "entry" and value not in ("module", "none"):
        raise ValueError(f"{where} {value!r}: choose module or none")
    if key == "stop_signal" and value not in ("TERM", "INT"):
        raise ValueError(f"{where} {value!r}: choose TERM or INT")
    if key == "ready" and not value.startswith("/"):
        raise ValueError(f"{where} {value!r}: give a page such as /health")
    return value


def _command(where: str, value: object) -> tuple[str, ...]:
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) and word for word in words):
        raise ValueError(f'{where}: give a list of words, as in ["-m", "my.server"]')
    if not words or "\0" in "".join(words):
        raise ValueError(f'{where}: give at least one word (and no NUL), as in ["-m", "my.server"]')
    return tuple(words)


def _pairs(where: str, key: str, value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: give names and values")
    for name, each in value.items():
        if key == "env" and not re.fullmatch(NAME, str(name)):
            raise ValueError(f"{where}.{name}: is no name of a variable")
        if not isinstance(each, (str, int, float)):
            raise ValueError(f"{where}.{name}: give text, in quotes")
    return {str(name): str(each) for name, each in value.items()}


def _check_pattern(where: str, pattern: str) -> None:
    try:
        empty = re.match(pattern, "")
    except re.error as error:
        raise ValueError(f"{where} is no regular expression ({error})") from None
    if empty:
        # tp.stop would end whatever runs on Python.
        raise ValueError(f"{where} {pattern!r} matches every Python process: name the server")


def option(args: Sequence[str], name: str) -> str | None:
    """The value of `--name V` or `--name=V` in `args`; the last one counts, as in argparse."""
    found = None
    for index, word in enumerate(args):
        given, is_set, value = word.partition("=")
        if _is(given, name) and (is_set or index + 1 < len(args)):
            found = value if is_set else args[index + 1]
    return found


def _is(given: str, name: str) -> bool:
    """Whether a word is that option: the servers' argparse takes it shortened, too."""
    return given == name or (len(given) > 3 and given[:2] == "--" and name.startswith(given))


def name_of(args: Sequence[str], model: str | None) -> str:
    """What clients call the model: as its folder, or its repository; "" where that has no name."""
    given = option(args, "--served-model-name")
    cached = re.search(r"/models--[^/]+?--([^/]+)/snapshots/", model or "")
    last = cached[1] if cached else (model or "").rstrip("/").rpartition("/")[2]
    return given or ("" if last in (".", "..", "~") else last)


def is_pipeline(args: Sequence[str]) -> bool:
    """Whether mlx_lm.server is told to divide layers, not heads."""
    return any(_is(word, "--pipeline") for word in args)


def key(args: Sequence[str]) -> str | None:
    """The key that the server wants of its clients (vllm-mlx: --api-key); mlx-lm knows none."""
    return option(args, "--api-key")


def stale_cache(engine: Engine, args: Sequence[str], before: int, now: int) -> str | None:
    """What vllm-mlx's prefixes on disk do to a start with another number of ranks, if anything."""
    if engine.name != "vllm-mlx" or before == now or "--no-prefix-cache" in args:
        return None
    return (
        f"warn: {engine.name} has prefixes of {before} ranks on disk, which break {now}:"
        " -- --no-prefix-cache"
    )


def exposure(args: Sequence[str], bind: str, port: int, node: str) -> str | None:
    """Who else can use the server, and how to keep them out; None where nobody can."""
    if bind.startswith("127.") or bind in ("localhost", "::1") or key(args):
        return None
    where = "" if bind in ("", "0.0.0.0", "::") else f" by {bind}"
    return (
        f"warn: whoever reaches port {port} of {node}{where} can use the server, without a key:"
        f" -- --host 127.0.0.1 keeps others out (then: ssh -L {port}:127.0.0.1:{port} {node})"
    )


def check_words(engine: Engine, given: Sequence[str], words: Sequence[str]) -> None:
    """Raise ValueError for what is wrong with the server's words, those `given` behind -- or all.

    The server itself would tell once it has imported all that it needs, on every node.
    """
    if engine.name in BUILT_IN and given and not given[0].startswith("-"):
        raise ValueError(
            f"{given[0] or repr('')}: what follows -- are the server's options: -- --model PATH"
        )
    last = words[-1] if words else ""
    for name in ("--model", "--port", "--host"):
        value = option(words, name)
        if _is(last, name) or (value is not None and not value.strip()):
            raise ValueError(f"{name}: give a value behind it")


def http_port(args: Sequence[str]) -> int:
    """The port in the server's arguments, 8000 without one; raise ValueError when it is none."""
    text = option(args, "--port")
    text = "8000" if text is None else text
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise ValueError(f"--port {text}: write a port number from 1 to 65535")
    return int(text)
