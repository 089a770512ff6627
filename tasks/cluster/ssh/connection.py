"""A Fabric connection that goes the way that ssh would go, and takes only known host keys."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Protocol

from ..errors import BadInput
from . import auth, known_hosts, resolve
from .bulk import BulkResult
from .dial import ProxySocket, dial
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
    family: int
    is_passed: bool

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
    jumps = resolve.hops(jump or found.filled(found.first("proxyjump")))
    gateway: Way | str | None = None
    for hop in jumps:
        if gateway is None:
            gateway = None if _is(hop, found) else way(hop, config, depth=depth + 1)
        else:
            own = resolve.resolve(hop.name, hop.user, hop.port, config)
            gateway = Way(own, gateway)
    command = "" if jumps else found.first("proxycommand")
    # Its ${VARIABLES} are its shell's.
    return Way(found, gateway or found.filled(command) or None)


def _is(hop: Hop, found: Resolved) -> bool:
    """Whether a hop is the host itself, as with `Host *` and ProxyJump: ssh passes it over."""
    return hop.name in (found.name, found.hostname) and (hop.port or 22) == found.port


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
        to.resolved.hostname,
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
    made.family = _FAMILIES.get(to.resolved.first("addressfamily"), socket.AF_UNSPEC)
    made.is_passed = to.resolved.has("proxyusefdpass")
    known_hosts.take_only_known(made, to.resolved, whose, ssh)
    return made


_FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}


def _limits(resolved: Resolved, timeout: int) -> Mapping[str, object]:
    return {
        "auth_strategy": auth.Login(resolved),
        "banner_timeout": timeout,
        "auth_timeout": timeout,
        # Paramiko's is an hour, as long as it takes to see that a connection is dead.
        "channel_timeout": timeout,
    }


# What Paramiko says where nothing comes any more before anybody is logged in.
_ENDED = ("Error reading SSH protocol banner", "No existing session", "Negotiation failed.")


@cache
def _kind() -> type[fabric.Connection]:
    # First, as everywhere here: Fabric begins with a part of it, and would not wait for a thread
    # that is about to import the whole.
    import paramiko

    # isort: split
    import fabric

    class Connection(fabric.Connection):  # type: ignore[misc]
        family: int = socket.AF_UNSPEC
        is_passed = False
        proxy: ProxySocket | None = None

        def derive_shorthand(self, host_string: str) -> dict[str, str | None]:
            # It is a name or an address by now, maybe of IPv6.
            return {"host": host_string, "user": None, "port": None}

        def open(self) -> None:
            if not self.is_connected and not self.gateway:
                made = dial(self.host, self.port, self.family, self.connect_timeout)
                self.connect_kwargs: dict[str, object] = {**self.connect_kwargs, "sock": made}
            try:
                super().open()
            except (OSError, EOFError, paramiko.SSHException) as error:
                is_ssh = isinstance(error, paramiko.SSHException)
                has_ended = not is_ssh or str(error).startswith(_ENDED)
                why = self.proxy.why if self.proxy and has_ended else ""
                raise (paramiko.SSHException(why) if why else error) from None

        def open_gateway(self) -> socket.socket | paramiko.Channel:
            if isinstance(self.gateway, str):
                made = ProxySocket(self.gateway)
                if self.is_passed:
                    return made.passed(self.connect_timeout)
                self.proxy = made
                return made
            through: paramiko.Channel = super().open_gateway()
            return through

    return Connection
