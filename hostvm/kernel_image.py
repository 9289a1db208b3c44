"""What a kernel file says of itself: which Linux it is, of which generation of lguest, and whether it can run here.

Only 2.6.23's kernels say what they are for, by a text before their first instruction (genuine_lguest.py). But (i) the
banner of any Linux names its version, and (ii) `struct lguest_data` lies in a later one's data, filled in as far as the
compiler could: 64 slots marked free, the timer's interrupt blocked or all of them, where the kernel begins, the system
call's vector. That pattern does not come about by chance, tells the layouts apart, and is missing in a kernel that was
built without lguest. A bzImage is looked into likewise; one that cannot be unpacked is believed by its version.

A kernel with VMI hooks says so by a section of that name, and is for no lguest but for the Host that reads it.

What cannot work is said before anything runs: no lguest Guest, page tables of three levels, 64 bits. Kernels that are
not Linux need no banner; where their code begins as a Guest's does, they are taken for the usual generation.

Source: lguest, arch/x86/lguest/boot.c; Documentation/x86/boot.txt. Read next: launcher.py.
"""

from __future__ import annotations

import bz2
import lzma
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from hostvm.abi import DEFAULT_GENERATION, GENERATIONS
from hostvm.elf_image import ELF_MAGIC, ElfImage, parse_elf
from hostvm.errors import ConfigurationError
from hostvm.genuine_lguest import SIGNATURE
from hostvm.launcher_abi import bzimage_payload, bzimage_version, split_bzimage
from hostvm.lguest_data import (
    LAYOUT_2_6_24,
    LAYOUT_2_6_32,
    LAYOUT_3_2,
    LAYOUT_4_1,
    RING_SLOTS,
    DataLayout,
)
from hostvm.lz_kernels import LZ4_MAGIC, LZO_MAGIC, unpack_lz4, unpack_lzo
from hostvm.vmi_sites import has_hooks

LARGEST_KERNEL = 256 << 20
_NUMBER = re.compile(rb"(\d{1,3}(?:\.\d{1,4}){1,3})")
_BANNER = re.compile(rb"Linux version " + _NUMBER.pattern)
# irq_enabled, blocked_interrupts with the timer's bit or all, then nothing up to the ring.
_FREE_SLOTS = re.compile(rb"\xff" * RING_SLOTS + rb"(?!\xff)")
_BEFORE_SLOTS = re.compile(rb"\0{4}(?:\x01\0{3}|\xff{4})\0{12}(?:\0{4})?\Z")
_LONGEST_BEFORE_SLOTS = 24
_BLOCKED_AT_FIRST = (1, 0xFFFFFFFF)
_LONGEST_WINDOW = 256
_SYSCALL_VECTOR = 0x80
# Only a kernel that prints entries of the upper level has this text.
_PAE_TEXT = b"*pdpt = "
# The first hypercall, LGUEST_INIT, soon after its number went into eax.
_FIRST_HYPERCALL = re.compile(rb"\xb8\x01\0{3}.{0,40}?(?:\xcd\x1f|\x0f\x01\xc1)", re.DOTALL)
_FIRST_BY_INT = re.compile(rb"\xb8\x01\0{3}[\xba\xbb].{4}\xcd\x1f", re.DOTALL)
_FIRST_OF_GENERATION: tuple[tuple[tuple[int, ...], str], ...] = (
    ((2, 6, 23), "2.6.23"),
    ((2, 6, 24), "2.6.24"),
    ((2, 6, 25), "2.6.27"),
    ((2, 6, 29), "2.6.29"),
    ((2, 6, 30), "2.6.30"),
    ((2, 6, 31), "2.6.32"),
    ((2, 6, 34), "2.6.37"),
    ((3, 1), "3.2"),
    ((3, 10), "3.10"),
    ((4, 1), "4.1"),
)
_FIRST_WITHOUT = (4, 14)
# Of the generations that share a layout, those that are taken for a kernel that begins with `int`, and with `vmcall`.
_USUAL_OF_LAYOUT = (
    (LAYOUT_2_6_24, "2.6.27", "2.6.30"),
    (LAYOUT_2_6_32, "2.6.37", "2.6.32"),
    (LAYOUT_3_2, "3.10", "3.10"),
    (LAYOUT_4_1, "4.1", "4.1"),
)
_SIGNED = "2.6.23"


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """A Linux version such as "3.2.65", empty where there is none, and the generation of lguest that fits."""

    version: str
    abi: str


def inspect_kernel(name: str, content: bytes, abi: str | None = None) -> KernelFacts:
    """Find out what kernel this is; where the user says for which `abi` it is, that is believed.

    Raises ConfigurationError in one line that starts with `name` when it cannot be run here.
    """
    if content.startswith(ELF_MAGIC):
        return _inspect(name, parse_elf(name, content), abi)
    if split_bzimage(content) is None:
        raise ConfigurationError(f"{name}: neither an ELF file nor a bzImage")
    kernel = unpack_bzimage(content)
    if kernel is not None and kernel.startswith(ELF_MAGIC):
        return _inspect(name, parse_elf(name, kernel), abi)
    version = _parse_version(_NUMBER.match(bzimage_version(content)))
    return KernelFacts(_text(version), abi or _by_version(name, version) or DEFAULT_GENERATION)


def linux_version(content: bytes) -> str:
    """The Linux version that a kernel file names, without looking at anything else in it; empty if it names none."""
    if not content.startswith(ELF_MAGIC) and split_bzimage(content) is not None:
        return _text(_parse_version(_NUMBER.match(bzimage_version(content))))
    return _text(_parse_version(_BANNER.search(content)))


