"""A Guest of a few dozen instructions that drives all its devices, put together byte by byte."""

from __future__ import annotations

import struct

from hostvm.abi import Call, generation
from hostvm.devices.config import BlockConfig, DeviceConfig, RngConfig
from hostvm.devices.descriptor_page import lay_out_devices
from hostvm.launcher import GuestConfig
from hostvm.lguest import SYSCALL_VECTOR
from hostvm.lguest_data import RING_SLOTS, SLOT_FREE
from tests.hostvm.devices.driver import IN, NEXT, WRITE, block_head

MEMORY = 4 << 20
CODE, RINGS, DATA, SHARED = 0x100000, 0x120000, 0x200000, 0x300000
RING_BYTES = 0x1300
SECTORS, RANDOM, KEYS = DATA + 0x1000, DATA + 0x1400, DATA + 0x1408
STATUS_1, STATUS_2 = DATA + 0x1500, DATA + 0x1501
HEADS = DATA + 0x100
GOODBYE = DATA

CONFIGS = (BlockConfig(16), RngConfig())
BLOCK, RNG, CONSOLE = lay_out_devices(MEMORY, CONFIGS).devices
KEYS_QUEUE, SCREEN_QUEUE = CONSOLE.queues

Buffers = list[tuple[int, int, int]]

# mov $value,register
MOVES = {"eax": 0xB8, "ecx": 0xB9, "edx": 0xBA, "ebx": 0xBB, "esi": 0xBE, "edi": 0xBF}


def _elf(entry: int, *segments: tuple[int, bytes, int]) -> bytes:
    start = 52 + 32 * len(segments)
    headers, body = b"", b""
    for paddr, data, memsz in segments:
        at = start + len(body)
        headers += struct.pack("<8I", 1, at, paddr, paddr, len(data), memsz, 7, 4096)
        body += data
    ident = b"\x7fELF" + bytes((1, 1, 1)) + bytes(9)
    rest = (2, 3, 1, entry, 52, 0, 0, 52, 32, len(segments), 40, 0, 0)
    return ident + struct.pack("<HHIIIIIHHHHHH", *rest) + headers + body


