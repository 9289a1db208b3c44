"""A trace as a target: registers, waiting worlds, memory, moves and words, against the run as it really goes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gdbstub.commands import Motion, Point, PointKind
from gdbstub.contexts import HOST_THREAD
from gdbstub.errors import TargetFault
from gdbstub.monitor import COMMANDS
from gdbstub.registers import NUMBER, register_set
from gdbstub.stepping import Scope
from gdbstub.target import Move, ReasonKind, Stop
from gdbstub.timeline_target import TimelineTarget
from replay.events import Hypercall, IrqDelivered
from replay.look import World
from replay.moves import Unit
from replay.timeline import Timeline
from tests.gdbstub.dialogue import Dialogue
from tests.replay.histories import record_guest, timeline_of

KERNEL, USER = 2, 3
GENERAL = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_guest(tmp_path_factory.mktemp("gdb") / "hello.lgt", "hello", "loops=1")


@pytest.fixture(scope="module")
def opened(path: Path) -> Iterator[Timeline]:
    with timeline_of(path) as timeline:
        yield timeline


@pytest.fixture
def timeline(opened: Timeline) -> Timeline:
    opened.stops.clear()
    opened.go(opened.first_tick)
    return opened


@pytest.fixture
def target(timeline: Timeline) -> TimelineTarget:
    return TimelineTarget(timeline)


def known(target: TimelineTarget, thread: int) -> dict[str, int]:
    """What is known of a thread's general registers."""
    values = target.read_registers(thread)
    found = ((name, values[NUMBER[name]]) for name in GENERAL)
    return {name: int.from_bytes(value, "little") for name, value in found if value is not None}


def kinds(stop: Stop) -> set[ReasonKind]:
    return {reason.kind for reason in stop.reasons}


def symbol(timeline: Timeline, name: str) -> int:
    return timeline.address(name)


def stop_at(target: TimelineTarget, name: str) -> Stop:
    """Go to where a function begins next."""
    number = target.add_point(Point(PointKind.SOFTWARE, symbol(target.timeline, name), 1), ())
    stop = target.advance(Move(Motion.CONTINUE, target.current_thread()))
    target.remove_point(number)
    return stop


def step(target: TimelineTarget, thread: int) -> Stop:
    return target.advance(Move(Motion.STEP, thread))


def back(target: TimelineTarget, thread: int) -> Stop:
    return target.go_back(Move(Motion.STEP, thread))


# ---- threads and registers ------------------------------------------------------------------------


def test_the_thread_at_work_has_the_processors_registers(target: TimelineTarget) -> None:
    for share in (5, 25, 50, 75):
        target.timeline.seek(f"{share}%")
        cpu, tick = target.timeline.cpu, target.timeline.tick
        assert target.read_registers(target.current_thread()) == register_set(cpu, tick)


def test_worlds_are_threads(target: TimelineTarget) -> None:
    assert list(target.threads()) == [HOST_THREAD, KERNEL, USER]
    assert target.current_thread() == HOST_THREAD
    assert stop_at(target, "timer_tick").thread == KERNEL
    assert stop_at(target, "mix").thread == USER
    assert target.thread_state(USER) == "running, Guest user"


def walk_through_the_switcher(target: TimelineTarget) -> Iterator[World]:
    """Step by ticks from a Guest's instruction until the Guest runs again; the worlds on the way."""
    timeline = target.timeline
    while True:
        timeline.step(Unit.TICK)
        world = timeline.look.world
        if world in {World.KERNEL, World.USER}:
            return
        yield world


