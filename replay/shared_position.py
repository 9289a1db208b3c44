"""One position for two programs that look at the same trace: who moves tells the other, by a unix socket.

Each has a timeline of its own; what they have in common is little: a tick, the branches that make the history it is in
(histories.py), and stops in words (stop_words.py). So one can lag, crash or leave without harm to the other. What goes
over the socket is lines of JSON, of which the server's first has "lgreplay", "trace" and "trace_id" besides:

    {"tick": N, "sheets": [[TICK, [[GUEST, TARGET, ADDRESS, HEX], ...]], ...], "stops": [[TEXT, HOLDS], ...],
     "end": N or null, "events": N}

The server says where it stands, the client where it wants to be; both say which stops are theirs, and whether they hold
for the other side too. "sheets" null: in a branch too large to be told. "end" and "events": the trace is being
recorded, and known up to there. {"wanted": N} is what the server passes on of a client's wish, for other clients.

The server is the one that somebody else drives too (gdb), and moves when it can; so a client's wish is kept until then,
and only the last counts. Neither believes what it reads: what is no such line ends the connection.

Read next: gdbstub/shared_target.py and tui/attached.py, the two ends.
"""

from __future__ import annotations

import json
import selectors
import socket
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock, Thread
from typing import Any, Self

from hostvm.edits import Edit
from hostvm.units import Tick
from replay.codec import MAX_TICK
from replay.errors import ReplayError, one_line
from replay.histories import Sheet

VERSION = 2
_LONGEST = 1 << 18
_AT_ONCE = 1 << 16
_PATIENCE = 2.0


class SharingError(ReplayError):
    """The other side is not there, or not what it should be."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(where, why)
        self.where = where
        self.why = why

    def __str__(self) -> str:
        return one_line(f"{self.where}: {self.why}")


@dataclass(frozen=True, slots=True)
class SharedStop:
    """A stop of one side; `holds`: it is one for the other side too."""

    text: str
    holds: bool = True


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a side stands, and which stops are its own. `sheets` None: in a branch that cannot be told.

    `end`: the trace is being recorded, and is known up to there, with so many `events`.
    """

    tick: int
    sheets: tuple[Sheet, ...] | None = ()
    stops: tuple[SharedStop, ...] = ()
    end: int | None = None
    events: int = 0

    @property
    def place(self) -> tuple[int, tuple[Sheet, ...] | None]:
        """Where alone."""
        return self.tick, self.sheets


@dataclass(frozen=True, slots=True)
class Hello:
    """What a server says first."""

    trace: str
    trace_id: str
    standing: Standing


def _line(values: dict[str, Any]) -> bytes:
    return json.dumps(values).encode() + b"\n"


def _values(standing: Standing) -> dict[str, Any]:
    sheets = standing.sheets
    return {
        "tick": standing.tick,
        "sheets": None if sheets is None else [_pack_sheet(sheet) for sheet in sheets],
        "stops": [[stop.text, stop.holds] for stop in standing.stops],
        "end": standing.end,
        "events": standing.events,
    }


def _pack_sheet(sheet: Sheet) -> list[Any]:
    edits = [[e.guest, int(e.target), int(e.address), e.data.hex()] for e in sheet.edits]
    return [sheet.tick, edits]


def encode(standing: Standing) -> bytes:
    """One line, which is not too long: a branch that would make it so is not told, nor then are stops."""
    line = _line(_values(standing))
    if len(line) > _LONGEST:
        line = _line(_values(replace(standing, sheets=None, stops=())))
    return line


def encode_hello(hello: Hello) -> bytes:
    """The first line."""
    values = {"lgreplay": VERSION, "trace": hello.trace, "trace_id": hello.trace_id}
    return _line({**values, **json.loads(encode(hello.standing))})


def decode(line: bytes) -> Standing:
    """What a line says. Raises ValueError."""
    match json.loads(line):
        case {"tick": tick, "sheets": None | list() as sheets, "stops": list(stops), **rest}:
            end = rest.get("end")
            return Standing(
                _number(tick),
                None if sheets is None else tuple(_sheet(each) for each in sheets),
                tuple(_stop(each) for each in stops),
                None if end is None else _number(end),
                _number(rest.get("events")),
            )
    raise ValueError("no line of ours")


def decode_wish(line: bytes) -> int | None:
    """Where another client wants the server to be, if that is what a line says. Raises ValueError."""
    match json.loads(line):
        case {"wanted": tick}:
            return _number(tick)
    return None


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value <= MAX_TICK:
        raise ValueError("no number of ours")
    return value


def _sheet(value: object) -> Sheet:
    match value:
        case [tick, list(edits)]:
            return Sheet(Tick(_number(tick)), tuple(_edit(edit) for edit in edits))
    raise ValueError("no branch")


def _edit(value: object) -> Edit:
    match value:
        case [guest, target, address, str(data)]:
            return Edit(_number(guest), _number(target), _number(address), bytes.fromhex(data))
    raise ValueError("no edit")


def _stop(value: object) -> SharedStop:
    match value:
        case [str(text), bool(holds)] if text.isprintable():
            return SharedStop(text, holds)
    raise ValueError("no stop")


def decode_hello(line: bytes) -> Hello:
    """What the first line says. Raises ValueError."""
    standing = decode(line)
    match json.loads(line):
        case {"lgreplay": 2, "trace": str(trace), "trace_id": str(trace_id)}:
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


def _forget_abandoned(path: Path) -> None:
    """Take away a socket at which nobody listens any more, since its server was killed."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        try:
            caller.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)


class PositionServer:
    """Tells whoever connects to the socket at `path` where one stands, and hears where they want to be."""

    def __init__(self, path: Path, hello: Hello) -> None:
        self._path = path
        self._hello = hello
        self._lock = Lock()
        self._clients: dict[socket.socket, Lines] = {}
        self._wanted: Standing | None = None
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _forget_abandoned(path)
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

    def __exit__(self, *_: object) -> None:
        self.close()

    def tell(self, standing: Standing) -> None:
        """We stand there now; from any thread."""
        with self._lock:
            if standing == self._hello.standing:
                return
            self._hello = Hello(self._hello.trace, self._hello.trace_id, standing)
            for client in list(self._clients):
                self._send(client, encode(standing))

    def wanted(self) -> Standing | None:
        """Where somebody wants us to be, and what stops that one has, once; from any thread."""
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
        client.settimeout(_PATIENCE)
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
                self._wanted = heard[-1]
                for other in [each for each in self._clients if each is not client]:
                    self._send(other, _line({"wanted": heard[-1].tick}))
        if not data:
            self._selector.unregister(client)
            with self._lock:
                del self._clients[client]
            client.close()

    def _send(self, client: socket.socket, data: bytes) -> None:
        # Who does not read has had its chance; the selector hears that it is gone.
        try:
            client.sendall(data)
        except OSError:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)


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
            line = self._line()
            while decode_wish(line) is not None:
                line = self._line()
            return decode(line)
        except (OSError, ValueError, RecursionError):
            return None

    def ask(self, standing: Standing) -> None:
        """Want it to be there, and say what our stops are."""
        with suppress(OSError):
            self._socket.sendall(encode(standing))

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
    "SharedStop",
    "SharingError",
    "Standing",
    "decode",
    "decode_hello",
    "decode_wish",
    "encode",
    "encode_hello",
]
