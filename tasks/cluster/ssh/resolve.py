"""What ssh itself would do for a host: `ssh -G NAME`, asked once per host and command line.

So every word of the user's configuration means here what it means to ssh: Include, Match, tokens,
canonical names. ssh -G leaves tokens and variables in some values (OpenSSH 9.2, seen): these are
put in here, as ssh_config(5), TOKENS, has them.
"""

import getpass
import hashlib
import os
import pwd
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import BadInput
from ..text import one_line

TIMEOUT = 30  # seconds; Match exec may run a command of the user's


@dataclass(frozen=True)
class Resolved:
    """The options that ssh has for a host by their names in small letters, each with its values."""

    name: str
    options: Mapping[str, tuple[str, ...]]

    def first(self, option: str, default: str = "") -> str:
        """An option's value; `default` where it has none, or the word "none"."""
        value = self.options.get(option, ("none",))[0]
        return default if value.lower() == "none" else value

    def has(self, option: str) -> bool:
        """Whether an option is set to anything but no or none."""
        return self.first(option, "no").lower() not in ("no", "false")

    @property
    def hostname(self) -> str:
        return self.first("hostname", self.name)

    @property
    def user(self) -> str:
        return self.first("user") or getpass.getuser()

    @property
    def port(self) -> int:
        return int(self.first("port", "22"))

    def seconds(self, option: str, default: int) -> int:
        """An option that is a number of seconds; `default` where it is 0 or not set."""
        value = self.first(option, "0")
        return (int(value) if value.isdigit() else 0) or default

    def paths(self, option: str) -> list[Path]:
        """The values of an option that stands once for each path, tokens put in."""
        values = self.options.get(option, ())
        return [self.path(value) for value in values if value.lower() != "none"]

    def files(self, option: str) -> list[Path]:
        """The files of an option that lists several: ssh -G takes off the quotes around blanks."""
        found: list[Path] = []
        words = self.first(option).split()
        while words:
            ends = range(len(words), 0, -1)
            whole = [self.path(" ".join(words[:end])) for end in ends]
            here = next((n for n, path in zip(ends, whole, strict=True) if is_file(path)), 1)
            found.append(self.path(" ".join(words[:here])))
            words = words[here:]
        return found

    def path(self, text: str) -> Path:
        """A file's name with its tokens, `${VARIABLES}` and `~` put in; raise BadInput."""
        filled = re.sub(r"\$\{(\w+)\}", self._variable, self.filled(text))
        if filled == "~" or filled.startswith("~/"):
            filled = f"{home()}{filled[1:]}"
        try:
            return Path(filled).expanduser()
        except RuntimeError:
            user = filled[1:].partition("/")[0]
            why = f"{text}: there is no user {user} here"
            raise BadInput(f"ssh's configuration for {self.name}: {why}") from None

    def filled(self, text: str) -> str:
        """`text` with its tokens."""
        return re.sub(r"%(.)", lambda found: self._tokens.get(found[1], found[0]), text)

    def _variable(self, found: re.Match[str]) -> str:
        value = os.environ.get(found[1])
        if value is None:
            raise BadInput(f"ssh's configuration for {self.name}: {found[0]} is not set here")
        return value

    @cached_property
    def _tokens(self) -> Mapping[str, str]:
        here = socket.gethostname()
        jump = self.first("proxyjump")
        who = f"{here}{self.hostname}{self.port}{self.user}{jump}"
        return {
            "%": "%",
            "C": self.first("%C", hashlib.sha1(who.encode(), usedforsecurity=False).hexdigest()),
            "d": str(home()),
            "h": self.hostname,
            "i": str(os.getuid()),
            "j": jump,
            "k": self.first("hostkeyalias", self.name),
            "L": here.partition(".")[0],
            "l": here,
            "n": self.name,
            "p": str(self.port),
            "r": self.user,
            "u": pwd.getpwuid(os.getuid()).pw_name,
        }

    @property
    def unsupported(self) -> list[str]:
        """What this configuration wants and we can't do: named where a connection fails."""
        wanted = [label for option, label in _UNSUPPORTED.items() if self.has(option)]
        shared = self.paths("controlpath")
        wanted += [
            f"the open connection {path} (ControlPath)" for path in shared if is_socket(path)
        ]
        return [f"{label} can't be used here" for label in wanted]


_PATHS = ("identityfile", "certificatefile", "revokedhostkeys")
_HASHED = (*_PATHS, "proxycommand")  # in which ssh -G leaves %C as it is
_UNSUPPORTED = {
    "knownhostscommand": "KnownHostsCommand",
    "pkcs11provider": "PKCS11Provider",
    "gssapiauthentication": "GSSAPIAuthentication",
    "hostbasedauthentication": "HostbasedAuthentication",
    "bindaddress": "BindAddress",
    "bindinterface": "BindInterface",
}


