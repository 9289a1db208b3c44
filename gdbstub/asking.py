"""Commands that ask about the place where we are, and do not move: tables, provenance, interrupts that do not come.

Read next: tables.py; replay/location_words.py, replay/provenance.py, replay/whynot.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from gdbstub.errors import Errno, TargetFault
from gdbstub.tables import NAMES, table
from gdbstub.words import Command, Talk, wrong
from replay.describe import event_to_text
from replay.location_words import BadLocation, location_of
from replay.locations import Location, NoSuchLocation
from replay.predicate import BadPredicate
from replay.provenance import Write
from replay.timeline import Interrupted

_Answer = TypeVar("_Answer")


def _searched(search: Callable[[], _Answer]) -> _Answer:
    """What a search found. Raises TargetFault where it cannot be made, or was interrupted."""
    try:
        return search()
    except Interrupted as interrupted:
        raise TargetFault("interrupted") from interrupted
    except (BadLocation, NoSuchLocation, BadPredicate) as error:
        raise TargetFault(str(error), Errno.EINVAL) from error


def _value(data: bytes) -> str:
    if len(data) in {1, 2, 4, 8}:
        return f"{int.from_bytes(data, 'little'):#x}"
    return data.hex(" ") or "unmapped"


def _write_text(write: Write | None, where: str) -> str:
    if write is None:
        return f"nothing {where}"
    name = f" <{write.where}>" if write.where else ""
    change = f"{_value(write.old)} -> {_value(write.new)}"
    head = f"tick {write.tick:,}: {write.by.value} at {write.eip:#010x}{name}: {change}"
    return "\n".join([head, *(f"  {' '.join(event_to_text(e).split())}" for e in write.events)])


def _location(talk: Talk, arguments: Sequence[str]) -> Location:
    text = " ".join(arguments)
    return _searched(lambda: location_of(talk.timeline, text, place=talk.points.place))


def _last_write(talk: Talk, arguments: Sequence[str]) -> str:
    place = _location(talk, arguments)
    return _write_text(_searched(lambda: talk.timeline.last_write(place)), "before changed it")


def _next_write(talk: Talk, arguments: Sequence[str]) -> str:
    place = _location(talk, arguments)
    return _write_text(
        _searched(lambda: talk.timeline.next_write(place)), "from here on changes it"
    )


def _whynot(talk: Talk, arguments: Sequence[str]) -> str:
    match arguments:
        case [irq] if irq.isdecimal():
            guest = talk.timeline.look.guest.number
        case [irq, number] if irq.isdecimal() and number.isdecimal():
            guest = int(number)
        case _:
            raise wrong(arguments)
    try:
        found = _searched(lambda: talk.timeline.whynot(int(irq), guest))
    except ValueError as error:
        raise TargetFault(str(error), Errno.EINVAL) from error
    return "\n".join(
        f"{o.why.value}: since tick {o.since:,}, "
        f"{'to the end' if o.until is None else f'until tick {o.until:,}'}"
        for o in found
    )


def _info(talk: Talk, arguments: Sequence[str]) -> str:
    match arguments:
        case [name]:
            return table(talk.timeline, name)
        case ["events", *wanted]:
            return table(talk.timeline, "events", " ".join(wanted))
    raise wrong(arguments)


def _eval(talk: Talk, arguments: Sequence[str]) -> str:
    value = _searched(lambda: talk.timeline.evaluate(" ".join(arguments)))
    return f"{value:#x} = {value}"


ASKING: Mapping[str, Command] = MappingProxyType(
    {
        "info": Command(
            "|".join(NAMES), "show a table; of events, those whose text contains WORDS", _info
        ),
        "last-write": Command(
            "LOCATION",
            "who changed it last: ADDRESS [LENGTH], eax, idt N, pending N, ...",
            _last_write,
        ),
        "next-write": Command("LOCATION", "who changes it next", _next_write),
        "whynot": Command(
            "IRQ [GUEST]",
            "why this interrupt is not being delivered, since when and until when",
            _whynot,
        ),
        "eval": Command("EXPRESSION", "the value of an expression over the machine's state", _eval),
    }
)

__all__ = ["ASKING"]
