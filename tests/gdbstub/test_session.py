"""A session: each command does what the protocol says, for whom it is offered, and leaves the rest alone."""

from __future__ import annotations

import binascii
from collections.abc import Sequence

import pytest

from gdbstub.agent import Expression
from gdbstub.commands import Point
from gdbstub.errors import TargetFault
from gdbstub.packet import PACKET_SIZE, Signal
from gdbstub.registers import NUMBER, WIDTHS
from gdbstub.target import Move, Reason, ReasonKind, RegisterSet, Stop
from tests.gdbstub.dialogue import Dialogue
from tests.gdbstub.fake_target import (
    COUNTER,
    END,
    HANDLER,
    HISTORY,
    LAP,
    MAIN,
    SHADOW,
    SYSCALL,
    WORK,
    FakeTarget,
)

TICK, EIP, ECX = NUMBER["tick"], NUMBER["eip"], NUMBER["ecx"]


class BareTarget:
    """A target that can do what every target can, and no more."""

    def __init__(self) -> None:
        self._inner = FakeTarget()

    def threads(self) -> Sequence[int]:
        return self._inner.threads()

    def current_thread(self) -> int:
        return self._inner.current_thread()

    def read_registers(self, thread: int) -> RegisterSet:
        return self._inner.read_registers(thread)

    def read_memory(self, thread: int, address: int, length: int) -> bytes:
        return self._inner.read_memory(thread, address, length)

    def advance(self, move: Move) -> Stop:
        return self._inner.advance(move)

    def cancel(self) -> None:
        self._inner.cancel()


@pytest.fixture
def target() -> FakeTarget:
    return FakeTarget()


@pytest.fixture
def gdb(target: FakeTarget) -> Dialogue:
    return Dialogue(target)


def text(reply: bytes) -> str:
    assert reply.startswith(b"O")
    return bytes.fromhex(reply[1:].decode()).decode()


# ---- what is promised ------------------------------------------------------------------------------


def features(reply: bytes) -> set[str]:
    return set(reply.decode().split(";"))


def test_what_a_target_can_do_is_promised(target: FakeTarget) -> None:
    offered = features(Dialogue(target, offers=None).one(b"qSupported:error-message+;swbreak+"))
    assert offered == {
        f"PacketSize={PACKET_SIZE:x}",
        "QStartNoAckMode+",
        "vContSupported+",
        "binary-upload+",
        "ReverseStep+",
        "ReverseContinue+",
        "swbreak+",
        "hwbreak+",
        "ConditionalBreakpoints+",
        "qXfer:exec-file:read+",
        "qXfer:features:read+",
        "qXfer:libraries:read+",
        "qXfer:memory-map:read+",
        "qXfer:threads:read+",
        "error-message+",
    }


def test_what_a_target_cannot_do_is_not_promised_and_not_answered() -> None:
    gdb = Dialogue(BareTarget(), offers=None)
    offered = features(gdb.one(b"qSupported:swbreak+"))
    assert offered == {
        f"PacketSize={PACKET_SIZE:x}",
        "QStartNoAckMode+",
        "vContSupported+",
        "binary-upload+",
    }
    assert gdb.one(b"vCont?") == b"vCont;c;C;s;S"
    for payload in (
        b"bs",
        b"bc",
        b"Z0,1000,1",
        b"z2,1000,4",
        b"M8048000,1:00",
        b"P8=00000000",
        b"qXfer:features:read:target.xml:0,100",
        b"vFile:open:2f,0,0",
        b"vFile:setfs:0",
        b"qRcmd,7768656e",
        b"vRun;",
        b"R00",
        b"qThreadExtraInfo,3",
    ):
        assert gdb.one(payload) == b"", payload


def test_range_steps_are_offered(gdb: Dialogue) -> None:
    assert gdb.one(b"vCont?") == b"vCont;c;C;s;S;r"


@pytest.mark.parametrize(
    "payload", [b"vMustReplyEmpty", b"qTStatus", b"QNonStop:1", b"qExecAndArgs", b"jThreadsInfo"]
)
def test_what_is_unknown_gets_the_empty_answer(gdb: Dialogue, payload: bytes) -> None:
    assert gdb.one(payload) == b""


# ---- registers and memory --------------------------------------------------------------------------


