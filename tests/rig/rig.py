"""N hosts on this machine, each like a Mac of its own, wired as a topology says."""

from __future__ import annotations

import compileall
import contextlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from . import machine, network, sshd, state, strict, topology
from .faults import FAULTS
from .mac import node
from .machine import Machine
from .topology import PORTS, Cable


class Rig:
    """The hosts `names`, joined by `cables`, with all of their files below `base`.

    `bridged`: the ports are in bridge0, as on a Mac fresh from the box. `shells` and `homes`
    give hosts another login shell than zsh, and another home than /Users/NAME. `share` are
    folders that are the same on this machine and in every host, `compiled` one in which MLX keeps
    what it has compiled, else each host does so anew. `sshd` and `environment` add to
    the servers' configuration and to what a session starts with; `states` to the hosts' state.
    `is_strict`: as strict as a Mac (strict.py); else its user is root, and Linux shows through.
    """

    def __init__(
        self,
        base: Path,
        names: Sequence[str] = ("mac1", "mac2"),
        cables: Sequence[Sequence[str]] = (),
        *,
        ports: Sequence[str] = PORTS,
        share: Sequence[Path] = (),
        compiled: Path | None = None,
        is_strict: bool = True,
        **options: Any,
    ) -> None:
        self.base = base
        self.names = tuple(names)
        self.ports = tuple(ports)
        self.share = list(share)
        self.compiled = compiled
        self.is_strict = is_strict
        self.become(cables, **options)
        self.number = -1
        self.cables_keeper = ""
        self.machines = {name: Machine(name, base) for name in self.names}

    def become(
        self,
        cables: Sequence[Sequence[str]] = (),
        *,
        bridged: bool = True,
        shells: Mapping[str, str] | None = None,
        homes: Mapping[str, str] | None = None,
        sshd: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        states: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """What hosts that are up are from their next reset on."""
        self.plan = [Cable(*cable) for cable in cables]
        self.bridged = bridged
        self.shells = dict(shells or {})
        self.homes = dict(homes or {})
        self.options = dict(sshd or {})
        self.environment = {"HF_HUB_OFFLINE": "1", **(environment or {})}
        self.states = dict(states or {})

    # Up and down.

    def up(self, detached: bool = False) -> Rig:
        """Start everything; a detached rig lives on after this process.

        `base` must be new or empty, as down() removes it. RuntimeError says what went wrong.
        """
        self.base.mkdir(parents=True, exist_ok=True)
        if any(self.base.iterdir()):
            raise RuntimeError(f"{self.base} is not empty")
        sweep()
        here = machine.identity(os.getpid())
        self.number = network.take(f"at:{self.base}" if detached else f"pid:{here}")
        try:
            self._build()
            self._start(detached)
            self._wire()
            for name in self.names:
                self.user(name)
                self.ssh(name)
        except BaseException:
            self.down()
            raise
        self._save()
        return self

    def _build(self) -> None:
        machine.build_commands(self.base)
        compileall.compile_dir(machine.HERE / "mac", quiet=2)
        sshd.make_key(self.base / "user.key")
        rows = (f"{self.address(name)} {name} {name}.local\n" for name in self.names)
        hosts = "".join(rows)
        for name in self.names:
            folder = self.base / name
            (folder / "root").mkdir(parents=True)
            machine.build_tree(folder, name, hosts, self.is_strict)
            sshd.make_key(folder / "host.key")
            self._write(name, self.defaults(name))
            (folder / "calls").touch()
            (folder / "calls").chmod(0o666)  # who asks for sudo notes it as the user
        self.base.chmod(0o755)
        self._plug(self.plan)
        sshd.write_config(self.base, self.addresses, self.login)
        self.trust(*self.names)

    def _start(self, detached: bool) -> None:
        spaces = ["--net", "--fork", "--kill-child"]
        silent = "for f in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 1 >$f || :; done"
        line = f"{silent}; exec sleep infinity"
        self.cables_keeper = machine.keep(spaces, line, self.base / "log", detached)
        for name, each in self.machines.items():
            script = machine.script(name, self.base, self.share, self.compiled, self.is_strict)
            each.start(script, detached)

    def _wire(self) -> None:
        cables = self._cables
        for index, (name, each) in enumerate(self.machines.items()):
            each.wait()
            network.plug_management(self.number, index, each.pid)
            network.add_ports(self.number, index, self.ports, each.pid, cables)
            self._interfaces(name)
        for cable in self.plan:
            network.connect(self._ends(cable), cables)

    def down(self) -> None:
        """Remove all of it: processes, interfaces, mounts, and the files below `base`."""
        for each in self.machines.values():
            each.stop()
        machine.stop(self.cables_keeper)
        if self.number >= 0:
            network.release(self.number)
        shutil.rmtree(self.base, ignore_errors=True)

    def _save(self) -> None:
        hosts = {name: [each.keeper, each.first] for name, each in self.machines.items()}
        data = {
            "number": self.number,
            "cables_keeper": self.cables_keeper,
            "hosts": hosts,
            "cables": self.plan,
            "ports": self.ports,
            "bridged": self.bridged,
            "is_strict": self.is_strict,
        }
        state.write(self.base / "rig.json", data)

    @classmethod
    def load(cls, base: Path) -> Rig:
        """The detached rig in `base`; LookupError if there is none, or its hosts have died."""
        try:
            data = state.read(base / "rig.json")
        except FileNotFoundError:
            raise LookupError("no test hosts are up: inv local.up") from None
        words = {name: data[name] for name in ("ports", "bridged", "is_strict")}
        rig = cls(base, tuple(data["hosts"]), data["cables"], **words)
        rig.number, rig.cables_keeper = data["number"], data["cables_keeper"]
        for name, (keeper, first) in data["hosts"].items():
            if not machine.is_alive(first):
                raise LookupError("the test hosts have died: inv local.down")
            rig.machines[name].keeper, rig.machines[name].first = keeper, first
        return rig

    # Where things are.

    @property
    def ssh_config(self) -> Path:
        return self.base / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        return self.base / "known_hosts"

    @property
    def addresses(self) -> dict[str, str]:
        """Each host's address in the management network."""
        return {name: self.address(name) for name in self.names}

    def address(self, host: str) -> str:
        return network.address(self.number, self.names.index(host))

    @property
    def gateway(self) -> str:
        """This machine's address in the management network: the hosts' default route."""
        return network.gateway(self.number)

    @property
    def links(self) -> dict[tuple[str, str], str]:
        """(host, port) -> address and prefix to give it: a subnet of its own for each cable."""
        return topology.addresses(self.plan)

    def ring_address(self, host: str) -> str:
        """The address at which the host before it in a ring of all hosts reaches this one."""
        before = self.names[self.names.index(host) - 1]
        for cable in self.plan:
            for one, other in (_ends(cable), _ends(cable)[::-1]):
                if (one[0], other[0]) == (host, before):
                    return self.links[one].partition("/")[0]
        raise ValueError(f"no cable between {before} and {host}")

    def home(self, host: str) -> str:
        return self.homes.get(host, f"/Users/{host}")

    @property
    def login(self) -> str:
        """The user of every host."""
        return strict.USER if self.is_strict else "root"

    # What runs in a host.

    def run(
        self,
        host: str,
        command: str | Sequence[str],
        *,
        input: str | None = None,
        check: bool = True,
        root: bool = False,
        timeout: float = 180,
    ) -> subprocess.CompletedProcess[str]:
        """Run /bin/sh text (or words) in a host as its user, without ssh; `root`: as under sudo."""
        words = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        name = "root" if root else self.login
        environment = {"PATH": machine.PATH, "HOME": self.home(host), "USER": name}
        environment |= self.environment | ({"SUDO_UID": "501"} if root else {})
        ids = (strict.UID, strict.GID) if name == strict.USER else (0, 0)
        line = ["env", "-i", *(f"{name}={value}" for name, value in environment.items()), *words]
        done = subprocess.run(
            self.machines[host].enter(*line, user=ids[0], group=ids[1]),
            input=input or "",
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        if check and done.returncode != 0:
            said = f"{done.stdout}{done.stderr}"
            raise RuntimeError(f"{host}: {command}: exit {done.returncode}\n{said}")
        return done

    def ssh(self, host: str, **options: str) -> None:
        """Start the host's sshd, or start it anew, with these options added."""
        self.ssh_off(host)
        self.run(host, self._sshd(host, options), root=True)
        sshd.wait(self.machines[host].pid)

    def _sshd(self, host: str, options: Mapping[str, str]) -> str:
        sshd.configure(self.base / host, self.environment, {**self.options, **options})
        return sshd.command(host)

    def ssh_off(self, host: str) -> None:
        """Stop the host's sshd: nobody can log in, and who is logged in stays."""
        stop = "[ -f /run/sshd.pid ] || exit 0; kill $(cat /run/sshd.pid); rm -f /run/sshd.pid"
        self.run(host, stop, check=False, root=True)
        machine.wait_for(lambda: not sshd.listens(self.machines[host].pid), f"no ssh on {host}")

    def trust(self, *hosts: str) -> None:
        """Let known_hosts hold the keys of these hosts, and of no other."""
        sshd.trust(self.base, {name: self.address(name) for name in hosts})

    def connections(self, host: str) -> int:
        """How many logins the host's sshd has accepted since the last reset."""
        return sshd.connections(self.base / host)

    def user(self, host: str, shell: str | None = None, home: str | None = None) -> None:
        """Give the user this login shell ("fish", "tcsh", ...) and home (until the next reset)."""
        self.run(host, self._user(host, shell, home), root=True)

    def _user(self, host: str, shell: str | None = None, home: str | None = None) -> str:
        shell = shell or self.shells.get(host, "zsh")
        return machine.user(host, home or self.home(host), shell, self.is_strict)

    # What the macOS commands see and did.

    def defaults(self, host: str) -> dict[str, Any]:
        return state.fresh(host, self.ports, **self.states.get(host, {}))

    def state(self, host: str) -> dict[str, Any]:
        found: dict[str, Any] = state.read(self.base / host / "state.json")
        return found

    def set(self, host: str, **values: Any) -> None:
        """Replace values of a host's state (tests/rig/state.py lists them)."""
        unknown = set(values) - set(self.state(host))
        if unknown:
            raise ValueError(f"a test host has no {sorted(unknown)}")
        self._write(host, {**self.state(host), **values})

    def _write(self, host: str, values: dict[str, Any]) -> None:
        folder = self.base / host
        state.write(folder / "state.json", values)
        # In place: the file is mounted over /proc/sys/kernel/random/boot_id.
        (folder / "boot_id").write_text(values["boot_uuid"].lower() + "\n")
        (folder / "sudoers").write_text(strict.sudoers(values["sudo"]["passwordless"]))
        (folder / "sudo.sh").write_text(strict.sudo("sudo" in values["faults"].get("hang", ())))

    def unmount(self, host: str, *paths: str) -> None:
        """Take mounts of a test's own away; umount looks into /proc, which is there meanwhile."""
        words = shlex.join(paths)
        self.run(host, f"mount -t proc proc /proc; umount -l {words} /proc", root=True)

    def put_device(self, host: str, port: str, device: str | None) -> None:
        """Put a "drive" or a "dock" into a port (a Mac may be behind it), or take it out."""
        ports = self.state(host)["ports"]
        changed = [{**p, "device": device} if p["interface"] == port else p for p in ports]
        self.set(host, ports=changed)
        if device == "dock" and self.state(host)["rebridge"] is not None:
            self.rebridge(host)

    def calls(self, host: str, command: str | None = None) -> list[list[str]]:
        """The macOS commands that ran since the last reset (or those named so), as words."""
        text = (self.base / host / "calls").read_text(encoding="utf-8", errors="surrogateescape")
        rows = [row.split(node.WORD_END) for row in text.split(node.ROW_END)[:-1]]
        return [words for words in rows if command in (None, words[0])]

    def forget_calls(self) -> None:
        for name in self.names:
            (self.base / name / "calls").write_text("")

    # Faults.

    def fault(self, host: str, name: str, *what: str, on: bool = True) -> None:
        """Switch a fault (tests/rig/faults.py lists them) on, or off again."""
        fault = FAULTS[name]
        if on and len(what) != (1 if fault.what else 0):
            raise ValueError(f"{name} takes {fault.what or 'no argument'}")
        (fault.on if on else fault.off)(self, host, *what)

    def heal(self, host: str, name: str, *what: str) -> None:
        self.fault(host, name, *what, on=False)

    def bridge(self, host: str, port: str) -> None:
        """Put an interface into bridge0, which is made where it is not there."""
        pid = self.machines[host].pid
        lines = [] if network.has_bridge(pid) else ["link add bridge0 type bridge mcast_snooping 0"]
        network.ip([*lines, "link set bridge0 up", *network.join(port)], pid)

    def rebridge(self, host: str, late: float | None = None) -> None:
        """Let configd put all ports into bridge0; `late`: also so many seconds after each boot."""
        if late is not None:
            self.set(host, rebridge=late)
        self.run(host, "/sbin/launchd --rebridge", root=True)

    def unbridge(self, host: str, port: str) -> None:
        network.ip([f"link set {port} nomaster"], self.machines[host].pid)

    @property
    def cables(self) -> list[Cable]:
        """The cables that are in now."""
        return [Cable(*row) for row in state.read(self.base / "cables.json")]

    def plug(self, *cable: str) -> None:
        """Put in a cable: host, port, other host, other port."""
        network.connect(self._ends(Cable(*cable)), self._cables)
        self._plug([*self.cables, Cable(*cable)])

    def cut(self, host: str, port: str) -> None:
        """Take out the cable in this port."""
        cable = _in(self.cables, host, port)
        network.disconnect(self._ends(cable), self._cables)
        self._plug([each for each in self.cables if each != cable])

    def mend(self, host: str, port: str) -> None:
        """Put the cable of this port in again, as it was at first."""
        cable = _in(self.plan, host, port)
        if cable not in self.cables:
            self.plug(*cable)

    def _plug(self, cables: Sequence[Cable]) -> None:
        state.write(self.base / "cables.json", cables)

    def _ends(self, cable: Cable) -> list[tuple[int, str]]:
        return [(self.names.index(host), port) for host, port in _ends(cable)]

    @property
    def _cables(self) -> int:
        """The process in whose network the cables are."""
        return machine.child_of(self.cables_keeper)

    # Over again.

    def end(self) -> None:
        """End all that runs in the hosts, sshd as well, until the next reset."""
        for name in self.names:
            self.run(name, machine.END, root=True)

    def reset(self) -> None:
        """Every host as when the rig came up: interfaces, cables, state, processes, files."""
        for name in self.names:
            self._write(name, self.defaults(name))
        for cable in self.cables:
            if cable not in self.plan:
                self.cut(cable.host, cable.port)
        for cable in self.plan:
            if cable not in self.cables:
                self.plug(*cable)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda n: self._restart(n, machine.CLEAN, self._user(n)), self.names))
        self.trust(*self.names)
        self.forget_calls()

    def reboot(self, host: str) -> None:
        """As if rebooted: no addresses, bridge0 again, other boot id, /tmp empty, daemons run."""
        boot = {**state.boot(), "pds_used": 0, "wired_gib": self.defaults(host)["wired_gib"]}
        self.set(host, **boot)
        self._restart(host, "/sbin/launchd --boot")

    def _restart(self, host: str, *then: str) -> None:
        """End every process of the host but process 1, empty /tmp, set its interfaces, `then`."""
        (self.base / host / "sshd.log").unlink(missing_ok=True)
        self.run(host, machine.END, root=True)
        self._interfaces(host)
        lines = [machine.EMPTY_TMP, *then, self._sshd(host, {})]
        self.run(host, "\n".join(lines), root=True)
        sshd.wait(self.machines[host].pid)

    def _interfaces(self, host: str) -> None:
        index, pid = self.names.index(host), self.machines[host].pid
        network.start_over(self.number, index, pid, self.ports, self.bridged)


