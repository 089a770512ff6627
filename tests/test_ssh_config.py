"""Connecting as ssh does: the same configuration to ssh and to us, on a real sshd.

The oracle is ssh itself: where it logs in we do, where it refuses its configuration its line is
ours. tests/data/ssh/*.conf are configurations of real users; in them @PORT@, @KEY@, @KNOWN@,
@AGENT@, @DIR@ and @BASE@ stand for what a test has.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import DEADLINE, ROOT, Inv, _listens, free_ports, require, wait_for

from tasks.cluster.config.hostfile import Host
from tasks.cluster.errors import BadInput
from tasks.cluster.ssh import node, nodes, resolve
from tasks.cluster.sync import rsync

CASES = sorted((ROOT / "tests" / "data" / "ssh").glob("*.conf"))
FIELD = sorted((ROOT.parent / "shared" / "field-cases").glob("*-ssh-*.conf"))


@dataclass
class Server:
    """An sshd on a port of its own; `key` is let in, `known` has its host key."""

    folder: Path
    port: int

    @property
    def key(self) -> Path:
        return self.folder / "user.key"

    @property
    def known(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def agent(self) -> Path:
        return self.folder / "agent.sock"

    def filled(self, text: str) -> str:
        """`text` with what this server has in the places of its words in @."""
        values = {"PORT": self.port, "KEY": self.key, "KNOWN": self.known, "AGENT": self.agent}
        values |= {"DIR": self.folder, "BASE": self.folder / "nodes.conf"}
        for name, value in values.items():
            text = text.replace(f"@{name}@", str(value))
        return text


def keygen(path: Path, *words: str) -> Path:
    line = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, *words, "-f", str(path)]
    subprocess.run(line, check=True)
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    require(Path("/usr/sbin/sshd").exists(), "needs OpenSSH's server (apt install openssh-server)")
    require(os.getuid() == 0, "needs root: sshd on a port of its own")
    made = Server(tmp_path_factory.mktemp("ssh"), free_ports(1))
    keygen(made.key)
    keygen(made.folder / "host.key")
    keygen(made.folder / "ca.key")
    public = (made.folder / "host.key.pub").read_text().rsplit(" ", 1)[0]
    made.known.write_text(f"[127.0.0.1]:{made.port} {public}\n")
    (made.folder / "aliased").write_text(f"the-alias {public}\n")
    (made.folder / "empty").write_text("")
    shutil.copy(made.known, made.folder / "with blank")
    (made.folder / "authorized").write_text(
        f"{(made.folder / 'user.key.pub').read_text()}"
        f"cert-authority {(made.folder / 'ca.key.pub').read_text()}"
    )
    certified = keygen(made.folder / "certified.key")
    sign = ["ssh-keygen", "-q", "-s", str(made.folder / "ca.key"), "-I", "me", "-n", "root"]
    subprocess.run([*sign, f"{certified}.pub"], check=True)
    expired = keygen(made.folder / "expired.key")
    subprocess.run([*sign, "-V", "20200101:20200102", f"{expired}.pub"], check=True)
    with (made.folder / "authorized").open("a") as file:
        file.write(Path(f"{expired}.pub").read_text())
    shutil.copy(made.key, made.folder / "uncertified.key")
    (made.folder / "uncertified.key-cert.pub").write_text("no certificate\n")
    (made.folder / "plain").write_text(f"127.0.0.1 {public}\n")
    (made.folder / "id_token").write_text(token_key())
    keygen(made.folder / "locked.key", "-N", "secret")
    keygen(made.folder / "pkcs8", "-t", "ecdsa", "-m", "PKCS8")
    (made.folder / "junk.key").write_text("no key at all\n")
    settings = (
        f"Port {made.port}\nListenAddress 127.0.0.1\nHostKey {made.folder}/host.key\n"
        f"AuthorizedKeysFile {made.folder}/authorized\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPidFile none\nMaxAuthTries 6\n"
        # What a shell of this machine's own user reads as it begins is no part of a test.
        f"SetEnv HOME={made.folder}\n"
    )
    (made.folder / "sshd_config").write_text(settings)
    Path("/run/sshd").mkdir(exist_ok=True)
    line = ["/usr/sbin/sshd", "-D", "-e", "-f", str(made.folder / "sshd_config")]
    with (made.folder / "log").open("wb") as log:
        process = subprocess.Popen(line, stderr=log)
    small = made.folder / "small.sock"
    agents = [
        subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
        for path in (made.agent, small)
    ]
    wait_for(lambda: _listens(made.port) and made.agent.exists() and small.exists())
    for number in range(7):
        add(made.agent, keygen(made.folder / f"other{number}"))
    add(made.agent, made.key)
    add(small, expired)
    yield made
    for each in (process, *agents):
        each.kill()
        each.wait()


def add(agent: Path, key: Path) -> None:
    environment = {**os.environ, "SSH_AUTH_SOCK": str(agent)}
    subprocess.run(["ssh-add", "-q", key], env=environment, check=True, capture_output=True)


def token_key() -> str:
    """The file of a key that only its token can use (PROTOCOL.key, PROTOCOL.u2f)."""
    import base64

    public = b"".join(map(text_of, (b"sk-ssh-ed25519@openssh.com", b"k" * 32, b"ssh:")))
    words = [text_of(b"none"), text_of(b"none"), text_of(b""), struct.pack(">I", 1)]
    data = b"".join([b"openssh-key-v1\0", *words, text_of(public), text_of(b"\0" * 64)])
    lines = base64.encodebytes(data).decode()
    return f"-----BEGIN OPENSSH PRIVATE KEY-----\n{lines}-----END OPENSSH PRIVATE KEY-----\n"


def text_of(data: bytes) -> bytes:
    """SSH's string (RFC 4251): its length before it."""
    return struct.pack(">I", len(data)) + data


