"""The main job over real OpenSSH servers, and what SSH refuses."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import layout
import pytest
from conftest import DEADLINE, Inv, Sshd

from tasks.cluster.config.hostfile import Host
from tasks.cluster.ssh import bulk, nodes
from tasks.cluster.ssh.node import Node, SshConfig


def test_whole_life(remote: Inv, sshd: Sshd, home: Path) -> None:
    started = remote("tp.start")
    assert f"http://127.0.0.1:{remote.port}" in started.out
    assert f"warn: whoever reaches port {remote.port} of mac1 can use the server" in started.err
    # One connection per node serves the whole task with its hooks.
    assert [sshd.connections(name) for name in sshd.names] == [1, 1]

    status = remote("tp.status", "--json").json()
    assert status["state"] == "ready"
    assert [row["host"] for row in status["ranks"]] == ["mac1", "mac2"]
    assert layout.record(sshd.node_home("mac2") / layout.STATE, 1)["host"] == "mac2"
    assert not (home / ".mlx-tp").exists()

    curl = next(line for line in started.out.splitlines() if line.startswith("curl"))
    answer = subprocess.run(
        ["sh", "-c", f"{curl} -s"], capture_output=True, text=True, timeout=DEADLINE
    )
    assert json.loads(answer.stdout)["choices"]

    logs = remote("tp.logs").out
    assert re.search(r"^rank 0 \| .*chat/completions", logs, re.MULTILINE)
    assert re.search(r"^rank 1 \| ", logs, re.MULTILINE)

    stopped = remote("tp.stop").out
    assert re.search(r"^stopped +mac1 +rank 0", stopped, re.MULTILINE)
    assert re.search(r"^stopped +mac2 +rank 1", stopped, re.MULTILINE)
    assert remote("tp.status").out.startswith("stopped")

    # Again, from a start on other options of the same cluster.
    remote("tp.start", "--backend", "ring", "--env", "A=b c")
    remote("tp.stop")


def test_node_that_is_gone(light_remote: Inv, sshd: Sshd) -> None:
    """A node that can't be reached is said, and the others are still stopped."""
    light_remote("tp.start")
    sshd.stop("mac2")
    status = light_remote("tp.status", code=5)
    assert "not reached" in status.out
    stopped = light_remote("tp.stop", code=5)
    assert re.search(r"^stopped +mac1 ", stopped.out, re.MULTILINE)
    assert re.search(r"^not reached +mac2 ", stopped.out, re.MULTILINE)
    sshd.start("mac2")
    light_remote("tp.stop")
    assert light_remote("tp.status").out.startswith("stopped")


def test_start_with_a_node_gone(light_remote: Inv, sshd: Sshd) -> None:
    sshd.stop("mac2")
    failed = light_remote("tp.start", code=5)
    assert re.search(r"fail +reachable +mac2 .*ssh .*-v mac2 true", failed.err)
    assert not layout.runs(sshd.node_home("mac1") / layout.STATE)
    # Without checks it is found when rank 1 is to be started; rank 0 is stopped again.
    light_remote("tp.start", "--skip-checks", code=5)
    sshd.start("mac2")
    assert light_remote("tp.status").out.startswith("stopped")


def test_unknown_host_key(remote: Inv, sshd: Sshd) -> None:
    sshd.trust("mac1")
    failed = remote("tp.preflight", code=5)
    assert re.search(r"mac2 .*host key is not known.*ssh .*mac2 true", failed.out)
    assert "mac2" not in (sshd.folder / "known_hosts").read_text()


def test_changed_host_key(remote: Inv, sshd: Sshd) -> None:
    sshd.stop("mac2")
    for file in (sshd.folder / "mac2.key", sshd.folder / "mac2.key.pub"):
        file.unlink()
    make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(sshd.folder / "mac2.key")]
    subprocess.run(make, check=True)
    sshd.start("mac2")
    failed = remote("tp.preflight", code=5)
    assert re.search(r"mac2 .*host key.*has changed.*ssh-keygen -R", failed.out)


def test_jump(remote: Inv, sshd: Sshd) -> None:
    """ProxyJump, and the gateway key of a hostfile; the way there is checked as well."""
    config = sshd.folder / "config"
    plain = config.read_text()
    config.write_text(plain.replace("Host mac2\n", "Host mac2\n  ProxyJump mac1\n"))
    before = sshd.connections("mac1")
    remote("tp.preflight")
    assert sshd.connections("mac1") == before + 2
    config.write_text(plain)

    file = Path(remote.env["INVOKE_TP_HOSTFILE"])
    data = json.loads(file.read_text())
    data["hosts"][1]["gateway"] = "mac1"
    file.write_text(json.dumps(data))
    remote("tp.preflight")
    assert sshd.connections("mac1") == before + 4

    sshd.trust("mac2")
    failed = remote("tp.preflight", code=5)
    assert len(re.findall(r"host key is not known", failed.out)) == 2


