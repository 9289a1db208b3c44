"""`lgreplay redact`: a trace without what no replay needs of its user's data.

What goes: names of files, the recorder's command line and date, what people wrote into the header, and states of memory
that can be had again. What came in is needed, because a replay is the same only if the guest reads the same; and what
is in memory is needed, because the digests are of all of it. private.py says of each thing why it stays.

What came in can be scrubbed (scrub.py): then it is another run, which goes the same way. The header is another one in
any case, and so the trace has another id.

Read next: private.py, scrub.py, derived.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike

from replay.derived import (
    QUICK,
    Derived,
    Progress,
    check_output,
    demand_whole,
    derive,
    events_of,
    first_of,
    head_of,
    silent,
)
from replay.errors import Place
from replay.log import TraceReader
from replay.machine_header import machine_of
from replay.private import Finding, findings, neutral_names
from replay.scrub import Original, Scrubbed, scrub
from replay.trace_header import TraceEnd, TraceHeader, pack_header


@dataclass(frozen=True, slots=True)
class Redacted:
    """What came of it: size of the file and of the original, what was taken out, and what is in it still."""

    size: int
    before: int
    gone: tuple[Finding, ...]
    left: tuple[Finding, ...]
    scrubbed: Scrubbed | None


def redact(
    path: str | PathLike[str],
    output: str | PathLike[str],
    *,
    scrubs: Sequence[str] = (),
    force: bool = False,
    progress: Progress = silent,
) -> Redacted:
    """Make a trace of the one at `path` that has nothing in it that a replay can do without.

    `scrubs`: what came in that is to be replaced (scrub.KINDS). Raises BadOutput, CannotScrub, TraceError,
    TraceMismatch, Divergence, TraceWriteError.
    """
    with TraceReader(path) as reader:
        end = demand_whole(reader)
        target = check_output(output, reader.path, force=force)
        found = tuple(findings(reader))
        _, images = head_of(reader)
        scrubbed = scrub(_original(reader, end), scrubs, progress) if scrubs else None
        derived = Derived(
            pack_header(without_names(reader.header)),
            images,
            first_of(reader),
            lambda: events_of(reader) if scrubbed is None else scrubbed.events,
            replace(end if scrubbed is None else scrubbed.end, text=""),
        )
        size = derive(derived, target, level=QUICK, force=force, progress=progress)
        gone = tuple(each for each in found if each.stays is None)
        left = tuple(each for each in found if each.stays is not None)
        return Redacted(size, reader.size, gone, left, scrubbed)


def _original(reader: TraceReader, end: TraceEnd) -> Original:
    config = machine_of(reader)
    events = tuple(events_of(reader))
    return Original(
        reader.header, config, first_of(reader), events, end, Place(str(reader.path), 0)
    )


def without_names(header: TraceHeader) -> TraceHeader:
    """A header that says what was recorded, and not by whom."""
    names = neutral_names(header)
    return replace(
        header,
        guests=tuple(
            replace(g, kernel=names.get(g.kernel, ""), initrd=names.get(g.initrd, ""))
            for g in header.guests
        ),
        images=tuple(replace(image, name=names[image.name]) for image in header.images),
        command_line=(),
        created_ns=0,
        parent=b"",
        branch_tick=0,
        edits=(),
    )


__all__ = ["Redacted", "redact", "without_names"]
