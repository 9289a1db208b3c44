"""What `lgreplay explain` shows: a paragraph, or the same as JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import click

from hostvm.observations import Hypercall
from replay.attempts import Attempts
from replay.commands.terminal import Terminal
from replay.describe import END_OF_GUEST, event_to_json, event_to_text
from replay.errors import one_line
from replay.explain import Explainer, Explanation, Moment, Struck
from replay.failure import ends_of
from replay.log import TraceReader
from replay.no_return import NoReturn
from replay.origin import Link
from replay.outcomes import Outcome, Verdict, classes
from replay.stops import Actor
from replay.sweep_plan import NoFailure, Plan

_WIDTH = 100
_IF = 0x200
_DEATHS = {Verdict.KILLED: "was killed by its Host", Verdict.CRASHED: "crashed"}


def show_explanation(trace: str, plan: Plan, runs: int, *, as_json: bool) -> None:
    """Find out and show. Raises BadSweep."""
    terminal = Terminal()
    with TraceReader(trace) as reader:
        made = Attempts(reader, plan)
        made.progress = lambda tick: terminal.status(f"explain: at tick {tick}")
        try:
            found = Explainer(made).explain(runs)
        except NoFailure:
            _show_good_end(made, as_json=as_json)
            return
        finally:
            terminal.clear()
        if as_json:
            click.echo(json.dumps(_as_json(found), indent=2))
            return
        text = " ".join(one_line(sentence) for sentence in sentences(found, plan.guest))
        click.echo(textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False))


def _show_good_end(made: Attempts, *, as_json: bool) -> None:
    ends = ends_of(made.store)
    words = [f"guest {e.guest} {END_OF_GUEST[e.reason]} at tick {e.tick}" for e in ends]
    said = "; ".join(words) or f"the trace ends at tick {made.end_tick} with its guests alive"
    if as_json:
        click.echo(json.dumps({"failed": False, "end": made.end_tick, "text": said}, indent=2))
    else:
        click.echo(one_line(f"Nothing went wrong that could be explained: {said}."))


# ---- a paragraph -----------------------------------------------------------------------------------


def sentences(found: Explanation, guest: int) -> Iterator[str]:
    """What there is to say, in order of time, after the end itself."""
    death = _DEATHS.get(found.verdict, f"failed ({found.verdict.value})")
    yield f"Guest {guest} {death} at tick {found.end}: {found.text}."
    if found.no_return is not None and found.at_no_return is not None:
        yield from _of_no_return(found.no_return, found.at_no_return)
    if found.struck is not None:
        at = found.at_no_return
        same = at is not None and at.tick == found.struck.at.tick
        yield from _of_struck(found.struck, same_step=same)
    yield from _of_killer(found)
    if found.struck is not None:
        later = found.end - found.struck.at.tick
        yield f"From that interrupt to the end it took {later:,} ticks."


def _of_no_return(found: NoReturn, at: Moment) -> Iterator[str]:
    step = f"{at.where}: {at.code} ({at.world})"
    yield (
        f"The step of no return is at tick {found.tick}, {step}: of runs that go on from there, "
        f"{_counted(found.before)}; a tick later, {_counted(found.behind)}."
    )


def _counted(outcomes: tuple[Outcome, ...]) -> str:
    return ", ".join(f"{len(each.outcomes)} {each.kind}" for each in classes(outcomes))


def _of_struck(struck: Struck, *, same_step: bool) -> Iterator[str]:
    at, low, high = struck.at, *struck.window
    if same_step:
        yield "That step takes a hardware interrupt, before the instruction."
    else:
        place = f"before {at.where}: {at.code} ({at.world})"
        yield f"The interrupt in question was taken at tick {at.tick}, {place}."
    on = "on" if struck.states["irq_enabled"] & _IF else "off"
    if low == high:
        window = "the noirq window is empty"
    else:
        where = "in" if low <= at.eip < high else "outside of"
        window = f"it was {where} the noirq window, {low:08x} to {high:08x}"
    pending = struck.states["pending"]
    waiting = f"virtual interrupts {pending:#x} were pending" if pending else "nothing was pending"
    yield (
        f"The kernel had interrupts {on} (irq_enabled {struck.states['irq_enabled']:#x}), {waiting}, and {window}."
    )
    if struck.delivered is None:
        yield "lguest delivered nothing because of it."
    else:
        yield f"{'So' if on == 'on' else 'Still'} lguest interrupted it at tick {struck.delivered}."


def _of_killer(found: Explanation) -> Iterator[str]:
    overwrote = found.overwrote
    if overwrote is None:
        yield "Where the value came from that it died of, the trace does not tell."
        return
    write = overwrote.write
    place = _place(overwrote)
    yield (
        f"At tick {write.tick} {_name(overwrote)}: {overwrote.text} put {_hex(write.new)} over "
        f"{_hex(write.old)} at {place}."
    )
    later = [each for each in found.killer if each.write.by is Actor.GUEST]
    moved = [each for each in later if each.write.tick > write.tick]
    if moved:
        steps = "; ".join(
            f"{_name(each)}: {each.text} at tick {each.write.tick}" for each in reversed(moved)
        )
        yield f"The value went on by {steps}."
    if found.told is not None:
        event = found.told.event
        what = "hypercall" if isinstance(event, Hypercall) else "trap"
        words = " ".join(event_to_text(event).split()[3:])
        yield f"It came out in the {what} of tick {event.tick}, {words}."


def _name(link: Link) -> str:
    where = link.write.where
    return f"{link.write.eip:08x}" if where is None else f"{link.write.eip:08x} {where}"


def _place(link: Link) -> str:
    return "a register" if link.at is None else f"{link.at:08x}"


def _hex(raw: bytes) -> str:
    return raw[::-1].hex()


# ---- JSON ------------------------------------------------------------------------------------------


def _as_json(found: Explanation) -> Mapping[str, Any]:
    no_return = found.no_return
    return {
        "failed": True,
        "verdict": found.verdict.value,
        "text": found.text,
        "end": found.end,
        "no_return": None
        if no_return is None or found.at_no_return is None
        else {
            **_moment(found.at_no_return),
            "before": [outcome.kind for outcome in no_return.before],
            "behind": [outcome.kind for outcome in no_return.behind],
        },
        "interrupt": None
        if found.struck is None
        else {
            **_moment(found.struck.at),
            "event": event_to_json(found.struck.event),
            "states": found.struck.states,
            "noirq": list(found.struck.window),
            "delivered": found.struck.delivered,
        },
        "told": None
        if found.told is None
        else {"event": event_to_json(found.told.event), "value": found.told.value},
        "overwrote": None if found.overwrote is None else _link(found.overwrote),
        "writes": [_link(link) for link in found.killer],
    }


def _moment(at: Moment) -> dict[str, Any]:
    return {
        "tick": at.tick,
        "eip": at.eip,
        "where": at.where,
        "code": at.code,
        "world": at.world,
    }


def _link(link: Link) -> dict[str, Any]:
    write = link.write
    return {
        "tick": write.tick,
        "by": write.by.value,
        "eip": write.eip,
        "where": None if write.where is None else str(write.where),
        "code": link.text,
        "address": link.at,
        "old": _hex(write.old),
        "new": _hex(write.new),
    }


__all__ = ["sentences", "show_explanation"]
