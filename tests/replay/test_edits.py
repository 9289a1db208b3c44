"""What a debugger writes is an event: recorded, replayed at the same place, and refused where it is impossible."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from hostvm.edits import Edit, Register, Target, make, refusal
from hostvm.machine import Machine
from hostvm.units import Tick
from hostvm.world import World
from replay.errors import Divergence
from replay.events import DebuggerWrite, Event
from replay.log import TraceReader
from replay.recording import RecordingWorld
from replay.session import Session
from replay.virtual_world import VirtualWorld
from replay.world_time import FAR
from tests.end_to_end.commands import lgreplay
from tests.replay.recorded import altered, events_of, hello, record_hello, verify

GUEST_TICK = 300_000
DIGEST_TICK = 5 << 16
SPOT = 0x3F0000


class DebuggedWorld(VirtualWorld):
    """A VirtualWorld with a debugger that writes at fixed ticks."""

    def __init__(self, writes: list[tuple[int, Edit]]) -> None:
        super().__init__(1)
        self._writes = list(writes)

    def horizon(self, tick: Tick) -> Tick:
        due = self._writes[0][0] if self._writes else FAR
        return max(tick, min(super().horizon(tick), Tick(due)))

    def edit(self, tick: Tick, refusal: Callable[[Edit], str | None]) -> Edit | None:
        if not self._writes or self._writes[0][0] > tick:
            return None
        assert self._writes[0][0] == tick
        _, edit = self._writes.pop(0)
        assert refusal(edit) is None
        return edit


def register(which: Register, value: int) -> Edit:
    return Edit(0, Target.REGISTER, which, value.to_bytes(which.size, "little"))


def guest_ticks(machine: Machine, start: int) -> Iterator[int]:
    """Ticks at which the Guest is in."""
    for tick in range(start, start + 20_000):
        machine.run(Tick(tick))
        if machine.cpu.cpl:
            yield tick


@pytest.fixture(scope="module")
def writes() -> list[tuple[int, Edit]]:
    """Harmless ones, of every kind, at power-on, and several at a tick."""
    machine = Machine(hello(), VirtualWorld(1))
    ticks = guest_ticks(machine, GUEST_TICK)
    one, two = next(ticks), next(ticks)
    return [
        (0, Edit(0, Target.PHYSICAL, SPOT, b"from the beginning")),
        (one, Edit(0, Target.PHYSICAL, SPOT - 3, bytes(range(200)))),
        (one, Edit(0, Target.PHYSICAL, SPOT, b"again")),
        (one, register(Register.XMM3, 1 << 100)),
        (two, register(Register.ST2, 3 << 60)),
        (DIGEST_TICK, Edit(0, Target.PHYSICAL, SPOT + 0xFF0, bytes(100))),
        (DIGEST_TICK, Edit(0, Target.PHYSICAL, SPOT, b"at a digest")),
    ]


@pytest.fixture(scope="module")
def written(writes: list[tuple[int, Edit]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("edits") / "x.lgt"
    record_hello(path, DebuggedWorld(writes))
    return path


def test_writes_are_recorded_at_their_ticks_and_in_their_order(
    written: Path, writes: list[tuple[int, Edit]]
) -> None:
    found = [e for e in events_of(written) if isinstance(e, DebuggerWrite)]
    assert found == [
        DebuggerWrite(Tick(tick), e.guest, e.target, e.address, e.data) for tick, e in writes
    ]
    verify(written)


def test_the_machine_shows_a_write_from_its_tick_on(
    written: Path, writes: list[tuple[int, Edit]]
) -> None:
    with TraceReader(written) as reader:
        machine = Session(reader).machine
        base = machine.guests[0].base
        assert machine.memory.read(base + SPOT, 18) == b"from the beginning"
        at = writes[1][0]
        machine.run(Tick(at - 1))
        assert machine.memory.read(base + SPOT, 4) == b"from"
        machine.run(Tick(at))
        assert machine.memory.read(base + SPOT - 3, 9) == b"\0\1\2again\x08"
        assert machine.cpu.state().xmm[48:64] == (1 << 100).to_bytes(16, "little")


def test_a_replay_in_any_slices_is_the_same(written: Path, writes: list[tuple[int, Edit]]) -> None:
    rng = Random(5)
    with TraceReader(written) as reader:
        assert reader.end is not None
        for _ in range(3):
            machine = Session(reader).machine
            stops = {rng.randrange(reader.end.tick) for _ in range(20)}
            stops |= {tick + d for tick, _ in writes for d in (-1, 0, 1) if tick + d >= 0}
            for stop in sorted(stops):
                machine.run(Tick(stop))
                if rng.random() < 0.5:
                    machine.cpu.flush()
            machine.run(reader.end.tick)
            assert machine.digest() == reader.end.digest


def test_registers_are_written_one_by_one(written: Path) -> None:
    with TraceReader(written) as reader:
        machine = Session(reader).machine
        next(guest_ticks(machine, GUEST_TICK))
        for which in Register:
            before = machine.cpu.state()
            value = 0x1F80 if which is Register.MXCSR else 0x12345678
            if which is Register.EFLAGS:
                value = before.eflags ^ 0x8D5
            edit = register(which, value)
            assert refusal(machine, edit) is None
            make(machine, edit)
            after = machine.cpu.state()
            names = {"eip": "EIP", "eflags": "EFLAGS", "mxcsr": "MXCSR"}
            changed = {
                name for name in before.__slots__ if getattr(before, name) != getattr(after, name)
            }
            field = {v: k for k, v in names.items()}.get(which.name)
            if field is None:
                field = "xmm" if which >= 32 else "fpu" if which >= 16 else "regs"
            assert changed <= {field}
            if which <= Register.EDI:
                assert after.regs[which] == value
            elif field in names:
                assert getattr(after, field) == value


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (Edit(3, Target.PHYSICAL, 0, b"x"), "no guest 3"),
        (Edit(0, 77, 0, b"x"), "no kind of edit 77"),
        (Edit(0, Target.REGISTER, 11, bytes(4)), "no register 11"),
        (Edit(0, Target.REGISTER, 0, bytes(5)), "no 5 bytes in EAX"),
        (Edit(0, Target.PHYSICAL, 0, b""), "no edit of 0 bytes"),
        (Edit(0, Target.PHYSICAL, (64 << 20) - 1, b"xy"), "no 2 bytes at guest-physical"),
        (Edit(0, Target.PHYSICAL, 0xFFFFFFFF, b"xy"), "no 2 bytes at guest-physical"),
        (Edit(0, Target.LINEAR, 0x70000000, b"x"), "no 1 bytes at linear address 0x70000000"),
        (Edit(0, Target.LINEAR, 0xFFC00000, b"x"), "no 1 bytes at linear address 0xffc00000"),
        (register(Register.EFLAGS, 0x2), "no way to make EFLAGS 0x2"),
        (register(Register.EFLAGS, 0x3202), "no way to make EFLAGS 0x3202"),
        (register(Register.MXCSR, 1 << 16), "no MXCSR 0x10000"),
    ],
)
def test_a_write_that_is_not_possible_is_refused_and_changes_nothing(
    written: Path, edit: Edit, why: str
) -> None:
    with TraceReader(written) as reader:
        machine = Session(reader).machine
        next(guest_ticks(machine, GUEST_TICK))
        before = machine.digest()
        assert why in (refusal(machine, edit) or "")
        assert machine.digest() == before


def test_no_register_is_written_while_host_or_switcher_run(written: Path) -> None:
    with TraceReader(written) as reader:
        machine = Session(reader).machine
        machine.run(Tick(2))
        assert machine.cpu.cpl == 0
        assert refusal(machine, register(Register.EAX, 1)) == "no guest 0 on the processor"


def test_a_page_that_the_guest_maps_is_written_through_its_linear_address(written: Path) -> None:
    with TraceReader(written) as reader:
        machine = Session(reader).machine
        next(guest_ticks(machine, GUEST_TICK))
        address = machine.cpu.eip & ~0xFFF
        edit = Edit(0, Target.LINEAR, address, bytes(range(32)))
        assert refusal(machine, edit) is None
        make(machine, edit)
        assert machine.cpu.read_linear(address, 32) == bytes(range(32))


@pytest.mark.parametrize(
    "forged",
    [
        DebuggerWrite(Tick(0), 0, 1, 8, bytes(3)),
        DebuggerWrite(Tick(0), 7, 2, 0, b"x"),
        DebuggerWrite(Tick(0), 0, 2, 0xFFFFFFF0, bytes(100)),
        DebuggerWrite(Tick(0), 0, 255, 0, b"x"),
    ],
)
def test_a_forged_write_is_a_divergence_at_its_tick(
    written: Path, tmp_path: Path, forged: DebuggerWrite
) -> None:
    def with_forged(events: list[Event]) -> list[Event]:
        at = next(i for i, e in enumerate(events) if e.tick > 1000)
        return [*events[:at], replace(forged, tick=Tick(1000)), *events[at:]]

    path = altered(written, tmp_path / "forged.lgt", with_forged)
    with pytest.raises(Divergence, match="impossible input") as caught:
        verify(path)
    assert caught.value.tick == 1000
    assert str(caught.value).isprintable()


def test_a_write_left_out_of_the_log_or_moved_shows(written: Path, tmp_path: Path) -> None:
    def without(events: list[Event]) -> list[Event]:
        gone = next(i for i, e in enumerate(events) if isinstance(e, DebuggerWrite) and e.tick)
        return [*events[:gone], *events[gone + 1 :]]

    with pytest.raises(Divergence):
        verify(altered(written, tmp_path / "without.lgt", without))


def test_events_shows_what_was_written(written: Path) -> None:
    shown = lgreplay(
        "events", written.name, "--kind", "debugger-write", folder=written.parent
    ).out.splitlines()
    assert len(shown) == 7
    assert shown[0].endswith("debugger_write       physical 0x003f0000 = 66 72 6f 6d 20 74 68 65 20"
                             " 62 65 67 69 6e 6e 69 ... (18 bytes)")  # fmt: skip
    assert "xmm3 = 0x10000000000000000000000000" in shown[3]


def test_recording_worlds_pass_a_write_on_and_write_it_down() -> None:
    events: list[Event] = []
    edit = Edit(0, Target.PHYSICAL, 5, b"x")
    world: World = RecordingWorld(DebuggedWorld([(3, edit)]))
    assert isinstance(world, RecordingWorld)
    world.attach(events.append)
    assert world.edit(Tick(2), lambda _: None) is None
    assert world.edit(Tick(3), lambda _: None) == edit
    assert world.edit(Tick(3), lambda _: None) is None
    assert events == [DebuggerWrite(Tick(3), 0, 2, 5, b"x")]
