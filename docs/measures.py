"""Prints the measures of docs/architecture.md, of this checkout or of the one in a folder.

uv run python docs/measures.py [FOLDER]
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
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


def inside(tree: ast.Module) -> int:
    """The lines with imports inside functions; one in a function of a function is one."""
    functions = [node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]
    found = {
        each.lineno for node in functions for each in ast.walk(node) if isinstance(each, IMPORTS)
    }
    return len(found)


def uses_of_any(tree: ast.Module) -> int:
    return sum(isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(tree))


main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1])
