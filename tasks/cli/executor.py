"""Invoke's executor with two additions: hooks inherit options, and `--` arguments stay exact.

`inv` takes it wherever no `tasks.executor_class` names another.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any, Union

from invoke.collection import Collection
from invoke.config import Config
from invoke.exceptions import Exit, ParseError
from invoke.executor import Executor as InvokeExecutor
from invoke.parser.context import ParserContext
from invoke.runners import Result
from invoke.tasks import Call, Task

from .. import session
from ..cluster.config import settings
from ..cluster.errors import BadInput, Interrupted
from ..session import Body, Options, Session, SessionCall
from . import envelope, hooks, signals

_ABSENT = object()

Asked = Union[str, "tuple[str, dict[str, Any]]", ParserContext]  # what Invoke executes


class Executor(InvokeExecutor):
    """A pre or post task gets the same-named options of the task that it hangs on.

    `call(task, x=...)` still wins. Options left out are filled in with their defaults, so that
    Invoke's dedupe knows equal calls. A collection that is not ours gets our configuration beneath
    its own.
    """

    defaults: Mapping[str, object] = {}

    def expand_calls(self, calls: Sequence[Call], above: SessionCall | None = None) -> list[Call]:
        expanded: list[Call] = []
        for each in calls:
            call = self._call(Call(each) if isinstance(each, Task) else each, above)
            before, after = self.hooks.around(call)
            expanded += [*before, *self.expand_calls(call.pre, call), call]
            expanded += [*self.expand_calls(call.post, call), *after]
        if above is None:
            _check_options(expanded)
        return expanded

    def _call(self, given: Call, above: SessionCall | None) -> SessionCall:
        """A call with its options filled in."""
        options = _filled(given, above.passed if above else {})
        told = getattr(given.task, "cluster_options", lambda options, above: above)
        return SessionCall(
            given.task,
            given.called_as,
            options,
            session=self.session,
            above=above,
            cluster_options=told(options, above.cluster_options if above else {}),
        )

    @cached_property
    def session(self) -> Session:
        """What the tasks share; it ends when they have."""
        return Session(server_arguments(), session.running())

    @cached_property
    def hooks(self) -> hooks.Hooks:
        """The hooks of the configuration, by the full names of our tasks and the user's own."""
        return hooks.Hooks(self.config.get("hooks") or {}, self._names)

    @cached_property
    def _names(self) -> dict[int, str]:
        # A user's own task file may know ours by other names; importing ours would be a cycle.
        trees = self.collection, sys.modules[__name__.partition(".")[0]].ns
        return {id(task): name for tree in trees for name, task in _named(tree)}

    def execute(self, *tasks: Asked) -> dict[Task[Any], Result]:
        asked = [each for each in tasks if _wants_json(each)]
        with envelope.opened(bool(asked), bool(asked) and self._streams(asked[0])):
            return self._execute(*tasks)

    def _streams(self, context: Asked) -> bool:
        """Whether a task as Invoke has parsed it prints a document per line."""
        task = self.collection[getattr(context, "name", "")]
        return bool(getattr(task, "streams", False))

    def _execute(self, *tasks: Asked) -> dict[Task[Any], Result]:
        _check_last_word(tasks)
        self._configure()
        self._check_configuration()
        with self.session.running():
            try:
                with self.hooks.watching(self.session):
                    return super().execute(*tasks)
            except BrokenPipeError:
                # Who read our output (head, less) has seen enough; nothing more can be written.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise Exit(code=141) from None
            except KeyboardInterrupt as error:
                # Invoke would exit with 1, as for its own parse errors.
                raise Interrupted(signals.number_of(error)) from None

    def _configure(self) -> None:
        # Invoke reads INVOKE_TP_* only for keys that the collection knows.
        own = self.collection.configuration()
        self.collection.configure(dict(self.defaults))
        self.collection.configure(own)

    def _check_configuration(self) -> None:
        file = self.core[0].args.config.value if self.core else None
        if file and not Path(os.path.expanduser(file)).is_file():
            # Invoke would go on without it, and work on another cluster.
            raise BadInput(f"-f {file}: no such configuration file")
        try:
            known = self.collection.configuration()
            files = {key: self.config.get(key) for key in known if key in self.config}
            settings.check(known, files, os.environ, self._place)
        except ValueError as error:
            raise BadInput(str(error)) from None
        if wrong := hooks.wrong(self.config.get("hooks", {}), sorted(self._names.values())):
            raise BadInput(wrong)

    def _place(self, name: str) -> str:
        """The name of a key with the file that says it; of several the one that Invoke goes by."""
        for level in ("runtime", "project", "user", "system"):
            said: object = getattr(self.config, f"_{level}", None)
            for word in name.split("."):
                said = said.get(word, _ABSENT) if isinstance(said, Mapping) else _ABSENT
            if said is not _ABSENT:
                return f"{getattr(self.config, f'_{level}_path')}: {name}"
        return name


def _named(tree: Collection) -> Iterator[tuple[str, Task[Any]]]:
    """Its tasks by their full names; a look-up would merge configurations for each."""
    yield from tree.tasks.items()
    for name, below in tree.collections.items():
        yield from ((tree.subtask_name(name, each), task) for each, task in _named(below))


def run(config: Config, task: Task[Body], **options: object) -> None:
    """Run `task` with its hooks from code: a task that is called as a function skips them."""
    executor = Executor(Collection(task), config)
    with (
        envelope.of_code(options, bool(getattr(task, "streams", False))),
        executor.session.running(),
        executor.hooks.watching(executor.session),
    ):
        for call in executor.dedupe(executor.expand_calls([Call(task, kwargs=options)])):
            call.task(call.make_context(config), *call.args, **call.kwargs)


def server_arguments(argv: Iterable[str] | None = None) -> list[str]:
    """What follows `--` on the command line, exactly: Invoke's `core.remainder` loses quoting."""
    words = list(sys.argv[1:] if argv is None else argv)
    return words[words.index("--") + 1 :] if "--" in words else []


def _check_options(calls: Iterable[Call]) -> None:
    """A wrong option is told before the first hook acts, whichever task it is for."""
    for call in calls:
        if check := getattr(call.task, "check", None):
            check(call.kwargs)


def _check_last_word(contexts: Sequence[Asked]) -> None:
    """`inv tp.stop --hosts`: Invoke takes a list without its value for one that is not given."""
    words = list(takewhile(lambda word: word != "--", sys.argv[1:]))
    last = contexts[-1] if contexts else None
    flags = last.flags if isinstance(last, ParserContext) else {}
    if words and words[-1] in flags and flags[words[-1]].kind is list:
        raise ParseError(f"Flag {words[-1]!r} needed value and was not given one!")


def _wants_json(asked: Asked) -> bool:
    """Whether a task as Invoke has parsed it was given `--json`."""
    argument = asked.args.get("json") if isinstance(asked, ParserContext) else None
    return bool(argument and argument.value)


def _filled(call: Call, inherited: Options) -> dict[str, object]:
    """The call's options: given ones, else those of the task it hangs on, else its defaults."""
    parameters = call.task.argspec(call.task.body).parameters.values()
    # By name, so that `call(task, 1)` and `call(task, x=1)` are equal.
    positional = {each.name: value for each, value in zip(parameters, call.args, strict=False)}
    defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
    passed = {each.name: inherited[each.name] for each in parameters if each.name in inherited}
    return {**defaults, **passed, **positional, **call.kwargs}
