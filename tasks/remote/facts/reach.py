"""Whether a TCP connection to the address and port of the arguments comes about."""

import errno
import socket
import sys

# A refused connection has reached the peer, too.
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).close()
except socket.timeout:  # TimeoutError is another one before 3.10
    said = "ETIMEDOUT"
except OSError as error:
    said = errno.errorcode.get(error.errno or 0, "failed")
else:
    said = "connected"
print("python", said)
