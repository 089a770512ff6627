"""Whatever a user's machine is like: his own files, locale, streams, folders. No traceback."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from conftest import ROOT, Inv
from test_wrong_use import Local
from test_wrong_use import local as local

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
    block = re.search(
        r"^```yaml\n(# invoke.*?)^```", PAGES[0].read_text(), re.MULTILINE | re.DOTALL
    )
    assert block
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
