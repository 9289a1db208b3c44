"""Guests of 2.6.23 that deserve to die, of their hypercalls for DMA or at their disk: see condemned.py for the others.

Their kernels begin behind a text, at virtual addresses. Some kill another Guest, or are killed by one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from hostvm.abi import Call
from hostvm.devices.config import BlockConfig, DeviceConfig, SharedNetConfig
from hostvm.devices.lguest_bus import lay_out_bus
from hostvm.genuine_lguest import SIGNATURE
from hostvm.launcher import GuestConfig
from hostvm.lguest_dma import pack_dma
from hostvm.x86 import PAGE_SIZE
from tests.hostvm.devices.device_guest import CODE, DATA, MEMORY, SHARED, Program

OFFSET = 0xC0000000
DMAS, DISK_PAGE, TABLE, DIRECTORY = 0x320000, 0x321000, 0x322000, 0x323000
SECTORS = 16
DEVICES: tuple[DeviceConfig, ...] = (BlockConfig(SECTORS),)
(DISK, _CONSOLE) = lay_out_bus(MEMORY, DEVICES).devices
DISK_KEY = DISK.queues[0].address
NET_KEY = lay_out_bus(MEMORY, (*DEVICES, SharedNetConfig(0))).devices[1].queues[0].address
OUTSIDE = 0xFFFFF000
UD2 = b"\x0f\x0b"


class OldKernel(Program):
    """Instructions in a row, as a kernel of 2.6.23."""

    def __init__(self, *, init: bool = True) -> None:
        super().__init__("2.6.23")
        if not init:
            self.code = b""

    def dma(self, *sections: tuple[int, int], used_len: int = 0) -> int:
        """A buffer in memory; its address."""
        at = DMAS + 128 * len(self.more)
        self.more.append((at, pack_dma(sections, used_len)))
        return at

    def send(self, key: int, *sections: tuple[int, int]) -> None:
        """SEND_DMA of a buffer."""
        self.call(Call.SEND_DMA, key, self.dma(*sections))

    def bind(self, key: int, *sections: tuple[int, int], irq: int = 1) -> None:
        """BIND_DMA of an array of one buffer."""
        self.call(Call.BIND_DMA, key, self.dma(*sections), 1 << 8 | irq)

    def command(self, is_write: int, sector: int, count: int) -> None:
        """Say on the disk's page what is wanted: rep movsb, by way of tables that have the page."""
        self.map_devices()
        self.more.append((DISK_PAGE, struct.pack("<III", is_write, sector, count)))
        self._move("esi", OFFSET + DISK_PAGE)
        self._move("edi", OFFSET + DISK_KEY)
        self._move("ecx", 12)
        self.code += b"\xf3\xa4"

    def map_devices(self) -> None:
        """8 MiB at the kernel's addresses."""
        tables = struct.pack("<1024I", *(page << 12 | 0x67 for page in range(1024)))
        above = struct.pack("<1024I", *(1024 + page << 12 | 0x67 for page in range(1024)))
        directory = bytearray(PAGE_SIZE)
        struct.pack_into("<II", directory, 768 * 4, TABLE | 0x67, DIRECTORY + PAGE_SIZE | 0x67)
        self.more.append((TABLE, tables))
        self.more.append((DIRECTORY, bytes(directory) + above))
        self.call(Call.NEW_PGTABLE, DIRECTORY)

    def sleep(self) -> None:
        """Halt for ever, with interrupts blocked: nothing wakes it."""
        self.shared_words[self.abi.data.blocked_interrupts] = 0xFFFFFFFF
        self.call(Call.HALT)

    def guest(self, *devices: DeviceConfig) -> GuestConfig:
        """The kernel as a file, with these devices."""
        goodbye = b"Power down".ljust(128, b"\0")
        parts = [(CODE, SIGNATURE + self.code), (DATA, goodbye), (SHARED, self._shared())]
        parts += self.more
        headers, body, start = b"", b"", 52 + 32 * len(parts)
        for paddr, data in parts:
            at = start + len(body)
            vaddr, size = OFFSET + paddr, len(data)
            headers += struct.pack("<8I", 1, at, vaddr, paddr, size, size, 7, 4096)
            body += data
        rest = (2, 3, 1, CODE, 52, 0, 0, 52, 32, len(parts), 40, 0, 0)
        ident = b"\x7fELF\1\1\1" + bytes(9)
        kernel = ident + struct.pack("<HHIIIIIHHHHHH", *rest) + headers + body
        return GuestConfig(kernel, memory=MEMORY, abi="2.6.23", devices=devices, name="tiny")


