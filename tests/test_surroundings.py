"""Whatever a user's machine is like: his own files, locale, streams, folders. No traceback."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import layout
import pytest
from conftest import DEADLINE, LOCAL, ROOT, Inv, clean_up, light_cluster, require
from surroundings import ALONE, FACTORS, ODD, Surroundings, pairwise
from test_docs import MAINTAIN
from test_wrong_use import Local
from test_wrong_use import local as local

from tasks import ns

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    pytest.param(block, id=f"{page.name}: {' '.join(block.split())[:40]}")
    for page in PAGES
    for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
]


# What is pasted from a page, as the whole configuration.


def test_there_are_blocks() -> None:
    assert len(BLOCKS) >= 8


@pytest.mark.parametrize("block", BLOCKS)
def test_each_block_is_a_configuration(local: Local, block: str) -> None:
    text = re.sub(r"[^\s{]+\.json", str(local.home / "hosts.json"), block)
    done = local("tp.preflight --skip-checks", text)
    assert (done.code, done.err) == (0, ""), done


def test_the_block_of_readme_is_a_whole_file(inv: Inv, home: Path) -> None:
    """`tasks` is ours there too: hooks of a configuration run, and hold for its cluster."""
    (block,) = re.findall(r"^```yaml\n(.*?)^```", PAGES[0].read_text(), re.MULTILINE | re.DOTALL)
    for name in ("tasks.py", "tasks"):
        (home / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "hosts", home / "hosts")
    (home / "hosts" / "mine.json").write_text((ROOT / "hosts" / "local.json").read_text())
    (home / "invoke.yaml").write_text(block)
    inv.cwd = home
    done = inv("tp.start", "--dry-run", "--skip-checks")
    assert re.findall(r"^# on 127.0.0.1, rank (\d)", done.out, re.MULTILINE) == ["0", "1"]


# What a user has told Invoke for other things.

FOR_OTHERS = """
run: {pty: true, echo: true, hide: both, shell: /bin/false, env: {A: b}, encoding: x, warn: true}
timeouts: {command: 1}
tasks: {dedupe: false, auto_dash_names: false}
sudo: {user: eve, password: x}
"""


def test_what_users_tell_invoke_has_no_say(inv: Inv, home: Path) -> None:
    words = ("tp.stop", "--dry-run", "--order", "leader", "--hosts", "127.0.0.1")
    plain = inv(*words, "--engine", "mlx-lm").out
    (home / ".invoke.yaml").write_text(FOR_OTHERS)
    assert inv(*words, "--engine", "mlx-lm").out == plain


# Surroundings. Lines of all tasks by the exit status that each has wherever it is called.

LINES = {
    0: """
        --list
        --help tp.start
        -R bench.all
        dev.sync --hosts 127.0.0.1 --source HOME/light --target HOME/copy --dry-run
        hosts.check
        hosts.list
        hosts.list --verbose --json
        hosts.selftest
        hosts.clean --dry-run
        hosts.trust --hosts 127.0.0.1 --dry-run
        local.down
        rdma.persist --dry-run NODES
        rdma.unpersist --dry-run NODES
        tp.audit
        completion --shell bash --show
        version
        tp.cooldown
        tp.explain -- HOME/resource.log
        tp.launch --dry-run
        tp.memory
        tp.preflight --skip-checks
        tp.start --dry-run --skip-checks
        tp.status
        tp.status --json
        tp.stop
        tp.top --count 1
        tp.unlock
    """,
    1: """
        tp.strat
        demo --nothing
        test.faults --nothing
        maintain.models --nothing
        maintain.big --nothing
        tp.model --nothing
    """,
    2: """
        tp.start --timeout x
        local.fault reboot mac1
        local.reboot mac1
        local.up --nodes 9
        maintain.chaos --steps 0
        maintain.long --only ''
        maintain.mutants --limit 0
        rdma.discover
        rdma.verify --hosts a;b
        tp.watch --interval 0
    """,
    3: """
        dev.loop
        dev.model org/none HERE
        rdma.address --dry-run NODES
        rdma.devices --dry-run NODES
        rdma.ping NODES
        rdma.setup --dry-run NODES
        rdma.status NODES
        rdma.topology
        rdma.unbridge --dry-run NODES
        rdma.undo --dry-run NODES
        tp.bench
        tp.chat hi
        tp.health
        tp.restart --dry-run
        tp.wait --timeout 1
    """,
    4: "tp.logs",
}
NODES = "--node 127.0.0.1:en5:10.0.0.1 --node localhost:en6:10.0.0.2"
COMMANDS = [
    (
        line.strip().replace("NODES", NODES).replace("HERE", "--hosts 127.0.0.1 --engine mlx-lm"),
        code,
    )
    for code, lines in LINES.items()
    for line in lines.strip().splitlines()
]


@pytest.fixture
def around(inv: Inv, network: tuple[str, ...]) -> Iterator[Surroundings]:
    """A home that is not in /tmp, with a cluster of light ranks on this machine."""
    require(sys.platform.startswith("linux") and os.getuid() == 0, "needs root on Linux")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        own = replace(inv, home=Path(folder) / "home", env={}, inside=network)
        (own.home / "logs").mkdir(parents=True)
        own.env["INVOKE_TP_HOSTFILE"] = str(light_cluster(own, LOCAL))
        made = Surroundings(own)
        made.up()
        yield made
        clean_up(own)


def test_every_task_has_a_line() -> None:
    words = {word for line, _ in COMMANDS for word in line.split()}
    missing = {*ns.task_names, *MAINTAIN} - words
    assert {name.partition(".")[0] for name in missing} <= {"bench"}


def run_all(around: Surroundings, rows: Iterable[tuple[str, int, Mapping[str, str]]]) -> int:
    """How many runs there were; each ended as it should, without a traceback."""
    home = around.inv.home
    (home / "light" / os.fsdecode(b"\xe4 \xff")).write_text("x")
    (home / "resource.log").write_text("[METAL] Resource limit (499000) exceeded \u2013 \xe4\n")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = [
            pool.submit(around.run, line.replace("HOME", str(home)), levels, code)
            for line, code, levels in rows
        ]
        return len([run.result() for run in runs])


def life(around: Surroundings, *levels: Mapping[str, str]) -> None:
    """A server of light ranks, each command of its life in the next of these surroundings."""
    where = itertools.cycle(levels)
    around.run("tp.start --skip versions", next(where), 0)
    for line in ("tp.status", "tp.chat hi", "tp.logs", "tp.stop"):
        around.run(line, next(where), 0)
    assert around.run("tp.status --json", {}).json()["state"] == "stopped"


def test_a_server_started_without_a_home_is_found_again(around: Surroundings) -> None:
    without = {"home": "no HOME"}
    life(around, without, {}, without, {}, {"home": "HOME empty", "locale": "C", "folder": ODD})
    assert (around.inv.home / layout.STATE).is_dir()


def test_a_disk_that_is_full_behind_stdout(inv: Inv) -> None:
    """What the buffer still holds at the end can't be written either."""
    for words in (("hosts.list",), ("--list",)):
        with Path("/dev/full").open("w") as full:
            process = inv.start(*words, stdout=full)
            _, err = process.communicate(timeout=DEADLINE)
        told = "stdout or a temporary file: No space left on device\n"
        assert (process.returncode, err) == (4, told)


@pytest.mark.long
@pytest.mark.parametrize("levels", [*ALONE, *pairwise(FACTORS)], ids=str)
def test_a_life(around: Surroundings, levels: Mapping[str, str]) -> None:
    life(around, levels)


def test_a_sample(around: Surroundings) -> None:
    """Any two levels of two factors meet, each time with another task."""
    rows = list(pairwise(FACTORS))
    some = [COMMANDS[(11 * index) % len(COMMANDS)] for index in range(len(rows))]
    lines = zip(some, rows, strict=True)
    count = run_all(around, [(line, ends(line, code, row), row) for (line, code), row in lines])
    print(f"{count} runs without a traceback")


@pytest.mark.long
@pytest.mark.parametrize("levels", [{}, *ALONE], ids=str)
def test_all(around: Surroundings, levels: Mapping[str, str]) -> None:
    """Every line with every level by itself."""
    rows = [(line, ends(line, code, levels), levels) for line, code in COMMANDS]
    count = run_all(around, rows)
    print(f"{count} runs without a traceback")


def ends(line: str, code: int, levels: Mapping[str, str]) -> int:
    """A line's exit status there: rsync is told by a file what to leave out."""
    return 4 if line.startswith("dev.sync") and levels.get("tmp") else code
