"""Hostile Guests on the whole machine: run, recorded, replayed, and looked at for harm.

Beside each hostile Guest stands a *canary*: a Guest with something in its memory, which asks for a timer interrupt and
sleeps. When the timer has rung it gets the CPU, looks whether its memory is as it was, and says so. `harm` looks at
the rest: the Host's own pages, the tables that the CPU walks while the hostile Guest runs, and what lies behind its
memory.

Thousands of runs share a machine: `restore` puts it back to one of two states, power-on or a kernel that has set itself
up, and then the attack's pages are put in. A test shows that a machine built for one attack does the same.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np

from hostvm.abi import Abi, Call, generation
from hostvm.launched_guest import LaunchedGuest
from hostvm.launcher import GuestConfig
from hostvm.lguest_regs import KERNEL_CS
from hostvm.machine import Machine, MachineConfig, MachineState
from hostvm.memory_map import (
    CPU_PAGES,
    HOST_PAGE_TABLE,
    HOST_PGDIR,
    HOST_SWITCHER_PAGE_TABLE,
    HOST_TABLES,
    HOST_TEXT,
    SWITCHER_TEXT,
    guest_shadow_pool,
    guest_switcher_page_table,
)
from hostvm.observations import GuestEnded, Observation
from hostvm.page_tables import SWITCHER_SLOT
from hostvm.switcher import GDT_ENTRIES, IDT_ENTRIES, LGUEST_CS, PAGES, TSS_SELECTOR
from hostvm.units import Tick
from hostvm.world import World
from hostvm.x86 import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, Pte
from replay.codec import EventEncoder
from replay.events import Event
from replay.log import TraceReader
from replay.machine_header import Origin
from replay.recording import RecordingWorld, record
from replay.session import ReplayWorld, Session
from replay.virtual_world import VirtualWorld
from tests.properties.hostile_attacks import Attack
from tests.properties.hostile_kernels import (
    DATA,
    DEVICES,
    HANDLER,
    MEMORY,
    PROLOGUE,
    SEGMENTS,
    STACK,
    data_page,
    elf,
    gate,
    good_segments,
    hypercall,
    mov,
    numbers_of,
    prologue,
)

CANARY, HOSTILE = 0, 1
SONG, CRY = b"the canary sings\0", b"the canary was harmed\0"
BUDGET = 20_000
DIGEST_INTERVAL = 1 << 12
_SONG, _CRY, _TREASURE = 0x18000, 0x18100, 0x40000
_TREASURE_WORDS = PAGE_SIZE // 4
# Late in the budget: when it rings the canary gets the CPU, whatever the other does.
_ALARM_NS = 140_000
_OURS = (10, 11, 16, 31)
_HOST_PAGES = (HOST_PGDIR, HOST_PAGE_TABLE, HOST_SWITCHER_PAGE_TABLE, HOST_TABLES, SWITCHER_TEXT)
_KEPT_PAGES = (
    *_HOST_PAGES,
    *(HOST_TEXT, HOST_TEXT + PAGE_SIZE),
    *(guest_switcher_page_table(CANARY), guest_switcher_page_table(HOSTILE)),
)


# The canary.


def _treasure() -> bytes:
    return Random("treasure").randbytes(_TREASURE_WORDS * 4)


def canary_kernel(abi: Abi) -> bytes:
    """Sleep until the timer rings; then add all words of the treasure up, and say what that tells."""
    call = numbers_of(abi)
    total = sum(struct.unpack(f"<{_TREASURE_WORDS}I", _treasure())) & 0xFFFFFFFF
    wake = 0x11000
    sleep = mov("esp", STACK) + hypercall(abi, call[Call.LGUEST_INIT], DATA)
    sleep += hypercall(abi, call[Call.LOAD_IDT_ENTRY], 0x20, *gate(wake))
    sleep += hypercall(abi, call[Call.SET_CLOCKEVENT], _ALARM_NS)
    sleep += hypercall(abi, call[Call.HALT]) + b"\x0f\x0b"
    # 1: add (%esi),%eax; add $4,%esi; loop 1b; cmp $total,%eax; jne over the song
    add = mov("esi", _TREASURE) + mov("ecx", _TREASURE_WORDS) + mov("eax", 0)
    add += b"\x03\x06\x83\xc6\x04\xe2\xf9\x3d" + struct.pack("<I", total)
    sing = hypercall(abi, call[Call.SHUTDOWN], _SONG, 1)
    add += b"\x75" + bytes((len(sing),)) + sing + hypercall(abi, call[Call.SHUTDOWN], _CRY, 1)
    pages = {HANDLER: sleep, wake: add, _SONG: SONG, _CRY: CRY, _TREASURE: _treasure()}
    return elf(HANDLER, {**pages, DATA: bytes(data_page(abi.data))})


# One machine for many runs.


def _world(seed: int) -> VirtualWorld:
    return VirtualWorld(seed, disks={(HOSTILE, 0): bytes(range(256)) * 128})


@dataclass(frozen=True, slots=True)
class Fate:
    """How a run came out; `end` is how the hostile Guest ended, None for one that is still alive."""

    tick: int
    finished: bool
    end: GuestEnded | None
    digest: bytes


def config_of(kernel: bytes, abi: str, digest_interval: int = DIGEST_INTERVAL) -> MachineConfig:
    """A canary and a hostile Guest."""
    canary = GuestConfig(canary_kernel(generation(abi)), memory=MEMORY, abi=abi, name="canary")
    hostile = GuestConfig(kernel, memory=MEMORY, abi=abi, name="hostile", devices=DEVICES)
    return MachineConfig((canary, hostile), digest_interval, memory_digest_every=4, restarts=True)


def kernel_of(attack: Attack) -> bytes:
    """The kernel file of an attack that begins at power-on."""
    assert not attack.settled
    return elf(PROLOGUE, attack.pages)


class HostileRuns:
    """A machine on which one attack after another runs for at most `budget` ticks."""

    def __init__(self, abi: str = "3.2", budget: int = BUDGET) -> None:
        self.budget = budget
        self._layout = generation(abi).data
        pages = {PROLOGUE: prologue(generation(abi)), SEGMENTS: good_segments()}
        pages[DATA] = bytes(data_page(self._layout))
        # What a Guest that restarts comes to: it gives up at once.
        pages[HANDLER] = hypercall(
            generation(abi), numbers_of(generation(abi))[Call.SHUTDOWN], 0, 1
        )
        self.machine = Machine(config_of(elf(PROLOGUE, pages), abi), VirtualWorld())
        self._power_on = self.machine.state()
        while (self.machine._current, self.machine.cpu.eip) != (HOSTILE, HANDLER):
            self.machine.run(Tick(self.machine.tick + 1))
            assert self.machine.tick < budget // 2
        self._settled = self.machine.state()
        self._kept = dict(self._settled.pages)

    @property
    def hostile(self) -> LaunchedGuest:
        """The Guest to be watched."""
        return self.machine.guests[HOSTILE]

    def record(self, seed: int, attack: Attack) -> tuple[Fate, list[Event]]:
        """Run an attack in one go; what a trace of it has."""
        events: list[Event] = []
        world = RecordingWorld(_world(seed))
        world.attach(events.append)
        return self._run(world, attack, [self.budget], events), events

    def replay(self, events: Sequence[Event], attack: Attack, cuts: Sequence[int]) -> Fate:
        """Run it again from its trace, in pieces that end at `cuts`. Raises Divergence."""
        world = ReplayWorld(events, len(self.machine.guests))
        fate = self._run(world, attack, [*cuts, self.budget], events)
        assert world.next_event() is None, "something more was recorded"
        return fate

    def _run(
        self, world: World, attack: Attack, cuts: Sequence[int], events: Sequence[Event]
    ) -> Fate:
        machine = self.machine
        machine.world = world
        machine.restore(self._start(attack))
        for cut in cuts:
            machine.run(Tick(cut))
        ends = (event for event in events if isinstance(event, GuestEnded))
        end = next((end for end in ends if end.guest == HOSTILE), None)
        return Fate(machine.tick, machine.finished, end, machine.digest())

    def _start(self, attack: Attack) -> MachineState:
        """Power-on, or the settled state, with the attack's pages."""
        begin = self._settled if attack.settled else self._power_on
        pages = dict(begin.pages)
        base = self.hostile.base
        for address, data in attack.pages.items():
            for offset in range(0, len(data), PAGE_SIZE):
                content = data[offset : offset + PAGE_SIZE].ljust(PAGE_SIZE, b"\0")
                pages[base + address + offset >> PAGE_SHIFT] = content
        if attack.settled:
            place = base + DATA >> PAGE_SHIFT
            pages[place] = self._with_ring(self._kept[place], attack.pages[DATA])
        return replace(begin, pages=tuple(pages.items()))

    def _with_ring(self, page: bytes, other: bytes) -> bytes:
        """A shared page in use, but with the ring of another."""
        begin, end = self._layout.hcall_status, self._layout.reserve_mem
        return page[:begin] + other[begin:end] + page[end:]

    # ---- harm -------------------------------------------------------------------------------------

    def harm(self, ended: Sequence[GuestEnded]) -> list[str]:
        """What the last run did that no Guest may do."""
        return [*self._harm_to_canary(ended), *self._harm_to_host(), *self._bad_tables()]

    def _harm_to_canary(self, ended: Sequence[GuestEnded]) -> Iterator[str]:
        canary = self.machine.guests[CANARY]
        song = SONG[:-1].decode()
        if any(end.guest == CANARY and end.text != song for end in ended):
            yield "the canary did not sing"
        if self.machine.finished and not any(end.guest == CANARY for end in ended):
            yield "the canary never woke"
        treasure = _treasure()
        if self.machine.memory.read(canary.base + _TREASURE, len(treasure)) != treasure:
            yield "the canary's memory was written"
        if any(end.text == "CPU shutdown" for end in ended):
            yield "the CPU shut down"

    def _harm_to_host(self) -> Iterator[str]:
        memory, hostile = self.machine.memory, self.hostile
        for page in _KEPT_PAGES:
            kept = self._kept.get(page >> PAGE_SHIFT, bytes(PAGE_SIZE))
            if _not_busy(page, memory.read(page, PAGE_SIZE)) != _not_busy(page, kept):
                yield f"the Host's page {page:#x} was written"
        limit = hostile.loaded.pfn_limit * PAGE_SIZE
        behind = memory.view[hostile.base + limit - memory.base :]
        if np.frombuffer(behind, dtype=np.uint64).any():
            yield "memory behind the Guest was written"

    def _bad_tables(self) -> Iterator[str]:
        gdt = self._words(CPU_PAGES + PAGES.guest_gdt, GDT_ENTRIES * 2)
        for index, hi in enumerate(gdt[1::2]):
            system = hi & 0x9000 == 0x8000
            if index not in _OURS and hi & 0x8000 and (system or not hi & 0x6000):
                yield f"GDT entry {index} on the CPU is {hi:#x}"
        idt = self._words(CPU_PAGES + PAGES.guest_idt, IDT_ENTRIES * 2)
        if {lo >> 16 for lo in idt[::2]} - {LGUEST_CS, KERNEL_CS}:
            yield "an IDT entry on the CPU leads elsewhere"
        for root in self.hostile.tables.roots:
            if root:
                yield from self._bad_shadow(root)

    def _bad_shadow(self, root: int) -> Iterator[str]:
        """All that the CPU can walk to must be the Guest's memory or the Switcher."""
        tables, memory = self.hostile.tables, self.hostile.guest_memory
        directory = self._words(root, 1024)
        if directory[SWITCHER_SLOT] & ~int(Pte.D) != tables.switcher_entry:
            yield "the Switcher is not where it belongs"
        base, count = guest_shadow_pool(HOSTILE)
        for entry in directory[:SWITCHER_SLOT]:
            if not entry & Pte.P:
                continue
            page = entry & PAGE_MASK
            if not base <= page < base + count * PAGE_SIZE:
                yield f"a shadow directory leads to {entry:#x}"
                continue
            for leaf in self._words(page, 1024):
                frame = (leaf & PAGE_MASK) - memory.base >> PAGE_SHIFT
                if leaf & Pte.P and not 0 <= frame < memory.pfn_limit:
                    yield f"a shadow entry leads to {leaf:#x}"

    def place_to_harm(self, where: str) -> tuple[int, int]:
        """An address and a value such that storing the one at the other is harm: for tests of the watch itself."""
        hostile = self.hostile
        state = CPU_PAGES
        directory = next(root for root in hostile.tables.roots if root)
        table = next(entry & PAGE_MASK for entry in self._words(directory, 1023) if entry & Pte.P)
        return {
            "canary": (self.machine.guests[CANARY].base + _TREASURE + 0x234, 1),
            "behind": (hostile.base + hostile.loaded.pfn_limit * PAGE_SIZE, 1),
            "host text": (HOST_TEXT + 8, 0x1234),
            "shadow": (table + 4 * 100, HOST_TEXT | 7),
            "idt": (state + PAGES.guest_idt + 8 * 3, 0x00080000),
            "gdt": (state + PAGES.guest_gdt + 8 * 5 + 4, 0x00CF9B00),
        }[where]

    def _words(self, address: int, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}I", self.machine.memory.read(address, count * 4))


