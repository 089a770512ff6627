"""Words for /bin/sh, quoted in one place."""

from __future__ import annotations

import shlex

quote = shlex.quote


def path(text: str) -> str:
    """`text` as one word in which a leading `~` is the home of the user on the node."""
    if text == "~" or text.startswith("~/"):
        return '"$HOME"' + (quote(text[1:]) if text[1:] else "")
    # A leading dash would be taken for an option.
    return quote("./" + text if text.startswith("-") else text)


def words(command: tuple[str, ...]) -> str:
    """A command whose first word is a path."""
    return " ".join([path(command[0]), *map(quote, command[1:])])


def heredoc(text: str) -> str:
    """`text` (and a newline) for a command's stdin, with a delimiter that it does not hold."""
    end = "END"
    while end in text:
        end += "_"
    return f"<<'{end}'\n{text}\n{end}"
