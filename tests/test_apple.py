"""Every word that our scripts give a command is one that Apple's version of it knows.

What it knows is data, read from Apple's published sources (rig/mac/apple.json). What runs on Linux
alone is marked in the script: a comment `# linux` (invocations.py).
"""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from invocations import Invocation, functions, invocations, shell_texts
from rig.mac import apple, guards
from rig.mac.getopts import HOLE

REMOTE = sorted((ROOT / "tasks" / "remote").rglob("*.sh"))
CI = sorted((ROOT / ".ci" / "mac").glob("*.sh"))
MODULES = sorted((ROOT / "tasks").rglob("*.py"))
# Builtins of every shell that take no options, or what they are given as it is.
PLAIN = {
    ".", ":", "break", "continue", "eval", "exit", "false", "return", "shift", "times", "true",
}  # fmt: skip
# What users have by their own choice, or run here: no matter of Apple's.
THEIRS = {"inv", "python", "python3", "ssh", "ssh-keygen", "/usr/sbin/sshd", "uv"}


NO_ROW = "is in no row of apple.json"


def wrong(text: str, where: str, first: int = 1, known: frozenset[str] = frozenset()) -> list[str]:
    """Say of each word of a script that a Mac would refuse: file, line, command and why."""
    names = known | functions(text)
    found = []
    for each in invocations(text, first):
        if not each.linux:
            found += _wrong(each, where, names)
    return found


def _wrong(each: Invocation, where: str, names: frozenset[str] | set[str]) -> list[str]:
    command, *words = each.words
    if HOLE in command or command in names | PLAIN | THEIRS:
        return []
    line = " ".join(each.words).replace(HOLE, "$...")
    row = apple.find(command, shell=True)
    if row is None:
        return [f"{where}:{each.line}: {line}: {command} {NO_ROW}"]
    read = apple.read(row, command, words)
    found = [f"{where}:{each.line}: {line}: {read.refusal.line}"] if read.refusal else []
    for inner in read.inner:
        found += _wrong(Invocation(each.line, tuple(inner)), where, names) if inner else []
    for script in shell_texts(each.words):
        found += wrong(script, where, each.line, frozenset(names))
    return found


def modules(path: Path) -> list[str]:
    """What is wrong in the shell text of a module, by `wrong`: until all of it is in files.

    Whether text is shell is a guess, so a command that is not known may be a word of a message.
    """
    where, known = str(path.relative_to(ROOT)), defined()
    found = [each for line, text in texts(path) for each in wrong(text, where, line, known)]
    return [each for each in found if not each.endswith(NO_ROW)]


