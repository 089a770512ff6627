"""Invoke's command line with our screens: what `inv` alone says, lists, help, and slips."""

import ast
import inspect
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from invoke.config import Config
from invoke.exceptions import Exit, ParseError
from invoke.parser.context import ParserContext
from invoke.program import Program as InvokeProgram
from invoke.util import helpline

from .. import cli

UNKNOWN = "No idea what ", " is!"


class Program(InvokeProgram):
    """Invoke's own is made this once our tasks are loaded: `program.__class__ = Program`.

    `first` are the tasks of the main job, each as one types it; `groups` says what `inv --list`
    has under a heading, tasks or what is left of a namespace. Namespaces `apart` are for work on
    this project: it names them in one line, and `inv --list NAME` lists one.
    """

    first: Mapping[str, str] = {}
    groups: Mapping[str, str] = {}
    apart: Sequence[str] = ()
    values: Callable[[Sequence[str], ParserContext | None, Config], list[str] | None]

    def execute(self) -> None:
        try:
            super().execute()
        except Exit as error:
            error.message = error.message and cli.screen.wrapped(error.message, sys.stderr)
            raise
        except ParseError as error:
            raise self._told(error, []) from None

    def parse_tasks(self) -> None:
        words = list(self.core.unparsed)
        if len(words) == 1 and words[0] in self.collection.collections:
            # `inv tp` is `inv --list tp`.
            self.core[0].args.list.value = words.pop()
            self.core.unparsed = words
        try:
            super().parse_tasks()
        except ParseError as error:
            raise self._told(error, words) from None

    def parse_cleanup(self) -> None:
        if self.args.complete.value:
            self._complete()
        try:
            super().parse_cleanup()
        except ParseError as error:
            raise self._told(error, [str(self.args.help.value)]) from None

    def _complete(self) -> None:
        """Print what the last word may become, where it is an option's value; Invoke knows none."""
        words = sys.argv[sys.argv.index("--") + 2 :] if "--" in sys.argv else []
        if not words or (words[-1].startswith("-") and not self._takes(words)):
            return
        if self._takes(words):
            words.append("")  # Invoke's script leaves out a last word that is empty
        found = self.values(words, self._last_task(words), self.config)
        if found is not None:
            print("\n".join(found))
            raise Exit

    def _takes(self, words: Sequence[str]) -> bool:
        task = self._last_task(words)
        known = task.flags.get(words[-1]) if task else None
        return bool(known and known.takes_value)

    def _last_task(self, words: Sequence[str]) -> ParserContext | None:
        named = [word for word in words if word in self.parser.contexts]
        return self.parser.contexts[named[-1]] if named else None

    def _told(self, error: ParseError, words: Sequence[str]) -> ParseError:
        """The error with what was meant, where that can be said."""
        from . import slips

        # Invoke shows an option as Python has it: <Argument: config (f)>.
        text = re.sub(r"<Argument: ([\w-]+)[^>]*>", _dashed, str(error))
        if not text.startswith(UNKNOWN[0]) or not text.endswith(UNKNOWN[1]):
            return _parse_error(f"{text} {slips.lacking(text)}", error)
        token = ast.literal_eval(text.removeprefix(UNKNOWN[0]).removesuffix(UNKNOWN[1]))
        hint = slips.hint(token, words, error.context, self.parser.contexts)
        return _parse_error(f"{text} {hint}", error)

    def no_tasks_given(self) -> None:
        """Say how the main job is done, and where the rest is."""
        found = {
            line: self.collection[name] for name, line in self.first.items() if self._has(name)
        }
        if not found:
            super().no_tasks_given()
        print("From the first start to the stop:\n")
        self.print_columns([(line, helpline(task)) for line, task in found.items()])
        print("All tasks: inv --list.  One of them: inv --help tp.start.")
        print("Invoke's own options: inv --help.")
        print("Pages: README.md, docs/unboxing.md.")
        raise Exit

    def _has(self, name: str) -> bool:
        return name in self.collection.task_names

    def list_flat(self) -> None:
        """All tasks under headings; a namespace, and tasks of somebody else's, as Invoke has it."""
        pairs = self._make_pairs(self.scoped_collection)
        if self.list_root or self.list_depth or not any(self._has(name) for name in self.first):
            self.display_with_columns(pairs=pairs)
            return
        rest = dict(pairs)
        apart = [name for name in self.apart if [rest.pop(each) for each in _below(name, rest)]]
        pairs = list(rest.items())
        for title, names in self.groups.items():
            here = [(each, rest.pop(each)) for name in names.split() for each in _below(name, rest)]
            if here:
                self._group(title, here, pairs)
        if rest:
            self._group("Yours", list(rest.items()), pairs)
        if apart:
            print(f"For work on this project itself: inv --list {' | '.join(apart)}")

    def _group(
        self,
        title: str,
        here: Sequence[tuple[str, str | None]],
        all_: Sequence[tuple[str, str | None]],
    ) -> None:
        wide = max(len(name) for name, _ in all_)
        print(f"{title}:\n")
        self.print_columns([(name.ljust(wide), text) for name, text in here])

    def print_task_help(self, name: str) -> None:
        """As Invoke does it, but within the terminal's columns."""
        context = self.parser.contexts[name]
        options = context.help_tuples()
        needed = "".join(f" {each.name.upper()}" for each in context.positional_args)
        print(f"Usage: inv {name}{needed}{' [--options]' if options else ''}\n")
        width = shutil.get_terminal_size().columns
        for line in paragraphs(inspect.getdoc(self.collection[name]) or "", width):
            print(f"{self.leading_indent}{line}".rstrip())
        print("Options:")
        if options:
            self.print_columns(options)
        else:
            print(f"{self.leading_indent}none\n")


def _parse_error(text: str, error: ParseError) -> ParseError:
    return ParseError(cli.screen.wrapped(text.rstrip(), sys.stderr), error.context)


def paragraphs(text: str, width: int) -> Iterator[str]:
    """The lines of a task's help, as long as there is room; a command that is longer goes on."""
    room = max(width - 4, 20)
    for part in text.split("\n\n"):
        if part.startswith(("inv ", "pbpaste ")):
            for line in part.splitlines():
                yield from _command(line, room)
        else:
            yield from textwrap.wrap(part, min(room, 96))
        yield ""


def _command(line: str, room: int) -> Iterator[str]:
    """A command that can be copied, of one line or, by backslashes, of several."""
    parts = textwrap.wrap(line, room, subsequent_indent="    ", break_on_hyphens=False)
    yield from (f"{part} \\" for part in parts[:-1])
    yield parts[-1]


def _dashed(found: re.Match[str]) -> str:
    return f"'--{found[1].strip('_').replace('_', '-')}'"


def _below(name: str, names: Iterable[str]) -> list[str]:
    """Of `names`, a task's own, or all of a namespace, with their aliases."""
    return [each for each in names if each.split()[0] == name or each.startswith(f"{name}.")]
