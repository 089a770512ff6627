"""A real OpenSSH server in each host, and an ssh configuration that knows them all."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from .machine import PATH, wait_for


def make_key(path: Path) -> None:
    line = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)]
    subprocess.run(line, check=True)


def configure(folder: Path, environment: Mapping[str, str], options: Mapping[str, str]) -> None:
    """Write the server's configuration; `options` add to it, or replace what is here."""
    words = {"PATH": PATH, **environment}
    settings = {
        "Port": "22",
        "HostKey": f"/.rig/{folder.name}/host.key",
        "AuthorizedKeysFile": "/.rig/user.key.pub",
        "StrictModes": "no",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "UsePAM": "no",
        "UseDNS": "no",
        "PrintMotd": "no",
        "PidFile": "/run/sshd.pid",
        "Subsystem": "sftp internal-sftp",
        "SetEnv": " ".join(f'"{name}={value}"' for name, value in words.items()),
        # Its keys cost ssh a tenth of a second of CPU for each connection.
        "KexAlgorithms": "-sntrup761*",
        "LogLevel": "VERBOSE",
        **options,
    }
    text = "".join(f"{key} {value}\n" for key, value in settings.items())
    (folder / "sshd_config").write_text(text)


def command(name: str) -> str:
    """The server's command line inside its host; it goes into the background by itself."""
    return f"/usr/sbin/sshd -f /.rig/{name}/sshd_config -E /.rig/{name}/sshd.log"


def wait(host: int) -> None:
    wait_for(lambda: listens(host), f"ssh in the host of process {host}")


def listens(host: int) -> bool:
    """Whether the host of this process 1 has it: a connection to see would cost an sshd each."""
    rows = Path(f"/proc/{host}/net/tcp").read_text()
    return re.search(r":0016 \S+ 0A ", rows) is not None


def write_config(base: Path, addresses: Mapping[str, str], user: str) -> None:
    """`ssh -F BASE/ssh_config mac1`: with the keys of the hosts known, and no agent asked."""
    entries = [
        f'Host {name}\n  HostName {address}\n  User {user}\n  IdentityFile "{base}/user.key"\n'
        f'  IdentitiesOnly yes\n  UserKnownHostsFile "{base}/known_hosts"\n'
        f"  StrictHostKeyChecking yes\n"
        for name, address in addresses.items()
    ]
    (base / "ssh_config").write_text("".join(entries))


def trust(base: Path, addresses: Mapping[str, str]) -> None:
    """Write the true keys of these hosts, and of no other, to known_hosts."""
    lines = [
        f"{address} {(base / name / 'host.key.pub').read_text().strip()}\n"
        for name, address in addresses.items()
    ]
    (base / "known_hosts").write_text("".join(lines))


def connections(folder: Path) -> int:
    """How many logins this host's server has accepted."""
    log = folder / "sshd.log"
    return log.read_text().count("Accepted publickey") if log.exists() else 0
