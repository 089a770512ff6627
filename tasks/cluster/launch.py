"""Starting ranks: the script that a node runs, and the order in which nodes run theirs."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

from . import nodes, shell, state
from .cluster import Cluster
from .errors import ActionFailed, CheckFailed, Unreachable
from .facts.processes import MARK, mark
from .nodes import Answer
from .ranks import Rank
from .state import Record

# Variables of an earlier life that would win over ours (mlx: JACCL_* beats MLX_JACCL_*).
_STALE = "s/^\\(%s[A-Za-z0-9_]*\\)=.*/\\1/p"
_CLEAR = (
    "for v in $(env | sed -n"
    + "".join(
        f" -e '{_STALE % name}'" for name in ("JACCL_", "MLX_JACCL_", "MLX_RANK", "MLX_WORLD")
    )
    + '); do unset "$v"; done; unset MLX_HOSTFILE MLX_IBV_DEVICES MLX_DISTRIBUTED_BACKEND'
)
# The rank becomes leader of a session of its own (macOS has no setsid), with signals as new:
# a shell starts background processes with SIGINT ignored, and Python would inherit that.
_DETACH = (
    "import os,signal,sys\n"
    "for name in ('SIGINT','SIGHUP','SIGQUIT','SIGTERM','SIGPIPE'):\n"
    "    signal.signal(getattr(signal,name),signal.SIG_DFL)\n"
    "os.setsid()\n"
    "os.execvp(sys.argv[1],sys.argv[1:])"
)
# The log of the last start becomes .1, that one .2, and so on. rename(2) follows no link and moves
# nothing into a folder that another user has laid at a name, as mv would.
_ROTATE = """
import os, stat, sys
log, keep = sys.argv[1], int(sys.argv[2])
def at(n): return f"{log}.{n}" if n else log
def is_own(path):
    try: found = os.lstat(path)
    except OSError: return False
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid()
try:
    n = keep + 1
    while is_own(at(n)): os.remove(at(n)); n += 1
    for n in range(keep, 0, -1):
        if is_own(at(n - 1)): os.rename(at(n - 1), at(n))
except OSError:
    sys.exit(f"can't keep the log {at(n)}: is it another user's? choose another --log-dir")
"""
ALREADY = 75  # a script's exit status where a rank of an earlier start still lives
HEADER = "# mlx-tp run="  # how a log begins
HEAD_START = 0.2  # seconds for rank 0 of a ring: see first_script
COORDINATOR_TIMEOUT = 60  # seconds for rank 0 to listen, before the others are started
_OWN = (
    'umask 077; own "$tp_state" && mkdir -p "$tp_state" && own "$tp_state" &&'
    ' chmod 700 "$tp_state" || exit'
)


@dataclass(frozen=True)
class Run:
    """One start of the server: its id, and who started it, when and from where."""

    id: str
    by: str
    started: float

    @classmethod
    def new(cls) -> Run:
        return cls(secrets.token_hex(6), who(), time.time())


def who() -> str:
    """Who acts, and from which control machine."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def launch(cluster: Cluster, run: Run) -> None:
    """Start rank 0, then the others all at once; raise what keeps a rank from being started."""
    _check(nodes.sh(cluster.nodes[:1], {cluster.leader.name: first_script(cluster, run)}, 90))
    _check(nodes.sh(cluster.nodes, other_scripts(cluster, run)))


def first_script(cluster: Cluster, run: Run, mask: bool = False) -> str:
    """Starts rank 0; with jaccl it ends once rank 0 listens for the others.

    In a ring rank 0 must only be the first to have loaded MLX: the last rank connects to it, and
    where that is refused tries again after a whole second (seen with strace, mlx 0.32).
    """
    script = background(cluster, cluster.ranks[:1], run, mask)
    if len(cluster.ranks) == 1:
        return script
    if cluster.backend.startswith("jaccl"):
        return script + _listening(cluster.ranks[0].ports[0])
    return f"{script}sleep {HEAD_START}\n"


def other_scripts(cluster: Cluster, run: Run, mask: bool = False) -> dict[str, str]:
    """Each node's script that starts its ranks other than rank 0."""
    others = {
        node.name: [rank for rank in cluster.on(node) if rank.rank > 0] for node in cluster.nodes
    }
    return {name: background(cluster, ranks, run, mask) for name, ranks in others.items() if ranks}


