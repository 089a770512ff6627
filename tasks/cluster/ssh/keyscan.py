"""Host keys as the hosts show them to anybody (ssh-keyscan), and how they stand to those known."""

import hashlib
import os
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import BadInput
from . import known_hosts
from .known_hosts import HostKeyError, KnownKeys
from .node import Node

TIMEOUT = 10  # seconds for a host to show its keys

KNOWN, NEW, WRONG, LOST = "ok", "new", "fail", "not reached"


@dataclass(frozen=True)
class HostKey:
    """A public key as a line of known_hosts has it: its kind, and its bytes in base64."""

    kind: str
    text: str

    @property
    def fingerprint(self) -> str:
        """As ssh-keygen -l shows it."""
        digest = hashlib.sha256(b64decode(self.text)).digest()
        return f"SHA256:{b64encode(digest).decode().rstrip('=')}"


@dataclass(frozen=True)
class Scanned:
    """What a host has shown: ok (known), new, fail or not reached; its `name` in which `file`."""

    node: str
    state: str
    keys: Sequence[HostKey] = ()
    why: str = ""
    name: str = ""
    file: str = ""

    @property
    def rows(self) -> list[tuple[str, str, str]]:
        keys = [f"{key.kind} {key.fingerprint}" for key in self.keys]
        return [(self.state, self.node, text) for text in ([self.why] if self.why else keys)]

    @property
    def document(self) -> dict[str, object]:
        keys = [{"kind": key.kind, "fingerprint": key.fingerprint} for key in self.keys]
        return {"host": self.node, "state": self.state, "why": self.why, "keys": keys}


def scan(node: Node) -> Scanned:
    """The keys of a node's sshd; one behind a gateway can't be asked from here."""
    config = node.way.resolved
    if node.way.gateway:
        strict = config.first("stricthostkeychecking") in ("yes", "true")
        asking = " -o StrictHostKeyChecking=ask" if strict else ""
        why = f"it is behind a gateway: accept its key with: {node.ssh.command(node.host)}"
        return Scanned(node.name, LOST, why=f"{why}{asking} true")
    if why := known_hosts.keeps_none(config):
        return Scanned(node.name, WRONG, why=why)
    line = ["ssh-keyscan", "-T", str(TIMEOUT), "-p", str(config.port), "--", config.hostname]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=4 * TIMEOUT)
    try:
        known = known_hosts.known(config)
    except HostKeyError as error:
        return Scanned(node.name, WRONG, why=f"{error.why}: {error.remedy}")
    return judge(node.name, parse(done.stdout), known, str(config.files("userknownhostsfile")[0]))


def parse(text: str) -> list[HostKey]:
    """The keys in ssh-keyscan's output: lines of a name, a kind and a key; # begins a comment."""
    rows = [line.split() for line in text.splitlines() if not line.startswith("#")]
    return [
        HostKey(row[1], row[2]) for row in rows if len(row) == 3 and known_hosts.decoded(row[2])
    ]


def judge(node: str, keys: Sequence[HostKey], known: KnownKeys, file: str) -> Scanned:
    """How the keys stand: a host with one good key is known, one wrong key makes it wrong."""
    if not keys:
        return Scanned(node, LOST, why="it showed no host key: is its sshd on (Remote Login)?")
    told = [known.wrong(key.kind, known_hosts.decoded(key.text), f"ssh {node}") for key in keys]
    if bad := [": ".join(each) for each in told if each and "is not known" not in each[0]]:
        return Scanned(node, WRONG, keys, f"its {bad[0]}")
    state = KNOWN if None in told else NEW
    return Scanned(node, state, keys, name=known.name, file=file)


def accept(scanned: Scanned) -> str:
    """Append the keys to the user's known_hosts; its path. Raise BadInput where that can't be."""
    path = Path(scanned.file)
    lines = "".join(f"{scanned.name} {key.kind} {key.text}\n" for key in scanned.keys)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        old = path.read_bytes() if path.exists() else b""
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(file, "w") as out:
            out.write(("" if not old or old.endswith(b"\n") else "\n") + lines)
    except OSError as error:
        why = f"can't write to {path} ({error.strerror})"
        raise BadInput(f"{scanned.node}: {why}: see UserKnownHostsFile") from None
    return str(path)
