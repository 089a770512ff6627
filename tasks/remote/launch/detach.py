"""Become leader of a session of its own (macOS has no setsid), and then the command in argv.

With signals as new: a shell starts background processes with SIGINT ignored, and Python would
inherit that.
"""

import os
import signal
import sys

for name in ("SIGINT", "SIGHUP", "SIGQUIT", "SIGTERM", "SIGPIPE"):
    signal.signal(getattr(signal, name), signal.SIG_DFL)
os.setsid()
os.execvp(sys.argv[1], sys.argv[1:])
