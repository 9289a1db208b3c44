"""Checkpoints: a state of the machine as named plain values, and back, with every value looked at on the way.

A checkpoint in a trace may come from a stranger. So it holds only integers, bytes and text under names, and reading
one checks each against its range and each structure against the machine that it is for: nothing in it reaches the CPU
engine or the Host that the machine could not have produced itself in kind. Whether the state is the *right* one is
shown by the next digest in the log.

Fields: `cpu.*` are those of hostvm.cpu_state.CpuState, `guestN.*` those of hostvm.lguest.LguestState; `guestN.devices`
is for device_checkpoints.py, `guestN.dma` and `guestN.pending_dma`, where there is any, for dma_checkpoints.py;
`page_numbers` (32-bit little-endian each, ascending) and `page_contents` (4096 bytes each) are memory, pages of zeroes
left out.

Read next: hostvm/machine_state.py, session.py (which starts from one).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import replace

from hostvm.cpu_state import CpuState, Segment
from hostvm.devices.device import DeviceState
from hostvm.lguest import LguestState
from hostvm.machine import Machine, MachineState
from hostvm.observations import EndReason
from hostvm.page_tables import ROOTS, TablesState
from hostvm.units import Tick
from hostvm.x86 import PAGE_SHIFT, PAGE_SIZE, Cr0
from replay.device_checkpoints import device_values, devices_of
from replay.dma_checkpoints import binding_values, bindings_of
from replay.errors import TraceFormatError
from replay.log import Checkpoint
from replay.wire import Value

_WORD = 1 << 32
_LONG = 1 << 63
_SEGMENT_WORDS = 4
_CR0_FIXED = int(Cr0.PE | Cr0.PG | Cr0.WP)
_CPU_LISTS = {"regs": 8, "dr": 8}
_GUEST_INTS = {
    "changed": 8,
    "ss1": 1 << 16,
    "esp1": _WORD,
    "stack_pages": 3,
    "ts": _WORD,
    "next_hcall": 64,
    "pending_notify": _WORD,
    "irqs_pending": _WORD,
    "cr2": _WORD,
    "noirq_start": _WORD,
    "noirq_end": _WORD,
}


# ---- writing ---------------------------------------------------------------------------------------


def checkpoint_of(machine: Machine) -> Checkpoint:
    """The machine's state at this tick, for a trace."""
    state = machine.state()
    fields = fields_of(state)
    fields["page_numbers"] = b"".join(struct.pack("<I", page) for page, _ in state.pages)
    fields["page_contents"] = b"".join(content for _, content in state.pages)
    return Checkpoint(state.tick, fields)


def fields_of(state: MachineState) -> dict[str, Value]:
    """All of a state but its pages."""
    fields: dict[str, Value] = {
        "tick": state.tick,
        "entered": state.entered,
        "current": state.current,
        "last_guest": state.last_guest + 1,
        "finished": state.finished,
        "direct_traps": [list(pair) for pair in state.direct_traps],
    }
    fields |= {f"cpu.{name}": value for name, value in _cpu_fields(state.cpu).items()}
    for number, guest in enumerate(state.guests):
        fields |= {f"guest{number}.{name}": v for name, v in _guest_fields(guest).items()}
    for number, devices in enumerate(state.devices):
        fields[f"guest{number}.devices"] = device_values(devices)
    return fields


def _cpu_fields(cpu: CpuState) -> dict[str, Value]:
    top, status, control, tags, registers, *last = cpu.fpu
    return {
        "regs": list(cpu.regs),
        "eip": cpu.eip,
        "eflags": cpu.eflags,
        "segs": [word for segment in cpu.segs for word in segment],
        "tables": [word for segment in cpu.tables for word in segment],
        "cr": list(cpu.cr),
        "dr": list(cpu.dr),
        "fpu": [top, status, control, *last],
        "fpu_tags": tags,
        "fpu_registers": registers,
        "mxcsr": cpu.mxcsr,
        "xmm": cpu.xmm,
        "sysenter_cs": cpu.sysenter_cs,
        "shadow": cpu.shadow,
        "nmi_blocked": cpu.nmi_blocked,
    }


