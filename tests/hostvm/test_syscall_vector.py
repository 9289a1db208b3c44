"""Another vector for system calls: the Host must have been told of it, and then it goes straight into the Guest."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from hostvm.abi import Call
from hostvm.errors import ConfigurationError
from hostvm.launcher import GuestConfig
from hostvm.machine import MachineConfig
from hostvm.observations import DirectTraps, EndReason, GuestEnded
from replay.log import TraceReader
from replay.machine_header import machine_of
from tests.hostvm.devices.device_guest import CODE, DATA, Program
from tests.replay.recorded import Silent, record_hello, verify

PLAN_9 = 64
STACK = DATA + 0x1000
TRAP_GATE = 0xEF00


def plan_9(abi: str) -> GuestConfig:
    """Wants vector 64 for system calls, and makes one, whose handler powers off."""
    program = Program(abi)
    offset = program.abi.data.syscall_vec
    assert offset is not None
    program.shared_words[offset] = PLAN_9
    program.code += b"\xbc" + struct.pack("<I", STACK)
    program.call(Call.SET_STACK, 0x69, STACK, 1)
    at = len(program.code)

    def with_handler(handler: int) -> bytes:
        program.code = program.code[:at]
        lo = 0x610000 | handler & 0xFFFF
        program.call(Call.LOAD_IDT_ENTRY, PLAN_9, lo, handler & 0xFFFF0000 | TRAP_GATE)
        # int $64; jmp .
        program.code += bytes((0xCD, PLAN_9)) + b"\xeb\xfe"
        return program.code

    with_handler(CODE + len(with_handler(0)))
    program.power_off()
    return program.guest()


@pytest.mark.parametrize("abi", ["2.6.24", "2.6.27", "2.6.32", "3.2", "3.10"])
def test_a_guest_makes_system_calls_by_the_vector_that_the_host_was_told_of(
    abi: str, tmp_path: Path
) -> None:
    path = tmp_path / "t.lgt"
    watcher = Silent()
    config = MachineConfig((plan_9(abi),), digest_interval=64, syscall_vector=PLAN_9)
    record_hello(path, watcher=watcher, config=config)
    (end,) = (o for o in watcher.observations if isinstance(o, GuestEnded))
    assert (end.reason, end.text) == (EndReason.POWEROFF, "Power down")
    direct = [o.counts for o in watcher.observations if isinstance(o, DirectTraps)]
    assert direct == [((PLAN_9, 1),)]
    verify(path)
    with TraceReader(path) as reader:
        assert reader.header.needs == ("syscall_vector",)
        assert machine_of(reader).syscall_vector == PLAN_9


def test_without_being_told_the_host_kills_it(tmp_path: Path) -> None:
    watcher = Silent()
    record_hello(tmp_path / "t.lgt", watcher=watcher, config=MachineConfig((plan_9("3.2"),)))
    (end,) = (o for o in watcher.observations if isinstance(o, GuestEnded))
    assert end.text == "bad syscall vector"


@pytest.mark.parametrize("vector", [3, 31, 32, 33, 256])
def test_a_vector_that_somebody_else_has_cannot_be_reserved(vector: int) -> None:
    with pytest.raises(ConfigurationError, match=f"^couldn't reserve syscall {vector}$"):
        MachineConfig((plan_9("3.2"),), syscall_vector=vector)
