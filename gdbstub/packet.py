"""The framing of the GDB Remote Serial Protocol: bytes in, events out; payloads in, bytes out. No socket, no meaning.

A packet is `$payload#cc`, cc being the payload's sum. What makes it tricky is what may come at any moment: (i) half a
packet, or several; (ii) 0x03, the interrupt, which is a byte of data inside a packet and a message outside of one;
(iii) acknowledgements, until the peer has asked for none. The peer's binary data is escaped with `}`; what we send may
besides be run-length encoded with `*`.

`PacketDecoder` may run on another thread than the rest, since it only reads; `PacketWire` says what goes back. However
the bytes are cut, the same events come out, and there is no sequence of bytes that is an error here: damaged packets
are answered with `-`, and what stands between packets means nothing.

Source: GDB manual, E.1 Overview (packet framing), E.9 Packet Acknowledgment. Read next: commands.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

# What we promise to take and to send in one packet, framing included; told to the peer as PacketSize.
PACKET_SIZE = 0x100000

INTERRUPT = 0x03
_ESCAPE = 0x7D
_ESCAPED = re.compile(rb"}(.)", re.DOTALL)
_MUST_ESCAPE = re.compile(rb"[#$}*]")
_START = ord("$")
_END = ord("#")
# Runs occur in memory, in hexadecimal or not, and in unknown registers. Shortening one takes us as long as it takes GDB
# to read some thirty characters; from a pipe GDB is far slower, but then it is the long runs that matter.
_SHORTEST_RUN = 32
_RUNS = tuple(
    (bytes((c,)) * _SHORTEST_RUN, re.compile(re.escape(bytes((c,))) + rb"{%d,}" % _SHORTEST_RUN))
    for c in b"0fx\x00\xff"
)
_WORTH_WHILE = 1024
_LONGEST_RUN = 98
_RUN_BIAS = 29


@dataclass(frozen=True, slots=True)
class Packet:
    """A whole packet as it was on the wire: payload still escaped, and whether its sum agreed."""

    raw: bytes
    intact: bool

    @property
    def payload(self) -> bytes:
        """What the peer meant."""
        return unescape(self.raw)


class Signal(Enum):
    """What arrives outside of packets; OVERSIZE stands for a packet longer than PACKET_SIZE, which nobody keeps."""

    ACK = "+"
    NACK = "-"
    INTERRUPT = "^C"
    OVERSIZE = "a packet too long"


WireEvent: TypeAlias = Packet | Signal

_SIGNALS = {ord("+"): Signal.ACK, ord("-"): Signal.NACK, INTERRUPT: Signal.INTERRUPT}


def checksum(data: bytes) -> int:
    """The sum that follows `#`."""
    return sum(data) & 0xFF


def escape(data: bytes) -> bytes:
    """Make binary data fit to stand in a packet."""
    return _MUST_ESCAPE.sub(lambda match: bytes((_ESCAPE, match[0][0] ^ 0x20)), data)


def unescape(data: bytes) -> bytes:
    """Take back `escape`; a `}` at the very end stands for itself."""
    if _ESCAPE not in data:
        return data
    return _ESCAPED.sub(lambda match: bytes((match[1][0] ^ 0x20,)), data)


def _shorten(run: re.Match[bytes]) -> bytes:
    character, length = run[0][:1], len(run[0])
    out = b""
    while length:
        piece = min(length, _LONGEST_RUN)
        # These two lengths would be written as `#` and `$`.
        if piece + _RUN_BIAS - 1 in (_END, _START):
            piece = _END - _RUN_BIAS
        length -= piece
        repeats = piece - 1
        out += character * piece if piece < 4 else character + bytes((42, repeats + _RUN_BIAS))
    return out


def run_length(data: bytes) -> bytes:
    """Shorten the runs in an escaped payload, where there are enough of them."""
    for sample, run in _RUNS:
        if data.count(sample) * _WORTH_WHILE > len(data):
            data = run.sub(_shorten, data)
    return data


def frame(payload: bytes) -> bytes:
    """A packet around a payload that is escaped where it must be."""
    body = run_length(payload)
    return b"$%b#%02x" % (body, checksum(body))


class PacketDecoder:
    """Bytes in, events out; keeps only the packet that is on its way in."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._too_long = False

    def receive(self, data: bytes) -> list[WireEvent]:
        """Take bytes as they come; return what has become complete by them, in order."""
        self._pending += data
        events: list[WireEvent] = []
        at = 0
        while at < len(self._pending):
            if self._pending[at] != _START:
                signal = _SIGNALS.get(self._pending[at])
                at += 1
                if signal:
                    events.append(signal)
                continue
            at, event = self._packet_at(at)
            if event is None:
                break
            events.append(event)
        del self._pending[:at]
        return events

    def _packet_at(self, start: int) -> tuple[int, WireEvent | None]:
        """The packet that begins at `start`: where it ends, and what it is; None if the rest is still to come."""
        end = self._pending.find(_END, start)
        # A `$` is always escaped inside a packet: another one means that the first packet was cut off.
        again = self._pending.rfind(_START, start + 1, end if end >= 0 else len(self._pending))
        if again >= 0:
            start, self._too_long = again, False
        if end < 0 or end + 3 > len(self._pending):
            return self._await_end(start, end)
        body = bytes(self._pending[start + 1 : end])
        if self._too_long or len(body) > PACKET_SIZE:
            self._too_long = False
            return end + 3, Signal.OVERSIZE
        given = bytes(self._pending[end + 1 : end + 3])
        return end + 3, Packet(body, given.lower() == b"%02x" % checksum(body))

    def _await_end(self, start: int, end: int) -> tuple[int, None]:
        """Keep `$` and what belongs to it, but never much more than a packet may have."""
        body = slice(start + 1, end if end >= 0 else len(self._pending))
        if self._too_long or body.stop - body.start > PACKET_SIZE:
            self._too_long = True
            del self._pending[body]
        return start, None


class PacketWire:
    """Our side of the connection: acknowledgements, resending, and what is to be sent."""

    def __init__(self) -> None:
        self._acks = True
        self._unacknowledged = b""
        self._taken = b""

    def stop_acks(self) -> None:
        """No more acknowledgements, from either side; the answer to the request for this must have been sent."""
        self._acks = False

    def send(self, payload: bytes) -> bytes:
        """The bytes that bring this payload to the peer."""
        framed = frame(payload)
        if self._acks:
            self._unacknowledged = framed
        return framed

    def take(self, event: WireEvent) -> tuple[bytes, bool]:
        """What must be sent at once because of `event`, and whether the event is to be acted upon."""
        match event:
            case Signal.ACK:
                self._unacknowledged = b""
            case Signal.NACK:
                return self._unacknowledged, False
            case Signal.INTERRUPT:
                return b"", True
            case Packet(intact=False) if self._acks:
                return b"-", False
            case Packet(raw) if self._acks:
                # A peer that got tired of waiting says the same again, before it has seen the answer.
                is_again = bool(self._unacknowledged) and raw == self._taken
                self._taken = raw
                return b"+", not is_again
            case _:
                # Without acknowledgements there is nobody to ask again; the bytes came through a reliable stream.
                return b"+" if self._acks else b"", True
        return b"", False


__all__ = [
    "INTERRUPT",
    "PACKET_SIZE",
    "Packet",
    "PacketDecoder",
    "PacketWire",
    "Signal",
    "WireEvent",
    "checksum",
    "escape",
    "frame",
    "run_length",
    "unescape",
]
