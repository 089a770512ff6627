"""What a rank comes from: remote/launch/detach.py."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from conftest import DEADLINE, ROOT

DETACH = (ROOT / "tasks" / "remote" / "launch" / "detach.py").read_text()


def test_what_was_inherited_is_closed() -> None:
    """As a lock of a login shell, or a pipe of an ssh session, which would wait for its end."""
    ours, theirs = os.pipe()
    tell = "import os, sys; os.fstat(int(sys.argv[1])); print(os.getsid(0) == os.getpid())"
    plain = [sys.executable, "-c", tell, str(theirs)]
    options: dict[str, Any] = {
        "pass_fds": (theirs,),
        "capture_output": True,
        "text": True,
        "timeout": DEADLINE,
    }
    try:
        before = subprocess.run(plain, check=True, **options)
        detached = subprocess.run([sys.executable, "-c", DETACH, *plain], check=False, **options)
    finally:
        os.close(ours)
        os.close(theirs)
    assert before.stdout == "False\n"
    assert detached.returncode == 1
    assert detached.stderr.endswith("OSError: [Errno 9] Bad file descriptor\n")
