"""Names of addresses: symbols of the Guests' kernels, which the trace carries, of the Switcher and of the Host's loop.

What the Host puts in place of a VMI hook is named after the hook's kind and address, as in `vmi_iret_c0100256`. A
kernel that is not an ELF file, or a stripped one, simply has no names. Read next: predicate.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass

from hostvm.elf_image import SymbolTable, parse_elf
from hostvm.errors import ConfigurationError
from hostvm.machine import Machine
from hostvm.memory_map import SWITCHER_BASE, VMI_DATA, VMI_TEXT
from hostvm.switcher import shipped_image
from hostvm.vmi_shims import Shims

_LONGEST_LABEL = 1 << 20


@dataclass(frozen=True, slots=True)
class Named:
    """An address as somebody would say it: symbol and bytes behind its beginning."""

    name: str
    offset: int

    def __str__(self) -> str:
        return f"{self.name}+{self.offset:#x}" if self.offset else self.name


class Symbols:
    """The symbols that a machine's code has."""

    def __init__(self, machine: Machine) -> None:
        self.kernels = tuple(_table(g.name, g.kernel) for g in machine.config.guests)
        self._switcher = shipped_image("switcher.elf").symbols
        self._switcher_offset = SWITCHER_BASE - (
            self._switcher.address_of("start_switcher_text") or 0
        )
        self._host = shipped_image("host.elf").symbols
        self._shims = tuple(_shims(guest.loaded.shims) for guest in machine.guests)

    def with_kernels(self, kernels: Mapping[int, SymbolTable]) -> Symbols:
        """The same with other symbols for the kernels of some Guests."""
        other = copy(self)
        other.kernels = tuple(kernels.get(n, table) for n, table in enumerate(self.kernels))
        return other

    def address_of(self, name: str, guest: int = 0) -> int | None:
        """Linear address of a symbol: of the Guest's kernel, else of its shims, of the Switcher, of the Host's loop."""
        found = self.kernels[guest].address_of(name)
        if found is None:
            found = self._shims[guest].address_of(name)
        if found is None:
            found = self._switcher.address_of(name)
            if found is not None:
                return found + self._switcher_offset
            found = self._host.address_of(name)
        return found

    def name_of(self, address: int, *, in_guest: bool, guest: int = 0) -> Named | None:
        """The symbol that an address lies in."""
        if VMI_TEXT <= address < VMI_DATA:
            found = self._shims[guest].nearest(address)
        elif address >= SWITCHER_BASE:
            found = self._switcher.nearest(address - self._switcher_offset)
        else:
            found = (self.kernels[guest] if in_guest else self._host).nearest(address)
        # A label without a size goes on up to the next one, but not from one world into another.
        far = found is None or (not found[0].size and found[1] >= _LONGEST_LABEL)
        return None if found is None or far else Named(found[0].name, found[1])


def _shims(shims: Shims | None) -> SymbolTable:
    return SymbolTable(() if shims is None else shims.symbols)


def _table(name: str, kernel: bytes) -> SymbolTable:
    try:
        return parse_elf(name or "kernel", kernel).symbols
    except ConfigurationError:
        return SymbolTable(())


__all__ = ["Named", "Symbols"]
