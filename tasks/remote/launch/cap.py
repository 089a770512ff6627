"""Keep a rank's log short. argv: LOG, bytes that it may have, the rank's file of its end, its pid.

The rank writes into the file itself, so it can neither wait for this nor end by it, and what it
says in its last moment is there. What is older goes to LOG.older; then LOG is cut after its first
line, by which it is known, and who writes or reads it has the same file as before (tail -f, too).

LOG.older begins with a line `# mlx-tp part FROM TO`: how many bytes had been cut off before and
with this part; TO is - while it is made. logs/new.sh reads it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time

BLOCK = 1024 * 1024
PAUSE = 0.25  # seconds between two looks
MOMENT = 0.002  # seconds without a byte, before a log is cut


def head(before: int, after: object) -> bytes:
    """The first line of an older part: of one length, since it is written twice."""
    return b"# mlx-tp part %20d %20s\n" % (before, str(after).encode())


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def copy(log: int, older: int, begin: int, most: int) -> int:
    """Copy from `begin` until nothing more comes for a moment; how far it came.

    A moment, for who is in the middle of a write would lose it by the cut: at its end, or after
    `most` bytes, what is written between two instructions is lost, and no more.
    """
    at = begin
    for _ in range(200):
        while data := os.pread(log, BLOCK, at):
            written = 0
            while written < len(data):
                written += os.write(older, data[written:])
            at += len(data)
            if at - begin > most:
                return at
        time.sleep(MOMENT)
        if os.fstat(log).st_size == at:
            break
    return at


def older_part(path: str, log: int, first: int, before: int) -> tuple[int, int]:
    """Copy what is after the `first` bytes to LOG.older; its file, or -1, and how far it came."""
    name, end, older = f"{path}.older", os.fstat(log).st_size, -1
    try:
        with contextlib.suppress(FileNotFoundError):
            os.remove(f"{name}.new")
        older = os.open(f"{name}.new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(older, head(before, "-"))
        os.replace(f"{name}.new", name)
        end = copy(log, older, first, 2 * end)
    except OSError:  # a full disk: what there is of it has to do
        pass
    return older, end


def cut(path: str, log: int, first: int, before: int, pid: int) -> int:
    """Move what is after the `first` bytes to the older part; how many were ever cut off.

    Not if the rank has ended meanwhile: who follows the log finds its last words there.
    """
    older, end = older_part(path, log, first, before)
    after = before
    if lives(pid):
        os.ftruncate(log, first)
        after += end - first
    elif older >= 0:
        os.ftruncate(older, len(head(before, "-")))
    if older >= 0:
        with contextlib.suppress(OSError):
            os.pwrite(older, head(before, after), 0)
        os.close(older)
    return after


def main() -> None:
    path, limit, end, pid = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    with contextlib.suppress(OSError):
        os.closerange(3, 256)  # what a login shell had open
    log = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    first = os.pread(log, BLOCK, 0).find(b"\n") + 1
    before = 0
    while lives(pid) and not os.path.exists(end):
        if os.fstat(log).st_size > limit * 15 // 32:  # not the half: more comes between two looks
            before = cut(path, log, first, before, pid)
        time.sleep(PAUSE)


if __name__ == "__main__":
    main()
