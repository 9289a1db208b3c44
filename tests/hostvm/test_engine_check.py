"""An engine that does not fit is refused at the start, with a sentence that says what is wrong."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

import hostvm.engine
from hostvm.cpu import Cpu
from hostvm.engine_check import check_page_fault, check_registers, check_software_interrupt
from hostvm.engine_layout import Env, SelfReader, find_counter, find_env, find_jump_cache
from hostvm.errors import EngineMisfit
from hostvm.memory import PhysicalMemory
from hostvm.units import HostPhysical

MEMORY = 1 << 20


class _MovedField:
    """Stands for the engine's register setter in a build where one field has moved."""

    def __init__(self, cpu: Cpu, name: str) -> None:
        self._cpu = cpu
        self._name = name

    def __call__(self, name: str, value: Any) -> None:
        if name != self._name:
            self._cpu.engine.write_register(name, value)


@pytest.mark.parametrize(
    "name", ["EAX", "EDI", "EIP", "CR2", "DR3", "GDTR", "TR", "FP7", "XMM7", "MXCSR", "FPTAG"]
)
def test_a_register_that_is_kept_elsewhere_is_named(name: str) -> None:
    cpu = Cpu(PhysicalMemory(HostPhysical(0), MEMORY))
    # The CPU has passed this check already; take away what it left.
    ctypes.memset(ctypes.addressof(cpu.env), 0, Env.sysenter_cs.offset)
    with pytest.raises(EngineMisfit, match=r"keeps .* elsewhere"):
        check_registers(cpu.env, _MovedField(cpu, name))


def test_another_release_of_the_engine_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostvm.engine, "ENGINE_VERSION", "2.9.9")
    with pytest.raises(EngineMisfit, match=r"2\.9\.9 is needed"):
        Cpu(PhysicalMemory(HostPhysical(0), MEMORY))


def test_faults_described_elsewhere_are_a_misfit() -> None:
    env = Env()
    with pytest.raises(EngineMisfit):
        check_software_interrupt(env, 0x1000)
    with pytest.raises(EngineMisfit):
        check_page_fault(env, 0, fetch=False)


def test_what_is_not_there_is_not_found() -> None:
    reader = SelfReader()
    blank = bytearray(1 << 12)
    address = id(blank)
    try:
        with pytest.raises(EngineMisfit, match="register file"):
            find_env(reader, address, lambda number: bytes([number]) * 32)
        with pytest.raises(EngineMisfit, match="instruction counter"):
            find_counter(reader, address, lambda _count: None)
        with pytest.raises(EngineMisfit, match="block table"):
            find_jump_cache(reader, address, address + 64, (0x1234560, 0x1234570))
    finally:
        reader.close()


def test_reading_where_nothing_is_mapped_gives_nothing_instead_of_a_crash() -> None:
    reader = SelfReader()
    try:
        assert reader.read(8, 16) is None
    finally:
        reader.close()
