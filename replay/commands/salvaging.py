"""What `lgreplay salvage` does and shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import groupby
from pathlib import Path

import click

from hostvm.units import Tick
from replay.catalogue import SHIPPED, find_kernel
from replay.chunks import ChunkType
from replay.commands.making import shown
from replay.errors import one_line
from replay.salvage import Salvage, Saved
from replay.sound_parts import NO_EVENTS, SoundPart
from replay.stored_states import STORED_TYPES
from replay.survey import Survey


def run_salvage(
    trace: str, output: str | None, part: int | None, images: Iterable[str], *, force: bool
) -> None:
    """Look through a trace, say what is found, and write a part of it if `output` says where.

    `part` None: the first one that is not the beginning.
    """
    others = [Path(name).read_bytes() for name in images]
    others += [find_kernel(name).content for name in SHIPPED]
    with closing(Salvage(trace, others)) as found:
        for line in _findings(found):
            click.echo(one_line(line))
        if output is None:
            return
        with shown() as progress:
            number = found.behind if part is None else part
            saved = found.save(number, output, force=force, progress=progress)
        for line in _result(found, saved, output):
            click.echo(one_line(line))


# ---- what is damaged -------------------------------------------------------------------------------


def _findings(found: Salvage) -> Iterator[str]:
    its = found.survey
    for begin, end in its.damaged:
        yield f"damaged: bytes {begin:#x} to {end:#x}, {end - begin:,} of {its.file.size:,}"
    lost = list(_lost(its))
    yield from lost
    if its.torn is not None:
        rest = its.file.size - its.torn
        behind = f"; the last {rest:,} bytes are no whole chunk" if rest else ""
        yield f"unfinished: its recorder was stopped, or still runs{behind}"
    elif its.end() is None:
        yield "lost: the end record"
    if not (its.damaged or lost or its.torn is not None):
        yield "nothing is damaged"
    for stray in found.strays:
        extent = f"{stray.events:,} events of ticks {stray.first_tick:,} to {stray.last_tick:,}"
        yield f"of no use: {extent} are sound, but no state to start from is"
    if len(found.parts) != 1:
        for number, part in enumerate(found.parts, 1):
            yield f"part {number}: {_extent(part)}"


def _extent(part: SoundPart) -> str:
    return f"ticks {part.first_tick:,} to {part.last_tick:,}, from {part.origin.value}"


def _lost(its: Survey) -> Iterator[str]:
    """Images and chunks that are gone."""
    for rank, info in enumerate(its.header.images):
        if its.image_at(rank) is None:
            yield f"lost: image {info.name}, {info.size:,} bytes"
    missing = _missing(its)
    for _, run in groupby(enumerate(missing), key=lambda pair: pair[1] - pair[0]):
        numbers = [number for _, number in run]
        yield from _lost_chunks(its, numbers)


def _missing(its: Survey) -> list[int]:
    """Numbers of chunks of the body that there have been and that are not sound; of a long gap the ends."""
    bodies = sorted(n for n in its.sound if n >= its.first_of_body)
    missing = {n for n in its.known if n >= its.first_of_body and n not in its.sound}
    before = its.first_of_body - 1 if its.damaged else (bodies or [0])[0] - 1
    for number in bodies:
        if number - before > 1:
            missing |= {before + 1, number - 1}
        before = number
    return sorted(missing)


def _lost_chunks(its: Survey, numbers: list[int]) -> Iterator[str]:
    kinds = {known.type for n in numbers if (known := its.known.get(n))}
    whole = all(n in its.known for n in numbers)
    if whole and kinds <= set(STORED_TYPES):
        yield "lost: the index; `lgreplay index` makes it again"
    elif whole and kinds <= NO_EVENTS | {ChunkType.END}:
        for kind in sorted(kinds - {ChunkType.INDEX, ChunkType.END, *STORED_TYPES}):
            yield f"lost: {ChunkType(kind).name.lower()}, no events"
    else:
        yield f"lost: {_events(its, numbers)}"


def _events(its: Survey, numbers: list[int]) -> str:
    known = [its.known[n] for n in numbers if n in its.known and its.known[n].count]
    if len(known) == len(numbers):
        count = sum(each.count for each in known)
        return f"{count:,} events of ticks {known[0].first_tick:,} to {known[-1].last_tick:,}"
    before = max((k.last_tick for n, k in its.known.items() if n < numbers[0]), default=Tick(0))
    behind = min((k.first_tick for n, k in its.known.items() if n > numbers[-1]), default=None)
    return f"what happened from tick {before:,} to {'the end' if behind is None else f'tick {behind:,}'}"


# ---- what was saved --------------------------------------------------------------------------------


def _result(found: Salvage, saved: Saved, output: str) -> Iterator[str]:
    if saved.against is not None:
        yield f"the replay goes another way: {saved.against}"
    ticks = f"ticks {saved.first:,} to {saved.last:,}, {saved.events:,} events"
    yield f"{output}: {saved.size:,} bytes, {ticks}; replayed, all as recorded"
    if saved.whole:
        yield "nothing of the recording is lost"
        return
    if saved.first > found.first_tick:
        yield f"not in it: ticks {found.first_tick:,} to {saved.first:,}"
    if saved.last < found.last_tick:
        yield f"not in it: ticks {saved.last:,} to {found.last_tick:,}"
    for number, part in enumerate(found.parts, 1):
        if number != saved.part:
            yield f"--part {number} takes {_extent(part)}"


__all__ = ["run_salvage"]
