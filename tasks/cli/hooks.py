"""Shell commands of the configuration that run here, on the control machine, around our tasks.

    hooks: {tp.start: {pre: [COMMAND, ...], post: [...], failed: [...]}}

They are given what is known of the task as `MLX_TP_*` in their environment, and never a secret.
"""

import difflib
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import Call, Task

from .. import cli
from ..cluster.errors import ActionFailed
from ..session import Body, Session, SessionCall
from . import signals

if TYPE_CHECKING:
    from ..cluster.cluster import Cluster

PHASES = ("pre", "post", "failed")
SKIP = "MLX_TP_SKIP_HOOKS"

Commands = Mapping[str, Sequence[str]]


def wrong(given: object, names: Sequence[str]) -> str | None:
    """What is wrong with `hooks` of the configuration, or None; no command is shown (secrets)."""
    if not isinstance(given, Mapping):
        return "hooks in the configuration is wrong: give names of tasks, each with its hooks"
    for task, phases in given.items():
        if task not in names:
            close = difflib.get_close_matches(str(task), names, 1)
            hint = f"did you mean {close[0]}?" if close else "inv --list shows the names"
            return f"hooks.{task} in the configuration: no such task: {hint}"
        if not isinstance(phases, Mapping) or set(phases) - set(PHASES):
            return f"hooks.{task} in the configuration is wrong: give pre, post or failed"
        if bad := [phase for phase, commands in phases.items() if not _are_commands(commands)]:
            place = f"hooks.{task}.{bad[0]}"
            return f"{place} in the configuration is wrong: give a list of shell commands"
    return None


def _are_commands(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(
        isinstance(each, str) and each.strip() and "\0" not in each for each in value
    )


class _Step(Task[Body]):
    """A task of ours between those of the command line; Invoke tells tasks apart by their code."""

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = Task.__hash__


@dataclass
class _Attended:
    """A task with hooks, from its pre hooks to its post hooks."""

    name: str
    commands: Commands
    call: SessionCall
    begun: float = 0.0
    facts: dict[str, str] = field(default_factory=dict)

    def begin(self, c: Context) -> None:
        # What is wrong with the options is told before any hook acts.
        self.facts = _facts(self.call, c)
        self.begun = time.monotonic()
        self._run(c, "pre", {})

    def end(self, c: Context) -> None:
        self._run(c, "post", self._outcome("done", 0))

    def fail(self, error: BaseException) -> None:
        """Run the hooks for a task that has failed; one that fails is only told."""
        words = _ended(error)
        for place, command in self._of("failed"):
            if status := _shell(place, command, {**self.facts, **self._outcome(*words)}):
                cli.screen.say(f"warn: {place} ended with status {status}")

    def _of(self, phase: str) -> Iterator[tuple[str, str]]:
        for index, command in enumerate(self.commands.get(phase, ())):
            yield f"hooks.{self.name}.{phase}[{index}]", command

    def _run(self, c: Context, phase: str, more: Mapping[str, str]) -> None:
        dry = self.call.kwargs.get("dry_run") or c.config.run.dry
        for place, command in self._of(phase):
            if dry:
                cli.screen.out(f"# here, {place}\n{command}")
                continue
            if status := _shell(place, command, {**self.facts, **more}):
                what = "was not begun" if phase == "pre" else "is done"
                raise ActionFailed(f"{place} ended with status {status}: {self.name} {what}")

    def _outcome(self, outcome: str, status: int, error: str = "") -> dict[str, str]:
        return {
            **self.call.session.noted,
            "MLX_TP_OUTCOME": outcome,
            "MLX_TP_EXIT": str(status),
            "MLX_TP_ERROR": error,
            "MLX_TP_RUNTIME": f"{time.monotonic() - self.begun:.0f}",
        }


class Hooks:
    """The hooks of one command line."""

    def __init__(self, config: Mapping[str, Commands], names: Mapping[int, str]) -> None:
        self._config = {} if os.environ.get(SKIP) else config
        self._names = names
        self._open: list[_Attended] = []
        self._made: dict[str, tuple[Call, Call]] = {}

    def around(self, call: SessionCall) -> tuple[list[Call], list[Call]]:
        """What is to run before a call and after it; the same for the same call."""
        name = self._names.get(id(call.task), "")
        if not (commands := self._config.get(name)):
            return [], []
        key = f"{name} {sorted(call.kwargs.items())}"
        if key not in self._made:
            self._made[key] = self._steps(_Attended(name, commands, call))
        before, after = self._made[key]
        return [before], [after]

    @contextmanager
    def watching(self, session: Session) -> Iterator[None]:
        """Within it an error is told to the hooks of each task that it ends, the inner first."""
        try:
            yield
        except BaseException as error:
            while self._open:
                with session.signals.watched():
                    self._open.pop().fail(error)
            raise

    def _steps(self, attended: _Attended) -> tuple[Call, Call]:
        call = attended.call

        def begin(c: Context) -> None:
            with call.session.signals.watched():
                attended.begin(c)
            self._open.append(attended)

        def end(c: Context) -> None:
            self._open.remove(attended)
            with call.session.signals.watched():
                attended.end(c)

        return call.beside(_Step(begin)), call.beside(_Step(end))


def _facts(call: SessionCall, c: Context) -> dict[str, str]:
    """What is known of a task before it runs."""
    from ..cluster.server.launch import who

    made = getattr(call.task, "made", None)
    made = made and made(c, call.session, call.kwargs, call.cluster_options)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"MLX_TP_TIME": now, "MLX_TP_WHO": who(), **_of(made)}


def _of(made: object) -> dict[str, str]:
    """Facts of what a task works on: a cluster or several, or machines, or links between them."""
    from ..cluster import cluster as clusters

    if isinstance(made, list):
        if len(made) == 1:
            return _of(made[0])
        return {"MLX_TP_HOSTS": ",".join(node.name for each in made for node in each.nodes)}
    if isinstance(made, clusters.Cluster):
        return _of_cluster(made)
    hosts = getattr(made, "hosts", ())
    return {"MLX_TP_HOSTS": ",".join(host.ssh for host in hosts)} if hosts else {}


def _of_cluster(cluster: "Cluster") -> dict[str, str]:
    from ..cluster.http.api import Api

    return {
        "MLX_TP_HOSTS": ",".join(node.name for node in cluster.nodes),
        "MLX_TP_URL": Api.of(cluster).url,
        "MLX_TP_BACKEND": cluster.backend,
        "MLX_TP_ENGINE": cluster.engine.name,
        "MLX_TP_MODEL": cluster.model or "",
    }


def _ended(error: BaseException) -> tuple[str, int, str]:
    """The outcome, the exit status and the line that tells why."""
    if isinstance(error, KeyboardInterrupt):
        number = signals.number_of(error)
        return "interrupted", 128 + number, "interrupted"
    if isinstance(error, Exit):
        return "failed", error.code, str(error.message or "")
    return "failed", 1, type(error).__name__


def _shell(place: str, command: str, facts: Mapping[str, str]) -> int:
    """Run a command here, its output to stderr; its exit status."""
    cli.screen.say(place)
    inherited = {name: v for name, v in os.environ.items() if not name.startswith("MLX_TP_")}
    name = place.removeprefix("hooks.").rpartition(".")[0]
    environment = {**inherited, "MLX_TP_TASK": name, **facts}
    line = ["/bin/sh", "-c", command]
    # What a task prints on stdout is its result, maybe JSON.
    done = subprocess.run(line, env=environment, stdin=subprocess.DEVNULL, stdout=2, check=False)
    return done.returncode
