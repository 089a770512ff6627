"""launchd: process 1 of a test host, which reaps, and what it does with a LaunchDaemon.

With the fault `rebridge`, also what configd does some time after a boot.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import signal
import stat
import time
from collections.abc import Callable
from typing import Any

from . import node, plists

FOLDER = "/Library/LaunchDaemons"
# What a bootstrap that follows a bootout is answered at first, and for how many seconds at most.
NOT_YET = [36, 5]
MOMENT = 10.0


def launchd(words: list[str]) -> int:
    """Process 1; the rig's own words: `--boot` loads the daemons of the folder, `--rebridge`."""
    if words == ["--boot"]:
        save({})
        for path in sorted(glob.glob(f"{FOLDER}/*.plist")):
            bootstrap(path)
        if node.state()["rebridge"] is not None:
            _apart(_rebridge_late)
        return 0
    if words == ["--rebridge"]:
        rebridge()
        return 0
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        signal.sigwait({signal.SIGCHLD})
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def loaded() -> dict[str, Any]:
    """Label -> {"path", "pid", "program"} of each loaded daemon."""
    try:
        with open(node.path("launchd.json")) as file:
            found: dict[str, Any] = json.load(file)
    except FileNotFoundError:
        return {}
    return found


def save(daemons: dict[str, Any]) -> None:
    with open(node.path("launchd.json"), "w") as file:
        json.dump(daemons, file)


def rebridge() -> None:
    """Put all Thunderbolt ports into bridge0, as configd does that applies its stored bridges."""
    if not os.path.isdir(f"{node.SYS}/class/net/bridge0"):
        node.ip("link", "add", "bridge0", "type", "bridge")
        node.ip("link", "set", "bridge0", "up")
    for port in node.state()["ports"]:
        node.join(port["interface"], "bridge0")
    # Noted when done: who waits for it would else look before the ports are there.
    node.log(["configd", "rebridge"])


def _rebridge_late() -> None:
    time.sleep(node.state()["rebridge"])
    rebridge()


def let_go(label: str) -> None:
    """Note a bootout: for a moment launchd is not done with it."""
    _note({**_noted(), label: [time.time(), *NOT_YET]})


def _not_yet(label: str) -> int:
    """The error number of a bootstrap that comes too soon, or 0."""
    noted = _noted()
    when, *left = noted.get(label, [0.0])
    if not left or time.time() - when > MOMENT:
        return 0
    _note({**noted, label: [when, *left[1:]]})
    return int(left[0])


def _noted() -> dict[str, list[float]]:
    try:
        with open(node.path("bootouts.json")) as file:
            found: dict[str, list[float]] = json.load(file)
    except FileNotFoundError:
        return {}
    return found


def _note(noted: dict[str, list[float]]) -> None:
    with open(node.path("bootouts.json"), "w") as file:
        json.dump(noted, file)


def bootstrap(path: str) -> int:
    """Load a plist as macOS would: 0, or the error number that launchctl says."""
    try:
        mode = os.stat(path).st_mode
        job = plists.read(path)
    except (OSError, ValueError):
        return 5
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        return 122
    daemons = loaded()
    label, program = job.get("Label"), job.get("ProgramArguments") or [job.get("Program")]
    if not label or not program[0] or label in daemons:
        return 5
    if too_soon := _not_yet(label):
        return too_soon
    now = time.time()
    daemon = {"path": path, "pid": 0, "program": program, "since": now}
    if job.get("RunAtLoad") or job.get("KeepAlive"):
        daemon["pid"] = start(job, label, program)
    save({**daemons, label: daemon})
    if job.get("StartInterval"):
        _apart(lambda: _timer(job, label, now))
    return 0


def _timer(job: dict[str, Any], label: str, since: float) -> None:
    """Start the job every StartInterval seconds, unless it runs, until it is let go of."""
    while True:
        time.sleep(job["StartInterval"])
        daemons = loaded()
        daemon = daemons.get(label, {})
        if daemon.get("since") != since:
            return
        if not lives(daemon["pid"]):
            daemon["pid"] = start(job, label, daemon["program"])
            save(daemons)


def lives(pid: int) -> bool:
    return bool(pid) and os.path.exists(f"{node.PROC}/{pid}")


def start(job: dict[str, Any], label: str, program: list[str]) -> int:
    """Run the job as root, no child of ours; its pid."""
    return _apart(lambda: _run(job, label, program))


def _apart(what: Callable[[], None]) -> int:
    """Do it in a process that is no child of ours; its pid."""
    read, write = os.pipe()
    first = os.fork()
    if first:
        os.close(write)
        os.waitpid(first, 0)
        return int(os.read(read, 20) or 0)
    second = os.fork()
    if second:
        os.write(write, str(second).encode())
        os._exit(0)
    try:
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        os.close(read)
        os.close(write)
        what()
        os._exit(0)
    finally:
        os._exit(78)


def _run(job: dict[str, Any], label: str, program: list[str]) -> None:
    for number, name in enumerate(("StandardInPath", "StandardOutPath", "StandardErrorPath")):
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND if number else os.O_RDONLY
        os.dup2(os.open(job.get(name, "/dev/null"), flags, 0o644), number)
    os.chdir(job.get("WorkingDirectory", "/"))
    environment = {
        "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
        **job.get("EnvironmentVariables", {}),
        "XPC_SERVICE_NAME": label,
    }
    os.execvpe(job.get("Program", program[0]), program, environment)