@pytest.fixture
def config(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Path]:
    """Writes a configuration."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setenv("KEY_FOLDER", str(server.folder))

    def write(text: str) -> Path:
        path = tmp_path / "config"
        base = (
            "Host mac1\n  HostName 127.0.0.1\n  Port @PORT@\n  User root\n  IdentityFile @KEY@\n"
            "  UserKnownHostsFile @KNOWN@\n"
        )
        (server.folder / "nodes.conf").write_text(server.filled(base))
        path.write_text(server.filled(text))
        return path

    return write


def by_ssh(path: Path, name: str = "mac1") -> subprocess.CompletedProcess[str]:
    """What ssh itself makes of it; host keys as we take them."""
    strict = ["-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes"]
    line = ["ssh", "-F", str(path), *strict, name, "echo in"]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=DEADLINE)


def by_us(path: Path, name: str = "mac1") -> node.CommandResult:
    connections = nodes.Connections()
    try:
        return connections.of([Host(ssh=name)], str(path))[0].sh("echo in")
    finally:
        connections.close()


def test_the_hash_of_a_connection(config: Callable[[str], Path]) -> None:
    """ssh -G leaves %C in an IdentityFile, and puts it in elsewhere."""
    path = config(
        "Host mac1\n  User me\n  Port 2222\n  ControlPath %C\n  IdentityFile %C\n  ProxyJump gate\n"
    )
    found = resolve.resolve("mac1", None, None, str(path))
    assert found.options["identityfile"] == ("%C",)
    assert [str(each) for each in found.paths("identityfile")] == [found.first("controlpath")]


@pytest.mark.parametrize("case", [*CASES, *FIELD], ids=lambda path: path.stem)
def test_where_ssh_logs_in_we_do(
    case: Path,
    config: Callable[[str], Path],
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = case.read_text()
    if "many-agent-keys" in case.name:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(server.agent))
    if "sk-key" in case.name:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(sk_agent(server)))
        text += "  IdentitiesOnly no\n"
    path = config(text)
    right = by_ssh(path)
    if "bad configuration options" in right.stderr:
        # As this ssh does: an older one does not know every word (Match localnetwork: 9.4).
        with pytest.raises(BadInput, match=r"config:? line \d+: "):
            by_us(path)
        return
    if "sk-key" in case.name:
        right.returncode = 0  # this ssh asks the stand-in agent to sign with it, and then ends
    assert (right.returncode, "# refused" in text) in ((0, False), (255, True)), right.stderr
    answer = by_us(path)
    assert answer.ok == (right.returncode == 0), (answer, right.stderr)


def sk_agent(server: Server) -> Path:
    """An agent that lists a key of a token (which can't be used) before the right one."""
    path = server.folder / "sk.sock"
    if path.exists():
        return path
    kind = b"sk-ssh-ed25519@openssh.com"
    token = b"".join(map(text_of, (kind, b"k" * 32, b"ssh:")))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        while True:
            client, _ = listener.accept()
            threading.Thread(target=relay, args=(client,), daemon=True).start()

    def relay(client: socket.socket) -> None:
        real = socket.socket(socket.AF_UNIX)
        real.connect(str(server.agent))
        while message := packet(client):
            if message[:1] == b"\x0d" and kind in message[:64]:
                client.sendall(struct.pack(">I", 1) + b"\x05")
                continue
            real.sendall(struct.pack(">I", len(message)) + message)
            answer = packet(real)
            if answer[:1] == b"\x0c":
                answer = only_right(answer, token, server)
            client.sendall(struct.pack(">I", len(answer)) + answer)

    threading.Thread(target=serve, daemon=True).start()
    return path


def only_right(answer: bytes, token: bytes, server: Server) -> bytes:
    """The list of keys with the token first and the right key last, the others left out."""
    import base64

    right = base64.b64decode(Path(f"{server.key}.pub").read_text().split()[1])
    rows = [token, b"YubiKey", right, b"mine"]
    return b"\x0c" + struct.pack(">I", 2) + b"".join(map(text_of, rows))


def packet(end: socket.socket) -> bytes:
    head = end.recv(4, socket.MSG_WAITALL)
    return end.recv(struct.unpack(">I", head)[0], socket.MSG_WAITALL) if len(head) == 4 else b""


HERE = "Host mac1\n  HostName 127.0.0.1\n  Port @PORT@\n  User root\n"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("  IdentityFile @DIR@/locked.key\n", r"locked.key \(it has a passphrase\).*ssh-add"),
        ("  IdentityFile @DIR@/junk.key\n", r"junk.key \(no key that can be read\)"),
        ("  IdentityFile @DIR@/id_token\n", r"id_token \(sk-ssh-ed25519@openssh.com can't be used"),
        ("  IdentityFile @DIR@/pkcs8\n", r"pkcs8 \(PKCS#8 can't be used here: ssh-keygen -p -f"),
        ("  IdentityFile @DIR@/nothere\n", r"nothere \(No such file or directory\)"),
        ("  IdentityFile @KEY@\n  ProxyCommand echo no tunnel >&2\n", r"ended: no tunnel \(exit"),
        ("  IdentityFile @KEY@.pub\n", r"user.key.pub \(only its public half is here\)"),
        ("  IdentityFile @DIR@/other1\n", r"root with \S*other1 \(not accepted\).*ssh-copy-id"),
        ("  IdentityAgent @DIR@/gone.sock\n  IdentityFile none\n", r"gone.sock: No such file"),
        ("  IdentityFile none\n  IdentityAgent none\n", "no key to offer for root"),
        ("  IdentityAgent @AGENT@\n  IdentityFile none\n", "too many keys.*IdentitiesOnly yes"),
        ("  IdentityFile none\n  PKCS11Provider /x.so\n", "PKCS11Provider can't be used here"),
    ],
)
def test_why_a_login_is_refused(config: Callable[[str], Path], more: str, says: str) -> None:
    import re

    path = config(f"{HERE}  UserKnownHostsFile @KNOWN@\n{more}")
    answer = by_us(path)
    assert answer.failure
    assert re.search(says, f"{answer.failure}: {answer.remedy}"), answer
    assert "ssh -F" in str(answer.remedy)


