"""Whether `own=IP` of the arguments are this machine's addresses, and `peer=IP:PORT` are reached.

A socket is bound to the one, on a port that nobody knows, and connected to the other: a refused
connection has reached the peer, too.
"""

import errno
import socket
import sys
import threading


def own(ip: str) -> str:
    with socket.socket() as probe:
        probe.bind((ip, 0))
    return "bound"


def peer(place: str) -> str:
    ip, _, port = place.rpartition(":")
    socket.create_connection((ip, int(port)), 3).close()
    return "connected"


def tell(word: str) -> None:
    kind, _, place = word.partition("=")
    try:
        said = own(place) if kind == "own" else peer(place)
    except socket.timeout:  # TimeoutError is another one before 3.10
        said = "ETIMEDOUT"
    except OSError as error:
        said = errno.errorcode.get(error.errno or 0, "failed")
    sys.stdout.write(f"{kind} {place} {said}\n")


threads = [threading.Thread(target=tell, args=(word,)) for word in sys.argv[1:]]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
