"""The FPU of several Guests on one machine: nobody finds the numbers of another."""

from __future__ import annotations

import pytest

from hostvm.launcher import GuestConfig
from hostvm.machine import Machine
from hostvm.units import Tick
from tests.hostvm.quiet_world import QuietWorld, machine_of
from tests.hostvm.test_kestrel import MEMORY, kernel
from tests.hostvm.user_programs import compiled

LONGEST = Tick(4_000_000)

# Keeps a number in an SSE register and one on the x87 stack, and another rounding, while it sleeps a millisecond.
SLEEPER = r"""
int main(int argc, char **argv) {
    unsigned short control = argv[1][0] & 1 ? 0x37f : 0xb7f, found;
    int lost = 0;
    asm volatile("fninit\n\tfldcw %0" : : "m"(control));
    for (int i = 0; i < 20; i++) {
        int sleep[2] = { 0, 1000000 }, mine = argv[1][0] * 1000 + i, sse, x87, number = 162;
        asm volatile("movd %3, %%xmm3\n\tfildl %4\n\tint $0x80\n\tmovd %%xmm3, %0\n\tfistpl %1"
                     : "=r"(sse), "=m"(x87), "+a"(number) : "r"(mine), "m"(mine), "b"(sleep), "c"(0) : "memory");
        asm volatile("fnstcw %0" : "=m"(found));
        lost += sse != mine || x87 != mine || found != control;
    }
    check("numbers kept", lost == 0);
    return lost;
}
"""


@pytest.fixture(scope="module")
def sleeper(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The program as an ELF file."""
    return compiled(SLEEPER, tmp_path_factory.mktemp("sleeper"))


def machine(sleeper: bytes, names: str) -> tuple[Machine, QuietWorld]:
    """A Guest for each letter, which its program is told."""
    guests = [
        GuestConfig(kernel("3.2"), f"hz=1000 -- {name}", MEMORY, sleeper, "3.2", name)
        for name in names
    ]
    return machine_of(*guests, digest_interval=1 << 20)


def test_guests_that_sleep_with_the_fpu_in_use_find_their_own_numbers(sleeper: bytes) -> None:
    both, world = machine(sleeper, "123")
    both.run(LONGEST)
    assert both.finished
    assert world.console.count(b"ok numbers kept") == 3
    assert b"WRONG" not in world.console


def test_a_machine_restored_while_one_sleeps_goes_on_with_everybodys_numbers(
    sleeper: bytes,
) -> None:
    whole, _ = machine(sleeper, "12")
    whole.run(LONGEST)
    first, _ = machine(sleeper, "12")
    first.run(Tick(whole.tick // 2))
    second, world = machine(sleeper, "12")
    second.restore(first.state())
    second.run(LONGEST)
    assert second.digest() == whole.digest()
    assert world.console.count(b"ok numbers kept") == 2
