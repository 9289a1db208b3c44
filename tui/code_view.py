"""Disassembly around an address, as lines for the screen; for the engine's thread.

Instructions have no fixed length, so what stands *before* an address is found by reading from a place where one
certainly begins: the symbol that the address lies in. Where there is none, the beginning is guessed, as the one of the
last bytes from which most instructions lead exactly to the address. The Host's code has symbols from its first byte on:
before that are tables, and nothing is shown.

Memory is read as the CPU sees it at the moment; so in the Switcher, in the middle of a change of worlds, it simply goes
on. Read next: snapshot.py. Source: Intel SDM volume 2, appendix B.1.4.7 (conditions).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from capstone import CS_ARCH_X86, CS_MODE_32, Cs

from hostvm.memory_map import SWITCHER_BASE
from hostvm.x86 import Eflags
from replay.instructions import LONGEST, is_return
from replay.look import CURRENT, Space
from replay.symbols import Symbols
from tui.chosen_look import ChosenLook
from tui.source_lines import SourceLines
from tui.values import Instruction

_DECODER = Cs(CS_ARCH_X86, CS_MODE_32)
_FARTHEST = 2048
_GUESSES = 40
_STRETCH = 1024
_TARGET = re.compile(r"0x[0-9a-f]+|\d")
_CF, _PF, _ZF, _SF, _OF = (
    int(flag) for flag in (Eflags.CF, Eflags.PF, Eflags.ZF, Eflags.SF, Eflags.OF)
)


class CodeView:
    """Disassembles for one timeline's machine."""

    def __init__(self, look: ChosenLook, symbols: Symbols, sources: SourceLines) -> None:
        self._look = look
        self._symbols = symbols
        self._sources = sources
        self.with_lines = False
        """Whether the text of source lines is wanted too."""

    def name(self, address: int) -> str:
        """An address as symbol and offset, empty without symbol."""
        guest = self._look.guest.number
        in_guest = self._look.in_guest
        found = self._symbols.name_of(address, in_guest=in_guest, guest=guest)
        if found is None and not in_guest:
            found = self._symbols.name_of(address, in_guest=True, guest=guest)
        return "" if found is None else str(found)

    def around(self, address: int, before: int, behind: int) -> tuple[Instruction, ...]:
        """Up to so many instructions before and behind the one at `address`."""
        earlier = list(self._span(self._start(address), address))[-before:] if before else []
        return (*earlier, *self.from_(address, behind))

    def from_(self, address: int, count: int, space: Space = CURRENT) -> tuple[Instruction, ...]:
        """Up to `count` instructions from `address` on."""
        found: list[Instruction] = []
        for each in self._span(address, address + count * LONGEST, space):
            found.append(each)
            if len(found) == count:
                break
        return tuple(found)

    def _start(self, address: int) -> int:
        named = self._symbols.name_of(
            address, in_guest=self._look.in_guest, guest=self._look.guest.number
        )
        if named is not None and 0 < named.offset <= _FARTHEST:
            return address - named.offset
        if named is not None and named.offset == 0:
            return self._start_before(address)
        return self._guess(address)

    def _start_before(self, symbol: int) -> int:
        """Where to read from what stands before a symbol: what has no name there is no code, if it is the Host's."""
        look = self._look
        before = symbol - 1
        if self._symbols.name_of(before, in_guest=look.in_guest, guest=look.guest.number):
            return self._start(before)
        return self._guess(symbol) if look.in_guest else symbol

    def _guess(self, address: int) -> int:
        code = self._look.read(address - _GUESSES, _GUESSES)
        if len(code) < _GUESSES:
            return address
        best, most = address, 0
        for skip in range(_GUESSES):
            sizes = [size for _, size, _, _ in _DECODER.disasm_lite(code[skip:], 0)]
            if sum(sizes) == _GUESSES - skip and len(sizes) > most:
                best, most = address - _GUESSES + skip, len(sizes)
        return best

    def _span(self, begin: int, end: int, space: Space = CURRENT) -> Iterator[Instruction]:
        at = begin
        while at < end:
            code = self._look.read(at, min(end - at + LONGEST, _STRETCH), space)
            size_known = 0
            for address, size, mnemonic, operands in _DECODER.disasm_lite(code, at):
                if address >= end:
                    return
                raw = code[address - at : address - at + size]
                yield self._line(address, raw, mnemonic, operands)
                size_known += size
            if not size_known:
                if len(code) < LONGEST:
                    return
                yield Instruction(at, code[:1], "(bad)")
            at += size_known or 1

    def _line(self, address: int, raw: bytes, mnemonic: str, operands: str) -> Instruction:
        name, guest = self.name(address), self._look.guest.number
        place = self._sources.place(address, guest) if address < SWITCHER_BASE else None
        target = _direct_target(mnemonic, operands)
        eip = self._look.eip
        taken = self._taken(mnemonic) if address == eip else None
        if target is None and address == eip:
            target = self._indirect_target(raw)
        return Instruction(
            address=address,
            code=bytes(raw),
            text=f"{mnemonic} {operands}".rstrip(),
            label=name if name and "+" not in name else "",
            source="" if place is None else str(place),
            line=self._sources.text_at(address, guest) if self.with_lines and place else "",
            target=target,
            target_name="" if target is None else self.name(target),
            taken=taken,
        )

    def _indirect_target(self, raw: bytes) -> int | None:
        if not is_return(raw):
            return None
        return self._look.word(self._look.esp)

    def _taken(self, mnemonic: str) -> bool | None:
        return branch_taken(mnemonic, self._look.eflags, self._look.ecx)


def _direct_target(mnemonic: str, operands: str) -> int | None:
    jumps = mnemonic.startswith(("j", "call", "loop"))
    if not jumps or not _TARGET.fullmatch(operands):
        return None
    return int(operands, 16)


def branch_taken(mnemonic: str, eflags: int, ecx: int) -> bool | None:
    """Whether a conditional branch will be taken; None for what is none."""
    match mnemonic:
        case "jecxz":
            return ecx == 0
        case "loop":
            return ecx != 1
        case _ if mnemonic[:1] == "j" and mnemonic != "jmp":
            return _condition(mnemonic[1:], eflags)
    return None


def _condition(name: str, eflags: int) -> bool | None:
    carry, parity, zero, sign, overflow = (bool(eflags & f) for f in (_CF, _PF, _ZF, _SF, _OF))
    holds = {
        "o": overflow,
        "b": carry,
        "e": zero,
        "be": carry or zero,
        "s": sign,
        "p": parity,
        "l": sign != overflow,
        "le": zero or sign != overflow,
    }
    opposite = {
        "no": "o",
        "ae": "b",
        "ne": "e",
        "a": "be",
        "ns": "s",
        "np": "p",
        "ge": "l",
        "g": "le",
    }
    if name in holds:
        return holds[name]
    return not holds[opposite[name]] if name in opposite else None


__all__ = ["CodeView", "branch_taken"]
