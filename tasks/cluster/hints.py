"""Known errors of the field: what a line in a log means and what to do; pure.

docs/troubleshooting.md shows the same table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Hint:
    """`pattern` on a log line -> `cause` and `remedy` in plain words."""

    pattern: str
    cause: str
    remedy: str


# How JACCL, ring and Python give an errno: "errno 22", "errno=2", "(error: 60)", "error code -12".
_CODE = r"(?:errno|\(error:|error code)\D{0,3}"

# The first that matches counts, so the particular come before the general; case does not. Wording
# of JACCL's errors differs by version, and errno numbers by system (macOS/Linux).
HINTS = (
    Hint(
        rf"(RTR|queue pair).*{_CODE}22\b|IPv4.mapped GID",
        "the link has no IPv4-mapped GID: its interface has no IPv4 address or is in a bridge",
        "inv rdma.setup",
    ),
    Hint(
        rf"{_CODE}96\b",
        "the device has no usable GID or its protection domains are used up; retrying never helps",
        "inv rdma.status; if the addresses are right, reboot the node",
    ),
    Hint(
        rf"(queue pair|protection domain|jaccl).*{_CODE}16\b",
        "the kernel has not reclaimed the RDMA resources of the last server yet",
        "wait 30 s (inv tp.cooldown), then start again; reboot the node if that does not help",
    ),
    Hint(
        r"Couldn't (allocate protection domain|create (queue pair|completion queue))",
        "the device's RDMA resources are used up: servers that died keep theirs",
        "reboot that node; retrying never helps",
    ),
    Hint(
        rf"jaccl.*{_CODE}12\b|post_recv.*-12|Register memory region failed",
        "RDMA could not pin memory: too much is wired, or too many buffers are in use",
        "inv tp.memory; reboot the node if memory has leaked",
    ),
    Hint(
        r"Could not (find|open) device",
        "that RDMA device is not on the node: names change after a reboot or a replug",
        "inv rdma.discover --diff",
    ),
    Hint(
        r"valid mesh|valid ring",
        "the devices of the hostfile make no full mesh (jaccl) or ring (jaccl-ring)",
        "check rdma in the hostfile: inv rdma.discover",
    ),
    Hint(
        rf"Recv failed with {_CODE}2\b",
        "another rank died first, or something connected to the coordinator port",
        "look for the earliest error of all ranks; never probe port 32323",
    ),
    Hint(
        rf"{_CODE}(65|113)\b|No route to host",
        "macOS's Local Network privacy refuses this python, or the route is missing",
        "allow it in System Settings, Privacy & Security, Local Network; inv rdma.ping",
    ),
    Hint(
        rf"{_CODE}(60|110)\b|Operation timed out|Connection timed out",
        "a peer's address does not answer",
        "check ips in the hostfile and the cable: inv rdma.ping",
    ),
    Hint(
        r"^OSError: \[Errno (49|99)\]",
        "the server can't listen on its --host: that address is not on rank 0's node",
        "-- --host 0.0.0.0, or an address of that node",
    ),
    Hint(
        rf"{_CODE}(49|99)\b|assign requested address",
        "an address of the hostfile is not on that node: links lose theirs at a reboot",
        "inv rdma.setup; check ips in the hostfile",
    ),
    Hint(
        rf"Address already in use|{_CODE}(48|98)\b|Couldn't bind",
        "a port is taken, mostly by a server that is still there",
        "inv tp.status, inv tp.stop; or another port: -- --port N",
    ),
    Hint(
        rf"Couldn't connect|{_CODE}(61|111)\b|Connection refused",
        "a peer is not listening: it died, or is not started yet",
        "look at that rank's log: inv tp.logs",
    ),
    Hint(
        r"connection to a peer was lost|peer.*(lost|closed)",
        "another rank is gone",
        "look at the other ranks' logs: inv tp.logs",
    ),
    Hint(
        r"No module named '?mlx_lm\.models\.|Model type .* not supported",
        "this mlx-lm does not know that kind of model",
        "update mlx-lm on all nodes, or choose another model",
    ),
    Hint(
        r"No module named '?(mlx|mlx_lm|vllm_mlx)\b",
        "the python of that rank does not have the server",
        "install it there, or choose the right one: --python, or python in the hostfile",
    ),
    Hint(
        r"config\.json.*(not found|No such file)|No such file.*config\.json"
        r"|Repo(sitory)? ?Not ?Found|HFValidationError|LocalEntryNotFoundError",
        "the model is not where that rank looks",
        "check --model and cwd on that node: inv tp.preflight",
    ),
    Hint(
        r"(No such file or directory|not found).*python|python[\d.]*:.*(not found|No such file)",
        "that python is not on the node (a non-interactive shell has no Homebrew in its PATH)",
        "give an absolute path: --python /opt/homebrew/bin/python3.14",
    ),
    Hint(
        r"Insufficient Memory|CallbackErrorOutOfMemory|out of memory|MemoryError"
        r"|Cannot allocate memory",
        "the model and its cache do not fit into the node's memory",
        "a smaller model or context, or more nodes; inv tp.memory",
    ),
    Hint(
        r"CallbackErrorTimeout|GPU Timeout",
        "a GPU command waited too long for its peers",
        "set MLX_METAL_FAST_SYNCH=1 in envs; look at the other ranks",
    ),
    Hint(
        r"Cannot shard|must be divisible by.*(world|ranks|group)",
        "the model can't be divided by this number of ranks",
        "another number of ranks: -n N, or another model",
    ),
    Hint(
        r"unrecognized arguments|error: argument|the following arguments are required",
        "the server does not know one of its arguments",
        "check what you gave after --",
    ),
    Hint(
        r"Missing \d+ parameters|Received \d+ parameters not in model|No safetensors found"
        r"|safetensor.*(error|invalid|fail)",
        "the model's files are incomplete or of another kind",
        "copy the model again; inv tp.preflight compares the nodes",
    ),
)

_TRACEBACK = "Traceback (most recent call last):"
_ERROR = re.compile(
    r"((?<![,{])\bERROR\b(?![,}])|\b\w*(Error|Exception)\b: |^\w*(Error|Exception)$"
    r"|\[jaccl\].*(fail|errno|Could|No )|\[ring\].*(fail|Couldn't|lost)|errno|[Ff]atal"
    r"|\[METAL\].*fail|terminate called|not found$|command not found|error: "
    r"|libc\+\+abi|No module named|No such file|connection to a peer was lost)"
)


def hint(lines: Iterable[str]) -> Hint | None:
    """The first known error in `lines`."""
    for line in lines:
        for known in HINTS:
            if re.search(known.pattern, line, re.IGNORECASE):
                return known
    return None


def first_error(lines: list[str]) -> str | None:
    """The first error in a log: an early one often is the cause, the last a consequence.

    Of a traceback it is the line that names the exception, which ends it.
    """
    for index, line in enumerate(lines):
        if line.startswith(_TRACEBACK):
            rest = (after for after in lines[index + 1 :] if after and not after[0].isspace())
            return next(rest, line)
        if _ERROR.search(line):
            return line.strip()
    return None


def exit_words(status: int | None) -> str:
    """An exit status of a rank in words: shells add 128 to a signal's number."""
    import signal

    if status is None:
        return "exit status unknown"
    if 128 < status < 160:
        try:
            return f"killed by {signal.Signals(status - 128).name}"
        except ValueError:
            pass
    return f"exit status {status}"
