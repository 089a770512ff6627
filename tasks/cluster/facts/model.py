"""The model's files on a node: a folder, or a repository in its Hugging Face cache."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..ssh import scripts
from . import FOLDER, Fact, Key, files


@dataclass(frozen=True)
class Model:
    """`path` is None where the model is not on the node; `files` maps name to size and checksum.

    Sizes are in bytes; a checksum (of `cksum`) is only there for files below 1 MiB: configuration
    and tokenizer are compared by content, weights by size.
    """

    path: str | None
    files: Mapping[str, str] = field(default_factory=dict)


def parse(text: str, status: int) -> Model:
    """The folder's path, and what facts/listing.sh prints in it."""
    if status == MISSING:
        return Model(None)
    folder = re.match(r"\s*folder (.+)\n", text)
    if status != 0 or not folder:
        raise ValueError("the model's folder can't be read")
    return Model(folder.group(1), files.parse_listing(text[folder.end() :]))


MISSING = 3  # the exit status of facts/enter_model.sh where the model is not there


def values(model: str, cwd: str | None) -> dict[str, str]:
    """What facts/enter_model.sh goes by."""
    cached = "models--" + model.replace("/", "--")
    return {"model": model, "cached": cached, "cwd": cwd or ""}


KEY = Key[Model]("model")


def fact(model: str, cwd: str | None) -> Fact[Model]:
    """Hidden files are the downloader's notes (times, locks), not the model."""
    text = scripts.script("facts/model.sh", [".*"], **values(model, cwd))
    return Fact(KEY, text, parse, limit=FOLDER, is_raw=True)
