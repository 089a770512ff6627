"""The model's files on a node: a folder, or a repository in its Hugging Face cache."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from ...ssh import scripts
from .. import FOLDER, Fact, Key
from ..machine import files


@dataclass(frozen=True)
class Model:
    """`path` is None where no such folder is on the node; `files` maps name to size and checksum.

    Sizes are in bytes; a checksum (of `cksum`) is only there for files below 1 MiB: configuration
    and tokenizer are compared by content, weights by size.
    """

    path: str | None
    files: Mapping[str, str] = field(default_factory=dict)
    is_file: bool = False  # what was named for a folder

    @property
    def is_model(self) -> bool:
        """Whether it may be one; where not, the check that compares the nodes tells so."""
        return self.path is not None and "config.json" in self.files

    @property
    def lack(self) -> str:
        """What is wrong where there is no path, in words."""
        return "is a file, not a model's folder" if self.is_file else "is not there"


def parse(text: str, status: int) -> Model:
    """The folder's path, and what facts/listing.sh prints in it."""
    if status == MISSING:
        return Model(None, is_file=text.strip() == "file")
    folder = re.match(r"\s*folder (.+)\n", text)
    if not folder:
        raise ValueError("the model's folder can't be read")
    return Model(folder.group(1), files.parse_listing(text[folder.end() :], status))


NO_ENV: Mapping[str, str] = MappingProxyType({})
MISSING = 3  # the exit status of facts/enter_model.sh where the model is not there


# Of a rank's environment, what says where Hugging Face's cache is; what is secret is not asked for.
_HUB = re.compile(r"HOME|XDG_CACHE_HOME|TRANSFORMERS_OFFLINE|(HF|HUGGINGFACE)_(?!.*TOKEN)\w+")


def values(
    model: str, cwd: str | None, python: str = "", env: Mapping[str, str] = NO_ENV
) -> dict[str, str]:
    """What facts/enter_model.sh goes by: how a rank of this `python` and `env` finds its model."""
    named = [f"{k}={v}" for k, v in env.items() if _HUB.fullmatch(k) and v.isprintable()]
    return {
        "model": model,
        "cached": "models--" + model.replace("/", "--"),
        "cwd": cwd or "",
        "python": python,
        "hub": scripts.text("facts/hub.py"),
        "hub_env": "\n".join(named),
    }


KEY = Key[Model]("model")


def fact(
    model: str,
    cwd: str | None,
    python: str = "",
    env: Mapping[str, str] = NO_ENV,
    key: Key[Model] = KEY,
) -> Fact[Model]:
    """Hidden files are the downloader's notes (times, locks), not the model."""
    text = scripts.script("facts/model.sh", [".*"], **values(model, cwd, python, env))
    return Fact(key, text, parse, limit=FOLDER, is_raw=True)
