"""tp.stop ends what is ours and nothing else: real servers, mlx.launch, two users."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import AS_NOBODY, DEADLINE, ROOT, Inv, light_cluster, require, wait_for
from rig import Rig

from tasks.cluster.facts.machine import processes
from tasks.cluster.ssh import scripts

Listens = Callable[[int], bool]
Lone = Callable[..., "subprocess.Popen[bytes]"]
LAUNCH = Path(sys.executable).with_name("mlx.launch")


def alive(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is None


def ranks(folder: Path) -> dict[int, int]:
    """MLX_RANK -> pid of the servers of `folder`'s model that have one."""
    found = {}
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            command = (environ.parent / "cmdline").read_bytes()
            number = re.search(rb"\0MLX_RANK=(\d)\0", b"\0" + environ.read_bytes())
        except OSError:
            continue
        is_python = b"python" in command.split(b"\0")[0]
        if number and is_python and str(folder).encode() in command:
            found[int(number[1])] = int(environ.parent.name)
    return found


@pytest.fixture
def everyones(served: Inv, network: tuple[str, ...]) -> Inv:
    """`served` in a network of its own, where tests may leave what they like."""
    return replace(served, inside=network)


Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(everyones: Inv) -> Iterator[Start]:
    """Start a process in that network; what still runs is killed at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*words: Any, **more: Any) -> subprocess.Popen[bytes]:
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        options = {**quiet, "stderr": subprocess.DEVNULL, "start_new_session": True, **more}
        line = [*everyones.inside, *(str(word) for word in words)]
        started.append(subprocess.Popen(line, **options))
        return started[-1]

    yield run
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for pid in ranks(everyones.home / "model").values():
        with suppress(ProcessLookupError):  # it ends by itself once another has
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def listens(everyones: Inv) -> Callable[[int], bool]:
    tables = [Path(f"/proc/{everyones.inside[2]}/net/{name}") for name in ("tcp", "tcp6")]

    def look(port: int) -> bool:
        rows = "".join(table.read_text() for table in tables)
        return re.search(rf":{port:04X} \S+ 0A ", rows) is not None

    return look


@pytest.fixture
def port(inv: Inv) -> int:
    """Of a server that is none of ours."""
    return inv.port + 500


@pytest.fixture
def lone(
    start: Start, home: Path, listens: Callable[[int], bool]
) -> Callable[..., subprocess.Popen[bytes]]:
    """`lone(port)`: somebody's own mlx_lm.server, which serves."""

    def run(port: int) -> subprocess.Popen[bytes]:
        model = ("--model", home / "model", "--port", port)
        process = start(sys.executable, "-m", "mlx_lm", "server", *model)
        wait_for(lambda: listens(port) or not alive(process))
        assert alive(process)
        return process

    return run


def test_what_is_not_ours_lives(
    everyones: Inv, start: Start, lone: Lone, listens: Listens, port: int
) -> None:
    """A lone server and a web server beside ours: warned of, named, left."""
    server = lone(port)
    web = start(sys.executable, "-m", "http.server", port + 1)
    wait_for(lambda: listens(port + 1))
    checked = everyones("tp.preflight")
    assert re.search(
        r"^warn +processes +127.0.0.1 +also runs: a mlx-lm server \(pid", checked.out, re.M
    )
    everyones("tp.start")
    done = everyones("tp.stop")
    assert f"not ours, left alone: 127.0.0.1: pid {server.pid}, " in done.err
    assert re.search(rf"pid {server.pid}, \w+, since .*-m mlx_lm server", done.err)
    assert alive(server)
    assert alive(web)
    assert everyones("tp.status").out.startswith("stopped")
    again = everyones("tp.stop", "--json")
    strangers = again.json()["strangers"]
    assert [(each["pid"], each["port"]) for each in strangers] == [(server.pid, None)]


