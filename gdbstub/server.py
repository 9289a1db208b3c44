"""The server: the only file with a socket. One debugger at a time, and always an ear for the next.

The target is not to be called from several threads, and a move may take long; yet ^C must reach it within a tenth of a
second, and a second debugger must be told that it is one. So there are two threads. (i) The *engine* thread, which is
the caller of `serve`, owns session and target. (ii) The *gate* thread reads every socket: it takes packets apart and
queues them, lets debuggers in or sends them away, and cancels the move under way when an interrupt arrives or its
debugger is gone.

A cancel that comes a moment too early must not be lost, and one that comes too late must not hit the next move. So the
gate repeats it for as long as the urgent message waits in the queue, and looks at both under one lock.

Whatever a debugger does, the target stays where it is, and the next may come. Read next: gdb_command.py.
"""

from __future__ import annotations

import os
import queue
import selectors
import socket
import stat
import threading
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeAlias

from gdbstub.errors import TargetFault
from gdbstub.packet import PacketDecoder, Signal, WireEvent, frame
from gdbstub.session import Act, Close, Run, Send, Session, Tell
from gdbstub.target import ReportsProgress, Target

_AT_ONCE = 1 << 16
_REPEAT_CANCEL = 0.02
_REFUSAL = b"+" + frame(b"E.lgreplay already serves another debugger; one at a time")
_REFUSAL_SECONDS = 2.0


class Connection(Protocol):
    """A way to and from one debugger; a socket is one."""

    def fileno(self) -> int:
        """What to wait on."""
        ...

    def recv(self, count: int, /) -> bytes:
        """What has come; nothing at the end."""
        ...

    def sendall(self, data: bytes, /) -> None:
        """Send everything."""
        ...

    def shutdown(self, how: int, /) -> None:
        """End it: `recv` will return nothing."""
        ...

    def close(self) -> None:
        """Forget it."""
        ...


class StandardStreams:
    """Standard input and output, for `target remote | lgreplay gdb --stdio`."""

    def fileno(self) -> int:
        """What to wait on."""
        return 0

    def recv(self, count: int, /) -> bytes:
        """What has come."""
        return os.read(0, count)

    def sendall(self, data: bytes, /) -> None:
        """Send everything."""
        while data:
            data = data[os.write(1, data) :]

    def shutdown(self, how: int, /) -> None:
        """A pipe is ended by the other side."""

    def close(self) -> None:
        """They stay open: Python closes them."""


class _End:
    """Nothing more will come."""


_Item: TypeAlias = WireEvent | _End


class _Client:
    """A debugger that has been let in. `moving` and `urgent` are looked at and changed under `lock` only."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.inbox: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self.lock = threading.Lock()
        self.moving = False
        self.urgent = 0
        self._decoder = PacketDecoder()

    # The gate's side.

    def arrived(self, data: bytes) -> None:
        """Take bytes of the debugger's."""
        for event in self._decoder.receive(data):
            self._put(event, is_urgent=event is Signal.INTERRUPT)

    def lost(self) -> None:
        """Nothing more will come."""
        self._put(_End(), is_urgent=True)

    def _put(self, item: _Item, *, is_urgent: bool) -> None:
        with self.lock:
            self.urgent += is_urgent
        self.inbox.put(item)

    def cancel_for(self, target: Target) -> bool:
        """Cancel the move that keeps something urgent waiting; return whether something does."""
        with self.lock:
            if self.urgent and self.moving:
                target.cancel()
            return self.urgent > 0

    # The engine's side.

    def next(self) -> _Item:
        """Wait for the next event."""
        item = self.inbox.get()
        if item is Signal.INTERRUPT or isinstance(item, _End):
            with self.lock:
                self.urgent -= 1
        return item

    def set_moving(self, moving: bool) -> None:
        """A move begins or has ended."""
        with self.lock:
            self.moving = moving

    def send(self, data: bytes) -> None:
        """Send; that the debugger is gone will be heard from the gate."""
        with suppress(OSError):
            self.connection.sendall(data)