def _guest_fields(guest: LguestState) -> dict[str, Value]:
    fields: dict[str, Value] = {name: int(getattr(guest, name)) for name in _GUEST_INTS}
    fields |= {
        "halted": guest.halted,
        "hcall": guest.hcall,
        "idt": [word for gate in guest.idt for word in gate],
        "gdt": [word for entry in guest.gdt for word in entry],
        "timer": [] if guest.timer is None else [guest.timer],
        "lguest_data": [] if guest.lguest_data is None else [guest.lguest_data],
        "ended": [] if guest.ended is None else [int(guest.ended[0])],
        "ended_text": "" if guest.ended is None else guest.ended[1],
        "roots": list(guest.tables.roots),
        "shadowed": list(guest.tables.shadowed),
        "current_root": guest.tables.current,
        "linear": guest.tables.linear,
        "kernel_address": guest.tables.kernel_address,
        "pool": list(guest.tables.pool),
    }
    if guest.dma:
        fields["dma"] = binding_values(guest.dma)
    if guest.pending_dma is not None:
        fields["pending_dma"] = list(guest.pending_dma)
    return fields


# ---- reading ---------------------------------------------------------------------------------------


def state_of(checkpoint: Checkpoint, machine: Machine, path: str, offset: int) -> MachineState:
    """The state that a checkpoint holds, for a machine of the same configuration.

    Raises TraceFormatError, naming the trace and the place in it, for anything that cannot be such a state.
    """
    fields = _Fields(checkpoint.fields, lambda text: TraceFormatError(path, offset, text))
    return replace(_bare(fields, checkpoint.tick, machine), pages=_pages(fields, machine))


def bare_state_of(
    checkpoint: Checkpoint, machine: Machine, path: str, offset: int
) -> tuple[MachineState, tuple[int, ...]]:
    """As `state_of`, where the pages' contents are elsewhere: the state without pages, and the pages' numbers."""
    fields = _Fields(checkpoint.fields, lambda text: TraceFormatError(path, offset, text))
    return _bare(fields, checkpoint.tick, machine), _page_numbers(fields, machine)


def _bare(fields: _Fields, at: Tick, machine: Machine) -> MachineState:
    tick = fields.integer("tick", _LONG)
    fields.demand(tick == at, "a checkpoint of another tick")
    count = len(machine.guests)
    direct = fields.pairs("direct_traps", 256)
    return MachineState(
        tick=Tick(tick),
        cpu=_cpu(fields.part("cpu")),
        guests=tuple(_guest(fields.part(f"guest{n}"), machine, n) for n in range(count)),
        devices=tuple(_devices(fields.part(f"guest{n}"), machine, n) for n in range(count)),
        entered=fields.flag("entered"),
        current=fields.integer("current", count),
        last_guest=fields.integer("last_guest", count + 1) - 1,
        finished=fields.flag("finished"),
        direct_traps=direct,
        pages=(),
    )


