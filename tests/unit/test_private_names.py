"""The private names of libraries that are used or overridden, as docs/dependencies.md has them."""

from __future__ import annotations

import ast
import gc
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import tasks
from tasks.cluster.ssh import connection, node, transport

ROOT = Path(tasks.__file__).parents[1]
LIBRARIES = ("fabric", "invoke", "paramiko", "requests", "urllib3")
TABLE = re.findall(r"^\| `(\S+)` \|", (ROOT / "docs" / "dependencies.md").read_text(), re.MULTILINE)
OURS = {"_alive", "_lock", "_old"}  # what a class of ours has in another module
OURS |= {"_exit", "_replace"}  # of os and of named tuples, which document them


def test_each_is_there() -> None:
    assert TABLE
    for path in TABLE:
        module, kind, name = path.rsplit(".", 2)
        assert hasattr(getattr(importlib.import_module(module), kind), name), path


def test_no_other_is_used() -> None:
    """Neither as an attribute that nothing of ours has, nor by a class of ours in its place."""
    foreign = {name for path in _files() for name in _foreign(list(ast.walk(_tree(path))))}
    assert foreign | set(_overridden()) == {path.rpartition(".")[2] for path in TABLE}


def _tree(path: Path) -> ast.AST:
    return ast.parse(path.read_text())


def _foreign(nodes: list[ast.AST]) -> Iterator[str]:
    """The private attributes in a module that no class in it has."""
    ours = OURS.union(*map(_defines, nodes))
    for each in nodes:
        if not isinstance(each, ast.Attribute) or not re.match("_[^_]", each.attr):
            continue
        if each.attr not in ours:
            yield each.attr


def _files() -> Iterator[Path]:
    for path in (ROOT / "tasks").rglob("*.py"):
        if not {"remote", "maintain"} & set(path.parts):
            yield path


def _defines(node: ast.AST) -> set[str]:
    if isinstance(node, ast.ClassDef):
        return {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        return {node.attr}
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return {node.target.id}
    return set()


def _overridden() -> Iterator[str]:
    for found in pkgutil.walk_packages(tasks.__path__, "tasks."):
        if ".remote" not in found.name:
            importlib.import_module(found.name)
    made = (transport.kind(), connection._kind(), node._runner())  # those that are made late
    # By its type: a proxy of a class says that it is one.
    classes = [each for each in gc.get_objects() if issubclass(type(each), type)]
    for kind in {*made, *classes}:
        if str(kind.__module__).startswith("tasks."):
            for base in kind.__mro__[1:]:
                if str(base.__module__).partition(".")[0] in LIBRARIES:
                    yield from (n for n in vars(kind) if re.match("_[^_]", n) and n in vars(base))
