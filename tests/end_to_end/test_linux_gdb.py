"""gdb on real Linux kernels: back over whole boots, through interrupts, and from an oops to the write that caused it.

The oops is made by hand: the tests' user space overwrites, through /dev/mem, the kernel's pointer to the function that
switches the machine off, and then switches it off.

The kernels are the user's (docs/linux.md); without any, nothing here runs, and the summary says so.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from gdbstub.serving import GDB_SCRIPT
from hostvm.observations import IrqDelivered
from replay.events import HostInterrupt
from tests.end_to_end.test_linux import BOOTS, events_of, record, wish
from tests.gdbstub.debuggers import Gdb, found
from tests.linux_kernels import LinuxBoot, Poke

pytestmark = [pytest.mark.timeout(1800), pytest.mark.slow, pytest.mark.needs_gdb]
LGREPLAY = f"{sys.executable} -m replay"
PAGE_OFFSET = 0xC0000000
NOWHERE = 0x10
ENOUGH = "120M"
GDBS = found()[:1]
KERNELS = list({b.kernel: b for b in BOOTS if b.kernel.name.startswith("vmlinux")}.values())
each_kernel = pytest.mark.parametrize("boot", KERNELS, ids=lambda boot: boot.kernel.name)
each_gdb = pytest.mark.parametrize("gdb", GDBS, ids=str)


def symbol(kernel: Path, name: str) -> int:
    with kernel.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection), f"{kernel} has no symbols"
        (found_one, *_) = table.get_symbol_by_name(name) or (None,)
    assert found_one is not None, f"{kernel} has no symbol {name}"
    return int(found_one["st_value"])


def small(boot: LinuxBoot, folder: Path, poke: Poke | None = None) -> list[str]:
    """What to record this kernel with the tests' own user space."""
    bare = LinuxBoot(boot.name, boot.kernel, None, None, None, boot.append, boot.memory)
    return [*wish(bare, bare.initrd(folder, poke=poke)), "--clock", "virtual"]


def from_the_end(gdb: Gdb, trace: Path, *commands: str) -> list[str]:
    setup = ("set pagination off", "set confirm off", f"source {GDB_SCRIPT}")
    there = f"target remote | {LGREPLAY} gdb --stdio {trace}"
    lines = gdb.batch([*setup, there, "seek end", "echo begin\\n", *commands])
    return lines[lines.index("begin") + 1 :]


def values(lines: list[str]) -> list[str]:
    return [line.partition(" = ")[2] for line in lines if re.match(r"\$\d+ = ", line)]


@each_gdb
@each_kernel
def test_from_poweroff_to_the_kernels_first_function_in_c(
    gdb: Gdb, boot: LinuxBoot, tmp_path: Path
) -> None:
    trace = record(tmp_path, "t", small(boot, tmp_path))
    lines = from_the_end(
        gdb,
        trace,
        "break start_kernel",
        "reverse-continue",
        "p/x $pc",
        "p $cpl",
        "x/s &linux_banner",
    )
    start = symbol(boot.kernel, "start_kernel")
    assert values(lines) == [hex(start), "1"]
    assert "Linux version " in lines[-1]


@each_gdb
@each_kernel
def test_jiffies_are_watched_backwards_to_the_timer(
    gdb: Gdb, boot: LinuxBoot, tmp_path: Path
) -> None:
    trace = record(tmp_path, "t", small(boot, tmp_path))
    now = "p *(unsigned *) &jiffies"
    lines = from_the_end(
        gdb,
        trace,
        *("break do_timer", "reverse-continue", "delete", now),
        *("watch *(unsigned *) &jiffies", "reverse-continue", now, "info symbol $pc"),
    )
    after, before = map(int, values(lines))
    assert after == before + 1
    assert lines[-1].startswith("do_timer ")


@each_gdb
@each_kernel
def test_an_oops_is_traced_to_the_write_that_caused_it(
    gdb: Gdb, boot: LinuxBoot, tmp_path: Path
) -> None:
    pointer = symbol(boot.kernel, "pm_power_off")
    poke = Poke(pointer - PAGE_OFFSET, NOWHERE)
    trace = record(tmp_path, "t", [*small(boot, tmp_path, poke), "--max-ticks", ENOUGH])
    lines = from_the_end(
        gdb,
        trace,
        # The first time that it jumps there.
        *(f"break *{NOWHERE:#x}", "seek start", "continue", "p/x $pc", "p $tick"),
        *("last-write pm_power_off", "delete", "watch *(unsigned *) &pm_power_off"),
        *("reverse-continue", "p $tick", "p/x *(unsigned *) &pm_power_off", "info symbol $pc"),
    )
    at, jumped, before, old = values(lines)
    assert at == hex(NOWHERE)
    written = next(line for line in lines if "-> 0x10" in line)
    assert "copy_from_user" in written
    assert int(before) == int(re.search(r"tick ([\d,]+):", written)[1].replace(",", ""))  # type: ignore[index]
    assert int(before) < int(jumped)
    assert old != hex(NOWHERE)
    assert "copy_from_user" in lines[-1]


INTO_THE_HANDLER = ("catch irq 0", "continue", "uncatch 1", "catch ring 1", "continue", "uncatch 2")
THE_WAY = """
step-scope cpu
p $pc
p $cpl
p $tick
while $tick > {tick}
  reverse-stepi
end
p $pc
p $cpl
p $tick
while $tick < {handler}
  stepi
end
p $pc
p $cpl
p $tick
"""


@each_gdb
@each_kernel
def test_back_through_a_timer_interrupt_taken_in_user_space(
    gdb: Gdb, boot: LinuxBoot, tmp_path: Path
) -> None:
    trace = record(tmp_path, "t", small(boot, tmp_path))
    events = events_of(trace)
    taken = next(
        event
        for event, _, _, then in zip(events, events[1:], events[2:], events[3:], strict=False)
        if isinstance(event, HostInterrupt)
        and event.eip < PAGE_OFFSET
        and isinstance(then, IrqDelivered)
        and then.irq == 0
    )
    look = from_the_end(gdb, trace, f"seek {taken.tick}", *INTO_THE_HANDLER, "p $tick")
    (handler,) = values(look)
    script = tmp_path / "way.gdb"
    script.write_text(THE_WAY.format(tick=taken.tick, handler=handler))
    lines = from_the_end(gdb, trace, f"seek {taken.tick}", *INTO_THE_HANDLER, f"source {script}")
    shown = [value.split(" ", maxsplit=2)[-1] for value in values(lines)]
    entry, program, again = (shown[at : at + 3] for at in (0, 3, 6))
    assert entry == again
    assert entry[1:] == ["1", handler]
    assert int(program[0].split()[0], 16) == taken.eip
    # The program's last instruction before it: that one of the loop jumped to itself.
    assert program[1:] == ["3", str(taken.tick - 1)]