def test_a_stranger_on_our_port(everyones: Inv, start: Start, lone: Lone, listens: Listens) -> None:
    web = start(sys.executable, "-m", "http.server", everyones.port)
    wait_for(lambda: listens(everyones.port))
    refused = everyones("tp.start", code=3)
    assert re.search(
        r"^fail +ports .* is taken by .*: it is none of ours: end it", refused.err, re.M
    )
    done = everyones("tp.stop", code=3)
    assert f"port {everyones.port} is held by what is not ours" in done.err.splitlines()[-1]
    assert re.search(rf"pid {web.pid}, .* holds port {everyones.port}: .*http.server", done.err)
    # --all is for servers of this engine.
    everyones("tp.stop", "--all", "--yes", code=3)
    assert alive(web)
    os.killpg(web.pid, signal.SIGKILL)
    web.wait()
    server = lone(everyones.port)
    refused = everyones("tp.preflight", code=3)
    assert "it is no rank of this cluster: inv tp.stop --all, or choose -- --port N" in refused.out
    everyones("tp.stop", code=3)
    assert alive(server)
    everyones("tp.stop", "--all", "--yes")
    wait_for(lambda: not alive(server))


@pytest.fixture
def left_behind(everyones: Inv, home: Path, start: Start, listens: Listens) -> Callable[..., int]:
    """`left_behind(ring)`: the pid of mlx.launch's rank 1; rank 0 and the launcher were killed."""
    require(LAUNCH.exists(), "needs mlx.launch")

    def leave(ring: int) -> int:
        hosts = home / "launch.json"
        hosts.write_text(json.dumps([{"ssh": "127.0.0.1", "ips": ["127.0.0.1"]}] * 2))
        server = (
            "-m",
            "mlx_lm",
            "server",
            "--model",
            home / "model",
            "--port",
            everyones.port + 600,
        )
        words = ("--backend", "ring", "--starting-port", ring, "--hostfile", hosts, "--")
        launcher = start(LAUNCH, *words, sys.executable, *server, stdin=subprocess.PIPE)
        wait_for(lambda: len(ranks(home / "model")) == 2 and listens(everyones.port + 600))
        both = ranks(home / "model")
        os.kill(launcher.pid, signal.SIGKILL)
        # As a wedged one does, rank 1 stays when rank 0 has gone.
        os.kill(both[1], signal.SIGSTOP)
        os.kill(both[0], signal.SIGKILL)
        wait_for(lambda: 0 not in ranks(home / "model"))
        return both[1]

    return leave


def test_a_rank_that_mlx_launch_left_must_go(
    everyones: Inv, home: Path, left_behind: Callable[..., int], listens: Listens
) -> None:
    """It holds no port; its environment leads to the ring's file, and that to our ports."""
    pid = left_behind(everyones.ring)
    assert not listens(everyones.port)
    refused = everyones("tp.preflight", code=3).out
    assert f"already runs: rank 1 without a record (pid {pid}): stop it: inv tp.stop" in refused
    degraded = everyones("tp.status", code=3)
    assert "ranks without a record; inv tp.stop ends them" in degraded.err
    assert f"kill -TERM {pid}  #" in everyones("tp.stop", "--dry-run").out
    assert "rank 1 without a record" in everyones("tp.stop").out
    assert not ranks(home / "model")
    everyones("tp.preflight")


def test_a_rank_of_other_ports_is_named(
    everyones: Inv, home: Path, left_behind: Callable[..., int]
) -> None:
    """Not provably ours: in the way, and the remedy is not a command that leaves it."""
    pid = left_behind(everyones.ring + 300)
    refused = everyones("tp.preflight", code=3).out
    assert f"rank 1 that no record knows runs (pid {pid}, " in refused
    assert "inv tp.stop --all, or --skip processes" in refused
    done = everyones("tp.stop")
    assert f"not ours, left alone: 127.0.0.1: pid {pid}, " in done.err
    assert ranks(home / "model") == {1: pid}
    everyones("tp.stop", "--all", "--yes")
    assert not ranks(home / "model")


