"""One debugger's session: events from the wire in, actions out; the state machine of the protocol, without a socket.

`receive` takes one event and returns what is to be done: bytes to send, a move to make, the end. While a move is made
(`Run`), or a command carried out (`Tell`), nothing else may be received: the one who does it then calls `stopped`,
`refused` or `told`, and what the debugger sends meanwhile waits. Only the interrupt does not wait; whoever reads the
socket passes it to the target at once, and here it means nothing.

Whatever the peer sends is answered: what is unknown with the empty packet, what is wrong with an error. A session that
ends leaves the target where it is, without points.

Source: GDB manual, E.2 Packets, E.9 Packet Acknowledgment. Read next: lookups.py, server.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from gdbstub import commands as c
from gdbstub import replies
from gdbstub.agent import parse_expression
from gdbstub.errors import PacketError, StubError, TargetFault
from gdbstub.features import resume_actions, supported
from gdbstub.fields import ALL_THREADS, ANY_THREAD
from gdbstub.lookups import Lookups
from gdbstub.packet import Packet, PacketWire, Signal, WireEvent
from gdbstub.parser import parse_command
from gdbstub.registers import EXPEDITED
from gdbstub.target import (
    HasPoints,
    Move,
    NoticesLeaving,
    Reason,
    ReasonKind,
    Restarts,
    Reversible,
    StepsRanges,
    Stop,
    TakesCommands,
    Target,
    WritesRegisters,
)


@dataclass(frozen=True, slots=True)
class Send:
    """Bytes for the debugger."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Run:
    """Call `move`, then give its result to `stopped`, or the TargetFault that it raises to `refused`."""

    move: Callable[[], Stop]


@dataclass(frozen=True, slots=True)
class Tell:
    """Call `find`, which may take its time, and give the text that it returns to `told`, or its fault."""

    find: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Close:
    """The debugger has said goodbye."""


Act: TypeAlias = Send | Run | Tell | Close