@cache
def texts(path: Path) -> list[tuple[int, str]]:
    """Give (line, text) for what is shell in a module: its expressions are a HOLE.

    That is text which looks like shell, the command of a Fact, and a tuple that begins with a path.
    """
    return list(_texts(path))


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    tree = ast.parse(path.read_text())
    names = {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Fact", "limited"):
            yield node.lineno, _fold(node.args[1], names)
        if isinstance(node, ast.Tuple) and node.elts:
            words = [_fold(each, names) for each in node.elts]
            if re.fullmatch(r"/[\w/]+", words[0]):
                yield node.lineno, shlex.join(words)
    for each in _outermost(tree):
        text = _fold(each, names)
        if SHELL.search(text):
            yield each.lineno, text


# What a message to people does not have, or how a command begins.
SHELL = re.compile(
    r"\$\(|\"\$|[;|&] ?\n|2>|>/dev/null| \|\| | && |; do\b|; then\b|; done|^\w+\(\) \{"
    r"|^[a-z_]+ -\w|\bexec [a-z]+ -"
)


def _outermost(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # a docstring
    if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("re."):
        return
    if isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    ):
        yield node
        return
    for child in ast.iter_child_nodes(node):
        yield from _outermost(child)


def _fold(node: ast.expr, names: Mapping[str, str]) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(_fold(each, names) for each in node.values)
    if isinstance(node, ast.FormattedValue):
        return _fold(node.value, names)
    if isinstance(node, ast.Name):
        return names.get(node.id, HOLE)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else HOLE


@cache  # once, and by the one worker that has these tests: not by each as it collects them
def defined() -> frozenset[str]:
    """The functions of all scripts and of all shell text in modules."""
    scripts = [path.read_text() for path in REMOTE]
    found = [text for path in MODULES for _, text in texts(path)]
    return frozenset(name for text in (*scripts, *found) for name in functions(text))


def test_words_in_scripts() -> None:
    known = defined()
    found = [
        each
        for path in (*REMOTE, *CI)
        for each in wrong(path.read_text(), str(path.relative_to(ROOT)), known=known)
    ]
    assert CI
    assert found == []


def test_words_in_modules() -> None:
    assert [each for path in MODULES for each in modules(path)] == []


def test_words_that_people_are_told() -> None:
    """A remedy is as good as its words."""
    found = []
    for path in MODULES:
        text = re.sub(r"\"\n\s*f?\"", "", path.read_text())
        told = re.findall(r"\bsudo ((?:/[\w/]+|[a-z]\w+) [^\"'():;,\n]*)", text)
        lines = [re.sub(r"\{.*?\}", HOLE, each) for each in told if apple.find(each.split()[0])]
        found += [each for line in lines for each in wrong(line, str(path.relative_to(ROOT)))]
    assert found == []


WRONG = [
    ("ifconfig bridge0 deletemember en5", "ifconfig: deletemember: bad value"),
    ("/sbin/ifconfig en5 inet 10.0.0.1 mask 255.0.0.0", "ifconfig: mask: bad value"),
    ("date -d @0 +%s", "date: illegal option -- d"),
    ("sed -z s/a/b/ f", "sed: illegal option -- z"),
    ("sed --regexp-extended s/a/b/ f", "sed: illegal option -- -"),
    ("stat -c %Y f", "stat: illegal option -- c"),
    ("x=$(stat -c %Y f) && echo $x", "stat: illegal option -- c"),
    ("if true; then\n  head --lines=1 --quiet f\nfi", "head: unrecognized option `--quiet'"),
    ('while read -r l; do echo "$(grep -P x f)"; done', "grep: invalid option -- P"),
    ("case $x in\n  a) readlink -e f ;;\nesac", "readlink: illegal option -- e"),
    ("find . -name x -printf %p", "find: -printf: unknown primary or operator"),
    ("find -name x", "find: illegal option -- n"),
    ("find . -exec stat -c %s {} +", "stat: illegal option -- c"),
    ("ls | xargs -r sed -s p", "sed: illegal option -- s"),
    ("sudo -n ifconfig bridge0 deletemember en5", "ifconfig: deletemember: bad value"),
    (
        "perl -e 'alarm shift; exec @ARGV or exit 127' 5 lsof -e x",
        "lsof: illegal option character: e",
    ),
    ("sh -c 'ps -o pid=,cgroup='", "ps: cgroup: keyword not found"),
    ("`uname -i`", "uname: illegal option -- i"),
    ("netstat -an -p tcp4", "netstat: tcp4: unknown or uninstrumented protocol"),
    ("route -n get -family x", "route: bad keyword: family"),
    ("rsync -a --info=progress2 a b", "rsync: unrecognized option `--info=progress2'"),
    ("mktemp --suffix=.x", "mktemp: unrecognized option `--suffix=.x'"),
    ("kill -SIGTERM 1", "kill: SIGTERM: invalid signal specification"),
    ("read -N 1 x", "read: -N: invalid option"),
    ("echo -n x", "echo: -n is printed: the shell named sh takes no option"),
    ("sysctl -n hw.physmem_total", "sysctl: unknown oid 'hw.physmem_total'"),
    ("launchctl restart x", "launchctl: restart: not in what is published of it"),
    ("networksetup -listports", "networksetup: -listports: not in what is published of it"),
    ("nc -z -q 1 h 22", "nc: invalid option -- q"),
    ("ss -ltn", "ss is in no row of apple.json"),
    ("timeout 5 true", "timeout is in no row of apple.json"),
]


@pytest.mark.parametrize(("script", "why"), WRONG)
def test_what_a_mac_refuses(script: str, why: str) -> None:
    """A test of words must be able to fail: file, line, command and what a Mac would say."""
    found = wrong(f"\n{script}", "x.sh")
    assert len(found) == 1
    assert re.match(r"x\.sh:[23]: ", found[0])
    assert found[0].endswith(f": {why}")


RIGHT = [
    "ifconfig bridge0 deletem en5",
    "sed -r s/a/b/ f",  # Apple's takes it for -E
    "date -u +%s -d",  # its options end at the first operand
    "tail -c +9 f | head -5",
    "chmod -R g-w f; chmod -x f",
    "stat -f %m f",
    "printf '%s\\n' -x",
    'grep -e "$x" -- -f',
    "cat <<'END'\nsed -z\nEND",
    "# sed -z",
    "echo 'sed -z'",
    "f() { sed -n p; }\nf -z",
    "stat -c %Y f || # linux\n  stat -f %m f",
    "if [ -r /proc/stat ]; then # linux\n  ss -ltn\n  sed -z p\nelse\n  netstat -an\nfi",
    "case $(uname) in\n  Linux) # linux\n    stat -c %Y f\n    ;;\n  *) stat -f %m f ;;\nesac",
]


@pytest.mark.parametrize("script", RIGHT)
def test_what_a_mac_takes(script: str) -> None:
    assert wrong(script, "x.sh") == []


def test_a_mark_is_for_its_own_branch() -> None:
    text = "if a; then # linux\n  sed -z p\nelse\n  sed -s p\nfi\nsed -x p"
    found = wrong(text, "x.sh", known=frozenset("a"))
    assert found == [
        "x.sh:4: sed -s p: sed: illegal option -- s",
        "x.sh:6: sed -x p: sed: illegal option -- x",
    ]


def test_a_mark_is_for_the_first_of_two() -> None:
    text = 'id=$(stat -c %i "$f" 2>/dev/null || stat -{} %i "$f") # linux'
    assert wrong(text.format("f"), "x.sh") == []
    assert wrong(text.format("e"), "x.sh")[0].endswith("stat: illegal option -- e")


@pytest.mark.parametrize(
    ("command", "words", "line", "status"),
    [
        ("sed", ["-z"], "sed: illegal option -- z", 1),
        ("/usr/bin/sed", ["-i"], "/usr/bin/sed: option requires an argument -- i", 1),
        ("mkdir", ["--parents", "x"], "mkdir: illegal option -- -", 64),
        ("/usr/bin/tail", ["-s", "1"], "tail: invalid option -- s", 1),
        ("tail", ["--lin"], "tail: option `--lin' requires an argument", 1),
        ("grep", ["--count=1", "x"], "grep: option `--count' doesn't allow an argument", 2),
        ("grep", ["--no", "x"], "grep: option `--no' is ambiguous", 2),
        ("nohup", ["-x"], "nohup: illegal option -- x", 127),
        ("nc", ["-S", "h"], "usage: nc", 1),
        ("netstat", ["-K"], "-K: illegal option -- K", 64),
        ("kill", ["-SIGFOO", "1"], "kill: unknown signal SIGFOO; valid signals:", 2),
        ("top", ["-b"], "invalid option or syntax: -b", 1),
        ("ibv_devinfo", ["-l"], "ibv_devinfo: -l: not in what is published of it", None),
    ],
)
def test_check(command: str, words: list[str], line: str, status: int | None) -> None:
    """What a stand-in prints in place of a Mac's command, and how it ends."""
    assert apple.check(command, words) == (line, status)


def test_check_knows_what_is_right() -> None:
    assert apple.check("sed", ["-n", "s/a/b/p"]) is None
    assert apple.check("kill", ["-SIGTERM", "1"]) is None
    assert apple.check("/bin/ps", ["axww", "-o", "pid=,command="]) is None
    assert apple.check("no_such_command", ["-x"]) is None


# The list, and what our scripts run besides.
WANTED = """
    ifconfig networksetup launchctl sysctl pmset lsof netstat route arp ps nc rsync stat wc
    sed head find grep date xargs mktemp tail ping perl id install chown mv cp rm mkdir chmod
    cksum od tr sort uname sw_vers system_profiler ibv_devices ibv_devinfo rdma_ctl plutil
    sample footprint top iostat kill pgrep pkill cat cut printf sleep dirname pwd env nohup
    sudo sh
"""


def test_table() -> None:
    """Each row says where it was read: by file and line, or by an address."""
    rows = json.loads(Path(apple.FILE).read_text())
    assert {row["command"] for row in rows}.issuperset(WANTED.split())
    assert len(apple.rows()) == len(rows)
    for row in rows:
        source = row["source"]
        assert source["kind"] in ("source", "man", "sample"), row["command"]
        if source["kind"] == "source":
            assert re.fullmatch(r"apple-oss-distributions/\w+", source["repository"])
            assert re.fullmatch(r"\w+-[\d.]+", source["tag"])
        else:
            assert source["address"].startswith("https://")
        for group in row.get("words", []):
            where = [group.get("address") or group.get("file") or source.get("address")]
            assert where[0], row["command"]
            lines = [each for each in group["lines"].values() if each is not None]
            assert lines or "sample" in (source["kind"], group.get("kind")), row["command"]


# A test host's wrappers: what starts often, and what GNU's and Apple's take differently.
GUARDED = [
    "chmod", "date", "find", "grep", "head", "mktemp", "ps", "rm", "sed", "sort", "stat", "tail",
    "wc", "xargs",
]  # fmt: skip


def _word(command: str) -> st.SearchStrategy[str]:
    """Words that the command knows, that it does not, and that are nearly those."""
    row = apple.find(command)
    assert row
    known = [*row.long, *row.words.get("primary", ()), *row.words.get("keyword", ())]
    letters = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyzABCEFGHILPRSTWX015-"), max_size=3)
    odd = ["--", "-", "", ".", "x", "5", "-5", "+3", "-o", "pid=,foo=", "axww", ";", "+", "(", "!"]
    names = st.sampled_from([f"--{name}" for name in known] + known) if known else st.nothing()
    cut = st.builds(lambda name, end: name[:end], names, st.integers(1, 12)) if known else names
    return st.one_of(
        letters.map("-{}".format), st.sampled_from(odd), names, cut, names.map("{}=1".format)
    )


def _same(command: str, words: list[str]) -> None:
    """What a guard refuses, and how, is what `check` refuses."""
    line = ["dash", "-c", guards.guard(command, "/bin/true"), "x", *words]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    told = apple.check(command, words)
    expected = (told.line, told.status or 1) if told else ("", 0)
    assert (done.stderr.partition("\n")[0], done.returncode) == expected


@pytest.mark.parametrize("command", GUARDED)
@settings(max_examples=12)
@given(data=st.data())
def test_guard(command: str, data: st.DataObject) -> None:
    _same(command, data.draw(st.lists(_word(command), max_size=4)))


@pytest.mark.parametrize(
    "line",
    [
        "find . -name -foo", "find . -print -foo", "find . -exec x -foo ; -bar", "find a b",
        "find . ! ( -name x -o -true )", "find -L -name x", "find", "head -5 f", "head -5b f",
        "tail +3lf -z", "tail -3x f", "tail -7 -n 1 f", "ps axwwg -o pid=", "ps -axwwg -o pid=",
        "ps -o pid=,foo= -z", "ps -p 1 x", "date -Iseconds", "date -r 1 +%s -d", "chmod g-w -z",
        "chmod -R -w -z", "grep --exclude-di=x -c a -P", "rm -f -- -z", "sort --key 1 --key",
    ],
)  # fmt: skip
def test_guard_of(line: str) -> None:
    command, *words = line.split()
    _same(command, words)


def test_guard_runs_the_command() -> None:
    done = subprocess.run(
        ["dash", "-c", guards.guard("tail", "tail"), "x", "-n", "1"],
        input="a\nb\n", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "b\n"
