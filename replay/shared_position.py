"""One position for two programs that look at the same trace: who moves tells the other, by a unix socket.

Each has a timeline of its own; all that is shared is the tick. That is little, and so one can lag, crash or leave
without harm to the other. What goes over the socket is lines of JSON:

    server, once     {"lgreplay": 1, "trace": PATH, "trace_id": HEX, "tick": N, "branch": BOOL}
    server           {"tick": N, "branch": BOOL}   it stands there; `branch`: in a history that the trace does not have
    client           {"tick": N, "branch": false}  go there

The server is the one that somebody else drives too (gdb), and moves when it can; so a client's wish is kept until then,
and only the last counts. Neither believes what it reads: what is no such line ends the connection.

Read next: gdbstub/shared_target.py and tui/attached.py, the two ends.
"""

from __future__ import annotations

import json
import selectors
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Thread
from types import TracebackType
from typing import Self

from replay.codec import MAX_TICK
from replay.errors import ReplayError, one_line

VERSION = 1
_LONGEST = 8192
_AT_ONCE = 1 << 16


class SharingError(ReplayError):
    """The other side is not there, or not what it should be."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(where, why)
        self.where = where
        self.why = why

    def __str__(self) -> str:
        return one_line(f"{self.where}: {self.why}")


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the other side stands."""

    tick: int
    branch: bool = False


@dataclass(frozen=True, slots=True)
class Hello:
    """What a server says first."""

    trace: str
    trace_id: str
    standing: Standing


def encode(standing: Standing) -> bytes:
    """One line."""
    return json.dumps({"tick": standing.tick, "branch": standing.branch}).encode() + b"\n"


def encode_hello(hello: Hello) -> bytes:
    """The first line."""
    values = {"lgreplay": VERSION, "trace": hello.trace, "trace_id": hello.trace_id}
    at = {"tick": hello.standing.tick, "branch": hello.standing.branch}
    return json.dumps({**values, **at}).encode() + b"\n"


def decode(line: bytes) -> Standing:
    """What a line says. Raises ValueError."""
    match json.loads(line):
        case {"tick": bool()}:
            pass
        case {"tick": int(tick), "branch": bool(branch)} if 0 <= tick <= MAX_TICK:
            return Standing(tick, branch)
    raise ValueError("no line of ours")


def decode_hello(line: bytes) -> Hello:
    """What the first line says. Raises ValueError."""
    standing = decode(line)
    match json.loads(line):
        case {"lgreplay": 1, "trace": str(trace), "trace_id": str(trace_id)}:
            return Hello(trace, trace_id, standing)
    raise ValueError("another version, or no lgreplay at all")


class Lines:
    """Bytes in, whole lines out. Raises ValueError for a line that is too long."""

    def __init__(self) -> None:
        self._rest = b""

    def receive(self, data: bytes) -> list[bytes]:
        """The lines that end in `data`."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST or any(len(line) > _LONGEST for line in lines):
            raise ValueError("a line that does not end")
        return lines


class PositionServer:
    """Tells whoever connects to the socket at `path` where one stands, and hears where they want to be."""

    def __init__(self, path: Path, hello: Hello) -> None:
        self._path = path
        self._hello = hello
        self._lock = Lock()
        self._clients: dict[socket.socket, Lines] = {}
        self._wanted: int | None = None
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.bind(str(path))
            path.chmod(0o600)
        except OSError as error:
            self._listener.close()
            raise SharingError(str(path), error.strerror or str(error)) from error
        self._listener.listen()
        self._waker, self._woken = socket.socketpair()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = Thread(target=self._serve, name="shared position", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def tell(self, standing: Standing) -> None:
        """We stand there now; from any thread."""
        with self._lock:
            if standing == self._hello.standing:
                return
            self._hello = Hello(self._hello.trace, self._hello.trace_id, standing)
            for client in list(self._clients):
                self._send(client, encode(standing))

    def wanted(self) -> int | None:
        """Where somebody wants us to be, once; from any thread."""
        with self._lock:
            wanted, self._wanted = self._wanted, None
            return wanted

    def close(self) -> None:
        """End it, and take the socket's name away."""
        self._waker.send(b".")
        self._thread.join()
        for end in (*self._clients, self._listener, self._waker, self._woken):
            end.close()
        self._selector.close()
        self._path.unlink(missing_ok=True)

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._woken:
                    return
                assert isinstance(key.fileobj, socket.socket)
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._hear(key.fileobj)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        client.setblocking(False)
        self._selector.register(client, selectors.EVENT_READ)
        with self._lock:
            self._clients[client] = Lines()
            self._send(client, encode_hello(self._hello))

    def _hear(self, client: socket.socket) -> None:
        try:
            data = client.recv(_AT_ONCE)
            heard = [decode(line) for line in self._clients[client].receive(data)]
        except (OSError, ValueError, RecursionError):
            data, heard = b"", []
        with self._lock:
            if heard:
                self._wanted = heard[-1].tick
        if not data:
            self._selector.unregister(client)
            with self._lock:
                del self._clients[client]
            client.close()

    def _send(self, client: socket.socket, data: bytes) -> None:
        # Who does not read misses it; the selector hears when it is gone.
        with suppress(OSError):
            client.send(data)


class PositionClient:
    """The other end. Raises SharingError when there is no server, or none of ours."""

    def __init__(self, path: Path) -> None:
        self._where = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._lines = Lines()
        self._waiting: list[bytes] = []
        try:
            self._socket.connect(self._where)
            self._socket.settimeout(10)
            self.hello = decode_hello(self._line())
            self._socket.settimeout(None)
        except OSError as error:
            self._socket.close()
            raise SharingError(self._where, error.strerror or str(error)) from error
        except (ValueError, RecursionError) as error:
            self._socket.close()
            raise SharingError(self._where, "no lgreplay is there") from error

    def next(self) -> Standing | None:
        """Wait for where the server stands next; None when it has gone."""
        try:
            return decode(self._line())
        except (OSError, ValueError, RecursionError):
            return None

    def ask(self, tick: int) -> None:
        """Want it to be at a tick."""
        with suppress(OSError):
            self._socket.sendall(encode(Standing(tick)))

    def close(self) -> None:
        """Go; `next` returns None, in whichever thread it waits."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _line(self) -> bytes:
        while not self._waiting:
            data = self._socket.recv(_AT_ONCE)
            if not data:
                raise ValueError("the end")
            self._waiting += self._lines.receive(data)
        return self._waiting.pop(0)


__all__ = [
    "Hello",
    "PositionClient",
    "PositionServer",
    "SharingError",
    "Standing",
    "decode",
    "decode_hello",
    "encode",
    "encode_hello",
]
