"""A Fabric connection that goes the way that ssh would go, and takes only known host keys."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Protocol

from .. import shell
from ..errors import BadInput
from . import auth, known_hosts, resolve
from .bulk import BulkResult
from .resolve import Hop, Resolved

if TYPE_CHECKING:
    import fabric
    import paramiko

DEPTH = 8  # hops; more of them lead in a circle


class Connection(Protocol):
    """What we use of Fabric's, which tells no types itself."""

    client: paramiko.SSHClient
    connect_kwargs: dict[str, object]
    gateway: Connection | str | None

    @property
    def is_connected(self) -> bool: ...

    @property
    def transport(self) -> paramiko.Transport: ...

    def open(self) -> None: ...

    def close(self) -> None: ...

    def run(self, command: str, *, room: int, **options: object) -> BulkResult: ...


@dataclass(frozen=True)
class Way:
    """How to come to a host: what ssh has for it, and by which host (or command) it is reached."""

    resolved: Resolved
    gateway: Way | str | None = None


def way(start: Hop, config: str | None, jump: str | None = None, depth: int = 0) -> Way:
    """Ask ssh for a host and all that is on the way to it; `jump` stands in for its ProxyJump."""
    if depth > DEPTH:
        raise BadInput(f"{start.name}: ProxyJump leads over more than {DEPTH} hosts: in a circle?")
    found = resolve.resolve(start.name, start.user, start.port, config)
    jumps = resolve.hops(jump or found.first("proxyjump"))
    gateway: Way | str | None = None
    for hop in jumps:
        if gateway is None:
            gateway = None if _is(hop, found) else way(hop, config, depth=depth + 1)
        else:
            own = resolve.resolve(hop.name, hop.user, hop.port, config)
            gateway = Way(own, gateway)
    command = "" if jumps else found.first("proxycommand")
    return Way(found, gateway or (_proxy(found, command) if command else None))


def _is(hop: Hop, found: Resolved) -> bool:
    """Whether a hop is the host itself, as with `Host *` and ProxyJump: ssh passes it over."""
    return hop.name in (found.name, found.hostname) and (hop.port or 22) == found.port


def _proxy(found: Resolved, command: str) -> str:
    """The command as ssh runs it: tokens put in, by a shell that it replaces."""
    return f"/bin/sh -c {shell.quote(f'exec {found.expand(command)}')}"


def connection(
    to: Way, config: fabric.Config, ssh: str, timeout: int, whose: str = "its"
) -> Connection:
    """A Fabric connection along `to`, not opened yet; `ssh` is a command that goes the same way.

    `config` is a Fabric configuration that reads no file; `timeout` is seconds, where ssh's own
    configuration says nothing. `whose` host key it is goes into the error where one is not known.
    """
    gateway: Connection | str | bool = False
    if isinstance(to.gateway, str):
        gateway = to.gateway
    elif to.gateway is not None:
        gateway = connection(to.gateway, config, ssh, timeout, "its gateway's")
    made: Connection = _kind()(
        _address(to.resolved),
        user=to.resolved.user,
        port=to.resolved.port,
        gateway=gateway,
        config=config,
        # What is sent goes by the protocol: text before the command is for a shell like sh.
        inline_ssh_env=False,
        forward_agent=to.resolved.has("forwardagent"),
        connect_timeout=to.resolved.seconds("connecttimeout", timeout),
        connect_kwargs=_limits(to.resolved, timeout),
    )
    known_hosts.take_only_known(made, to.resolved, whose, ssh)
    return made


def _limits(resolved: Resolved, timeout: int) -> Mapping[str, object]:
    return {
        "auth_strategy": auth.Login(resolved),
        "banner_timeout": timeout,
        "auth_timeout": timeout,
        # Paramiko's is an hour, as long as it takes to see that a connection is dead.
        "channel_timeout": timeout,
    }


def _address(resolved: Resolved) -> str:
    """The host's name, or its address of the one family that AddressFamily allows."""
    families = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
    family = families.get(resolved.first("addressfamily", "any"))
    if family is None:
        return resolved.hostname
    return str(socket.getaddrinfo(resolved.hostname, resolved.port, family)[0][4][0])


@cache
def _kind() -> type[fabric.Connection]:
    # First, as everywhere here: Fabric begins with a part of it, and would not wait for a thread
    # that is about to import the whole.
    import paramiko

    # isort: split
    import fabric

    class Connection(fabric.Connection):  # type: ignore[misc]
        def derive_shorthand(self, host_string: str) -> dict[str, str | None]:
            # It is an address by now, maybe of IPv6.
            return {"host": host_string, "user": None, "port": None}

        def open_gateway(self) -> paramiko.ProxyCommand | paramiko.Channel:
            if isinstance(self.gateway, str):
                return paramiko.ProxyCommand(self.gateway)
            through: paramiko.Channel = super().open_gateway()
            return through

    return Connection
