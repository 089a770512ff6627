"""Logging in with the keys that ssh would offer, in its order (sshconnect2.c, pubkey_prepare).

First the keys of the agent that the configuration names, then the agent's others (unless
IdentitiesOnly), then those that are only in files. What can't be used is passed over, and told
where nothing is left.
"""

from __future__ import annotations

import base64
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..text import at_home
from .resolve import Resolved, home, is_file

if TYPE_CHECKING:
    import paramiko
    from paramiko.agent import AgentKey, AgentSSH

_MAGIC = b"openssh-key-v1\0"


@dataclass
class Tried:
    """What became of each key that was offered, or could not be."""

    user: str
    unsupported: Sequence[str] = ()
    keys: list[tuple[str, str]] = field(default_factory=list)
    offered: int = 0
    wants_more: str = ""
    was_cut: bool = False

    @property
    def why(self) -> str:
        """Why nobody was let in, on one line."""
        if self.wants_more:
            return f"SSH login refused: {self.user} needs more than a key ({self.wants_more})"
        if self.was_cut:
            return f"SSH login refused: too many keys ({self.offered} were offered for {self.user})"
        told = [f"{name} ({why})" for name, why in self.keys]
        what = f"{self.user} with {', '.join(told)}" if told else f"no key to offer for {self.user}"
        return ", ".join([f"SSH login refused: {what}", *self.unsupported])

    def remedy(self, name: str, see: str) -> str:
        """What to do about it; `see` is a command that shows more."""
        if self.was_cut:
            return f"IdentityFile and IdentitiesOnly yes for {name} in ssh's configuration; {see}"
        if any(why == LOCKED for _, why in self.keys):
            return f"unlock it with: ssh-add; {see}"
        mac = "on a Mac see Remote Login, Allow access for"
        return f"install your key with: ssh-copy-id {name} ({mac}); {see}"


LOCKED = "it has a passphrase"


class LoginError(Exception):
    """No key was taken; `tried` tells which and why."""

    def __init__(self, tried: Tried) -> None:
        super().__init__(tried.why)
        self.tried = tried


@dataclass(frozen=True)
class Offer:
    """A key to offer, or why it can't be."""

    label: str
    key: paramiko.PKey | None = None
    problem: str = ""