def test_registers_are_those_of_the_thread_chosen(gdb: Dialogue, target: FakeTarget) -> None:
    gdb.ask(b"Z0,%x,1" % HANDLER)
    gdb.ask(b"vCont;c")
    assert gdb.one(b"g") == b"".join(
        value.hex().encode() if value is not None else b"xx" * width
        for value, width in zip(target.read_registers(2), WIDTHS, strict=True)
    )
    assert gdb.register(EIP) == HANDLER
    assert gdb.one(b"Hg3") == b"OK"
    assert gdb.register(EIP) == SYSCALL + 2
    assert gdb.one(b"p%x" % ECX) == b"xxxxxxxx"
    assert gdb.one(b"Hg9").startswith(b"E.there is no thread 9")


def test_after_a_stop_the_thread_chosen_is_the_one_that_stopped(gdb: Dialogue) -> None:
    gdb.ask(b"Hg2")
    gdb.ask(b"Z0,%x,1" % WORK)
    assert b"thread:3;" in gdb.one(b"vCont;c")
    assert gdb.register(EIP) == WORK


def test_a_stop_brings_the_registers_wanted_next(gdb: Dialogue) -> None:
    reply = gdb.one(b"vCont;s:3;c").decode()
    fields = dict(part.split(":") for part in reply[3:].rstrip(";").split(";"))
    assert fields["8"] == (MAIN + 5).to_bytes(4, "little").hex()
    assert fields[f"{TICK:x}"] == (1).to_bytes(8, "little").hex()
    assert reply.startswith("T05")


def test_memory_is_read_as_far_as_there_is_any(gdb: Dialogue) -> None:
    assert gdb.one(b"m%x,5" % MAIN) == b"b905000000"
    assert gdb.one(b"x%x,5" % MAIN) == b"b\xb9\x05\0\0\0"
    end = MAIN + 0x1000
    assert len(gdb.one(b"m%x,40" % (end - 8))) == 16
    assert gdb.one(b"m10,4") == b"E.no memory at 0x00000010"
    assert gdb.one(b"mfffffffc,20") == b"E.no memory at 0xfffffffc"
    assert gdb.one(b"m10,0") == b""


def test_binary_memory_is_escaped(gdb: Dialogue, target: FakeTarget) -> None:
    start = next(a for a in range(MAIN, MAIN + 0x100) if target.state.read(a, 1) == b"\x90")
    assert gdb.one(b"x%x,3" % start)[1:] == target.state.read(start, 3)


def test_long_reads_stay_within_the_packet_size(gdb: Dialogue) -> None:
    gdb.bytes_in(b"")
    raw = gdb.one(b"m%x,1000" % (MAIN + 0x2000))
    assert len(raw) == 0x2000
    assert len(gdb.one(b"m%x,ffffff" % (MAIN + 0x2000))) <= PACKET_SIZE


def test_writes_reach_the_target(gdb: Dialogue, target: FakeTarget) -> None:
    assert gdb.one(b"P8=78563412") == b"OK"
    assert gdb.one(b"M%x,2:abcd" % COUNTER) == b"OK"
    assert gdb.one(b"X%x,3:\x00}#" % COUNTER) == b"OK"
    assert gdb.one(b"X%x,0:" % COUNTER) == b"OK"
    assert target.writes == [
        (3, 8, b"\x78\x56\x34\x12"),
        (3, COUNTER, b"\xab\xcd"),
        (3, COUNTER, b"\x00}#"),
    ]


def test_what_cannot_be_written_is_refused(gdb: Dialogue, target: FakeTarget) -> None:
    assert gdb.one(b"P%x=0000000000000000" % TICK) == b"E.this register is read-only"
    assert gdb.one(b"P8=0000").startswith(b"E.eip has 4 bytes")
    assert gdb.one(b"Pff=00").startswith(b"E.there is no register 255")
    assert gdb.one(b"M10,1:00") == b"E.no memory at 0x00000010"
    assert gdb.one(b"G00").startswith(b"E.")
    assert target.writes == []


def test_all_registers_at_once_writes_those_that_differ(gdb: Dialogue, target: FakeTarget) -> None:
    known = gdb.one(b"g")
    assert gdb.one(b"G" + b"01000000" + known[8:]) == b"OK"
    assert target.writes == [(3, 0, b"\1\0\0\0")]


def test_memory_is_searched(gdb: Dialogue) -> None:
    assert gdb.one(b"qSearch:memory:%x;1000;\xcd\x80" % MAIN) == b"1,%x" % SYSCALL
    assert gdb.one(b"qSearch:memory:%x;1000;\xcd\x81" % MAIN) == b"0"
    assert gdb.one(b"qSearch:memory:10;ffffffffffff;\xcd") == b"0"


