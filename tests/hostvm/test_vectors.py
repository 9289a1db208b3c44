"""The Host against what lguest's own code did: every vector, each in a fresh Guest.

The original goes on after a kill and the Host here stops, so for a line that kills only what happened up to the first
kill is compared. Memory that the original could not reach is played by `VectorMemory`: no line is left out.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hostvm.abi import GENERATIONS
from hostvm.emulate_insn import emulate_insn
from hostvm.errors import GuestKilled
from hostvm.gates import (
    check_syscall_vector,
    copy_traps,
    direct_trap,
    load_guest_idt_entry,
    vetted_gate,
)
from hostvm.interrupts_and_traps import (
    LGUEST_IRQS,
    clock_expired,
    deliver_trap,
    guest_set_clockevent,
    guest_set_stack,
    has_error_code,
    interrupt_pending,
    set_guest_interrupt,
    set_interrupt,
    try_deliver_interrupt,
)
from hostvm.lguest import Lguest
from hostvm.lguest_data import LguestData
from hostvm.memory import BoundedMemory, PhysicalMemory, Words
from hostvm.page_tables import ShadowPageTables
from hostvm.switcher import default_idt_entry
from hostvm.units import HostPhysical, Nanoseconds
from tests.hostvm.lguest_kit import Notes, PlainRegs

HERE = Path(__file__).parent / "vectors"
EXPECTED_IN_ALL = 27338
ABI = GENERATIONS["3.2"]
ABI_2_6_23 = replace(
    ABI, port_skip_asks_ring=False, port_read_by_width=False, port_skip_knows_cli=False
)
REGISTERS = ("eip", "cs", "eflags", "esp", "ss", "errcode")

Line = dict[str, Any]
Effects = list[list[Any]]


class SparseMemory(PhysicalMemory):
    """Physical memory of 4 GiB, of which only what was stored exists."""

    def __init__(self) -> None:
        self.base = HostPhysical(0)
        self.cells: dict[int, int] = {}

    def read(self, address: int, count: int) -> bytes:
        return bytes(self.cells.get(address + at, 0) for at in range(count))

    def read_u32(self, address: int) -> int:
        return int.from_bytes(self.read(address, 4), "little")

    def write_u32(self, address: int, value: int) -> None:
        self.write(address, value.to_bytes(4, "little"))

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        for at, byte in enumerate(data):
            self.cells[address + at] = byte


class VectorMemory(BoundedMemory):
    """A Guest's memory with holes, which writes down each word stored."""

    def __init__(self, given: Line, effects: Effects) -> None:
        limit = given.get("pfn_limit", 0x100000)
        super().__init__(SparseMemory(), HostPhysical(0), limit, limit_is_exclusive=True)
        for address, value in given.get("mem", ()):
            self.physical.write_u32(address, value)
        self.holes = given.get("unmapped", ())
        self.effects = effects

    def reachable(self, address: int, count: int) -> bool:
        return all(address >= end or address + count <= start for start, end in self.holes)

    def ok(self, address: int, count: int) -> bool:
        return super().ok(address, count) and self.reachable(address, count)

    def get_user(self, address: int) -> int | None:
        return super().get_user(address) if self.reachable(address, 4) else None

    def put_user(self, address: int, value: int) -> bool:
        if not self.reachable(address, 4):
            return False
        self.effects.append(["write", address, value])
        return super().put_user(address, value)


class VectorData(LguestData):
    """The shared page; a refreshed time is one effect that cannot fail, as it was where the vectors come from."""

    memory: VectorMemory

    def put_time(self, now: Nanoseconds) -> bool:
        self.memory.effects.append(["timestamp"])
        return True


class VectorTables(ShadowPageTables):
    """The translation that the vectors assume: page_offset subtracted, and every page can be pinned."""

    def __init__(self, page_offset: int, effects: Effects) -> None:
        self.kernel_address = page_offset
        self.effects = effects

    def guest_pa(self, vaddr: int) -> int:
        return vaddr - self.kernel_address & 0xFFFFFFFF

    def pin_page(self, vaddr: int) -> None:
        self.effects.append(["pin_page", vaddr])


class VectorServices(Notes):
    """The machine around the Guest, in the vectors' terms."""

    def __init__(self, given: Line, effects: Effects) -> None:
        super().__init__(now=given.get("now", 0))
        self.woken = given.get("woken", True)
        self.effects = effects

    def start_timer(self, deadline: Nanoseconds) -> None:
        self.effects.append(["timer_start", deadline])

    def cancel_timer(self) -> None:
        self.effects.append(["timer_cancel"])

    def irq_raised(self, irq: int) -> None:
        # A Guest's task on another processor would be pushed out of the Guest; here there is one processor.
        self.effects.extend([["wake"]] if self.woken else [["wake"], ["kick"]])


