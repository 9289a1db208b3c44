"""What `lgreplay sweep` does: find the places, have the runs made, and show what came of them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import click

from hostvm.units import Tick
from replay.commands.terminal import Terminal
from replay.errors import one_line
from replay.log import TraceReader
from replay.outcomes import Outcome, classes
from replay.stops import EventStop, Happening
from replay.sweep import MOST_PLACES, BadSweep, Plan, Sweep
from replay.sweep_crew import Journal, sweep
from replay.sweep_report import Report

_STRIP = 60
_KINDS = {happening.value: happening for happening in Happening} | {"irq": Happening.RAISED}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which places: a window of ticks, a function, events; what is given at the same time must all be so."""

    window: tuple[int, int] | None
    symbol: str | None
    events: str | None
    around: int

    def ticks(self, made: Sweep) -> list[Tick]:
        """The places. Raises BadSweep where there are none, or too many."""
        low, high = self.window or (0, made.end_tick)
        low, high = max(low, made.first_tick), min(high, made.end_tick)
        found = [] if self.symbol is None else [made.visits(self.symbol, low, high)]
        if self.events is not None:
            found.append(made.around(event_stop(self.events, made.plan.guest), self.around))
        if not found:
            if high - low > MOST_PLACES:
                raise BadSweep(f"more than {MOST_PLACES:,} places")
            found = [[Tick(tick) for tick in range(low, high)]]
        common = set(found[0]).intersection(*found[1:])
        ticks = sorted(tick for tick in common if low <= tick < high)
        if not ticks:
            raise BadSweep("there is no such place in the trace")
        return ticks


def event_stop(text: str, guest: int) -> EventStop:
    """The events that `irq:1` or `hypercall` means. Raises BadSweep."""
    name, _, number = text.partition(":")
    if name not in _KINDS or not (number.isdecimal() or text == name):
        raise BadSweep(f"no events are called {text!r}; there are {', '.join(sorted(_KINDS))}")
    return EventStop(_KINDS[name], int(number) if number else None, guest)


def run_sweep(
    trace: str,
    plan: Plan,
    wanted: Wanted,
    *,
    workers: int | None,
    journal: str | None,
    first: bool,
    save: str | None,
    html: str | None,
) -> None:
    """Do all of it. Raises BadSweep, and KeyboardInterrupt after showing what there is so far."""
    outcomes: list[Outcome] = []
    with TraceReader(trace) as reader:
        made = Sweep(reader, plan)
        ticks = wanted.ticks(made)
        kept = None if journal is None else Journal(journal, reader.trace_id, plan)
        try:
            _make(trace, plan, ticks, outcomes, workers, kept, first)
        finally:
            if kept is not None:
                kept.close()
            report = Report(outcomes, plan, made.symbols)
            _show(report, len(ticks) - len(outcomes))
        if html is not None:
            Path(html).write_text(report.html(f"Sweep of {trace}"), encoding="utf-8")
        if save is not None:
            _save(made, outcomes, Path(save), Path(trace).stem)


def _make(
    trace: str,
    plan: Plan,
    ticks: list[Tick],
    outcomes: list[Outcome],
    workers: int | None,
    journal: Journal | None,
    first: bool,
) -> None:
    terminal = Terminal()
    failed = 0
    try:
        for outcome in sweep(trace, plan, ticks, workers=workers, journal=journal):
            outcomes.append(outcome)
            failed += outcome.verdict.failed
            terminal.status(f"sweep: {len(outcomes):,} of {len(ticks):,} places, {failed:,} failed")
            if first and failed:
                break
    finally:
        terminal.clear()


def _show(report: Report, left: int) -> None:
    for line in report.summary():
        click.echo(line)
    if left:
        click.echo(f"not reached at {left:,}")
    for line in report.table():
        click.echo(line)
    click.echo()
    for line in report.strip(_STRIP):
        click.echo(line)


def _save(made: Sweep, outcomes: list[Outcome], folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    click.echo()
    numbers: dict[str, int] = {}
    for found in classes(outcomes):
        verdict = found.verdict.name.lower()
        if verdict == "skipped":
            continue
        number = numbers[verdict] = numbers.get(verdict, 0) + 1
        path = folder / f"{name}-{verdict}{'' if number == 1 else f'-{number}'}.lgt"
        made.branch_of(found.first).save(path, ("lgreplay", *sys.argv[1:]))
        click.echo(one_line(f"{path}: {found.kind}, from tick {found.first.tick}"))


__all__ = ["Wanted", "event_stop", "run_sweep"]
