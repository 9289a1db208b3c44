"""What a sweep is to do, as a value: the same plan makes the same runs, in every process and again next year.

A plan can be written as JSON, for the workers, for the journal, and for whoever wants to make one run again.

Read next: outcomes.py for the oracle in it; sweep.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hostvm.units import Tick
from replay.errors import ReplayError
from replay.outcomes import Oracle
from replay.sweep_world import Background


class BadSweep(ReplayError):
    """A sweep that cannot be: no such place, symbol, interrupt or expression."""


class NoFailure(BadSweep):
    """A trace that ends well, as far as the oracle can tell."""

    def __str__(self) -> str:
        return "the trace does not fail: nothing to look for"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is placed at each place, and how the runs go on.

    `irqs` come all at once; with `pairs`, the first comes at the place and the last of them each of 1 to `pairs` ticks
    later, in a run of its own. `move`: tick of a hardware interrupt of the history that comes at the place instead.
    """

    irqs: tuple[int, ...] = (0,)
    guest: int = 0
    seed: int = 0
    force: bool = False
    oracle: Oracle = field(default_factory=Oracle)
    background: Background = Background.SEEDED
    pairs: int = 0
    move: Tick | None = None

    @property
    def gaps(self) -> Sequence[int]:
        """How many ticks after the first interrupt the second one comes; 0: there is none."""
        return range(1, self.pairs + 1) if self.pairs else (0,)

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "irqs": list(self.irqs),
            "guest": self.guest,
            "seed": self.seed,
            "force": self.force,
            "oracle": self.oracle.to_json(),
            "background": self.background.value,
            "pairs": self.pairs,
            "move": self.move,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Plan:
        """The plan that `to_json` wrote."""
        return cls(
            tuple(int(irq) for irq in found["irqs"]),
            int(found["guest"]),
            int(found["seed"]),
            bool(found["force"]),
            Oracle.from_json(found["oracle"]),
            Background(found["background"]),
            int(found["pairs"]),
            None if found["move"] is None else Tick(int(found["move"])),
        )


__all__ = ["BadSweep", "NoFailure", "Plan"]
