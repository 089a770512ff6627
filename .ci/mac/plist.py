#!/usr/bin/env python3
"""Print the property list that rdma.persist would install on a Mac with one link."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tasks.cluster.rdma import launchd, links

wiring = links.from_specs(["mac1:en5:10.254.0.5", "mac2:en5:10.254.0.6"], [], "30")
print(launchd.plist(wiring, "mac1", "me"), end="")
