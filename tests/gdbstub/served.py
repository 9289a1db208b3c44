"""A server on a thread of its own, for debuggers that are programs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from gdbstub.server import Server, listen_tcp
from gdbstub.target import Target


@contextmanager
def served(target: Target) -> Iterator[str]:
    """Serve a target, one debugger after the other; the address, as debuggers take it."""
    with listen_tcp(0) as listener:
        server = Server(target, listener)
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.stop()
            thread.join()
