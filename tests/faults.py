"""The matrix of faults: what is broken, at which stage, what is said of it, and what holds then.

Data for tests/test_faults.py, which runs every row for real, and for docs/reliability.md, which is
written from such a run (`uv run inv test.faults`).
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import layout
from rig import network
from rig.strict import GID, UID
from scene import (
    BEFORE,
    BETWEEN,
    LOADING,
    PREFLIGHT,
    PROGRAM,
    READY,
    STOPPING,
    Scene,
)  # fmt: skip

# A command, its exit status, and a regular expression that its output must match. At the stages
# where a command is under way when the fault strikes, the first is that command.
Said = tuple[str, int, str]


@dataclass(frozen=True)
class Row:
    """One fault at one stage; `ci`: run it wherever tests run, not only in `inv test.faults`.

    `before` changes the scene before the cluster is brought to that stage.
    """

    area: str
    fault: str
    stage: str
    on: Callable[[Scene], object]
    says: Sequence[Said]
    after: str = "all ranks are gone"
    check: Callable[[Scene], object] = lambda scene: None
    ci: bool = False
    before: Callable[[Scene], object] = lambda scene: None

    @property
    def name(self) -> str:
        return f"{self.fault}, {self.stage}"


# Nodes.


def refuse(scene: Scene) -> None:
    """No sshd any more; who is logged in stays."""
    scene.rig.ssh_off(scene.victim)
    scene.undo.append(lambda: scene.rig.ssh(scene.victim))


def drop_packets(scene: Scene) -> None:
    """The node's management cable leads nowhere: no packet gets through, and none comes back."""
    rig = scene.rig
    wire = f"{network.PREFIX}{rig.number}m{rig.names.index(scene.victim)}"
    bridge, address = f"{network.PREFIX}{rig.number}", rig.address(scene.victim)
    rig.run(scene.other, "true")
    # A neighbour that is known for good: else this machine notices that nobody is there.
    mac = scene.rig.run(scene.victim, "cat /.sys/class/net/en0/address").stdout.strip()
    known = f"neigh {{}} {address} lladdr {mac} dev {bridge} nud permanent"
    # Last: a bridge forgets its neighbours when it loses the port whose address it had.
    network.ip([f"link set {wire} nomaster", known.format("replace")])
    scene.undo.append(
        lambda: network.ip([known.format("delete"), f"link set {wire} master {bridge}"])
    )


def silent(scene: Scene) -> None:
    """In the place of sshd somebody who takes connections and says nothing."""
    scene.rig.ssh_off(scene.victim)
    listen = (
        "import socket,time; s=socket.create_server(('0.0.0.0',22)); k=[]\n"
        "while 1: k.append(s.accept())"
    )
    python = shlex.quote(sys.executable)
    scene.rig.run(
        scene.victim,
        f"{python} -c {shlex.quote(listen)} >/dev/null 2>&1 & echo $! >/tmp/silent",
        root=True,
    )

    def off() -> None:
        scene.rig.run(scene.victim, "kill $(cat /tmp/silent)", check=False, root=True)
        scene.rig.ssh(scene.victim)

    scene.undo.append(off)


def drop_connections(scene: Scene) -> None:
    """All that is logged in is thrown out, and nobody gets in again."""
    refuse(scene)
    scene.rig.run(scene.victim, "pkill -9 '^sshd'", check=False, root=True)


def reboot(scene: Scene) -> None:
    scene.rig.reboot(scene.victim)
    port, address = next((p, a) for (h, p), a in scene.rig.links.items() if h == scene.victim)
    ip = address.partition("/")[0]
    line = f"ifconfig {port} inet {ip} netmask 255.255.255.252"
    scene.rig.run(scene.victim, line, root=True)
    scene.rig.run(scene.victim, "sleep 86399 >/dev/null 2>&1 &")


def mount(scene: Scene, folder: str | Path, options: str = "", then: str = "") -> None:
    """An empty file system in the place of a folder of the victim."""
    place = shlex.quote(str(folder))
    options = f"mode=700,uid={UID},gid={GID}{options}"
    scene.rig.run(scene.victim, f"mkdir -p {place}")
    line = f"mount -t tmpfs -o {options} tmpfs {place}; {then}"
    scene.rig.run(scene.victim, line, root=True)
    scene.undo.append(lambda: scene.rig.unmount(scene.victim, str(folder)))