def guest_of(given: Line, effects: Effects) -> Lguest:
    memory = VectorMemory(given, effects)
    guest = Lguest(
        number=0,
        abi=ABI_2_6_23 if "eax" in given else ABI,
        memory=memory,
        tables=VectorTables(given.get("page_offset", 0xC0000000), effects),
        regs=PlainRegs(**given.get("regs", {})),
        services=VectorServices(given, effects),
        syscall_vector=given.get("syscall_vector", 0x80),
    )
    guest.data = VectorData(memory, guest.abi.data)
    guest.data.address = given.get("lguest_data")
    for index, lo, hi in given.get("idt", ()):
        guest.idt[index] = lo, hi
    for name in ("esp1", "ss1", "irqs_pending", "halted", "noirq_start", "noirq_end", "changed"):
        if name in given:
            setattr(guest, name, given[name])
    return guest


def after(guest: Lguest, **more: object) -> Line:
    """State afterwards, under the names that some vector's `out` uses."""
    return {
        "regs": {name: getattr(guest.regs, name) for name in REGISTERS},
        "irqs_pending": guest.irqs_pending,
        "halted": guest.halted,
        "changed": guest.changed,
        "ss1": guest.ss1,
        "esp1": guest.esp1,
        "stack_pages": guest.stack_pages,
        "eip": guest.regs.eip,
        "eax": guest.regs.eax,
        **more,
    }


def run_set_guest_interrupt(guest: Lguest, given: Line) -> Line:
    set_guest_interrupt(guest, given["lo"], given["hi"], given["has_err"])
    return after(guest)


def run_deliver_trap(guest: Lguest, given: Line) -> Line:
    delivered = deliver_trap(guest, given["num"])
    return after(guest, **{"return": delivered})


def run_interrupt_pending(guest: Lguest, given: Line) -> Line:
    irq, more = interrupt_pending(guest, given["more"])
    return {"return": irq, "more": more}


def run_try_deliver_interrupt(guest: Lguest, given: Line) -> Line:
    try_deliver_interrupt(guest, given["irq"], given["more"])
    return after(guest)


def run_pending_then_deliver(guest: Lguest, given: Line) -> Line:
    irq, more = interrupt_pending(guest, given["more"])
    if irq < LGUEST_IRQS:
        try_deliver_interrupt(guest, irq, more)
    return after(guest, irq=irq, more=more)


def run_set_interrupt(guest: Lguest, given: Line) -> Line:
    set_interrupt(guest, given["irq"])
    return after(guest)


def run_clock_expired(guest: Lguest, given: Line) -> Line:
    rearmed = clock_expired(guest)
    return after(guest, rearmed=rearmed)


def run_has_err(guest: Lguest, given: Line) -> Line:
    return {"return": has_error_code(given["num"])}


def run_direct_trap(guest: Lguest, given: Line) -> Line:
    return {"return": direct_trap(guest, given["num"])}


def run_check_syscall_vector(guest: Lguest, given: Line) -> Line:
    return {"return": check_syscall_vector(guest)}


def run_set_trap(guest: Lguest, given: Line) -> Line:
    return {"entry": list(vetted_gate(given["lo"], given["hi"]))}


def run_load_guest_idt_entry(guest: Lguest, given: Line) -> Line:
    before = list(guest.idt)
    load_guest_idt_entry(guest, given["num"], given["lo"], given["hi"])
    return after(guest, idt_written=differences(before, guest.idt))


def run_default_idt_entry(guest: Lguest, given: Line) -> Line:
    gate = default_idt_entry(given["trap"], given["handler"], given["guest_entry"])
    return {"entry": list(gate)}


def run_setup_default_idt_entries(guest: Lguest, given: Line) -> Line:
    handlers = enumerate(handlers_of(given))
    return {"idt": [[index, *default_idt_entry(index, handler)] for index, handler in handlers]}


def run_copy_traps(guest: Lguest, given: Line) -> Line:
    table = CpuTable(given["table_before"])
    before = table.gates()
    copy_traps(guest, table, 0, handlers_of(given))
    return {"idt_written": differences(before, table.gates())}


def run_guest_set_stack(guest: Lguest, given: Line) -> Line:
    guest_set_stack(guest, given["seg"], given["esp"], given["pages"])
    return after(guest)


def run_guest_set_clockevent(guest: Lguest, given: Line) -> Line:
    guest_set_clockevent(guest, given["delta"])
    return {}


