"""Reading and telling for inv dev.model. Nothing here changes a node."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace

from ...cli import envelope, screen
from ...cluster.checks import FAIL, Finding, model
from ...cluster.checks.models.fit import CONTEXT
from ...cluster.cluster import Cluster
from ...cluster.errors import BadInput, CheckFailed
from ...cluster.facts import known
from ...cluster.facts.machine.memory import gigabytes
from ...cluster.facts.models import rates, split
from ...cluster.facts.models.split import PIPELINE, TENSOR, Split, SplitRow
from ...cluster.facts.snapshot import Snapshot
from ...cluster.server import snapshots
from ...cluster.ssh.node import SCRIPT_TIMEOUT
from ..findings import lost, unreachable, with_fix
from ..tp import speed

TABLE = (1, 2, 3, 4, 5, 6, 7, 8)  # ranks


def run(cluster: Cluster, path: str, tokens: int | None, is_one: bool) -> None:
    """Tell whether the model can run, and unless `is_one` by what numbers of ranks; or raise."""
    if not path or not path.isprintable():
        raise BadInput(f"{path!r}: give a model's folder or its Hugging Face name")
    ranks = () if is_one else sorted({*TABLE, len(cluster.ranks)})
    read = _read(cluster, path, ranks)
    said = next((s for each in read.nodes.values() if (s := known(each, split.KEY))), None)
    context = tokens or (said.context if said else None) or CONTEXT
    expected = replace(cluster.expected, model=path)
    findings = lost(read) + model.same_files(expected, read)
    findings += model.shares(expected, read, context)
    failed = [finding for finding in findings if finding.level == FAIL]
    if not envelope.given({"split": _document(said), "context": context}, findings):
        _print(findings, said, ranks, context)
    speed.tell_fewer(cluster, read, path)
    unreachable(read)
    if failed:
        raise CheckFailed(f"{path}: {failed[0].node}: {failed[0].what}")


def _read(cluster: Cluster, path: str, ranks: Sequence[int]) -> Snapshot:
    speeds = rates.fact(cluster.state_dir, cluster.name)
    return snapshots.read(
        cluster.nodes,
        lambda node: [*model.of_model(cluster, node, path, ranks), speeds],
        split.TABLE_SECONDS + 10 if ranks else SCRIPT_TIMEOUT,
    )


def _print(
    findings: Sequence[Finding], said: Split | None, ranks: Sequence[int], tokens: int
) -> None:
    screen.table([(f.level, f.check, f.node, with_fix(f)) for f in findings], sys.stdout)
    if said and said.version and ranks:
        screen.out("")
        screen.table(
            [
                ("", "tensor parallel, a rank", "--pipeline, the largest rank"),
                *(_row(said, number, tokens) for number in ranks),
            ],
            sys.stdout,
        )


def _document(said: Split | None) -> dict[str, object] | None:
    """The answer without what is told of files: findings say what is wrong with these."""
    if said is None:
        return None
    return {key: value for key, value in asdict(said).items() if key != "weights"}


def _row(said: Split, number: int, tokens: int) -> tuple[str, str, str]:
    """A row of the table: what each rank holds, or why it can't."""
    pipeline = _cell(said.row(number, PIPELINE), tokens) if number > 1 else ""
    return f"-n {number}", _cell(said.row(number, TENSOR), tokens), pipeline


def _cell(row: SplitRow, tokens: int) -> str:
    if row.answer != "yes":
        return f"{row.answer}: {row.why}"
    weights, cache = max(row.sizes), row.cached(tokens)
    return f"{gigabytes(weights)} + {gigabytes(cache)} for {tokens} tokens"
