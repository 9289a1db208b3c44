"""What differs between two snapshots: for marking it on the screen. Read next: panes/registers.py."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hostvm.cpu_state import CpuState
from hostvm.x86 import GENERAL_REGISTERS
from tui.values import Bytes, Changed, PageWalk, Snapshot, Word

GENERAL = GENERAL_REGISTERS
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")
CONTROL = ("cr0", "cr2", "cr3", "cr4")
TABLES = ("ldtr", "tr", "gdtr", "idtr")


def compared(before: Snapshot, now: Snapshot) -> Changed:
    """What is different now; nothing can be said of two Guests."""
    if before.position.guest != now.position.guest:
        return Changed()
    known = min(len(before.gates), len(now.gates))
    return Changed(
        registers=_registers(before.cpu, now.cpu),
        words=_words(before.shared, now.shared) | _words(before.saved, now.saved),
        vectors=frozenset(v for v in range(known) if before.gates[v] != now.gates[v]),
        irqs=frozenset(
            b.irq
            for b, n in zip(before.irqs, now.irqs, strict=False)
            if (b.pending, b.blocked, b.why) != (n.pending, n.blocked, n.why)
        ),
        memory=_bytes(before.memory, now.memory),
        stack=_bytes(before.stack, now.stack),
        entries=_entries(before.walk, now.walk),
    )


def values_of(cpu: CpuState) -> dict[str, int]:
    """Every register that is shown, by name."""
    found = dict(zip(GENERAL, cpu.regs, strict=True))
    found |= {"eip": cpu.eip, "eflags": cpu.eflags}
    found |= {n: s.selector for n, s in zip(SEGMENTS, cpu.segs, strict=True)}
    found |= dict(zip(CONTROL, cpu.cr, strict=True))
    found |= {
        n: t.base if n in ("gdtr", "idtr") else t.selector
        for n, t in zip(TABLES, cpu.tables, strict=True)
    }
    return found


def _registers(before: CpuState, now: CpuState) -> frozenset[str]:
    if before == now:
        return frozenset()
    old, new = values_of(before), values_of(now)
    names = {name for name in new if old[name] != new[name]}
    for name, was, is_ in zip(SEGMENTS, before.segs, now.segs, strict=True):
        if was != is_:
            names.add(name)
    return frozenset(names)


def _words(before: Iterable[Word], now: Iterable[Word]) -> frozenset[str]:
    old = {word.name: word.value for word in before}
    return frozenset(w.name for w in now if w.name in old and old[w.name] != w.value)


def _bytes(before: Bytes, now: Bytes) -> frozenset[int]:
    """Addresses that both have, with different content."""
    if before.space != now.space:
        return frozenset()
    return frozenset(_different(before, now))


def _different(before: Bytes, now: Bytes) -> Iterator[int]:
    begin = max(before.address, now.address)
    end = min(before.address + len(before.data), now.address + len(now.data))
    if begin >= end:
        return
    old = before.data[begin - before.address : end - before.address]
    new = now.data[begin - now.address : end - now.address]
    if old != new:
        yield from (begin + i for i, (a, b) in enumerate(zip(old, new, strict=True)) if a != b)


def _entries(before: PageWalk, now: PageWalk) -> frozenset[str]:
    if before.address != now.address:
        return frozenset()
    found = set()
    for was, is_ in zip(before.entries, now.entries, strict=False):
        if was.guest != is_.guest:
            found.add(f"guest {is_.level}")
        if was.shadow != is_.shadow:
            found.add(f"shadow {is_.level}")
    return frozenset(found)


__all__ = ["CONTROL", "GENERAL", "SEGMENTS", "TABLES", "compared", "values_of"]
