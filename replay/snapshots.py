"""Snapshots: states of the machine to go back to, sharing the pages that did not change between them.

Each page has a history: its contents, each under the tick of the snapshot that first found it so. The content at a
snapshot is the latest one not after it; a page without history is all zero. So a snapshot costs what changed since
the one before, and going from one to another writes the pages whose history has something in between.

(i) *Where the machine comes from.* The machine has moved since it last stood at a snapshot (`base`); which pages it has
touched on the way is known (hostvm/dirty_pages.py). Those, and the histories between base and goal, are all that can
differ.
(ii) *In between.* A snapshot may be taken between two others. What it finds must not leak into the next one, which
therefore gets the older content under its own tick (the bytes are shared).
(iii) *Room.* Snapshots near the cursor are many and short-lived (`dense`), those of the grid few and lasting. When
there is too little room, the grid is thinned evenly; the first snapshot always stays.

Read next: timeline.py, which decides where snapshots are taken.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from hostvm.dirty_pages import DirtyPages
from hostvm.machine import Machine, MachineState
from hostvm.units import Tick
from hostvm.x86 import PAGE_SHIFT, PAGE_SIZE
from replay.event_store import Position

_ZEROES = bytes(PAGE_SIZE)
_NEAR = 64
DENSE_SNAPSHOTS = 96
_LEAST_GRID = 16
# A state without its pages, as Python keeps it: measured, rounded up.
_STATE_BYTES = 24 << 10


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state without pages, the place in the log, and whether the step at hand goes on with a REP instruction."""

    tick: Tick
    state: MachineState
    position: Position
    continues: bool
    dense: bool
    pages: set[int] = field(default_factory=set)


class _History:
    """One page's contents by tick, ascending."""

    __slots__ = ("contents", "ticks")

    def __init__(self) -> None:
        self.ticks: list[Tick] = []
        self.contents: list[bytes] = []

    def at(self, tick: Tick) -> bytes:
        index = bisect_right(self.ticks, tick)
        return self.contents[index - 1] if index else _ZEROES

    def put(self, tick: Tick, content: bytes) -> None:
        index = bisect_left(self.ticks, tick)
        self.ticks.insert(index, tick)
        self.contents.insert(index, content)

    def take(self, tick: Tick) -> bytes:
        index = bisect_left(self.ticks, tick)
        del self.ticks[index]
        return self.contents.pop(index)


