"""Paramiko's transport (one SSH connection) without its waits for acknowledgements of TCP."""

from __future__ import annotations

import socket
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import paramiko

from .resolve import Resolved

WINDOW = 128 * 1024  # bytes that the other side may send ahead; Paramiko's are 2 MiB


@cache
def kind() -> type[paramiko.Transport]:
    """The class, for `SSHClient.connect(transport_factory=...)`; Paramiko is imported for it."""
    import paramiko

    class Transport(paramiko.Transport):
        def __init__(self, sock: socket.socket, **options: Any) -> None:
            # A small packet would wait until the last one is acknowledged (Nagle's algorithm),
            # which the other side puts off (Linux: for 40 ms). Through a gateway it is no socket,
            # or none of TCP.
            with suppress(AttributeError, OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # What has come and was not taken yet waits here: of many nodes that would be much.
            super().__init__(sock, default_window_size=WINDOW, **options)
            # GCM proves itself; for the others Paramiko compares each packet's proof in Python.
            security = self.get_security_options()
            security.ciphers = sorted(security.ciphers, key=lambda each: "gcm" not in each)

        def _parse_global_request(self, m: paramiko.Message) -> None:
            # After a login sshd tells its host keys, and its next packet (our session) waits until
            # they are acknowledged: by whatever we send, or after 40 ms.
            super()._parse_global_request(m)  # type: ignore[misc]
            if self.clear_to_send.is_set():
                self.send_ignore(1)

    return Transport


# What is to be agreed on: Paramiko's name for the choice, and ssh's.
_CHOICES = {
    "ciphers": "Ciphers",
    "digests": "MACs",
    "kex": "KexAlgorithms",
    "key_types": "HostKeyAlgorithms",
}


def restrict(security: Any, config: Resolved) -> None:
    """Offer only what ssh's configuration allows; raise SSHException where nothing is left."""
    import paramiko

    for choice, option in _CHOICES.items():
        allowed = config.first(option.lower()).split(",")
        # Paramiko knows curve25519-sha256 by the name that it had first (RFC 8731, 1).
        names = {each: each.removesuffix("@libssh.org") for each in getattr(security, choice)}
        kept = [each for each, name in names.items() if {each, name} & {*allowed}]
        proven = [each for each in security.ciphers if "gcm" in each]
        if not kept and choice == "digests" and proven:
            security.ciphers = proven  # they want no MAC, whatever is agreed on
        elif not kept and allowed != [""]:
            what = ",".join(allowed[:3])
            raise paramiko.SSHException(f"{option} {what}: none of them can be used here")
        if kept:
            setattr(security, choice, kept)