def test_a_rank_whose_ring_file_is_gone_is_named(
    everyones: Inv, home: Path, left_behind: Callable[..., int]
) -> None:
    """Nothing ties it to our ports any more, so it is left; --all ends it."""
    pid = left_behind(everyones.ring)
    environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    file = next(each for each in environ if each.startswith(b"MLX_HOSTFILE="))
    Path(file.decode().partition("=")[2]).unlink()
    done = everyones("tp.stop")
    assert f"not ours, left alone: 127.0.0.1: pid {pid}, " in done.err
    assert ranks(home / "model") == {1: pid}
    everyones("tp.stop", "--all", "--yes")
    assert not ranks(home / "model")


def test_another_user_s_rank_lives(everyones: Inv, start: Start) -> None:
    """Even with all that makes a rank ours: of root, who may end anybody's, that is not asked."""
    require(bool(shutil.which("setpriv")), "needs setpriv, to be another user")
    ring = Path("/tmp") / f"mlx-tp-ring-{os.getpid()}.json"
    ring.write_text(
        json.dumps([[f"127.0.0.1:{everyones.ring}"], [f"127.0.0.1:{everyones.ring + 1}"]])
    )
    environment = {"PATH": os.environ["PATH"], "MLX_RANK": "1", "MLX_HOSTFILE": str(ring)}
    rank = start(*AS_NOBODY, "sleep", "600", env=environment)
    wait_for(lambda: Path(f"/proc/{rank.pid}/comm").read_text() == "sleep\n")
    refused = everyones("tp.preflight", code=3).out
    assert f"rank 1 that no record knows runs (pid {rank.pid}, nobody)" in refused
    assert "ask nobody, or --skip processes" in refused
    done = everyones("tp.stop")
    assert f"pid {rank.pid}, nobody, since " in done.err
    assert alive(rank)
    ring.unlink()


def test_all_asks(everyones: Inv, lone: Lone, port: int) -> None:
    """On a terminal; without one and without --yes nothing is changed."""
    server = lone(port)
    refused = everyones("tp.stop", "--all", code=2)
    assert refused.one_line().startswith("there is no terminal to ask on")
    assert f"kill -TERM {server.pid}  #" in everyones("tp.stop", "--all", "--dry-run").out
    assert str(server.pid) not in everyones("tp.stop", "--dry-run").out
    for answer, code in (("no", 3), ("", 3), ("yes", 0)):
        assert alive(server)
        ours, theirs = pty.openpty()
        asked = everyones.start("tp.stop", "--all", stdin=theirs)
        os.close(theirs)
        os.write(ours, answer.encode() + b"\n")
        _, err = asked.communicate(timeout=DEADLINE)
        os.close(ours)
        assert asked.returncode == code, err
        assert f"127.0.0.1: a mlx-lm server (pid {server.pid}) " in err
    wait_for(lambda: not alive(server))


def test_a_restart_onto_a_stranger_s_port_is_refused_before_it_stops(
    everyones: Inv, start: Start, listens: Listens, port: int
) -> None:
    everyones("tp.start")
    start(sys.executable, "-m", "http.server", port)
    wait_for(lambda: listens(port))
    refused = everyones("tp.restart", "--with", f"--port {port}", code=3)
    assert refused.err.splitlines()[-1].endswith("which is not ours; nothing was changed")
    assert everyones("tp.status").out.startswith("ready")
    everyones("tp.stop")


def test_two_clusters_and_a_lone_server_side_by_side(
    everyones: Inv, home: Path, lone: Lone, port: int
) -> None:
    """Another checkout's cluster, on ports of its own, is warned of, and lives through our stop."""
    server = lone(port)
    everyones("tp.start")
    assert everyones.config is not None
    config = json.loads(everyones.config.read_text())
    config["tp"]["state_dir"] = str(home / "other")
    hosts = json.loads(Path(everyones.env["INVOKE_TP_HOSTFILE"]).read_text())
    (home / "h.json").write_text(
        json.dumps({**hosts, "args": ["--port", str(everyones.port + 50)]})
    )
    other = replace(everyones, ring=everyones.ring + 50, config=home / "other.json")
    other.env = {**everyones.env, "INVOKE_TP_HOSTFILE": str(home / "h.json")}
    other.env["INVOKE_TP_LOG_DIR"] = str(home / "other-logs")
    (home / "other-logs").mkdir()
    (home / "other.json").write_text(json.dumps(config))
    checked = other("tp.preflight")
    assert "warn" in checked.out
    other("tp.start")
    everyones("tp.stop")
    assert other("tp.status").out.startswith("ready")
    everyones("tp.start")
    other("tp.stop")
    assert everyones("tp.status").out.startswith("ready")
    everyones("tp.stop")
    assert alive(server)