def test_memory_is_summed(gdb: Dialogue, target: FakeTarget) -> None:
    assert gdb.one(b"qCRC:%x,0" % MAIN) == b"Cffffffff"
    data = target.state.read(MAIN, 100)
    reflected = bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)
    expected = int(f"{binascii.crc32(reflected) ^ 0xFFFFFFFF:032b}"[::-1], 2)
    assert gdb.one(b"qCRC:%x,64" % MAIN) == b"C%x" % expected
    assert gdb.one(b"qCRC:10,4").startswith(b"E.")


# ---- errors ----------------------------------------------------------------------------------------


def test_errors_are_numbers_for_those_who_do_not_understand_words(target: FakeTarget) -> None:
    gdb = Dialogue(target, offers=b"qSupported:swbreak+")
    assert gdb.one(b"m10,4") == b"E0e"
    assert gdb.one(b"m10") == b"E16"


def test_an_error_is_one_printable_line(gdb: Dialogue) -> None:
    reply = gdb.one(b"m\x00\xff\n,4")
    assert reply.startswith(b"E.")
    assert reply.decode("ascii").isprintable()


def test_a_packet_too_long_is_an_error_and_no_end(gdb: Dialogue) -> None:
    gdb.feed(Signal.OVERSIZE)
    assert b"E.the packet is too long" in gdb.bytes_in(b"")
    assert gdb.one(b"?").startswith(b"T05")


# ---- moving ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [b"vCont;s:3;c", b"vCont;s", b"s", b"S05", b"vCont;S05:3"])
def test_every_way_of_asking_for_a_step_is_a_step(
    gdb: Dialogue, target: FakeTarget, step: bytes
) -> None:
    gdb.ask(step)
    assert target.tick == 1


@pytest.mark.parametrize("go", [b"vCont;c", b"c", b"C05", b"vCont;C05:3", b"vCont;c:p1.-1"])
def test_every_way_of_asking_to_continue_goes_on(
    gdb: Dialogue, target: FakeTarget, go: bytes
) -> None:
    gdb.ask(b"Z0,%x,1" % END)
    assert gdb.one(go).endswith(b"swbreak:;")
    assert target.state.eip == END


def test_history_ends_on_both_sides(gdb: Dialogue, target: FakeTarget) -> None:
    assert gdb.one(b"bs").endswith(b"replaylog:begin;")
    assert gdb.one(b"bc").endswith(b"replaylog:begin;")
    assert gdb.one(b"vCont;c").endswith(b"replaylog:end;")
    assert target.tick == HISTORY
    assert gdb.one(b"vCont;s:3;c").endswith(b"replaylog:end;")
    assert gdb.one(b"vCont;r%x,%x:3;c" % (END, END + 2)).endswith(b"replaylog:end;")
    assert gdb.one(b"bc").endswith(b"replaylog:begin;")
    assert target.tick == 0


def test_a_breakpoint_stops_at_the_same_states_from_both_sides(
    gdb: Dialogue, target: FakeTarget
) -> None:
    gdb.ask(b"Z0,%x,1" % WORK)
    forward, backward = [], []
    while b"swbreak" in gdb.one(b"vCont;c"):
        forward.append(target.tick)
    while b"swbreak" in gdb.one(b"bc"):
        backward.append(target.tick)
    assert forward == backward[::-1]
    assert len(forward) == 5


@pytest.mark.parametrize(("kind", "reason"), [(0, b"swbreak:;"), (1, b"hwbreak:;")])
def test_reasons_of_breakpoints_are_told_to_those_who_ask(
    target: FakeTarget, kind: int, reason: bytes
) -> None:
    gdb = Dialogue(target)
    gdb.ask(b"Z%x,%x,1" % (kind, LAP))
    assert gdb.one(b"vCont;c").endswith(reason)
    simple = Dialogue(FakeTarget(), offers=b"qSupported")
    simple.ask(b"Z%x,%x,1" % (kind, LAP))
    assert b"break" not in simple.one(b"vCont;c")


@pytest.mark.parametrize(("kind", "name"), [(2, b"watch"), (4, b"awatch")])
def test_a_watchpoint_stops_behind_the_access_and_backwards_before_it(
    gdb: Dialogue, target: FakeTarget, kind: int, name: bytes
) -> None:
    gdb.ask(b"Z%x,%x,4" % (kind, SHADOW))
    assert gdb.one(b"vCont;c").endswith(b";%b:%x;" % (name, SHADOW))
    assert target.state.word(SHADOW) == 1
    behind = target.tick
    assert gdb.one(b"bc").endswith(b";%b:%x;" % (name, SHADOW))
    assert target.tick == behind - 1
    assert target.state.eip == HANDLER