def state(scene: Scene) -> str:
    return f"{scene.rig.home(scene.victim)}/.mlx-tp"


def fill_state(scene: Scene) -> None:
    full = f"cat /dev/zero >{shlex.quote(state(scene))}/full 2>/dev/null; true"
    mount(scene, state(scene), ",size=16k", full)


def roomy_state(scene: Scene) -> None:
    """The state has a file system of its own, for a start to come."""
    mount(scene, state(scene), ",size=4m")


def fill_roomy_state(scene: Scene) -> None:
    full = f"cat /dev/zero >{shlex.quote(state(scene))}/full 2>/dev/null; true"
    scene.rig.run(scene.victim, full)


def fill_logs(scene: Scene) -> None:
    logs = scene.inv.home / "logs"
    mount(scene, logs, ",size=16k", f"cat /dev/zero >{logs}/full 2>/dev/null; true")


def read_only_logs(scene: Scene) -> None:
    mount(scene, scene.inv.home / "logs", ",ro")


def no_python(scene: Scene) -> None:
    mount(scene, Path(sys.executable).parent)


def no_model(scene: Scene) -> None:
    """Its folder is there, and empty."""
    mount(scene, scene.model)


def shell(name: str) -> Callable[[Scene], object]:
    return lambda scene: scene.rig.user(scene.victim, shell=name)


def banner(scene: Scene) -> None:
    """A shell that talks, in each of its files."""
    talk = "echo WELCOME to mac2; echo have a nice day >&2"
    home = scene.rig.home(scene.victim)
    scene.rig.run(
        scene.victim, f"for f in .zshenv .zshrc .bashrc; do echo '{talk}' >{home}/$f; done"
    )


def spaces(scene: Scene) -> None:
    scene.rig.user(scene.victim, home="/Users/my own 'mac'")


def hang(scene: Scene) -> None:
    scene.rig.fault(scene.victim, "hang", "vm_stat")
    scene.undo.append(lambda: scene.rig.heal(scene.victim, "hang", "vm_stat"))


def few_sessions(count: int) -> Callable[[Scene], object]:
    def on(scene: Scene) -> None:
        for name in scene.rig.names:
            scene.rig.ssh(name, MaxSessions=str(count))

    return on


SERVES = [("tp.start", 0, r"healthy: a token"), ("tp.status", 0, r"running +rank 1 +mac2"),
          ("tp.stop", 0, r"stopped +mac2 +rank 1")]  # fmt: skip
SEE = r"see why with: ssh -F \S+ -v mac2 true"
LOSES = [("tp.status", 5, r"mac2"),
         ("tp.stop", 5, r"(?s)stopped +mac1 +rank 0.*not reached +mac2")]  # fmt: skip
NONE = "nothing of this start is left"


def quick(**settings: float) -> Callable[[Scene], object]:
    """Where a timeout has to pass: settings of `tp`; else they are such as no load exceeds."""
    return lambda scene: scene.write(**settings)


WAITS = quick(timeout=15)
DEAF_TIMES = quick(timeout=15, stop_timeout=3)
MAYBE = "mac2: maybe ranks are left: inv tp.stop"
REFUSED = r"SSH failed \(Connection refused\)"
GONE = r"(degraded|dead): died: .*"
TOO_LATE = r"not ready within \d+\.\d s \(loading: .*\); all ranks were stopped"
LOADS = [("tp.start", 4, rf"not ready within \d+\.\d s \(.*\); {MAYBE}")]
NO_LOG = [("tp.start", 4, rf"mac2: .*can't write the log .* choose another --log-dir; {NONE}")]
LOST = "mac1 has no rank left; mac2's are found and stopped once it is back"

