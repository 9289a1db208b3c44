"""Shims: machine code that does in ring 1 what the instruction at a hook point does in ring 0.

The interrupt flag is `irq_enabled` in the shared page, so CLI is a store. STI is one too, and then asks whether an
interrupt has been waiting. What fits into a site is written there; for the rest the site jumps into a page of the
Host's, which the Guest sees at VMI_TEXT, and back.

The hard one is IRET. Outside ring 0 it does not touch the interrupt flag: so the flag must be set first, and then
interrupts are on with the kernel's stack still in use. Therefore each IRET is carried out in a *region* at the
beginning of that page, where the Host never interrupts the Guest: when an interrupt is due there, the Host does the
rest of the IRET itself and interrupts what comes after it (vmi_iret.py). Each site has a copy of its own, `IRET_COPY`
bytes long, so that the Host knows for which site a fault is to be reported. STI and SYSEXIT together end in such a copy
too: SYSEXIT cannot be had in ring 1, so its work is a frame and an IRET, and interrupts come on with that, no sooner
than behind a processor's STI.

    a copy:  push   %eax
             is it a return to a program, and is the stack it names one of 16 bits?  then refuse
    flag:    %eax = the frame's interrupt flag;  if it is on and irq_pending is set, ask
    store:   irq_enabled = %eax
             pop    %eax
             iret                         at IRET_OFFSET
    ask:     irq_pending = 0;  SEND_INTERRUPTS, from which the Host does not come back here if there is one
             jump to flag
    refuse:  a hypercall that nobody survives

Shims use %ss for all data: in entry code %ds may still be the program's. They keep all registers, and the flags too
unless the site can spare them. Source: the VMI patch for Linux 2.6.16 names the tasks; Intel SDM 2 the encodings. Read
next: vmi.py.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

from hostvm.abi import VmiCall
from hostvm.elf_image import Symbol
from hostvm.errors import ConfigurationError
from hostvm.lguest_data import IRQ_ON, DataLayout
from hostvm.memory_map import VMI_DATA, VMI_TEXT
from hostvm.vmi_sites import Annotations, Kind, Site, Spares
from hostvm.x86 import PAGE_SIZE

SEND_INTERRUPTS = 19
IRET_COPY = 88
IRET_OFFSET = 50
_SS = b"\x36"
_HYPERCALL = b"\xcd\x1f"
_NOP = b"\x90"
_JUMP_SIZE = 5
_CS_IN_FRAME, _FLAGS_IN_FRAME, _SS_IN_FRAME = 8, 12, 20
_BIG_SEGMENT = 1 << 22


class Word(IntEnum):
    """Words of the page at VMI_DATA, which the Host writes and shims read."""

    CR0 = 0
    SYSENTER_CS = 4
    SYSENTER_ESP = 8
    SYSENTER_EIP = 12
    SYSEXIT_CS = 16
    SYSEXIT_SS = 20


@dataclass(frozen=True, slots=True)
class Shims:
    """What the Host writes: `text` to VMI_TEXT, and at the address of each site its patch.

    `iret_sites` are those with a copy in the region, in its order; `callers` are the sites by the address behind the
    hypercall that stands for them. `symbols` name what is at VMI_TEXT by the hook that it is for. `shared_physical` is
    where the shared page must be for all this to work.
    """

    text: bytes = field(repr=False)
    patches: Mapping[int, bytes] = field(repr=False)
    iret_sites: tuple[Site, ...]
    callers: Mapping[int, Site] = field(repr=False)
    symbols: tuple[Symbol, ...] = field(repr=False)
    shared_physical: int

    @property
    def region(self) -> tuple[int, int]:
        """The addresses between which the Host does not interrupt: the first one, and the one behind the last."""
        return VMI_TEXT, VMI_TEXT + IRET_COPY * len(self.iret_sites)


def make_shims(name: str, annotations: Annotations, layout: DataLayout) -> Shims:
    """Machine code for all sites of the kernel `name`.

    Raises ConfigurationError for a site without room for a jump, and for more sites than there is room for.
    """
    return _Workshop(name, annotations, layout).make()


def _word(value: int) -> bytes:
    return struct.pack("<I", value & 0xFFFFFFFF)


def _jump(at: int, to: int) -> bytes:
    return b"\xe9" + _word(to - at - _JUMP_SIZE)


def _call_host(call: int) -> bytes:
    return b"\xb8" + _word(call) + _HYPERCALL


_Code: TypeAlias = tuple[bytes, int | None]
"""Machine code, and how far into it the hypercall that stands for the instruction ends."""


class _Workshop:
    def __init__(self, name: str, annotations: Annotations, layout: DataLayout) -> None:
        assert layout.irq_pending is not None
        self._name = name
        self._sites = annotations.sites
        self._shared_physical = annotations.shared_physical
        self._enabled = _word(annotations.shared_data + layout.irq_enabled)
        self._pending = _word(annotations.shared_data + layout.irq_pending)
        self._text = bytearray()
        self._patches: dict[int, bytes] = {}
        self._callers: dict[int, Site] = {}
        self._symbols: list[Symbol] = []

    def make(self) -> Shims:
        returning = tuple(s for s in self._sites if s.kind in (Kind.IRET, Kind.STI_SYSEXIT))
        copies = {site: VMI_TEXT + IRET_COPY * at for at, site in enumerate(returning)}
        for site in returning:
            self._put(site, self._iret(site), "iret" if site.kind is Kind.IRET else "sysexit_iret")
        for site in self._sites:
            match site.kind:
                case Kind.IRET:
                    self._patch(site, _jump(site.address, copies[site]))
                case Kind.STI_SYSEXIT:
                    frame = self._sysexit_frame()
                    jump = _jump(self._here + len(frame), copies[site])
                    self._patch(site, _jump(site.address, self._here))
                    self._put(site, frame + jump)
                case _:
                    self._replace(site)
        if len(self._text) > PAGE_SIZE:
            raise ConfigurationError(
                f"{self._name}: its {len(self._sites)} hooks need {len(self._text)} bytes of code; "
                f"there is room for {PAGE_SIZE}"
            )
        return Shims(
            bytes(self._text),
            self._patches,
            returning,
            self._callers,
            tuple(self._symbols),
            self._shared_physical,
        )

    @property
    def _here(self) -> int:
        return VMI_TEXT + len(self._text)

    def _put(self, site: Site, code: bytes, name: str = "") -> None:
        """Add to the page, under a name that tells the hook."""
        name = f"vmi_{name or site.kind.name.lower()}_{site.address:x}"
        self._symbols.append(Symbol(name, self._here, len(code)))
        self._text += code

    def _patch(self, site: Site, code: bytes) -> None:
        if len(code) > site.length:
            raise ConfigurationError(
                f"{self._name}: the hook {site} has {site.length} bytes; a jump needs {len(code)}"
            )
        self._patches[site.address] = code.ljust(site.length, _NOP)

    def _replace(self, site: Site) -> None:
        """Put what stands for the instruction into the site, or have the site jump to it and back."""
        code, call_end = self._code_for(site)
        start: int = site.address
        if len(code) <= site.length:
            self._patch(site, code)
        else:
            start = self._here
            self._patch(site, _jump(site.address, start))
            self._put(site, code + _jump(start + len(code), site.end))
        if call_end is not None:
            self._callers[start + call_end] = site

    def _code_for(self, site: Site) -> _Code:
        match site.kind:
            case Kind.CLI:
                return self._store(self._enabled, 0), None
            case Kind.STI:
                return self._sti(site.spares), None
            case Kind.GET_CR0:
                return _SS + b"\xa1" + _word(VMI_DATA + Word.CR0), None
            case Kind.RDMSR:
                code = _call_host(VmiCall.RDMSR)
                return code, len(code)
            case Kind.CPUID:
                code = b"\x89\xc3" + _call_host(VmiCall.CPUID)  # mov %eax, %ebx
                return code, len(code)
            case _:
                assert site.kind is Kind.WRMSR
                # push %ebx; mov %eax, %ebx; ...; mov %ebx, %eax; pop %ebx
                code = b"\x53\x89\xc3" + _call_host(VmiCall.WRMSR)
                return code + b"\x89\xd8\x5b", len(code)

    @staticmethod
    def _store(address: bytes, value: int) -> bytes:
        return _SS + b"\xc7\x05" + address + _word(value)

    def _is_pending(self) -> bytes:
        return _SS + b"\x83\x3d" + self._pending + b"\0"

    def _sti(self, spares: Spares) -> bytes:
        ask = b"\x50" + self._ask() + b"\x58"  # push %eax; ...; pop %eax
        on = self._store(self._enabled, IRQ_ON) + self._is_pending()
        code = on + bytes((0x74, len(ask))) + ask
        return code if spares & Spares.FLAGS else b"\x9c" + code + b"\x9d"

    def _ask(self) -> bytes:
        # The Host never takes its remark back, so it is taken back here, before.
        return self._store(self._pending, 0) + _call_host(SEND_INTERRUPTS)

    @staticmethod
    def _sysexit_frame() -> bytes:
        """What SYSEXIT takes from registers, pushed as a frame: %ecx is the stack pointer, %edx where to go on."""
        push_ss = _SS + b"\xff\x35" + _word(VMI_DATA + Word.SYSEXIT_SS)
        push_cs = _SS + b"\xff\x35" + _word(VMI_DATA + Word.SYSEXIT_CS)
        flags = b"\x9c\x81\x0c\x24" + _word(IRQ_ON)  # pushf; orl $IF, (%esp)
        return push_ss + b"\x51" + flags + push_cs + b"\x52"

    def _iret(self, site: Site) -> bytes:
        ask = self._ask()
        refuse = b"\xbb" + _word(site.address) + _call_host(VmiCall.BAD_IRET)  # mov $site, %ebx
        store = _SS + b"\xa3" + self._enabled + b"\x58\xcf"  # mov %eax, irq_enabled; pop %eax; iret
        flag = bytes((0x8B, 0x44, 0x24, _FLAGS_IN_FRAME)) + b"\x25" + _word(IRQ_ON)
        to_ask = self._is_pending() + bytes((0x75, len(store)))  # jne ask
        flag += bytes((0x74, len(to_ask))) + to_ask  # jz store
        tail = len(flag) + len(store)
        back = bytes((0xEB, -(tail + len(ask) + 2) & 0xFF))  # jmp flag
        to_refuse = tail + len(ask) + len(back)
        look = bytes((0x0F, 0x02, 0x44, 0x24, _SS_IN_FRAME))  # lar ss(%esp), %eax
        test = b"\xa9" + _word(_BIG_SEGMENT) + bytes((0x74, to_refuse))  # jz refuse
        look += bytes((0x75, len(test))) + test  # jnz flag: no segment, the iret itself will say so
        ring = bytes((0xF6, 0x44, 0x24, _CS_IN_FRAME, 2, 0x74, len(look)))  # testb; jz flag
        before = b"\x50" + ring + look + flag + store
        assert len(before) == IRET_OFFSET + 1, len(before)
        code = before + ask + back + refuse
        assert len(code) <= IRET_COPY, len(code)
        return code.ljust(IRET_COPY, _NOP)


__all__ = ["IRET_COPY", "IRET_OFFSET", "SEND_INTERRUPTS", "Shims", "Word", "make_shims"]
