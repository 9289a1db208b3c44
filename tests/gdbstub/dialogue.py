"""A debugger for tests: talks to a Session without a socket, or to a server over one."""

from __future__ import annotations

import re
import socket

from gdbstub.errors import TargetFault
from gdbstub.packet import Packet, PacketDecoder, Signal, WireEvent, checksum, escape
from gdbstub.session import Act, Close, Run, Send, Session, Tell
from gdbstub.target import Target
from tests.patience import PATIENCE

# What GDB 18 offers.
GDB = b"qSupported:multiprocess+;swbreak+;hwbreak+;vContSupported+;error-message+;xmlRegisters=i386"


def framed(payload: bytes) -> bytes:
    """A packet as a debugger sends it: binary, escaped."""
    body = escape(payload)
    return b"$%b#%02x" % (body, checksum(body))


def expand(body: bytes) -> bytes:
    """Undo run-length encoding."""
    return re.sub(rb"(.)\*(.)", lambda m: m[1] * (m[2][0] - 28), body, flags=re.DOTALL)


def payload_of(packet: Packet) -> bytes:
    """What a packet of the stub says."""
    assert packet.intact
    return Packet(expand(packet.raw), intact=True).payload


class Dialogue:
    """A session with `target`; `ask` returns the stub's payloads. `closed` when it has said goodbye."""

    def __init__(self, target: Target, *, offers: bytes | None = GDB) -> None:
        self.session = Session(target)
        self.target = target
        self.closed = False
        self.sent = bytearray()
        self._decoder = PacketDecoder()
        if offers is not None:
            self.ask(offers)
            assert self.ask(b"QStartNoAckMode") == [b"OK"]

    def feed(self, event: WireEvent) -> None:
        self._perform(self.session.receive(event))

    def _perform(self, acts: list[Act]) -> None:
        for act in acts:
            match act:
                case Send(data):
                    self.sent += data
                case Run(move):
                    try:
                        stop = move()
                    except TargetFault as fault:
                        self._perform(self.session.refused(fault))
                    else:
                        self._perform(self.session.stopped(stop))
                case Tell(find):
                    try:
                        text = find()
                    except TargetFault as fault:
                        text = f"{fault.text}\n"
                    self._perform(self.session.told(text))
                case Close():
                    self.closed = True

    def bytes_in(self, data: bytes) -> bytes:
        """Bytes of the debugger's in, all bytes of the stub's out."""
        for event in self._decoder.receive(data):
            self.feed(event)
        out, self.sent = bytes(self.sent), bytearray()
        return out

    def ask(self, payload: bytes) -> list[bytes]:
        """All payloads that come because of one."""
        out = PacketDecoder().receive(self.bytes_in(b"+" + framed(payload)))
        return [payload_of(event) for event in out if isinstance(event, Packet)]

    def one(self, payload: bytes) -> bytes:
        """The only payload that comes because of one."""
        (answer,) = self.ask(payload)
        return answer

    def register(self, number: int) -> int:
        return int.from_bytes(bytes.fromhex(self.one(b"p%x" % number).decode()), "little")


class Client:
    """A debugger at the other end of a socket."""

    def __init__(self, connection: socket.socket, *, offers: bytes | None = GDB) -> None:
        self.connection = connection
        self.connection.settimeout(PATIENCE)
        self._decoder = PacketDecoder()
        self._events: list[WireEvent] = []
        if offers is not None:
            self.ask(offers)
            assert self.ask(b"QStartNoAckMode") == b"OK"

    def send(self, payload: bytes) -> None:
        self.connection.sendall(framed(payload))

    def interrupt(self) -> None:
        self.connection.sendall(b"\x03")

    def receive(self) -> bytes:
        """The next payload."""
        while True:
            for at, event in enumerate(self._events):
                if isinstance(event, Packet):
                    del self._events[: at + 1]
                    return payload_of(event)
                assert event in {Signal.ACK, Signal.NACK}
            data = self.connection.recv(1 << 16)
            if not data:
                raise EOFError
            self._events += self._decoder.receive(data)

    def ask(self, payload: bytes) -> bytes:
        self.send(payload)
        return self.receive()

    def answer(self) -> bytes:
        """The next payload that is no console output."""
        while (payload := self.receive()).startswith(b"O") and payload != b"OK":
            pass
        return payload

    def close(self) -> None:
        self.connection.close()