def run_emulate_insn(guest: Lguest, given: Line) -> Line:
    guest.regs.eip, guest.regs.eax = given["eip"], given["eax"]
    skipped = emulate_insn(guest)
    return after(guest, **{"return": skipped})


def run_lguest_address_ok(guest: Lguest, given: Line) -> Line:
    return {"return": guest.memory.ok(given["addr"], given["len"])}


class CpuTable(SparseMemory):
    """A table of 256 gates at address 0."""

    def __init__(self, gate: tuple[int, int]) -> None:
        super().__init__()
        self.table = [word for _ in range(256) for word in gate]

    def words(self, address: int, count: int) -> Words:
        assert (address, count) == (0, len(self.table))
        return self.table

    def write_u32(self, address: int, value: int) -> None:
        self.table[address // 4] = value

    def gates(self) -> list[tuple[int, int]]:
        return list(zip(self.table[::2], self.table[1::2], strict=True))


def handlers_of(given: Line) -> list[int]:
    base, stride = given["handler_base"], given["handler_stride"]
    return [base + index * stride & 0xFFFFFFFF for index in range(256)]


def differences(before: list[tuple[int, int]], now: list[tuple[int, int]]) -> list[list[int]]:
    pairs = enumerate(zip(before, now, strict=True))
    return [[index, *gate] for index, (old, gate) in pairs if tuple(old) != tuple(gate)]


RUNNERS: dict[str, Callable[[Lguest, Line], Line]] = {
    name.removeprefix("run_"): function
    for name, function in list(globals().items())
    if name.startswith("run_")
}


def outcome(line: Line) -> tuple[Line, Line]:
    """What must be and what is, cut down to what can be compared."""
    given, wanted = line["in"], dict(line["out"])
    effects: Effects = []
    guest = guest_of(given, effects)
    killed = None
    got: Line = {}
    try:
        got = RUNNERS[line["op"]](guest, given)
    except GuestKilled as death:
        killed = death.reason
        effects.append(["kill", killed])
    except AssertionError:
        effects.append(["bug"])
        got = after(guest)
    if killed is not None or wanted.get("killed") is not None:
        kills = [index for index, effect in enumerate(wanted["effects"]) if effect[0] == "kill"]
        until = kills[0] + 1 if kills else None
        wanted = {"killed": wanted["killed"], "effects": wanted["effects"][:until]}
    got = {**got, "effects": effects, "killed": killed}
    return wanted, {name: got.get(name, "absent") for name in wanted}


def files() -> Iterator[Path]:
    extra = os.environ.get("LGREPLAY_VECTORS", "")
    for directory in (HERE, *(Path(name) for name in extra.split(os.pathsep) if name)):
        found = sorted(directory.glob("*.jsonl.gz"))
        assert found, f"no vectors in {directory}"
        yield from found


def lines_of(path: Path) -> list[Line]:
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


@pytest.mark.parametrize("path", tuple(files()), ids=lambda path: path.name.partition(".")[0])
def test_the_host_does_what_lguest_did(path: Path) -> None:
    lines = lines_of(path)
    assert lines, f"{path} is empty"
    wrong = []
    for number, line in enumerate(lines, start=1):
        wanted, got = outcome(line)
        if wanted != got:
            wrong.append((number, line, wanted, got))
    if wrong:
        pytest.fail(report(path, len(lines), wrong))


def report(path: Path, count: int, wrong: list[tuple[int, Line, Line, Line]]) -> str:
    parts = [f"{path.name}: {len(wrong)} of {count} vectors differ"]
    for number, line, wanted, got in wrong[:3]:
        parts.append(f"line {number}: {line['op']} {json.dumps(line['in'])}")
        parts.extend(
            f"  {name}: lguest {wanted[name]!r}, here {got[name]!r}"
            for name in wanted
            if wanted[name] != got[name]
        )
    return "\n".join(parts)


def test_all_vectors_are_there_and_none_is_skipped() -> None:
    counts = {path: len(lines_of(path)) for path in sorted(HERE.glob("*.jsonl.gz"))}
    assert sum(counts.values()) == EXPECTED_IN_ALL
    assert {path.name.partition(".")[0] for path in counts} == set(RUNNERS)


def test_a_wrong_outcome_is_noticed() -> None:
    line = {
        "op": "set_interrupt",
        "in": {"irq": 3, "irqs_pending": 0, "woken": True},
        "out": {"irqs_pending": 9, "effects": [["wake"]], "killed": None},
    }
    wanted, got = outcome(line)
    assert wanted != got
    assert "irqs_pending: lguest 9, here 8" in report(HERE / "x", 1, [(1, line, wanted, got)])