NODES = [
    Row("node", "refuses connections", PREFLIGHT, refuse,
        [("tp.start", 5, rf"fail +reachable +mac2 +SSH failed \(Connection refused\): {SEE}"),
         ("tp.status", 5, r"mac2: can't be reached")], "nothing was started", ci=True),
    Row("node", "drops all packets", PREFLIGHT, drop_packets,
        [("tp.start", 5, rf"fail +reachable +mac2 +SSH gave no answer within 10 s: {SEE}"),
         ], "nothing was started", ci=True),
    Row("node", "drops all packets", BETWEEN, drop_packets,
        [("tp.start", 5, rf"mac2: SSH gave no answer within 10 s: {SEE}; {MAYBE}")], LOST),
    Row("node", "drops all packets", LOADING, drop_packets, LOADS, LOST, before=WAITS),
    Row("node", "drops all packets", READY, drop_packets,
        LOSES,
        LOST),
    Row("node", "drops all packets", STOPPING, drop_packets,
        [("tp.stop", 5, r"(?s)stopped +mac1 +rank 0.*not reached +mac2")], LOST),
    Row("node", "takes connections and says nothing", PREFLIGHT, silent,
        [("tp.start", 5, r"fail +reachable +mac2 +SSH")], "nothing was started", ci=True),
    Row("node", "takes connections and says nothing", READY, silent,
        LOSES,
        LOST),
    Row("node", "drops the connection", BEFORE, drop_connections,
        [("tp.start", 5, rf"mac2: {REFUSED}: {SEE}; {MAYBE}")], LOST),
    Row("node", "drops the connection", BETWEEN, drop_connections,
        [("tp.start", 5, rf"mac2: {REFUSED}: {SEE}; {MAYBE}")], LOST, ci=True),
    Row("node", "drops the connection", LOADING, drop_connections, LOADS, LOST, before=WAITS),
    Row("node", "drops the connection", READY, drop_connections,
        LOSES,
        LOST),
    Row("node", "drops the connection", STOPPING, drop_connections,
        [("tp.stop", 5, r"(?s)stopped +mac1 +rank 0.*not reached +mac2")], LOST),
    Row("node", "reboots", LOADING, reboot, [("tp.start", 4, r"rank 1 on mac2")]),
    Row("node", "reboots", READY, reboot,
        [("tp.status", 3, "mac2 was rebooted"), ("tp.stop", 0, r"stopped +mac1 +rank 0")],
        ci=True),
    Row("node", "reboots", STOPPING, reboot,
        [("tp.stop", 0, r"(?s)stopped +mac1 +rank 0.*stopped +mac2 +rank 1")]),
    Row("node", "has a full disk (state)", PREFLIGHT, fill_state,
        [("tp.start", 4, rf"(?i)mac2: .*no space left.*; {NONE}")], ci=True),
    Row("node", "has a full disk (state)", BETWEEN, fill_state,
        [("tp.start", 4, rf"(?i)mac2: .*no space left.*; {NONE}")]),
    Row("node", "has a full disk (state)", READY, fill_roomy_state,
        [("tp.status", 0, r"ready"),
         ("tp.stop", 0, r"(?s)stopped +mac1 +rank 0.*stopped +mac2 +rank 1")],
        before=roomy_state, ci=True),
    Row("node", "has a full disk (logs)", PREFLIGHT, fill_logs,
        [("tp.start", 4, rf"mac2: .*can't write the log .* \(No space left.*; {NONE}")], ci=True),
    Row("node", "has a full disk (logs)", BETWEEN, fill_logs,
        [("tp.start", 4, rf"mac2: .*can't write the log .* \(No space left.*; {NONE}")]),
    Row("node", "can't write its log folder", PREFLIGHT, read_only_logs,
        NO_LOG, ci=True),
    Row("node", "can't write its log folder", BETWEEN, read_only_logs,
        NO_LOG),
    Row("node", "has no python", PREFLIGHT, no_python,
        [("tp.start", 3, r"fail +versions +mac2 +.*python can't be asked")], "nothing was started",
        ci=True),
    Row("node", "has no python", BETWEEN, no_python,
        [("tp.start", 4, r"rank 1 on mac2 died: .*127")]),
    Row("node", "has no model", PREFLIGHT, no_model,
        [("tp.start", 3, r"fail +model +mac2 +config.json is missing")],
        "nothing was started", ci=True),
    Row("node", "has a login shell with a banner", PREFLIGHT, banner, SERVES, ci=True),
    Row("node", "has zsh as login shell", PREFLIGHT, shell("zsh"), SERVES, ci=True),
    Row("node", "has fish as login shell", PREFLIGHT, shell("fish"), SERVES, ci=True),
    Row("node", "has tcsh as login shell", PREFLIGHT, shell("tcsh"), SERVES, ci=True),
    Row("node", "has a home with spaces and quotes", PREFLIGHT, spaces, SERVES, ci=True),
    Row("node", "has a command that hangs", PREFLIGHT, hang,
        [("tp.start", 3, r"fail +memory +mac2 +.*did not answer in time")], "nothing was started",
        ci=True),
    Row("node", "has a command that hangs", READY, hang,
        [("tp.status", 0, r"running +rank 1 +mac2"), ("tp.stop", 0, r"stopped +mac2 +rank 1")]),
    Row("node", "has sshd with MaxSessions 1", PREFLIGHT, few_sessions(1), SERVES, ci=True),
    Row("node", "has sshd with MaxSessions 2", PREFLIGHT, few_sessions(2), SERVES, ci=True),
]  # fmt: skip


