"""What `lgreplay bisect` does and shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from hostvm.units import Tick
from replay.attempts import Attempts
from replay.commands.terminal import Terminal
from replay.describe import event_to_text
from replay.errors import one_line
from replay.instructions import LONGEST, text_of
from replay.log import TraceReader
from replay.look import World
from replay.no_return import NoReturn, find_no_return
from replay.outcomes import Outcome, classes
from replay.sweep import Sweep
from replay.sweep_plan import NoFailure, Plan


def show_no_return(trace: str, plan: Plan, runs: int, window: tuple[int, int] | None) -> None:
    """Find it and show it. Raises BadSweep."""
    terminal = Terminal()
    first, last = window or (0, None)

    def show(low: Tick, high: Tick) -> None:
        terminal.status(f"between tick {low} and tick {high}")

    with TraceReader(trace) as reader:
        made = Attempts(reader, plan)
        try:
            if last is None:
                last = _failure(made)
            found = find_no_return(made, runs, first, last, show)
        finally:
            terminal.clear()
        for line in _lines(made, found):
            click.echo(one_line(line))


def _failure(made: Attempts) -> Tick | None:
    """Where the history itself fails, if it does."""
    try:
        made.find_failure()
    except NoFailure:
        return None
    return made.failed_at


def _lines(made: Sweep, found: NoReturn) -> Iterator[str]:
    yield f"no return behind the step at tick {found.tick}, {_where(made)}"
    for event in found.events:
        yield f"  {event_to_text(event).strip()}"
    yield f"runs from there: {_summary(found.before)}"
    yield f"runs from a tick later: {_summary(found.behind)}"


def _where(made: Sweep) -> str:
    """The instruction at hand, and what is about to happen there."""
    look, eip = made.look, made.machine.cpu.eip
    in_guest = look.world in (World.KERNEL, World.USER)
    name = made.symbols.name_of(eip, in_guest=in_guest, guest=look.guest.number)
    place = f"{eip:08x}" if name is None or look.world is World.USER else f"{eip:08x} {name}"
    step = "an interrupt taken before " if made.store.interrupt_at(made.tick) else ""
    return f"{step}{place}: {text_of(made.read(eip, LONGEST), eip)} ({look.world.value})"


def _summary(outcomes: Sequence[Outcome]) -> str:
    return "; ".join(f"{len(each.outcomes)} {each.kind}" for each in classes(outcomes))


__all__ = ["show_no_return"]
