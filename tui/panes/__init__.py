"""All panes: each a pure function of a snapshot, a size and a view. Begin with pane.py."""

from __future__ import annotations

from tui.panes import (
    callers,
    code,
    console,
    events,
    guest,
    idt,
    irq,
    memory,
    registers,
    tables,
    tasks,
    timeline,
)
from tui.panes.pane import Pane, Target, View

PANES: dict[str, Pane] = {
    pane.name: pane
    for pane in (
        timeline.PANE,
        events.PANE,
        code.PANE,
        registers.PANE,
        idt.PANE,
        irq.PANE,
        memory.STACK,
        memory.MEMORY,
        tables.PANE,
        console.PANE,
        guest.SHARED,
        guest.RING,
        guest.SAVED,
        callers.PANE,
        tasks.PANE,
    )
}

__all__ = ["PANES", "Pane", "Target", "View"]