# Ranks.


def does(code: str, rank: int = 1, point: str = "load") -> Callable[[Scene], object]:
    return lambda scene: scene.rank(point, code, rank)


TRACEBACK = "raise RuntimeError('no such layer')"
SEGV = "os.kill(os.getpid(), signal.SIGSEGV)"
MEMORY = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (2**28, 2**28))\nbytearray(2**30)"
# It does not end with rank 0 either.
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nos._exit = lambda status: None"


def gone(how: str, rank: int = 1) -> list[Said]:
    """What is told once a rank of a server has ended."""
    host = f"mac{rank + 1}"
    return [("tp.status", 3, rf"{GONE}rank {rank} on {host} \({how}\).*; clean up with"),
            ("tp.watch", 3, rf"the server has failed: died: .*rank {rank} on {host} \({how}\)"),
            ("tp.stop", 0, "")]  # fmt: skip


def wait_gone(scene: Scene, rank: int = 1) -> None:
    from conftest import wait_for

    told = f"{layout.NEWEST} && cat rank-{rank}.exit"
    wait_for(lambda: scene.rig.run(scene.rig.names[rank], told, check=False).stdout)


def ends(code: str, rank: int = 1) -> Callable[[Scene], object]:
    """A rank of a ready server does something that ends it."""

    def on(scene: Scene) -> None:
        scene.rank("serve", code, rank)
        wait_gone(scene, rank)

    return on


def freeze(scene: Scene, rank: int = 1) -> None:
    scene.rig.run(scene.rig.names[rank], f"kill -STOP {scene.pid(rank)}")


def deaf(scene: Scene) -> None:
    from conftest import wait_for

    scene.rank("serve", f"{DEAF}\n(FOLDER / 'deaf').touch()", 1)
    wait_for((scene.folder / "deaf").exists)


def reused(scene: Scene) -> None:
    """Rank 1 is gone, and its pid belongs to somebody else by now."""
    scene.rig.run(scene.victim, f"kill -9 {scene.pid()}")
    wait_gone(scene)
    scene.rig.run(
        scene.victim,
        f"{layout.NEWEST}; p=$(pgrep -x sleep | head -n 1); "
        'perl -pi -e "s/.*/$p/ if $. == 1" rank-1.pid; rm rank-1.exit',
    )


CHILD = "import subprocess\nsubprocess.Popen(['sleep', '86398']{})\n"


SESSION = ", start_new_session=True"


def children(scene: Scene, host: str = "") -> int:
    shown = scene.rig.run(host or scene.victim, "ps axww -o command=").stdout
    return shown.splitlines().count("sleep 86398")


def no_children(scene: Scene) -> None:
    assert children(scene) == 0


def parent(then: str, options: str = "") -> Callable[[Scene], object]:
    def on(scene: Scene) -> None:
        from conftest import wait_for

        scene.rank("serve", CHILD.format(options) + then)
        wait_for(lambda: children(scene) == 1)
        if then:
            wait_gone(scene)

    return on


# It has left the rank's session, and has its HTTP port.
HOLDER = """
import subprocess
subprocess.Popen(['sleep', '86398'], start_new_session=True, pass_fds=[pages.fileno()])
os.kill(os.getpid(), 9)
"""


def holder(scene: Scene) -> None:
    scene.rank("serve", HOLDER, 0)
    wait_gone(scene, 0)
    assert children(scene, scene.other) == 1


def no_holder(scene: Scene) -> None:
    assert children(scene, scene.other) == 0
    assert scene.run("tp.preflight").code == 0


