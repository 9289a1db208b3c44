"""The hub between Guests' network cards, and its wire to a program outside."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from itertools import count
from typing import TypeAlias

import pytest

from hostvm.observations import PacketSent
from hostvm.units import Tick
from replay.ethernet import LONGEST_FRAME, MOST_FRAMES, Ethernet, Peer, Port

PORTS = tuple(Port(guest, 1, 3, bytes((2, 0, 0, 0, 0, guest))) for guest in range(3))
ALL = b"\xff" * 6


def frame(to: bytes, text: bytes = b"text") -> bytes:
    return to + PORTS[0].address + b"\x88\xb5" + text


def sent(guest: int, data: bytes) -> PacketSent:
    return PacketSent(Tick(1), guest, 1, data)


def hub(peer: Peer | None = None) -> Ethernet:
    return Ethernet(PORTS, lambda: 50, peer)


def received(it: Ethernet, now: int = 1 << 60) -> list[tuple[int, bytes]]:
    return [(done.guest, done.data) for done in it.take_due(now)]


def test_a_frame_for_a_card_goes_to_it_alone() -> None:
    it = hub()
    it.sent(sent(0, frame(PORTS[2].address)), 100)
    assert it.next_due() == 150
    assert received(it, 149) == []
    assert received(it, 150) == [(2, frame(PORTS[2].address))]
    assert it.next_due() is None


def test_a_frame_for_all_goes_to_all_but_its_sender() -> None:
    it = hub()
    it.sent(sent(1, frame(ALL)), 0)
    assert [guest for guest, _ in received(it)] == [0, 2]


def test_frames_do_not_overtake() -> None:
    delays = count(1000, -300)
    it = Ethernet(PORTS, lambda: next(delays))
    for text in (b"a", b"b", b"c"):
        it.sent(sent(0, frame(PORTS[1].address, text)), 0)
    assert [data[-1:] for _, data in received(it)] == [b"a", b"b", b"c"]


def test_a_full_hub_drops() -> None:
    it = hub()
    for _ in range(MOST_FRAMES + 7):
        it.sent(sent(0, frame(PORTS[1].address)), 0)
    assert len(received(it)) == MOST_FRAMES


@pytest.mark.parametrize("packet", [sent(9, frame(ALL)), sent(0, b"short")])
def test_strangers_and_fragments_are_not_passed_on(packet: PacketSent) -> None:
    it = hub()
    it.sent(packet, 0)
    assert received(it) == []


# The peer outside.


Joined: TypeAlias = tuple[Ethernet, socket.socket]


@pytest.fixture
def joined() -> Iterator[Joined]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(5)
    peer = Peer(ours)
    with theirs:
        yield hub(peer), theirs
    peer.close()


def told(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def test_the_peer_gets_what_is_for_nobody_here(joined: Joined) -> None:
    it, theirs = joined
    it.sent(sent(0, frame(PORTS[1].address)), 0)
    it.sent(sent(0, frame(b"\x02outer")), 0)
    it.sent(sent(0, frame(ALL)), 0)
    assert theirs.recv(1000) == told(frame(b"\x02outer")) + told(frame(ALL))


def test_what_the_peer_sends_arrives_whole_in_whatever_pieces_it_comes(joined: Joined) -> None:
    it, theirs = joined
    for byte in told(frame(PORTS[2].address)) + told(frame(ALL)):
        theirs.send(bytes((byte,)))
        it.listen(0)
    assert [guest for guest, _ in received(it)] == [2, 0, 1, 2]


def test_a_peer_that_goes_away_is_a_cable_pulled_out(joined: Joined) -> None:
    it, theirs = joined
    theirs.close()
    it.listen(0)
    assert it.peer is not None
    assert it.peer.gone
    it.sent(sent(0, frame(ALL)), 0)
    assert [guest for guest, _ in received(it)] == [1, 2]


def test_a_peer_that_talks_nonsense_is_not_listened_to(joined: Joined) -> None:
    it, theirs = joined
    theirs.sendall(struct.pack(">I", LONGEST_FRAME + 1))
    it.listen(0)
    assert it.peer is not None
    assert it.peer.gone


def test_a_peer_that_does_not_read_loses_frames_and_stops_nobody(joined: Joined) -> None:
    it, theirs = joined
    for _ in range(2000):
        it.sent(sent(0, frame(ALL, bytes(1400))), 0)
    length = struct.unpack(">I", theirs.recv(4))[0]
    assert length == len(frame(ALL, bytes(1400)))