class Snapshots:
    """All snapshots of `machine`, in at most `room` bytes (the first one is kept even if it needs more).

    The one at `pinned` stays as long as that is so.
    """

    def __init__(self, machine: Machine, position: Position, room: int) -> None:
        self._machine = machine
        self.room = room
        self._dirty = DirtyPages(machine.memory, lambda: machine.guests)
        self._dirty.collect()
        self._histories: dict[int, _History] = {}
        self._ticks: list[Tick] = []
        self._by_tick: dict[Tick, Snapshot] = {}
        self._uses: dict[int, int] = {}
        self._dense: list[Tick] = []
        self.bytes = 0
        self.base = machine.tick
        self.pinned = machine.tick
        self._add_first(position)

    def _add_first(self, position: Position) -> None:
        machine = self._machine
        machine.cpu.flush_tlb()
        state = machine.state(with_pages=False)
        first = Snapshot(machine.tick, state, position, continues=False, dense=False)
        self._insert(first)
        for page, content in machine.memory.used_pages():
            self._put(page, first, content)

    def __len__(self) -> int:
        return len(self._ticks)

    def __iter__(self) -> Iterator[Snapshot]:
        return (self._by_tick[tick] for tick in self._ticks)

    def at_or_before(self, tick: Tick) -> Snapshot | None:
        """The last snapshot not after `tick`."""
        index = bisect_right(self._ticks, tick)
        return self._by_tick[self._ticks[index - 1]] if index else None

    def after(self, tick: Tick) -> Snapshot | None:
        """The first snapshot after `tick`."""
        index = bisect_right(self._ticks, tick)
        return self._by_tick[self._ticks[index]] if index < len(self._ticks) else None

    # ---- taking ---------------------------------------------------------------------------------

    def take(self, position: Position, *, continues: bool, dense: bool) -> Snapshot:
        """Keep the machine's present state; where there is a snapshot already, that one is returned."""
        machine = self._machine
        known = self._by_tick.get(machine.tick)
        if known is not None:
            return known
        candidates = self._dirty.collect()
        machine.cpu.flush_tlb()
        state = machine.state(with_pages=False)
        snapshot = Snapshot(machine.tick, state, position, continues, dense)
        following = self.after(machine.tick)
        for page in candidates:
            self._keep_page(page, snapshot, following)
        self._insert(snapshot)
        self.base = machine.tick
        self._make_room(machine.tick)
        return snapshot

    def adopt(
        self,
        state: MachineState,
        pages: Mapping[int, bytes],
        position: Position,
        *,
        continues: bool,
    ) -> Snapshot:
        """Keep a state in which the machine has not been; `pages` are all that are not zero.

        Where there is a snapshot already, that one is returned. One that turns out to be wrong is for `drop`.
        """
        known = self._by_tick.get(state.tick)
        if known is not None:
            return known
        self._make_room(state.tick)
        snapshot = Snapshot(state.tick, state, position, continues, dense=False)
        following = self.after(state.tick)
        for page in self._histories.keys() | pages.keys():
            self._keep_content(page, pages.get(page, _ZEROES), snapshot, following)
        self._insert(snapshot)
        return snapshot

    def learn(self, others: Snapshots, until: Tick) -> None:
        """Keep what `others`, of the same history up to `until`, has of it; only after the first snapshot was taken."""
        assert len(self) == 1
        first = self._ticks[0]
        for known in others:
            if first < known.tick <= until:
                self._insert(replace(known, pages=set()))
        for page, tick, content in others.contents():
            if first < tick <= until:
                self._put(page, self._by_tick[tick], content)

    def contents(self) -> Iterator[tuple[int, Tick, bytes]]:
        """Yield pages, the ticks of the snapshots at which they are new, and their contents there."""
        for page, history in self._histories.items():
            for tick, content in zip(history.ticks, history.contents, strict=True):
                yield page, tick, content

    def _keep_page(self, page: int, snapshot: Snapshot, following: Snapshot | None) -> None:
        content = self._machine.memory.read(page << PAGE_SHIFT, PAGE_SIZE)
        self._keep_content(page, content, snapshot, following)

    def _keep_content(
        self, page: int, content: bytes, snapshot: Snapshot, following: Snapshot | None
    ) -> None:
        history = self._histories.get(page)
        before = history.at(snapshot.tick) if history else _ZEROES
        if content == before:
            return
        if following is not None and page not in following.pages:
            self._put(page, following, before)
        self._put(page, snapshot, _ZEROES if content == _ZEROES else content)

    def _put(self, page: int, snapshot: Snapshot, content: bytes) -> None:
        self._histories.setdefault(page, _History()).put(snapshot.tick, content)
        snapshot.pages.add(page)
        self._use(content, 1)

    def _use(self, content: bytes, count: int) -> None:
        """Several histories may share one content: it takes room once."""
        if content is _ZEROES:
            return
        uses = self._uses.get(id(content), 0)
        if not uses:
            self.bytes += PAGE_SIZE
        elif uses + count == 0:
            self.bytes -= PAGE_SIZE
            del self._uses[id(content)]
            return
        self._uses[id(content)] = uses + count

    def _insert(self, snapshot: Snapshot) -> None:
        insort(self._ticks, snapshot.tick)
        self._by_tick[snapshot.tick] = snapshot
        self.bytes += _STATE_BYTES
        if snapshot.dense:
            insort(self._dense, snapshot.tick)

    # ---- going back -----------------------------------------------------------------------------

    def restore(self, snapshot: Snapshot) -> None:
        """Put the machine into the state of `snapshot`."""
        machine = self._machine
        candidates = self._dirty.collect()
        low, high = sorted((self.base, snapshot.tick))
        begin, end = bisect_right(self._ticks, low), bisect_right(self._ticks, high)
        for tick in self._ticks[begin:end]:
            candidates |= self._by_tick[tick].pages
        machine.revert(snapshot.state, self._differing(candidates, snapshot.tick))
        machine.memory.dirty.clear()
        self.base = snapshot.tick

    def _differing(self, pages: Iterable[int], tick: Tick) -> Iterator[tuple[int, bytes]]:
        memory = self._machine.memory
        for page in pages:
            history = self._histories.get(page)
            content = history.at(tick) if history else _ZEROES
            if memory.read(page << PAGE_SHIFT, PAGE_SIZE) != content:
                yield page, content

    # ---- room -----------------------------------------------------------------------------------

    def drop(self, snapshot: Snapshot) -> None:
        """Forget a snapshot; not the first, and not `base`."""
        assert snapshot.tick not in (self._ticks[0], self.base)
        following = self.after(snapshot.tick)
        for page in snapshot.pages:
            content = self._histories[page].take(snapshot.tick)
            if following is not None and page not in following.pages:
                self._histories[page].put(following.tick, content)
                following.pages.add(page)
            else:
                self._use(content, -1)
        self._ticks.remove(snapshot.tick)
        del self._by_tick[snapshot.tick]
        self.bytes -= _STATE_BYTES
        if snapshot.dense:
            self._dense.remove(snapshot.tick)

    def _make_room(self, cursor: Tick) -> None:
        while len(self._dense) > DENSE_SNAPSHOTS and self._drop_dense(cursor):
            pass
        while self.bytes > self.room:
            # Far from the cursor a coarser grid costs a longer run; near it every step would cost one.
            grid = [tick for tick in self._ticks[1:] if self._may_go(tick)]
            if len(grid) - len(self._dense) > _LEAST_GRID:
                self._drop_grid()
            elif not self._drop_dense(cursor) and not self._drop_grid():
                break

    def _may_go(self, tick: Tick) -> bool:
        return tick not in (self._ticks[0], self.base, self.pinned)

    def _drop_dense(self, cursor: Tick) -> bool:
        """Drop the dense snapshot that is missed least: close to its neighbours, far from the cursor."""
        found = [
            (gap / (abs(cursor - tick) + _NEAR), tick)
            for gap, tick in _gaps(self._dense)
            if self._may_go(tick)
        ]
        if found:
            self.drop(self._by_tick[min(found)[1]])
        return bool(found)

    def _drop_grid(self) -> bool:
        grid = [tick for tick in self._ticks if not self._by_tick[tick].dense]
        found = [pair for pair in _gaps(grid) if self._may_go(pair[1])]
        if found:
            self.drop(self._by_tick[min(found)[1]])
        return bool(found)


def _gaps(ticks: list[Tick]) -> Iterator[tuple[int, Tick]]:
    """Each tick with the distance between its neighbours: how far one would have to run without it."""
    last = len(ticks) - 1
    for at, tick in enumerate(ticks):
        yield ticks[min(at + 1, last)] - ticks[max(at - 1, 0)], tick


__all__ = ["Snapshot", "Snapshots"]
