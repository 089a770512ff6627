"""What may restart a Mac without being asked, and what keeps it from coming back by itself."""

import re
from dataclasses import dataclass

from ...ssh import scripts
from .. import Fact, Key, of_macs

UNLOCKS = 26  # the first macOS that ssh with a password can unlock: apple_ssh_and_filevault(7)


@dataclass(frozen=True)
class FileVault:
    """`is_on` (also from the next restart on); whether ssh with a password `unlocks` it then."""

    is_on: bool
    unlocks: bool = False


@of_macs
def parse_filevault(text: str, status: int) -> FileVault:
    """`fdesetup status`: "FileVault is Off, but will be enabled after the next restart."."""
    if not (found := re.search(r"^macos (\d+)\S*\nFileVault is (On|Off)(.*)", text, re.MULTILINE)):
        raise ValueError("whether FileVault is on can't be read")
    is_on = found[2] == "On" or "will be enabled" in found[3]
    return FileVault(is_on, is_on and int(found[1]) >= UNLOCKS)


@dataclass(frozen=True)
class Updates:
    """Whether macOS updates are installed by themselves, and whether that `is_managed` (MDM)."""

    are_installed: bool
    is_managed: bool = False


@of_macs
def parse_updates(text: str, status: int) -> Updates:
    """AutomaticallyInstallMacOSUpdates of com.apple.SoftwareUpdate; where it is not set: no."""
    rows = re.findall(r"^/Library/(Managed )?Preferences: ([01]?)$", text, re.MULTILINE)
    if status != 0 or len(rows) != 2:
        raise ValueError("whether updates are installed can't be read")
    managed, own = (value for _, value in rows)
    return Updates((managed or own) == "1", bool(managed))


# Both are None on a system that is no macOS.
FILEVAULT_KEY = Key[FileVault | None]("filevault")
FILEVAULT = Fact(FILEVAULT_KEY, scripts.script("facts/filevault.sh"), parse_filevault)
UPDATES_KEY = Key[Updates | None]("updates")
UPDATES = Fact(UPDATES_KEY, scripts.script("facts/updates.sh"), parse_updates)
