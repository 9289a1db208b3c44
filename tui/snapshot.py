"""Taking a snapshot: everything that panes draw, read off the timeline where it stands.

For the engine's thread, between two moves. Looking changes nothing, so a snapshot may be taken at any tick; what it
costs is bounded by the size of the screen, not by that of the trace.

Read next: values.py for what it is, engine.py for who takes it.
"""

from __future__ import annotations

from dataclasses import replace

from hostvm.lguest_data import IRQ_ON
from hostvm.x86 import Eflags
from replay.branch import Branch
from replay.describe import END_OF_GUEST, HOST_VECTOR_NAMES
from replay.events import HostInterrupt
from replay.look import GuestSpace, World
from replay.timeline import Timeline
from tui.changes import compared
from tui.chosen_look import ChosenLook
from tui.code_view import CodeView
from tui.event_index import EventIndex
from tui.events_view import event_list, strips
from tui.guest_view import GuestView
from tui.memory_view import callers, memory, stack, trap_frames, walk
from tui.source_lines import SourceLines
from tui.tasks_view import tasks
from tui.values import Changed, Instruction, Point, Position, Snapshot, SourceText, Wish

CONSOLE = 16 << 10
_NOIRQ_LONGEST = 256


class Camera:
    """Takes snapshots of one timeline. `below`: the camera of the history that this one is a branch of."""

    def __init__(self, timeline: Timeline, below: Camera | None = None) -> None:
        self.timeline = timeline
        self.look = ChosenLook(timeline.machine)
        config = timeline.machine.config
        self.branch = ""
        if below is None:
            self.index = EventIndex(timeline.store)
            self.sources = SourceLines([guest.kernel for guest in config.guests])
        else:
            assert isinstance(timeline, Branch)
            self.index = below.index.branched(timeline.frontier.store, timeline.branch_tick)
            self.sources = below.sources
            self.choose(below.look.chosen)
            self.branch = f"{below.branch} > " * bool(below.branch) + f"{timeline.branch_tick:,}"
        self.generations = tuple(guest.abi for guest in config.guests)
        self.code = CodeView(self.look, timeline.symbols, self.sources)
        self._guest = GuestView(self.look, timeline.symbols, self.index)

    def choose(self, guest: int | None) -> None:
        """Show this Guest; None: the one that runs."""
        self.look.chosen = self.timeline.names_of = guest

    def take(
        self,
        wish: Wish,
        points: tuple[Point, ...] = (),
        before: Snapshot | None = None,
        since: str = "",
    ) -> Snapshot:
        """The moment; changes are told against `before`."""
        timeline, look = self.timeline, self.look
        position = self._position()
        self.code.with_lines = wish.code_as != "asm"
        lguest = look.guest.lguest
        rows = max(24, wish.rows)
        shot = Snapshot(
            position=position,
            cpu=look.cpu,
            eip=look.eip,
            code_symbol=self.code.name(look.eip),
            away=look.away,
            gates=self._guest.gates(),
            irqs=self._guest.irqs(timeline.tick, timeline.end_tick),
            noirq=(lguest.noirq_start, lguest.noirq_end),
            noirq_code=self._noirq_code(),
            guest_eip=self._guest_eip(),
            code=self.code.around(look.eip if wish.code_at is None else wish.code_at, rows, rows),
            source=self._source(look.eip if wish.code_at is None else wish.code_at, wish),
            memory=memory(timeline, look, wish.memory_at, wish.space, 16 * rows),
            stack=stack(look, 4 * rows),
            saved=self._guest.saved(),
            frames=trap_frames(look, self.code),
            callers=callers(look, self.code, self.sources),
            walk=walk(timeline, look, wish.table_at),
            console=self.index.console_before(timeline.tick, CONSOLE, look.guest.number),
            shared=self._guest.shared(),
            ring=self._guest.ring(),
            strips=strips(self.index, wish, timeline.first_tick, timeline.end_tick),
            events=event_list(
                timeline.store,
                self.index,
                wish,
                timeline.tick,
                timeline.end_tick,
                self.generations,
            ),
            bookmarks=tuple(timeline.bookmarks),
            points=points,
            wish=wish,
        )
        if wish.tasks:
            found, missing = tasks(look, timeline.symbols)
            shot = replace(shot, tasks=found, no_tasks=missing)
        changed = Changed() if before is None else compared(before, shot)
        return replace(shot, changed=replace(changed, since=since))

    def _position(self) -> Position:
        timeline, look = self.timeline, self.look
        guest, cpu, store = look.guest, look.machine.cpu, timeline.store
        data, ended = guest.lguest.data, guest.lguest.ended
        enabled = data.get(data.layout.irq_enabled)
        before = store.ordinal_of(store.position_at(timeline.tick))
        return Position(
            tick=timeline.tick,
            first=timeline.first_tick,
            end=timeline.end_tick,
            event=store.first_number + before,
            events=store.first_number + len(store),
            world=timeline.look.world,
            ring=cpu.cpl,
            eip=cpu.eip,
            symbol=self._symbol_of(cpu.eip),
            cr3=int(cpu.env.cr[3]) & 0xFFFFFFFF,
            virtual_if=None if enabled is None else bool(enabled & IRQ_ON),
            real_if=bool(cpu.eflags() & Eflags.IF),
            pending=guest.lguest.irqs_pending,
            blocked=data.get(data.layout.blocked_interrupts),
            halted=guest.lguest.halted,
            in_noirq=self._in_noirq(),
            ended=f"{END_OF_GUEST[ended[0]]}: {ended[1]}" if ended else "",
            guest=guest.number,
            guests=len(look.machine.guests),
            kept=look.chosen is not None,
            runs=look.machine.current_guest.number,
            branch=self.branch,
            next_is=self._next_is(),
        )

    def _source(self, address: int, wish: Wish) -> SourceText:
        """The part of the source around an address, if it is wished for and to be found."""
        guest = self.look.guest.number
        place = self.sources.place(address, guest) if wish.code_as == "source" else None
        if place is None:
            return SourceText()
        lines = self.sources.files.lines(place.path)
        first = max(0, place.line - 1 - wish.rows)
        known = self.sources.addresses(place.path, guest)
        part = lines[first : place.line + wish.rows]
        return SourceText(
            place.path,
            first + 1,
            tuple((text, known.get(first + 1 + at)) for at, text in enumerate(part)),
            place.line,
        )

    def _guest_eip(self) -> int:
        """Where the Guest that is shown is, or will go on."""
        look = self.look
        return look.eip if look.in_guest else look.guest.regs.eip

    def _in_noirq(self) -> bool:
        lguest = self.look.guest.lguest
        return lguest.noirq_start <= self._guest_eip() < lguest.noirq_end

    def _symbol_of(self, eip: int) -> str:
        """The name of an address of the processor's."""
        if not self.look.away:
            return self.code.name(eip)
        machine = self.timeline.machine
        guest, in_guest = machine.current_guest.number, bool(machine.cpu.cpl)
        found = self.timeline.symbols.name_of(eip, in_guest=in_guest, guest=guest)
        return "" if found is None else str(found)

    def _next_is(self) -> str:
        """What the step at hand is, where it is no plain instruction."""
        timeline, look = self.timeline, self.timeline.look
        if look.machine.finished:
            return "the end"
        for event in timeline.store.events_at(timeline.tick):
            if isinstance(event, HostInterrupt):
                name = HOST_VECTOR_NAMES.get(event.vector, "")
                return f"interrupt {event.vector:#x} {name}".rstrip()
        if look.world is World.HOST and look.read(look.machine.cpu.eip, 1) == b"\xf4":
            return "the Host's turn"
        return "" if timeline.begins else "a REP goes on"

    def _noirq_code(self) -> tuple[Instruction, ...]:
        """The instructions of the window in which the Guest must not be interrupted, and the one behind it."""
        lguest = self.look.guest.lguest
        size = lguest.noirq_end - lguest.noirq_start
        if not 0 < size <= _NOIRQ_LONGEST:
            return ()
        space = GuestSpace(self.look.guest.number)
        found = self.code.from_(lguest.noirq_start, size + 1, space)
        inside = [each for each in found if each.address < lguest.noirq_end]
        return tuple(found[: len(inside) + 1])


__all__ = ["CONSOLE", "Camera"]
