"""The docs say what the code does: generated pages are current, links lead somewhere."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import DEADLINE, ROOT, Inv
from rig import Rig
from test_wrong_use import Local
from test_wrong_use import local as local

from tasks import maintain, ns
from tasks.cli.program import Program
from tasks.cluster.config.settings import DEFAULTS

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKED = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

MAINTAIN = [f"maintain.{name}" for name in maintain.ns.task_names]  # in this checkout's list only


def test_generated_pages_are_current() -> None:
    # A process of its own: other tests have loaded the tasks, and Invoke changes them.
    line = [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stderr}run: uv run python docs/generate.py"


@pytest.mark.parametrize("page", LINKED, ids=[str(page.relative_to(ROOT)) for page in LINKED])
def test_links(page: Path) -> None:
    # A program's `Key[int]("days")` is no link.
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", text):
        if "://" not in target:
            leads_to = page.parent / target if target else page
            assert leads_to.exists(), target
            assert not anchor or anchor in anchors(leads_to), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """What a page's headings are called in links, as GitHub makes it."""
    heads = re.findall(r"^#+ +(.+)$", page.read_text(), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", head.lower()) for head in heads)
    return {head.strip().replace(" ", "-") for head in plain}


@pytest.mark.parametrize("picture", sorted((ROOT / "docs").rglob("*.svg")), ids=lambda p: p.name)
def test_pictures_tell_nothing_of_a_machine(picture: Path) -> None:
    assert re.findall(r"/(?:work|home|root|tmp|Users)/[^<]*", picture.read_text()) == []


# As "unit/remote/test_entry::test_x" or "test_rig::TestBoot::test_y".
NAMED_TEST = re.compile(r"((?:unit/[\w/]*/)?test_\w+)((?:::\w+)+)")


def test_tests_that_the_docs_name_are_there() -> None:
    pages = [ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
    named = {found for page in pages for found in NAMED_TEST.findall(page.read_text())}
    assert len(named) > 50
    lacking = []
    for file, names in named:
        path = ROOT / "tests" / f"{file}.py"
        text = path.read_text() if path.exists() else ""
        wanted = names.split("::")[1:]
        if not all(re.search(rf"^ *(def|class) {name}\b", text, re.MULTILINE) for name in wanted):
            lacking.append(f"{file}{names}")
    assert lacking == []


def test_what_each_task_touches_is_told() -> None:
    told = (ROOT / "docs" / "security.md").read_text().partition("may touch\n")[2]
    of_checkout = ("bench.", "test.")
    tasks = [name for name in ns.task_names if not name.startswith(of_checkout)]
    assert [name for name in tasks if f"`{name}`" not in told.partition("\n## ")[0]] == []


def test_each_task_is_one_line_of_the_list(inv: Inv) -> None:
    """But for those for work on this project, which a list of their own has."""
    listed = _listed(inv("--list").out)
    for name in Program.apart:
        listed += [f"{name}{each}" for each in _listed(inv("--list", name).out)]
    assert sorted(listed) == sorted([*ns.task_names, *MAINTAIN])


def _listed(shown: str) -> list[str]:
    return [line.split()[0] for line in shown.splitlines() if line.startswith("  ")]


def test_a_list_cut_off_by_its_reader_is_no_traceback(inv: Inv) -> None:
    read, write = os.pipe()
    os.close(read)
    process = inv.start("--list", stdout=write)
    os.close(write)
    assert process.communicate(timeout=DEADLINE)[1] == ""
    assert process.returncode == 141


def test_every_dependency_has_its_reason() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    names = set(re.findall(r'^    "([a-z-]+)[>=]', project, re.MULTILINE))
    names |= set(re.findall(r'"([a-z-]+)>=', project))
    explained = (ROOT / "docs" / "dependencies.md").read_text()
    assert names
    assert [name for name in names if name not in explained] == []


# Code blocks of commands: ```sh is for commands that the tests run, ```sh needs-mac for those that
# want a Mac or a cluster of one's own. Either way every inv in them must be one that there is.
BLOCK = re.compile(r"^```sh( needs-mac)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`inv ((?:[^`*]|\n)+)`")
ELSEWHERE = {  # what is no task of ours, and who runs it
    "python3 -m venv .uv": ".ci/run",
    ".uv/bin/pip install -q uv": ".ci/run",
    "uv run pytest": ".ci/run",
}


def commands(page: Path, marked: bool) -> list[str]:
    """The command lines of a page's blocks (those that need a Mac or not), without comments."""
    blocks = [text for mark, text in BLOCK.findall(page.read_text()) if bool(mark) == marked]
    lines = [line.partition("  #")[0].strip() for text in blocks for line in text.splitlines()]
    return [each for line in lines if line for each in line.split(" && ")]


def task_line(command: str) -> list[str] | None:
    """The words after inv, or None where it is no inv."""
    words = shlex.split(command)
    while words[:1] == ["sudo"] or words[:2] in (["uv", "run"], [".uv/bin/uv", "run"]):
        words = words[1 if words[0] == "sudo" else 2 :]
    return words[1:] if words[:1] == ["inv"] else None


HERE = [(page.name, line) for page in PAGES for line in commands(page, False)]
ON_A_MAC = [(page.name, line) for page in PAGES for line in commands(page, True)]
IN_TEXT = [
    (page.name, f"inv {' '.join(text.split())}")
    for page in PAGES
    for text in INLINE.findall(page.read_text())
]
OWN = ("-c", "-r")  # another task file: docs/examples, which are run, or one of the reader's own
INV = {
    line
    for _, line in [*HERE, *ON_A_MAC, *IN_TEXT]
    if (words := task_line(line)) and words[0] not in OWN
}


# What is not run word for word where nobody answers, and why; Invoke's own parser takes it.
NOT_RUN = {
    r"inv (tp\.chat|dev\.model)": "it names the task, which wants a word more",
    r"inv tp\.stop --all": "it asks first, on a terminal: test_bystanders.py",
    r".* tp\.(watch|top)\b.*|.* --follow": "it looks on until Ctrl-C: test_watch.py, test_logs.py",
    r"inv tp\.bench --(compare|canary --against) .*": "its files: test_canary.py",
    r".* dev\.loop": "it looks on until Ctrl-C: test_loop.py",
    r".*\binv demo": "it starts real ranks: test_demo.py",
    r".* local\.\w+.*": "it wants root and namespaces: test_rig.py",
    r"inv (maintain|bench|test)\.\w+": "it takes minutes: inv maintain.long",
}


@pytest.mark.parametrize("line", sorted(INV), ids=lambda line: line)
def test_command_is_taken(reader: Local, line: str) -> None:
    """Task, options and values are what they should be: it gets as far as hosts that are not there.

    It ends as a check (3), an action (4) or a host (5) does, never as wrong use (1, 2).
    """
    words = task_line(line) or []
    if not any(re.fullmatch(each, line) for each in NOT_RUN):
        done = reader(shlex.join(words), None if "-f" in words else READERS.format(reader.home))
        assert done.code in (0, 3, 4, 5), done.err
        return
    program = Program(namespace=ns, name="inv")
    program.create_config()
    program.parse_core(["inv", *words])
    program.parse_collection()
    if len(words) > 1:  # else the task is named alone, without what it may want
        program.parse_tasks()


# An invoke.yaml of a reader who has done what the pages say, in a home of {0}.
READERS = """
tp: {{clusters: {{chat: {{hostfile: {0}/hosts.json}}}}}}
dev: {{source: {0}/src/vllm-mlx, target: src/vllm-mlx}}
"""


@pytest.fixture
def reader(local: Local) -> Local:
    """In a folder with all that the pages' commands name; no host answers."""
    home = local.home
    (home / "ssh_config").write_text("Host *\n  HostName 127.0.0.1\n  Port 1\n")
    for folder in ("models/M", "models/llama", "src/vllm-mlx", "hosts", ".rig"):
        (home / folder).mkdir(parents=True)
        (home / folder / "a file").write_text("of it")
    links = [
        {
            "ssh": f"mac{number}",
            "ips": [f"10.254.0.{4 + number}"],
            "rdma": ["rdma_en5", None] if number == 2 else [None, "rdma_en5"],
            "links": {"en5": f"10.254.0.{4 + number}/30"},
        }
        for number in (1, 2)
    ]
    for file in ("hosts.json", "hosts/mine.json", "h.json", "FILE"):
        (home / file).write_text(json.dumps({"engine": "mlx-lm", "hosts": links}))
    for file in (".rig/invoke.yaml", "other.yaml", "FILE..."):
        (home / file).touch()
    local.patch.chdir(home)
    local.patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    return local


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_commands_are_in_blocks(page: Path) -> None:
    """A command elsewhere than in a block of ours would be held against nothing."""
    if page.name != "reference.md":  # its text is the tasks' own
        rest = BLOCK.sub("", page.read_text())
        assert re.findall(r"^ *(?:\$ |sudo |uv run )*inv .*", rest, re.MULTILINE) == []


def test_every_command_is_run_or_marked() -> None:
    """A line that is not marked is run: by the test below, or its task by another one."""
    tests = {path: path.read_text() for path in (ROOT / "tests").glob("test_*.py")}
    for name in ("test_docs.py", "test_wrong_use.py"):
        del tests[ROOT / "tests" / name]
    for page, line in HERE:
        words = task_line(line)
        if words is None:
            said = line.replace(".uv/bin/uv ", "uv ")
            start = next((each for each in ELSEWHERE if said.startswith(each)), None)
            assert start, f"{page}: {line}: who runs it? mark its block: ```sh needs-mac"
            assert start in (ROOT / ELSEWHERE[start]).read_text(), start
        else:
            task = next(word for word in words if word in ns.task_names or word.isidentifier())
            assert any(f'"{task}"' in text for text in tests.values()), f"{page}: {line}"


def test_unboxing(inv: Inv, home: Path, tiny: Path, macs: Callable[..., Rig]) -> None:
    """The guide from two Macs to the first token, line by line, on two test hosts."""
    macs()
    checkout = home / "mlx-tp-tasks"
    checkout.mkdir()
    for name in ("tasks.py", "tasks", "invoke.yaml", "docs", "tests"):
        (checkout / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "hosts", checkout / "hosts")
    shutil.copytree(tiny, home / "models" / "llama")
    (home / "bin").mkdir()
    (home / "bin" / "inv").write_text(f'#!/bin/sh\nexec {sys.executable} -m invoke "$@"\n')
    (home / "bin" / "inv").chmod(0o755)
    inv.env.update(
        PATH=f"{home / 'bin'}:{os.environ['PATH']}",
        INVOKE_TP_ENGINE="mlx-lm",
        INVOKE_TP_PYTHON=sys.executable,
    )
    said = {}
    try:
        for line in commands(ROOT / "docs" / "unboxing.md", marked=False):
            if line == "inv demo":
                continue  # test_demo.py runs it
            if "rdma.discover" not in line:
                inv.env.setdefault("INVOKE_TP_HOSTFILE", "hosts/mine.json")
            done = subprocess.run(
                ["bash", "-c", line],
                cwd=checkout,
                env=inv.environment(),
                capture_output=True,
                text=True,
                timeout=DEADLINE,
                check=False,
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            said[line] = done.stdout + done.stderr
    finally:
        inv.run("tp.stop", "--force", "--hosts", "mac1,mac2")
    start = next(text for line, text in said.items() if "tp.start" in line)
    assert "healthy: a token" in start
    assert "stopped" in said["inv tp.stop"]


def flags(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text))


def test_every_flag_of_mlx_launch_has_its_row() -> None:
    line = [str(Path(sys.executable).with_name("mlx.launch")), "--help"]
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=DEADLINE)
    rows = "".join(row.split("|")[1] for row in table("mlx.launch"))
    assert flags(done.stdout) - {"-h", "--help"} == flags(rows)


SCRIPTS = {
    "rdma_setup.py": "--node --proxy --netmask --dry-run --verbose",
    "tp_start.py": "--backend --hostfile --hosts -n --num-ranks --env --timeout --skip-checks"
    " --foreground --log-dir --engine --python --cwd",
    "tp_stop.py": "--hostfile --hosts --force --timeout --order",
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_flag_of_the_scripts_has_its_row(script: str) -> None:
    rows = "".join(row.split("|")[1] for row in table(script))
    assert set(SCRIPTS[script].split()) == flags(rows)


@pytest.mark.parametrize("program", ["mlx.launch", *SCRIPTS])
def test_what_they_became_is_there(program: str) -> None:
    page = (ROOT / "docs" / "coming-from.md").read_text()
    found = re.search(rf"^## {re.escape(program)}: inv ([\w.]+)$", page, re.MULTILINE)
    assert found
    ours = {f"-{name}" if len(name) == 1 else f"--{name}" for name in names(found.group(1))}
    cells = "".join(row.split("|")[2] for row in table(program))
    assert flags(cells)
    assert flags(cells) - ours == set()
    assert set(re.findall(r"`tp\.(\w+)`", cells)) <= set(DEFAULTS["tp"])


def names(task: str) -> set[str]:
    return {name for each in ns[task].get_arguments() for name in each.names}


def table(program: str) -> list[str]:
    """The rows of a program's table in docs/coming-from.md."""
    page = (ROOT / "docs" / "coming-from.md").read_text()
    part = page.partition(f"## {program}: ")[2].partition("\n## ")[0]
    return re.findall(r"^\| `.*\|$", part, re.MULTILINE)


def test_help_is_complete(inv: Inv) -> None:
    """Every option of every task is explained, and tp.start's help shows command lines."""
    reference = (ROOT / "docs" / "reference.md").read_text()
    assert len(re.findall(r"^\| `--", reference, re.MULTILINE)) > 100
    assert re.findall(r"^\| `[^|]*\| *\|$", reference, re.MULTILINE) == []
    shown = inv("--help", "tp.start").out
    assert shown.count("  inv tp.start") == 3
    options = {f"--{name.replace('_', '-')}" for name in names("tp.start") if len(name) > 1}
    assert options <= flags(shown)
