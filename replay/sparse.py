"""Predicates that need not be looked at before every step, because little can change them.

What a Host has in mind about its Guest - pending interrupts, halted, the noirq window - changes in the Host's turn
only; a word that it shares with the Guest only when somebody writes there; and whether the Guest stands in its noirq
window only at the window. An expression made of nothing else has the same value from one such moment to the next, so it
is looked at behind each turn of the Host, behind each write to the words it names, and in and just behind the window.

Where the words and the window are may change too (the Guest tells at LGUEST_INIT); `Moments` says where they are now,
and a scan sets its probes anew when that is no longer so. Read next: scan.py, predicate.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from hostvm.probes import Span
from replay.look import Look

HOST_NAMES = frozenset(
    {"pending", "halted", "ts", "guest", "directory", "noirq_start", "noirq_end"}
)
SHARED_NAMES = {
    "irq_enabled": "irq_enabled",
    "irq_pending": "irq_pending",
    "blocked": "blocked_interrupts",
}
NOIRQ_NAME = "in_noirq"
DELIVERABLE = "deliverable"
_PARTS = frozenset({"pending", "blocked", "irq_enabled", NOIRQ_NAME})


def sparse(names: frozenset[str], *, reads_memory: bool) -> frozenset[str] | None:
    """The names that an expression over `names` depends on; None if it must be looked at before every step."""
    if DELIVERABLE in names:
        names = names - {DELIVERABLE} | _PARTS
    known = HOST_NAMES | set(SHARED_NAMES) | {NOIRQ_NAME}
    return None if reads_memory or not names <= known else names


@dataclass(frozen=True, slots=True)
class Moments:
    """When to look: before these instructions, one step behind those in `window`, and behind writes to `words`."""

    turn: Span
    window: Span | None
    words: tuple[Span, ...]

    @property
    def code(self) -> tuple[Span, ...]:
        """Linear addresses of instructions to be told of."""
        return (self.turn,) if self.window is None else (self.turn, self.window)


def moments(look: Look, names: frozenset[str]) -> Moments:
    """When expressions over `names` must be looked at, as things are now."""
    turn = look.machine.host_turn_end
    words: list[Span] = []
    window: Span | None = None
    for guest in look.machine.guests:
        data = guest.lguest.data
        for name, field in SHARED_NAMES.items():
            offset = getattr(data.layout, field)
            if name in names and data.address is not None and offset is not None:
                at = guest.base + data.address + offset
                words.append((at, at + 3))
        start, end = guest.lguest.noirq_start, guest.lguest.noirq_end
        if NOIRQ_NAME in names and start < end:
            window = (
                (min(start, window[0]), max(end - 1, window[1])) if window else (start, end - 1)
            )
    return Moments((turn, turn), window, tuple(words))


__all__ = ["Moments", "moments", "sparse"]
