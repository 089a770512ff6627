"""What inv dev.loop does: on each save the source is copied to all nodes, the server restarted."""

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future

from ...cli import envelope, screen
from ...cluster.cluster import Cluster
from ...cluster.errors import ActionFailed, Ended
from ...cluster.server import readiness, snapshots
from ...cluster.ssh import background
from ...cluster.sync import excludes
from ...cluster.sync.rsync import Copy
from ...cluster.text import few
from ...session import Session
from .. import tp
from . import sync

QUIET = 100  # milliseconds without a save, after which all saves so far are one
LINES = 12  # of what a cycle has said, where it failed

Saves = queue.SimpleQueue[list[str]]


def run(session: Session, cluster: Cluster, timeout: float | None) -> None:
    """Restart with what is here, and again after each save, until Ctrl-C: a line each time."""
    config = session.context.config.get("dev", {})
    copy = sync.wanted(config, state_dir=session.state_dir, has_options=False)
    screen.say(f"watching {copy.source}: Ctrl-C ends this, and leaves the server as it is")
    stop = threading.Event()
    # What is saved while a cycle runs is the next one's.
    saves, watcher = _watched(copy, stop)
    try:
        _cycle(session, cluster, copy, timeout, [])
        for names in _each(saves, watcher):
            _cycle(session, cluster, copy, timeout, names)
    finally:
        stop.set()


def _cycle(
    session: Session, cluster: Cluster, copy: Copy, timeout: float | None, saved: Sequence[str]
) -> None:
    """Copy and restart, and say in one line how long it took; or what failed, and what is left."""
    session.phases.clear()
    begun, failed = time.monotonic(), ""
    bring = tp.restart.bringing(session, cluster, copy)
    with screen.held(lambda: session.signals.is_given) as said:
        try:
            tp.restart.again(session, cluster, "dev.loop", timeout, bring)
        except Ended as error:
            failed = str(error.message or error)
    seconds, state = time.monotonic() - begun, readiness.READY
    if failed:
        for line in said()[-LINES:]:
            screen.say(f"{screen.INDENT}{line}")
        state = _state(cluster)
    if envelope.current():
        told = {"seconds": seconds, "saved": saved, "phases": session.phases, "state": state}
        envelope.line({"time": envelope.now(), **told}, failed)
        return
    took = f"{time.strftime('%H:%M:%S')}  {seconds:.1f} s  {few(saved) if saved else 'begun'}"
    phases = ", ".join(f"{name} {seconds:.1f}" for name, seconds in session.phases.items())
    failure = f"failed: {failed}; the server is now {state}: mend it and save"
    screen.sentence(f"{took}: {failure if failed else phases}")


def _state(cluster: Cluster) -> str:
    read = snapshots.states(cluster)
    return readiness.judge(read, readiness.size(read, len(cluster.ranks))).state


def _watched(copy: Copy, stop: threading.Event) -> tuple[Saves, Future[None]]:
    """What was saved since the last look, from now on until `stop`; and who looks."""
    saves: Saves = queue.SimpleQueue()
    is_ours = _ours(copy)

    def look() -> None:
        import watchfiles

        found = watchfiles.watch(
            copy.source, step=QUIET, stop_event=stop, watch_filter=is_ours, raise_interrupt=False
        )
        for changes in found:
            saves.put(sorted({os.path.relpath(path, copy.source) for _, path in changes}))

    return saves, background.begin(look)


def _ours(copy: Copy) -> Callable[[object, str], bool]:
    """Whether a change is of a file that is copied: no editor's swap file, none left out."""
    from watchfiles import DefaultFilter  # 60 ms that no other command pays

    is_wanted, is_left_out = DefaultFilter(), excludes.matcher(copy.exclude)

    def is_ours(change: object, path: str) -> bool:
        # Of the path below the source: the source itself may lie in a folder of such a name.
        name = os.path.relpath(path, copy.source)
        return is_wanted(change, name) and not is_left_out(name)  # type: ignore[arg-type]

    return is_ours


def _each(saves: Saves, watcher: Future[None]) -> Iterator[Sequence[str]]:
    """What was saved, each time; raise where nobody watches any more."""
    while True:
        try:
            yield saves.get(timeout=1)
        except queue.Empty:
            if watcher.done():
                why = watcher.exception() or "it is gone"
                raise ActionFailed(f"dev.source can't be watched any more: {why}") from None
