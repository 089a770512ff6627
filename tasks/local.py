"""inv local.*: test hosts that are like Macs, on this Linux machine, to try things out on.

The same rig as the tests' own (tests/rig). Its files are in `.rig` of this checkout (`local.base`).
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Literal

from invoke.context import Context

from . import cli, commands
from .cli.options import options_task
from .cluster.config.settings import LocalSettings, read
from .cluster.config.values import Whole
from .cluster.errors import ActionFailed, BadInput

if TYPE_CHECKING:
    from rig import Rig

ROOT = Path(__file__).parents[1]
Nodes = Annotated[int, Whole("COUNT", 2, 6)]
Topology = Literal["mesh", "ring", "two-cables"]
NEEDED = {"ip": "iproute2", "unshare": "util-linux", "nsenter": "util-linux", "lsof": "lsof"}
NEEDED |= {"sshd": "openssh-server", "ssh-keygen": "openssh-client", "ping": "iputils-ping"}
NEEDED |= {"perl": "perl"}
# The user of strict hosts is not root.
STRICT = {"bash": "bash", "dash": "dash", "sudo": "sudo"}


@options_task(
    help={
        "nodes": "how many hosts: 2 to 6",
        "topology": "mesh: a cable between any two; ring; two-cables: two between two",
        "strict": "as strict as a Mac: its user is not root, no /proc, BSD's words only",
    }
)
def up(c: Context, nodes: Nodes = 2, topology: Topology = "mesh", strict: bool = False) -> None:
    """Start test hosts that are like Macs (needs Linux and root).

    Each has sshd, macOS commands and Thunderbolt ports.

    Needs Linux and root. They are fresh from the box: interfaces in bridge0, no addresses. They
    live on until inv local.down.

    inv local.up --nodes 3 --topology ring
    inv local.up --strict
    """
    if topology == "two-cables" and nodes != 2:
        raise BadInput("--topology two-cables: it is for 2 nodes")
    base = _base(c)
    _check("local.up", NEEDED | (STRICT if strict else {}))
    if base.exists():
        raise BadInput("test hosts are up already: inv local.down first")
    rig = _rig()
    cables = {"mesh": rig.mesh, "ring": rig.ring, "two-cables": lambda _: rig.two_cables()}
    try:
        hosts = rig.Rig(base, rig.names(nodes), cables[topology](nodes), is_strict=strict)
        made = hosts.up(detached=True)
        _write(made)
    except (OSError, RuntimeError) as error:
        raise ActionFailed(f"local.up: {error}") from None
    cli.screen.say(f"{nodes} hosts are up: {', '.join(made.names)}")
    for line in rig.LESS if strict else ():
        cli.screen.say(f"less strict than a Mac: {line}")
    for line in _next(made):
        cli.screen.out(line)


@options_task()
def down(c: Context) -> None:
    """Remove the test hosts, with all that they run.

    Their processes, interfaces and files.
    """
    base = _base(c)
    if not base.exists():
        cli.screen.say("no test hosts are up")
        return
    _check("local.down")
    try:
        _rig().discard(base)
    except LookupError as error:
        raise BadInput(str(error)) from None
    cli.screen.say("the test hosts are gone")


@options_task(
    help={
        "host": "a host, as mac1",
        "name": "a fault, as rdma_disabled or port_down:rdma_en5 (a wrong one lists all)",
        "off": "mend it again",
    }
)
def fault(c: Context, host: str, name: str, off: bool = False) -> None:
    """Break something on a test host, or mend it.

    inv local.fault mac1 link_cut:en3
    inv local.fault mac1 link_cut:en3 --off
    """
    rig, made = _loaded(c, "local.fault", host)
    word, _, what = name.partition(":")
    known = {key: each.what for key, each in rig.FAULTS.items()}
    if word not in known or bool(what) != bool(known[word]):
        names = (f"{key}:{takes}" if takes else key for key, takes in known.items())
        raise BadInput(f"{name} is no fault: choose one of {', '.join(names)}")
    try:
        made.fault(host, word, *([what] if what else []), on=not off)
    except (ValueError, RuntimeError) as error:
        raise BadInput(f"{name}: {error}") from None
    cli.screen.say(f"{host}: {name} is {'mended' if off else 'on'}")


@options_task(help={"host": "a host, as mac1"})
def reboot(c: Context, host: str) -> None:
    """Reboot a test host: its links lose their addresses.

    Its LaunchDaemons run.
    """
    _, made = _loaded(c, "local.reboot", host)
    made.reboot(host)
    cli.screen.say(f"{host} was rebooted")


def _check(name: str, needed: Mapping[str, str] = NEEDED) -> None:
    """Say in one line what is missing, before anything is done."""
    if not sys.platform.startswith("linux"):
        raise BadInput(f"{name} needs Linux: its hosts are network namespaces")
    if os.getuid() != 0:
        raise BadInput(f"{name} needs root, for network namespaces: sudo uv run inv {name}")
    folders = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    for program, package in needed.items():
        if not shutil.which(program, path=folders):
            raise BadInput(f"{name} needs {program}: apt install {package}")


def _rig() -> ModuleType:
    """The tests' rig, which knows nothing of these tasks."""
    sys.path.insert(0, str(ROOT / "tests"))
    import rig

    return rig


def _base(c: Context) -> Path:
    return Path(read(LocalSettings, c.config.get("local", {})).base).absolute()


def _loaded(c: Context, name: str, host: str) -> tuple[ModuleType, Rig]:
    _check(name)
    rig = _rig()
    try:
        made = rig.Rig.load(_base(c))
    except LookupError as error:
        raise BadInput(str(error)) from None
    if host not in made.names:
        raise BadInput(f"{host} is no test host: choose one of {', '.join(made.names)}")
    return rig, made


def _write(made: Rig) -> None:
    """The hostfile and the configuration that make `inv -f .rig/invoke.yaml` work on the hosts."""
    replace = commands.output_file.replace
    replace(made.base / "hosts.json", json.dumps(_hostfile(made), indent=2) + "\n")
    tp = {"hostfile": str(made.base / "hosts.json"), "ssh_config": str(made.ssh_config)}
    # JSON is YAML too.
    replace(made.base / "invoke.yaml", json.dumps({"tp": tp}, indent=2) + "\n")
    _hand_over(made.base)


def _hostfile(made: Rig) -> dict[str, object]:
    from .commands.dev import tiny_model

    hosts = [
        {
            "ssh": name,
            "ips": [made.ring_address(name)],
            "links": {port: text for (host, port), text in made.links.items() if host == name},
        }
        for name in made.names
    ]
    return {
        "$schema": str(ROOT / "hosts" / "schema.json"),
        "backend": "ring",
        "engine": "mlx-lm",
        "model": str(tiny_model.PATH),
        "python": sys.executable,
        "hosts": hosts,
    }


def _hand_over(base: Path) -> None:
    """Who came by sudo may use the key and read the files; the hosts stay root's."""
    user, group = (int(os.environ.get(name, "0")) for name in ("SUDO_UID", "SUDO_GID"))
    for path in base.iterdir():
        if path.is_file():
            os.chown(path, user, group)


def _next(made: Rig) -> list[str]:
    base = shlex.quote(os.path.relpath(made.base))
    first, (host, port) = made.names[0], next(iter(made.links))
    return [
        f"ssh -F {base}/ssh_config {first}",
        f"inv -f {base}/invoke.yaml rdma.setup",
        f"inv -f {base}/invoke.yaml tp.start",
        f"inv -f {base}/invoke.yaml tp.stop",
        f"inv local.fault {host} link_cut:{port}",
        "inv local.down",
    ]
