"""The floors of the house: tasks -> tasks/cluster -> (fabric, stdlib), and what stays pure."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.util import module_from_spec, resolve_name, spec_from_file_location
from pathlib import Path

import pytest
from conftest import ROOT

FILES = sorted((ROOT / "tasks").rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}
CLUSTER = [name for name in MODULES if name.startswith("tasks.cluster")]
# Invoke's command line, as against its runners, configuration and errors.
COMMAND_LINE = {
    f"{package}.{name}"
    for package in ("invoke", "fabric")
    for name in ("tasks", "collection", "program", "executor", "parser", "loader", "main", "task")
}
OUTSIDE = ("invoke", "fabric", "paramiko", "patchwork", "requests", "rich", "mlx", "mlx_lm")


def imports(name: str) -> set[str]:
    """All that a module imports, at the top or in functions, but for types alone."""
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    return set(_imports(ast.parse(MODULES[name].read_text()), package))


def _imports(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        base = resolve_name("." * node.level + (node.module or ""), package) if node.level else ""
        base = base or str(node.module)
        for alias in node.names:
            # `from package import module` is an import of the module.
            whole = f"{base}.{alias.name}"
            yield whole if whole in MODULES or base in ("invoke", "fabric") else base
    for child in ast.iter_child_nodes(node):
        yield from _imports(child, package)


@cache  # not while it is collected, which each worker does
def graph() -> dict[str, set[str]]:
    return {name: imports(name) for name in MODULES}


def reached(name: str) -> set[str]:
    """What is imported by a module and, within the project, by what it imports."""
    seen: set[str] = set()
    new = {name}
    while new:
        seen |= new
        new = {each for name in new for each in graph().get(name, ())} - seen
    return seen - {name}


def outside(names: set[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] in OUTSIDE}


def test_the_parser_sees_imports() -> None:
    """Of each form one that is there: a test of floors must be able to fail."""
    assert "tasks.cluster.config.engine" in graph()["tasks.cluster.config.ranks"]
    assert "tasks.cluster.config.hostfile" not in graph()["tasks.cluster.config.ranks"]
    assert "tasks.cluster.ssh.nodes" in graph()["tasks.cluster.cluster"]
    assert "tasks.cluster.shell" in graph()["tasks.cluster.ssh.scripts"]
    assert {"fabric", "paramiko", "invoke.context"} <= graph()["tasks.cluster.ssh.node"]
    assert "invoke.exceptions" in reached("tasks.cluster.cluster")
    example = ast.parse("from invoke import task\nfrom .. import tp\nif x:\n  import rich.live")
    assert set(_imports(example, "tasks.cluster")) == {"invoke.task", "tasks.tp", "rich.live"}


# Each floor imports from those below it, and rooms of one floor nothing from each other.
FLOORS = (
    ("shell", "text", "version"),
    ("errors",),
    ("config",),
    ("ssh",),
    ("facts",),
    ("known_errors",),
    ("checks", "http", "sync"),
    ("cluster",),
    ("rdma", "server"),
    ("hosts",),
)
# The floors above it; a floor of tasks/cli is named file by file, since `session` stands in it.
ABOVE = (
    ("cluster", "remote", "lazy", "drawing"),
    ("cli.signals", "cli.envelope", "cli.startup", "cli.arguments", "cli.slips"),
    ("cli.screen", "cli.program"),
    ("cli.waiting",),
    ("session", "moved"),
    ("cli.executor", "cli.hooks"),
    ("cli.options", "cli.slips", "cli.program", "cli.completions"),
    ("commands",),
    ("tp", "rdma", "hosts", "dev", "bench", "demo", "local", "testing", "executor"),
    ("completion", "version"),
    ("maintain",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def room(name: str) -> str:
    """The folder or file of tasks/cluster that a module is in."""
    return [*name.split("."), ""][2]


@pytest.mark.parametrize("name", [name for name in CLUSTER if room(name)])
def test_rooms_import_downwards(name: str) -> None:
    rooms = {room(each) for each in graph()[name] if each in CLUSTER} - {room(name)}
    assert {each for each in rooms if FLOOR_OF[each] >= FLOOR_OF[room(name)]} == set()


def place(name: str) -> str:
    """The floor's name of a module: its folder or file below tasks, in cli its file."""
    parts = name.split(".")[1:]
    return ".".join(parts[: 2 if parts[0] == "cli" else 1])


@pytest.mark.parametrize("name", [name for name in MODULES if "." in name and name != "tasks.cli"])
def test_imports_go_downwards(name: str) -> None:
    floor_of = {room: floor for floor, rooms in enumerate(ABOVE) for room in rooms}
    ours = {each for each in graph()[name] & set(MODULES) if "." in each and each != "tasks.cli"}
    higher = {each for each in ours if floor_of[place(each)] > floor_of[place(name)]}
    assert higher == set()


