"""Commands that go about in history, remember places and say where we are.

Read next: travel.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from gdbstub.errors import Errno, TargetFault
from gdbstub.stepping import Scope
from gdbstub.travel import Checkpoint
from gdbstub.words import Command, Talk, number_of, wrong
from replay.named_stops import NoSuchStop, named_stop
from replay.predicate import BadPredicate
from replay.stops import EventStop, Happening, Stop


def _when(talk: Talk, _: Sequence[str]) -> str:
    return talk.where()


def _seek(talk: Talk, arguments: Sequence[str]) -> str:
    if not arguments:
        raise wrong(arguments)
    talk.travel.to(" ".join(arguments))
    return talk.where()


def _tick_step(talk: Talk, arguments: Sequence[str]) -> str:
    talk.travel.ticks(number_of(arguments))
    return talk.where()


def _back(talk: Talk, arguments: Sequence[str]) -> str:
    talk.travel.back(number_of(arguments))
    return talk.where()


def _forward(talk: Talk, arguments: Sequence[str]) -> str:
    talk.travel.back(-number_of(arguments))
    return talk.where()


def _checkpoint(talk: Talk, arguments: Sequence[str]) -> str:
    checkpoints = talk.travel.checkpoints
    number = max(checkpoints, default=0) + 1
    checkpoints[number] = Checkpoint(talk.travel.timeline.tick, " ".join(arguments))
    return f"checkpoint {number} at tick {checkpoints[number].tick:,}"


def _checkpoints(talk: Talk, _: Sequence[str]) -> str:
    known = talk.travel.checkpoints.items()
    lines = (f"{number:>4}  tick {c.tick:,}  {c.note}".rstrip() for number, c in known)
    return "\n".join(lines) or "no checkpoints"


def _restart(talk: Talk, arguments: Sequence[str]) -> str:
    number = number_of(arguments)
    checkpoint = talk.travel.checkpoints.get(number)
    if checkpoint is None:
        raise TargetFault(f"there is no checkpoint {number}", Errno.EINVAL)
    talk.travel.to(str(checkpoint.tick))
    return talk.where()


def _delete_checkpoint(talk: Talk, arguments: Sequence[str]) -> str:
    number = number_of(arguments)
    if talk.travel.checkpoints.pop(number, None) is None:
        raise TargetFault(f"there is no checkpoint {number}", Errno.EINVAL)
    return f"checkpoint {number} deleted"


def _step_scope(talk: Talk, arguments: Sequence[str]) -> str:
    stepper = talk.travel.stepper
    match arguments:
        case []:
            pass
        case ["thread" | "cpu" as scope]:
            stepper.scope = Scope(scope)
        case _:
            raise wrong(arguments)
    return f"a step is an instruction of the {'same thread' if stepper.scope is Scope.THREAD else 'CPU'}"


# ---- stops by name ---------------------------------------------------------------------------------


def stop_of(talk: Talk, arguments: Sequence[str]) -> Stop:
    """The stop that words mean: one of named_stops.py, any event, or when an expression becomes true."""
    try:
        match arguments:
            case []:
                return EventStop(Happening.ANY)
            case ["when", *expression]:
                return talk.timeline.predicate(" ".join(expression))
            case [name]:
                return named_stop(talk.timeline, name)
            case [name, number] if number.isdecimal():
                return named_stop(talk.timeline, name, int(number))
    except (NoSuchStop, BadPredicate) as error:
        raise TargetFault(str(error), Errno.EINVAL) from error
    raise wrong(arguments)


def _to_event(talk: Talk, arguments: Sequence[str]) -> str:
    talk.travel.to_stop(stop_of(talk, arguments), backwards=False)
    return talk.where()


def _reverse_to_event(talk: Talk, arguments: Sequence[str]) -> str:
    talk.travel.to_stop(stop_of(talk, arguments), backwards=True)
    return talk.where()


def _catch(talk: Talk, arguments: Sequence[str]) -> str:
    if not arguments:
        known = talk.travel.catches.items()
        return "\n".join(f"{number:>4}  {text}" for number, text in known) or "no catches"
    text = " ".join(arguments)
    return f"catch {talk.travel.catch(stop_of(talk, arguments), text)}: {text}"


def _uncatch(talk: Talk, arguments: Sequence[str]) -> str:
    number = number_of(arguments)
    talk.travel.forget_catch(number)
    return f"catch {number} deleted"


_STOPS = "[NAME [N] | when EXPRESSION]"

GOING: Mapping[str, Command] = MappingProxyType(
    {
        "when": Command("", "where in the run we are", _when),
        "seek": Command(
            "PLACE",
            "go to a tick, N%, event N, start, end, failure, @bookmark, +N or -N",
            _seek,
            moves=True,
        ),
        "tick-step": Command(
            "[N]", "make N steps of one tick; back if N < 0", _tick_step, moves=True
        ),
        "to-event": Command(
            _STOPS, "go to the next event, or where such a stop is met", _to_event, moves=True
        ),
        "reverse-to-event": Command(_STOPS, "the same, backwards", _reverse_to_event, moves=True),
        "back": Command("[N]", "go to where we were N stops ago", _back, moves=True),
        "forward": Command("[N]", "the other way round", _forward, moves=True),
        "checkpoint": Command("[NOTE]", "remember this place", _checkpoint),
        "checkpoints": Command("", "places remembered", _checkpoints),
        "restart": Command("[N]", "go to checkpoint N", _restart, moves=True),
        "delete-checkpoint": Command("N", "forget a checkpoint", _delete_checkpoint),
        "catch": Command(
            _STOPS, "stop there from now on; without a name, list the catches", _catch
        ),
        "uncatch": Command("N", "do not any more", _uncatch),
        "step-scope": Command("[thread|cpu]", "whose instruction a step is", _step_scope),
    }
)

__all__ = ["GOING", "stop_of"]