def home() -> Path:
    """The user's home as ssh has it: of the user database, whatever $HOME says."""
    return Path(pwd.getpwuid(os.getuid()).pw_dir)


def is_file(path: Path) -> bool:
    """Whether it is a file that can be looked at: what can't be is passed over, as ssh does."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_socket(path: Path) -> bool:
    """The same of a socket."""
    try:
        return path.is_socket()
    except OSError:
        return False


def has_ssh() -> bool:
    """Whether there is an ssh to ask."""
    return shutil.which("ssh") is not None


def resolve(name: str, user: str | None, port: int | None, config: str | None) -> Resolved:
    """Ask ssh; raise BadInput with its own line (file and number) where it refuses."""
    if not has_ssh():
        return without_ssh(name, user, port, config)
    given = {"-F": config, "-l": user, "-p": port}
    words = [str(word) for pair in given.items() if pair[1] for word in pair]
    found = _ask(name, words)
    if any("%C" in value for option in _HASHED for value in found.options.get(option, ())):
        # What goes into this hash differs between versions of ssh, which puts it in itself here.
        asked = _ask(name, ["-o", "ControlPath=%C", *words]).options["controlpath"]
        found = Resolved(name, {**found.options, "%C": asked})
    for option in _PATHS:
        found.paths(option)  # a variable that is not set is told before anything is done
    return found


def _ask(name: str, words: list[str]) -> Resolved:
    try:
        done = subprocess.run(
            ["ssh", "-G", "-T", *words, "--", name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        why = f"ssh -G {name} did not end within {TIMEOUT} s: is a Match exec hanging?"
        raise BadInput(f"ssh's configuration: {why}") from None
    if done.returncode != 0:
        said = [one_line(line) for line in done.stderr.splitlines()]
        talk = (*filter(re.compile(r"debug\d: |.*: terminating,").match, said), "")
        why = ": ".join(line for line in said if line not in talk)
        raise BadInput(f"ssh refuses its configuration for {name}: {why}")
    return parse(name, done.stdout)


def parse(name: str, text: str) -> Resolved:
    """The output of ssh -G: a line per value, the option's name first."""
    options: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        option, _, value = line.partition(" ")
        options[option.lower()] = (*options.get(option.lower(), ()), value)
    return Resolved(name, options)


# ssh_config(5), for where no ssh tells them.
_DEFAULTS = {
    "identityfile": ("~/.ssh/id_rsa", "~/.ssh/id_ecdsa", "~/.ssh/id_ed25519"),
    "userknownhostsfile": ("~/.ssh/known_hosts ~/.ssh/known_hosts2",),
    "globalknownhostsfile": ("/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2",),
}


def without_ssh(name: str, user: str | None, port: int | None, config: str | None) -> Resolved:
    """What Paramiko makes of the configuration, where there is no ssh: it knows fewer words."""
    import paramiko

    paths = [Path(config)] if config else [home() / ".ssh" / "config", Path("/etc/ssh/ssh_config")]
    texts = [path.read_text("utf-8", "replace") for path in paths if path.is_file()]
    try:
        found = paramiko.SSHConfig.from_text("\n".join(texts)).lookup(name)
    except (paramiko.SSHException, ValueError) as error:
        raise BadInput(f"{paths[0]}: {error}: install ssh, which may know better") from None
    given = {"user": user, "port": port and str(port)}
    own = {**found, **{key: value for key, value in given.items() if value}}
    lists = {key: (v,) if isinstance(v, str) else tuple(v) for key, v in own.items()}
    return Resolved(name, {**_DEFAULTS, **lists})


@dataclass(frozen=True)
class Hop:
    """A host on the way to another, as ProxyJump names it."""

    name: str
    user: str | None = None
    port: int | None = None


def hops(text: str, option: str = "ProxyJump") -> list[Hop]:
    """`[user@]host[:port]` or `ssh://...`, with commas between, the first to be met first."""
    return [_hop(each.strip(), option) for each in text.split(",") if each.strip()]


def _hop(text: str, option: str) -> Hop:
    rest = text.removeprefix("ssh://").rstrip("/")
    user, _, place = rest.rpartition("@")
    if not (found := re.fullmatch(r"(?:\[(.+)\]|([^:]+)|(.*:.*:.*))(?::(\d{1,5}))?", place)):
        raise BadInput(f"{option} {text}: write [user@]host[:port]")
    name = found[1] or found[2] or found[3]
    return Hop(name, user or None, int(found[4]) if found[4] else None)
