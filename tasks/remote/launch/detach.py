"""Become leader of a session of its own (macOS has no setsid), and then the command in argv.

With signals as new: a shell starts background processes with SIGINT ignored, and Python would
inherit that. And without what came along from whoever started us: a lock or a file that a login
shell has opened, the pipe of an ssh session. Python's own is not inheritable (PEP 446).
"""

import os
import signal
import sys

for name in ("SIGINT", "SIGHUP", "SIGQUIT", "SIGTERM", "SIGPIPE"):
    signal.signal(getattr(signal, name), signal.SIG_DFL)
os.setsid()
for name in os.listdir("/dev/fd"):
    try:
        if int(name) > 2 and os.get_inheritable(int(name)):
            os.close(int(name))
    except OSError:  # the one with which the folder was listed
        pass
os.execvp(sys.argv[1], sys.argv[1:])
