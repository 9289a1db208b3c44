"""Commands about the Linux inside a Guest: its tasks and its messages. None of them moves.

Which Guest is meant is the one at work, unless a number is given. Read next: replay/linux_tasks.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from gdbstub.errors import Errno, TargetFault
from gdbstub.words import Command, Talk, wrong
from replay.linux_tasks import Linux, NoLinux, linux_of
from replay.timeline import Timeline


def _linux(talk: Talk, arguments: Sequence[str]) -> Linux:
    timeline = talk.timeline
    match arguments:
        case []:
            guest = timeline.look.guest.number
        case [number] if number.isdecimal():
            guest = int(number)
        case _:
            raise wrong(arguments)
    if guest >= len(timeline.machine.guests):
        raise TargetFault(f"there is no guest {guest}", Errno.EINVAL)
    return linux_of(timeline.look, timeline.symbols, guest)


def _tasks(talk: Talk, arguments: Sequence[str]) -> str:
    linux = _linux(talk, arguments)
    try:
        tasks, current = linux.tasks(), linux.current().address
    except NoLinux as error:
        raise TargetFault(str(error)) from error
    lines = [f"  {'task':10}  {'pid':>5}  {'name':16}  {'kernel stack':12}  state"]
    for task in tasks:
        mark, pid = "*" if task.address == current else " ", "" if task.pid is None else task.pid
        lines.append(
            f"{mark} {task.address:#010x}  {pid:>5}  {task.name:16}  {task.stack:#010x}    {task.state_name}"
        )
    return "\n".join(lines)


def _messages(talk: Talk, arguments: Sequence[str]) -> str:
    try:
        return "\n".join(_linux(talk, arguments).messages())
    except NoLinux as error:
        raise TargetFault(str(error)) from error


def _current(talk: Talk, arguments: Sequence[str]) -> str:
    try:
        task = _linux(talk, arguments).current()
    except NoLinux as error:
        raise TargetFault(str(error)) from error
    number = "pid not known yet" if task.pid is None else f"pid {task.pid}"
    return f"{task.address:#010x} {task.name}, {number}"


def current_task(timeline: Timeline, guest: int) -> str:
    """The name of a Guest's current task, empty where it is no Linux, or has none that can be told."""
    try:
        return linux_of(timeline.look, timeline.symbols, guest).current_name()
    except NoLinux:
        return ""


LINUX: Mapping[str, Command] = MappingProxyType(
    {
        "lx-tasks": Command("[GUEST]", "the processes of a Linux guest, * the current one", _tasks),
        "lx-dmesg": Command("[GUEST]", "its messages, from its memory", _messages),
        "lx-current": Command("[GUEST]", "its current task", _current),
    }
)

__all__ = ["LINUX", "current_task"]
