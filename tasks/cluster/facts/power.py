"""When a Mac goes to sleep and takes its rank with it, and whether it starts by itself again."""

from __future__ import annotations

import re
from dataclasses import dataclass

from . import Fact, Key, limited


@dataclass(frozen=True)
class Power:
    """`sleep` is minutes without use until it sleeps, 0 for never (also where sleep is disabled).

    `prevented` are the programs that keep it awake while they run; `is_low` is low power mode;
    `comes_back` whether it starts after a power failure (None: nothing says so, as on a laptop).
    """

    sleep: int
    prevented: tuple[str, ...] = ()
    is_low: bool = False
    comes_back: bool | None = None


def parse(text: str, status: int) -> Power | None:
    """`pmset -g`; None on a system that is no macOS, and has no such setting."""
    if status == 0 and text.strip() == "no macOS":
        return None
    sleep = re.search(r"^ sleep +(\d{1,6})(?: \(sleep prevented by (.*)\))?$", text, re.MULTILINE)
    if status != 0 or not sleep:
        raise ValueError("the sleep settings can't be read")
    is_disabled = re.search(r"^ SleepDisabled\s+1$", text, re.MULTILINE)
    # powermode is 1 for low power on Macs that have a high one, too; others say lowpowermode.
    is_low = re.search(r"^ (lowpowermode|powermode) +1$", text, re.MULTILINE)
    programs = dict.fromkeys((sleep[2] or "").split(", ")) if sleep[2] else {}
    restarts = re.search(r"^ autorestart +([01])$", text, re.MULTILINE)
    comes_back = restarts and restarts[1] == "1"
    return Power(0 if is_disabled else int(sleep[1]), tuple(programs), bool(is_low), comes_back)


# None on a system that is no macOS.
KEY = Key[Power | None]("power")
FACT = Fact(
    KEY,
    f"command -v sw_vers >/dev/null || {{ echo 'no macOS'; exit 0; }}\n{limited(5, 'pmset -g')}",
    parse,
)
