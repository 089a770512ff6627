"""macOS's application firewall: on, it may keep other nodes from a rank's port."""

import re

from .. import ON_MAC, Fact, Key, limited, of_macs

PROGRAM = "/usr/libexec/ApplicationFirewall/socketfilterfw"
OFF, ON, BLOCKS_ALL = 0, 1, 2


@of_macs
def parse(text: str, status: int) -> int:
    """`socketfilterfw --getglobalstate`: "Firewall is enabled. (State = 1)".

    State 2 lets nothing in but what the system itself needs.
    """
    state = re.search(r"\(State = ([012])\)", text)
    if status != 0 or not state:
        raise ValueError("the firewall's state can't be read")
    return int(state[1])


# None on a system that is no macOS.
KEY = Key[int | None]("firewall")
FACT = Fact(KEY, ON_MAC + limited(5, f"{PROGRAM} --getglobalstate"), parse)
