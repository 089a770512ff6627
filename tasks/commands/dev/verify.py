"""What inv dev.model --verify does: are the files on the nodes, to the last byte, the model?"""

import io
import json
import sys
import time
from dataclasses import asdict

from ...cli import envelope, screen
from ...cluster.checks.finding import FAIL, Finding
from ...cluster.checks.models.verified import HashedFile, judge
from ...cluster.cluster import Cluster
from ...cluster.errors import BadInput, CheckFailed, Unreachable
from ...cluster.facts.machine.memory import gigabytes
from ...cluster.facts.models import model
from ...cluster.ssh import nodes, scripts
from ...cluster.ssh.node import CommandResult, Node
from ...cluster.text import said
from ..findings import with_fix

QUIET = 10.0  # seconds between two lines of a node


def run(cluster: Cluster, path: str) -> None:
    """Hash all nodes' files at once; raise if one is wrong. What is interrupted goes on later."""
    if not path or not path.isprintable():
        raise BadInput(f"{path!r}: give a model's folder or its Hugging Face name")
    answers = nodes.each(cluster.nodes, lambda node: _hash(cluster, node, path))
    files, findings = {}, []
    for node, answer in answers.items():
        found = _files(answer)
        if isinstance(found, str):
            findings.append(Finding("verify", FAIL, node, found))
        else:
            files[node] = found
    findings += judge(files)
    told = {node: {name: asdict(f) for name, f in each.items()} for node, each in files.items()}
    if not envelope.given({"verify": told}, findings):
        screen.table([(f.level, f.check, f.node, with_fix(f)) for f in findings], sys.stdout)
    if lost := [node for node, answer in answers.items() if answer.failure]:
        raise Unreachable(f"{', '.join(lost)}: can't be reached, see above")
    if failed := [each for each in findings if each.level == FAIL]:
        raise CheckFailed(f"{path}: {failed[0].node}: {failed[0].what}")


def _hash(cluster: Cluster, node: Node, path: str) -> CommandResult:
    rank = cluster.on(node)[0]
    values = {**model.values(path, rank.cwd), "python": rank.command[0]}
    script = scripts.script(
        "verify.sh", verify=scripts.text("verify.py"), state_dir=cluster.state_dir, **values
    )
    return node.sh(script, timeout=0, out_stream=_Progress(node.name))


def _files(answer: CommandResult) -> dict[str, HashedFile] | str:
    """What a node found, or why it found nothing."""
    if answer.failure:
        return answer.failure + (f": {answer.remedy}" if answer.remedy else "")
    if answer.status == model.MISSING:
        return "the model is not there"
    try:
        last = json.loads(answer.out.rstrip().rpartition("\n")[2])
        return {str(name): HashedFile(**each) for name, each in last["files"].items()}
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return f"its files can't be read: {said(answer.err) or 'it said nothing'}"


class _Progress(io.TextIOBase):
    """Says now and then how far a node is."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self.node, self.rest, self.spoke = node, "", time.monotonic()

    def write(self, text: str) -> int:
        *lines, self.rest = (self.rest + text).split("\n")
        if lines and time.monotonic() - self.spoke > QUIET:
            self.spoke = time.monotonic()
            self._say(lines[-1])
        return len(text)

    def _say(self, line: str) -> None:
        try:
            now = json.loads(line)
            far = f"{gigabytes(now['done'])} of {gigabytes(now['of'])}"
            screen.say(f"{self.node}: {far}, {now['file']}")
        except (ValueError, TypeError, LookupError):
            return
