"""As many Guests as lguest allows, of all generations that are shipped, on one machine and in one trace."""

from __future__ import annotations

from pathlib import Path

from hostvm.launcher import GuestConfig
from hostvm.machine import MachineConfig
from hostvm.memory_map import MAX_GUESTS
from hostvm.observations import EndReason, GuestEnded
from replay.catalogue import find_kernel
from tests.replay.recorded import events_of, record_hello, verify

KERNELS = ("kestrel", "kestrel-2.6.23", "kestrel-2.6.27", "kestrel-2.6.32", "kestrel-2.6.37")
MEMORY = 4 << 20


def guest(number: int) -> GuestConfig:
    kernel = find_kernel(KERNELS[number % len(KERNELS)])
    line = f"hz={500 + 100 * number} quiet init=idle -- {number % 3 + 1}"
    return GuestConfig(kernel.content, line, MEMORY, b"", kernel.abi, kernel.name)


def test_sixteen_guests_of_five_generations_are_recorded_and_replayed_together(
    tmp_path: Path,
) -> None:
    path = tmp_path / "many.lgt"
    record_hello(path, config=MachineConfig(tuple(guest(n) for n in range(MAX_GUESTS))))
    ends = {e.guest: e.reason for e in events_of(path) if isinstance(e, GuestEnded)}
    assert ends == dict.fromkeys(range(16), EndReason.POWEROFF)
    verify(path)