class Server:
    """Serves `target` to whoever connects to `listener`, or to one `connection` only."""

    def __init__(
        self,
        target: Target,
        listener: socket.socket | None = None,
        connection: Connection | None = None,
    ) -> None:
        assert (listener is None) != (connection is None)
        self._target = target
        self._listener = listener
        self._client = _Client(connection) if connection else None
        self._door: queue.SimpleQueue[_Client | _End] = queue.SimpleQueue()
        self._waker, self._woken = socket.socketpair()
        self._engine_left = threading.Event()
        self._gate = threading.Thread(target=self._watch, name="gdb gate", daemon=True)

    # ---- the engine's thread ----------------------------------------------------------------------

    def serve(self) -> None:
        """Serve one debugger after the other, until `stop`; or the one there is, until it goes."""
        if self._client:
            self._door.put(self._client)
        self._gate.start()
        try:
            while isinstance(client := self._door.get(), _Client):
                self._talk(client)
                if self._listener is None:
                    break
        finally:
            self._engine_left.set()
            self.stop()
            self._gate.join()

    def _talk(self, client: _Client) -> None:
        session = Session(self._target)
        try:
            while not isinstance(event := client.next(), _End):
                client.set_moving(True)
                try:
                    self._do(client, session, session.receive(event))
                finally:
                    client.set_moving(False)
        finally:
            session.close()

    def _do(self, client: _Client, session: Session, acts: list[Act]) -> None:
        for act in acts:
            match act:
                case Send(data):
                    client.send(data)
                case Run() | Tell():
                    self._do(client, session, self._perform(client, session, act))
                case Close():
                    with suppress(OSError):
                        client.connection.shutdown(socket.SHUT_RDWR)

    def _perform(self, client: _Client, session: Session, act: Run | Tell) -> list[Act]:
        """Do what may take long, telling the debugger how it gets on."""

        def say(text: str) -> None:
            self._do(client, session, session.say(text))

        if isinstance(self._target, ReportsProgress):
            self._target.progress = say
        try:
            return _finish(session, act)
        finally:
            if isinstance(self._target, ReportsProgress):
                self._target.progress = None

    # ---- any thread -------------------------------------------------------------------------------

    def stop(self) -> None:
        """Let `serve` return, after the session under way has been ended."""
        with suppress(OSError):
            self._waker.send(b".")

    # ---- the gate's thread ------------------------------------------------------------------------

    def _watch(self) -> None:
        # Of the selectors, this one also takes a file as standard input.
        with selectors.PollSelector() as selector, self._woken, self._waker:
            selector.register(self._woken, selectors.EVENT_READ)
            if self._listener:
                selector.register(self._listener, selectors.EVENT_READ)
            if self._client:
                selector.register(self._client.connection, selectors.EVENT_READ)
            while self._watch_once(selector):
                pass
            if self._client:
                self._dismiss(self._client)
        self._door.put(_End())

    def _watch_once(self, selector: selectors.BaseSelector) -> bool:
        """Wait for something and see to it; False when there is nothing to wait for any more."""
        waits = self._client is not None and self._client.cancel_for(self._target)
        ready = {key.fileobj for key, _ in selector.select(_REPEAT_CANCEL if waits else None)}
        if self._woken in ready:
            return False
        if self._client and self._client.connection in ready:
            self._read(self._client, selector)
        if self._listener in ready:
            # Behind what a debugger said last may be its end, and then the seat is free.
            while self._client and self._has_more(self._client, selector):
                self._read(self._client, selector)
            self._let_in(selector)
        return True

    def _has_more(self, client: _Client, selector: selectors.BaseSelector) -> bool:
        return any(key.fileobj is client.connection for key, _ in selector.select(0))

    def _read(self, client: _Client, selector: selectors.BaseSelector) -> None:
        try:
            data = client.connection.recv(_AT_ONCE)
        except OSError:
            data = b""
        if data:
            client.arrived(data)
            return
        selector.unregister(client.connection)
        self._dismiss(client)

    def _dismiss(self, client: _Client) -> None:
        """A debugger is gone. What it was doing ends soon; until then it keeps being told so."""
        client.lost()
        while client.cancel_for(self._target) and not self._engine_left.wait(_REPEAT_CANCEL):
            pass
        client.connection.close()
        self._client = None

    def _let_in(self, selector: selectors.BaseSelector) -> None:
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        if self._client:
            threading.Thread(target=_send_away, args=(connection,), daemon=True).start()
            return
        if connection.family == socket.AF_INET:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client = _Client(connection)
        selector.register(connection, selectors.EVENT_READ)
        self._door.put(self._client)


def _finish(session: Session, act: Run | Tell) -> list[Act]:
    try:
        if isinstance(act, Tell):
            return session.told(act.find())
        return session.stopped(act.move())
    except TargetFault as fault:
        return session.told(f"{fault.text}\n") if isinstance(act, Tell) else session.refused(fault)


def _send_away(connection: socket.socket) -> None:
    """Say why, and wait until that has been read: closing at once would take it back."""
    with connection, suppress(OSError):
        connection.settimeout(_REFUSAL_SECONDS)
        connection.sendall(_REFUSAL)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(_AT_ONCE):
            pass


def listen_tcp(port: int) -> socket.socket:
    """Listen on this computer's own address; 0 takes any free port."""
    return socket.create_server(("127.0.0.1", port))


def listen_unix(path: Path) -> socket.socket:
    """Listen on a name in the file system; one that a server left behind is taken over.

    Raises: OSError.
    """
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode) and not _answers(path):
            path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        listener.listen()
    except OSError as error:
        listener.close()
        raise OSError(error.errno, error.strerror, str(path)) from error
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
    return True


__all__ = ["Connection", "Server", "StandardStreams", "listen_tcp", "listen_unix"]