class Session:
    """A session with `target`, from the first byte of a debugger to its last."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._wire = PacketWire()
        self._manners = replies.Manners()
        self._lookups = Lookups(target)
        self._points: dict[c.Point, int] = {}
        self._looked_at = ANY_THREAD
        self._resumed = ANY_THREAD
        self._backward = False
        self._answers_move = True

    def receive(self, event: WireEvent) -> list[Act]:
        """What is to be done because of one event."""
        reply, is_news = self._wire.take(event)
        acts: list[Act] = [Send(reply)] if reply else []
        match event:
            case Packet() if is_news:
                acts += self._obey(event.payload)
            case Signal.OVERSIZE:
                acts += self._send(
                    replies.error(PacketError("the packet is too long"), self._manners)
                )
        return acts

    def stopped(self, stop: Stop) -> list[Act]:
        """The move has ended."""
        self._looked_at = stop.thread
        if not self._answers_move:
            return []
        said = self.say(stop.note) if stop.note else []
        return [*said, *self._send(self._stop_reply(stop))]

    def refused(self, fault: TargetFault) -> list[Act]:
        """The move could not be made. To a debugger in the middle of a `next` only an end of history means: give up."""
        end = ReasonKind.HISTORY_START if self._backward else ReasonKind.HISTORY_END
        return self.stopped(Stop(self._target.current_thread(), (Reason(end),), f"{fault.text}\n"))

    def told(self, text: str) -> list[Act]:
        """A command in words has been carried out, or was refused with this text."""
        return [*(self.say(text) if text else ()), *self._send(replies.OK)]

    def say(self, text: str) -> list[Act]:
        """Let the debugger show a text; only between the request for a move or for words, and the answer to that.

        No text says only that we are still here.
        """
        return [act for packet in replies.console(text) for act in self._send(packet)]

    def close(self) -> None:
        """The debugger is gone: take its points away."""
        for number in self._points.values():
            assert isinstance(self._target, HasPoints)
            self._target.remove_point(number)
        self._points.clear()
        if isinstance(self._target, NoticesLeaving):
            self._target.left()

    # ---- answering ------------------------------------------------------------------------------

    def _send(self, payload: bytes) -> list[Act]:
        return [Send(self._wire.send(payload))]

    def _obey(self, payload: bytes) -> list[Act]:
        try:
            return self._perform(parse_command(payload))
        except StubError as error:
            return self._send(replies.error(error, self._manners))

    def _perform(self, command: c.Command) -> list[Act]:
        match command:
            case c.Resume(actions, address):
                return self._resume(actions, address)
            case c.Reverse(motion):
                return self._reverse(motion)
            case c.Restart(arguments, answered):
                return self._restart(arguments, answered)
            case c.Monitor(text):
                return self._monitor(text)
            case c.StartNoAckMode():
                acts = self._send(replies.OK)
                self._wire.stop_acks()
                return acts
            case c.Detach():
                return [*self._send(replies.OK), Close()]
            case c.Kill(answered):
                return [*(self._send(replies.OK) if answered else ()), Close()]
        return self._send(self._answer(command))

    def _answer(self, command: c.Command) -> bytes:
        match command:
            case c.QuerySupported(features):
                self._manners = replies.Manners.of(features)
                return supported(self._target, self._manners)
            case c.QueryResumeActions():
                return resume_actions(self._target)
            case c.EnableExtendedMode() | c.SymbolsOffered() | c.IsAttached():
                # Attached or not: GDB then detaches when it quits, instead of killing.
                return b"1" if command == c.IsAttached() else replies.OK
            case c.WhyStopped():
                return self._stop_reply(Stop(self._target.current_thread()))
            case c.SelectThread(asked, for_resume):
                return self._select(asked.thread, self._lookups.existing(asked), for_resume)
            case c.InsertPoint(point) | c.RemovePoint(point):
                return self._set_point(point, command)
        looked_up = self._lookups.answer(command, self._looked_at or self._target.current_thread())
        return replies.EMPTY if looked_up is None else looked_up

    def _select(self, asked: int, existing: int, for_resume: bool) -> bytes:
        if for_resume:
            self._resumed = asked if asked in {ALL_THREADS, ANY_THREAD} else existing
        else:
            self._looked_at = existing
        return replies.OK

    def _stop_reply(self, stop: Stop) -> bytes:
        values = self._target.read_registers(stop.thread)
        expedited = ((number, values[number]) for number in EXPEDITED)
        return replies.stopped(stop, expedited, self._manners)

    # ---- moving ---------------------------------------------------------------------------------

    def _run(
        self, move: Callable[[], Stop], *, backward: bool = False, answered: bool = True
    ) -> list[Act]:
        self._backward, self._answers_move = backward, answered
        return [Run(move)]

    def _resume(self, actions: tuple[c.Action, ...], address: int | None) -> list[Act]:
        if address is not None:
            self._jump(address)
        return self._run(partial(self._target.advance, self._plan(actions)))

    def _plan(self, actions: tuple[c.Action, ...]) -> Move:
        """One processor makes one move: the first action that steps decides; else everything runs."""
        alone = all(action.thread.thread > 0 for action in actions)
        for action in actions:
            if action.motion is c.Motion.RANGE and not isinstance(self._target, StepsRanges):
                raise PacketError("steps in a range are not supported")
            if action.motion is not c.Motion.CONTINUE:
                thread = self._stepping(action.thread.thread)
                return Move(action.motion, thread, action.start, action.end, alone)
        return Move(c.Motion.CONTINUE, self._stepping(ANY_THREAD))

    def _stepping(self, thread: int) -> int:
        """The thread that is meant by a step: the one named, the one chosen before, or the one at work."""
        named = (t for t in (thread, self._resumed, self._looked_at) if t > 0)
        chosen = next(named, self._target.current_thread())
        if chosen not in self._target.threads():
            raise PacketError(f"there is no thread {chosen}")
        return chosen

    def _jump(self, address: int) -> None:
        if not isinstance(self._target, WritesRegisters):
            raise PacketError("registers cannot be written")
        eip = EXPEDITED[0]
        self._target.write_register(
            self._target.current_thread(), eip, address.to_bytes(4, "little")
        )

    def _reverse(self, motion: c.Motion) -> list[Act]:
        if not isinstance(self._target, Reversible):
            return self._send(replies.EMPTY)
        move = Move(motion, self._stepping(ANY_THREAD))
        return self._run(partial(self._target.go_back, move), backward=True)

    def _restart(self, arguments: tuple[str, ...], answered: bool) -> list[Act]:
        if not isinstance(self._target, Restarts):
            return self._send(replies.EMPTY)
        return self._run(partial(self._target.restart, arguments), answered=answered)

    # ---- points and commands in words -------------------------------------------------------------

    def _set_point(self, point: c.Point, command: c.Command) -> bytes:
        if not isinstance(self._target, HasPoints) or point.kind not in self._target.point_kinds:
            return replies.EMPTY
        number = None
        if isinstance(command, c.InsertPoint):
            expressions = [parse_expression(code) for code in command.conditions]
            number = self._target.add_point(point, expressions)
        # Of a point that is there already only the newest conditions count.
        old = self._points.pop(point, None)
        if old is not None:
            self._target.remove_point(old)
        if number is not None:
            self._points[point] = number
        return replies.OK

    def _monitor(self, text: str) -> list[Act]:
        if not isinstance(self._target, TakesCommands):
            return self._send(replies.EMPTY)
        return [Tell(partial(self._target.monitor, text))]


__all__ = ["Act", "Close", "Run", "Send", "Session", "Tell"]
