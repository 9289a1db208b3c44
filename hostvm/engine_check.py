"""Does every field of `Env` stand where this program believes? Asked of each new engine, in a millisecond or two.

Each field that the engine's API can write is written through it and read back at its offset; each that only a fault
can write is checked by a fault. A field that has moved is an EngineMisfit that names it. Read next: engine_layout.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hostvm.engine_layout import Env
from hostvm.errors import EngineMisfit

_RECOGNISABLE = 0x1234_5000
_GENERAL = ("EAX", "ECX", "EDX", "EBX", "ESP", "EBP", "ESI", "EDI")
_SYSENTER_CS = 0x174
_SIGNIFICAND, _SIGN_EXPONENT = 0x8877665544332211, 0x4005

Write = Callable[[str, Any], None]
Expectation = tuple[str, int, int]


def check_registers(env: Env, write: Write) -> None:
    """Check what the API can write; `write` takes a register's name and a value. Leaves the registers changed.

    Raises EngineMisfit.
    """
    for name, expected, found in _registers(env, write):
        if expected != found:
            raise EngineMisfit(
                f"the CPU engine keeps {name} elsewhere ({found:#x} found, {expected:#x} expected); "
                "is unicorn 2.1.4 installed?"
            )


def _registers(env: Env, write: Write) -> Iterator[Expectation]:
    yield from _integers(env, write)
    yield from _tables(env, write)
    yield from _floating_point(env, write)


def _integers(env: Env, write: Write) -> Iterator[Expectation]:
    for index, name in enumerate(_GENERAL):
        write(name, _RECOGNISABLE + index)
        yield name, _RECOGNISABLE + index, env.regs[index]
    write("EIP", _RECOGNISABLE)
    yield "EIP", _RECOGNISABLE, env.eip
    write("EFLAGS", 0xCC7)
    yield "the arithmetic flags", 0x8C5, env.cc_src
    yield "the direction flag", 1, int(env.df == -1)
    yield "the form of the flags", 1, env.cc_op
    write("EFLAGS", 2)
    for number in (2, 4):
        write(f"CR{number}", 0x600)
        yield f"CR{number}", 0x600, env.cr[number]
    for number in (0, 3):
        write(f"DR{number}", _RECOGNISABLE + number)
        yield f"DR{number}", _RECOGNISABLE + number, env.dr[number]
        write(f"DR{number}", 0)
    write("MSR", (_SYSENTER_CS, 0x60))
    yield "SYSENTER_CS", 0x60, env.sysenter_cs
    write("MSR", (_SYSENTER_CS, 0))


def _tables(env: Env, write: Write) -> Iterator[Expectation]:
    for name, cache in (("GDTR", env.gdt), ("IDTR", env.idt)):
        write(name, (0, _RECOGNISABLE, 0x123, 0))
        yield f"the base of {name}", _RECOGNISABLE, cache.base
        yield f"the limit of {name}", 0x123, cache.limit
    for name, cache in (("TR", env.tr), ("LDTR", env.ldt)):
        write(name, (0x28, _RECOGNISABLE, 0x67, 0x8900))
        yield f"the selector of {name}", 0x28, cache.selector
        yield f"the base of {name}", _RECOGNISABLE, cache.base
        yield f"the limit of {name}", 0x67, cache.limit
        yield f"the flags of {name}", 0x8900, cache.flags


def _floating_point(env: Env, write: Write) -> Iterator[Expectation]:
    write("FPSW", 0x3800 | 0x55)
    yield "the top of the x87 stack", 7, env.fpstt
    yield "the x87 status word", 0x55, env.fpus & ~0x3800
    write("FPSW", 0)
    write("FPCW", 0x27F)
    yield "the x87 control word", 0x27F, env.fpuc
    write("FPTAG", 0xFFFC)
    yield "the x87 tags", 0, env.fptags[0]
    yield "the x87 tags", 1, env.fptags[7]
    for number in (0, 7):
        write(f"FP{number}", (_SIGNIFICAND, _SIGN_EXPONENT))
        yield f"x87 register {number}", _SIGNIFICAND, env.fpregs[number].significand
        yield f"x87 register {number}", _SIGN_EXPONENT, env.fpregs[number].sign_exponent
        write(f"XMM{number}", _RECOGNISABLE + number)
        found = int.from_bytes(bytes(env.xmm[number].low), "little")
        yield f"XMM{number}", _RECOGNISABLE + number, found
    write("MXCSR", 0x1F80)
    yield "MXCSR", 0x1F80, env.mxcsr


def check_software_interrupt(env: Env, behind: int) -> None:
    """Check, in the hook of an `int n`, what the engine says of it; `behind` is the address after it."""
    if env.exception_is_int != 1 or env.exception_next_eip != behind:
        raise EngineMisfit(
            "the CPU engine describes interrupts elsewhere; is unicorn 2.1.4 installed?"
        )


def check_page_fault(env: Env, error_code: int, *, fetch: bool) -> None:
    """Check, in the hook of a page fault, the error code and the mark that tells a fetch from a data access."""
    if env.error_code != error_code or bool(env.retaddr) is fetch or env.old_exception != 14:
        raise EngineMisfit("the CPU engine describes faults elsewhere; is unicorn 2.1.4 installed?")


__all__ = ["Write", "check_page_fault", "check_registers", "check_software_interrupt"]