def test_refused_login(remote: Inv, sshd: Sshd) -> None:
    (sshd.folder / "user.key.pub").rename(sshd.folder / "elsewhere.pub")
    failed = remote("tp.preflight", code=5)
    assert "SSH login refused" in failed.out


def test_hosts_by_name(light_remote: Inv, home: Path, sshd: Sshd) -> None:
    """--hosts without a hostfile: addresses are looked up, and said; not one that no other reaches.

    As of a name to which /etc/hosts gives 127.0.1.1, and where ssh goes through a forwarded port.
    """
    del light_remote.env["INVOKE_TP_HOSTFILE"]
    rank = ("--python", sys.executable, "--env", f"LIGHT_RANK={home / 'light'}")
    words = ("--hosts", "mac1,mac2", "--engine", "light", *rank)
    args = ("--model", str(home / "model"), "--port", str(light_remote.port))
    refused = light_remote("tp.start", *words, args=args, code=3)
    assert "mac2: no ips given, using 127.0.0.1" in refused.err
    assert "127.0.0.1 is no address that mac2 can reach: give mac1's address" in refused.err
    assert not (sshd.node_home("mac1") / ".mlx-tp" / "rank0.json").exists()
    config = sshd.folder / "config"
    for name, port in sshd.ports.items():
        old, new = (f"HostName {ip}\n  Port {port}\n" for ip in ("127.0.0.1", sshd.ips[name]))
        config.write_text(config.read_text().replace(old, new))
    started = light_remote("tp.start", *words, args=args)
    assert f"mac2: no ips given, using {sshd.ips['mac2']}" in started.err
    light_remote("tp.stop", "--hosts", "mac1", "--hosts", "mac2", "--engine", "light")


def test_no_packet_waits_for_another(sshd: Sshd) -> None:
    """Each is sent at once, and what sshd says after a login is answered by an empty packet."""
    sshd.stop("mac1")
    sshd.start("mac1", LogLevel="DEBUG3")
    node = Node(Host("mac1"), SshConfig(str(sshd.folder / "config")))
    try:
        assert node.sh("true").ok
        assert node._connection
        sock = node._connection.transport.sock
        assert isinstance(sock, socket.socket)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    finally:
        node.close()
    log = (sshd.folder / "mac1.log").read_text()
    assert re.search(r"receive packet: type 2$", log, re.MULTILINE)  # SSH_MSG_IGNORE


def test_several_ranks_per_host(light_remote: Inv) -> None:
    started = light_remote("tp.start", "-n", "4")
    assert "starting 4 ranks" in started.err
    rows = light_remote("tp.status", "--json").json()["ranks"]
    assert [(row["rank"], row["host"]) for row in rows] == [
        (0, "mac1"),
        (1, "mac1"),
        (2, "mac2"),
        (3, "mac2"),
    ]
    light_remote("tp.stop")


def test_arguments_reach_the_rank_exactly(light_remote: Inv, sshd: Sshd) -> None:
    """Quotes, spaces, JSON and empty strings after `--` arrive as they were typed."""
    odd = ["--chat-template-args", '{"a b": "$HOME `x` \'q\' \\\\"}', "--stop", "", "-- ü\n*"]
    light_remote("tp.launch", args=("--port", str(light_remote.port), *odd))
    record = layout.record(sshd.node_home("mac1") / layout.STATE)
    first = record["command"].index(odd[0])
    assert record["command"][first : first + len(odd)] == odd
    log = light_remote.home / "logs" / "tp_server.rank0.log"
    assert log.exists()


@pytest.mark.parametrize("shell", ["zsh", "fish", "tcsh"])
def test_login_shells(remote: Inv, sshd: Sshd, shell: str) -> None:
    """What the user's login shell is, and says, matters not: scripts run in /bin/sh."""
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"needs {shell}")
    sshd.stop("mac1")
    sshd.start("mac1", ForceCommand=f'{path} -c "echo banner; $SSH_ORIGINAL_COMMAND"')
    remote("tp.preflight")


