"""Are a model's files what their source says, on every node? Pure: hashes -> findings."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ...facts.machine.memory import gigabytes
from ..finding import FAIL, OK, WARN, Finding, more

_AGAIN = "copy or download it again"


@dataclass(frozen=True)
class HashedFile:
    """A file as remote/verify.py tells it; `right` is None where no source says what it must be."""

    size: int
    sha256: str
    source: str = ""
    right: bool | None = None
    changed: bool = False
    cut: bool = False


HashedFiles = Mapping[str, HashedFile]


def judge(nodes: Mapping[str, HashedFiles]) -> list[Finding]:
    """A finding per node: its first file that is wrong, or what speaks for all of them."""
    return [_judge(node, nodes) for node in nodes]


def _judge(node: str, nodes: Mapping[str, HashedFiles]) -> Finding:
    if wrong := list(_wrong(node, nodes)):
        return Finding("verify", FAIL, node, wrong[0] + more(wrong), _AGAIN)
    files = nodes[node].values()
    what = f"{len(files)} files, {gigabytes(sum(each.size for each in files))}"
    known = {each.source for each in files if each.source}
    unknown = sum(not each.source for each in files)
    if known:
        by = ", ".join(sorted(known))
        rest = f"; {unknown} of them nobody knows" if unknown else ""
        return Finding("verify", OK, node, f"{what}, as their source has them ({by}){rest}")
    same = "the same on all nodes" if len(nodes) > 1 else "read"
    fix = "a SHA256SUMS of their source in the folder would tell (shasum -a 256 *)"
    return Finding("verify", WARN, node, f"{what}, {same}; whether they are right nobody says", fix)


def _wrong(node: str, nodes: Mapping[str, HashedFiles]) -> Iterator[str]:
    for name, file in nodes[node].items():
        if file.cut:
            yield f"{name} is not as long as its header says"
        elif file.right is False:
            yield f"{name} is not what its source says ({file.source})"
        elif file.changed:
            yield f"{name} is not what it was the last time, and says it was not written since"
        elif file.right is None and (other := _differs(node, name, nodes)):
            yield f"{name} is not that of {other}, and nobody says which one is right"
    every = {name for files in nodes.values() for name in files}
    yield from (f"{name} is missing" for name in sorted(every - nodes[node].keys()))


def _differs(node: str, name: str, nodes: Mapping[str, HashedFiles]) -> str:
    """The first node that has another file of that name."""
    mine = nodes[node][name].sha256
    others = ((other, files.get(name)) for other, files in nodes.items())
    return next((other for other, file in others if file and file.sha256 != mine), "")
