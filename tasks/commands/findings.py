"""Findings and nodes that gave no answer, told to people."""

from collections.abc import Sequence

from ..cluster.checks import FAIL, Finding
from ..cluster.errors import Unreachable
from ..cluster.facts.snapshot import Snapshot


def lost(read: Snapshot) -> list[Finding]:
    """A finding per node that could not be reached."""
    return [
        Finding("reachable", FAIL, node, why, fix) for node, (why, fix) in read.unreachable.items()
    ]


def unreachable(read: Snapshot) -> None:
    """Raise Unreachable if a node did not answer."""
    if read.unreachable:
        names = ", ".join(read.unreachable)
        raise Unreachable(f"{names}: can't be reached, see above")


def rows(findings: Sequence[Finding]) -> list[tuple[str, ...]]:
    """A row per check where all nodes agree that it is fine, else a row per node."""
    made: list[tuple[str, ...]] = []
    for check in dict.fromkeys(each.check for each in findings):
        of_check = [each for each in findings if each.check == check]
        same = {(each.level, each.what) for each in of_check}
        if len(same) == 1 and of_check[0].level != FAIL:
            nodes = of_check[0].node if len(of_check) == 1 else f"{len(of_check)} nodes"
            made.append((of_check[0].level, check, nodes, with_fix(of_check[0])))
        else:
            made += [(each.level, check, each.node, with_fix(each)) for each in of_check]
    return made


def by_node(findings: Sequence[Finding]) -> list[tuple[str, ...]]:
    return [(each.level, each.node, with_fix(each)) for each in findings]


def with_fix(finding: Finding) -> str:
    return f"{finding.what}: {finding.fix}" if finding.fix else finding.what