_Version: TypeAlias = tuple[int, ...]


def _inspect(name: str, image: ElfImage, abi: str | None) -> KernelFacts:
    if abi is None and has_hooks(image):
        return KernelFacts("", "vmi")
    parts = [segment.data for segment in image.segments]
    version = _parse_version(next(filter(None, map(_BANNER.search, parts)), None))
    if version is not None and any(_PAE_TEXT in part for part in parts):
        raise ConfigurationError(
            f"{name}: Linux {_text(version)} with CONFIG_X86_PAE; "
            f"a guest here has page tables of two levels"
        )
    return KernelFacts(_text(version), abi or _detect(name, version, parts))


def _detect(name: str, version: _Version | None, parts: list[bytes]) -> str:
    layouts = [layout for part in parts for layout in _layouts_in(part)]
    usual = _by_version(name, version)
    signed = any(SIGNATURE in part for part in parts)
    if usual == _SIGNED or (usual is None and signed):
        if signed:
            return _SIGNED
        raise _no_guest(name, version)
    if usual is None:
        if not layouts and not any(map(_FIRST_HYPERCALL.search, parts)):
            raise ConfigurationError(
                f"{name}: seems to be no lguest guest; --abi runs it all the same"
            )
        usual = DEFAULT_GENERATION
    elif not layouts:
        raise _no_guest(name, version)
    if not layouts or GENERATIONS[usual].data in layouts:
        return usual
    return _by_layout(layouts, parts)


def _no_guest(name: str, version: _Version | None) -> ConfigurationError:
    return ConfigurationError(
        f"{name}: Linux {_text(version)} without CONFIG_LGUEST_GUEST, so it is no lguest guest"
    )


def _by_layout(layouts: list[DataLayout], parts: list[bytes]) -> str:
    by_int = any(map(_FIRST_BY_INT.search, parts))
    names = next(names for layout, *names in _USUAL_OF_LAYOUT if layout in layouts)
    return names[0 if by_int else 1]


def _by_version(name: str, version: _Version | None) -> str | None:
    if version is None:
        return None
    older = [abi for first, abi in _FIRST_OF_GENERATION if first <= version]
    if not older:
        raise ConfigurationError(f"{name}: Linux {_text(version)} is older than lguest")
    if version >= _FIRST_WITHOUT:
        raise ConfigurationError(f"{name}: Linux {_text(version)}; lguest went with 4.14")
    return older[-1]


def _parse_version(found: re.Match[bytes] | None) -> _Version | None:
    if found is None:
        return None
    return tuple(int(number) for number in found[1].split(b"."))


def _text(version: _Version | None) -> str:
    return "" if version is None else ".".join(map(str, version))


# `struct lguest_data` in a kernel's data.


def _layouts_in(part: bytes) -> list[DataLayout]:
    known = {id(abi.data): abi.data for abi in GENERATIONS.values()}.values()
    # The slots first: a kernel has few runs of ones, and no end of zeros.
    slots = (found.start() for found in _FREE_SLOTS.finditer(part))
    return [
        layout
        for at in slots
        if _BEFORE_SLOTS.search(part[max(at - _LONGEST_BEFORE_SLOTS, 0) : at])
        for layout in known
        if _is_shared_data(part, at - layout.hcall_status, layout)
    ]


def _is_shared_data(part: bytes, at: int, layout: DataLayout) -> bool:
    if at < 0 or at + layout.size > len(part):
        return False
    if layout.kernel_address is None or layout.syscall_vec is None:
        return False

    def word(offset: int) -> int:
        value: int = struct.unpack_from("<I", part, at + offset)[0]
        return value

    return (
        not any(part[at + layout.hcalls : at + layout.noirq_start])
        and (
            layout.noirq_end is None
            or 0 <= word(layout.noirq_end) - word(layout.noirq_start) < _LONGEST_WINDOW
        )
        and word(layout.blocked_interrupts) in _BLOCKED_AT_FIRST
        and word(layout.syscall_vec) == _SYSCALL_VECTOR
    )


# What is inside a bzImage.


class _Decompressor(Protocol):
    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


_Unpack: TypeAlias = Callable[[bytes, int], bytes]


def _by(make: Callable[[], _Decompressor]) -> _Unpack:
    return lambda data, limit: make().decompress(data, limit)


_COMPRESSIONS: tuple[tuple[bytes, _Unpack], ...] = (
    (b"\x1f\x8b\x08", _by(lambda: zlib.decompressobj(16 + zlib.MAX_WBITS))),
    (b"BZh", _by(bz2.BZ2Decompressor)),
    (b"\xfd7zXZ\0", _by(lzma.LZMADecompressor)),
    (LZO_MAGIC, unpack_lzo),
    (LZ4_MAGIC, unpack_lz4),
    (b"\x5d\0\0", _by(lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE))),
)


def unpack_bzimage(content: bytes) -> bytes | None:
    """The kernel proper in a bzImage; None if it cannot be had."""
    payload = bzimage_payload(content)
    for magic, unpack in _COMPRESSIONS:
        start = payload.find(magic)
        if start >= 0:
            try:
                return unpack(payload[start:], LARGEST_KERNEL)
            except (zlib.error, OSError, EOFError, ValueError, lzma.LZMAError):
                continue
    return None


__all__ = ["KernelFacts", "inspect_kernel", "linux_version", "unpack_bzimage"]
