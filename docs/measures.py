"""Prints the measures of docs/architecture.md, of this checkout or of the one in a folder.

uv run python docs/measures.py [FOLDER]
uv run python docs/measures.py --imports    what each import inside a function costs, in CPU-ms
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

IMPORTS = (ast.Import, ast.ImportFrom)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def main(root: Path) -> None:
    """Count what is in tasks/, without what is sent to nodes (tasks/remote)."""
    paths = [path for path in sorted(root.glob("tasks/**/*.py")) if "remote" not in path.parts]
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    trees = [ast.parse(text) for text in texts.values()]
    files = Counter(path.parent.relative_to(root) for path in paths)
    lines: Counter[Path] = Counter()
    for path, text in texts.items():
        lines[path.parent.relative_to(root)] += len(text.splitlines())
    (most, count), *_ = [*files.most_common(2)]
    biggest, size = lines.most_common(1)[0]
    total = sum(lines.values())
    rest = max(number for folder, number in files.items() if folder != most)
    print(f"files directly in one folder, the most: {count} ({most}), then {rest}")
    print(f"biggest folder: {size / total:.0%} of the lines ({biggest})")
    print(f"imports inside functions: {sum(map(inside, trees))}")
    print(f"Any: {sum(uses_of_any(tree) for tree in trees)}")
    print(f"lines: {total}")
    print(f"functions over 15 lines: {sum(map(long, trees))}")
    named = Counter(name for tree in trees for name in types(tree))
    twice = sorted(name for name, times in named.items() if times > 1)
    print(f"names of types in two modules: {len(twice)} ({', '.join(twice)})")


def long(tree: ast.Module) -> int:
    """The functions of more than 15 lines, docstrings too."""
    found = [each for each in ast.walk(tree) if isinstance(each, FUNCTIONS)]
    return sum((each.end_lineno or 0) - each.lineno >= 15 for each in found)


def types(tree: ast.Module) -> set[str]:
    """The names of a module's classes and types."""
    assigned = [each.targets for each in tree.body if isinstance(each, ast.Assign)]
    names = [name.id for targets in assigned for name in targets if isinstance(name, ast.Name)]
    classes = {each.name for each in tree.body if isinstance(each, ast.ClassDef)}
    return {*classes, *(name for name in names if name[0].isupper() and not name.isupper())}


def inside(tree: ast.Module) -> int:
    """The lines with imports inside functions; one in a function of a function is one."""
    return len({each.lineno for each in imports(tree)})


def imports(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS):
            yield from (each for each in ast.walk(node) if isinstance(each, IMPORTS))


def late(root: Path) -> set[str]:
    """The modules that functions of tasks/ import, by their full names."""
    paths = [path for path in sorted(root.glob("tasks/**/*.py")) if "remote" not in path.parts]
    return {
        name
        for path in paths
        for each in imports(ast.parse(path.read_text(encoding="utf-8")))
        for name in _modules(each, path.relative_to(root), root)
    }


def _modules(each: ast.Import | ast.ImportFrom, path: Path, root: Path) -> Iterator[str]:
    if isinstance(each, ast.Import):
        yield from (alias.name for alias in each.names)
        return
    above = path.parts[: len(path.parts) - each.level] if each.level else ()
    module = ".".join([*above, *filter(None, [each.module])])
    for alias in each.names:
        inner = root / module.replace(".", "/") / alias.name
        is_module = inner.is_dir() or inner.with_suffix(".py").is_file()
        yield f"{module}.{alias.name}" if is_module else module


def costs(root: Path) -> None:
    """CPU-ms of each, the least of three, in a process that has what `inv --list` has."""
    for module in sorted(late(root)):
        code = (
            "import time, tasks, tasks.cli.program, tasks.cli.executor; now = time.process_time();"
            f" import {module}; print(1000 * (time.process_time() - now))"
        )
        line = [sys.executable, "-c", code]
        spent = [subprocess.run(line, cwd=root, capture_output=True, text=True) for _ in range(3)]
        told = [float(each.stdout) for each in spent if not each.returncode]
        print(f"| `{module}` | {min(told):.0f} |" if told else f"| `{module}` | not here |")


def uses_of_any(tree: ast.Module) -> int:
    return sum(isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(tree))


ROOT = Path(__file__).parents[1]

if __name__ == "__main__":
    if "--imports" in sys.argv:
        costs(ROOT)
    else:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