@pytest.mark.parametrize("number", [3, 20, -2])
def test_a_guest_that_is_left_keeps_its_registers_on_every_step_of_the_way(
    target: TimelineTarget, number: int
) -> None:
    timeline = target.timeline
    calls = [e for e in timeline.reader.events() if isinstance(e, Hypercall)]
    tick = calls[number].tick
    timeline.go(tick)
    while timeline.look.world is not World.KERNEL:
        timeline.step(Unit.TICK, backwards=True)
    before = known(target, KERNEL)
    # On the way out it is what it was, but for the instruction that it has executed.
    seen = []
    for _ in walk_through_the_switcher(target):
        if timeline.tick <= tick:
            now = known(target, KERNEL)
            assert {**now, "eip": before["eip"]} == before
            seen.append(timeline.tick)
    assert len(seen) > 10
    # On the way in it is what it will be.
    after, end = known(target, KERNEL), timeline.tick
    for at in range(tick + 1, end):
        timeline.go(at)
        assert known(target, KERNEL) == after


def test_the_host_waits_where_it_will_go_on(target: TimelineTarget) -> None:
    timeline = target.timeline
    stop_at(target, "mix")
    waiting = known(target, HOST_THREAD)
    timeline.go(timeline.tick)
    while timeline.look.world is not World.HOST:
        timeline.step(Unit.TICK)
    for name in ("eip", "esp", "ebp"):
        assert waiting[name] == known(target, HOST_THREAD)[name]


def test_a_program_in_a_system_call_shows_where_it_will_go_on(target: TimelineTarget) -> None:
    for _ in range(3):
        stop_at(target, "system_call")
        waiting = known(target, USER)
        assert set(waiting) == {"esp", "eip"}
        timeline, directory = target.timeline, target.timeline.look.directory
        timeline.resume_with(((1, timeline.predicate("cpl == 3")),), backwards=False)
        if timeline.look.directory == directory:
            here = known(target, USER)
            assert {name: here[name] for name in waiting} == waiting


def test_a_kernel_whose_program_runs_has_a_stack_and_no_place(target: TimelineTarget) -> None:
    stop_at(target, "mix")
    assert set(known(target, KERNEL)) == {"esp"}


# ---- memory ---------------------------------------------------------------------------------------


def test_every_thread_sees_its_own_memory(target: TimelineTarget) -> None:
    timeline = target.timeline
    stop_at(target, "mix")
    kernel, program = symbol(timeline, "start_kernel"), symbol(timeline, "mix")
    # The CPU cannot read it yet: the Host maps it when it is missed.
    assert timeline.read(program, 16) == b""
    code = target.read_memory(USER, program, 16)
    assert len(code) == 16
    assert target.read_memory(KERNEL, program, 16) == code
    assert len(target.read_memory(KERNEL, kernel, 16)) == 16
    assert target.read_memory(HOST_THREAD, program, 16) == b""
    assert target.read_memory(HOST_THREAD, 0xC0004000, 1) == b"\xf4"
    switcher = target.read_memory(HOST_THREAD, 0xFFC00000, 32)
    assert switcher == target.read_memory(USER, 0xFFC00000, 32)
    assert len(switcher) == 32


def test_memory_ends_where_there_is_none(target: TimelineTarget) -> None:
    stop_at(target, "mix")
    assert target.read_memory(USER, 0x10, 4) == b""
    end = 0xFFC03000
    assert len(target.read_memory(USER, end - 8, 64)) == 8


def test_looking_changes_nothing(target: TimelineTarget) -> None:
    stop_at(target, "mix")
    digest = target.timeline.machine.digest()
    for thread in target.threads():
        target.read_registers(thread)
        for address in (0x08048000, 0xC0100000, 0xC0004000, 0xFFC00000, 0xFFC01000):
            target.read_memory(thread, address, 0x3000)
        target.thread_state(thread)
    for words in ("when", "info idt", "info lguest", "info irqs", "info events", "whynot 0"):
        target.monitor(words)
    assert target.timeline.machine.digest() == digest


