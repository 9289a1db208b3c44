"""Steps of one world while the others take turns, and what a debugger that steps off a breakpoint must not see."""

from __future__ import annotations

import pytest

from gdbstub.commands import Motion, Point, PointKind
from gdbstub.registers import NUMBER
from gdbstub.stepping import Scope
from gdbstub.target import Move, ReasonKind, Stop
from tests.gdbstub.fake_target import (
    AFTER_SYSCALL,
    HANDLER,
    KERNEL,
    SYSCALL,
    USER,
    WRITE,
    FakeTarget,
)

IRET = HANDLER + 7


@pytest.fixture
def target() -> FakeTarget:
    return FakeTarget()


def at(target: FakeTarget, address: int) -> None:
    """Put the machine where it first comes to an address."""
    target.tick = next(t for t, state in enumerate(target.states) if state.eip == address)
    target.stepper.forget()


def step(target: FakeTarget, thread: int = USER, *, alone: bool = False) -> Stop:
    return target.advance(Move(Motion.STEP, thread, alone=alone))


def back(target: FakeTarget, thread: int = USER) -> Stop:
    return target.go_back(Move(Motion.STEP, thread))


def kinds(stop: Stop) -> set[ReasonKind]:
    return {reason.kind for reason in stop.reasons}


def eip(target: FakeTarget, thread: int) -> int | None:
    value = target.read_registers(thread)[NUMBER["eip"]]
    return None if value is None else int.from_bytes(value, "little")


def breakpoint_at(target: FakeTarget, address: int) -> int:
    return target.add_point(Point(PointKind.SOFTWARE, address, 1), ())


def test_a_step_over_a_system_call_ends_behind_it(target: FakeTarget) -> None:
    at(target, SYSCALL)
    assert step(target).thread == USER
    assert target.state.eip == AFTER_SYSCALL


def test_a_step_back_over_a_system_call_ends_before_it(target: FakeTarget) -> None:
    at(target, AFTER_SYSCALL)
    assert back(target).thread == USER
    assert target.state.eip == SYSCALL


def test_steps_back_undo_steps(target: FakeTarget) -> None:
    forward = []
    while ReasonKind.HISTORY_END not in kinds(step(target)):
        forward.append(target.tick)
    backward = [target.tick]
    while ReasonKind.HISTORY_START not in kinds(back(target)):
        backward.append(target.tick)
    assert backward == [*forward[::-1], 0]


def test_a_stop_elsewhere_ends_a_step(target: FakeTarget) -> None:
    at(target, SYSCALL)
    breakpoint_at(target, HANDLER + 6)
    stop = step(target)
    assert (stop.thread, kinds(stop)) == (KERNEL, {ReasonKind.SOFTWARE_BREAKPOINT})
    # The program has not come back: its next step lasts until then, and one instruction more.
    step(target)
    assert target.state.eip == AFTER_SYSCALL + 1


def test_with_the_scope_of_the_processor_every_instruction_is_a_step(target: FakeTarget) -> None:
    target.stepper.scope = Scope.CPU
    at(target, SYSCALL)
    stop = step(target)
    assert (stop.thread, target.state.eip) == (KERNEL, HANDLER)
    assert back(target, KERNEL).thread == USER
    assert target.state.eip == SYSCALL


def test_a_thread_that_steps_alone_is_the_one_that_stops(target: FakeTarget) -> None:
    at(target, SYSCALL)
    stop = step(target, alone=True)
    assert (stop.thread, kinds(stop)) == (USER, {ReasonKind.STEPPED})
    assert target.state.eip == HANDLER
    assert eip(target, USER) == AFTER_SYSCALL


def test_what_another_thread_meets_meanwhile_is_told_with_the_next_move(target: FakeTarget) -> None:
    at(target, SYSCALL)
    breakpoint_at(target, HANDLER)
    assert step(target, alone=True).thread == USER
    tick = target.tick
    stop = target.advance(Move(Motion.CONTINUE, USER))
    assert (stop.thread, kinds(stop)) == (KERNEL, {ReasonKind.SOFTWARE_BREAKPOINT})
    assert target.tick == tick
    assert target.advance(Move(Motion.CONTINUE, USER)).thread == KERNEL
    assert target.tick > tick


def test_what_was_kept_back_is_forgotten_when_time_is_travelled(target: FakeTarget) -> None:
    at(target, SYSCALL)
    breakpoint_at(target, HANDLER)
    step(target, alone=True)
    assert back(target).thread == USER
    target.points.clear()
    assert kinds(target.advance(Move(Motion.CONTINUE, USER))) == {ReasonKind.HISTORY_END}


def test_a_thread_without_a_known_place_is_disguised_for_one_stop(target: FakeTarget) -> None:
    at(target, IRET)
    assert eip(target, USER) == AFTER_SYSCALL
    stop = step(target, KERNEL, alone=True)
    assert stop.thread == KERNEL
    assert eip(target, KERNEL) == 0
    step(target, USER)
    assert eip(target, KERNEL) is None


def test_an_ordinary_step_alone_is_an_ordinary_step(target: FakeTarget) -> None:
    at(target, WRITE)
    stop = step(target, alone=True)
    assert (stop.thread, target.state.eip, kinds(stop)) == (USER, SYSCALL, {ReasonKind.STEPPED})


def test_a_step_alone_of_a_thread_that_waits_lasts_until_it_has_gone_on(target: FakeTarget) -> None:
    at(target, HANDLER)
    stop = step(target, USER, alone=True)
    assert (stop.thread, target.state.eip) == (USER, AFTER_SYSCALL + 1)


@pytest.mark.parametrize("alone", [True, False])
def test_the_end_of_history_is_no_secret(target: FakeTarget, alone: bool) -> None:
    target.tick = len(target.states) - 1
    stop = step(target, alone=alone)
    assert (stop.thread, kinds(stop)) == (USER, {ReasonKind.HISTORY_END})


def test_a_thread_that_never_runs_again_is_not_waited_for(target: FakeTarget) -> None:
    last = max(t for t, state in enumerate(target.states) if state.eip == IRET)
    target.tick = last
    stop = step(target, KERNEL)
    assert (stop.thread, kinds(stop), target.tick) == (USER, {ReasonKind.ARRIVED}, last + 1)
    at(target, HANDLER)
    first = target.tick
    stop = back(target, KERNEL)
    assert (stop.thread, kinds(stop), target.tick) == (USER, {ReasonKind.ARRIVED}, first - 1)