def test_two_users_on_the_same_hosts(inv: Inv, macs: Callable[..., Rig]) -> None:
    """Of the same name, on ports of their own, beside a lone server: each stop ends its own."""
    rig = macs()
    eve = "printf 'eve:*:502:20::/Users/eve:/bin/sh\\n' >>/etc/passwd; mkdir -p /Users/eve"
    for host in rig.names:
        rig.run(host, f"{eve}; chown 502:20 /Users/eve", root=True)
    hosts = [{"ssh": host, "ips": [rig.address(host)]} for host in rig.names]
    inv.env["INVOKE_TP_HOSTFILE"] = str(light_cluster(inv, hosts, python=sys.executable))
    program = str(ROOT / "tests" / "light_rank.py")
    lone = shlex.join([sys.executable, program, "--model", "/lone", "--port", str(inv.port + 9)])
    rig.run("mac1", f"LIGHT_RANK={inv.home / 'light'} {lone} >/dev/null 2>&1 &")

    theirs = replace(inv, ring=inv.ring + 4)
    words = json.loads(Path(inv.env["INVOKE_TP_HOSTFILE"]).read_text())
    rows = [{**row, "user": "eve"} for row in words["hosts"]]
    args = ["--port", str(inv.port + 4)]
    for folder in (inv.home / "eve-logs", inv.home / "eve-light"):
        folder.mkdir()
        folder.chmod(0o777)
    own = {"hosts": rows, "args": args, "envs": [f"LIGHT_RANK={inv.home / 'eve-light'}"]}
    (inv.home / "eve.json").write_text(json.dumps({**words, **own}))
    theirs.env = {**inv.env, "INVOKE_TP_HOSTFILE": str(inv.home / "eve.json")}
    theirs.env["INVOKE_TP_LOG_DIR"] = str(inv.home / "eve-logs")

    def users() -> list[str]:
        listed = rig.run("mac1", "ps -axo user,command", root=True).stdout.splitlines()
        return sorted(row.split()[0] for row in listed if program in row and "sh -c" not in row)

    inv("tp.start")
    theirs("tp.start")
    assert users() == ["admin", "admin", "eve"]
    for mine, others in ((inv, theirs), (theirs, inv)):
        mine("tp.stop")
        assert mine("tp.status").out.startswith("stopped")
        assert others("tp.status").out.startswith("ready")
        mine("tp.start")
    # --all may signal what the account owns, none of eve's; the lone one is not of this engine.
    done = inv("tp.stop", "--all", "--yes", code=4)
    assert done.err.splitlines()[-1].endswith("is it another user's?")
    assert users() == ["admin", "eve"]
    assert theirs("tp.status").out.startswith("ready")
    theirs("tp.stop")
    assert users() == ["admin"]


