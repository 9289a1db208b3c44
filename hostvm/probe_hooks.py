"""Probes (probes.py) in the engine: hooks on ranges of addresses, which must not disturb what they look at.

A hook on code is called before its instruction, and stops the engine cleanly in front of it. One on an access is called
from inside of the instruction, which is finished first. An instruction that cannot be fetched has no translation to
report itself; its fetch fault reports it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from hostvm.engine import ON_CODE, ON_READ, ON_WRITE, Engine
from hostvm.engine_hooks import ACCESS, CODE
from hostvm.engine_layout import FLAGS_ARE_EXPLICIT
from hostvm.engine_stop import EngineStop, Why, guarded
from hostvm.probes import NO_PROBES, Access, Probes, Span, stretched, touches


class ProbeHooks:
    """The probes of one engine. `stop_soon` ends a run behind the step under way."""

    def __init__(self, engine: Engine, stopping: EngineStop, stop_soon: Callable[[], None]) -> None:
        self.engine = engine
        self.stopping = stopping
        self._stop_soon = stop_soon
        self._probes = NO_PROBES
        self.on = False
        """Whether somebody wants to be told of single instructions or accesses."""
        self._hooks: list[int] = []
        self._callbacks = (
            CODE(self._on_code_probe),
            ACCESS(self._on_read_probe),
            ACCESS(self._on_write_probe),
        )

    def replace(self, probes: Probes) -> bool:
        """Have these probes and no others; True if the translations must go."""
        old, self._probes = self._probes, probes
        self.on = bool(probes)
        if (old.code, old.reads, old.writes) == (probes.code, probes.reads, probes.writes):
            return False
        with self.engine.faults_kept():
            for hook in self._hooks:
                self.engine.hooks.remove(hook)
        self._hooks.clear()
        code, read, write = self._callbacks
        self._install(ON_CODE, code, probes.code)
        self._install(ON_READ, read, map(stretched, probes.reads))
        self._install(ON_WRITE, write, map(stretched, probes.writes))
        return True

    def _install(self, kind: int, callback: Any, spans: Iterable[Span]) -> None:
        for begin, end in spans:
            self._hooks.append(self.engine.hooks.add(kind, callback, begin, end))

    def fetch_is_probed(self) -> bool:
        """Report an instruction that begins, but cannot be fetched: no translation of it exists to report itself."""
        address = self.engine.linear_eip()
        if not touches(self._probes.code, address, 1):
            return False
        return self._probes.on_code(address)

    @guarded
    def _on_code_probe(self, _uc: int, address: int, _size: int, _data: int) -> None:
        if self.engine.counter.value > self.engine.budget.value or self.stopping.why is Why.PROBE:
            return
        if self._probes.on_code(address & 0xFFFFFFFF):
            # The step under way has been counted and will not be made.
            self.engine.counter.value -= 1
            self.stopping.stop(Why.PROBE)

    @guarded
    def _on_read_probe(
        self, _uc: int, _kind: int, address: int, size: int, _value: int, _data: int
    ) -> None:
        self.engine.env.cc_op = FLAGS_ARE_EXPLICIT
        if touches(self._probes.reads, address, size):
            self._report_access(Access(address, size, is_write=False, by_cpu=True))

    @guarded
    def _on_write_probe(
        self, _uc: int, _kind: int, address: int, size: int, _value: int, _data: int
    ) -> None:
        self.engine.env.cc_op = FLAGS_ARE_EXPLICIT
        if touches(self._probes.writes, address, size):
            self._report_access(Access(address, size, is_write=True, by_cpu=True))

    def _report_access(self, access: Access) -> None:
        if self._probes.on_access(access):
            self._stop_soon()


__all__ = ["ProbeHooks"]