def test_a_step_back_over_a_watched_write_says_so(gdb: Dialogue) -> None:
    gdb.ask(b"Z2,%x,4" % SHADOW)
    gdb.ask(b"vCont;c")
    assert gdb.one(b"bs").endswith(b"watch:%x;" % SHADOW)


def test_a_condition_counts_only_hits_where_it_is_true(gdb: Dialogue, target: FakeTarget) -> None:
    # $ecx == 2
    gdb.ask(b"Z0,%x,1;X6,260001220213" % WORK)
    assert gdb.one(b"Z0,%x,1;X7,26000122021327" % WORK) == b"OK"
    gdb.ask(b"vCont;c")
    assert target.state.regs[1] == 2
    assert len(target.points) == 1


def test_a_condition_that_is_none_is_refused(gdb: Dialogue, target: FakeTarget) -> None:
    assert gdb.one(b"Z0,%x,1;X1,ff" % WORK).startswith(b"E.operation 0xff")
    assert target.points == {}


def test_points_may_be_set_twice_and_are_gone_at_once(gdb: Dialogue, target: FakeTarget) -> None:
    for _ in range(2):
        assert gdb.one(b"Z0,1000,1") == b"OK"
    assert len(target.points) == 1
    for _ in range(2):
        assert gdb.one(b"z0,1000,1") == b"OK"
    assert target.points == {}


def test_the_end_of_a_session_leaves_no_points(gdb: Dialogue, target: FakeTarget) -> None:
    gdb.ask(b"Z0,1000,1")
    gdb.ask(b"Z2,1000,1")
    gdb.session.close()
    assert target.points == {}


def test_a_step_in_a_range_stays_in_it(gdb: Dialogue, target: FakeTarget) -> None:
    gdb.ask(b"Z0,%x,1" % WORK)
    gdb.ask(b"vCont;c")
    gdb.ask(b"z0,%x,1" % WORK)
    gdb.ask(b"vCont;r%x,%x:3;c" % (WORK, SYSCALL + 4))
    assert target.state.eip not in range(WORK, SYSCALL + 4)


def test_going_on_elsewhere_writes_the_program_counter(gdb: Dialogue, target: FakeTarget) -> None:
    gdb.ask(b"s%x" % WORK)
    assert target.writes == [(3, EIP, WORK.to_bytes(4, "little"))]


def test_a_move_that_is_refused_ends_what_the_debugger_is_doing() -> None:
    class Broken(FakeTarget):
        def advance(self, move: Move) -> Stop:
            raise TargetFault("the replay differs at tick 7")

    said, stop = Dialogue(Broken()).ask(b"vCont;c")
    assert text(said) == "the replay differs at tick 7\n"
    assert stop.endswith(b"replaylog:end;")


def test_of_several_reasons_the_most_telling_is_told() -> None:
    class Busy(FakeTarget):
        def advance(self, move: Move) -> Stop:
            kinds = (ReasonKind.STEPPED, ReasonKind.SOFTWARE_BREAKPOINT, ReasonKind.WRITTEN)
            return Stop(3, tuple(Reason(kind, 0x1234) for kind in kinds))

    assert Dialogue(Busy()).one(b"vCont;s:3;c").endswith(b";watch:1234;")


def test_an_interrupted_move_is_a_signal() -> None:
    class Patient(FakeTarget):
        def go_back(self, move: Move) -> Stop:
            return Stop(3, (Reason(ReasonKind.INTERRUPTED),))

    assert Dialogue(Patient()).one(b"bc").startswith(b"T02")


# ---- the rest --------------------------------------------------------------------------------------


def test_a_restart_begins_again(gdb: Dialogue, target: FakeTarget) -> None:
    gdb.ask(b"vCont;c")
    assert gdb.one(b"vRun;").startswith(b"T05")
    assert target.tick == 0
    gdb.ask(b"vCont;c")
    assert gdb.ask(b"R00") == []
    assert target.tick == 0


def test_leaving_moves_nothing(target: FakeTarget) -> None:
    for payload, answers in ((b"D", [b"OK"]), (b"D;1", [b"OK"]), (b"vKill;1", [b"OK"]), (b"k", [])):
        gdb = Dialogue(target)
        gdb.ask(b"vCont;s:3;c")
        where = target.tick
        assert gdb.ask(payload) == answers
        assert gdb.closed
        assert target.tick == where


