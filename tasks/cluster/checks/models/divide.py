"""Does a model divide over so many ranks, and what would do instead? Pure: facts -> findings."""

from collections.abc import Mapping
from dataclasses import replace

from ...facts import NodeFacts, known
from ...facts.machine.memory import gigabytes
from ...facts.models import model, split
from ...facts.models.split import PIPELINE, TENSOR, Split, SplitRow
from ...text import either
from ..finding import FAIL, OK, WARN, Finding

TRY = "try again when that node is idle, choose --python and --cwd, or --skip model"


def divides(
    facts: Mapping[str, NodeFacts], ranks: int, mode: str, foreign: str = "", hosts: int = 1
) -> list[Finding]:
    """Whether so many ranks can run it; `foreign` is an engine that does not divide by mlx-lm.

    Other numbers are told where so many `hosts` can have them.
    """
    findings = []
    for node, values in facts.items():
        listed = known(values, model.KEY)
        if listed and not listed.is_model:
            continue  # told by the check that compares the nodes
        if error := values.lacks(split.KEY):
            found = Finding("divides", FAIL, node, f"unknown: {error.why}", TRY)
        else:
            found = _divides(node, values[split.KEY], values[split.KEY].row(ranks, mode), hosts)
        if foreign and ranks > 1:
            said = found.what.removeprefix("unknown: ")
            what = f"unknown: {foreign} does not divide by mlx-lm, which says: {said}"
            found = replace(found, level=WARN, what=what)
        findings.append(found)
    return findings


def _divides(node: str, said: Split, row: SplitRow, hosts: int) -> Finding:
    if row.answer == "no":
        return Finding("divides", FAIL, node, row.why, _instead(said, row, hosts))
    if row.answer == "unknown":
        fix = "only a start and tp.bench --canary will show"
        return Finding("divides", WARN, node, f"unknown: {row.why}", fix)
    heads = " and ".join(map(str, row.kv_heads))
    heads = heads and f", {heads} KV head{'s' * (heads != '1')}"
    each = f"{gigabytes(max(row.sizes))} of weights{heads}"
    by = "--pipeline over" if row.mode == PIPELINE and row.ranks > 1 else "by"
    count = f"{row.ranks} ranks, each" if row.ranks > 1 else "1 rank,"
    return Finding("divides", OK, node, f"{by} {count} {each} (mlx-lm {said.version})")


def _instead(said: Split, row: SplitRow, hosts: int) -> str:
    """What would do in place of so many ranks: -n 2 or 4, or -- --pipeline."""
    good = [each for each in said.rows if each.answer == "yes"]
    numbers = [each.ranks for each in good if each.mode == row.mode]
    several = [n for n in numbers if 1 < n <= hosts or (n > 1 and n % hosts == 0)] or numbers[:1]
    ways = [f"-n {either(several)}"] if several else []
    if any(each.ranks == row.ranks and each.mode != row.mode for each in good):
        ways.append("-- --pipeline" if row.mode == TENSOR else "without --pipeline")
    return ", or ".join(ways) or "another model, or another version of mlx-lm"


def asked(facts: Mapping[str, NodeFacts]) -> list[Finding]:
    """What took longer than it will the next time, as a line of its own."""
    new = {
        node: said
        for node, values in facts.items()
        if (said := known(values, split.KEY)) and said.version and not said.kept
    }
    if not new:
        return []
    node = max(new, key=lambda each: new[each].seconds)
    what = f"mlx-lm {new[node].version} worked this out in {new[node].seconds:.1f} s"
    return [Finding("asked", OK, node, f"{what}, for the first time: the answer is kept there")]
