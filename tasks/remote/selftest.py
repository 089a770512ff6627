"""Which backends the mlx of this python has, and whether ps shows a process's environment."""

import importlib
import json
import os
import subprocess


def backends() -> "dict[str, bool]":
    # By name: whoever checks types here need not have mlx.
    try:
        mx = importlib.import_module("mlx.core")
    except ImportError:
        return {}
    names = ("ring", "jaccl", "nccl", "mpi")
    return {name: bool(mx.distributed.is_available(name)) for name in names}


def environment() -> "bool | None":
    """Whether `ps -E` shows what this process was started with; None where it has no -E."""
    line = ["ps", "-Eww", "-o", "command=", "-p", str(os.getpid())]
    try:
        done = subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    except OSError:
        return None
    mark = "MLX_TP_MARK=" + os.environ.get("MLX_TP_MARK", "")
    return mark.encode() in done.stdout if done.returncode == 0 else None


print(json.dumps({"backends": backends(), "ps": environment()}))