class _Fields:
    """The values of a checkpoint by name; whatever does not fit raises `error(text)`."""

    def __init__(self, values: Mapping[str, Value], error: Callable[[str], Exception]) -> None:
        self._values = values
        self._error = error

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def part(self, prefix: str) -> _Fields:
        """The fields whose names begin with `prefix` and a dot."""
        start = f"{prefix}."
        inside = {k[len(start) :]: v for k, v in self._values.items() if k.startswith(start)}
        return _Fields(inside, lambda text: self._error(f"{prefix}: {text}"))

    def error(self, text: str) -> Exception:
        """What to raise."""
        return self._error(text)

    def demand(self, fits: bool, text: str) -> None:
        """Refuse unless `fits`."""
        if not fits:
            raise self._error(text)

    def integer(self, name: str, bound: int) -> int:
        """An integer of range(bound)."""
        value = self._values.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < bound:
            raise self._error(f"checkpoint field {name} is not a number below {bound:#x}")
        return value

    def flag(self, name: str) -> bool:
        """A truth value."""
        value = self._values.get(name)
        if not isinstance(value, bool):
            raise self._error(f"checkpoint field {name} is not a truth value")
        return value

    def raw(self, name: str, length: int | None = None) -> bytes:
        """Bytes, of exactly `length` if given."""
        value = self._values.get(name)
        if not isinstance(value, bytes) or (length is not None and len(value) != length):
            raise self._error(f"checkpoint field {name} is not the expected bytes")
        return value

    def text(self, name: str) -> str:
        """Text."""
        value = self._values.get(name)
        if not isinstance(value, str):
            raise self._error(f"checkpoint field {name} is not text")
        return value

    def listing(self, name: str) -> list[Value]:
        """A list of anything, for somebody else to look at."""
        values = self._values.get(name)
        if not isinstance(values, list):
            raise self._error(f"checkpoint field {name} is not a list")
        return values

    def integers(self, name: str, bound: int, length: int | None = None) -> tuple[int, ...]:
        """Integers of range(bound), exactly `length` of them if given."""
        values = self._values.get(name)
        if not isinstance(values, list) or (length is not None and len(values) != length):
            raise self._error(f"checkpoint field {name} is not the expected list")
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < bound:
                raise self._error(f"checkpoint field {name} has an entry not below {bound:#x}")
        return tuple(v for v in values if isinstance(v, int))

    def pairs(self, name: str, bound: int) -> tuple[tuple[int, int], ...]:
        """(number below bound, count) pairs in ascending order."""
        values = self._values.get(name)
        found: list[tuple[int, int]] = []
        for value in values if isinstance(values, list) else [None]:
            match value:
                case [int(first), int(second)] if 0 <= first < bound and 0 <= second < _LONG:
                    found.append((first, second))
                case _:
                    raise self._error(f"checkpoint field {name} is not a list of pairs")
        return tuple(found)

    def optional(self, name: str, bound: int) -> int | None:
        """An integer or nothing, as a list of one or none."""
        values = self.integers(name, bound)
        self.demand(len(values) <= 1, f"checkpoint field {name} has several values")
        return values[0] if values else None


def _segments(fields: _Fields, name: str, count: int) -> tuple[Segment, ...]:
    words = fields.integers(name, _WORD, count * _SEGMENT_WORDS)
    return tuple(Segment(*words[at : at + 4]) for at in range(0, len(words), _SEGMENT_WORDS))


def _cpu(fields: _Fields) -> CpuState:
    cr = fields.integers("cr", _WORD, 4)
    fields.demand(cr[0] & _CR0_FIXED == _CR0_FIXED, "CR0 without protection or paging")
    top, status, control, *last = fields.integers("fpu", _WORD, 8)
    tags = fields.raw("fpu_tags", 8)
    fields.demand(top < 8 and max(tags) <= 1, "an impossible x87 stack")
    fields.demand(
        status < 1 << 16 and control < 1 << 16, "an impossible x87 control or status word"
    )
    fields.demand(max(last[:3]) < 1 << 16, "an impossible x87 last instruction")
    opcode, code, data, instruction, operand = last
    segs = _segments(fields, "segs", 6)
    return CpuState(
        regs=fields.integers("regs", _WORD, _CPU_LISTS["regs"]),
        eip=fields.integer("eip", _WORD),
        eflags=fields.integer("eflags", 1 << 22) & ~(1 << 17),
        segs=segs,
        tables=_segments(fields, "tables", 4),
        cr=(cr[0], cr[1], cr[2], cr[3]),
        dr=fields.integers("dr", _WORD, _CPU_LISTS["dr"]),
        fpu=(
            *(top, status, control),
            *(tags, fields.raw("fpu_registers", 80)),
            *(opcode, code, data, instruction, operand),
        ),
        mxcsr=fields.integer("mxcsr", 1 << 16),
        xmm=fields.raw("xmm", 128),
        sysenter_cs=fields.integer("sysenter_cs", 1),
        shadow=fields.flag("shadow"),
        nmi_blocked=fields.flag("nmi_blocked"),
    )