# ---- moves ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("thread", [KERNEL, USER])
def test_steps_of_a_thread_back_undo_those_forward(target: TimelineTarget, thread: int) -> None:
    stop_at(target, "syscall_entry" if thread == KERNEL else "mix")
    places = [target.timeline.tick]
    for _ in range(60):
        assert step(target, thread).thread == thread
        places.append(target.timeline.tick)
    backward = [target.timeline.tick]
    for _ in range(60):
        assert back(target, thread).thread == thread
        backward.append(target.timeline.tick)
    assert backward == places[::-1]


def test_a_step_over_a_system_call_ends_behind_it(target: TimelineTarget) -> None:
    timeline = target.timeline
    stop_at(target, "syscall_entry")
    back(target, USER)
    eip = timeline.cpu.eip
    assert timeline.read(eip, 2) == b"\xcd\x80"
    assert step(target, USER).thread == USER
    assert timeline.cpu.eip == eip + 2
    assert back(target, USER).thread == USER
    assert timeline.cpu.eip == eip


def test_with_the_scope_of_the_cpu_a_step_leads_into_the_switcher(target: TimelineTarget) -> None:
    timeline = target.timeline
    tick = next(e.tick for e in timeline.reader.events() if isinstance(e, IrqDelivered))
    timeline.go(tick)
    while timeline.look.world is not World.KERNEL:
        timeline.step(Unit.INSTRUCTION)
    target.monitor("step-scope cpu")
    first = timeline.tick
    assert back(target, KERNEL).thread == HOST_THREAD
    assert timeline.cpu.eip >= 0xFFC00000
    assert step(target, HOST_THREAD).thread == KERNEL
    assert timeline.tick == first


def test_steps_within_a_range_are_made_at_one_go(target: TimelineTarget) -> None:
    stop_at(target, "mix")
    start = symbol(target.timeline, "mix")
    stop = target.advance(Move(Motion.RANGE, USER, start, start + 0x20))
    assert kinds(stop) == {ReasonKind.STEPPED}
    assert target.timeline.cpu.eip not in range(start, start + 0x20)
    assert target.current_thread() == USER


@pytest.mark.parametrize("backwards", [False, True])
def test_a_cancelled_move_leaves_one_where_one_was(target: TimelineTarget, backwards: bool) -> None:
    timeline = target.timeline
    timeline.seek("50%")
    origin = timeline.tick
    # Never true, and looked at before every step.
    target.add_point(Point(PointKind.SOFTWARE, 0x1234, 1), ())
    timeline.stops.add(timeline.predicate("eax == 1 and eax == 2"))

    def cancel() -> None:
        while not done.wait(0.02):
            target.cancel()

    done = threading.Event()
    thread = threading.Thread(target=cancel)
    thread.start()
    move = Move(Motion.CONTINUE, USER)
    stop = target.go_back(move) if backwards else target.advance(move)
    done.set()
    thread.join()
    if kinds(stop) == {ReasonKind.INTERRUPTED}:
        assert timeline.tick == origin
    else:
        assert kinds(stop) & {ReasonKind.HISTORY_START, ReasonKind.HISTORY_END}


def test_a_restart_goes_to_the_beginning_or_to_a_place(target: TimelineTarget) -> None:
    target.timeline.seek("end")
    assert target.restart(()).thread == HOST_THREAD
    assert target.timeline.tick == target.timeline.first_tick
    target.restart(("25%",))
    assert target.timeline.tick > 0


# ---- what it offers -------------------------------------------------------------------------------


def test_programs_come_out_of_the_trace(target: TimelineTarget) -> None:
    name = (target.document("exec-file", "1") or b"").decode()
    assert target.files()[name]()[:4] == b"\x7fELF"
    libraries = (target.document("libraries", "") or b"").decode()
    for library in ("/lgreplay/switcher.elf", "/lgreplay/host.elf"):
        assert library in libraries
        assert target.files()[library]()[:4] == b"\x7fELF"
    assert target.document("libraries", "other") is None


