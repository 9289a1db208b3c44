"""Framing: whatever the bytes and however they are cut, the same events; and what is sent can be read."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdbstub.packet import (
    PACKET_SIZE,
    Packet,
    PacketDecoder,
    PacketWire,
    Signal,
    WireEvent,
    checksum,
    escape,
    frame,
    run_length,
    unescape,
)

# Bytes that mean something here, and some that do not.
NOISE = st.lists(st.sampled_from(list(b"$#}*+-\x030fxa\x00\xff")), max_size=60).map(bytes)


def raw(payload: bytes) -> bytes:
    body = escape(payload)
    return b"$%b#%02x" % (body, checksum(body))


def decode(data: bytes) -> list[WireEvent]:
    return PacketDecoder().receive(data)


def expand(body: bytes) -> bytes:
    """Run-length decoding, as a debugger does it."""
    return re.sub(rb"(.)\*(.)", lambda m: m[1] * (m[2][0] - 29 + 1), body, flags=re.DOTALL)


def payloads(events: list[WireEvent]) -> list[bytes]:
    return [event.payload for event in events if isinstance(event, Packet)]


@given(NOISE)
def test_however_bytes_are_cut_the_events_are_the_same(data: bytes) -> None:
    single = PacketDecoder()
    assert [e for byte in data for e in single.receive(bytes((byte,)))] == decode(data)


@given(st.lists(st.binary(max_size=40), max_size=5), NOISE.filter(lambda n: b"$" not in n))
def test_packets_are_found_between_noise(contents: list[bytes], noise: bytes) -> None:
    data = noise + noise.join(map(raw, contents))
    found = [event for event in decode(data) if isinstance(event, Packet)]
    assert [packet.payload for packet in found] == contents
    assert all(packet.intact for packet in found)


@given(st.binary(max_size=300))
def test_escaping_is_undone(data: bytes) -> None:
    assert unescape(escape(data)) == data
    assert not set(escape(data)) & set(b"#$*")


@given(st.lists(st.tuples(st.sampled_from(b"0fx1\x00\xff"), st.integers(1, 300)), max_size=9))
def test_runs_come_back(runs: list[tuple[int, int]]) -> None:
    data = b"".join(bytes((character,)) * length for character, length in runs)
    short = run_length(data)
    assert expand(short) == data
    assert len(short) <= len(data)
    assert not set(short) & set(b"#$")


@pytest.mark.parametrize("length", range(1, 220))
def test_a_run_of_any_length_avoids_the_framing_characters(length: int) -> None:
    short = run_length(b"0" * length)
    assert expand(short) == b"0" * length
    assert not set(short) & set(b"#$+-" if length == 7 else b"#$")
    assert all(b < 127 for b in short)


def test_empty_memory_is_short_on_the_wire_in_hexadecimal_and_in_binary() -> None:
    assert len(run_length(b"b" + bytes(1 << 16))) < 1 << 12
    assert len(run_length(b"0" * (1 << 17))) < 1 << 13


def test_an_interrupt_is_one_outside_of_packets_only() -> None:
    inside = raw(b"X0,1:\x03")
    assert decode(b"\x03" + inside) == [Signal.INTERRUPT, Packet(b"X0,1:\x03", intact=True)]


def test_a_packet_that_was_cut_off_is_forgotten_when_another_begins() -> None:
    assert payloads(decode(b"$m123" + raw(b"g"))) == [b"g"]


def test_a_packet_too_long_is_reported_and_not_kept() -> None:
    decoder = PacketDecoder()
    decoder.receive(b"$")
    for _ in range(20):
        assert decoder.receive(b"a" * (PACKET_SIZE // 8)) == []
        assert len(decoder._pending) <= PACKET_SIZE + PACKET_SIZE // 8 + 8
    assert decoder.receive(b"#00" + raw(b"g")) == [Signal.OVERSIZE, Packet(b"g", intact=True)]


def test_the_longest_packet_is_taken() -> None:
    assert payloads(decode(raw(b"a" * PACKET_SIZE))) == [b"a" * PACKET_SIZE]


def test_packets_are_acknowledged_until_nobody_wants_it() -> None:
    wire = PacketWire()
    assert wire.take(Packet(b"g", intact=True)) == (b"+", True)
    assert wire.take(Packet(b"g", intact=False)) == (b"-", False)
    wire.stop_acks()
    assert wire.take(Packet(b"g", intact=True)) == (b"", True)


def test_what_was_not_understood_is_sent_again_until_it_was() -> None:
    wire = PacketWire()
    sent = wire.send(b"OK")
    assert wire.take(Signal.NACK) == (sent, False)
    assert wire.take(Signal.NACK) == (sent, False)
    wire.take(Signal.ACK)
    assert wire.take(Signal.NACK) == (b"", False)


def test_the_answer_that_ends_acknowledgement_can_still_be_resent() -> None:
    wire = PacketWire()
    sent = wire.send(b"OK")
    wire.stop_acks()
    assert wire.take(Signal.NACK) == (sent, False)
    wire.send(b"later")
    assert wire.take(Signal.NACK) == (sent, False)


def test_a_packet_said_twice_for_want_of_an_answer_is_answered_once() -> None:
    wire = PacketWire()
    packet = Packet(b"qSupported", intact=True)
    assert wire.take(packet) == (b"+", True)
    wire.send(b"yes")
    assert wire.take(packet) == (b"+", False)
    wire.take(Signal.ACK)
    assert wire.take(packet) == (b"+", True)


def test_a_frame_is_what_the_decoder_reads() -> None:
    (event,) = decode(frame(b"0" * 20))
    assert isinstance(event, Packet)
    assert event.intact
    assert expand(event.raw) == b"0" * 20
