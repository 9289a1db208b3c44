"""What `lgreplay diff` shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from itertools import islice

import click

from hostvm.units import Tick
from replay.describe import event_to_text
from replay.diff import Aspect, Comparison, Stretch, Value
from replay.errors import one_line
from replay.events import Event
from replay.look import GuestSpace, World
from replay.timeline import Timeline, open_timeline
from replay.trace_header import GuestSetup

_SHOWN_BYTES = 16
# Further behind a symbol an address has nothing to do with it.
_LONGEST_NAMED = 0x10000
_WIDTH = 36
# Where i386 kernels have the beginning of their memory, unless they were built otherwise.
_KERNEL = 0xC0000000


def show_diff(a: str, b: str, tick: int | None, lines: int) -> None:
    """Compare two traces. Raises CannotCompare, and as Timeline does."""
    with open_timeline(a, at="start") as one, open_timeline(b, at="start") as other:
        comparison = Comparison(one, other)
        for line in _all(comparison, tick, lines):
            click.echo(one_line(line).rstrip())


def _all(comparison: Comparison, tick: int | None, lines: int) -> Iterator[str]:
    one, other = comparison.sides
    yield f"A  {one.reader.path}"
    yield f"B  {other.reader.path}"
    yield from _setups(comparison)
    yield ""
    yield from _events(comparison, lines)
    yield ""
    if tick is None:
        found = [(aspect, comparison.since(aspect)) for aspect in Aspect]
        yield from _ladder(comparison, found)
        for aspect, since in sorted(found, key=lambda pair: pair[1] or 0):
            if since is not None and since != comparison.first_tick:
                yield from _states(comparison, since, [aspect], lines)
    else:
        here = Tick(min(max(tick, comparison.first_tick), comparison.end_tick))
        yield from _states(comparison, here, list(Aspect), lines)


# ---- before anything ran ---------------------------------------------------------------------------


def _setups(comparison: Comparison) -> Iterator[str]:
    """How the machines differ that the traces are of."""
    heads = [side.reader.header for side in comparison.sides]
    for number, pair in enumerate(zip(*(head.guests for head in heads), strict=True)):
        for field in fields(GuestSetup):
            left, right = (str(getattr(setup, field.name)) for setup in pair)
            if left != right:
                yield f"guest {number} {field.name}: {left!r} and {right!r}"
    kernels = [[image.sha256 for image in head.images] for head in heads]
    if kernels[0] != kernels[1]:
        yield "what is in their files differs: kernels, disks or ramdisks"


# ---- events ----------------------------------------------------------------------------------------


def _events(comparison: Comparison, lines: int) -> Iterator[str]:
    parting = comparison.parting
    if parting.first == (None, None):
        yield f"all {parting.common:,} events are the same"
        return
    yield f"{parting.common:,} events are the same, then they differ"
    if parting.last is not None:
        yield f"   {_event(parting.last)}"
    for name, side, first in zip("AB", comparison.sides, parting.first, strict=True):
        if first is None:
            yield f"{name}  nothing more"
            continue
        yield from (f"{name}  {_event(event)}" for event in _from(side, parting.common, lines))


def _from(side: Timeline, number: int, lines: int) -> Iterator[Event]:
    return islice(side.reader.events(), number, number + lines)


def _event(event: Event) -> str:
    return event_to_text(event).strip()


# ---- states ----------------------------------------------------------------------------------------


def _ladder(comparison: Comparison, found: Sequence[tuple[Aspect, Tick | None]]) -> Iterator[str]:
    """Say since when each aspect differs."""
    for aspect, since in found:
        words = f"from tick {since}"
        if since is None:
            words = f"nowhere up to tick {comparison.end_tick}"
        elif since == comparison.first_tick:
            words = "from the start"
        yield f"{aspect.value:<24} differ {words}"


def _states(
    comparison: Comparison, tick: Tick, aspects: Sequence[Aspect], lines: int
) -> Iterator[str]:
    comparison.at(tick)
    yield ""
    yield _row(f"at tick {tick}", "A", "B").strip()
    yield _row("next", *(_where(side) for side in comparison.sides))
    if Aspect.CPU in aspects:
        yield from _values(comparison.registers(), lines)
    if Aspect.HOST in aspects:
        yield from _values(comparison.knowledge(), lines)
    if Aspect.MEMORY in aspects:
        yield from _memory(comparison, lines)


def _row(name: str, left: str, right: str) -> str:
    return f"   {_cut(name, 24):<24} {_cut(left):<{_WIDTH}} {_cut(right)}"


def _cut(text: str, width: int = _WIDTH) -> str:
    return text if len(text) <= width else text[: width - 2] + ".."


def _values(values: Sequence[Value], lines: int) -> Iterator[str]:
    for value in values[:lines]:
        yield _row(value.name, *value.sides)
    if len(values) > lines:
        yield f"  and {len(values) - lines:,} more"


def _where(side: Timeline) -> str:
    look = side.look
    eip = look.machine.cpu.eip
    in_guest = look.world in (World.KERNEL, World.USER)
    found = side.symbols.name_of(eip, in_guest=in_guest, guest=look.guest.number)
    name = "" if found is None or look.world is World.USER else f" {found}"
    return f"{eip:08x}{name}"


def _memory(comparison: Comparison, lines: int) -> Iterator[str]:
    count = size = 0
    for stretch in comparison.stretches():
        count, size = count + 1, size + len(stretch.sides[0])
        if count <= lines:
            yield _row(_place(comparison, stretch), *map(_hex, stretch.sides))
    if count > lines:
        yield f"  and {count - lines:,} more places; {size:,} bytes of memory differ in all"


def _place(comparison: Comparison, stretch: Stretch) -> str:
    """A name where the kernel has one for it, as kernels map memory; else the guest-physical address."""
    side = comparison.sides[0]
    address = stretch.address + _KERNEL & 0xFFFFFFFF
    found = side.symbols.name_of(address, in_guest=True, guest=stretch.guest)
    physical = side.look.physical(address, GuestSpace(stretch.guest))
    mapped = physical == side.machine.guests[stretch.guest].base + stretch.address
    named = mapped and found is not None and found.offset < _LONGEST_NAMED
    return str(found) if named else f"phys {stretch.address:08x}"


def _hex(data: bytes) -> str:
    tail = ".." if len(data) > _SHOWN_BYTES - 4 else ""
    return data[: _SHOWN_BYTES - 4].hex(" ", 4) + tail


__all__ = ["show_diff"]