def _ends(cable: Cable) -> tuple[tuple[str, str], tuple[str, str]]:
    return (cable.host, cable.port), (cable.other, cable.other_port)


def _in(cables: Sequence[Cable], host: str, port: str) -> Cable:
    for cable in cables:
        if (host, port) in _ends(cable):
            return cable
    there = [here for cable in cables for at, here in _ends(cable) if at == host]
    raise ValueError(f"no cable in {port} of {host}: its cables are in {', '.join(there)}")


def discard(base: Path) -> None:
    """Remove what is left of a detached rig in `base`, whatever of it still lives.

    LookupError where a folder holds something else, which is left as it is.
    """
    if not any((base / name).exists() for name in ("rig.json", "bin/gnu")):
        raise LookupError(f"{base} holds no test hosts: it is left as it is")
    with contextlib.suppress(FileNotFoundError):
        data = state.read(base / "rig.json")
        for keeper in [data["cables_keeper"], *(keeper for keeper, _ in data["hosts"].values())]:
            machine.stop(keeper)
    for number, owner in network.owners().items():
        if owner == f"at:{base}":
            network.release(number)
    shutil.rmtree(base)


def sweep() -> None:
    """Remove the bridges of rigs whose process was killed before it could."""
    for number, owner in network.owners().items():
        kind, _, what = owner.partition(":")
        if kind == "pid" and not machine.is_alive(what):
            network.release(number)
