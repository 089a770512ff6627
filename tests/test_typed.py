"""Command lines as people type them: each works or is answered with the line that puts it right.

tests/data/typed.tsv has them with their exit status and what the line says. THEIRS is the hostfile
of the scripts that the users come from. Nobody answers here: what works gets as far as SSH.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import ROOT, Inv
from test_wrong_use import Local
from test_wrong_use import local as local

from tasks import ns
from tasks.cli.program import Program, paragraphs
from tasks.cluster import cluster
from tasks.cluster.checks import model as model_checks
from tasks.cluster.facts import NodeFacts
from tasks.cluster.facts.models import model
from tasks.cluster.facts.snapshot import Snapshot

ROWS = [line.split("\t") for line in (ROOT / "tests/data/typed.tsv").read_text().splitlines()]
THEIRS = {
    "backend": "jaccl",
    "envs": ["MLX_METAL_FAST_SYNCH=1"],
    "hosts": [
        {"ssh": "hwstudio1", "ips": ["10.254.0.5"], "rdma": [None, "rdma_en5"]},
        {"ssh": "hwstudio2", "ips": ["10.254.0.6"], "rdma": ["rdma_en5", None]},
    ],
}


@pytest.fixture
def typed(local: Local) -> Local:
    """As one types it: the shell has made ~ a home, and ssh knows their hosts."""
    (local.home / "theirs.json").write_text(json.dumps(THEIRS))
    named = "".join(f"Host hwstudio{i}\n  HostName 127.0.0.{i}\n" for i in (1, 2))
    (local.home / "ssh_config").write_text(f"{named}Host *\n  Port 1\n")
    return local


@pytest.mark.parametrize(("line", "code", "says"), ROWS, ids=[row[0] for row in ROWS])
def test_typed(typed: Local, line: str, code: str, says: str) -> None:
    theirs = str(typed.home / "theirs.json")
    # Within quotes it stays what it is, as in a shell.
    words = re.sub(r"(?<= )~(?=/)", str(typed.home), line).replace("THEIRS", theirs)
    done = typed(words)
    assert done.code == int(code), done.err
    assert says in re.sub(rf"{theirs}|~/theirs.json", "THEIRS", done.err)
    assert "Traceback" not in done.err


@pytest.mark.parametrize("task", ["tp.status", "tp.start", "hosts.check", "rdma.status", "tp.top"])
def test_a_wrong_host_name(typed: Local, task: str) -> None:
    """Whoever has misspelled a host is told its right name."""
    (typed.home / "ssh_config").write_text("Host *\n")
    node = "--node mca2.invalid:en5:10.0.0.1 --node mca3.invalid:en5:10.0.0.2"
    line = f"{task} {node if task == 'rdma.status' else '--hosts mca2.invalid'}"
    done = typed(line)
    said = done.out + done.err
    assert re.search("no such host: mca2.invalid; in the hostfile: mac1, mac2", said), said


def test_inv_alone(typed: Local) -> None:
    """The main job's five commands, each of which there is, and where the rest is."""
    done = typed("")
    assert done.code == 0
    shown = [line.split()[1] for line in done.out.splitlines() if line.startswith("  inv ")]
    assert shown == list(Program.first)
    assert set(shown) <= set(ns.task_names)
    assert "inv --list" in done.out


def test_a_namespace(typed: Local) -> None:
    assert typed("tp").out == typed("--list tp").out
    assert " .start " in typed("tp").out


def test_the_list_is_grouped(typed: Local) -> None:
    """Under its headings is every task for users, and none twice."""
    shown = typed("--list").out.splitlines()
    names = [line.split()[0] for line in shown if line.startswith("  ")]
    users = [each for each in ns.task_names if each.partition(".")[0] not in Program.apart]
    assert sorted(names) == sorted(users)
    *heads, last = (line for line in shown if line and line[0] != " ")
    assert [line[:-1] for line in heads] == list(Program.groups)
    assert last.endswith(": inv --list bench | test")


def test_help_has_commands_to_copy() -> None:
    text = "A line.\n\ninv tp.start --hosts mac1,mac2 --backend ring -- --model M --port 8000"
    lines = list(paragraphs(text, 60))
    assert max(map(len, lines)) <= 58
    assert "\n".join(lines).replace(" \\\n    ", " ").strip() == text


def test_a_home_that_the_shell_wrote_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is not on a node, but below ~ here, may be there below the node's own ~."""
    monkeypatch.setenv("HOME", str(tmp_path))
    said = {}
    page = "https://huggingface.co/org/K"
    for path in (f"{tmp_path}/models/K", "/models/K", page):
        made = cluster.build({"hostfile": "hosts/local.json"}, ["--model", path])
        facts = NodeFacts("mac1", {model.KEY: model.Model(None)})
        snapshot = Snapshot({"mac1": facts}, {})
        (found,) = model_checks.same_files(made.expected, snapshot)
        said[path] = found.fix
    assert "write '~/models/K', in quotes" in said[f"{tmp_path}/models/K"]
    assert "~" not in said["/models/K"]
    assert said[page] == "name its repository: org/K"


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["from tasks import ns, tpp"], "mine.py:3: ImportError: cannot import name 'tpp'"),
        (
            ["from tasks import ns, tp", "ns.add_task(tp.start, 'tp')"],
            "mine.py:4: ValueError",
        ),
        (["from tasks import ns", "import broken"], "broken.py:1: SyntaxError: invalid syntax"),
        (["from tasks import ns", "import json", "json.loads('')"], "mine.py:5: JSONDecodeError:"),
    ],
)
def test_a_file_of_ones_own(inv: Inv, tmp_path: Path, lines: list[str], says: str) -> None:
    """A task file that can't be loaded, or has a name that is taken: where, and why."""
    first = ["import sys", f"sys.path.insert(0, {str(ROOT)!r})"]
    (tmp_path / "mine.py").write_text("\n".join([*first, *lines]))
    (tmp_path / "broken.py").write_text("def (:")
    inv.cwd = tmp_path
    line = inv("-c", "mine", "--list", code=2).one_line()
    assert line.startswith(str(tmp_path))
    assert says in line