@pytest.mark.parametrize("size", [10, 1_000_000], ids=["small", "large"])
@pytest.mark.parametrize(
    ("says", "status"),
    [
        ("echo This account is currently not available.; echo bye; exit 1", 1),
        ("echo WARNING: Your password has expired. >&2; exit 1", 1),
        ("head -c 5 >/dev/null; echo xcode-select: note: no developer tools; exit 72", 72),
    ],
    ids=["nologin", "expired", "a stub"],
)
def test_a_node_that_says_something_else_is_quoted(
    inv: Inv, sshd: Sshd, says: str, status: int, size: int
) -> None:
    """By its first line and its status, also where it ends before our script has been written."""
    sshd.stop("mac2")
    sshd.start("mac2", ForceCommand=says)
    (node,) = nodes.Connections().of([Host("mac2")], str(sshd.folder / "config"))
    for _ in range(10):
        answer = node.sh(f": {'x' * size}\n")
        assert (answer.failure, answer.status) == (None, status)
        first = says.partition("echo ")[2].partition(";")[0].removesuffix(" >&2")
        assert answer.why.startswith(first)
        assert answer.why.endswith(f" (exit status {status})")
    node.close()
    if size == 10:
        done = inv("tp.memory", "--hosts", "mac2", "--engine", "mlx-lm", code=5)
        assert f"{first}" in done.out + done.err
        assert f"(exit status {status}): see it with: ssh mac2 true" in done.out + done.err


def test_a_login_shell_that_ends_no_line(light_remote: Inv, sshd: Sshd) -> None:
    """Its words do not run into ours: the lock is had, and who was ended is not said to be left."""
    for name in sshd.names:
        sshd.stop(name)
        says = "printf '\\033[31mWelcome \\377\\000'"
        sshd.start(name, ForceCommand=f'{says}; exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"')
    light_remote("tp.start")
    done = light_remote("tp.stop")
    assert re.findall(r"^stopped +(mac\d)", done.out, re.MULTILINE) == ["mac1", "mac2"]
    assert "Welcome" not in done.out + done.err


@pytest.mark.parametrize("name", ["mac2", "127.0.0.1"])
def test_a_node_that_never_stops_talking_is_left(sshd: Sshd, name: str) -> None:
    """What it says is kept up to a limit, and then it is not listened to."""
    (node,) = nodes.Connections().of([Host(name)], str(sshd.folder / "config"))
    for words in ("yes", "yes \u00fc", "yes >&2"):
        answer = node.sh(words)
        assert answer.failure == "it said more than 8192 KiB"
        assert len(answer.out + answer.err) <= bulk.KEPT
    assert node.sh("echo well").out == "well\n"
    node.close()


@pytest.mark.parametrize("name", [".fabric.yaml", ".fabric.py", ".fabric.json", ".invoke.yaml"])
def test_what_users_tell_fabric_and_invoke_has_no_say(
    inv: Inv, sshd: Sshd, home: Path, name: str
) -> None:
    """A pty would mix what scripts say with their errors; keys are those of ssh's configuration."""
    said = {"run": {"pty": True, "echo": True}, "connect_kwargs": {"password": "x"}, "user": "eve"}
    python = "\n".join(f"{key} = {value!r}" for key, value in said.items())
    texts = {".fabric.py": python, ".fabric.json": "{ broken"}
    (home / name).write_text(texts.get(name, json.dumps(said)))
    done = inv("tp.memory", "--hosts", "mac1,127.0.0.1", "--engine", "mlx-lm")
    assert [line.split()[:2] for line in done.out.splitlines()] == [
        ["ok", "mac1"],
        ["ok", "127.0.0.1"],
    ]


def test_a_leader_that_never_stops_talking_gives_no_lock(light_remote: Inv, sshd: Sshd) -> None:
    """Nor does it hold up who wants to stop what runs elsewhere."""
    sshd.stop("mac1")
    sshd.start("mac1", ForceCommand="exec yes")
    done = light_remote("tp.stop", code=5)
    assert "stopping without the lock: mac1: it does not stop saying 'y'" in done.err
    assert "it said more than 8192 KiB" in done.out + done.err


@pytest.mark.long
def test_memory_with_64_nodes_that_talk_without_an_end() -> None:
    """Half a minute for 64 sshd, and some for each of the commands."""
    from dataclasses import asdict

    from benchmarks import flood, page

    rows = [asdict(row) for row in flood.run().rows]
    assert [row["what"] for row in rows if page.holds(row) is False] == [], rows