def by_hand(scene: Scene) -> None:
    """The same server, started by somebody without us."""
    from conftest import wait_for

    scene.data["by hand"] = {}
    folder = scene.folder / "hand.json"
    folder.write_text(f'[["127.0.0.1:{scene.inv.ring}"]]')
    words = " ".join(map(shlex.quote, (sys.executable, str(PROGRAM), "--port", "9999")))
    scene.rig.run(
        scene.victim,
        f"LIGHT_RANK={scene.folder} MLX_RANK=0 MLX_HOSTFILE={folder} {words} >/dev/null 2>&1 &",
    )
    wait_for(lambda: scene.left(scene.victim))


DIED = "; the other ranks were stopped"
RANKS = [
    Row("rank", "exits at once", LOADING, does("sys.exit(3)"),
        [("tp.start", 4, rf"rank 1 on mac2 died: exit status 3{DIED}")], ci=True),
    Row("rank", "exits at once", BETWEEN, does("sys.exit(3)", 0),
        [("tp.start", 4, rf"rank 0 on mac1 died: exit status 3{DIED}")]),
    Row("rank", "exits after loading", READY, ends("os._exit(3)"), gone("exit status 3"), ci=True),
    Row("rank", "exits after loading (rank 0)", READY, ends("os._exit(3)", 0),
        gone("exit status 3", 0)),
    Row("rank", "ends with a traceback", LOADING, does(TRACEBACK),
        [("tp.start", 4, r"(?s)rank 1, first error: RuntimeError: no such layer.*"
          rf"rank 1 on mac2 died: exit status 1{DIED}")], ci=True),
    Row("rank", "ends with a traceback", READY, ends(f"try:\n {TRACEBACK}\nfinally:\n os._exit(1)"),
        gone("exit status 1")),
    Row("rank", "ends by a signal", LOADING, does(SEGV),
        [("tp.start", 4, rf"rank 1 on mac2 died: killed by SIGSEGV{DIED}")], ci=True),
    Row("rank", "ends by a signal", READY, ends(SEGV), gone("killed by SIGSEGV")),
    Row("rank", "runs out of memory", LOADING, does(MEMORY),
        [("tp.start", 4, r"(?s)rank 1, first error: MemoryError.*rank 1 on mac2 died")], ci=True),
    Row("rank", "ignores SIGTERM", LOADING, does(DEAF + "\ntime.sleep(999)"),
        [("tp.start", 4, TOO_LATE)],
        before=DEAF_TIMES),
    Row("rank", "ignores SIGTERM", READY, deaf,
        [("tp.stop", 0, r"killed +mac2 +rank 1")],
        "killed after the timeout, and only that rank", ci=True,
        before=quick(stop_timeout=3)),
    Row("rank", "is stopped (SIGSTOP)", LOADING, freeze,
        [("tp.start", 4, TOO_LATE)], before=WAITS),
    Row("rank", "is stopped (SIGSTOP)", READY, freeze,
        [("tp.stop", 0, r"stopped +mac2 +rank 1")], ci=True),
    Row("rank", "is stopped (SIGSTOP, rank 0)", READY, lambda scene: freeze(scene, 0),
        [("tp.status", 0, r"ready"),
         ("tp.health --timeout 2", 3, r"health: GET /v1/models: no answer in time"),
         ("tp.stop", 0, r"stopped +mac1 +rank 0")]),
    Row("rank", "has gone and its pid is a stranger's", READY, reused,
        [("tp.status", 3, rf"{GONE}rank 1"), ("tp.stop", 0, "")],
        "the stranger was not signalled", ci=True),
    Row("rank", "has a child in its process group", READY, parent(""),
        [("tp.stop", 0, r"stopped +mac2 +rank 1, child of rank 1")], "the child is gone too",
        no_children, ci=True),
    Row("rank", "dies and leaves a child in its process group", READY,
        parent("os.kill(os.getpid(), 9)"),
        [("tp.status", 3, r"rank 1 .*\(killed by SIGKILL\)"),
         ("tp.stop", 0, r"mac2 +child of rank 1")], "the child is gone too", no_children, ci=True),
    Row("rank", "has a child that left its session", READY, parent("", SESSION),
        [("tp.stop", 0, r"stopped +mac2 +rank 1, child of rank 1")], "the child is gone too",
        no_children, ci=True),
    Row("rank", "dies and leaves a child that holds the HTTP port", READY, holder,
        [("tp.start", 3, r"fail +ports +mac1 +port \d+ \(HTTP\) is taken by .*: inv tp.stop"),
         ("tp.stop", 0, r"stopped +mac1 +child of rank 0")], "the child is gone, the port is free",
        no_holder, ci=True),
    Row("rank", "was started by hand", PREFLIGHT, by_hand,
        [("tp.start", 3, r"fail +processes +mac2 +already runs: rank 0 without a record "
          r"\(pid \d+\): stop it: inv tp.stop"),
         ("tp.status", 3, r"degraded: ranks without a record; inv tp.stop ends them"),
         ("tp.stop", 0, r"stopped +mac2 +rank 0 without a record")], ci=True),
]  # fmt: skip


