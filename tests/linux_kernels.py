"""The kernels that the user has built for the tests: finding them, and a small user space for those without one.

docs/linux.md says how LGREPLAY_LINUX_DIR is laid out.
"""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from hostvm.abi import Abi, DevicePage, generation
from replay.catalogue import read_kernel

VARIABLE = "LGREPLAY_LINUX_DIR"
NOT_SET = (
    f"{VARIABLE} is not set: no real Linux kernel was tried (docs/linux.md says how to build one)"
)
CONSOLE = "console=hvc0 panic=1"
_KERNELS = ("vmlinux", "bzImage")
_USER_SPACES = ("initramfs", "initrd")
_DISK = "disk"

# A file system in an archive (cpio "newc"): 13 numbers in hexadecimal after the magic.
_MAGIC = "070701"
DIRECTORY, CHARACTER_DEVICE, PROGRAM = 0o040755, 0o020600, 0o100755

_LOAD_ADDRESS = 0x08048000
_HEADERS = 52 + 32
_WRITE, _FORK, _EXIT, _WAIT, _SYNC, _REBOOT = 4, 2, 1, 7, 36, 88
_OPEN, _SEEK = 5, 19
_READ_AND_WRITE, _FIRST_FREE = 2, 3
_MEMORY = b"/dev/mem\0"
_REBOOT_MAGIC, _REBOOT_MAGIC_2 = 0xFEE1DEAD, 672274793


class Ending(IntEnum):
    """What the tests' own user space asks of reboot(2) at its end."""

    POWEROFF = 0x4321FEDC
    RESTART = 0x01234567


GREETING = b"user space: it works\n"


@dataclass(frozen=True, slots=True)
class Poke:
    """A word that the tests' own user space writes over one of the kernel's, by its physical address."""

    address: int
    value: int


@dataclass(frozen=True, slots=True)
class LinuxBoot:
    """A kernel with a user space: `kernel` is the vmlinux where there is one, `user_space` None for the tests' own."""

    name: str
    kernel: Path
    bzimage: Path | None
    user_space: Path | None
    disk: Path | None
    append: str
    memory: int

    @property
    def abi(self) -> Abi:
        """The generation of lguest that the kernel is found to be of."""
        return generation(read_kernel(self.kernel).abi)

    @property
    def has_random_numbers(self) -> bool:
        """Whether it can have a device for them; that came with 2.6.25."""
        return self.abi.device_page not in (DevicePage.LGUEST_BUS, DevicePage.CONFIG_LIST)

    def lacks(self, *needs: tuple[str, ...]) -> str:
        """What its configuration has not: for each need one function must be there. Empty if nobody can tell."""
        names = _functions(self.kernel)
        gone = [need[0] for need in needs if names and not names.intersection(need)]
        return f"{self.kernel.name} was built without {', '.join(gone)}" if gone else ""

    @property
    def command_line(self) -> str:
        """What the Guest is told."""
        return f"{CONSOLE} {self.append}".strip()

    def initrd(
        self, folder: Path, ending: Ending = Ending.POWEROFF, poke: Poke | None = None
    ) -> Path:
        """The user space as a file; the tests' own is made in `folder`."""
        if self.user_space is not None and ending is Ending.POWEROFF and poke is None:
            return self.user_space
        path = folder / f"initramfs-{ending.name}.gz"
        path.write_bytes(gzip.compress(small_user_space(ending, poke)))
        return path


@cache
def _functions(kernel: Path) -> frozenset[str]:
    """Names in the kernel's symbol table, if it is a vmlinux that has one."""
    with kernel.open("rb") as file:
        if file.read(4) != b"\x7fELF":
            return frozenset()
        table = ELFFile(file).get_section_by_name(".symtab")
        if not isinstance(table, SymbolTableSection):
            return frozenset()
        return frozenset(symbol.name for symbol in table.iter_symbols())


def boots() -> tuple[LinuxBoot, ...]:
    """All that the directory has, in order of name; nothing when the variable is not set."""
    place = os.environ.get(VARIABLE)
    if not place:
        return ()
    top = Path(place)
    folders = [top, *sorted(each for each in top.iterdir() if each.is_dir())]
    return tuple(boot for folder in folders for boot in _boots_in(folder, top))