# As a Mac's ps shows them: environments after the arguments, and of one's own processes only.
PS = r"""#!/bin/sh
S="/opt/python3 -m mlx_lm server"
L='bash -c export MLX_RANK=3; export MLX_JACCL_COORDINATOR=10.0.0.1:32323; exec python -m mlx_lm'
case "$*" in
*axwwE*)
  echo "   11 $S HOME=/Users/me MLX_HOSTFILE=$RING MLX_RANK=1 KEY=s MLX_RANK"
  echo "   12 $S MLX_JACCL_COORDINATOR=10.0.0.1:32323 SECRET=x MLX_RANK=0"
  echo "   13 $L HOME=/Users/me"
  echo "   14 /opt/python3 t.py MLX_RANK=0x MLX_HOSTFILE=$RING"
  echo "   15 /opt/python3 t.py MLX_RANK=2 MLX_HOSTFILE=/gone/rank2" ;;
*"-p 13") echo "$L" ;;
*"-p 1"[12]) echo "/opt/python3 -m mlx_lm server" ;;
*"-p 1"[45]) echo "/opt/python3 t.py" ;;
*lstart*) for p in 11 12 13 14 15; do echo "$p $(id -u) me Mon Nov 30 05:00:0$((p - 10)) 2026"; done
  echo "16 9999 eve Mon Nov 30 05:00:09 2026" ;;
*comm=) for p in 11 12 13 14 15 16; do echo "$p /opt/python3"; done ;;
*) for p in 11 12 13 14 15 16; do echo "$p 1 $p 100 /opt/python3 -m mlx_lm server"; done ;;
esac
"""


@pytest.mark.parametrize("shell", ["sh", "bash --posix -O xpg_echo"])
def test_what_a_mac_tells_of_ranks(tmp_path: Path, shell: str) -> None:
    """Arguments that speak of a rank, as those of mlx.launch's shells, make none."""
    (tmp_path / "ps").write_text(PS)
    (tmp_path / "ps").chmod(0o755)
    (tmp_path / "ring").write_text('[["10.0.0.1:32323", "10.0.1.1:32324"], ["10.0.0.2:32325"]]')
    script = processes.FACT.command.replace("[ -d /proc/self ]", "false")
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "RING": str(tmp_path / "ring")}
    done = subprocess.run(
        shell.split(), input=script, env=environment, capture_output=True, text=True, check=True
    )
    assert "=s" not in done.stdout
    assert "=x" not in done.stdout
    found = processes.parse(done.stdout, 0)
    seen = {pid: (each.rank, sorted(each.meets), each.is_rdma) for pid, each in found.items()}
    assert seen == {
        11: (1, [32323, 32324, 32325], False),
        12: (0, [32323], True),
        13: (None, [], False),
        14: (None, [32323, 32324, 32325], False),
        15: (2, [], False),
        16: (None, [], False),
    }
    assert found[15].lost_file == "/gone/rank2"
    assert [pid for pid, each in found.items() if not each.is_own] == [16]
    assert (found[16].user, found[16].since) == ("eve", "Mon Nov 30 05:00:09 2026")


L = "bash -c export MLX_RANK=3; export MLX_JACCL_COORDINATOR=10.0.0.1:32323; exec python -m mlx_lm"


@pytest.mark.parametrize("shell", ["dash", "bash --posix -O xpg_echo", "busybox sh", "mksh"])
@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([f"   13 {L} HOME=/Users/me"], ""),
        ([f"   13 {L} HOME=/Users/me", "   11 /opt/python3 -m mlx_lm server MLX_RANK=1"], "11"),
        ([f"   13 {L} MLX_RANK=1", "   11 /opt/python3 -m mlx_lm server MLX_RANK=0"], "13"),
        (["   11 /opt/python3 -m mlx_lm server HOME=/ MLX_RANK"], ""),
    ],
)
def test_what_root_takes_for_a_rank_on_a_mac(
    tmp_path: Path, shell: str, rows: list[str], found: str
) -> None:
    """The daemon's look: the first process with MLX_RANK in its environment, not its arguments."""
    require(shutil.which(shell.split()[0]), f"needs {shell}")
    (tmp_path / "ps").write_text(re.sub(r"(?s)(\*axwwE\*\)).*?;;", r'\1 echo "$ROWS" ;;', PS))
    (tmp_path / "ps").chmod(0o755)
    script = scripts.script("ranks.sh").replace("[ -d /proc/self ]", "false") + "\nrank\n"
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "ROWS": "\n".join(rows)}
    done = subprocess.run(
        shell.split(), input=script, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == found
