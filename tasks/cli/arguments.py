"""Options as Invoke's parser is told of them: typed by their annotation, with a word for the value.

Invoke knows only STRING and INT, and makes one up from a default. Ours are text to it; what they
stand for is read by their kind, where the task runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from inspect import Parameter

from invoke.parser.argument import Argument as InvokeArgument
from invoke.parser.context import ParserContext

from ..cluster.config.settings import RANKS, ROWS, SettingRow, option_name
from ..cluster.config.values import Free, Kind, Words, kind, shown

# What every user of such a tool types; no task has two of one letter.
SHORT = {"num_ranks": "n", "lines": "n", "follow": "f"}
ROW = {row.key: row for rows in ROWS.values() for row in rows.values() if row.option == row.key}
# Options that tasks share, and that are no settings.
SHARED: Mapping[str, Kind] = {
    "num_ranks": RANKS,
    "node": Words("HOST:IFACE:IP"),
    "proxy": Words("VIA:HOST"),
    "netmask": Free("PREFIX"),
    "with_": Free("ARGUMENTS"),
    **{key: row.kind for key, row in ROW.items()},
}


class Plain(Kind):
    """What no annotation tells more of: as Invoke has it, which goes by the default."""

    def read(self, value: object, where: str) -> object:
        return value


ANY = Plain()


class Argument(InvokeArgument):
    """An option of a task of ours; its help is put together when it is asked for."""

    def __init__(
        self,
        name: str,
        kind: Kind | None,
        default: object,
        text: str,
        row: SettingRow | None = None,
    ) -> None:
        dashed = option_name(name).strip("-")
        is_needed = default is Parameter.empty
        super().__init__(
            names=[dashed, *SHORT.get(name, "")],
            kind=_invokes(kind, default),
            default=None if is_needed else default,
            help=text,
            positional=is_needed,
            attr_name=name if dashed != name else None,
        )
        self.value_kind, self.row = kind, row

    def __deepcopy__(self, memo: object) -> Argument:
        # Invoke copies those of each task that is asked for; a kind and a row never change.
        return copy(self)

    @property
    def metavar(self) -> str:
        """The word for its value, "" for a flag."""
        return "" if self.value_kind is None else self.value_kind.metavar or self.names[0].upper()

    @property
    def help(self) -> str:
        """What it is for, and its default."""
        more = self.value_kind.more() if self.value_kind else ""
        return f"{self._text}{more}{self._default()}"

    @help.setter
    def help(self, text: str) -> None:
        self._text = text

    def _default(self) -> str:
        if self.row:
            said = self.row.shown
            return f" (default: {self.row.name}{said and ', ' + said})"
        said = shown(() if self.default is False else self.default)
        return said and f" (default {said})"


def _invokes(kind: Kind | None, default: object) -> type:
    """The type that Invoke is to make of the words: text, but for lists and flags."""
    if kind is None:
        return bool
    if kind is ANY and default not in (None, Parameter.empty):
        return type(default)
    return list if kind.is_list else str


def kind_of(parameter: Parameter, names: dict[str, object]) -> Kind | None:
    """The kind of a body's parameter by its annotation, evaluated with `names`; None for a flag."""
    if isinstance(parameter.default, bool):
        return None
    found = _annotated(parameter.annotation, names)
    if found is None and parameter.name in SHARED and SHARED[parameter.name].is_list:
        return SHARED[parameter.name]  # of a user's own task, which hands it on to a hook
    return found or ANY


def _annotated(annotation: object, names: dict[str, object]) -> Kind | None:
    if not isinstance(annotation, str):
        return kind(annotation)
    name, _, other = annotation.partition(" | ")
    if name.isidentifier() and other in ("", "None"):
        return kind(names.get(name))  # most are: to compile each would take milliseconds
    try:
        return kind(eval(annotation, names))
    except NameError:
        return None  # imported for types alone


_help_for = ParserContext.help_for


def help_for(self: ParserContext, flag: str) -> tuple[str, str]:
    """Give an option and its help as `inv --help` shows them: `--timeout=SECONDS`."""
    argument = self.flags.get(flag)
    if not isinstance(argument, Argument) or not argument.metavar:
        return _help_for(self, flag)
    names = sorted(self.names_for(flag), key=len)
    shown = (f"{name}{' ' if len(name) == 2 else '='}{argument.metavar}" for name in names)
    return ", ".join(shown), argument.help


# Invoke's own has a word for a str and an int and for no other; nobody else makes the contexts.
ParserContext.help_for = help_for  # type: ignore[method-assign]
