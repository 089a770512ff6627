"""What a command line that Invoke has no idea of was meant to be: from words to a hint.

Its users come from scripts of another form (`--hosts a b`, no `--`, `tp_start`), so most slips are
of a few kinds, and each has a line that puts it right.
"""

import difflib
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence

from invoke.parser.context import ParserContext

from ..cluster.config.values import Choice, Wholes
from ..cluster.text import at_home, either

SURE = 0.8  # how alike two options are that are taken for one: `--port` is no `--python`
ALIKE = 0.6
FOLLOWS = "What belongs to the server follows --"
# What other programs call an option of ours.
HABITS = {"--tail": "--lines", "--kill": "--force", "--signal": "--force", "-9": "--force"}
BACKGROUND = ("--background", "--detach", "--daemon")
SERVERS = ("--max-tokens",)  # of tasks that ask, too


def hint(
    token: str, words: Sequence[str], task: ParserContext | None, tasks: Mapping[str, ParserContext]
) -> str:
    """What was meant by `token`, one of `words` before `--`, at this `task`; "" if unknown."""
    if task is None or not task.name:
        return _before_any(token, words, task.flags if task else {}, tasks)
    if token.startswith("-"):
        return _option(token, words, task, tasks)
    if token == "help":
        return f"Did you mean inv --help {task.name}?"
    told = _listed(token, words, task, tasks) or _unquoted(token, words, task, tasks)
    told = told or _value(token, words, task) or _task(token, words, tasks)
    return told or f"inv --help {task.name} shows what it takes."


def lacking(text: str) -> str:
    """How a task is given what it lacks, by Invoke's error."""
    found = re.match(r"'(\S+)' did not receive .*: (.+)$", text)
    names = re.findall(r"'(\w+)'", found[2]) if found else []
    return f"Give it: inv {found[1]} {' '.join(names).upper()}" if found else ""


def _value(token: str, words: Sequence[str], task: ParserContext) -> str:
    """Hint at what a bare word was meant for: a file, a rank, the end of an option's value."""
    before, last = words[: words.index(token)][-2:] if token in words[2:] else ("", "")
    if _takes(last, task) and words.count(last) > 1:
        return f"{last} is there twice: it takes one value."
    if before in task.flags and _takes(before, task) and last.startswith("-"):
        return f"Quote it: {before} '{last} {token}'"
    if "--hostfile" in task.flags and token.endswith(".json"):
        return f"Did you mean --hostfile {shlex.quote(token)}? It takes one file."
    if "--rank" in task.flags and token.isdigit():
        return f"Did you mean --rank {token}?"
    if task.name == "tp.explain":
        return f"What it reads follows --: {_line([str(task.name), '--', token])}"
    if "--backend" in task.flags and "/" in token:
        return f"{FOLLOWS}: {_line([str(task.name), '--', '--model', _unhomed(token)])}"
    if "--hosts" in task.flags and re.search(r"[a-z].*\d|\d\.|,", token):
        return f"Did you mean --hosts {shlex.quote(token)}?"
    meant = [flag for flag in task.flags if flag == f"--{token}"]
    meant += [f"{flag} {token}" for flag in task.flags if token in _choices(flag, task)]
    return f"Did you mean {meant[0]}?" if meant else ""


def _choices(flag: str, task: ParserContext) -> Sequence[str]:
    kind = getattr(task.flags[flag], "value_kind", None)
    return kind.words if isinstance(kind, Choice) else ()


def _before_any(
    token: str, words: Sequence[str], flags: Iterable[str], tasks: Mapping[str, ParserContext]
) -> str:
    if token == "help":
        return f"Did you mean {' '.join(['inv --help', *(w for w in words if w in tasks)])}?"
    if not token.startswith("-"):
        return _task(token, words, tasks) or "inv --list shows the tasks."
    named = next((word for word in words if word in tasks), "")
    if named and token in tasks[named].flags:
        return f"An option follows its task: {_line([named, *(w for w in words if w != named)])}"
    close = difflib.get_close_matches(token, list(flags), 1, ALIKE)
    return f"Did you mean {close[0]}?" if close else ""


