"""Counting as the engine does it, made exact: numbers (i) to (iii) of cpu.py.

The engine begins so many instructions and comes back. What it counts is not what we call steps: a fetch fault is a step
that it does not count, a store into its own block one that it counts twice; and a fetch fault may come before it is
due (page_ends.py) or after the budget is used up. Such a one is taken back: the fault registers are put as they were
and the run stops.

Used where single instructions are watched, and where there is no compiled part. Read next: block_count.py.
"""

from __future__ import annotations

from collections.abc import Callable

from hostvm.cpu_state import HF_CPL
from hostvm.engine import Engine
from hostvm.engine_hooks import INTERRUPT
from hostvm.engine_layout import EMPTY_EXCEPTION, FLAGS_ARE_EXPLICIT
from hostvm.engine_stop import EngineStop, Why, guarded
from hostvm.gap_filler import GapFiller
from hostvm.page_ends import PageEnds
from hostvm.probe_hooks import ProbeHooks
from hostvm.translations import Translations
from hostvm.x86 import Vector

# Plain integers for the hooks: an IntFlag operation costs as much as ten of these.
_PF, _DB = int(Vector.PF), int(Vector.DB)
_HLT = b"\xf4"


class InstructionCount:
    """Runs one engine by its own count. `deliver_met` delivers the interrupt or fault that the engine has met."""

    def __init__(
        self,
        engine: Engine,
        stopping: EngineStop,
        translations: Translations,
        filler: GapFiller,
        probes: ProbeHooks,
        deliver_met: Callable[[int], None],
    ) -> None:
        self.engine = engine
        self.env = engine.env
        self._counter, self._limit = engine.counter, engine.budget
        self.stopping = stopping
        self._translations = translations
        self._filler = filler
        self._probes = probes
        self._deliver_met = deliver_met
        self._page_ends = PageEnds(engine)
        self._fetch_faults = 0
        self._saved = (0, 0)
        self._counted_out = False
        self.interrupt_callback = INTERRUPT(self._on_interrupt)

    def run(self, budget: int) -> int:
        """One call of the engine for at most `budget` steps; returns the steps that it made."""
        self.save_fault_registers()
        status = self.engine.start(budget)
        if self.stopping.failure is not None:
            self.stopping.raise_failure()
        if status:
            self.engine.refuse(status)
        if self.engine.exits:
            self._restore_fault_registers()
        counter, limit = self._counter.value, self._limit.value
        self._counted_out = counter > limit
        steps = self._steps(self._filler.counted(min(counter, limit)))
        self._counter.value = self._translations.repeated = self._fetch_faults = 0
        return steps

    def begun(self) -> int:
        """Steps of the run under way, inside a hook; the one under way is included."""
        return self._steps(min(self._counter.value, self._limit.value))

    def _steps(self, counted: int) -> int:
        return counted - self._translations.repeated + self._fetch_faults

    def stands_behind_hlt(self) -> bool:
        """Whether the run that came back without a reason of ours did so for a HLT in ring 0."""
        engine = self.engine
        if self._counted_out or self.env.hflags & HF_CPL:
            return False
        return engine.read_linear(engine.linear_eip() - 1 & 0xFFFFFFFF, 1) == _HLT

    def go_on_from(self, why: Why) -> None:
        """Prepare the next run at the end of a page, if this one stopped there."""
        if why is Why.EARLY_FETCH:
            self._page_ends.cross()
        elif self.engine.exits:
            self._page_ends.pass_exit()

    # ---- fault registers ----------------------------------------------------------------------

    def save_fault_registers(self) -> None:
        """Take CR2 and the error code for what they are to be, until the next fault is delivered."""
        env = self.env
        self._saved = (env.cr[2], env.error_code)

    def _restore_fault_registers(self) -> None:
        """Also needed after each call with exits set: the engine looks them up, and a failure shows in CR2."""
        env = self.env
        env.cr[2], env.error_code = self._saved
        env.old_exception = EMPTY_EXCEPTION

    def _take_back(self, why: Why) -> None:
        """Undo what a fetch fault that must not be delivered now did to the fault registers."""
        self._restore_fault_registers()
        self.stopping.stop(why)

    # ---- interrupts and faults that the engine meets --------------------------------------------

    @guarded
    def _on_interrupt(self, _uc: int, vector: int, _data: int) -> None:
        env = self.env
        env.old_exception = EMPTY_EXCEPTION
        # INT 14 is none, though a fetch fault may have been the last.
        if vector == _PF and not env.retaddr and not env.exception_is_int:
            why = self._must_wait()
            if why is not None:
                self._take_back(why)
                return
            self._fetch_faults += 1
            self._limit.value -= 1
        elif vector != _DB:
            env.cc_op = FLAGS_ARE_EXPLICIT
        self._deliver_met(vector)

    def _must_wait(self) -> Why | None:
        """Why a fetch fault is not to be delivered now, if it is not."""
        if self._counter.value >= self._limit.value:
            return Why.LATE_FETCH
        if self._page_ends.is_early():
            return Why.EARLY_FETCH
        # For whoever is told, the step is under way.
        self._fetch_faults += 1
        is_probed = self._probes.fetch_is_probed()
        self._fetch_faults -= 1
        return Why.PROBE if is_probed else None


__all__ = ["InstructionCount"]