def test_the_host_is_not_written_to(target: TimelineTarget) -> None:
    gdb = Dialogue(target)
    assert b"E.only registers of a Guest" in gdb.one(b"P8=00000000")
    assert b"E.only memory of a Guest" in gdb.one(b"Mc0004000,1:00")
    stop_at(target, "mix")
    assert gdb.one(b"P%x=0000000000000000" % NUMBER["tick"]) == b"E.tick cannot be written"
    assert gdb.one(b"Mffc00000,1:00").startswith(b"E.")
    assert gdb.one(b"M10,1:00").startswith(b"E.")
    assert target.monitor("branch") == "  0  the recorded run\n"


def test_writing_opens_a_branch_that_can_be_left(target: TimelineTarget) -> None:
    gdb, recorded = Dialogue(target), target.timeline
    stop_at(target, "mix")
    tick, word = recorded.tick, symbol(recorded, "ticks")
    gdb.ask(b"Z0,%x,1" % symbol(recorded, "timer_tick"))
    assert gdb.one(b"P0=01000000") == b"OK"
    assert gdb.one(b"M%x,4:78563412" % word) == b"OK"
    assert gdb.one(b"P1=02000000") == b"OK"
    assert target.timeline is not recorded
    assert target.timeline.cpu.regs[:2] == (1, 2)
    assert target.read_memory(USER, word, 4) == b"\x78\x56\x34\x12"
    assert target.monitor("branch").count("\n") == 2
    assert "3 edits" in target.monitor("branch")
    # It is said once, and points hold on.
    said, stop = gdb.ask(b"vCont;c")
    assert b"branch" in bytes.fromhex(said[1:].decode())
    assert stop.endswith(b"swbreak:;")
    assert len(gdb.ask(b"bc")) == 1
    target.monitor("branch leave")
    assert target.timeline is recorded
    assert recorded.tick == tick
    assert gdb.one(b"vCont;c").endswith(b"swbreak:;")
    gdb.session.close()
    assert len(recorded.stops) == 0
    with pytest.raises(TargetFault):
        target.monitor("branch leave")


def test_a_branch_is_kept_as_a_trace(target: TimelineTarget, tmp_path: Path) -> None:
    gdb = Dialogue(target)
    stop_at(target, "mix")
    gdb.ask(b"P0=01000000")
    tick = target.timeline.tick
    for _ in range(5):
        step(target, USER)
    target.monitor(f"branch save {tmp_path / 'branch.lgt'}")
    with timeline_of(tmp_path / "branch.lgt") as saved:
        saved.go(tick)
        assert saved.cpu.regs[0] == 1
    target.monitor("branch leave")


def test_stops_of_all_kinds_have_their_reasons(target: TimelineTarget) -> None:
    gdb, timeline = Dialogue(target), target.timeline
    ticks = symbol(timeline, "ticks")
    gdb.ask(b"Z2,%x,4" % ticks)
    assert gdb.one(b"vCont;c").endswith(b";watch:%x;" % ticks)
    gdb.ask(b"z2,%x,4" % ticks)
    entry = symbol(timeline, "timer_tick")
    gdb.ask(b"Z1,%x,1" % entry)
    assert gdb.one(b"bc").endswith((b"replaylog:begin;", b"hwbreak:;"))
    timeline.seek("end")
    assert gdb.one(b"bc").endswith(b"hwbreak:;")
    assert timeline.cpu.eip == entry


def test_a_condition_is_evaluated_for_the_thread_at_work(target: TimelineTarget) -> None:
    gdb, timeline = Dialogue(target), target.timeline
    entry, ticks = symbol(timeline, "timer_tick"), symbol(timeline, "ticks")
    # *(int *) ticks == 2
    code = bytes((0x24,)) + ticks.to_bytes(4, "big") + bytes.fromhex("19 2202 13 27")
    gdb.ask(b"Z0,%x,1;X%x,%b" % (entry, len(code), code.hex().encode()))
    assert gdb.one(b"vCont;c").endswith(b"swbreak:;")
    assert timeline.look.word(ticks) == 2