def _two_words(words: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    return tuple(zip(words[::2], words[1::2], strict=True))


def _guest(fields: _Fields, machine: Machine, number: int) -> LguestState:
    pattern = machine.guests[number].lguest.state()
    numbers = {name: fields.integer(name, bound) for name, bound in _GUEST_INTS.items()}
    ended = fields.optional("ended", max(EndReason) + 1)
    text = fields.text("ended_text")
    fields.demand(ended is None or ended in set(EndReason), "an unknown end")
    pending_dma = fields.integers("pending_dma", _WORD) if "pending_dma" in fields else ()
    fields.demand(len(pending_dma) in (0, 2), "half a buffer that is sent")
    state = LguestState(
        **numbers,  # type: ignore[arg-type]
        idt=_two_words(fields.integers("idt", _WORD, 2 * len(pattern.idt))),
        gdt=_two_words(fields.integers("gdt", _WORD, 2 * len(pattern.gdt))),
        halted=fields.flag("halted"),
        hcall=fields.flag("hcall"),
        timer=fields.optional("timer", _LONG),
        lguest_data=fields.optional("lguest_data", _WORD),
        ended=None if ended is None else (ended, text),
        tables=_tables(fields, machine, number),
    )
    bound = fields.listing("dma") if "dma" in fields else []
    return replace(
        state,
        dma=bindings_of(bound, fields.error),
        pending_dma=(pending_dma[0], pending_dma[1]) if pending_dma else None,
    )


def _tables(fields: _Fields, machine: Machine, number: int) -> TablesState:
    pool = machine.guests[number].tables.pool
    pages = fields.integers("pool", pool.count)
    fields.demand(list(pages) == sorted(set(pages)), "shadow pages out of order")
    roots = fields.integers("roots", _WORD, ROOTS)
    taken = {0} | {pool.base + page * PAGE_SIZE for page in pages}
    fields.demand(set(roots) <= taken, "a shadow root outside the pool")
    current = fields.integer("current_root", ROOTS)
    fields.demand(bool(roots[current]), "no shadow root in use")
    return TablesState(
        roots=roots,
        shadowed=fields.integers("shadowed", _WORD, ROOTS),
        current=current,
        linear=fields.flag("linear"),
        kernel_address=fields.integer("kernel_address", _WORD),
        pool=pages,
    )


def _devices(fields: _Fields, machine: Machine, number: int) -> tuple[DeviceState, ...]:
    return devices_of(fields.listing("devices"), machine.guests[number].devices, fields.error)


def _page_numbers(fields: _Fields, machine: Machine) -> tuple[int, ...]:
    raw = fields.raw("page_numbers")
    fields.demand(len(raw) % 4 == 0, "half a page number")
    numbers = struct.unpack(f"<{len(raw) // 4}I", raw)
    first = machine.memory.base >> PAGE_SHIFT
    last = machine.memory.base + machine.memory.size >> PAGE_SHIFT
    inside = all(first <= number < last for number in numbers)
    fields.demand(inside and list(numbers) == sorted(set(numbers)), "pages outside the machine")
    return numbers


def _pages(fields: _Fields, machine: Machine) -> tuple[tuple[int, bytes], ...]:
    numbers = _page_numbers(fields, machine)
    contents = fields.raw("page_contents", len(numbers) * PAGE_SIZE)
    return tuple(
        (number, contents[at * PAGE_SIZE : (at + 1) * PAGE_SIZE])
        for at, number in enumerate(numbers)
    )


__all__ = ["bare_state_of", "checkpoint_of", "fields_of", "state_of"]
