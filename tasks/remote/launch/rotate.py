"""Keep earlier logs: the last one becomes LOG.1, that one LOG.2, and so on. argv: LOG, how many.

With each goes its older part (cap.py), LOG.older with LOG.

rename(2) follows no link and moves nothing into a folder that another user has laid at a name, as
mv would.
"""

import os
import stat
import sys

log, keep = sys.argv[1], int(sys.argv[2])


def at(number: int) -> str:
    return f"{log}.{number}" if number else log


def is_own(path: str) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid()


def move(age: int) -> None:
    """Make the log of one age that of the next."""
    for part in ("", ".older"):
        if is_own(at(age) + part):
            os.rename(at(age) + part, at(age + 1) + part)
        elif part and is_own(at(age + 1) + part):
            os.remove(at(age + 1) + part)


age = keep + 1
try:
    while is_own(at(age)):
        for path in (at(age), f"{at(age)}.older"):
            if is_own(path):
                os.remove(path)
        age += 1
    for age in range(keep, 0, -1):
        move(age - 1)
except OSError:
    sys.exit(f"can't keep the log {at(age)}: is it another user's? choose another --log-dir")
