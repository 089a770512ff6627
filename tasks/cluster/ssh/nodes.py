"""The nodes of a command: one connection each, shared by all its tasks; scripts on all at once."""

import resource
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress

from ..config.hostfile import Host
from .background import T, begin, settle
from .bulk import KEPT
from .node import SCRIPT_TIMEOUT, CommandResult, Node, SshConfig, Wait

ALL_KEPT = 16 * 1024 * 1024  # bytes of the answers of all nodes, in equal parts


class Connections:
    """The nodes of one command, each host the same object; `known` gives configured names."""

    known: Callable[[], Sequence[str]] = tuple
    wait: Wait | None = None  # for whoever wants to say that it takes long

    def __init__(self) -> None:
        self._nodes: dict[tuple[str | int | None, ...], Node] = {}
        self._ssh: dict[str | None, SshConfig] = {}

    def of(self, hosts: Iterable[Host], ssh_config: str | None = None) -> list[Node]:
        """The distinct nodes of `hosts` in their order, by this ssh configuration."""
        ssh = self.ssh_config(ssh_config)
        keys = {(ssh.path, each.ssh, each.user, each.port, each.gateway): each for each in hosts}
        _allow_files(2 * len(keys))
        for key, host in keys.items():
            self._nodes.setdefault(key, Node(host, ssh, self.known))
        for node in self._nodes.values():
            node.wait = self.wait
            node.room = min(ALL_KEPT // len(self._nodes), KEPT)
        return [self._nodes[key] for key in keys]

    def ssh_config(self, path: str | None) -> SshConfig:
        """The configuration of that file (None: the user's and the system's)."""
        return self._ssh.setdefault(path, SshConfig(path))

    def close(self) -> None:
        """Close every connection."""
        for node in self._nodes.values():
            node.close()
        self._nodes.clear()
        self._ssh.clear()


def _allow_files(count: int) -> None:
    """Have `count` files to open beside those that every process needs: macOS allows 256."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 128
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # What can't be had is told by the connection that finds no file.
        with suppress(ValueError, OSError):
            most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def close() -> None:
    """Close every connection of this process; `Cluster.close` takes its place."""
    warnings.warn("nodes.close() goes: use Cluster.close()", DeprecationWarning, stacklevel=2)
    for node in list(Node._alive):
        node.close()


def each(
    nodes: Iterable[Node], work: Callable[[Node], T], so_far: Callable[..., object] | None = None
) -> dict[str, T]:
    """`work` on all nodes at once, by name; `so_far` says what some results come to meanwhile."""
    futures: dict[str, Future[T]] = {}
    wait: Wait | None = None
    for node in nodes:
        wait = node.wait
        futures[node.name] = future = begin(work, node)
        node.pending.add(future)
        future.add_done_callback(node.pending.discard)
    if wait:
        wait(futures, so_far)
    return {name: future.result() for name, future in futures.items()}


def idle(nodes: Iterable[Node]) -> bool:
    """Wait for all that `each` has begun on the nodes; whether it has ended."""
    return settle([future for node in nodes for future in list(node.pending)], SCRIPT_TIMEOUT)


def sh(
    nodes: Iterable[Node],
    script: str | Mapping[str, str],
    timeout: float = SCRIPT_TIMEOUT,
    so_far: Callable[..., object] | None = None,
) -> dict[str, CommandResult]:
    """Run a script (one for all, or one per node name) on all nodes at once; `so_far`: see each."""
    if isinstance(script, str):
        return each(nodes, lambda node: node.sh(script, timeout), so_far)
    return each(
        [node for node in nodes if node.name in script],
        lambda node: node.sh(script[node.name], timeout),
        so_far,
    )