def test_a_server_that_wants_no_proof(config: Callable[[str], Path], server: Server) -> None:
    """As Tailscale's ssh: who comes is known from the network."""
    import paramiko
    from paramiko.common import AUTH_SUCCESSFUL

    class Open(paramiko.ServerInterface):
        def check_auth_none(self, username: str) -> int:
            return AUTH_SUCCESSFUL

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        public = (server.folder / "host.key.pub").read_text()
        (server.folder / "open").write_text(f"[127.0.0.1]:{port} {public}")
        path = config(
            f"Host mac1\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile none\n"
            "  UserKnownHostsFile @DIR@/open\n"
        )
        found = nodes.Connections().of([Host(ssh="mac1")], str(path))[0]
        found.connect()
        transport = paramiko.Transport(listener.accept()[0])
        transport.add_server_key(paramiko.Ed25519Key(filename=str(server.folder / "host.key")))
        transport.start_server(server=Open())
        wait_for(transport.is_authenticated)
        found.close()
        transport.close()


def test_rsync_has_a_session(config: Callable[[str], Path]) -> None:
    """Also where the user's own configuration wants none, or another command in it."""
    path = config(
        f"{HERE}  IdentityFile @KEY@\n  UserKnownHostsFile @KNOWN@\n  SessionType none\n"
        "  RemoteCommand false\n  RequestTTY force\n  StdinNull yes\n"
    )
    found = nodes.Connections().of([Host(ssh="mac1")], str(path))
    with rsync.ssh_config(found) as ours:
        assert by_ssh(Path(ours)).stdout == "in\n"