def background(cluster: Cluster, ranks: Sequence[Rank], run: Run, mask: bool = False) -> str:
    """Starts `ranks` of one node, detached, each with its log; `mask` hides values of env."""
    parts = [_head(cluster)]
    for rank in ranks:
        parts += [_files(cluster, rank, run, log_path(cluster, rank)), _log(cluster, rank, run)]
        parts.append(_still_wanted(rank, run))
        start = _start(rank, run, _environment(cluster, rank, run, mask), '>>"$tp_log"')
        parts.append(
            f"(\n{_enter(rank)}( trap '' HUP INT QUIT\n{start}\n"
            ") </dev/null >/dev/null 2>&1 &\n) || exit"
        )
        parts.append(_started(rank))
    return "\n".join(parts) + "\n"


def foreground(cluster: Cluster, rank: Rank, run: Run, mask: bool = False) -> str:
    """Starts one rank whose output is the script's own; it ends as the rank does."""
    start = _start(rank, run, _environment(cluster, rank, run, mask), "")
    return (
        f"{_head(cluster)}\n{_files(cluster, rank, run, None)}\n"
        f"{_enter(rank)}trap '' HUP INT QUIT\n{start}\nexit $code\n"
    )


def log_path(cluster: Cluster, rank: Rank) -> str:
    """A rank's log on its node; on this machine a relative folder counts from where we are."""
    folder = cluster.log_dir
    if rank.host.is_local:
        folder = os.path.abspath(os.path.expanduser(folder))
    return f"{folder.rstrip('/')}/tp_server.rank{rank.rank}.log"


def header(run: Run, rank: Rank) -> str:
    """The first line of a rank's log; it tells one run's log from the next."""
    return f"{HEADER}{run.id} rank={rank.rank} host={rank.host.ssh} by={run.by}"


def record(cluster: Cluster, rank: Rank, run: Run, log: str | None) -> Record:
    return Record(
        run=run.id,
        rank=rank.rank,
        size=len(cluster.ranks),
        host=rank.host.ssh,
        backend=cluster.backend,
        engine=cluster.engine.name,
        ready=cluster.engine.ready,
        model=cluster.model or "",
        command=list(rank.command),
        env=list(cluster.env_names),
        bind=cluster.bind,
        port=cluster.http_port,
        ports=list(rank.ports),
        log=log,
        started=run.started,
        by=run.by,
    )


def _head(cluster: Cluster) -> str:
    path = shell.path(cluster.state_dir)
    own = f'{state.PRELUDE}\ntp_state={path}\n{_OWN}\ntp_state=$(cd "$tp_state" && pwd)'
    return f"{own}\n{state.keep_baseline('tp_state')}"


def _files(cluster: Cluster, rank: Rank, run: Run, log: str | None) -> str:
    """Writes the record and MLX's files; what an earlier run left is removed first.

    A rank that still lives is never forgotten, whatever checks were skipped.
    """
    name = f"rank{rank.rank}"
    lines = [
        f'P= T= B=; is_own "$tp_state/{name}.pid" &&'
        f' {{ read -r P; read -r T; read -r B; }} <"$tp_state/{name}.pid"',
        f'if is_alive "${{P:-0}}" "$T" "$B"; then echo "rank {rank.rank} already runs (pid $P):'
        f' inv tp.stop" >&2; exit {ALREADY}; fi',
        # A link that is still there would be followed.
        f'rm -rf "$tp_state/{name}".*',
    ]
    lines += ['rm -rf "$tp_state"/ready*'] if rank.rank == 0 else []
    texts = {"json": state.dump(record(cluster, rank, run, log)), **rank.files}
    for suffix, text in texts.items():
        write = f'cat >"$tp_state/{name}.{suffix}" {shell.heredoc(text)}'
        lines.append(f"{{ {write}\n}} || exit")
    # What was started last is known after it has been stopped, too: for tp.restart.
    keep = 'rm -rf "$tp_state/last.json"; cp "$tp_state/rank0.json" "$tp_state/last.json" || exit'
    lines += [keep] if rank.rank == 0 else []
    return "\n".join(lines)


def _log(cluster: Cluster, rank: Rank, run: Run) -> str:
    """A new log, created exclusively: in /tmp another user may have laid a link to elsewhere.

    What is there is kept if it is a log of ours.
    """
    line = shell.quote(header(run, rank))
    python = f"{_enter(rank)}{shell.path(rank.command[0])}"
    return (
        f"tp_log={shell.path(log_path(cluster, rank))}\n"
        "case $tp_log in /*) ;; *) tp_log=$PWD/$tp_log ;; esac\n"
        f'if is_own "$tp_log" && head -n 1 "$tp_log" | grep -q {shell.quote(f"^{HEADER}")}; then\n'
        f'  ({python} -I -c {shell.quote(_ROTATE)} "$tp_log" {cluster.keep_logs}) </dev/null ||'
        " exit\n"
        "fi\n"
        'mkdir -p "$(dirname "$tp_log")" && rm -f "$tp_log" &&\n'
        f'  (set -C; printf "%s\\n" {line} >"$tp_log") && is_own "$tp_log" || {{\n'
        "  echo \"can't write the log $tp_log: is it another user's?"
        ' choose another --log-dir" >&2\n'
        "  exit 1\n}"
    )


