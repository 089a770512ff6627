"""Engines: which process is a server and which only speaks of one; arguments; configuration."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.cluster.cluster import build
from tasks.cluster.config.engine import (
    BUILT_IN,
    MLX_LM,
    VLLM_MLX,
    Engine,
    engines,
    http_port,
    name_of,
    option,
    stale_cache,
)
from tasks.cluster.errors import BadInput

# (ps -o comm=, ps -o command=): on Linux a name of at most 15 letters, on macOS a path.
ENTRY = "/Users/a/.mlx-tp/default/runs/20261130T091500ab12cd34/entry.py"
PYTHON_APP = (
    "/opt/homebrew/Cellar/python@3.14/3.14.2/Frameworks/Python.framework/Versions/3.14"
    "/Resources/Python.app/Contents/MacOS/Python"
)
FRAMEWORK = "/Library/Frameworks/Python.framework/Versions/3.12/bin/python3.12"
MLX_LM_SERVERS = [
    ("python", "python -m mlx_lm server --model m --port 8000"),
    ("python3", "/usr/bin/python3 -m mlx_lm server"),
    ("python3.11", "/srv/v/bin/python3.11 -m mlx_lm.server --port 1 --host 0.0.0.0"),
    ("python", "python -u -X dev -m mlx_lm server"),
    # As we start it.
    ("python", f"/srv/v/bin/python {ENTRY} -m mlx_lm server --model m"),
    (PYTHON_APP, f"{PYTHON_APP} /Users/a b/.mlx-tp/x y/runs/1a/entry.py -m mlx_lm server"),
    ("python", "/srv/v/bin/python -W ignore::Warning -m mlx_lm server"),
    ("python", ".venv/bin/python -m mlx_lm server"),
    (".venv/bin/python", ".venv/bin/python .venv/bin/mlx_lm.server"),
    ("python3.14t", "/srv/v/bin/python3.14t -m mlx_lm server"),
    ("python", "/srv/v/bin/python /srv/v/bin/mlx_lm.server --port 8000"),
    # A script's process is named after the script on Linux.
    ("mlx_lm.server", "/srv/v/bin/python /srv/v/bin/mlx_lm.server --model m"),
    ("mlx_lm.server", "/srv/v/bin/python3 v/bin/mlx_lm.server"),
    (PYTHON_APP, f"{PYTHON_APP} -m mlx_lm server --model m"),
    (PYTHON_APP, f"{PYTHON_APP} /Users/a/v/bin/mlx_lm.server --model m"),
    (FRAMEWORK, f"{FRAMEWORK} -m mlx_lm.server"),
    (
        "/Users/a/my venv (old)/bin/python3",
        "/Users/a/my venv (old)/bin/python3 -m mlx_lm server --model /Users/a/my models/m",
    ),
    ("/usr/bin/python3", "/usr/bin/python3 -m mlx_lm server --model 'a;b'"),
]
VLLM_SERVERS = [
    ("python3.14", "/opt/homebrew/bin/python3.14 -m vllm_mlx.distributed_launcher --model m"),
    (PYTHON_APP, f"{PYTHON_APP} -m vllm_mlx.distributed_launcher --model m --port 8000"),
    (
        PYTHON_APP,
        f"{PYTHON_APP} /Users/a/git/vllm-mlx/vllm_mlx/distributed_launcher.py --model m",
    ),
    ("/Users/a b/v/bin/python", "/Users/a b/v/bin/python -m vllm_mlx.distributed_launcher"),
]
# What a node shows when mlx.launch runs a server elsewhere, and what else names one.
LINE = "-m mlx_lm server --model m"
WRAPPER = (
    "stty -echo; pidfile=$(mktemp); echo $$ > $pidfile; export MLX_RANK=1;"
    f' cmd=(/srv/v/bin/python {LINE}); exec "${{cmd[@]}}"'
)
OTHERS = [
    ("python", "/srv/v/bin/python"),
    ("python", "/srv/v/bin/python -m mlx_lm"),
    ("python", f"/srv/v/bin/python {ENTRY} -m my_mlx_lm.server"),
    ("python", "/srv/v/bin/python /srv/notes/entry.py -m mlx_lm server"),
    ("vim", f"/usr/bin/vim {ENTRY} -m mlx_lm server"),
    ("python", "/srv/v/bin/python -m mlx_lm generate --prompt server"),
    ("python", "/srv/v/bin/python -m mlx_lm server_of_mine"),
    ("python", "/srv/v/bin/python -m mlx_lm.servers"),
    ("python", "/srv/v/bin/python -m my_mlx_lm.server"),
    ("python", "/srv/v/bin/python -m pytest -k mlx_lm server"),
    ("python", "/srv/v/bin/python /srv/notes/mlx_lm.server.md"),
    ("python", "/srv/v/bin/python -m invoke tp.start -- python -m mlx_lm server"),
    ("inv", "/srv/v/bin/python /srv/v/bin/inv tp.start -- -m mlx_lm server"),
    ("mlx.launch", f"/srv/v/bin/python /srv/v/bin/mlx.launch --backend ring -- python {LINE}"),
    ("python", f"/srv/v/bin/python /srv/v/bin/mlx.launch --hostfile h.json -- python {LINE}"),
    (PYTHON_APP, f"{PYTHON_APP} /Users/a/v/bin/mlx.launch -- /Users/a/v/bin/python {LINE}"),
    ("bash", f"/bin/bash -c ssh -tt -o LogLevel=QUIET mac2 '{WRAPPER}'"),
    ("bash", f"/bin/bash -c {WRAPPER}"),
    ("/bin/bash", f"/bin/bash -c {WRAPPER}"),
    ("ssh", f"ssh -tt -o LogLevel=QUIET mac2 {WRAPPER}"),
    ("ssh", f"ssh mac2 python {LINE}"),
    ("/bin/zsh", f"zsh -c cd /Users/a && nohup python {LINE} > log 2>&1 &"),
    ("sh", f"sh -c python {LINE}"),
    ("sshd-session", f"sshd-session: a@notty python {LINE}"),
    ("vim", "vim python -m mlx_lm server"),
    ("vim", f"/usr/bin/vim notes/python {LINE}"),
    ("less", f"less /srv/python {LINE}"),
    ("grep", f"grep python {LINE}"),
    ("pgrep", "pgrep -f [m]lx_lm server"),
    ("tail", "tail -f /tmp/python -m mlx_lm server"),
    ("sudo", f"sudo python {LINE}"),
    ("uv", f"uv run python {LINE}"),
    ("nohup", f"nohup python {LINE}"),
    ("python-launcher", f"python-launcher {LINE}"),
    ("pythonista", f"pythonista {LINE}"),
    ("ipython", f"/srv/v/bin/python /srv/v/bin/ipython {LINE}"),
    ("lldb", f"lldb -- /srv/v/bin/python {LINE}"),
    ("mlx_lm.server", "mlx_lm.server --model m"),
    ("mlx_lm.server", "vim /srv/v/bin/mlx_lm.server"),
    ("", f"python {LINE}"),
    ("kworker/0:1", ""),
    ("", ""),
]


@pytest.mark.parametrize(("program", "line"), MLX_LM_SERVERS)
def test_mlx_lm(program: str, line: str) -> None:
    assert MLX_LM.is_server(program, line)
    assert not VLLM_MLX.is_server(program, line)


@pytest.mark.parametrize(("program", "line"), VLLM_SERVERS)
def test_vllm_mlx(program: str, line: str) -> None:
    assert VLLM_MLX.is_server(program, line)
    assert not MLX_LM.is_server(program, line)


@pytest.mark.parametrize(("program", "line"), OTHERS)
def test_no_server(program: str, line: str) -> None:
    assert not MLX_LM.is_server(program, line)
    other = line.replace("mlx_lm server", "vllm_mlx.distributed_launcher")
    assert not VLLM_MLX.is_server(program, other)


@pytest.mark.parametrize(
    ("args", "value"),
    [
        ([], None),
        (["--port", "1"], "1"),
        (["--port=1"], "1"),
        (["--port="], ""),
        (["--port", ""], ""),
        (["--port", "1", "--port", "2"], "2"),
        (["--port=1", "--port", "2"], "2"),
        (["--port", "2", "--port=1"], "1"),
        (["--port"], None),
        (["--port", "1", "--port"], "1"),
        (["--ports", "1"], None),
        (["--ports=1"], None),
        (["-port", "1"], None),
        (["--por", "1"], "1"),  # as the servers' argparse takes it
        (["--po=1"], "1"),
        (["--p", "1"], None),  # which of them refuse
        (["port=1"], None),
        (["--model", "a=b", "--port=c=d"], "c=d"),
    ],
)
def test_option(args: list[str], value: str | None) -> None:
    assert option(args, "--port") == value


@pytest.mark.parametrize(
    ("args", "port"),
    [([], 8000), (["--port", "1"], 1), (["--port=65535"], 65535), (["--port", "08"], 8)],
)
def test_http_port(args: list[str], port: int) -> None:
    assert http_port(args) == port


@pytest.mark.parametrize(
    "text",
    ["0", "65536", "-1", "+1", "", " 80", "80 ", "8_0", "1e3", "8000.0", "http", "\u0668\u0660"],
)
def test_no_http_port(text: str) -> None:
    for args in (["--port", text], [f"--port={text}"]):
        with pytest.raises(ValueError, match=r"^--port .*: write a port number from 1 to 65535$"):
            http_port(args)


@pytest.mark.parametrize(
    ("engine", "args", "model", "added"),
    [
        (MLX_LM, [], None, ["--port", "8000", "--host", "0.0.0.0"]),
        (MLX_LM, [], "m", ["--port", "8000", "--host", "0.0.0.0", "--model", "m"]),
        (MLX_LM, ["--port", "1"], None, ["--host", "0.0.0.0"]),
        (MLX_LM, ["--host=::", "--port="], None, []),
        (MLX_LM, ["--model", "x", "--host", "h", "--port", "1"], "m", []),
        (MLX_LM, ["--model", "x", "--hos=h", "--por", "1"], "m", []),
        (VLLM_MLX, [], None, []),
        (VLLM_MLX, ["a b", ""], "m", ["--model", "m"]),
        (VLLM_MLX, ["--x=--model=y", "--model=", "--model=-x"], "m", []),
    ],
)
def test_arguments(engine: Engine, args: list[str], model: str | None, added: list[str]) -> None:
    """The user's stay as they are, and first; only what they leave open is added."""
    assert engine.arguments(args, model, "0.0.0.0") == (*args, *added)


