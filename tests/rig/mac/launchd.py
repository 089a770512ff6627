"""launchd: process 1 of a test host, which reaps, and what it does with a LaunchDaemon."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import signal
import stat
from typing import Any

from . import node, plists

FOLDER = "/Library/LaunchDaemons"


def launchd(words: list[str]) -> int:
    """Process 1; `launchd --boot` (the rig's own word) loads the daemons of the folder."""
    if words == ["--boot"]:
        save({})
        for path in sorted(glob.glob(f"{FOLDER}/*.plist")):
            bootstrap(path)
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
    pid = start(job, label, program) if job.get("RunAtLoad") or job.get("KeepAlive") else 0
    save({**daemons, label: {"path": path, "pid": pid, "program": program}})
    return 0


def start(job: dict[str, Any], label: str, program: list[str]) -> int:
    """Run the job as root, no child of ours; its pid."""
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
        _run(job, label, program)
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