def test_no_folder_is_a_heap() -> None:
    """At most 16 files lie in one folder; in commands/tp as many as tasks and what they share."""
    folders = {path.parent for path in FILES}
    heaps = {path.relative_to(ROOT) for path in folders if len([*path.glob("*.py")]) > 16}
    assert len(folders) > 20
    assert heaps <= {Path("tasks/commands/tp")}


@pytest.mark.parametrize("name", CLUSTER)
def test_cluster_imports_nothing_above_it(name: str) -> None:
    ours = {each for each in graph()[name] if each.split(".")[0] == "tasks"}
    assert {each for each in ours if not each.startswith("tasks.cluster")} == set()
    assert graph()[name] & COMMAND_LINE == set()
    # `import invoke` gives all of it, command line too.
    assert "invoke" not in graph()[name]


PURE = [
    *(name for name in CLUSTER if name.startswith("tasks.cluster.facts")),
    *(name for name in CLUSTER if name.startswith("tasks.cluster.checks")),
    *(f"tasks.cluster.config.{name}" for name in ("engine", "ranks", "settings", "values")),
    *(f"tasks.cluster.{name}" for name in ("known_errors.hints", "shell")),
]


@pytest.mark.parametrize("name", PURE)
def test_pure(name: str) -> None:
    assert outside(reached(name)) == set()


def says_pure(name: str) -> bool:
    text = ast.get_docstring(ast.parse(MODULES[name].read_text())) or ""
    return re.search(r"\bPure[.:;]", text) is not None


@pytest.mark.parametrize(
    "name", ["tasks.cluster.config.hostfile", *(name for name in CLUSTER if says_pure(name))]
)
def test_pure_but_for_errors(name: str) -> None:
    """A module that tells the user what is wrong may raise an `Exit`, and knows no more of it."""
    runners = {each for each in reached(name) if each.split(".")[0] in OUTSIDE[:3]}
    assert runners <= {"invoke.exceptions"}


def test_pure_without_invoke() -> None:
    """The pure modules load where there is no Invoke, Fabric or paramiko at all."""
    code = (
        "import importlib, sys, types\n"
        "for name in ('invoke', 'fabric', 'paramiko'):\n"
        "    sys.modules[name] = None\n"
        "sys.modules['tasks'] = types.ModuleType('tasks')\n"
        "sys.modules['tasks'].__path__ = ['tasks']\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
    )
    line = [sys.executable, "-c", code]
    subprocess.run([*line, *PURE], cwd=ROOT, check=True)
    refused = subprocess.run([*line, "tasks.cluster.errors"], cwd=ROOT, capture_output=True)
    assert b"ModuleNotFoundError" in refused.stderr


def test_no_cycles() -> None:
    ours = {name: graph()[name] & set(MODULES) for name in MODULES}
    try:
        order = list(TopologicalSorter(ours).static_order())
    except CycleError as error:
        raise AssertionError(f"import cycle: {' -> '.join(error.args[1])}") from None
    assert set(order) == set(MODULES)


HEAVY = ("fabric", "paramiko", "requests", "rich", "patchwork", "fastjsonschema", "mlx", "mlx_lm")


# Runs `inv`, and tells at its end what was loaded: -X importtime does not see importlib's.
LOADED = """
import atexit, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
from invoke.main import program
program.run(["inv", *sys.argv[1:]])
"""


def loaded(*words: str) -> set[str]:
    """The modules that a command loads, whatever it comes to."""
    line = [sys.executable, "-c", LOADED, *words]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    found = set(done.stderr.split())
    assert {"invoke.program", "tasks.tp"} <= found
    return found


@pytest.mark.parametrize("words", [["--list"], ["--help", "tp.start"], ["--complete"]])
def test_light(words: list[str]) -> None:
    """Looking around imports nothing heavy, and of what tasks do nothing."""
    found = loaded(*words)
    assert {name for name in found if name.split(".")[0] in HEAVY} == set()
    done_by = {name for name in found if name.startswith("tasks.commands.")}
    assert done_by == {"tasks.commands.tp", "tasks.commands.tp.hold"}


def test_this_machine_wants_no_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A third of what a start imported was for nodes that there were none of."""
    monkeypatch.setenv("HOME", str(tmp_path))
    found = loaded("tp.status", "--hosts", "127.0.0.1")
    assert "tasks.cluster.ssh.node" in found
    assert not found & {"paramiko", "fabric", "requests"}


def test_what_functions_import_is_measured() -> None:
    """An import inside a function is one whose cost docs/architecture.md names."""
    spec = spec_from_file_location("measures", ROOT / "docs" / "measures.py")
    assert spec
    assert spec.loader
    measures = module_from_spec(spec)
    spec.loader.exec_module(measures)
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = page.partition("## What is imported late")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\S+)` \|", table, re.MULTILINE)) == measures.late(ROOT)
