"""Whatever bytes come, whole or one at a time: the same answers, no undocumented error, no move unasked."""

from __future__ import annotations

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from gdbstub import commands as c
from gdbstub.errors import PacketError
from gdbstub.packet import Packet, PacketDecoder
from gdbstub.parser import parse_command
from tests.gdbstub.conversations import conversations
from tests.gdbstub.dialogue import Dialogue
from tests.gdbstub.fake_target import FakeTarget

MOVING = c.Resume | c.Reverse | c.Restart


def asks_for_a_move(data: bytes) -> bool:
    """Whether any packet in it does; monitor commands can, too."""
    for event in PacketDecoder().receive(data):
        if isinstance(event, Packet):
            try:
                command = parse_command(event.payload)
            except PacketError:
                continue
            if isinstance(command, MOVING | c.Monitor):
                return True
    return False


@given(conversations())
def test_bytes_whole_or_one_at_a_time_have_the_same_effect(data: bytes) -> None:
    whole, single = (Dialogue(FakeTarget(length=40), offers=None) for _ in range(2))
    out = whole.bytes_in(data)
    assert b"".join(single.bytes_in(bytes((byte,))) for byte in data) == out
    targets = whole.target, single.target
    assert all(isinstance(target, FakeTarget) for target in targets)
    first, second = targets
    assert isinstance(first, FakeTarget)
    assert isinstance(second, FakeTarget)
    assert first.tick == second.tick
    assert first.points.values().__repr__() == second.points.values().__repr__()


@given(conversations())
def test_nothing_moves_unless_a_packet_says_so(data: bytes) -> None:
    target = FakeTarget(length=40)
    target.tick = 20
    Dialogue(target, offers=None).bytes_in(data)
    assert target.tick == 20 or asks_for_a_move(data)


@given(conversations())
def test_after_anything_a_sane_question_is_answered(data: bytes) -> None:
    gdb = Dialogue(FakeTarget(length=40), offers=None)
    gdb.bytes_in(data)
    # An unfinished packet ends where another begins; one that lacks its sum takes what comes for that, so that the
    # question must be asked again.
    assert b"QC" in b"".join(gdb.ask(b"qC") + gdb.ask(b"qC"))


@settings(max_examples=int(os.environ.get("FUZZ_EXAMPLES", "0")) or 30)
@given(st.lists(conversations(), max_size=4))
def test_every_session_leaves_the_target_without_points(parts: list[bytes]) -> None:
    target = FakeTarget(length=40)
    for part in parts:
        gdb = Dialogue(target, offers=None)
        gdb.bytes_in(part)
        gdb.session.close()
        assert target.points == {}
