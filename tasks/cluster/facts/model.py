"""The model's files on a node: a folder, or a repository in its Hugging Face cache."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .. import shell
from . import Fact, Key, files


@dataclass(frozen=True)
class Model:
    """`path` is None where the model is not on the node; `files` maps name to size and checksum.

    Sizes are in bytes; a checksum (of `cksum`) is only there for files below 1 MiB: configuration
    and tokenizer are compared by content, weights by size.
    """

    path: str | None
    files: Mapping[str, str] = field(default_factory=dict)


def parse(text: str, status: int) -> Model:
    """The folder's path, and what `files.listing` prints in it."""
    if status == MISSING:
        return Model(None)
    folder = re.match(r"\s*folder (.+)\n", text)
    if status != 0 or not folder:
        raise ValueError("the model's folder can't be read")
    return Model(folder.group(1), files.parse_listing(text[folder.end() :]))


MISSING = 3  # the exit status of `enter` where the model is not there


def enter(model: str, cwd: str | None) -> str:
    """/bin/sh text that goes where mlx-lm would look: a folder seen from `cwd`, or HF's cache."""
    cd = f"cd {shell.path(cwd)} || exit\n" if cwd else ""
    cache = shell.quote("models--" + model.replace("/", "--"))
    return (
        f"{cd}d={shell.path(model)}\n"
        'if [ ! -d "$d" ]; then\n'
        '  c="${HF_HUB_CACHE:-${HF_HOME:-$HOME/.cache/huggingface}/hub}"/' + cache + "\n"
        '  d=$c/snapshots/$(cat "$c/refs/main" 2>/dev/null)\n'
        f'  [ -d "$d" ] && [ -f "$c/refs/main" ] || exit {MISSING}\n'
        "fi\n"
        'cd "$d" || exit\n'
    )


KEY = Key[Model]("model")


def fact(model: str, cwd: str | None) -> Fact[Model]:
    """Hidden files are the downloader's notes (times, locks), not the model."""
    show = 'printf "folder %s\\n" "$PWD"\n'
    return Fact(KEY, enter(model, cwd) + show + files.listing([".*"]), parse)
