"""What `lgreplay minimise` does and shows."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click

from replay.attempts import Attempt, Attempts
from replay.commands.terminal import Terminal
from replay.describe import event_to_text
from replay.errors import one_line
from replay.events import HostInterrupt, HostTurnInterrupt, HostWoken
from replay.inputs import Input
from replay.instructions import LONGEST, text_of
from replay.log import TraceReader
from replay.minimise import Minimal, Minimiser, key
from replay.rows import Rows
from replay.sweep_plan import Plan
from replay.sweep_world import Background

_BESIDES = {
    Background.SILENT: "nothing else comes",
    Background.PUNCTUAL: "what else comes is what is due, to the tick",
    Background.SEEDED: "",
}


def run_minimise(trace: str, plan: Plan, output: str | None, journal: str | None) -> None:
    """Do it. Raises BadSweep, and KeyboardInterrupt after saving the best so far."""
    path = Path(output) if output else Path(f"{Path(trace).stem}-minimal.lgt")
    terminal = Terminal()

    def show(tried: int, best: Minimal | None) -> None:
        so_far = "" if best is None else f", {best.attempt.count:,} interrupts are enough"
        terminal.status(f"minimise: {tried:,} attempts{so_far}")

    with TraceReader(trace) as reader:
        made = Attempts(reader, plan)
        made.find_failure()
        rows = None if journal is None else _journal(journal, made)
        known = {} if rows is None else {_key(each): each for each in rows.found}
        try:
            search = Minimiser(made, show, known, lambda each: rows.put(each) if rows else None)
            try:
                search.run()
            finally:
                terminal.clear()
                if search.best is not None:
                    _write(made, search.best, path)
        finally:
            if rows is not None:
                rows.close()


def _journal(path: str, made: Attempts) -> Rows[Attempt]:
    # What is placed and where does not depend on what the plan says of a sweep.
    plan = replace(made.plan, irqs=(0,))
    head = {"minimise": 1, "trace": made.reader.trace_id.hex(), "plan": plan.to_json()}
    return Rows(path, head, Attempt.to_json, Attempt.from_json)


def _key(attempt: Attempt) -> str:
    return key(attempt.background, attempt.whole, attempt.steps)


def _write(made: Attempts, found: Minimal, path: Path) -> None:
    for line in _lines(made, found):
        click.echo(one_line(line))
    made.branch_with(found.attempt).save(path, ("lgreplay", *sys.argv[1:]))
    with TraceReader(path) as reader:
        all_ = sum(isinstance(e, HostInterrupt | HostTurnInterrupt) for e in reader.events())
        woken = sum(isinstance(event, HostWoken) for event in reader.events())
        end = reader.end.tick if reader.end else 0
    waking = f", and {woken:,} that wake it from idleness" if woken else ""
    plural = "" if all_ == 1 else "s"
    click.echo(
        one_line(f"{path}: {end:,} ticks, {all_:,} hardware interrupt{plural} in all{waking}")
    )


def _lines(made: Attempts, found: Minimal) -> Iterator[str]:
    attempt = found.attempt
    yield f"{made.kind}, at tick {made.failed_at}"
    count = len(made.inputs)
    yield f"{attempt.count:,} of {count:,} interrupts, and {_BESIDES[attempt.background]}"
    ticks = [each.tick for each in made.inputs[: attempt.whole]] + list(attempt.ticks)
    for number, tick in zip(attempt.kept, ticks, strict=True):
        mark = "critical" if number == found.critical else ""
        yield f"{mark:<8}  tick {tick:<10} {_words(made, made.inputs[number])}"
    if found.critical is None:
        yield "it needs none of them: no interrupt is to blame"
    else:
        yield f"it ends at tick {attempt.outcome.end}; without the critical one it does not end so"


def _words(made: Attempts, wanted: Input) -> str:
    """Where it was in the trace."""
    made.go(wanted.tick)
    event = made.store.event(wanted.number - made.store.first_number)
    assert event is not None
    if wanted.eip is None:
        return f"was {' '.join(event_to_text(event).split())}"
    name = made.symbols.name_of(wanted.eip, in_guest=True, guest=wanted.guest)
    place = f"{wanted.eip:08x}" if name is None else f"{wanted.eip:08x} {name}"
    code = text_of(made.read(wanted.eip, LONGEST), wanted.eip)
    irqs = " ".join(f"irq {done.irq}" for done in wanted.answers) or ("irq 0" * wanted.rings)
    return f"{irqs or 'no irq'} before {place}: {code}; it was at tick {wanted.tick}"


__all__ = ["run_minimise"]
