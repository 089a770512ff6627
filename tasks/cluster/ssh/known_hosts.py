"""Which host keys are known, as sshd(8) has known_hosts: only a known key is taken.

Paramiko alone passes over the marks, names with `*` and HostKeyAlias, so that a revoked key, or one
that is known for another machine, would do.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from base64 import b64decode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import shell
from . import transport
from .resolve import Resolved, is_file

if TYPE_CHECKING:
    import socket

    import paramiko

    from .connection import Connection

PORT = 22


class HostKeyError(Exception):
    """A host key that is not taken: why, and what to do."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(why)
        self.why = why
        self.remedy = remedy


@dataclass(frozen=True)
class KnownHost:
    """A line of known_hosts that names a host: its mark ("" or "@revoked", ...) and its key."""

    file: str
    mark: str
    kind: str
    key: bytes


@dataclass(frozen=True)
class KnownKeys:
    """What is known of a host called `name`; `accept` is what to do to accept its key.

    `is_exact` is false where it is known without its port only: another sshd may have that name.
    """

    name: str
    entries: Sequence[KnownHost]
    revoked: frozenset[bytes] = field(default=frozenset())
    accept: str = ""
    is_exact: bool = True

    @property
    def kinds(self) -> list[str]:
        """The kinds of keys that are known; a server is asked for one of these first."""
        return [entry.kind for entry in self.entries if not entry.mark]

    def wrong(self, kind: str, key: bytes, ssh: str) -> tuple[str, str] | None:
        """What is wrong with a key and what to do, or None; `ssh` is a command that reaches it."""
        if key in self.revoked | {e.key for e in self.entries if e.mark == "@revoked"}:
            return "host key is revoked", f"ask who has revoked the key of {self.name}"
        plain = [entry for entry in self.entries if not entry.mark]
        if any(entry.key == key for entry in plain):
            return None
        plain = plain if self.is_exact else []
        if same := [entry for entry in plain if entry.kind == kind]:
            remove = f"ssh-keygen -R {shell.quote(self.name)} -f {shell.quote(same[0].file)}"
            return f"host key (of {self.name}) has changed", f"if you know why: {remove}"
        if any(entry.mark == "@cert-authority" for entry in self.entries):
            why = "host key is known by @cert-authority only, which can't be checked here"
            return why, f"write its own key ({kind}) into known_hosts"
        other = f" ({kind}; known is {', '.join(self.kinds)})" if plain else ""
        accept = self.accept or f"check and accept it with: {ssh} true"
        return f"host key is not known{other}", accept


def known(config: Resolved) -> KnownKeys:
    """What the files that `config` names hold of its host.

    Raise HostKeyError where its RevokedHostKeys can't be read: as with ssh, no key is good then.
    """
    files = [*config.files("userknownhostsfile"), *config.files("globalknownhostsfile")]
    texts = {str(path): _text(path) for path in files if is_file(path)}
    plain, alias = config.hostname.lower(), config.first("hostkeyalias").lower()
    name = alias or (plain if config.port == PORT else f"[{plain}]:{config.port}")
    entries = find(texts, name)
    # As ssh does, where nothing is known of the port.
    others = [] if entries or alias else find(texts, plain)
    return KnownKeys(name, entries or others, _revoked(config), _accept(config), not others)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:  # ssh passes over it too
        return ""


def _accept(config: Resolved) -> str:
    """What to do for a key that is not known; empty where ssh itself would ask."""
    if why := keeps_none(config):
        return why
    is_asking = config.first("stricthostkeychecking", "ask") == "ask"
    if is_asking and not config.has("nohostauthenticationforlocalhost"):
        return ""
    return f"check and accept it with: inv hosts.trust --hosts {shell.quote(config.name)}"


def keeps_none(config: Resolved) -> str:
    """What to do where a configuration has no file for keys: /dev/null, or none."""
    files = config.files("userknownhostsfile")
    if files and files[0] != Path(os.devnull):
        return ""
    is_not = f"UserKnownHostsFile {files[0] if files else 'none'} keeps no key"
    return f"{is_not}: name a file there for {config.name} in ssh's configuration"


def find(texts: dict[str, str], name: str) -> list[KnownHost]:
    """The lines of known_hosts files (by path) that name a host."""
    found = []
    for file, text in texts.items():
        for line in text.splitlines():
            words = line.split()
            mark = words.pop(0) if words and words[0].startswith("@") else ""
            if len(words) < 3 or words[0].startswith("#") or mark not in _MARKS:
                continue
            if key := decoded(words[2]) if _matches(words[0], name) else b"":
                found.append(KnownHost(file, mark, words[1], key))
    return found


_MARKS = ("", "@revoked", "@cert-authority")


def _matches(names: str, name: str) -> bool:
    """Whether a list of names, with * and ? or hashed, has `name`, and no `!name` takes it out."""
    if names.startswith("|1|"):
        salt, _, digest = names[3:].partition("|")
        mine = hmac.new(decoded(salt), name.encode(), hashlib.sha1).digest()
        return hmac.compare_digest(mine, decoded(digest))
    hits = [each for each in names.split(",") if _is_like(each.removeprefix("!"), name)]
    return bool(hits) and not any(each.startswith("!") for each in hits)


def _is_like(pattern: str, name: str) -> bool:
    if "*" not in pattern and "?" not in pattern:
        return pattern.lower() == name.lower()
    words = re.escape(pattern.lower()).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(words, name.lower()) is not None


def decoded(text: str) -> bytes:
    """A key as its bytes; none where it is no base64."""
    try:
        return b64decode(text, validate=True)
    except ValueError:
        return b""


def _revoked(config: Resolved) -> frozenset[bytes]:
    """The keys of a file of public keys; ssh's own binary kind of it can't be read here."""
    if not (path := config.first("revokedhostkeys")):
        return frozenset()
    try:
        text = config.path(path).read_text("ascii")
    except (OSError, ValueError, RuntimeError):
        why = f"RevokedHostKeys {path} can't be read, so that no host key is good"
        raise HostKeyError(why, "name a file of public keys, one on a line") from None
    return frozenset(filter(None, (decoded(word) for word in text.split() if len(word) > 40)))


def take_only_known(connection: Connection, config: Resolved, whose: str, ssh: str) -> None:
    """Let a Fabric connection take only a known host key, and ask for one of a known kind first.

    Fabric by itself takes any. `whose` key it is goes into the error, and `ssh`, a command that
    reaches the same host.
    """

    @cache
    def found() -> KnownKeys:
        return known(config)

    def kinds_first(sock: socket.socket, **options: Any) -> paramiko.Transport:
        made = transport.kind()(sock, **options)
        security = made.get_security_options()
        transport.restrict(security, config)
        security.key_types = _preferred(security.key_types, found().kinds)
        return made

    class OnlyKnown:
        def missing_host_key(
            self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey
        ) -> None:
            if wrong := found().wrong(key.get_name(), key.asbytes(), ssh):
                raise HostKeyError(f"{whose} {wrong[0]}", wrong[1])

    connection.client.set_missing_host_key_policy(OnlyKnown())  # type: ignore[arg-type]
    connection.connect_kwargs = {**connection.connect_kwargs, "transport_factory": kinds_first}


def _preferred(offered: Iterable[str], kinds: Sequence[str]) -> list[str]:
    """Signature algorithms with those of known keys first; an RSA key signs with SHA-2 too."""
    return sorted(offered, key=lambda each: re.sub(r"^rsa-sha2-\d+$", "ssh-rsa", each) not in kinds)