def _still_wanted(rank: Rank, run: Run) -> str:
    """A script that was held up starts no rank once its run has been stopped and forgotten."""
    return (
        f'grep -q \'"run": "{run.id}"\' "$tp_state/rank{rank.rank}.json" 2>/dev/null ||\n'
        f'  {{ echo "rank {rank.rank} was stopped before it had started" >&2; exit 1; }}'
    )


def _enter(rank: Rank) -> str:
    return f"cd {shell.path(rank.cwd)} || exit 1\n" if rank.cwd else ""


def _environment(cluster: Cluster, rank: Rank, run: Run, mask: bool) -> str:
    # The files first: a variable of --env may be called tp_state.
    lines = [_CLEAR, *(f'export {n}="$tp_state/rank{rank.rank}.{n}"' for n in rank.files)]
    for name, value in rank.env.items():
        if name not in rank.files:
            hidden = mask and (name in cluster.env_names or not name.startswith("MLX_"))
            lines.append(f"export {name}={'***' if hidden else shell.quote(value)}")
    lines.append(f"export {MARK}={mark(run.id, rank.rank)}")
    lines += [cluster.engine.prepare] if cluster.engine.prepare else []
    return "\n".join(lines)


def _start(rank: Rank, run: Run, environment: str, redirect: str) -> str:
    """Starts the rank, writes down its pid and start, waits for it, writes down its end.

    Only the process that becomes the rank has its environment: no other shows a secret in it.
    """
    python = shell.path(rank.command[0])
    arguments = _arguments(rank.command[1:])
    base = f'"$tp_state/rank{rank.rank}'
    return (
        f"(\n{environment}\nexec {python} -c {shell.quote(_DETACH)} {python} {arguments}\n"
        f") </dev/null {redirect} 2>&1 &\n"
        "pid=$!\n"
        f'{{ echo "$pid"; start_id "$pid"; echo "$tp_boot"; }} >{base}.pid.new"'
        f' && mv {base}.pid.new" {base}.pid"\n'
        f'wait "$pid"; code=$?\n'
        f'echo {run.id} $code >{base}.exit.new" && mv {base}.exit.new" {base}.exit"'
    )


def _arguments(words: Sequence[str]) -> str:
    """The words as they are, but for a `~` of --model: that is the home of the node's user."""
    before = ("", *words)
    is_path = [one == "--model" for one in before[:-1]] if words else []
    return " ".join(
        shell.path(word) if path and word.startswith("~") else shell.quote(word)
        for word, path in zip(words, is_path, strict=True)
    )


def _started(rank: Rank) -> str:
    """Waits until the rank's pid is written down."""
    return (
        f'n=0; until [ -f "$tp_state/rank{rank.rank}.pid" ]; do\n'
        '  n=$((n+1)); [ $n -lt 100 ] || { echo "the rank was not started" >&2; exit 1; }\n'
        "  sleep 0.05\ndone"
    )


def _listening(port: int) -> str:
    """Waits until rank 0 listens, seen with lsof: a connection would be taken for a rank."""
    return (
        '{ read -r P; read -r T; read -r B; } <"$tp_state/rank0.pid"\n'
        f'n=0; while [ $n -lt {COORDINATOR_TIMEOUT * 5} ] && is_alive "$P" "$T" "$B"; do\n'
        f'  lsof -nP -a -p "$P" -iTCP:{port} -sTCP:LISTEN >/dev/null 2>&1 && break\n'
        "  n=$((n+1)); sleep 0.2\ndone\n"
    )


def _check(answers: dict[str, Answer]) -> None:
    for name, answer in answers.items():
        if answer.failure:
            remedy = f": {answer.remedy}" if answer.remedy else ""
            raise Unreachable(f"{name}: {answer.failure}{remedy}")
        if answer.status == ALREADY:
            raise CheckFailed(f"{name}: {answer.err.strip()}")
        if not answer.ok:
            said = (answer.err.strip() or answer.out.strip()).splitlines()[-1:] or ["no reason"]
            raise ActionFailed(f"{name}: no rank started there: {said[0]}")