# The state directory.


def record(scene: Scene, line: str) -> None:
    """Change something in what the victim knows of the run."""
    scene.rig.run(scene.victim, f"{layout.NEWEST} && {line}")


def changed(line: str) -> Callable[[Scene], object]:
    return lambda scene: record(scene, line)


def instead(line: str) -> Callable[[Scene], object]:
    """Something else in the place of the state directory."""

    def on(scene: Scene) -> None:
        place = state(scene)
        scene.rig.run(scene.victim, f"rm -rf {place}; {line.format(place)}")
        scene.undo.append(lambda: scene.rig.run(scene.victim, f"rm -rf {place}"))

    return on


def foreign(scene: Scene) -> None:
    place = state(scene)
    scene.rig.run(scene.victim, f"mkdir -p {place}; chown 12345 {place}", root=True)
    scene.undo.append(lambda: scene.rig.run(scene.victim, f"chown {UID} {place}", root=True))


OURS = r"\.mlx-tp is a link or not ours: remove it, or set tp.state_dir"
STOPS = ("tp.stop", 0, r"stopped +mac2 +")
STATE = [
    Row("state", "a record is damaged", READY, changed("echo '{[' >record.json"),
        [("tp.status", 0, r"rank 1 +mac2"), STOPS], ci=True),
    Row("state", "a record is cut off", READY,
        changed("head -c 99 record.json >x; mv x record.json"),
        [("tp.status", 0, r"rank 1 +mac2"), STOPS], ci=True),
    Row("state", "a record is of an older version", READY,
        changed("perl -pi -e 's/\"bind\": [^,]*, //' record.json"),
        [("tp.status", 0, r"rank 1 +mac2"), STOPS], ci=True),
    Row("state", "a pid file is cut off", READY,
        changed("head -n 1 rank-1.pid >x; mv x rank-1.pid"),
        [("tp.status", 3, r"degraded"), STOPS], ci=True),
    Row("state", "is removed under a server", READY, changed("rm -r ~/.mlx-tp"),
        [("tp.status", 3, r"degraded"), STOPS], ci=True),
    Row("state", "is another user's", READY, foreign,
        [("tp.status", 3, rf"mac2: .*{OURS}"), ("tp.stop", 5, OURS)],
        "told, and stopped once it can be read", ci=True),
    Row("state", "is another user's", PREFLIGHT, foreign,
        [("tp.start", 3, OURS)], "nothing was started"),
    Row("state", "has a file in its place", PREFLIGHT, instead("echo >{}"),
        [("tp.start", 3, OURS)], "nothing was started", ci=True),
    Row("state", "has a link in its place", PREFLIGHT, instead("ln -s /tmp {}"),
        [("tp.start", 3, OURS)], "nothing was started", ci=True),
    Row("state", "is from before a reboot", READY, reboot,
        [("tp.status", 3, "mac2 was rebooted"), ("tp.stop", 0, ""),
         ("tp.start", 0, "healthy: a token")], ci=True),
]  # fmt: skip

# The link between the ranks, with a real server: a light rank would not notice.


def cut(scene: Scene) -> None:
    scene.rig.cut(scene.victim, "en5")
    scene.undo.append(lambda: scene.rig.mend(scene.victim, "en5"))


LINKS = [
    Row("link", "is cut (ranks of mlx-lm)", READY, cut,
        [("tp.health --timeout 5", 3, r"health: .*: no answer in time: see inv tp.logs"),
         ("tp.watch --patience 5", 3,
          r"the server has failed: all ranks live, but no token for \d+ s"),
         # They wait at full speed until they are killed.
         ("tp.stop --timeout 3", 0, r"(?s)stopped +mac1 +rank 0.*stopped +mac2 +rank 1")],
        ci=True, before=lambda scene: scene.serve_for_real()),
]  # fmt: skip

ROWS = [*NODES, *RANKS, *STATE, *LINKS]
