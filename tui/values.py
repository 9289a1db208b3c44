"""What the screen is drawn from: a `Snapshot` of one moment, frozen, and the `Wish` that says what to put into it.

The engine's thread makes a snapshot and forgets it; the screen's thread draws it as often as it likes. So nothing in
here leads back to the machine, and a pane cannot ask for more than is there.

Read next: snapshot.py, which fills it; panes/__init__.py, which draws it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hostvm.cpu_state import CpuState
from replay.bookmarks import Bookmark
from replay.events import Kind
from replay.histories import Sheet
from replay.look import CURRENT, GuestSpace, Space, World

EVERY_KIND = frozenset(Kind) - {Kind.STATE_DIGEST, Kind.DIRECT_TRAPS}
CODE_VIEWS = ("asm", "mixed", "source")
SPACES = ("current", "guest", "physical", "machine")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events the list shows: of these kinds; of one number (IRQ, vector, hypercall) or Guest, if given."""

    kinds: frozenset[Kind] = EVERY_KIND
    number: int | None = None
    guest: int | None = None


EVERYTHING = Filter()


@dataclass(frozen=True, slots=True)
class Wish:
    """What the screen would like to see. `None` follows the moment: its instruction, its event, the whole trace.

    Addresses of memory and page table are expressions (replay/predicate.py), so that `esp` follows too.
    """

    code_at: int | None = None
    code_as: str = "asm"
    memory_at: str = "esp"
    space: str = "current"
    table_at: str = "eip"
    events_at: int | None = None
    events: Filter = EVERYTHING
    span: tuple[int, int] | None = None
    tasks: bool = False
    columns: int = 80
    rows: int = 60


@dataclass(frozen=True, slots=True)
class Position:
    """Where in the run this is, and what state the interrupts of Guest `guest` are in; the processor's is `runs`.

    `kept`: the user has chosen the Guest, and it stays when another one runs.
    """

    tick: int
    first: int
    end: int
    event: int
    events: int
    world: World
    ring: int
    eip: int
    symbol: str
    cr3: int
    virtual_if: bool | None
    real_if: bool
    pending: int
    blocked: int | None
    halted: bool
    in_noirq: bool
    ended: str
    guest: int
    guests: int
    runs: int = 0
    kept: bool = False
    branch: str = ""
    next_is: str = ""


@dataclass(frozen=True, slots=True)
class Gate:
    """A vector: the gate that the Guest asked for, the one that the CPU has, and where they lead."""

    vector: int
    name: str
    lo: int
    hi: int
    real_lo: int
    real_hi: int
    handler: str
    way: str


@dataclass(frozen=True, slots=True)
class Irq:
    """A virtual interrupt of the Guest at this moment; ticks of what was last and what comes next."""

    irq: int
    pending: bool
    blocked: bool
    deliverable: bool
    why: tuple[str, ...]
    raised: int | None
    delivered: int | None
    next_raised: int | None
    next_delivered: int | None


@dataclass(frozen=True, slots=True)
class Instruction:
    """One line of disassembly. `label`: a symbol begins here. `taken`: whether a branch at the cursor will be taken.

    `source` is file and line, `line` the text of that line, if it is wished for and to be found.
    """

    address: int
    code: bytes
    text: str
    label: str = ""
    source: str = ""
    line: str = ""
    target: int | None = None
    target_name: str = ""
    taken: bool | None = None


@dataclass(frozen=True, slots=True)
class SourceText:
    """A part of a source file: from line `first` on, with the address of what came of each line. `here`: the line."""

    path: str = ""
    first: int = 1
    lines: tuple[tuple[str, int | None], ...] = ()
    here: int = 0


@dataclass(frozen=True, slots=True)
class Bytes:
    """Memory from an address on; `missing`: why there is none."""

    address: int = 0
    data: bytes = b""
    space: str = "current"
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Word:
    """A named word, and what it means."""

    name: str
    value: int | None
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class TrapFrame:
    """A frame of a trap or interrupt on the kernel's stack."""

    at: int
    eip: int
    cs: int
    eflags: int
    symbol: str


