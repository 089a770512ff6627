"""What hosts.selftest asks of a host: every fact that we read, and what we take for granted.

The facts come from the modules that hold them, so a new one is asked by itself. What a host said is
kept as it came (`Raw`), for the parsers and for a sample.
"""

import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from types import ModuleType
from typing import get_origin

from .. import facts
from ..config.settings import DEFAULT
from ..facts import Fact, Key
from ..facts.machine import vitals
from ..rdma import launchd
from ..server import audit_log
from ..ssh import scripts
from .said import ASSUMED, Raw, sections

FOLDER = "/etc/pam.d"  # small, and on every Mac and Linux: for what reads a folder's files
# In the environment of the ssh session: sshd passes what its AcceptEnv names.
SENT = {"LC_MLX_TP_SELFTEST": "sent", "MLX_TP_SELFTEST": "sent"}
LOCAL = {"LC_MLX_TP_SELFTEST": "", "MLX_TP_SELFTEST": "local"}  # no ssh is on the way
VITALS = Key[vitals.Vitals]("vitals")
_NONCE = "selftest"


def wanted(python: str, cwd: str | None, state_dir: str) -> dict[str, Fact[object]]:
    """Every fact by name, of harmless subjects where it wants some, and those of this module."""
    known = _arguments(python, cwd, state_dir)
    found: dict[str, Fact[object]] = {}
    for module in _modules():
        for fact in (*_ready(module), *_made(module, known)):
            found.setdefault(fact.name, fact)
    for fact in (_vitals(state_dir), assumed(python, cwd)):
        found[fact.name] = fact
    return found


def raw(fact: Fact[object]) -> Fact[Raw]:
    """The same command, whose value is what was said."""
    return Fact(Key[Raw](fact.name), fact.command, Raw, fact.limit, is_raw=True)


def assumed(python: str, cwd: str | None) -> Fact[Mapping[str, str]]:
    """What we take for granted: section -> what was said to it."""
    ask = scripts.text("selftest.py")
    return Fact(
        ASSUMED, scripts.script("selftest.sh", python=python, cwd=cwd or "", ask=ask), sections
    )


def _arguments(python: str, cwd: str | None, state_dir: str) -> dict[str, object]:
    """What facts that are made per node are made of, by the names of their parameters."""
    return {
        **{"python": python, "cwd": cwd, "state_dir": state_dir, "cluster": DEFAULT},
        **{"model": FOLDER, "path": FOLDER, "folder": FOLDER, "source": FOLDER, "target": "~"},
        **{"addresses": ["127.0.0.1"], "address": "127.0.0.1", "port": 22},
        **{"own": ["127.0.0.1"], "peers": [("127.0.0.1", 22)]},
        # sudo tells its rules, and runs nothing.
        **{"command": "-l", "paths": {0: f"{state_dir}/none"}, "lines": 1, "boot": "none"},
    }


def _modules() -> Iterator[ModuleType]:
    for each in pkgutil.walk_packages(facts.__path__, f"{facts.__name__}."):
        yield import_module(each.name)
    yield from (launchd, audit_log)


def _ready(module: ModuleType) -> Iterator[Fact[object]]:
    for value in list(vars(module).values()):
        several = value if isinstance(value, tuple) else (value,)
        yield from (each for each in several if isinstance(each, Fact))


def _made(module: ModuleType, known: Mapping[str, object]) -> Iterator[Fact[object]]:
    for make in _makers(module):
        names = inspect.signature(make).parameters.values()
        yield make(**{each.name: known[each.name] for each in names if each.default is each.empty})


def _makers(module: ModuleType) -> Iterator[Callable[..., Fact[object]]]:
    for value in list(vars(module).values()):
        if inspect.isfunction(value) and value.__module__ == module.__name__:
            gives = value.__annotations__.get("return")  # text where the module puts it off
            is_fact = get_origin(gives) is Fact or str(gives).startswith("Fact[")
            if is_fact and not value.__name__.startswith("_"):
                yield value


def _vitals(state_dir: str) -> Fact[vitals.Vitals]:
    """One block of the loop of tp.top."""
    values = {
        "state_dir": state_dir,
        "cluster": DEFAULT,
        "log": "",
        "port": "",
        "hex": "0000",
        "pids": "",
    }
    text = scripts.script("facts/vitals.sh", [], **values, interval=1, blocks=1, nonce=_NONCE)
    return Fact(VITALS, text, _parse_vitals)


def _parse_vitals(text: str, status: int) -> vitals.Vitals:
    found, _ = vitals.blocks(text + "\n", _NONCE)
    read = vitals.parse(found[0]) if found else vitals.Vitals()
    if status != 0 or read.memory is None or read.used is None or not read.links:
        raise ValueError("memory or interfaces can't be read")
    return read