def _boots_in(folder: Path, top: Path) -> Iterator[LinuxBoot]:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    disks = [path for path in files if path.name.startswith(_DISK)]
    user_spaces = [path for path in files if path.name.startswith(_USER_SPACES)]
    memory = folder / "memory"
    append = folder / "append"
    choices: list[Path | None] = [*user_spaces] or [None]
    for kinds in _kernels(files).values():
        for user_space in choices:
            kernel = kinds.get("vmlinux") or kinds["bzImage"]
            parts = (kernel.relative_to(top), user_space.name if user_space else "small")
            yield LinuxBoot(
                name="+".join(map(str, parts)),
                kernel=kernel,
                bzimage=kinds.get("bzImage"),
                user_space=user_space,
                disk=disks[0] if disks else None,
                append=" ".join(append.read_text().split()) if append.is_file() else "",
                memory=int(memory.read_text()) if memory.is_file() else 64,
            )


def _kernels(files: list[Path]) -> dict[str, dict[str, Path]]:
    """By the tail of the name: its files by kind."""
    found: dict[str, dict[str, Path]] = {}
    for path in files:
        for kind in _KERNELS:
            if path.name.startswith(kind):
                found.setdefault(path.name.removeprefix(kind), {})[kind] = path
    return found


# A user space of 300 bytes: /init prints, computes, has three children that print as well, and ends.


def small_user_space(ending: Ending, poke: Poke | None = None) -> bytes:
    """An archive with /init, which needs nothing but a kernel for the i386, and the console that it prints to."""
    entries = (
        entry("dev", DIRECTORY),
        entry("dev/console", CHARACTER_DEVICE, device=(5, 1)),
        entry("dev/mem", CHARACTER_DEVICE, device=(1, 1)),
        entry("init", PROGRAM, _elf(_program(ending, poke), poke)),
        entry("TRAILER!!!", 0),
    )
    return b"".join(entries)


def entry(name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    """One file of an archive; `device` is major and minor."""
    path = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
    head = (_MAGIC + "".join(f"{field:08x}" for field in fields)).encode() + path
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _call(number: int, *arguments: int) -> bytes:
    """Load eax, ebx, ecx, edx, esi and make the system call."""
    loads = zip((0xB8, 0xBB, 0xB9, 0xBA, 0xBE), (number, *arguments), strict=False)
    code = b"".join(bytes((opcode,)) + struct.pack("<I", value) for opcode, value in loads)
    return code + b"\xcd\x80"


def _poke(poke: Poke | None) -> bytes:
    """Write a word of the data behind the greeting to /dev/mem."""
    if poke is None:
        return b""
    path = _LOAD_ADDRESS + _HEADERS + len(GREETING)
    return (
        _call(_OPEN, path, _READ_AND_WRITE)
        + _call(_SEEK, _FIRST_FREE, poke.address, 0)
        + _call(_WRITE, _FIRST_FREE, path + len(_MEMORY), 4)
    )


def _program(ending: Ending, poke: Poke | None) -> bytes:
    text = _LOAD_ADDRESS + _HEADERS
    say = _call(_WRITE, 1, text, len(GREETING))
    child = say + _call(_EXIT, 0)
    # Test eax; in the parent, which has the child's number there, jump over what the child does.
    fork = _call(_FORK) + b"\x85\xc0\x75" + bytes((len(child),)) + child
    wait = _call(_WAIT, 0xFFFFFFFF, 0, 0)
    end = _poke(poke) + _call(_SYNC) + _call(_REBOOT, _REBOOT_MAGIC, _REBOOT_MAGIC_2, ending, 0)
    # loop: five million times, for a timer interrupt or two in user space.
    compute = b"\xb9" + struct.pack("<I", 5_000_000) + b"\xe2\xfe"
    return say + compute + 3 * (fork + wait) + end + b"\xeb\xfe"


def _elf(code: bytes, poke: Poke | None) -> bytes:
    data = GREETING + _MEMORY + struct.pack("<I", poke.value if poke else 0)
    body = data + code
    size = _HEADERS + len(body)
    entry = _LOAD_ADDRESS + _HEADERS + len(data)
    rest = (2, 3, 1, entry, 52, 0, 0, 52, 32, 1, 40, 0, 0)
    ident = b"\x7fELF\1\1\1" + bytes(9)
    load = struct.pack("<8I", 1, 0, _LOAD_ADDRESS, _LOAD_ADDRESS, size, size, 5, 4096)
    return ident + struct.pack("<HHIIIIIHHHHHH", *rest) + load + body


__all__ = [
    "CHARACTER_DEVICE",
    "DIRECTORY",
    "GREETING",
    "NOT_SET",
    "PROGRAM",
    "VARIABLE",
    "Ending",
    "LinuxBoot",
    "Poke",
    "boots",
    "entry",
    "small_user_space",
]
