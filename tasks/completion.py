"""inv completion: the Tab key in bash, zsh and fish."""

from collections.abc import Sequence
from typing import Literal

from invoke.config import Config
from invoke.context import Context
from invoke.parser.context import ParserContext

from . import commands
from .cli.options import options_task


@options_task(
    help={
        "shell": "bash, zsh or fish (default: the one of $SHELL)",
        "show": "print the script, and install nothing",
    }
)
def completion(
    c: Context, shell: Literal["bash", "zsh", "fish"] | None = None, show: bool = False
) -> None:
    """Tab completes tasks, options, hosts, ranks and models.

    Writes the shell's script beside its start-up file, and one line that reads it into that.
    """
    commands.completion.run(shell, show)


def values(words: Sequence[str], task: ParserContext | None, config: Config) -> list[str] | None:
    """What the last of `words` may become at this task; None where that is no option's value."""
    return commands.completion.values(words, task, config)
