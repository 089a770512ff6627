"""Rigs for tests: started once for a pytest worker, and fresh for each test that asks."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import waits

from .rig import Rig
from .topology import Cable, names, two_nodes


@pytest.fixture(scope="session")
def rigs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Rig]]:
    """`rigs(count, cables, **options)`: as many hosts, started once, as the other words say, reset.

    Every folder of pytest's is the same in the hosts as here: a model in `tmp_path` is seen there.
    """
    from conftest import require

    require(sys.platform.startswith("linux") and os.getuid() == 0, "needs root on Linux")
    for program in ("ip", "unshare", "setpriv", "nsenter", "/usr/sbin/sshd"):
        require(shutil.which(program), f"needs {program}")
    made: dict[tuple[int, bool], Rig] = {}

    def get(
        count: int = 2, cables: Sequence[Cable] = (), is_strict: bool = True, **options: Any
    ) -> Rig:
        options["environment"] = {**waits.environment(), **options.get("environment", {})}
        key = count, is_strict
        if key in made:
            made[key].become(cables, **options)
            made[key].reset()
        else:
            share = [tmp_path_factory.getbasetemp()]
            share[0].chmod(0o755)  # the hosts' user is not root
            base = tmp_path_factory.mktemp("rig")
            places: dict[str, Any] = {"share": share, "compiled": _compiled(share[0].parent)}
            rig = Rig(base, names(count), cables, is_strict=is_strict, **places, **options)
            made[key] = rig.up()
        return made[key]

    yield get
    for rig in made.values():
        rig.down()


def _compiled(session: Path) -> Path:
    """One folder for the hosts of all workers: to compile costs a first start some seconds."""
    folder = session / "compiled"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o1777)
    return folder


@pytest.fixture
def two_macs(rigs: Callable[..., Rig], tmp_path: Path) -> Rig:
    """mac1 and mac2, fresh from the box, with a cable between their en5."""
    tmp_path.chmod(0o777)
    return rigs(2, two_nodes())
