"""What can be wrong with a host: each fault by name, switched on and off while it runs."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .mac.run import COMMANDS
from .state import BASELINE_GIB

if TYPE_CHECKING:
    from .rig import Rig


@dataclass(frozen=True)
class Fault:
    """`on(rig, host, *what)` and `off`; `what` is "" where the fault takes no argument."""

    what: str
    about: str
    on: Callable[..., None]
    off: Callable[..., None]


def _state(on: dict[str, Any], off: dict[str, Any]) -> tuple[Callable[..., None], ...]:
    return (
        lambda rig, host: rig.set(host, **on),
        lambda rig, host: rig.set(host, **off),
    )


def _listed(name: str) -> tuple[Callable[..., None], ...]:
    """A fault that is switched on for devices or commands by name."""

    def change(rig: Rig, host: str, what: str, is_on: bool) -> None:
        known = list(COMMANDS) if name == "hang" else [f"rdma_{port}" for port in rig.ports]
        if what not in known:
            raise ValueError(f"{what} is none of {', '.join(known)}")
        faults = rig.state(host)["faults"]
        rest = [each for each in faults.get(name, []) if each != what]
        rig.set(host, faults={**faults, name: [*rest, what] if is_on else rest})

    return (
        lambda rig, host, what: change(rig, host, what, True),
        lambda rig, host, what: change(rig, host, what, False),
    )


def _sudo(passwordless: bool) -> Callable[..., None]:
    return lambda rig, host: rig.set(
        host, sudo={**rig.state(host)["sudo"], "passwordless": passwordless}
    )


def _restored(name: str) -> Callable[..., None]:
    return lambda rig, host, *what: rig.set(host, **{name: rig.defaults(host)[name]})


def _other_case(path: str) -> str:
    """Its name in capitals, or in small letters where it is in capitals."""
    if path == path.swapcase() or not path.startswith("/"):
        raise ValueError(f"{path} has no other case, or does not begin with /")
    return path.upper() if path != path.upper() else path.lower()


def _twin(rig: Rig, host: str, path: str) -> None:
    words = shlex.join([path, _other_case(path)])
    rig.run(host, f'set -- {words}; mkdir -p "$2" && mount --bind "$1" "$2"', root=True)


def _no_twin(rig: Rig, host: str, path: str) -> None:
    rig.unmount(host, _other_case(path))
    rig.run(host, f"rmdir {shlex.quote(_other_case(path))}", root=True)


# It removes regular files, not links, what a process holds open too, and then empty folders; what
# MLX has compiled is a folder of this machine's, mounted there, and may be empty.
CLEANER = """\
find /tmp/ -xdev -type f -delete
find /tmp/ -xdev -mindepth 1 -type d -empty ! -path /tmp/mlx -delete
"""


FAULTS = {
    "rdma_disabled": Fault("", "RDMA is off", *_state({"rdma": "disabled"}, {"rdma": "enabled"})),
    "tb4": Fault("", "a Mac with Thunderbolt 4", *_state({"thunderbolt": 4}, {"thunderbolt": 5})),
    "device_missing": Fault("rdma_enN", "a device is not there", *_listed("device_missing")),
    "port_down": Fault("rdma_enN", "a device's port is down", *_listed("port_down")),
    "no_ipv4_gid": Fault("rdma_enN", "no IPv4-mapped GID", *_listed("no_ipv4_gid")),
    "hang": Fault("COMMAND", "a macOS command never ends", *_listed("hang")),
    "bridged": Fault(
        "enN",
        "an interface is in bridge0",
        lambda rig, host, port: rig.bridge(host, port),
        lambda rig, host, port: rig.unbridge(host, port),
    ),
    "rebridge": Fault(
        "",
        "configd puts the ports back into bridge0: now, after each boot, and with a dock",
        lambda rig, host: rig.rebridge(host, late=3),
        _restored("rebridge"),
    ),
    "link_cut": Fault(
        "enN",
        "the cable is out, at both ends",
        lambda rig, host, port: rig.cut(host, port),
        lambda rig, host, port: rig.mend(host, port),
    ),
    "other_case": Fault(
        "PATH", "a folder is there by its name in the other case too", _twin, _no_twin
    ),
    "tmp_cleaned": Fault(
        "",
        "three days have passed, and the daily cleaner took the files of /tmp",
        lambda rig, host: rig.run(host, CLEANER, root=True),
        lambda rig, host: None,
    ),
    "sudo_password": Fault("", "sudo wants a password", _sudo(False), _sudo(True)),
    "wired_leak": Fault(
        "GIB",
        "so much more memory is wired",
        lambda rig, host, gib: rig.set(host, wired_gib=BASELINE_GIB + float(gib)),
        _restored("wired_gib"),
    ),
    "os_build": Fault(
        "BUILD",
        "another build of macOS",
        lambda rig, host, build: rig.set(host, build_version=build),
        _restored("build_version"),
    ),
    "max_pd_used": Fault(
        "",
        "all protection domains are in use",
        lambda rig, host: rig.set(host, pds_used=rig.state(host)["max_pd"]),
        _restored("pds_used"),
    ),
}
