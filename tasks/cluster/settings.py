"""Every key of `tp` in the configuration, with its default; docs/configuration.md explains them."""

from __future__ import annotations

from typing import Any

COORDINATOR_PORT = 32323  # as mlx.launch has it

# About 350 GiB at 16 KiB pages: what a 512 GB Mac Studio has wired after a leak.
WIRED_PAGES = 23_000_000

DEFAULTS: dict[str, Any] = {
    "hostfile": "hosts/local.json",
    "hosts": None,
    "ssh_config": None,
    "backend": None,
    "engine": None,
    "engines": {},
    "python": None,
    "cwd": None,
    "env": [],
    "args": [],
    "log_dir": "/tmp",
    "state_dir": "~/.mlx-tp",
    "timeout": 600,
    "stop_timeout": 15,
    "lock_wait": 0,
    "cooldown": 30,
    "wired_limit_gib": round(WIRED_PAGES * 16384 / 1024**3, 1),
    "starting_port": COORDINATOR_PORT,
}