@dataclass(frozen=True, slots=True)
class Caller:
    """A line of the backtrace. `sure` is False for a return address that was only found lying on the stack."""

    eip: int
    symbol: str
    at: int | None
    sure: bool
    source: str = ""


@dataclass(frozen=True, slots=True)
class PageEntry:
    """An entry of the page tables for an address: the Guest's and the shadow. None: there is no such table."""

    level: str
    guest_at: int | None
    guest: int | None
    shadow_at: int | None
    shadow: int | None


@dataclass(frozen=True, slots=True)
class PageWalk:
    """Both walks of one address, and where they end."""

    address: int = 0
    entries: tuple[PageEntry, ...] = ()
    guest_physical: int | None = None
    host_physical: int | None = None
    expected: int | None = None
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot of the hypercall ring."""

    index: int
    free: bool
    call: str
    words: tuple[int, ...]
    is_next: bool


@dataclass(frozen=True, slots=True)
class EventRow:
    """A line of the event list."""

    ordinal: int
    tick: int
    kind: Kind
    name: str
    details: str


@dataclass(frozen=True, slots=True)
class EventList:
    """The part of the (filtered) event list around the wish; `place` is the row of it that the moment comes before.

    `first` is the place of the first row among `total`.
    """

    rows: tuple[EventRow, ...] = ()
    first: int = 0
    total: int = 0
    place: int = 0
    known: bool = True


@dataclass(frozen=True, slots=True)
class Strips:
    """The density of each lane over a span of ticks."""

    first: int = 0
    last: int = 0
    lanes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    known_to: int | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """A stop: number, text, and the address if it is a breakpoint. `whose`: the debugger's, if it is not one's own."""

    number: int
    text: str
    address: int | None = None
    whose: str = ""


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A process of a Linux Guest."""

    address: int
    pid: int | None
    name: str
    state: str
    stack: int
    current: bool


@dataclass(frozen=True, slots=True)
class Changed:
    """What differs from the moment before, or from the mark: names of registers and words, vectors, addresses."""

    registers: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()
    vectors: frozenset[int] = frozenset()
    irqs: frozenset[int] = frozenset()
    memory: frozenset[int] = frozenset()
    stack: frozenset[int] = frozenset()
    entries: frozenset[str] = frozenset()
    since: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment. `eip`: where the code pane's arrow is; `away`: the Guest that is shown is not the processor's."""

    position: Position
    cpu: CpuState
    eip: int = 0
    code_symbol: str = ""
    away: bool = False
    gates: tuple[Gate, ...] = ()
    irqs: tuple[Irq, ...] = ()
    noirq: tuple[int, int] = (0, 0)
    noirq_code: tuple[Instruction, ...] = ()
    guest_eip: int = 0
    code: tuple[Instruction, ...] = ()
    source: SourceText = SourceText()
    memory: Bytes = Bytes()
    stack: Bytes = Bytes()
    saved: tuple[Word, ...] = ()
    frames: tuple[TrapFrame, ...] = ()
    callers: tuple[Caller, ...] = ()
    walk: PageWalk = PageWalk()
    console: bytes = b""
    shared: tuple[Word, ...] = ()
    ring: tuple[Slot, ...] = ()
    strips: Strips = Strips()
    events: EventList = EventList()
    bookmarks: tuple[Bookmark, ...] = ()
    points: tuple[Point, ...] = ()
    sheets: tuple[Sheet, ...] = ()
    tasks: tuple[TaskRow, ...] = ()
    no_tasks: str = ""
    changed: Changed = Changed()
    wish: Wish = field(default_factory=Wish)

    @property
    def space(self) -> Space:
        """What a linear address means here."""
        return GuestSpace(self.position.guest) if self.away else CURRENT


__all__ = [
    "CODE_VIEWS",
    "EVERYTHING",
    "EVERY_KIND",
    "SPACES",
    "Bytes",
    "Caller",
    "Changed",
    "EventList",
    "EventRow",
    "Filter",
    "Gate",
    "Instruction",
    "Irq",
    "PageEntry",
    "PageWalk",
    "Point",
    "Position",
    "Slot",
    "Snapshot",
    "SourceText",
    "Strips",
    "TaskRow",
    "TrapFrame",
    "Wish",
    "Word",
]