class Login:
    """Paramiko's `auth_strategy`: an object with `authenticate(transport)`."""

    def __init__(self, config: Resolved) -> None:
        self.config = config
        self._agent: AgentSSH | None = None

    def authenticate(self, transport: paramiko.Transport) -> list[str]:
        """Offer key after key until one is taken; raise LoginError if none is."""
        try:
            return self._authenticate(transport)
        finally:
            self.close()

    def close(self) -> None:
        """Leave the agent, whose keys can sign no more then."""
        if self._agent is not None:
            self._agent._close()  # type: ignore[attr-defined]

    def _authenticate(self, transport: paramiko.Transport) -> list[str]:
        import paramiko

        tried = Tried(self.config.user, self.config.unsupported)
        for offer in self.offers():
            if offer.key is None:
                tried.keys.append((offer.label, offer.problem))
                continue
            tried.offered += 1
            try:
                more = transport.auth_publickey(tried.user, offer.key)
            except paramiko.BadAuthenticationType as error:
                tried.wants_more = ", ".join(error.allowed_types)
                break
            except (paramiko.SSHException, EOFError, ValueError) as error:
                tried.keys.append((offer.label, _refusal(error)))
                if not transport.is_active():
                    tried.was_cut = tried.offered > 1
                    break
                continue
            if not more:
                return []
            tried.wants_more = ", ".join(more)
            break
        if not tried.wants_more and _is_open(transport, tried.user):
            return []
        raise LoginError(tried)

    def offers(self) -> Iterator[Offer]:
        """The keys in the order in which ssh offers them."""
        files = [(path, public_blob(path)) for path in self.config.paths("identityfile")]
        certificates = self._certificates(files)
        named = {blob for _, blob in files if blob} | set(certificates)
        agent, problem = self._agent_keys()
        held = [key for key in agent if _plain(key.blob) in named or key.blob in named]
        others = [key for key in agent if key not in held]
        for key in held + ([] if self.config.has("identitiesonly") else others):
            yield from _each_of(_of_agent(key), certificates.get(key.blob))
        in_agent = {key.blob for key in held}
        for path, blob in files:
            if blob not in in_agent and is_file(path):
                yield from _each_of(_of_file(path), certificates.get(blob or b""))
            elif blob not in in_agent and path not in _defaults():
                yield Offer(at_home(str(path), str(home())), problem=_missing(path))
        if problem:
            yield Offer("the agent", problem=problem)

    def _agent_keys(self) -> tuple[list[AgentKey], str]:
        """The agent's keys; why it has none, where the configuration names one that is gone."""
        wanted = self.config.first("identityagent", "SSH_AUTH_SOCK")
        if self.config.options.get("identityagent", ("",))[0].lower() == "none":
            return [], ""
        if wanted == "SSH_AUTH_SOCK" or wanted.startswith("$"):
            socket = os.environ.get(wanted.lstrip("$").strip("{}"), "")
        else:
            socket = str(self.config.path(wanted))
        if not socket:
            return [], ""
        self._agent, problem = agent_at(socket)
        return list(self._agent.get_keys()), problem

    def _certificates(self, files: list[tuple[Path, bytes | None]]) -> dict[bytes, Path]:
        """Public key -> the file of a certificate for it."""
        named = self.config.paths("certificatefile")
        named += [path.with_name(f"{path.name.removesuffix('.pub')}-cert.pub") for path, _ in files]
        found: dict[bytes, Path] = {}
        for path in named:
            blob = public_blob(path) if is_file(path) else None
            if blob and certified(blob):
                found.setdefault(certified(blob), path)
        return found


def _refusal(error: BaseException) -> str:
    words = str(error) or type(error).__name__
    return "not accepted" if "Authentication failed" in words else words


def _is_open(transport: paramiko.Transport, user: str) -> bool:
    """Whether the server wants no proof of who we are (Tailscale's does): ssh asks for that first.

    Here it comes last, since it costs each connection a round trip.
    """
    import paramiko

    try:
        return transport.is_active() and not transport.auth_none(user)
    except (paramiko.SSHException, EOFError, OSError):
        return False


def _each_of(offer: Offer, certificate: Path | None) -> Iterator[Offer]:
    """A key with its certificate, and without: that may have run out, and the key be known."""
    if offer.key is not None and certificate:
        try:
            offer.key.load_certificate(str(certificate))
            yield Offer(f"{offer.label}, with its certificate", offer.key)
        finally:
            offer.key.public_blob = None
    yield offer


def _of_agent(key: AgentKey) -> Offer:
    label = f"{key.comment or key.get_name()} of the agent"
    if key.get_name().startswith("sk-"):
        return Offer(label, problem=f"{key.get_name()} can't be used here")
    return Offer(label, key)


def _of_file(path: Path) -> Offer:
    import paramiko

    label = at_home(str(path), str(home()))
    try:
        return Offer(label, _loaded(path))
    except paramiko.PasswordRequiredException:
        return Offer(label, problem=LOCKED)
    except TypeError:  # of cryptography: a key that wants a password and gets none
        return Offer(label, problem=LOCKED)
    except OSError as error:
        return Offer(label, problem=error.strerror or "can't be read")
    except Exception:
        # Of a file that is no private key Paramiko and cryptography raise whatever they meet.
        return Offer(label, problem=_unusable(path))


def _loaded(path: Path) -> paramiko.PKey:
    import paramiko

    try:
        return paramiko.PKey.from_path(path)
    except (paramiko.PasswordRequiredException, TypeError, OSError):
        raise
    except Exception:
        # It reads FILE-cert.pub too, which may be no certificate: then the key alone is good.
        for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
            with suppress(paramiko.SSHException, ValueError, IndexError):
                return kind.from_private_key_file(str(path))
        raise


