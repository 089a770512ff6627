"""When a Mac goes to sleep and takes its rank with it, and whether it starts by itself again."""

import re
from dataclasses import dataclass

from .. import ON_MAC, Fact, Key, limited, of_macs


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


@of_macs
def parse(text: str, status: int) -> Power:
    """`pmset -g`."""
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
FACT = Fact(KEY, ON_MAC + limited(5, "pmset -g"), parse)
