"""The processes of a Linux Guest as values for the screen; for the engine's thread, and only while somebody sees them.

Read next: replay/linux_tasks.py.
"""

from __future__ import annotations

from replay.linux_memory import NoLinux
from replay.linux_tasks import linux_of
from replay.look import Look
from replay.symbols import Symbols
from tui.values import TaskRow


def tasks(look: Look, symbols: Symbols) -> tuple[tuple[TaskRow, ...], str]:
    """The processes of the Guest that is looked at; none, and why."""
    linux = linux_of(look, symbols, look.guest.number)
    try:
        found = linux.tasks()
    except NoLinux as error:
        return (), str(error)
    try:
        current = linux.current().address
    except NoLinux:
        current = 0
    rows = (
        TaskRow(t.address, t.pid, t.name, t.state_name, t.stack, t.address == current)
        for t in found
    )
    return tuple(rows), ""


__all__ = ["tasks"]