class Program:
    """Instructions in a row, for one generation; rings to copy from where they stand in the image."""

    def __init__(self, abi: str = "3.2") -> None:
        self.abi = generation(abi)
        self.code = b""
        self.rings = b""
        self.more: list[tuple[int, bytes]] = []
        self.shared_words: dict[int, int] = {}
        self._numbers = {call: number for number, call in self.abi.hypercalls.items()}
        self.call(Call.LGUEST_INIT, SHARED)

    def _move(self, register: str, value: int) -> None:
        self.code += struct.pack("<BI", MOVES[register], value)

    def call(self, call: Call, *args: int) -> None:
        values = (self._numbers[call], *args)
        for register, value in zip(self.abi.hypercall_registers, values, strict=False):
            self._move(register, value)
        self.code += b"\xcd\x1f"

    def store(self, address: int, value: int) -> None:
        """Store one byte: movb."""
        self.code += struct.pack("<BBIB", 0xC6, 0x05, address, value)

    def start(self, descriptor: int) -> None:
        """Bring a device up."""
        self.store(descriptor + 4, 3)
        self.call(Call.NOTIFY, descriptor)
        self.store(descriptor + 4, 7)

    def fill(
        self, queue: int, *chains: Buffers, bad_head: int | None = None, quiet: bool = False
    ) -> None:
        """Make chains of (address, length, flags) available, by copying a prepared ring: rep movsb.

        `quiet`: without an interrupt when they were used.
        """
        descriptors, heads = b"", []
        for chain in chains:
            first = len(descriptors) // 16
            heads.append(first)
            for rank, (address, length, flags) in enumerate(chain):
                more = NEXT if rank < len(chain) - 1 else 0
                descriptors += struct.pack("<QIHH", address, length, flags | more, first + rank + 1)
        if bad_head is not None:
            heads.append(bad_head)
        available = struct.pack(f"<HH{len(heads)}H", quiet, len(heads), *heads)
        ring = (descriptors.ljust(4096, b"\0") + available).ljust(RING_BYTES, b"\0")
        self.offer(queue, ring)

    def offer(self, queue: int, ring: bytes) -> None:
        """Copy a ring, descriptors and what is available, to its queue, and ring."""
        self._move("esi", RINGS + len(self.rings))
        self._move("edi", queue)
        self._move("ecx", RING_BYTES)
        self.code += b"\xf3\xa4"
        self.rings += ring.ljust(RING_BYTES, b"\0")
        self.notify(queue)

    def notify(self, queue: int) -> None:
        """Ring."""
        self.call(Call.NOTIFY, queue)

    def await_used(self, queue: int, count: int) -> None:
        """Halt until so many chains came back: cmpw, je, hypercall, jmp."""
        top = len(self.code)
        self.code += struct.pack("<HBIB", 0x8366, 0x3D, queue + 0x2002, count)
        hole = len(self.code)
        self.code += b"\x74\0"
        self.call(Call.HALT)
        self.code += struct.pack("<Bb", 0xEB, top - len(self.code) - 2)
        jump = struct.pack("<Bb", 0x74, len(self.code) - hole - 2)
        self.code = self.code[:hole] + jump + self.code[hole + 2 :]

    def spin(self, count: int) -> None:
        """Do nothing for so long: loop."""
        self._move("ecx", count)
        self.code += b"\xe2\xfe"

    def power_off(self) -> None:
        shutdown = Call.SHUTDOWN if Call.SHUTDOWN in self._numbers else Call.CRASH
        self.call(shutdown, GOODBYE, 1)

    def restart(self) -> None:
        self.call(Call.SHUTDOWN, GOODBYE, 2)

    def _shared(self) -> bytes:
        layout = self.abi.data
        page = bytearray(4096)
        page[layout.hcall_status : layout.hcall_status + RING_SLOTS] = (
            bytes((SLOT_FREE,)) * RING_SLOTS
        )
        if layout.syscall_vec is not None:
            struct.pack_into("<I", page, layout.syscall_vec, SYSCALL_VECTOR)
        for offset, word in self.shared_words.items():
            struct.pack_into("<I", page, offset, word)
        return bytes(page)

    def guest(self, *devices: DeviceConfig) -> GuestConfig:
        data = b"Power down\0".ljust(HEADS - DATA, b"\0") + block_head(IN, 2) + block_head(IN, 9)
        kernel = _elf(
            CODE,
            (CODE, self.code, len(self.code)),
            (RINGS, self.rings or b"\0", 0x10000),
            (DATA, data, 0x2000),
            (SHARED, self._shared(), 4096),
            *((address, data, len(data)) for address, data in self.more),
        )
        return GuestConfig(kernel, memory=MEMORY, abi=self.abi.name, devices=devices, name="tiny")


def disk_requests() -> tuple[Buffers, Buffers]:
    """Read sectors 2 and 9."""
    return (
        [(HEADS, 16, 0), (SECTORS, 512, WRITE), (STATUS_1, 1, WRITE)],
        [(HEADS + 16, 16, 0), (SECTORS + 512, 512, WRITE), (STATUS_2, 1, WRITE)],
    )


def everything() -> GuestConfig:
    """Read two sectors, eight random bytes and six keys; print them all; power off."""
    program = Program()
    for device in (BLOCK, RNG, CONSOLE):
        program.start(device.address)
    program.fill(BLOCK.queues[0].address, *disk_requests())
    program.await_used(BLOCK.queues[0].address, 2)
    program.fill(RNG.queues[0].address, [(RANDOM, 8, WRITE)])
    program.await_used(RNG.queues[0].address, 1)
    program.fill(KEYS_QUEUE.address, [(KEYS, 6, WRITE)])
    program.await_used(KEYS_QUEUE.address, 1)
    program.fill(SCREEN_QUEUE.address, [(SECTORS, 1024, 0), (RANDOM, 8, 0), (KEYS, 6, 0)])
    program.power_off()
    return program.guest(*CONFIGS)
