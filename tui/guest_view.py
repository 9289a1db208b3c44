"""What the Host knows of a Guest, as values for the screen: gates, interrupts, shared page, ring, saved registers.

For the engine's thread. Read next: snapshot.py. Sources: lguest, drivers/lguest/interrupts_and_traps.c, hypercalls.c;
include/linux/lguest.h for the shared page.
"""

from __future__ import annotations

from dataclasses import fields

from hostvm.gates import FIRST_EXTERNAL_VECTOR
from hostvm.interrupts_and_traps import LGUEST_IRQS
from hostvm.launched_guest import LaunchedGuest
from hostvm.lguest_data import IRQ_ON, RING_SLOTS, SLOT_FREE, DataLayout
from hostvm.lguest_regs import TRAP_IN_SWITCHER
from hostvm.x86 import gate_offset, gate_present
from replay.describe import TRAP_NAMES, hypercall_of
from replay.events import Kind
from replay.symbols import Symbols
from replay.whynot import reasons
from tui.chosen_look import ChosenLook
from tui.event_index import EventIndex
from tui.values import Gate, Irq, Slot, Word

_VECTORS = 256
_NOT_WORDS = frozenset({"size", "slot_words", "hcalls", "hcall_status"})


class GuestView:
    """Looks at the chosen Guest of one timeline's machine."""

    def __init__(self, look: ChosenLook, symbols: Symbols, index: EventIndex) -> None:
        self._look = look
        self._symbols = symbols
        self._index = index
        self._gates_of: tuple[object, bytes, bool] | None = None
        self._gates: tuple[Gate, ...] = ()

    @property
    def _guest(self) -> LaunchedGuest:
        return self._look.guest

    def name(self, address: int) -> str:
        """A Guest's linear address as symbol and offset."""
        found = self._symbols.name_of(address, in_guest=True, guest=self._guest.number)
        return "" if found is None else str(found)

    # ---- gates ------------------------------------------------------------------------------------

    def gates(self) -> tuple[Gate, ...]:
        """All vectors; made anew only when one of the two tables has changed."""
        idt, away = tuple(self._guest.lguest.idt), self._look.away
        real = self._look.machine.memory.read(self._guest.place.guest_idt, 8 * _VECTORS)
        if self._gates_of != (idt, real, away):
            self._gates_of = idt, real, away
            self._gates = tuple(self._gate(v, idt, real) for v in range(_VECTORS))
        return self._gates

    def _gate(self, vector: int, idt: tuple[tuple[int, int], ...], real: bytes) -> Gate:
        lo, hi = idt[vector] if vector < len(idt) else (0, 0)
        real_lo = int.from_bytes(real[8 * vector : 8 * vector + 4], "little")
        real_hi = int.from_bytes(real[8 * vector + 4 : 8 * vector + 8], "little")
        handler = self.name(gate_offset(lo, hi)) if gate_present(hi) else ""
        way = self._way(vector, gate_offset(real_lo, real_hi), gate_present(real_hi))
        return Gate(vector, vector_name(vector), lo, hi, real_lo, real_hi, handler, way)

    def _way(self, vector: int, leads_to: int, present: bool) -> str:
        if self._look.away:
            return "away"
        if not present:
            return "absent"
        switcher = self._look.machine.switcher_of(self._guest)
        return "default" if leads_to == switcher.default_idt_entries[vector] else "direct"

    # ---- interrupts ---------------------------------------------------------------------------------

    def irqs(self, tick: int, end: int) -> tuple[Irq, ...]:
        """All virtual interrupts, with what happens to them in a history that ends at `end`."""
        return tuple(self._irq(irq, tick, end) for irq in range(LGUEST_IRQS))

    def _irq(self, irq: int, tick: int, end: int) -> Irq:
        lguest = self._guest.lguest
        pending = bool(lguest.irqs_pending >> irq & 1)
        blocked = lguest.data.get(lguest.data.layout.blocked_interrupts)
        why = reasons(self._look, irq, self._guest.number) if pending else ()
        number = self._guest.number
        raised, next_raised = self._index.around(Kind.IRQ_RAISED, irq, tick, number)
        delivered, next_delivered = self._index.around(Kind.IRQ_DELIVERED, irq, tick, number)
        return Irq(
            irq=irq,
            pending=pending,
            blocked=blocked is None or bool(blocked >> irq & 1),
            deliverable=pending and len(why) == 1 and why[0].name == "HOST_AWAITED",
            why=tuple(each.value for each in why),
            raised=raised,
            delivered=delivered,
            next_raised=None if next_raised is not None and next_raised > end else next_raised,
            next_delivered=(
                None if next_delivered is not None and next_delivered > end else next_delivered
            ),
        )

    # ---- the shared page ------------------------------------------------------------------------------

    def shared(self) -> tuple[Word, ...]:
        """The words of `struct lguest_data`, in the order in which they lie; empty before the Guest named its place."""
        data = self._guest.lguest.data
        if data.address is None:
            return ()
        found = [Word("(address)", data.address, "guest-physical")]
        for offset, name in sorted(_words_of(data.layout)):
            value = data.get(offset)
            found.append(Word(name, value, self._meaning(name, value or 0)))
        return tuple(found)

    def _meaning(self, name: str, value: int) -> str:
        match name:
            case "irq_enabled":
                return "on" if value & IRQ_ON else "off"
            case "irq_pending":
                waiting = "one is waiting" if self._guest.lguest.irqs_pending else "none is waiting"
                return waiting if value else ""
            case "blocked_interrupts":
                return numbers(value)
            case "noirq_start" | "noirq_end":
                return self.name(value)
            case "syscall_vec":
                return vector_name(value)
        return ""

    def ring(self) -> tuple[Slot, ...]:
        """The slots of the hypercall ring; those that are free keep what they last held."""
        lguest = self._guest.lguest
        layout = lguest.data.layout
        status = lguest.data.get_bytes(layout.hcall_status, RING_SLOTS)
        size = 4 * layout.slot_words
        calls = lguest.data.get_bytes(layout.hcalls, RING_SLOTS * size)
        if status is None or calls is None:
            return ()
        return tuple(
            self._slot(i, status[i], calls[i * size : (i + 1) * size]) for i in range(RING_SLOTS)
        )

    def _slot(self, index: int, status: int, raw: bytes) -> Slot:
        lguest = self._guest.lguest
        words = [int.from_bytes(raw[at : at + 4], "little") for at in range(0, len(raw), 4)]
        order = lguest.abi.slot_order
        arguments = [0] * len(order)
        for word, argument in zip(words, order, strict=False):
            arguments[argument] = word
        call = hypercall_of(arguments[0], lguest.abi.name)
        free = status == SLOT_FREE
        name = call.name if call else f"{arguments[0]:#x}"
        return Slot(index, free, name, tuple(arguments[1:]), index == lguest.next_hcall)

    # ---- the Host's own ---------------------------------------------------------------------------------

    def saved(self) -> tuple[Word, ...]:
        """`struct lguest_regs`: what the Switcher saved when the Guest came out last."""
        regs = self._guest.regs
        return tuple(
            Word(name, value := int(getattr(regs, name)), self._saved_meaning(name, value))
            for name in regs.addresses
        )

    def _saved_meaning(self, name: str, value: int) -> str:
        if name == "trapnum":
            return "trap in the Switcher" if value == TRAP_IN_SWITCHER else vector_name(value)
        return self.name(value) if name == "eip" else ""


def _words_of(layout: DataLayout) -> list[tuple[int, str]]:
    found = []
    for each in fields(layout):
        offset = getattr(layout, each.name)
        if each.name not in _NOT_WORDS and offset is not None:
            found.append((int(offset), each.name))
    return [*found, (layout.time + 4, "time_ns")]


def vector_name(vector: int) -> str:
    """PF, IRQ 0, SYSCALL; empty for a vector without a name."""
    if vector in TRAP_NAMES:
        return TRAP_NAMES[vector]
    irq = vector - FIRST_EXTERNAL_VECTOR
    return f"IRQ {irq}" if 0 <= irq < LGUEST_IRQS else ""


def numbers(bits: int) -> str:
    """{0,3}: which bits are set; long runs are shortened."""
    found = [n for n in range(LGUEST_IRQS) if bits >> n & 1]
    runs: list[list[int]] = []
    for number in found:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    texts = [f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    return "{" + ",".join(texts) + "}"


__all__ = ["GuestView", "numbers", "vector_name"]
