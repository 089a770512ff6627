"""What a node says takes no long time to read, whatever it is."""

from __future__ import annotations

import subprocess
import sys

from conftest import DEADLINE
from hypothesis import given
from hypothesis import strategies as st

from tasks.cluster import facts
from tasks.cluster.facts import Fact, Key, Unknown
from tasks.cluster.text import LINE, one_line, tamed

# Each of these took a regular expression minutes, or for ever, in some parser.
NASTY = """
import sys
from tasks.cluster import facts
from tasks.cluster.hosts import selftest
from tasks.cluster.text import one_line, plain, said, tamed
wanted = selftest.wanted("python3", None, "~/.mlx-tp").values()
whole = facts.Fact(facts.Key("any"), "", lambda text, status: text)
for told in sys.argv[1:]:
    print(told, flush=True)
    text = eval(told)
    facts.read([whole], f"1 begin any\\n{text}\\n1 end any 0\\n", "1")
    short = tamed(text)
    for fact in wanted:
        for status in (0, 1):
            try:
                fact.parse(text if fact.is_raw else short, status)
            except ValueError:
                pass
    one_line(text), plain(text), said(text)
"""
TEXTS = (
    "' ' * 200_000", "'\\n' * 200_000", "' \\n' * 100_000", "'a' * 200_000", "'1 ' * 100_000",
    "'a: ' * 60_000", "'\\t\\r' * 100_000", "'en0: flags=1<UP>\\n\\t' * 10_000", "'(' * 200_000",
)  # fmt: skip


def test_no_answer_holds_up_the_control_machine() -> None:
    line = [sys.executable, "-c", NASTY, *TEXTS]
    # Where it hangs it has named the text.
    subprocess.run(line, stdout=sys.stderr, check=True, timeout=DEADLINE)


@given(st.text(st.sampled_from("a \t\r\n"), max_size=6000))
def test_lines_are_bounded_and_words_stay(text: str) -> None:
    found = tamed(text)
    assert all(len(line) <= LINE for line in found.split("\n"))
    if len(text) <= LINE:
        assert found.split() == text.split()


@given(st.text(st.sampled_from("ab \t\n"), max_size=60))
def test_one_line(text: str) -> None:
    found = one_line(text)
    assert "\n" not in found
    assert found.split() == text.split()


def test_more_than_its_limit_is_unknown() -> None:
    """It is cut on the node: what is after it is told all the same, with its status."""
    long = Fact(Key[str]("long"), "yes", lambda text, status: text, limit=1000)
    after = Fact(
        Key[str]("after"), "echo two; exit 3", lambda text, status: f"{text.strip()}{status}"
    )
    said = subprocess.run(
        ["/bin/sh", "-s"], input=facts.script([long, after], "n"), capture_output=True, text=True,
        timeout=DEADLINE, check=False,
    )  # fmt: skip
    assert len(said.stdout) < 2000
    assert said.stderr == ""
    found = facts.read([long, after], said.stdout, "n")
    assert found.get(long.key) == Unknown("it said more than 0 KiB")
    assert found[after.key] == "two3"
