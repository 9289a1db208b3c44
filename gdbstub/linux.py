"""Commands about the Linux inside a Guest: its tasks, its messages, its modules and more. None of them moves.

Which Guest is meant is the one at work, unless a number is given. Read next: replay/linux_tasks.py, linux_facts.py,
linux_modules.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

from gdbstub.errors import Errno, TargetFault
from gdbstub.words import Command, Run, Talk, wrong
from replay.linux_facts import command_line, resources, version
from replay.linux_memory import NoLinux
from replay.linux_modules import Module, loaded_modules
from replay.linux_tasks import Linux, linux_of
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


def _told(show: Callable[[Linux], Iterator[str]]) -> Run:
    """A command whose answer is the lines that `show` makes."""

    def run(talk: Talk, arguments: Sequence[str]) -> str:
        try:
            return "\n".join(show(_linux(talk, arguments)))
        except NoLinux as error:
            raise TargetFault(str(error)) from error

    return run


def _tasks(linux: Linux) -> Iterator[str]:
    tasks, current = linux.tasks(), linux.current().address
    yield f"  {'task':10}  {'pid':>5}  {'name':16}  {'kernel stack':12}  state"
    for task in tasks:
        mark, pid = "*" if task.address == current else " ", "" if task.pid is None else task.pid
        yield f"{mark} {task.address:#010x}  {pid:>5}  {task.name:16}  {task.stack:#010x}    {task.state_name}"


def _current(linux: Linux) -> Iterator[str]:
    task = linux.current()
    number = "pid not known yet" if task.pid is None else f"pid {task.pid}"
    yield f"{task.address:#010x} {task.name}, {number}"


def _modules(linux: Linux) -> Iterator[str]:
    modules = list(loaded_modules(linux))
    if not modules:
        yield "no modules"
        return
    yield f"{'struct':10}  {'at':10}  {'bytes':>8}  name"
    for module in modules:
        yield f"{module.address:#010x}  {module.core:#010x}  {module.size:>8,}  {module.name}"


def current_task(timeline: Timeline, guest: int) -> str:
    """The name of a Guest's current task, empty where it is no Linux, or has none that can be told."""
    try:
        return linux_of(timeline.look, timeline.symbols, guest).current_name()
    except NoLinux:
        return ""


def current_modules(timeline: Timeline) -> Iterator[Module]:
    """The modules of the Guest that is at work; none where it is no Linux."""
    look = timeline.look
    try:
        yield from loaded_modules(linux_of(look, timeline.symbols, look.guest.number))
    except NoLinux:
        return


_GUEST = "[GUEST]"
LINUX: Mapping[str, Command] = MappingProxyType(
    {
        "lx-tasks": Command(
            _GUEST, "the processes of a Linux guest, * the current one", _told(_tasks)
        ),
        "lx-dmesg": Command(
            _GUEST, "its messages, from its memory", _told(lambda linux: iter(linux.messages()))
        ),
        "lx-current": Command(_GUEST, "its current task", _told(_current)),
        "lx-modules": Command(_GUEST, "its modules, and where they are", _told(_modules)),
        "lx-version": Command(_GUEST, "its version", _told(lambda linux: iter((version(linux),)))),
        "lx-cmdline": Command(
            _GUEST, "its command line", _told(lambda linux: iter((command_line(linux),)))
        ),
        "lx-iomem": Command(
            _GUEST, "who has which memory", _told(lambda linux: resources(linux, "iomem_resource"))
        ),
        "lx-ioports": Command(
            _GUEST, "who has which ports", _told(lambda linux: resources(linux, "ioport_resource"))
        ),
    }
)

__all__ = ["LINUX", "current_modules", "current_task"]
