"""Files for nodes: their values before them, quoted, and nothing in their text."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import require

from tasks.cluster.ssh import scripts

SHELL_FILES = sorted(str(path.relative_to(scripts.FOLDER)) for path in scripts.FOLDER.rglob("*.sh"))
# macOS has bash 3.2 with this option set; dash is Debian's, busybox's is ash.
SHELLS = [
    "dash", "bash --posix -O xpg_echo", "zsh --emulate sh", "mksh", "yash --posix", "busybox sh"
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(scripts, "FOLDER", tmp_path)
    scripts._read.cache_clear()
    scripts._whole.cache_clear()
    (tmp_path / "base.sh").write_text("say() { printf '<%s>' \"$@\"; }\n")
    (tmp_path / "show.sh").write_text(
        '# Shows.\n: "${one:?}" "${two?}"\n. ./base.sh\nsay "$one" "$two" "$@"\n'
    )
    yield tmp_path
    scripts._read.cache_clear()
    scripts._whole.cache_clear()


def run(text: str) -> str:
    return subprocess.run(
        ["/bin/sh", "-s"], input=text, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.usefixtures("folder")
def test_values_and_words_come_as_they_are() -> None:
    wild = "a'b\"c $(touch x) `y` \\ \n *"
    text = scripts.script("show.sh", ["-n", wild], one=wild, two="")
    assert run(text) == f"<{wild}><><-n><{wild}>"


@pytest.mark.usefixtures("folder")
def test_a_value_too_few_or_too_many_is_told() -> None:
    with pytest.raises(TypeError, match=r"show.sh needs \['one', 'two'\], not \['one'\]"):
        scripts.script("show.sh", one="1")
    with pytest.raises(TypeError, match="three"):
        scripts.script("show.sh", one="1", two="2", three="3")


@pytest.mark.usefixtures("folder")
def test_what_was_sent_before_is_not_sent_again() -> None:
    first = scripts.script("show.sh", one="1", two="2")
    again = scripts.script("show.sh", one="3", two="4", after="base.sh")
    assert "say()" not in again
    assert run(first + again) == "<1><2><3><4>"


@pytest.mark.parametrize("name", SHELL_FILES)
@pytest.mark.parametrize("shell", SHELLS)
def test_files_are_right_for_the_shells_that_read_them(name: str, shell: str) -> None:
    words = shlex.split(shell)
    require(shutil.which(words[0]), f"needs {words[0]}")
    text = scripts._whole(name)
    done = subprocess.run([*words, "-n"], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# What a line of a shell's or a python's program has, and a sentence has not.
CODE = re.compile(
    r"""\$\(|"\$\w|\$\{?\w+\}?"|>/dev/null|2>&1|<<'?\w|\|\|[ ]|&&[ ]|;;|;[ ](do|then)\b
    |\|[ ](sed|tr|head|tail|grep|awk|cut)\b
    |^\s*(fi|done|esac|else|then|do|\)|\}|exit\b.*|echo[ ].*|printf[ ].*|cd[ ].*|exec[ ].*
    |import[ ]\w.*|from[ ]\w+[ ]import[ ].*|def[ ]\w+\(.*|for[ ].*:|try:|except.*:|print\(.*
    |with[ ].*:)\s*;?$""",
    re.VERBOSE,
)


def programs(source: str) -> list[tuple[int, int]]:
    """Each string of a Python file that holds a program: where it is, and how many lines."""
    nodes = list(ast.walk(ast.parse(source)))
    parts = {id(each) for node in nodes if isinstance(node, ast.JoinedStr) for each in node.values}
    parts |= {id(node.value) for node in nodes if isinstance(node, ast.Expr)}  # docstrings
    strings = [node for node in nodes if isinstance(node, (ast.Constant, ast.JoinedStr))]
    found = []
    for node in strings:
        lines = "" if id(node) in parts else _text(node)
        if sum(bool(CODE.search(line)) for line in lines.splitlines()) > 1:
            found.append((node.lineno, len(lines.splitlines())))
    return found


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(each) or "X" for each in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


TASKS = scripts.FOLDER.parent


def test_no_program_in_a_string() -> None:
    """Files for nodes are files in their own language."""
    found = {
        str(path.relative_to(TASKS)): programs(path.read_text(encoding="utf-8"))
        for path in TASKS.rglob("*.py")
        if scripts.FOLDER not in path.parents
    }
    assert {path: where for path, where in found.items() if where} == {}


@pytest.mark.parametrize(
    "source",
    [
        """X = "if [ -e a ]; then\\n  echo b\\nfi\\n" """,
        """X = f"cd {a} || exit\\n" f"rm -f {b} && echo done\\n" """,
        """X = "import os\\nprint(os.getcwd())\\n" """,
    ],
)
def test_a_program_in_a_string_is_seen(source: str) -> None:
    assert programs(source)
