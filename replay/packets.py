"""What went over the network, as a capture that Wireshark and tcpdump read: pcapng.

Each network card is an interface of the capture; what its Guest sent is outbound there, what reached the card inbound,
so that a frame between two Guests stands twice, each time with its moment. A frame's time is that of the last clock
reading before it; its exact place in the run, the tick, is a comment.

Source: the pcapng file format (draft-ietf-opsawg-pcapng). Read next: ethernet.py, export.py.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from hostvm.devices.config import NetConfig, parse_device
from replay.events import ClockReading, DeviceCompletion, Event, PacketSent
from replay.log import TraceReader

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_BYTE_ORDER = 0x1A2B3C4D
_ETHERNET = 1
_COMMENT, _FLAGS, _NAME, _APPLICATION, _ADDRESS, _RESOLUTION = 1, 2, 2, 4, 6, 9
_NANOSECONDS = b"\x09"
_INBOUND, _OUTBOUND = 1, 2


def capture(reader: TraceReader) -> Iterator[bytes]:
    """The blocks of a capture of all that went over the network in a trace.

    Raises: TraceError when it is damaged; ConfigurationError when it names a device that there is not.
    """
    cards = _cards(reader)
    yield _block(
        _SECTION,
        struct.pack("<IHHq", _BYTE_ORDER, 1, 0, -1),
        _option(_APPLICATION, b"lgreplay"),
    )
    for (guest, device), (_, config) in cards.items():
        yield _block(
            _INTERFACE,
            struct.pack("<HHI", _ETHERNET, 0, 0),
            _option(_NAME, f"guest {guest} device {device}".encode()),
            _option(_ADDRESS, config.address),
            _option(_RESOLUTION, _NANOSECONDS),
        )
    now = 0
    for event in reader.events():
        match event:
            case ClockReading(ns=ns):
                now = max(now, ns)
            case PacketSent(guest=guest, device=device) if (guest, device) in cards:
                yield _packet(cards[guest, device][0], now, event, event.data, _OUTBOUND)
            case DeviceCompletion(guest=guest, device=device) if (guest, device) in cards:
                yield _packet(cards[guest, device][0], now, event, event.data, _INBOUND)


def _cards(reader: TraceReader) -> dict[tuple[int, int], tuple[int, NetConfig]]:
    """All network cards by Guest and device: which interface of the capture each is, and what it is."""
    found: dict[tuple[int, int], tuple[int, NetConfig]] = {}
    for guest, setup in enumerate(reader.header.guests):
        for device, text in enumerate(setup.devices):
            config = parse_device(text)
            if isinstance(config, NetConfig):
                found[guest, device] = len(found), config
    return found


def _packet(interface: int, now: int, event: Event, frame: bytes, direction: int) -> bytes:
    head = struct.pack("<5I", interface, now >> 32, now & 0xFFFFFFFF, len(frame), len(frame))
    return _block(
        _PACKET,
        head + _padded(frame),
        _option(_COMMENT, f"tick {event.tick}".encode()),
        _option(_FLAGS, struct.pack("<I", direction)),
    )


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _block(kind: int, body: bytes, *options: bytes) -> bytes:
    content = body + b"".join(options) + _option(0, b"")
    length = struct.pack("<I", 12 + len(content))
    return struct.pack("<I", kind) + length + content + length


__all__ = ["capture"]