def test_paths_stand_as_words_of_their_own() -> None:
    """Field case 98: a shell leaves the ~ behind = as it is."""
    given = ["--model=~/x", "--adapter-path=/a=b", "--draft-model=d", "--port=1"]
    apart = ("--model", "~/x", "--adapter-path", "/a=b", "--draft-model", "d", "--port=1")
    assert VLLM_MLX.arguments(given, "m", "") == apart
    assert VLLM_MLX.arguments(["--mod=~/x"], "m", "") == ("--model", "~/x")


LORA = ["--adapter-path", "~/lora"]


@pytest.mark.parametrize(
    ("engine", "args", "size", "says"),
    [
        (MLX_LM, LORA, 2, ["--adapter-path"]),
        (MLX_LM, [*LORA, "--draft-model=d"], 3, ["--adapter-path", "--draft-model"]),
        (MLX_LM, LORA, 1, []),
        (MLX_LM, ["--chat-template", "~/t.jinja"], 1, ["--chat-template"]),
        (MLX_LM, ["--chat-template", "{{ x }}"], 2, []),
        (VLLM_MLX, ["--mllm"], 2, ["--mllm"]),
        (VLLM_MLX, ["--mllm"], 1, []),
        (VLLM_MLX, LORA, 2, []),
    ],
)
def test_what_an_engine_refuses(
    engine: Engine, args: list[str], size: int, says: list[str]
) -> None:
    assert [each.option for each in engine.refuses(args, size)] == says


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("~/models/Kimi-K2.5-4bit", "Kimi-K2.5-4bit"),
        ("/srv/my models/M/", "M"),
        ("mlx-community/Kimi-K2.5-4bit", "Kimi-K2.5-4bit"),
        ("/h/hub/models--org--tiny--x/snapshots/0a1b", "tiny--x"),
        ("M", "M"),
        *((path, "") for path in (".", "..", "~", "/", None)),
    ],
)
def test_name_of_a_model(model: str | None, name: str) -> None:
    assert name_of([], model) == name
    assert name_of(["--served-model-name", "other"], model) == "other"


