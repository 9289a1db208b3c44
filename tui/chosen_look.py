"""Looking at the Guest that the user has chosen, whichever Guest has the processor.

Nobody chosen, or the one chosen has the processor (or was the last to have it): then this is the machine as it is. Else
the chosen Guest is *away*: its registers are those that the Switcher saved when it came out last, memory is seen
through its own page tables, and it stands where it will go on. For the engine's thread; read next: snapshot.py.
"""

from __future__ import annotations

import re
from dataclasses import replace

from hostvm.cpu_state import ECX, ESP, CpuState, Segment
from hostvm.launched_guest import LaunchedGuest
from hostvm.lguest_regs import LguestRegs
from hostvm.machine import Machine
from replay.look import CURRENT, CurrentSpace, GuestSpace, Look, Space, World
from replay.places import Place
from replay.predicate import evaluate
from replay.timeline import Timeline
from tui.changes import GENERAL, SEGMENTS

_WORD = 0xFFFFFFFF
_SAVED = (*GENERAL, *SEGMENTS, "eip", "eflags")
_NAMED = re.compile(rf"\b({'|'.join((*_SAVED, 'cpl', 'in_noirq'))})\b")


class ChosenLook(Look):
    """A machine, seen from the Guest `chosen`; None: from the one that runs."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.chosen: int | None = None

    @property
    def guest(self) -> LaunchedGuest:
        """The chosen Guest, else the one that runs, or ran last."""
        return self.machine.current_guest if self.chosen is None else self._chosen

    @property
    def _chosen(self) -> LaunchedGuest:
        assert self.chosen is not None
        return self.machine.guests[self.chosen]

    @property
    def away(self) -> bool:
        """Whether the Guest that is looked at is not the processor's."""
        return self.chosen is not None and self.chosen != self.machine.current_guest.number

    @property
    def world(self) -> World:
        """Whose instruction comes next, or will when this Guest goes on."""
        if not self.away:
            return super().world
        return World.USER if self.guest.regs.cs & 3 == 3 else World.KERNEL

    @property
    def in_guest(self) -> bool:
        """Whether that is the Guest's."""
        return self.world in (World.KERNEL, World.USER)

    @property
    def eip(self) -> int:
        """Where that instruction is."""
        return self.guest.regs.eip if self.away else int(self.machine.cpu.eip)

    @property
    def esp(self) -> int:
        """Its stack pointer."""
        return self.guest.regs.esp if self.away else self._register(ESP)

    @property
    def ecx(self) -> int:
        """What a `loop` there would count."""
        return self.guest.regs.ecx if self.away else self._register(ECX)

    @property
    def eflags(self) -> int:
        """Its flags."""
        return self.guest.regs.eflags if self.away else self.machine.cpu.eflags()

    def _register(self, number: int) -> int:
        return int(self.machine.cpu.env.regs[number]) & _WORD

    @property
    def cpu(self) -> CpuState:
        """All registers; of a Guest that is away, those saved, and otherwise the processor's."""
        state = super().cpu
        return _with_saved(state, self.guest) if self.away else state

    def physical(self, address: int, space: Space = CURRENT) -> int | None:
        """Host-physical address, or None."""
        if self.away and isinstance(space, CurrentSpace):
            space = self.own_space
        return super().physical(address, space)

    @property
    def own_space(self) -> Space:
        """What a linear address means here."""
        return GuestSpace(self.guest.number) if self.away else CURRENT

    def place(self, address: int, length: int) -> Place:
        """Memory at a linear address here."""
        return Place(address, length, self.own_space)

    def said(self, expression: str) -> str:
        """An expression with what only a processor has put in, as a Guest that is away has it."""
        if not self.away:
            return expression
        return _NAMED.sub(lambda found: f"{self._saved(found[1]):#x}", expression)

    def _saved(self, name: str) -> int:
        regs, lguest = self.guest.regs, self.guest.lguest
        match name:
            case "cpl":
                return regs.cs & 3
            case "in_noirq":
                return lguest.noirq_start <= regs.eip < lguest.noirq_end
        return int(getattr(regs, name))

    def evaluate(self, timeline: Timeline, expression: str) -> int:
        """The value of an expression for this Guest. Raises BadPredicate."""
        return evaluate(self.said(expression), self, timeline.address_of)

    def address(self, timeline: Timeline, expression: str) -> int:
        """The same as a linear address."""
        return self.evaluate(timeline, expression) & _WORD


def _with_saved(state: CpuState, guest: LaunchedGuest) -> CpuState:
    regs: LguestRegs = guest.regs
    segments = tuple(Segment(getattr(regs, name) & 0xFFFF, 0, 0, 0) for name in SEGMENTS)
    return replace(
        state,
        regs=tuple(getattr(regs, name) for name in GENERAL),
        eip=regs.eip,
        eflags=regs.eflags,
        segs=segments,
        cr=(*state.cr[:2], int(guest.tables.root), state.cr[3]),
    )


__all__ = ["ChosenLook"]