def _unquoted(
    token: str, words: Sequence[str], task: ParserContext, tasks: Mapping[str, ParserContext]
) -> str:
    """Hint at quotes where a task takes one text, and its words stand one by one."""
    given = [each.value for each in task.positional_args]
    if len(given) != 1 or given[0] not in words or token not in words:
        return ""
    if given[0].startswith("-"):
        return f"{given[0]} is no option of it: inv --help {task.name} shows what it takes."
    first, last = words.index(given[0]), words.index(token)
    is_next = last == first + 1 and not any(token.startswith(each[:3]) for each in tasks)
    return f"Quote it: {_line([str(task.name), ' '.join(words[first:])])}" if is_next else ""


def _task(token: str, words: Sequence[str], tasks: Mapping[str, ParserContext]) -> str:
    after = [*words[words.index(token) + 1 :], ""] if token in words else [""]
    # `inv tp start`, `inv start`, `inv tp_start.py`: the namespace was left out or set apart.
    short = token.removesuffix(".py").replace("_", ".").replace("-", ".", 1)
    exact = [name for name in tasks if name in (f"{token}.{after[0]}", short)]
    last = {name: name.rpartition(".")[2] for name in tasks}
    close = exact or [name for name in tasks if last[name] == token]
    close = close or [name for name in tasks if name.startswith(short) and "." in short][:3]
    if not close and any(name.startswith(f"{token}.") for name in tasks):
        return f"inv {token} shows what there is."
    if not close:
        spoken = {**{last[name]: name for name in tasks}, **{name: name for name in tasks}}
        found = difflib.get_close_matches(short, spoken, 3, ALIKE)
        close = list(dict.fromkeys(spoken[each] for each in found))
    return f"Did you mean {either(close)}?" if close else ""


def _option(
    token: str, words: Sequence[str], task: ParserContext, tasks: Mapping[str, ParserContext]
) -> str:
    flags = [flag for flag in task.flags if flag.startswith("--")]
    close = difflib.get_close_matches(token, flags, 1, SURE)
    close = close or [each for each in flags if each == HABITS.get(token)]
    if close:
        return f"Did you mean {close[0]}?"
    if token in BACKGROUND and "--foreground" in flags:
        return "Leave it out: ranks run in the background, but with --foreground."
    others = [name for name, each in tasks.items() if token in each.flags]
    if others and token not in SERVERS:
        whose = either(others) if len(others) < 4 else "other tasks"
        return f"It is an option of {whose}: inv --help {task.name} shows its own."
    if "--backend" not in flags:  # it starts no ranks
        return f"inv --help {task.name} shows its options."
    own, servers = _divided(words[words.index(str(task.name)) + 1 :], task, tasks)
    return f"{FOLLOWS}: {_line([str(task.name), *own, '--', *map(_unhomed, servers)])}"


def _divided(
    words: Sequence[str], task: ParserContext, tasks: Mapping[str, ParserContext]
) -> tuple[list[str], list[str]]:
    """The words of a task, and those that are the server's: from an option that it has not."""
    own: list[str] = []
    servers: list[str] = []
    where = own
    for index, word in enumerate(words):
        flag = word.partition("=")[0]
        if flag.startswith("-"):
            where = own if flag in task.flags else servers
        elif where is own and index and not _takes(words[index - 1], task) and word not in tasks:
            where = servers
        where.append(word)
    return own, servers


def _unhomed(word: str) -> str:
    """As it was typed: a shell has written ~ out."""
    return at_home(word, os.path.expanduser("~"))


def _takes(word: str, task: ParserContext) -> bool:
    return word in task.flags and task.flags[word].takes_value


def _listed(
    token: str, words: Sequence[str], task: ParserContext, tasks: Mapping[str, ParserContext]
) -> str:
    """Hint at `--hosts a,b` where it says `--hosts a b`: an option takes one word."""
    at = words.index(token) if token in words else 0
    if at < 2 or words[at - 1].startswith("-") or words[at - 2] not in task.flags:
        return ""
    flag = words[at - 2]
    kind = getattr(task.flags[flag], "value_kind", None)
    if task.flags[flag].kind is not list and not isinstance(kind, Wholes):
        return ""
    values = [words[at - 1]]
    for word in words[at:]:
        if word.startswith("-") or word in tasks:
            break
        values.append(word)
    is_split = flag == "--hosts" or isinstance(kind, Wholes) or getattr(kind, "split", False)
    line = [flag, ",".join(values)] if is_split else [w for v in values for w in (flag, v)]
    return f"Did you mean {shlex.join(line)}?"


def _line(words: Iterable[str]) -> str:
    return f"inv {shlex.join(words)}"
