"""A model's configuration, and what its weights say of themselves: index and headers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..ssh import scripts
from . import Fact, Key, model


@dataclass(frozen=True)
class Weights:
    """`named` are the files that the index names, None where there is no index.

    `implied` is the size in bytes that each `*.safetensors` of the folder must have by its header,
    None where it has no header that can be read: 8 bytes that tell the header's length, the
    header, and the tensors up to the last `data_offsets` (https://huggingface.co/docs/safetensors).
    """

    named: frozenset[str] | None
    implied: Mapping[str, int | None]


def parse(text: str, status: int) -> Weights:
    """Rows "index", 'named "FILE"' and "header LENGTH END ./FILE", and "end"."""
    if status != 0 or not text.rstrip().endswith("end"):
        raise ValueError("the weights can't be read")
    index = re.search(r"^index$", text, re.MULTILINE)
    named = re.findall(r'^named "(.+)"$', text, re.MULTILINE)
    rows = re.findall(r"^header (\d{1,9}|-) (\d{1,15}|-) \./(.+)$", text, re.MULTILINE)
    implied = {
        name: None if "-" in (length, end) else 8 + int(length) + int(end)
        for length, end, name in rows
    }
    if not index and named:
        raise ValueError("the weights' index can't be read")
    return Weights(frozenset(named) if index else None, implied)


KEY = Key[Weights]("weights")
CONFIG = Key[Mapping[str, object]]("config")


def fact(path: str, cwd: str | None) -> Fact[Weights]:
    return Fact(
        KEY, scripts.script("facts/weights.sh", **model.values(path, cwd)), parse, is_raw=True
    )


def config(path: str, cwd: str | None) -> Fact[Mapping[str, object]]:
    """The model's config.json, as a dictionary."""
    text = scripts.script("facts/config.sh", **model.values(path, cwd))
    return Fact(CONFIG, text, parse_config, is_raw=True)


def parse_config(text: str, status: int) -> dict[str, object]:
    if status != 0:
        raise ValueError("config.json can't be read")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("config.json is no JSON") from None
    if not isinstance(data, dict):
        raise ValueError("config.json is no JSON object")
    return data
