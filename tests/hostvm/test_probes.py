"""Probes on the bare CPU: each instruction and access is reported once, where it is, and nothing runs differently."""

from __future__ import annotations

import pytest

from hostvm.cpu import ExitKind
from hostvm.probes import EVERYWHERE, NO_PROBES, Access, Probes, stretched, touches
from tests.hostvm.bare_machine import CODE, DATA, BareMachine

pytestmark = pytest.mark.usefixtures("each_way")

# mov $DATA,%edi; mov $3,%ecx; mov $7,%eax; rep stosl; movl $9,DATA; incl DATA+1; mov DATA,%ebx; hlt
PROGRAM = (
    b"\xbf" + DATA.to_bytes(4, "little") + b"\xb9\x03\x00\x00\x00\xb8\x07\x00\x00\x00\xf3\xab"
    b"\xc7\x05" + DATA.to_bytes(4, "little") + b"\x09\x00\x00\x00"
    b"\xff\x05"
    + (DATA + 1).to_bytes(4, "little")
    + b"\x8b\x1d"
    + DATA.to_bytes(4, "little")
    + b"\xf4"
)
REP, STORE, INCREMENT, LOAD = CODE + 15, CODE + 17, CODE + 27, CODE + 33


def machine() -> BareMachine:
    bare = BareMachine(PROGRAM)
    bare.start(0)
    return bare


def test_every_instruction_is_reported_before_it_is_executed() -> None:
    bare = machine()
    seen: list[tuple[int, int, int]] = []

    def note(address: int) -> bool:
        seen.append((address, bare.cpu.progress, bare.cpu.eip))
        return False

    bare.cpu.set_probes(Probes(code=(EVERYWHERE,), on_code=note))
    assert bare.cpu.run(100).kind is ExitKind.HALT
    addresses = [address for address, _, _ in seen]
    # A REP of three iterations is met four times: the last one only finds that there is nothing left.
    assert addresses.count(REP) == 4
    assert addresses[-4:] == [STORE, INCREMENT, LOAD, LOAD + 6]
    assert [step for _, step, _ in seen] == list(range(1, len(seen) + 1))
    assert all(address == eip for address, _, eip in seen)


def test_a_run_stops_before_the_instruction_and_goes_on() -> None:
    bare = machine()
    hits: list[int] = []

    def stop(address: int) -> bool:
        hits.append(address)
        return len(hits) == 1

    bare.cpu.set_probes(Probes(code=((STORE, STORE),), on_code=stop))
    first = bare.cpu.run(100)
    assert first.kind is ExitKind.PROBE
    assert bare.cpu.eip == STORE
    assert first.steps == 7
    assert bare.memory.read_u32(DATA) == 7
    rest = bare.cpu.run(100)
    assert rest.kind is ExitKind.HALT
    assert hits == [STORE, STORE]
    assert first.steps + rest.steps == machine_steps()


def machine_steps() -> int:
    return machine().cpu.run(100).steps


def test_a_run_stops_behind_the_step_that_wrote() -> None:
    bare = machine()
    seen: list[Access] = []

    def stop(access: Access) -> bool:
        seen.append(access)
        return True

    bare.cpu.set_probes(Probes(writes=((DATA + 4, DATA + 4),), on_access=stop))
    stopped = bare.cpu.run(100)
    assert stopped.kind is ExitKind.PROBE
    # The second iteration of the REP has been made, the third has not.
    assert stopped.steps == 5
    assert bare.memory.read_u32(DATA + 4) == 7
    assert bare.memory.read_u32(DATA + 8) == 0
    assert seen == [Access(DATA + 4, 4, is_write=True, by_cpu=True)]
    bare.cpu.run(100)
    # INC DATA+1 reaches into the byte that is watched.
    assert [access.address for access in seen] == [DATA + 4, DATA + 1]


def test_reads_are_told_from_writes() -> None:
    bare = machine()
    seen: list[Access] = []

    def note(access: Access) -> bool:
        seen.append(access)
        return False

    bare.cpu.set_probes(Probes(reads=((DATA, DATA),), on_access=note))
    bare.cpu.run(100)
    assert seen == [Access(DATA, 4, is_write=False, by_cpu=True)]


@pytest.mark.parametrize(
    "probes",
    [
        Probes(code=(EVERYWHERE,)),
        Probes(reads=((0, 1 << 20),)),
        Probes(writes=((0, 1 << 20),)),
        Probes(code=((REP, REP),), reads=((DATA, DATA),), writes=((DATA, DATA),)),
    ],
    ids=["code", "reads", "writes", "all"],
)
def test_probes_change_nothing(probes: Probes) -> None:
    plain, probed = machine(), machine()
    probed.cpu.set_probes(probes)
    while True:
        one, other = plain.cpu.run(1), probed.cpu.run(1)
        assert one == other
        assert plain.cpu.state() == probed.cpu.state()
        if one.kind is ExitKind.HALT:
            break
    probed.cpu.set_probes(NO_PROBES)
    assert plain.cpu.state() == probed.cpu.state()
    assert plain.memory.read(0, 1 << 20) == probed.memory.read(0, 1 << 20)


def test_an_instruction_that_cannot_be_fetched_is_reported_too() -> None:
    bare = BareMachine(b"\xb8" + (0x90000).to_bytes(4, "little") + b"\xff\xe0")
    bare.map(0x90, 0)
    bare.start(0)
    seen: list[int] = []

    def stop(address: int) -> bool:
        seen.append(address)
        return True

    bare.cpu.set_probes(Probes(code=((0x90000, 0x90000),), on_code=stop))
    stopped = bare.cpu.run(100)
    assert (stopped.kind, stopped.steps) == (ExitKind.PROBE, 2)
    assert bare.cpu.eip == 0x90000
    assert bare.cpu.state().cr[1] == 0
    assert seen == [0x90000]


def test_spans_and_accesses_meet_where_they_overlap() -> None:
    assert touches([(10, 12)], 8, 3)
    assert touches([(10, 12)], 12, 8)
    assert not touches([(10, 12)], 13, 1)
    assert not touches([(10, 12)], 6, 4)
    low, high = stretched((100, 103))
    assert low <= 100 - 31
    assert high == 103
    assert not NO_PROBES