def test_threads_are_listed_in_all_forms(gdb: Dialogue) -> None:
    assert gdb.one(b"qfThreadInfo") == b"m2,3"
    assert gdb.one(b"qsThreadInfo") == b"l"
    assert gdb.one(b"qC") == b"QC3"
    assert gdb.one(b"T2") == b"OK"
    assert gdb.one(b"T5").startswith(b"E.")
    xml = gdb.one(b"qXfer:threads:read::0,1000")
    assert b'<thread id="3" name="program">running</thread>' in xml
    assert b"waiting &lt;&amp;&gt;" in xml
    info = bytes.fromhex(gdb.one(b"qThreadExtraInfo,2").decode())
    assert info == b"kernel: waiting <&>"


def test_documents_come_in_pages(gdb: Dialogue) -> None:
    whole = gdb.one(b"qXfer:features:read:target.xml:0,10000")
    assert whole[:1] == b"l"
    pages, offset = b"", 0
    while True:
        page = gdb.one(b"qXfer:features:read:target.xml:%x,%x" % (offset, 100))
        pages, offset = pages + page[1:], offset + len(page) - 1
        if page[:1] == b"l":
            break
        assert len(page) == 101
    assert pages == whole[1:]
    assert gdb.one(b"qXfer:features:read:other.xml:0,10") == b"E.there is no features 'other.xml'"
    assert gdb.one(b"qXfer:auxv:read::0,10") == b""
    assert gdb.one(b"qXfer:features:read:target.xml:fffff,10").startswith(b"E")


def test_a_monitor_command_shows_its_text(gdb: Dialogue) -> None:
    said, done = gdb.ask(b"qRcmd," + b"when".hex().encode())
    assert (text(said), done) == ("tick 0\n", b"OK")
    said, done = gdb.ask(b"qRcmd," + b"fly".hex().encode())
    assert (text(said), done) == ("no such command: fly\n", b"OK")


def test_files_are_those_of_the_target_and_no_others(gdb: Dialogue, target: FakeTarget) -> None:
    name, content = next(iter(target.programs.items()))
    assert gdb.one(b"vFile:setfs:0") == b"F0"
    assert gdb.one(b"qXfer:exec-file:read:1:0,100") == b"l" + name.encode()
    descriptor = gdb.one(b"vFile:open:%b,0,1c0" % name.encode().hex().encode())[1:]
    status = gdb.one(b"vFile:fstat:" + descriptor)
    assert status.startswith(b"F40;")
    assert int.from_bytes(status[4:][28:36], "big") == len(content)
    read = b""
    while part := gdb.one(b"vFile:pread:%b,%x,%x" % (descriptor, PACKET_SIZE, len(read))).split(
        b";", 1
    )[1]:
        read += part
    assert read == content
    assert gdb.one(b"vFile:close:" + descriptor) == b"F0"
    assert gdb.one(b"vFile:pread:%b,10,0" % descriptor) == b"F-1,9"
    for other in (b"/etc/passwd", b"../../etc/passwd", b"just probing", name.encode() + b"/../x"):
        assert gdb.one(b"vFile:open:%b,0,0" % other.hex().encode()) == b"F-1,2"
        assert gdb.one(b"vFile:readlink:" + other.hex().encode()) == b"F-1,2"
    assert gdb.one(b"vFile:open:%b,1,0" % name.encode().hex().encode()) == b"F-1,1e"


def test_no_more_files_can_be_opened_than_a_debugger_needs(
    gdb: Dialogue, target: FakeTarget
) -> None:
    name = next(iter(target.programs)).encode().hex().encode()
    replies = [gdb.one(b"vFile:open:%b,0,0" % name) for _ in range(70)]
    assert replies[-1] == b"F-1,18"
    assert len(set(replies)) == 65


def test_conditions_and_points_are_given_to_the_target(target: FakeTarget) -> None:
    seen: list[tuple[Point, Sequence[Expression]]] = []
    plain = target.add_point

    def add_point(point: Point, conditions: Sequence[Expression]) -> int:
        seen.append((point, conditions))
        return plain(point, conditions)

    target.add_point = add_point  # type: ignore[method-assign]
    Dialogue(target).ask(b"Z0,1000,1;X3,220127X3,220027")
    ((point, conditions),) = seen
    assert (point.address, len(conditions)) == (0x1000, 2)
