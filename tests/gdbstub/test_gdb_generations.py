"""A real gdb on the kestrel of every generation: symbols, breakpoints, and its window without interrupts."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from gdbstub.serving import GDB_SCRIPT
from replay.catalogue import SHIPPED
from tests.gdbstub.debuggers import found
from tests.replay.histories import record_guest

pytestmark = pytest.mark.needs_gdb
LGREPLAY = f"{sys.executable} -m replay"
GENERATIONS = [
    name for name, guest in SHIPPED.items() if name in ("kestrel", f"kestrel-{guest.abi}")
]
WINDOW = "$pc >= (unsigned) &lguest_noirq_start && $pc < (unsigned) &lguest_noirq_end"


@pytest.mark.parametrize("guest", GENERATIONS)
def test_gdb_goes_back_and_forth_in_a_kernel_of_each_generation(guest: str, tmp_path: Path) -> None:
    path = record_guest(tmp_path / "t.lgt", guest, "init=mix -- 1", seed=3)
    lines = found()[-1].batch(
        [
            *("set pagination off", "set confirm off", f"source {GDB_SCRIPT}"),
            *(f"target remote | {LGREPLAY} gdb --stdio {path}", "break start_kernel", "continue"),
            *("p $cpl", "p $pc == (unsigned) &start_kernel", "delete", "seek end"),
            *("break lguest_iret", "reverse-continue", f"p {WINDOW}", "p $cpl"),
            *("p lguest_data.irq_enabled <= 0x200", "stepi", "reverse-stepi"),
            *("p $pc == (unsigned) &lguest_iret", "p current->name", "bt 1"),
        ]
    )
    text = "\n".join(lines)
    values = [line.partition(" = ")[2] for line in lines if re.match(r"\$\d+ = ", line)]
    assert values[:2] == ["1", "1"], text
    assert values[2:6] == ["1"] * 4, text
    assert values[6].startswith('"mix'), text
    assert "lguest_iret" in text
