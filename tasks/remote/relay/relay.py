"""Joins stdin and stdout to the TCP connection of the arguments, until one of them ends."""

import errno
import os
import select
import socket
import sys

host, port, nonce = sys.argv[1:]
try:
    peer = socket.create_connection((host, int(port)), 5)
except socket.timeout:  # TimeoutError is another one before 3.10
    said = "ETIMEDOUT"
except OSError as error:
    said = errno.errorcode.get(error.errno or 0, str(error))
else:
    said = "connected"
print(nonce, said, flush=True)
if said != "connected":
    sys.exit(1)
peer.settimeout(None)
while True:
    for ready in select.select([0, peer.fileno()], [], [])[0]:
        data = os.read(0, 65536) if ready == 0 else peer.recv(65536)
        # Who asks closes when he has his answer, or is gone.
        if not data:
            sys.exit(0)
        if ready == 0:
            peer.sendall(data)
        else:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
