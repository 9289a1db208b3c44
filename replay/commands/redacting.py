"""What `lgreplay redact` does and shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import click

from replay.commands.making import shown
from replay.errors import one_line
from replay.log import TraceReader
from replay.private import Finding, findings
from replay.redact import redact
from replay.scrub import Scrubbed


def run_redact(trace: str, output: str | None, scrubs: tuple[str, ...], *, force: bool) -> None:
    """Show what is in a trace, or make one with less in it."""
    if output is None:
        with TraceReader(trace) as reader:
            _show(_whole(tuple(findings(reader))))
        return
    with shown() as progress:
        done = redact(trace, output, scrubs=scrubs, force=force, progress=progress)
    _show([f"{output}: {done.size:,} bytes; {trace} has {done.before:,}"])
    _show(_listed("taken out", done.gone))
    _show(_listed("still there", done.left))
    if done.scrubbed is None:
        _show(["replayed, all as recorded"])
        return
    _show(_scrubbed(done.scrubbed, ", ".join(sorted(set(scrubs)))))


def _scrubbed(done: Scrubbed, kinds: str) -> Iterator[str]:
    left = done.pieces - done.replaced
    yield f"scrubbed: {done.replaced:,} of {done.pieces:,} pieces ({kinds})"
    if left:
        yield f"{left:,} had to stay: without them it is another run"
    yield "the digests are those of the run with what stands there now; replayed"


def _show(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(one_line(line))


def _whole(found: tuple[Finding, ...]) -> Iterator[str]:
    yield from _listed("not needed for a replay", [f for f in found if f.stays is None])
    yield from _listed("needed", [f for f in found if f.stays is not None])


def _listed(title: str, found: Iterable[Finding]) -> Iterator[str]:
    lines = list(found)
    if lines:
        yield f"{title}:"
    for each in lines:
        yield f"  {each.what}: {each.how_much}" + (f" ({each.stays})" if each.stays else "")


__all__ = ["run_redact"]
