"""What sudo is asked before anything changes, and what then runs, by a real shell."""

from __future__ import annotations

import subprocess

import pytest
from conftest import DEADLINE

from tasks.cluster.rdma import setup, sudo
from tasks.cluster.rdma.setup import Change

ADDRESS = (setup.IFCONFIG, "en5", "inet", "10.254.0.5")
OTHER = ("/bin/other", "a b")
NAMES = [" ".join(each) for each in (sudo.PROBE, ADDRESS, OTHER)]


def run(script: str, refuses: str = "") -> tuple[int, list[str], list[str]]:
    """Exit status, what it says, and what else happens: with what words sudo was called."""
    stand_in = f'sudo() {{ echo "$*" >&2; [ "$*" != "{refuses}" ]; }}\n'
    done = subprocess.run(
        ["/bin/sh", "-s"], input=stand_in + script, capture_output=True, text=True,
        check=False, timeout=DEADLINE,
    )  # fmt: skip
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()


def test_each_command_is_asked_for_and_none_is_run() -> None:
    script = sudo.may_script([ADDRESS, OTHER], None)
    asked = [f"-n {NAMES[0]}", f"-n -l {NAMES[1]}", f"-n -l {NAMES[2]}"]
    assert run(script) == (0, [], asked)
    assert run(script, asked[1]) == (1, [], asked[:2])


def test_what_no_line_allows_needs_root_for_anything() -> None:
    """A line of sudoers would say yes to the others, and sudo's -l to this one, too."""
    assert sudo.are_fixed([ADDRESS, OTHER])
    install = (setup.INSTALL, "here", "there")
    assert not sudo.are_fixed([ADDRESS, install])
    asked = [f"-n {NAMES[0]}", "-n /usr/bin/true", f"-n -l {' '.join(install)}"]
    assert run(sudo.may_script([install], None)) == (0, [], asked)


def test_with_a_password() -> None:
    asked = [f"-S -p  {NAMES[0]}", f"-S -p  -l {NAMES[1]}"]
    assert run(sudo.may_script([ADDRESS], "secret")) == (0, [], asked)
    todo = [Change("address", "mac1", "set it", ADDRESS)]
    assert run(sudo.act_script(todo, "secret")) == (0, ["done"], [f"-S -p  {NAMES[1]}"])


@pytest.mark.parametrize(("refuses", "code", "count"), [("", 0, 3), (NAMES[1], 1, 0)])
def test_changes_are_made_in_their_order_until_one_fails(
    refuses: str, code: int, count: int
) -> None:
    todo = [
        Change("address", "mac1", "set it", ADDRESS),
        Change("devices", "mac1", "write it", script="echo written >&2\n"),
        Change("other", "mac1", "do it", OTHER),
    ]
    happened = [f"-n {NAMES[1]}", "written", f"-n {NAMES[2]}"]
    found = run(sudo.act_script(todo, None), refuses and f"-n {refuses}")
    assert found == (code, ["done"] * count, happened[: count or 1])
