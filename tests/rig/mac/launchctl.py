"""launchctl: bootstrap, bootout, print, list, kill and kickstart of the system's daemons."""

from __future__ import annotations

import contextlib
import os
import signal

from . import launchd, node, plists

MESSAGES = {
    3: "No such process",
    5: "Input/output error",
    36: "Operation now in progress",
    122: "Path had bad ownership/permissions",
}


def launchctl(words: list[str]) -> int:
    verb, rest = (words[0] if words else "help"), words[1:]
    if verb == "list":
        print("PID\tStatus\tLabel")
        for label, daemon in launchd.loaded().items():
            print(f"{daemon['pid'] if launchd.lives(daemon['pid']) else '-'}\t0\t{label}")
        return 0
    if verb == "print" and rest:
        return _print(rest[0])
    acts = {"bootstrap": _bootstrap, "bootout": _bootout, "kickstart": _kickstart, "kill": _kill}
    if verb not in (*acts, "enable", "disable") or not rest:
        node.say(f"Unrecognized subcommand: {verb}")
        return 64
    if not node.is_root():
        node.say(f"{_failure(verb)}: 1: Operation not permitted")
        return 1
    if verb in ("enable", "disable"):
        return 0
    code = acts[verb](rest)
    if code:
        node.say(f"{_failure(verb)}: {code}: {MESSAGES[code]}")
    return code


def _failure(verb: str) -> str:
    words = {"bootstrap": "Bootstrap failed", "bootout": "Boot-out failed"}
    return words.get(verb, f"Could not {verb} service")


def _bootstrap(words: list[str]) -> int:
    if words[0] != "system" or len(words) != 2:
        return 5
    return launchd.bootstrap(words[1])


def _bootout(words: list[str]) -> int:
    daemons = launchd.loaded()
    label = _label(words)
    if label not in daemons:
        return 3
    _stop(daemons.pop(label)["pid"])
    launchd.save(daemons)
    launchd.let_go(label)
    return 0


def _kickstart(words: list[str]) -> int:
    daemons = launchd.loaded()
    label = _label(words[-1:])
    if label not in daemons:
        return 3
    if "-k" in words:
        _stop(daemons[label]["pid"])
    job = plists.read(daemons[label]["path"])
    daemons[label]["pid"] = launchd.start(job, label, daemons[label]["program"])
    launchd.save(daemons)
    return 0


def _kill(words: list[str]) -> int:
    """`kill SIGNAL system/LABEL`, the signal by name or number."""
    name, label = words[0], _label(words[1:])
    pid = launchd.loaded().get(label, {"pid": 0})["pid"]
    if not launchd.lives(pid):
        return 3
    os.kill(pid, int(name) if name.isdigit() else signal.Signals[f"SIG{name.removeprefix('SIG')}"])
    return 0


def _label(words: list[str]) -> str:
    """Of `system/LABEL`, or of `system PATH`."""
    if words[0].startswith("system/"):
        return words[0].removeprefix("system/")
    paths = {daemon["path"]: label for label, daemon in launchd.loaded().items()}
    return paths.get(words[-1], "")


def _print(target: str) -> int:
    label = target.removeprefix("system/")
    daemon = launchd.loaded().get(label)
    if daemon is None:
        print("Bad request.")
        print(f'Could not find service "{label}" in domain for system')
        return 113
    state = "running" if launchd.lives(daemon["pid"]) else "not running"
    print(f"{target} = {{\n\tactive count = {int(state == 'running')}\n\tpath = {daemon['path']}")
    print(f"\ttype = LaunchDaemon\n\tstate = {state}\n\n\tprogram = {daemon['program'][0]}\n}}")
    return 0


def _stop(pid: int) -> None:
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGTERM)