@pytest.mark.parametrize(
    ("entry", "keeps"),
    [
        ({}, True),
        ({"command": ["-m", "mlx_lm.server"]}, True),
        ({"entry": "none"}, False),
        ({"command": ["-m", "my.server"]}, False),
    ],
)
def test_engines_that_are_kept_to_their_model(entry: dict[str, Any], keeps: bool) -> None:
    assert engines({"mlx-lm": entry})["mlx-lm"].keeps_to_model is keeps
    assert VLLM_MLX.keeps_to_model


GOOD: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"command": ["-m", "my.server"]}, {"command": ("-m", "my.server"), "ready": "/v1/models"}),
    ({"command": "-m my.server"}, {"command": ("-m", "my.server"), "model": "default"}),
    ({"command": ["x"], "ready": "/up", "model": "m"}, {"ready": "/up", "model": "m"}),
    ({"command": ["x"], "env": {"A": 1, "B": "{backend}"}}, {"env": {"A": "1", "B": "{backend}"}}),
    ({"command": ["x"], "defaults": {"--port": 9000}}, {"defaults": {"--port": "9000"}}),
    ({"command": ["x"], "prepare": ""}, {"prepare": ""}),
    ({"command": ["-m", "x"]}, {"has_entry": True}),
    ({"command": ["-m", "x"], "entry": "none"}, {"has_entry": False}),
    # What is no module can't be run by an entry.
    ({"command": ["x"], "entry": "module"}, {"has_entry": False}),
    ({"command": ["x"], "process": "-m x( |$)"}, {"process": "-m x( |$)"}),
]


