"""What `lgreplay sweep` does: find the places, have the runs made, and show what came of them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from hostvm.units import Tick
from replay.commands.terminal import Terminal
from replay.errors import one_line
from replay.log import TraceReader
from replay.outcomes import Outcome, classes
from replay.stops import EventStop, Happening
from replay.sweep import Sweep
from replay.sweep_crew import Journal, sweep
from replay.sweep_places import MOST_PLACES, around, raised_by, visits
from replay.sweep_plan import BadSweep, Plan
from replay.sweep_report import Report
from replay.where import BadPlace, tick_of

_STRIP = 60
_KINDS = {happening.value: happening for happening in Happening} | {"irq": Happening.RAISED}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which places: a window of ticks, a function, events; what is given at the same time must all be so.

    `sample`: only so many of them. `move`: the interrupt there is moved, by default as far as `around`.
    """

    window: tuple[int, int] | None
    symbol: str | None
    events: str | None
    around: int
    sample: int | None = None
    move: str | None = None

    def ticks(self, made: Sweep) -> list[Tick]:
        """The places. Raises BadSweep where there are none, or too many."""
        low, high = self._window(made)
        found: list[Sequence[int]] = []
        if self.symbol is not None:
            found.append(visits(made, self.symbol, made.plan.guest, low, high))
        if self.events is not None:
            found.append(around(made, event_stop(self.events, made.plan.guest), self.around))
        if found:
            common = set(found[0]).intersection(*found[1:])
            places: Sequence[int] = sorted(tick for tick in common if low <= tick < high)
        else:
            places = range(low, high)
        if self.sample and len(places) > self.sample:
            places = [places[at * len(places) // self.sample] for at in range(self.sample)]
        if not places:
            raise BadSweep("there is no such place in the trace")
        if len(places) * len(made.plan.gaps) > MOST_PLACES:
            raise BadSweep(f"more than {MOST_PLACES:,} places")
        return [Tick(tick) for tick in places]

    def _window(self, made: Sweep) -> tuple[int, int]:
        low, high = self.window or (0, made.end_tick)
        move = made.plan.move
        if move is not None and (self.window or self.symbol or self.events) is None:
            low, high = move - self.around, move + self.around + 1
        return max(low, made.first_tick), min(high, made.end_tick)


@dataclass(frozen=True, slots=True)
class Handling:
    """Who makes the runs, and what is done with the results.

    `dask`: address of a cluster; otherwise there are `workers`. `first`: end with the first failure. `save` is a
    folder for traces, `html` a file for a page.
    """

    workers: int | None = None
    dask: str | None = None
    journal: str | None = None
    first: bool = False
    save: str | None = None
    html: str | None = None


def event_stop(text: str, guest: int) -> EventStop:
    """The events that `irq:1` or `hypercall` means. Raises BadSweep."""
    name, _, number = text.partition(":")
    if name not in _KINDS or not (number.isdecimal() or text == name):
        raise BadSweep(f"no events are called {text!r}; there are {', '.join(sorted(_KINDS))}")
    return EventStop(_KINDS[name], int(number) if number else None, guest)


def run_sweep(trace: str, plan: Plan, wanted: Wanted, how: Handling) -> None:
    """Do all of it. Raises BadSweep, and KeyboardInterrupt after showing what there is so far."""
    outcomes: list[Outcome] = []
    with TraceReader(trace) as reader:
        made = Sweep(reader, plan)
        if wanted.move is not None:
            made = Sweep(reader, plan_of_move(made, wanted.move))
        plan, ticks = made.plan, wanted.ticks(made)
        kept = None if how.journal is None else Journal(how.journal, reader.trace_id, plan)
        try:
            _make(_results(trace, plan, ticks, how, kept), len(ticks), outcomes, first=how.first)
        finally:
            if kept is not None:
                kept.close()
            report = Report(outcomes, plan, made.symbols)
            _show(report, len(ticks) - len({outcome.tick for outcome in outcomes}))
        if how.html is not None:
            Path(how.html).write_text(report.html(f"Sweep of {trace}"), encoding="utf-8")
        if how.save is not None:
            _save(made, outcomes, Path(how.save), Path(trace).stem)


def plan_of_move(made: Sweep, where: str) -> Plan:
    """The plan of a sweep that moves the hardware interrupt which `where` names. Raises BadSweep."""
    try:
        tick = tick_of(made, where)
    except BadPlace as error:
        raise BadSweep(str(error)) from error
    irqs = raised_by(made, made.plan.guest, tick)
    if not irqs:
        raise BadSweep(f"the interrupt at tick {tick} raises no irq: it is the Host's own")
    return replace(made.plan, move=tick, irqs=irqs)


def _results(
    trace: str, plan: Plan, ticks: list[Tick], how: Handling, journal: Journal | None
) -> Iterator[Outcome]:
    if how.dask is None:
        return sweep(trace, plan, ticks, workers=how.workers, journal=journal)
    from replay.sweep_dask import sweep_on

    return sweep_on(how.dask, trace, plan, ticks, journal=journal)


def _make(results: Iterator[Outcome], places: int, outcomes: list[Outcome], *, first: bool) -> None:
    """Take the results as they come, and show how far it is."""
    terminal = Terminal()
    ticks: set[Tick] = set()
    kinds: Counter[str] = Counter()
    try:
        for outcome in results:
            outcomes.append(outcome)
            ticks.add(outcome.tick)
            if outcome.verdict.failed:
                kinds[outcome.verdict.value] += 1
            said = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items()) or "0 failed"
            terminal.status(f"sweep: {len(ticks):,} of {places:,} places, {said}")
            if first and kinds:
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


__all__ = ["Handling", "Wanted", "event_stop", "plan_of_move", "run_sweep"]