@dataclass(frozen=True)
class OldCase:
    """What a kernel does, and what is said of it. `other` is what a second Guest on the network does."""

    name: str
    build: Callable[[OldKernel], None]
    text: str
    init: bool = True
    other: Callable[[OldKernel], None] | None = None


def _sends_to_station_0(kernel: OldKernel) -> None:
    kernel.send(NET_KEY, (DATA, 8))
    kernel.power_off()


def _sends_nonsense_to_station_0(kernel: OldKernel) -> None:
    kernel.send(NET_KEY, (DATA + 0xFFF, 2))


def _listens(*sections: tuple[int, int], key: int = NET_KEY) -> Callable[[OldKernel], None]:
    def build(kernel: OldKernel) -> None:
        kernel.bind(key, *sections)
        kernel.sleep()

    return build


def _listens_nowhere(kernel: OldKernel) -> None:
    kernel.call(Call.BIND_DMA, NET_KEY, OUTSIDE, 0xFFFF01)
    kernel.sleep()


def _asks_the_disk(
    is_write: int, sector: int, *sections: tuple[int, int], bound: bool = True
) -> Callable[[OldKernel], None]:
    def build(kernel: OldKernel) -> None:
        kernel.command(is_write, sector, sum(length for _, length in sections))
        if bound:
            kernel.bind(DISK_KEY, (DATA, 512))
        kernel.send(DISK_KEY, *sections)

    return build


def _undefined(kernel: OldKernel) -> None:
    kernel.code += UD2


OLD_CASES = (
    OldCase("early", lambda k: k.call(Call.HALT), "hypercall 10 before LGUEST_INIT", init=False),
    OldCase("a key that is none", lambda k: k.bind(2), "bad dma key 0x2"),
    OldCase("a key outside", lambda k: k.bind(OUTSIDE), "bad dma key 0xfffff000"),
    OldCase("to a key that is none", lambda k: k.send(6), "bad sending DMA key"),
    OldCase(
        "a buffer outside, to the Launcher",
        lambda k: k.call(Call.SEND_DMA, 0, OUTSIDE),
        "Invalid address 0xfffff000",
    ),
    OldCase(
        "a section outside, to the Launcher",
        lambda k: k.send(0, (OUTSIDE, 0xFFFF)),
        "Invalid address 0xfffff000",
    ),
    OldCase(
        "a buffer outside, to a Guest",
        lambda k: k.call(Call.SEND_DMA, NET_KEY + 4, OUTSIDE),
        "bad read address 0xfffff000 len 100",
        other=_listens((DATA, 8), key=NET_KEY + 4),
    ),
    OldCase(
        "a section across pages, sent",
        _sends_nonsense_to_station_0,
        f"bad DMA entry: 2@{DATA + 0xFFF:#x}",
        other=_listens((DATA, 8)),
    ),
    OldCase(
        "a section across pages, bound",
        _listens((DATA + 0xFFF, 2)),
        f"bad DMA entry: 2@{DATA + 0xFFF:#x}",
        other=_sends_to_station_0,
    ),
    OldCase(
        "an array outside",
        _listens_nowhere,
        "bad address in registered DMA struct",
        other=_sends_to_station_0,
    ),
    OldCase("a sector past all", _asks_the_disk(0, SECTORS), "Bad offset 8192 vs 8192"),
    OldCase(
        "no reply wanted",
        _asks_the_disk(0, 0, bound=False),
        "Block request didn't give us a dma buffer",
    ),
    OldCase(
        "a write past the end",
        _asks_the_disk(1, SECTORS - 1, (DATA, 1024)),
        "Write past end 7680+1024",
    ),
    OldCase("a trap before all", _undefined, "unhandled trap 6 at {eip} (0x0)", init=False),
    OldCase("twice", lambda k: k.call(Call.LGUEST_INIT, SHARED), "already have lguest_data"),
)


def condemned_pair(case: OldCase) -> tuple[tuple[GuestConfig, ...], int, str]:
    """The Guests, which of them is to die, and what will be said of it.

    Where the first only dies if the second does something, the first goes to sleep before.
    """
    kernel = OldKernel(init=case.init)
    case.build(kernel)
    text = case.text
    if "{eip}" in text:
        eip = OFFSET + CODE + len(SIGNATURE) + len(kernel.code) - len(UD2)
        text = text.format(eip=f"{eip:#x}")
    if case.other is None:
        return (kernel.guest(*DEVICES),), 0, text
    other = OldKernel()
    case.other(other)
    sends_first = case.other is not _sends_to_station_0
    kernels = (other, kernel) if sends_first else (kernel, other)
    guests = tuple(k.guest(*DEVICES, SharedNetConfig(n)) for n, k in enumerate(kernels))
    return guests, int(sends_first), text


__all__ = ["OLD_CASES", "OldCase", "OldKernel", "condemned_pair"]
