"""What machine a node is: its system, its chip and how many cores it has; and which one."""

import re
from collections.abc import Mapping

from ...ssh import scripts
from .. import Fact, Key


def parse(text: str, status: int) -> dict[str, str]:
    """Name -> text: "system" (`uname -srm`), "chip", "cores"; of Macs hw.model and "macos"."""
    rows = dict(re.findall(r"^(system|chip|cores|model|macos) (\S.*?)\s*$", text, re.MULTILINE))
    if status != 0 or "system" not in rows:
        raise ValueError("the machine can't be read")
    return rows


KEY = Key[Mapping[str, str]]("machine")
FACT = Fact(KEY, scripts.script("facts/machine.sh"), parse)


def parse_identity(text: str, status: int) -> str:
    """What is this machine's alone, by whatever name it is reached: IOPlatformUUID on a Mac."""
    found = re.fullmatch(r"machine (\S+(?: \d+)?)\s*", text)
    if status != 0 or not found:
        raise ValueError("which machine it is can't be read")
    return found[1].upper()


IDENTITY_KEY = Key[str]("identity")
IDENTITY = Fact(IDENTITY_KEY, scripts.script("facts/identity.sh"), parse_identity)

SAFE = (26, 3)  # the first macOS whose RDMA does not corrupt data without a word (mlx#3456)


def macos(machine: Mapping[str, str]) -> tuple[int, ...] | None:
    """The version of macOS; None on another system."""
    found = re.match(r"\d+(\.\d+)*", machine.get("macos", ""))
    return tuple(map(int, found[0].split("."))) if found else None


def corrupts(machine: Mapping[str, str]) -> tuple[str, str] | None:
    """Why RDMA on this macOS can't be trusted, as (what, fix), or None."""
    version = macos(machine)
    if version is None or version >= SAFE:
        return None
    what = f"macOS {'.'.join(map(str, version))}: its RDMA corrupts data silently (mlx#3456)"
    return what, "update it to 26.3 or later, or --backend ring"
