"""The Ethernet between the Guests of a recording: a hub with a wire to each network card, and one to somebody outside.

What a Guest sends is an observation of the machine; here it becomes what other cards will get, after the time that a
wire takes. A frame for a known card goes to that card alone, every other one to all but its sender. Frames overtake
nobody on one wire, and a hub that is full drops what comes.

The peer outside is another program, at a Unix socket, which is told each frame with four bytes of length before it,
high byte first: what QEMU's `-netdev stream` and passt speak. So a Guest can be given a real network without any
privilege. Only what reaches a Guest is in the trace; a replay needs no peer.

Read next: virtual_world.py.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hostvm.abi import generation
from hostvm.devices.config import NetConfig
from hostvm.devices.placing import place_devices
from hostvm.launcher import GuestConfig
from hostvm.observations import PacketSent
from hostvm.world import Completion

SHORTEST_FRAME = 14
LONGEST_FRAME = 1 << 16
MOST_FRAMES = 1024
MOST_UNSENT = 1 << 20
READ_BYTES = 1 << 16
_LENGTH = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Port:
    """A network card at the hub: whose, which interrupt its queue for input has, and its six-byte address."""

    guest: int
    device: int
    irq: int
    address: bytes


def ports_of(guests: Sequence[GuestConfig]) -> tuple[Port, ...]:
    """The network cards of these Guests."""
    return tuple(
        Port(number, placed.number, placed.queues[0].irq, placed.config.address)
        for number, guest in enumerate(guests)
        for placed in place_devices(
            generation(guest.abi).device_page, guest.memory, guest.devices
        ).devices
        if isinstance(placed.config, NetConfig)
    )


class Peer:
    """Somebody outside, at the other end of a stream socket; that he goes away is like a cable pulled out."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._stream.setblocking(False)
        self._unread = b""
        self._unsent = b""
        self.gone = False

    def fileno(self) -> int:
        """What to wait for: readable when there may be frames."""
        return self._stream.fileno()

    def send(self, frame: bytes) -> None:
        """Pass a frame on; one that there is no room for is lost."""
        if not self.gone and len(self._unsent) <= MOST_UNSENT:
            self._unsent += _LENGTH.pack(len(frame)) + frame
        self._push()

    def _push(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._stream.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def frames(self) -> Iterator[bytes]:
        """What has come by now."""
        self._push()
        self._pull()
        while len(self._unread) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._unread)
            if length > LONGEST_FRAME:
                self.close()
                return
            end = _LENGTH.size + length
            if len(self._unread) < end:
                return
            frame, self._unread = self._unread[_LENGTH.size : end], self._unread[end:]
            yield frame

    def _pull(self) -> None:
        try:
            read = self._stream.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            read = b""
        if read:
            self._unread += read
        else:
            self.close()

    def close(self) -> None:
        """Pull the cable out."""
        self.gone = True
        self._unread = self._unsent = b""
        self._stream.close()


@dataclass(frozen=True, slots=True)
class _Underway:
    due: int
    port: Port
    frame: bytes


class Ethernet:
    """The hub. `delay` draws the nanoseconds that a frame takes."""

    def __init__(
        self, ports: Sequence[Port], delay: Callable[[], int], peer: Peer | None = None
    ) -> None:
        self.peer = peer
        self._ports = {(port.guest, port.device): port for port in ports}
        self._delay = delay
        self._underway: deque[_Underway] = deque()

    def sent(self, packet: PacketSent, now: int) -> None:
        """A Guest sends; a device that is not at this hub talks to nobody."""
        sender = self._ports.get((packet.guest, packet.device))
        if sender is None:
            return
        outside = self._deliver(packet.data, now, sender)
        if self.peer is not None and outside:
            self.peer.send(packet.data)

    def listen(self, now: int) -> None:
        """Take what the peer has sent."""
        if self.peer is not None and not self.peer.gone:
            for frame in self.peer.frames():
                self._deliver(frame, now, None)

    def _deliver(self, frame: bytes, now: int, sender: Port | None) -> bool:
        """Put a frame on its way; whether it is also for somebody outside."""
        if len(frame) < SHORTEST_FRAME:
            return False
        others = [port for port in self._ports.values() if port is not sender]
        own = [port for port in others if port.address == frame[: len(port.address)]]
        last = self._underway[-1].due if self._underway else 0
        due = max(now + self._delay(), last)
        for port in own or others:
            if len(self._underway) < MOST_FRAMES:
                self._underway.append(_Underway(due, port, frame))
        return not own

    def next_due(self) -> int | None:
        """When the next frame arrives."""
        return self._underway[0].due if self._underway else None

    def take_due(self, now: int) -> tuple[Completion, ...]:
        """Pass out the frames that have arrived."""
        there: list[Completion] = []
        while self._underway and self._underway[0].due <= now:
            one = self._underway.popleft()
            port = one.port
            there.append(Completion(port.guest, port.device, port.irq, one.frame))
        return tuple(there)


__all__ = ["LONGEST_FRAME", "MOST_FRAMES", "Ethernet", "Peer", "Port", "ports_of"]
