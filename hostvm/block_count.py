"""Counting by blocks, which the compiled part does (native/): set up, tried, switched on and off.

The engine then has no hook on every instruction. What is translated with such a hook keeps it; so changing from one way
of counting to the other costs all translations. Read next: native/blocks.py.
"""

from __future__ import annotations

from hostvm.engine import ON_BLOCK, ON_CODE, ON_INTERRUPT, ON_MADE, Engine
from hostvm.engine_stop import EngineStop, Why
from hostvm.errors import EngineMisfit
from hostvm.native import Why as NativeWhy
from hostvm.native.blocks import NOWHERE, Blocks, Callbacks
from hostvm.translations import Translations

_INC_EAX, _HLT = b"\x40", b"\xf4"


class BlockCount:
    """Runs one engine by blocks. `callbacks` stay Python's."""

    def __init__(
        self,
        blocks: Blocks,
        engine: Engine,
        stopping: EngineStop,
        translations: Translations,
        callbacks: Callbacks,
    ) -> None:
        self.blocks = blocks
        self._engine = engine
        self._stopping = stopping
        self._translations = translations
        self._hook = 0
        self.halted = False
        """Whether the last run ended with a HLT in ring 0, and nothing else is left to be done."""
        for callback in callbacks:
            engine.hooks.keep(callback)
        self._compiled = compiled = blocks.connect(engine.calls(), callbacks)
        for kind, address in (
            (ON_INTERRUPT, compiled.interrupt),
            (ON_MADE, compiled.made),
            (ON_BLOCK, compiled.block),
        ):
            engine.hooks.add_compiled(kind, address, compiled.data)

    def works(self, place: int) -> bool:
        """Run a few instructions at guest-physical `place`, before it is trusted with others. Leaves it switched on."""
        engine, memory = self._engine, self._engine.memory
        before = memory.read(place, 64)
        memory.write(place, _INC_EAX * 9 + _HLT)
        engine.env.eip = place
        self.begin()
        found = [(*self.blocks.run(budget), engine.env.eip - place) for budget in (4, 1, 2, 9)]
        memory.write(place, before)
        self._translations.flush()
        return found == [(4, 1, 0, 4), (1, 1, 0, 5), (2, 1, 0, 7), (3, 7, 0, 10)]

    def begin(self) -> None:
        """Let the engine drop its hook on each instruction, by a run of no step."""
        engine, compiled = self._engine, self._compiled
        with engine.faults_kept():
            engine.set_exits(())
            self._translations.remove_hooks()
            self._hook = engine.hooks.add_compiled(
                ON_CODE, compiled.looked_at, compiled.data, NOWHERE, NOWHERE
            )
            if not self.blocks.begin(self._hook):
                raise EngineMisfit("the CPU engine keeps its hooks elsewhere")
            self.blocks.run(0)
            self._stopping.forget()
            self._translations.flush()

    def end(self) -> None:
        """Leave counting to the engine."""
        with self._engine.faults_kept():
            self.blocks.end()
            self._engine.hooks.remove(self._hook)
            self._translations.flush()

    def run(self, budget: int) -> int:
        """One call of the engine for at most `budget` steps; returns the steps that it made."""
        steps, why, status = self.blocks.run(budget)
        stopping = self._stopping
        if stopping.failure is not None:
            stopping.raise_failure()
        if status or why == NativeWhy.MISFIT:
            self._engine.refuse(status)
        self.halted = (
            why == NativeWhy.HALTED and stopping.why is Why.NOTHING and not self._translations.stale
        )
        return steps


__all__ = ["BlockCount"]