@pytest.mark.parametrize(("entry", "expected"), GOOD)
def test_configured(entry: dict[str, Any], expected: dict[str, Any]) -> None:
    made = engines({"mine": entry})
    assert made.keys() == {*BUILT_IN, "mine"}
    assert {key: getattr(made["mine"], key) for key in expected} == expected


@pytest.mark.parametrize(
    ("versions", "says"),
    [
        ({"mlx": "0.30.6", "mlx-lm": "0.30.7"}, None),
        ({"mlx": "0.31.0", "mlx-lm": "0.30.7"}, None),
        ({"mlx": "0.32.4", "mlx-lm": "0.30.7"}, "vllm-mlx runs with mlx 0.30 or 0.31, not 0.32.4"),
        ({"mlx": "0.3.0", "mlx-lm": "0.30.7"}, "vllm-mlx runs with mlx 0.30 or 0.31, not 0.3.0"),
        ({"mlx": "0.31.1", "mlx-lm": "0.32.2"}, "vllm-mlx runs with mlx-lm 0.30, not 0.32.2"),
        # What is missing, or can't be told, is another check's.
        ({"mlx": "missing"}, None),
        ({}, None),
    ],
)
def test_versions_that_vllm_mlx_runs_with(versions: dict[str, str], says: str | None) -> None:
    found = VLLM_MLX.unfit(versions)
    assert (found and found[0]) == says
    assert MLX_LM.unfit(versions) is None


def test_configured_process() -> None:
    """Without a pattern of its own, an engine's processes are those that run its command."""
    engine = engines({"mine": {"command": ["-m", "my.server", "up"]}})["mine"]
    assert engine.is_server("python3", "python3 -m my.server up --port 1")
    assert engine.is_server("python3", "python3 -m my.server up")
    assert not engine.is_server("python3", "python3 -m my-server up")
    assert not engine.is_server("python3", "python3 -m my.server upper")


def test_changed_in_part() -> None:
    """What an entry leaves out of a built-in engine stays as it is."""
    changed = engines({"mlx-lm": {"ready": "/ok", "prepare": ""}})["mlx-lm"]
    assert (changed.ready, changed.prepare) == ("/ok", "")
    assert (changed.command, changed.process) == (MLX_LM.command, MLX_LM.process)
    moved = engines({"mlx-lm": {"command": ["-m", "mine"]}})["mlx-lm"]
    assert moved.is_server("python", "python -m mine")
    assert not moved.is_server("python", "python -m mlx_lm server")
    assert engines({}) == BUILT_IN


