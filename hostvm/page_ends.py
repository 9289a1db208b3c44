"""Fetch faults at the end of a page, when they are due and not before (number (ii) of cpu.py).

A block is translated as a whole. If it runs onto a page that is not mapped, the fault comes before the block's first
instruction runs. Then the engine is made to stop at each instruction boundary in the last bytes of the page, by exits
on all of them, so that the last instruction, the one that crosses, stands at the beginning of a block. Used where the
engine counts; the compiled part has a way of its own (native/run.c).
"""

from __future__ import annotations

from hostvm.engine import Engine
from hostvm.engine_gaps import MAX_INSTRUCTION
from hostvm.x86 import PAGE_MASK, PAGE_SIZE


class PageEnds:
    """The page's end that this engine is at, if it is at one."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def is_early(self) -> bool:
        """Whether the fetch fault just reported belongs to a later instruction than the one at EIP."""
        here = self.engine.linear_eip()
        if here & PAGE_MASK == self.engine.env.cr[2] & PAGE_MASK:
            return False
        end = (here & PAGE_MASK) + PAGE_SIZE
        # Exits left from a fault further on would let the block at EIP run over the instructions before them.
        guarded = (
            bool(self.engine.exits)
            and self.engine.exits[-1] == end
            and self.engine.exits[0] <= here + 1
        )
        return not (guarded and here >= end - MAX_INSTRUCTION)

    def cross(self) -> None:
        """Make the translator stop at every instruction boundary in the last bytes of this page."""
        here = self.engine.linear_eip()
        end = (here & PAGE_MASK) + PAGE_SIZE
        self.engine.set_exits(tuple(a for a in range(end - MAX_INSTRUCTION, end + 1) if a > here))
        self.engine.drop_blocks(end - MAX_INSTRUCTION, end)

    def pass_exit(self) -> None:
        """The engine stopped at one of our exits: go on to the next, or leave the page."""
        here = self.engine.linear_eip()
        if here == self.engine.exits[-1]:
            end = self.engine.exits[-1]
            self.engine.set_exits(())
            self.engine.drop_blocks(end - MAX_INSTRUCTION, end)
            self.engine.drop_blocks(end, end + 1)
        elif here in self.engine.exits:
            self.cross()


__all__ = ["PageEnds"]
