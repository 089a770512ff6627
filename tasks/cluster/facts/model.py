"""The model's files on a node: a folder, or a repository in its Hugging Face cache."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .. import shell
from . import Fact


@dataclass(frozen=True)
class Model:
    """`path` is None where the model is not on the node; `files` maps name to size and checksum.

    Sizes are in bytes; a checksum (of `cksum`) is only there for files below 1 MiB: configuration
    and tokenizer are compared by content, weights by size.
    """

    path: str | None
    files: Mapping[str, str] = field(default_factory=dict)


def parse(text: str, status: int) -> Model:
    """Rows "size name" and "sum checksum size name" below the folder's path."""
    if status == 3:
        return Model(None)
    folder = re.search(r"^folder (.+)$", text, re.MULTILINE)
    if status != 0 or not folder:
        raise ValueError("the model's folder can't be read")
    files = {name: size for size, name in re.findall(r"^size +(\d+) \./(.+)$", text, re.MULTILINE)}
    for checksum, name in re.findall(r"^sum (\d+) \d+ \./(.+)$", text, re.MULTILINE):
        files[name] = f"{files.get(name, '?')} {checksum}"
    return Model(folder.group(1), files)


def fact(model: str, cwd: str | None) -> Fact:
    """Looks where mlx-lm would: a folder as seen from `cwd`, else the Hugging Face cache."""
    cd = f"cd {shell.path(cwd)} || exit\n" if cwd else ""
    cache = shell.quote("models--" + model.replace("/", "--"))
    return Fact(
        "model",
        f"{cd}d={shell.path(model)}\n"
        'if [ ! -d "$d" ]; then\n'
        '  c="${HF_HUB_CACHE:-${HF_HOME:-$HOME/.cache/huggingface}/hub}"/' + cache + "\n"
        '  d=$c/snapshots/$(cat "$c/refs/main" 2>/dev/null)\n'
        '  [ -d "$d" ] && [ -f "$c/refs/main" ] || exit 3\n'
        "fi\n"
        'cd "$d" || exit; printf "folder %s\\n" "$PWD"\n'
        # Hidden files are the downloader's notes (times, locks), not the model.
        "all() { find -L . -name '.?*' -prune -o -type f \"$@\"; }\n"
        "all -exec wc -c {} \\; | sed 's/^ */size /'\n"
        "all -size -2048 -exec cksum {} \\; | sed 's/^/sum /'",
        parse,
    )
