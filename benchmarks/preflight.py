"""`tp.preflight` against the floor and against what people would use instead."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from .farm import Farm, farm, until
from .measure import ROOT, Result, Row, Work, cpu, in_turn, process, python

SIZES = (2, 8, 32, 64, 128)
BUDGET = 480  # seconds: a size that would not fit is left out, and that is said
TRUE = (
    "import sys\nfrom fabric import ThreadingGroup\n"
    "ThreadingGroup(*sys.argv[1:]).run('true', hide=True)\n"
)
FLOOR = "Fabric: connect and `true`"
MARK = "0mark0"
TOOLS = ROOT / "benchmarks" / ".venv"


def run() -> Result:
    start, rows, notes = time.monotonic(), [], []
    last = 0.0
    for count in SIZES:
        begun = time.monotonic()
        if begun - start + 2.2 * last > BUDGET:
            notes.append(f"{count} nodes and more were left out: no time was left for them.")
            break
        with farm(count) as nodes:
            rows += _measured(nodes, count, notes)
            _answer_at_once(nodes)
            what = f"tp.preflight, {count} nodes that answer at once"
            rows += _rows(what, in_turn(_works(nodes)))
        last = time.monotonic() - begun
    notes.append(
        "Nodes that answer at once give to tp.preflight what a node once said: so it is with nodes"
        " that have cores of their own, but for the time that the slowest takes for its checks."
    )
    return Result(rows, notes)


def _works(nodes: Farm, has_cpu: bool = True) -> dict[str, Work]:
    """tp.preflight and the floor, and the CPU of both."""
    env = nodes.inv.environment()
    invoke = python("-m", "invoke", "-f", str(nodes.inv.config), "tp.preflight")
    ours = process(*invoke, cwd=ROOT, env=env)
    floor = process(*python("-c", TRUE, *nodes.names), env=env)
    works = {"ours": ours, "floor": floor}
    return works | {"CPU ours": cpu(ours), "CPU floor": cpu(floor)} if has_cpu else works


def _rows(what: str, samples: Mapping[str, Sequence[float]], x: int | None = None) -> list[Row]:
    pair = samples["ours"], samples["floor"]
    made = [Row(what, FLOOR, *pair, kind="ratio", goal=1.3, x=x)]
    if "CPU ours" in samples:
        pair = samples["CPU ours"], samples["CPU floor"]
        made.append(Row(f"{what}: CPU on the control machine", FLOOR, *pair, x=x))
    return made


def _answer_at_once(nodes: Farm) -> None:
    """From here on a node's checks take no time of this machine's cores."""
    said = nodes.home / "said"
    words = ["/bin/sh", "-s"]
    done = subprocess.run(words, input="".join(_script(nodes)), capture_output=True, text=True)
    said.write_text(done.stdout)
    answer = nodes.home / "answer.sh"
    answer.write_text(
        "case $SSH_ORIGINAL_COMMAND in true) exit ;; esac\n"
        r"""n=$(sed -n "s/^printf '.n%s begin %s.n' \([0-9a-f]*\) state$/\1/p")""" + "\n"
        # Each is a machine of its own, as its port tells.
        f'exec sed "s/^{MARK} /$n /; s/^machine .*/machine ${{SSH_CONNECTION##* }}/" {said}\n'
    )
    for name in nodes.names:
        with (nodes.sshd.folder / f"{name}.sshd").open("a") as config:
            config.write(f"ForceCommand /bin/sh {answer}\n")
    # sshd reads its configuration anew.
    subprocess.run(["pkill", "-HUP", "-f", f"^sshd: .*{nodes.sshd.folder}/node"], check=True)
    for name in nodes.names:
        line = [*nodes.ssh, name, "/bin/sh -s </dev/null"]
        until(partial(_answers, line))


def _measured(nodes: Farm, count: int, notes: list[str]) -> list[Row]:
    works = _works(nodes, has_cpu=count >= 8)
    if count <= 8:
        works |= {name: make(nodes) for name, make in OTHERS.items() if _is_there(name)}
        missing = [name for name in OTHERS if not _is_there(name)]
        notes += [f"{name} could not be installed." for name in missing if count == SIZES[0]]
    in_turn({name: works[name] for name in ("ours", "floor")}, times=1)
    samples = in_turn(works)
    what = f"tp.preflight, {count} nodes"
    made = _rows(what, samples, count)
    made += [_own_work(nodes)] if count == SIZES[0] else []
    for name in OTHERS:
        if name in samples:
            goal = 20 if count == 8 and name == IN_TURN else 1
            pair = samples["ours"], samples[name]
            made.append(Row(what, name, *pair, kind="faster", goal=goal, x=count))
    return made


def _own_work(nodes: Farm) -> Row:
    """A node's checks for itself, without SSH, against what one of them can't do without."""
    checks = cpu(process("/bin/sh", _file(nodes)))
    samples = in_turn({"checks": checks, "python": cpu(process(*python("-c", "")))}, times=15)
    what = "a node's checks alone: CPU on the node"
    return Row(what, "its Python, which one of them starts", samples["checks"], samples["python"])


def _script(nodes: Farm) -> list[str]:
    """The facts of the first node, a script for each."""
    from tasks.cluster import cluster, facts
    from tasks.cluster.facts.snapshot import FactQuery
    from tasks.cluster.server import snapshots

    tp = {"hostfile": nodes.inv.env["INVOKE_TP_HOSTFILE"]}
    made = cluster.build(tp, ())
    query = FactQuery.of([made.leader], snapshots.preflight_facts(made))
    return [facts.script([each], MARK) for each in query.facts[made.leader.name]]


def _file(nodes: Farm) -> str:
    """All checks as one script in a file, which the nodes share with us."""
    path = nodes.home / "checks.sh"
    path.write_text("".join(_script(nodes)))
    return str(path)


def in_turn_ssh(nodes: Farm) -> Work:
    """An ssh process per check per node, one after another."""
    scripts = _script(nodes)

    def work() -> None:
        for name in nodes.names:
            for script in scripts:
                line = [*nodes.ssh, name, "/bin/sh -s"]
                subprocess.run(line, input=script, text=True, capture_output=True, check=True)

    return work


def parallel_ssh(nodes: Farm) -> Work:
    """An ssh process per node with all checks, all at once."""
    script = "".join(_script(nodes))

    def work() -> None:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL}
        running = []
        for name in nodes.names:
            each = subprocess.Popen([*nodes.ssh, name, "/bin/sh -s"], text=True, **pipes)
            assert each.stdin
            each.stdin.write(script)
            each.stdin.close()
            running.append(each)
        assert [each.wait() for each in running] == [0] * len(running)

    return work


def ansible(nodes: Farm) -> Work:
    """Ad hoc, with the raw module: the fastest that it has. All checks in one command."""
    (nodes.home / "inventory").write_text("\n".join(nodes.names))
    words = [str(TOOLS / "bin" / "ansible"), "all", "-i", str(nodes.home / "inventory")]
    words += ["-f", str(len(nodes.names)), "-m", "raw", "-a", f"/bin/sh {_file(nodes)}"]
    words += ["--ssh-common-args", f"-F {nodes.sshd.folder}/config"]
    return process(*words, env={**nodes.inv.environment(), "ANSIBLE_PIPELINING": "1"})


def pyinfra(nodes: Farm) -> Work:
    data = {
        "ssh_config_file": f"{nodes.sshd.folder}/config",
        "ssh_known_hosts_file": f"{nodes.sshd.folder}/known_hosts",
    }
    inventory = nodes.home / "inventory.py"
    inventory.write_text(f"nodes = {[(name, data) for name in nodes.names]!r}\n")
    words = [str(TOOLS / "bin" / "pyinfra"), "-y", str(inventory), "exec", "--"]
    return process(*words, "/bin/sh", _file(nodes), env=nodes.inv.environment())


def _answers(line: list[str]) -> bool:
    return subprocess.run(line, capture_output=True).returncode == 0


IN_TURN = "an `ssh` per check per node, in turn"
OTHERS: dict[str, Callable[[Farm], Work]] = {
    IN_TURN: in_turn_ssh,
    "an `ssh` per node, at once": parallel_ssh,
    "Ansible ad hoc (raw)": ansible,
    "pyinfra exec": pyinfra,
}


def _is_there(name: str) -> bool:
    tools: dict[object, str] = {ansible: "ansible", pyinfra: "pyinfra"}
    tool = tools.get(OTHERS[name])
    return tool is None or shutil.which(tool, path=str(TOOLS / "bin")) is not None