def test_no_host_key_is_taken_for_the_user(config: Callable[[str], Path]) -> None:
    """Whatever StrictHostKeyChecking says; the way out is one command."""
    path = config(
        f"{HERE}  IdentityFile @KEY@\n  UserKnownHostsFile @DIR@/empty\n"
        "  StrictHostKeyChecking accept-new\n"
    )
    answer = by_us(path)
    assert "host key is not known" in str(answer.failure)
    assert answer.remedy == "check and accept it with: inv hosts.trust --hosts mac1"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Host mac1\n  Foo bar\n", "config: line 2: Bad configuration option: foo"),
        ("Host mac1\n  Port many\n", "config line 2: Bad port"),
        ("Host mac1\n  IdentityFile ${NO_SUCH}/k\n", "${NO_SUCH} is not set here"),
        ("Host mac1\n  IdentityFile ~no-such/k\n", "there is no user no-such here"),
        ("Host mac1\n  ProxyJump mac1b\nHost mac1b\n  ProxyJump mac1\n", "more than 8 hosts"),
        ("Match exec\n", "config line 1"),
    ],
)
def test_a_config_that_ssh_refuses(inv: Inv, home: Path, text: str, says: str) -> None:
    (home / ".ssh").mkdir()
    (home / ".ssh" / "config").write_text(text)
    done = inv("tp.memory", "--hosts", "mac1,mac2", code=2)
    assert says in done.one_line()


def test_without_ssh_paramiko_reads_it(inv: Inv, home: Path, server: Server) -> None:
    """It knows enough for most, and it is said once."""
    (home / ".ssh").mkdir()
    text = f"{HERE}  IdentityFile @KEY@\n  UserKnownHostsFile @KNOWN@\n"
    (home / ".ssh" / "config").write_text(server.filled(text))
    (home / "bin").mkdir()
    inv.env["PATH"] = str(home / "bin")
    done = inv("tp.memory", "--hosts", "mac1", "--engine", "mlx-lm")
    assert done.out.startswith("ok")
    assert done.err.count("there is no ssh here to ask") == 1


def test_ssh_is_asked_once_for_a_host(inv: Inv, home: Path) -> None:
    """However often and in how many tasks of a command line a host is asked."""
    folder = home / "bin"
    folder.mkdir()
    fake = folder / "ssh"
    fake.write_text(f'#!/bin/sh\necho "$*" >>{home}/asked\nexec {shutil.which("ssh")} "$@"\n')
    fake.chmod(0o755)
    inv.env["PATH"] = f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    inv("tp.memory", "--hosts", "127.0.0.7", "tp.memory", "--hosts", "127.0.0.7", code=5)
    assert len((home / "asked").read_text().splitlines()) == 1


def test_what_was_resolved_is_shown(inv: Inv, home: Path) -> None:
    """Of each host: where it leads and by which way, and the keys that are tried there."""
    (home / ".ssh").mkdir()
    (home / "junk.key").write_text("none\n")
    (home / "known").touch()
    (home / ".ssh" / "config").write_text(
        "Host mac1\n  HostName 10.9.8.7\n  Port 2022\n  User ada\n  ProxyJump bob@gate\n"
        f"  IdentityAgent none\n  IdentityFile {home}/junk.key\n"
        f"  UserKnownHostsFile {home}/known\n  PKCS11Provider /x.so\n"
        "Host gate\n  HostName 10.9.8.1\n"
    )
    shown = inv("hosts.list", "--hosts", "mac1", "--verbose", "--json").json()["ssh"]["mac1"]
    assert shown["address"] == ["ada@10.9.8.7:2022"]
    assert shown["by way of"] == ["bob@10.9.8.1:22"]
    assert shown["keys"] == [f"{home}/junk.key (no key that can be read)"]
    assert shown["known hosts"] == [f"{home}/known"]
    assert shown["passed over"] == ["PKCS11Provider can't be used here"]
    told = inv("hosts.list", "--hosts", "mac1", "--verbose").out
    assert "ada@10.9.8.7:2022" in told
    assert "bob@10.9.8.1:22" in told