X = {"command": ["x"]}
WRONG: list[tuple[Any, str]] = [
    ([], "tp.engines: give each engine's name and settings"),
    ("mlx-lm", "tp.engines: give each engine's name and settings"),
    ({"mine": None}, "tp.engines.mine: give command"),
    ({"mine": {}}, "tp.engines.mine: give command"),
    ({"mine": "x"}, "tp.engines.mine: give command"),
    ({"mine": {"ready": "/"}}, "tp.engines.mine: give command"),
    ({"mine": {"command": []}}, "tp.engines.mine: give command"),
    ({5: {}}, "tp.engines.5: give command"),
    ({"mine": {"command": 5}}, "tp.engines.mine.command: give a list of words"),
    ({"mine": {"command": True}}, "tp.engines.mine.command: give a list of words"),
    ({"mine": {"command": {"a": 1}}}, "tp.engines.mine.command: give a list of words"),
    ({"mine": {"command": ["-m", None]}}, "tp.engines.mine.command: give a list of words"),
    ({"mine": {"command": ["-m", ""]}}, "tp.engines.mine.command: give a list of words"),
    ({"mine": {"command": ["a\0"]}}, "tp.engines.mine.command: give at least one word"),
    ({"mine": {"command": "  "}}, "tp.engines.mine.command: give at least one word"),
    ({"mlx-lm": {"command": []}}, "tp.engines.mlx-lm.command: give at least one word"),
    ({"mine": {**X, "redy": "/"}}, "tp.engines.mine.redy is unknown: command, defaults, entry"),
    ({"mine": {**X, 5: "/", "z": 1}}, "tp.engines.mine.5 is unknown"),
    ({"mine": {**X, "ready": None}}, "tp.engines.mine.ready: give text, in quotes"),
    ({"mine": {**X, "ready": ""}}, "tp.engines.mine.ready: give text, in quotes"),
    ({"mine": {**X, "ready": "health"}}, "tp.engines.mine.ready 'health': give a page"),
    ({"mine": {**X, "model": 5}}, "tp.engines.mine.model: give text, in quotes"),
    ({"mine": {**X, "prepare": ["a"]}}, "tp.engines.mine.prepare: give text, in quotes"),
    ({"mine": {**X, "env": None}}, "tp.engines.mine.env: give names and values"),
    ({"mine": {**X, "env": ["A=b"]}}, "tp.engines.mine.env: give names and values"),
    ({"mine": {**X, "env": {"A B": "c"}}}, "tp.engines.mine.env.A B: is no name of a variable"),
    ({"mine": {**X, "env": {"$(id)": "c"}}}, "tp.engines.mine.env.$(id): is no name"),
    ({"mine": {**X, "env": {"A": None}}}, "tp.engines.mine.env.A: give text, in quotes"),
    ({"mine": {**X, "defaults": "--port 1"}}, "tp.engines.mine.defaults: give names and values"),
    ({"mine": {**X, "defaults": {"--port": []}}}, "tp.engines.mine.defaults.--port: give text"),
    ({"mine": {**X, "process": "("}}, "tp.engines.mine.process is no regular expression"),
    ({"mine": {**X, "process": None}}, "tp.engines.mine.process: give text, in quotes"),
    # Whatever runs on Python would be stopped as a server.
    ({"mine": {**X, "process": ""}}, "tp.engines.mine.process: give text, in quotes"),
    (
        {"mine": {**X, "process": ".*"}},
        "process '.*' matches every Python process: name the server",
    ),
    ({"mlx-lm": {"process": "(-m x)?"}}, "matches every Python process"),
]


@pytest.mark.parametrize(("configured", "says"), WRONG, ids=[repr(row[0]) for row in WRONG])
def test_configured_wrong(configured: Any, says: str) -> None:
    with pytest.raises(ValueError, match=r"^tp\.engines") as error:
        engines(configured)
    assert says in str(error.value)
    assert str(error.value).isprintable()
    if configured:  # an empty one is none
        with pytest.raises(BadInput) as shown:
            build({"engines": configured})
        assert (shown.value.code, shown.value.message) == (2, str(error.value))


@pytest.mark.parametrize(
    ("chosen", "args", "before", "now", "is_told"),
    [
        (VLLM_MLX, [], 4, 2, True),
        (VLLM_MLX, [], 2, 2, False),
        (VLLM_MLX, ["--no-prefix-cache"], 4, 2, False),
        (MLX_LM, [], 4, 2, False),
    ],
)
def test_a_cache_of_another_number_of_ranks(
    chosen: Engine, args: list[str], before: int, now: int, is_told: bool
) -> None:
    told = stale_cache(chosen, args, before, now)
    assert (told is not None and "of 4 ranks on disk, which break 2" in told) == is_told