def _not_busy(page: int, content: bytes) -> bytes:
    """Whether the Host's TSS is in use changes with each switch."""
    if page != HOST_TABLES:
        return content
    at = TSS_SELECTOR + 5
    return content[:at] + bytes((content[at] & ~2,)) + content[at + 1 :]


def judge(runs: HostileRuns, seed: int, attack: Attack) -> Fate:
    """Run, record, replay, and replay cut at random; assert that nothing went wrong."""
    fate, events = runs.record(seed, attack)
    assert fate.finished or fate.tick == runs.budget, "the run ended nowhere"
    ended = [event for event in events if isinstance(event, GuestEnded)]
    assert len({end.guest for end in ended}) == len(ended), "a Guest ended twice"
    harm = runs.harm(ended)
    assert not harm, harm
    assert runs.replay(events, attack, []) == fate, "replayed to another end"
    r = Random(seed)
    cuts = sorted(r.sample(range(1, runs.budget), r.choice((1, 5, 40))))
    assert runs.replay(events, attack, cuts) == fate, "replayed in pieces to another end"
    encoder = EventEncoder()
    for event in events:
        encoder.add(event)
    return fate


@dataclass
class _Onlooker:
    """A watcher who does not interfere."""

    ended: list[GuestEnded]

    def observed(self, observation: Observation) -> None:
        if isinstance(observation, GuestEnded):
            self.ended.append(observation)

    def progress(self, tick: Tick) -> None:
        pass

    def stops(self) -> bool:
        return False


def judge_file(attack: Attack, seed: int, path: Path, budget: int = BUDGET) -> None:
    """Record an attack from power-on to a file, on a machine of its own, and verify the file."""
    config = config_of(kernel_of(attack), attack.abi)
    watcher = _Onlooker([])
    made = record(config, _world(seed), path, Origin("virtual", seed), watcher, max_ticks=budget)
    with TraceReader(path) as reader:
        session = Session(reader)
        for _ in session.verify():
            pass
    assert session.verified.torn is None
    assert (session.verified.last_tick, session.verified.events) == (made.end.tick, made.events)
