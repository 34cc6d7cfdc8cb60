"""Ports of this computer for servers that somebody else starts: of tests, benchmarks and screenshots."""

import socket
import sys

_kept: list[socket.socket] = []


def free_port() -> int:
    """Return a port of 127.0.0.1 that is kept for its asker as long as this process lives.

    It stays bound here, so that the system gives it to nobody else, while a server that reuses addresses may listen on
    it, again and again. Elsewhere than on Linux that cannot be had: there another process may come first.
    """
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    port = int(kept.getsockname()[1])
    if sys.platform == "linux":
        _kept.append(kept)
    else:
        kept.close()
    return port