# ---- words ----------------------------------------------------------------------------------------


def test_every_command_answers_or_refuses_in_words(target: TimelineTarget) -> None:
    stop_at(target, "timer_tick")
    for name in COMMANDS:
        for arguments in ("", " 1", " ticks", " nonsense here", " -1"):
            try:
                said = target.monitor(name + arguments)
            except TargetFault as fault:
                said = fault.text + "\n"
            assert said.endswith("\n")
            assert said.strip()
    target.timeline.stops.clear()


@pytest.mark.parametrize(
    "words", ["fly", "seek", "seek nowhere", "seek 999999999999", "'", "info", "whynot 99"]
)
def test_what_makes_no_sense_is_refused(target: TimelineTarget, words: str) -> None:
    with pytest.raises(TargetFault):
        target.monitor(words)


def test_places_visited_are_found_again(target: TimelineTarget) -> None:
    timeline = target.timeline
    target.monitor("seek 10%")
    first = timeline.tick
    target.monitor("seek 20%")
    second = timeline.tick
    target.monitor("checkpoint here")
    target.monitor("back")
    assert timeline.tick == first
    target.monitor("forward")
    assert timeline.tick == second
    target.monitor("seek start")
    target.monitor("restart 1")
    assert timeline.tick == second
    with pytest.raises(TargetFault):
        target.monitor("forward")


def test_ticks_are_stepped_one_by_one(target: TimelineTarget) -> None:
    target.monitor("seek 1000")
    target.monitor("tick-step 5")
    assert target.timeline.tick == 1005
    target.monitor("tick-step -3")
    assert target.timeline.tick == 1002


def test_an_arrival_is_announced_once_and_moves_nothing(target: TimelineTarget) -> None:
    gdb = Dialogue(target)
    gdb.ask(b"qRcmd," + b"seek --announce 50%".hex().encode())
    tick = target.timeline.tick
    # A thread that steps off its breakpoint must be told first that it has done so.
    assert target.current_thread() == USER
    assert gdb.one(b"vCont;s:2").startswith(b"T05")
    assert gdb.one(b"vCont;c").startswith(b"T00")
    assert target.timeline.tick == tick
    for go in (b"vCont;c", b"bc"):
        gdb.ask(b"qRcmd," + b"seek --announce 50%".hex().encode())
        assert gdb.one(go).startswith(b"T00")
        assert target.timeline.tick == tick
    assert target._scene.stepper.scope is Scope.THREAD


def test_catches_stop_and_say_what_they_caught(target: TimelineTarget) -> None:
    gdb = Dialogue(target)
    gdb.ask(b"qRcmd," + b"catch irq".hex().encode())
    gdb.ask(b"qRcmd," + b"catch delivered 0".hex().encode())
    said, stop = gdb.ask(b"vCont;c")
    assert b"irq_delivered" in bytes.fromhex(said[1:].decode())
    assert stop.startswith(b"T00")
    gdb.ask(b"qRcmd," + b"uncatch 1".hex().encode())


def test_provenance_and_what_holds_an_interrupt_back(target: TimelineTarget) -> None:
    target.monitor("seek end")
    wrote = target.monitor("last-write ticks")
    assert wrote.startswith("tick ")
    assert "guest at" in wrote
    assert "not raised" in target.monitor("whynot 0")


def test_registers_that_nobody_can_write_can_be_put_back(target: TimelineTarget) -> None:
    gdb, recorded = Dialogue(target), target.timeline
    stop_at(target, "mix")
    for register in (NUMBER["cs"], NUMBER["cr2"], NUMBER["tick"]):
        held = gdb.one(b"p%x" % register)
        assert gdb.one(b"P%x=%b" % (register, held)) == b"OK"
    assert target.timeline is recorded
    assert gdb.one(b"P%x=00000000000000ff" % NUMBER["tick"]).startswith(b"E")
