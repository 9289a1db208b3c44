"""Upstream's bugs by name: a set flag behaves as lguest's source was written, a cleared one as it was meant.

A Guest can see each of them, so the set in force belongs to a machine's configuration and never changes while it runs.
`UPSTREAM`, all of them, is what a real Guest met. Bugs that differ from generation to generation are data in abi.py.

Outside, a bug is called by its name in small letters with hyphens: `more-always-true`. Those that are corrected are
what has to be told of a machine, since a name that nobody has heard of is then one that changes the run.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Flag, auto


class Quirk(Flag):
    """One bug each."""

    MORE_ALWAYS_TRUE = auto()
    """The Host thinks that another virtual interrupt always waits, so it never clears `irq_pending`.

    Meant: `irq_pending` becomes zero when the last deliverable interrupt has been delivered.
    """

    IRET_EFLAGS = auto()
    """Interrupts count as on when any bit of `irq_enabled` is set.

    The Guest's iret stores a whole EFLAGS word there, 0x46 for a frame with interrupts off. Meant: bit 0x200 decides,
    as it does for the flags that are pushed.
    """

    MISSING_GATE_WAKES = auto()
    """A virtual interrupt without a gate still wakes a halted Guest, switches its interrupts on and writes the time.

    Meant: an interrupt that cannot be delivered changes nothing.
    """

    STACK_TRANSLATED_ONCE = auto()
    """A frame is pushed below the guest-physical address of the stack pointer, page boundary or not.

    So it lands in the wrong page if the page below is not physically adjacent, and a stack pointer at the very end of
    a mapping needs the page above mapped. Meant: every word is pushed where its own address is mapped.
    """

    SET_PTE_SKIPS_DIRTY = auto()
    """SET_PTE installs an entry with A set and D clear as writable, so the Guest never sees D when it writes.

    Meant: without D the shadow entry is read-only, as after a read fault, and the first write sets D.
    """

    PORT_SKIP_WALKS_USER_EIP = auto()
    """A protection fault in user mode has its EIP looked up before the ring is; an unmapped one kills the Guest.

    Only user code that unmaps itself while it faults gets there. Meant: user mode is not the Host's business.
    """

    DMA_SOURCE_STARTS_AGAIN = auto()
    """Of a section that is sent into several buffers of another Guest, each gets the beginning (2.6.23).

    Meant: copying goes on where the buffer before was full.
    """

    RESET_UNHEARD = auto()
    """A kernel that has the keyboard controller reset its PC is not heard, as all that it says to ports.

    That is how kernels restart up to 2.6.24, which have no hypercall for it: they wait for it and say it again for
    minutes, then die of a trap. Meant: it seems to take commands, and a reset is a restart.
    """

    DEBUG_REGISTERS_FAULT = auto()
    """A kernel that touches a debug register in ring 1 has a protection fault, and its handler touches them as well.

    Kernels up to 3.11 read DR6 when a program is single-stepped, and those from 3.3 on show all of them with each oops.
    So a single step in a program is the kernel's end, and one oops becomes an endless row of them, until the stack is
    full. Meant: no breakpoint is ever set, so they read as they are without one, with a single step noted; writing
    changes nothing.
    """

    HANDLER_KEEPS_TF = auto()
    """A trap or an interrupt that the Host reflects leaves TF, NT, RF and VM as they were (until 4.1).

    So the handler of a program's single step is single-stepped in turn, endlessly. Meant: they are cleared, as hardware
    does. A program in a Guest up to 3.11 can be single-stepped if this bug and the one before are corrected.
    """

    SWITCHER_ADDRESS_KILLS = auto()
    """A program that touches an address of the Switcher's ends its Guest, if the Guest has a directory entry there.

    That is so up to 3.9. Meant: the program has a page fault, as from 3.10 on.
    """


UPSTREAM = ~Quirk(0)
CORRECTED = Quirk(0)


def _outside_name(quirk: Quirk) -> str:
    assert quirk.name is not None, "one bug has one name"
    return quirk.name.lower().replace("_", "-")


QUIRK_NAMES: tuple[str, ...] = tuple(_outside_name(quirk) for quirk in Quirk)


def corrected_names(quirks: Quirk) -> tuple[str, ...]:
    """Names of the bugs that are not in `quirks`, in the order in which they stand here."""
    return tuple(_outside_name(quirk) for quirk in Quirk if quirk not in quirks)


def quirks_without(names: Iterable[str]) -> Quirk:
    """All bugs but these.

    Raises: KeyError with a name that is none.
    """
    known = dict(zip(QUIRK_NAMES, Quirk, strict=True))
    quirks = UPSTREAM
    for name in names:
        quirks &= ~known[name]
    return quirks


__all__ = [
    "CORRECTED",
    "QUIRK_NAMES",
    "UPSTREAM",
    "Quirk",
    "corrected_names",
    "quirks_without",
]