def _unusable(path: Path) -> str:
    if is_file(path) and path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----"):
        return f"PKCS#8 can't be used here: ssh-keygen -p -f {path} writes it as OpenSSH has it"
    if not (blob := public_blob(path)):
        return "no key that can be read"
    kind = _string(blob)[0].decode("ascii", "replace")
    return (
        f"{kind} can't be used here" if kind.startswith("sk-") else "only its public half is here"
    )


def _missing(path: Path) -> str:
    try:
        path.stat()
    except OSError as error:
        return error.strerror or "can't be read"
    return "no file"


@cache
def _defaults() -> frozenset[Path]:
    """The files that ssh looks for where no IdentityFile is named (readconf.c)."""
    kinds = ("rsa", "dsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk", "xmss")
    return frozenset(home() / ".ssh" / f"id_{kind}" for kind in kinds)


def agent_at(socket: str) -> tuple[AgentSSH, str]:
    """Paramiko's agent at a socket, and why it has no keys where it can't be asked."""
    from paramiko.agent import AgentSSH

    agent = AgentSSH()
    try:
        agent._connect(_connect(socket))  # type: ignore[attr-defined]
    except OSError as error:
        return agent, f"{socket}: {error.strerror or error}"
    except Exception as error:  # whatever answers there may be no agent at all
        return agent, f"{socket} is no agent ({error or type(error).__name__})"
    return agent, ""


def _connect(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(10)  # an agent may ask its user
    made.connect(path)
    return made


def public_blob(path: Path) -> bytes | None:
    """The public half of a key file: its own (a .pub, or OpenSSH's private format) or FILE.pub."""
    for each in (path, path.with_name(f"{path.name}.pub")):
        try:
            text = each.read_text("ascii")
        except (OSError, ValueError):
            continue
        if blob := _blob_of(text):
            return blob
    return None


def _blob_of(text: str) -> bytes | None:
    words = text.split()
    try:
        if len(words) >= 2 and not text.startswith("-----"):
            return base64.b64decode(words[1], validate=True) or None
        if "BEGIN OPENSSH PRIVATE KEY" in text:
            lines = [line for line in text.splitlines() if line and not line.startswith("-----")]
            return _public_of_private(base64.b64decode("".join(lines)))
    except (ValueError, IndexError):
        return None
    return None


def _public_of_private(data: bytes) -> bytes | None:
    """PROTOCOL.key: magic, cipher, kdf, kdf's options, the number of keys, then the public ones."""
    if not data.startswith(_MAGIC):
        return None
    rest = data[len(_MAGIC) :]
    for _ in range(3):
        _, rest = _string(rest)
    blob, _ = _string(rest[4:])
    return blob or None


def _string(data: bytes) -> tuple[bytes, bytes]:
    """SSH's string (RFC 4251): its length in 4 bytes, then it; and what follows."""
    end = 4 + int.from_bytes(data[:4], "big")
    return data[4:end], data[end:]


def certified(blob: bytes) -> bytes:
    """The plain public key that a certificate is for; empty for none (PROTOCOL.certkeys)."""
    kind, rest = _string(blob)
    if not kind.endswith(b"-cert-v01@openssh.com"):
        return b""
    _, rest = _string(rest)  # the nonce
    count = {b"ssh-rsa": 2, b"ssh-dss": 4, b"ecdsa-sha2": 2}
    base = kind[: -len(b"-cert-v01@openssh.com")]
    strings = next((n for name, n in count.items() if base.startswith(name)), 1)
    end = rest
    for _ in range(strings):
        _, end = _string(end)
    return len(base).to_bytes(4, "big") + base + rest[: len(rest) - len(end)]


def _plain(blob: bytes) -> bytes:
    return certified(blob) or blob
