"""Guests that deserve to die: for each reason that lguest has, the shortest kernel in ring 1 that it applies to.

A case is a function that puts such a kernel together, the generations that kill for it, and the text, which is the
Host's or the Launcher's. Addresses in texts are those of the kernel's own making.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hostvm.abi import Call, DevicePage, Translation, generation
from hostvm.launcher import GuestConfig
from hostvm.x86 import PAGE_SIZE
from tests.hostvm.devices.device_guest import (
    BLOCK,
    CODE,
    CONFIGS,
    CONSOLE,
    DATA,
    HEADS,
    KEYS_QUEUE,
    MEMORY,
    RNG,
    SCREEN_QUEUE,
    SECTORS,
    SHARED,
    STATUS_1,
    Program,
)
from tests.hostvm.devices.driver import INDIRECT, NEXT, OUT, WRITE, block_head

OLD, NEW, NEWEST = ("2.6.24", "2.6.27"), ("2.6.32", "2.6.37", "3.2"), ("3.10",)
EARLIER = OLD + NEW
ALL = EARLIER + NEWEST
WITH_DEVICES = ("2.6.27", *NEW, *NEWEST)
FINAL_FEATURES = ("3.2", *NEWEST)

TABLE, DIRECTORY, DEVICE_TABLE, REQUEST = 0x320000, 0x321000, 0x322000, 0x323000
DIRECTORIES, DIRECTORY_COUNT = 0x330000, 48
HANDLER = 0xC0DE
NOWHERE = 0x70000000
OUTSIDE = 0xFFFFF000
SWITCHER = 0xFFD00000
KERNEL_DS, OTHERS_CS = 0x69, 0x50
TLS_SELECTOR = 6 << 3 | 1
FLAT = struct.pack("<II", 0x0000FFFF, 0x00CFB300)
PRESENT = 0x67
DEVICE_PAGES = 32
PAGE_SIZE_BIT = 0x80
UD2 = b"\x0f\x0b"


@dataclass(frozen=True)
class Case:
    """`text` is what lguest says; {eip} in it is the address of the last instruction."""

    name: str
    build: Callable[[Condemned], None]
    text: str
    abis: Sequence[str] = ALL
    init: bool = True


class Condemned(Program):
    """A kernel that does one thing wrong. `eip` is where."""

    def __init__(self, abi: str, *, init: bool = True) -> None:
        super().__init__(abi)
        self.eip = 0
        if not init:
            self.code = b""

    @property
    def here(self) -> int:
        """Address of what is put next."""
        return CODE + len(self.code)

    def last(self, instruction: bytes) -> None:
        """The instruction that it dies of."""
        self.eip = self.here
        self.code += instruction

    def hypercall(self, number: int) -> None:
        """By number, which need not be one."""
        self._move("eax", number)
        self.code += b"\xcd\x1f"

    def read(self, address: int) -> None:
        """Touch an address: mov."""
        self.last(b"\xa1" + struct.pack("<I", address))

    def stack(self, address: int) -> None:
        """Have the stack end there: mov."""
        self.code += b"\xbc" + struct.pack("<I", address)

    def handle_undefined(self) -> None:
        """Have a handler for invalid opcodes, by an interrupt gate, so that the Host has to reflect."""
        gate = HANDLER & 0xFFFF, 0x8E00
        self.call(Call.LOAD_IDT_ENTRY, 6, 0x610000 | gate[0], gate[1])

    def paging(self, directory: dict[int, int] | None = None, **entries: int) -> None:
        """Map 4 MiB at 0, where they are; `directory` has further entries, `entries` pages by p and number."""
        table = [page << 12 | PRESENT for page in range(1024)]
        for name, entry in entries.items():
            table[int(name[1:])] = entry
        slots = {0: TABLE | PRESENT} | (directory or {})
        top = [slots.get(index, 0) for index in range(1024)]
        self.more.append((TABLE, struct.pack("<1024I", *table)))
        self.more.append((DIRECTORY, struct.pack("<1024I", *top)))
        self.call(Call.NEW_PGTABLE, DIRECTORY)

    def find_devices(self) -> None:
        """Have the devices behind the memory mapped, which older Launchers' tables do not do."""
        if self.abi.translation is not Translation.LINEAR:
            table = struct.pack(
                "<1024I", *(MEMORY + (page << 12) | PRESENT for page in range(1024))
            )
            self.more.append((DEVICE_TABLE, table[: DEVICE_PAGES * 4].ljust(PAGE_SIZE, b"\0")))
            self.paging({1: DEVICE_TABLE | PRESENT})

    def request(self, queue: int, *pieces: tuple[int, int, int]) -> None:
        """One chain, with exactly these flags besides NEXT."""
        self.fill(queue, list(pieces))

    def descriptors(self, queue: int, *rows: tuple[int, int, int, int]) -> None:
        """Descriptors as they are; the first is available."""
        raw = b"".join(struct.pack("<QIHH", *row) for row in rows)
        self.offer(queue, raw.ljust(PAGE_SIZE, b"\0") + struct.pack("<HHH", 0, 1, 0))


def condemned(case: Case, abi: str) -> tuple[GuestConfig, str]:
    """The Guest, and what will be said of it."""
    program = Condemned(abi, init=case.init)
    case.build(program)
    text = case.text.format(eip=f"{program.eip:#x}", null=program.abi.null_pointer)
    devices = CONFIGS if generation(abi).device_page is not DevicePage.CONFIG_LIST else ()
    return program.guest(*devices), text


# ---- what the Host says ---------------------------------------------------------------------------


def _gate_of_a_task(program: Condemned) -> None:
    program.call(Call.LOAD_IDT_ENTRY, 20, 0, 0x8500)


def _shadow_pages_run_out(program: Condemned) -> None:
    """One table serves every slot of every directory; touch them all, in as many directories as it takes."""
    table = struct.pack("<1024I", *(page << 12 | PRESENT for page in range(1024)))
    directory = struct.pack("<1023I", *[TABLE | PRESENT] * 1023).ljust(PAGE_SIZE, b"\0")
    program.more.append((TABLE, table))
    program.more.append((DIRECTORIES, directory * DIRECTORY_COUNT))
    program._move("edi", DIRECTORIES)
    top = len(program.code)
    # The argument of NEW_PGTABLE, by this generation's register, from edi.
    program.call(Call.NEW_PGTABLE, 0)
    move = {"ebx": b"\x89\xfb", "edx": b"\x89\xfa"}[program.abi.hypercall_registers[1]]
    program.code = program.code[:-2] + move + b"\xcd\x1f"
    program._move("esi", SHARED)
    program._move("ecx", 1023)
    # lodsl would go on by 4: mov (%esi),%eax; add $4 MiB,%esi; loop.
    loop = b"\x8b\x06\x81\xc6" + struct.pack("<I", 4 << 20)
    program.code += loop + struct.pack("<Bb", 0xE2, -len(loop) - 2)
    program.code += b"\x81\xc7" + struct.pack("<I", PAGE_SIZE)
    program.code += b"\xe9" + struct.pack("<i", top - len(program.code) - 5)


def _a_trap_while_nowhere(program: Condemned) -> None:
    program.paging()
    program.handle_undefined()
    program.stack(NOWHERE)
    program.last(UD2)


def _a_trap_on_a_stack_below_all(program: Condemned) -> None:
    program.handle_undefined()
    program.stack(0)
    program.last(UD2)


def _a_segment_is_taken_away_while_in_use(program: Condemned) -> None:
    program.more.append((TABLE, FLAT + bytes(16)))
    program.call(Call.LOAD_TLS, TABLE)
    program._move("eax", TLS_SELECTOR)
    program.code += b"\x8e\xe8"  # mov %ax,%gs
    program.call(Call.LOAD_TLS, TABLE + 8)
    program.eip = program.here


def _somebody_elses_segment(program: Condemned) -> None:
    program._move("eax", OTHERS_CS)
    program.last(b"\x8e\xd8")  # mov %ax,%ds


def _patched(field: str, value: int) -> Callable[[Condemned], None]:
    def build(program: Condemned) -> None:
        program.shared_words[getattr(program.abi.data, field)] = value

    return build


def _calls(call: Call, *args: int) -> Callable[[Condemned], None]:
    return lambda program: program.call(call, *args)


def _reads(
    address: int, directory: dict[int, int] | None = None, **entries: int
) -> Callable[..., None]:
    def build(program: Condemned) -> None:
        program.paging(directory, **entries)
        program.read(address)

    return build


def _paged_call(call: Call, *args: int) -> Callable[[Condemned], None]:
    def build(program: Condemned) -> None:
        program.paging()
        program.call(call, *args)

    return build


def _queued(number: int) -> Callable[[Condemned], None]:
    """A call in the first slot of the ring, and a harmless one to have it looked at."""

    def build(program: Condemned) -> None:
        layout = program.abi.data
        program.shared_words[layout.hcall_status] = 0xFFFFFF00
        program.shared_words[layout.hcalls] = number
        program.call(Call.FLUSH_ASYNC)

    return build


_SET_PGD_PAST_END = _paged_call(Call.SET_PGD, DIRECTORY, 1025)
_SET_PTE_IN_SWITCHER = _paged_call(Call.SET_PTE, DIRECTORY, SWITCHER, TABLE | PRESENT)
_TOUCHES_SWITCHER = _reads(SWITCHER, {1023: TABLE | PRESENT})

OF_THE_HOST = (
    Case("unknown call", lambda p: p.hypercall(99), "Bad hypercall 99\n"),
    Case("negative call", lambda p: p.hypercall(0xFFFFFFFF), "Bad hypercall -1\n"),
    Case("unknown call in the ring", _queued(77), "Bad hypercall 77\n"),
    Case("early", lambda p: p.hypercall(10), "hypercall 10 before INIT", init=False),
    Case(
        "data outside",
        _calls(Call.LGUEST_INIT, OUTSIDE),
        "bad guest page {null}",
        init=False,
    ),
    Case("system call vector", _patched("syscall_vec", 0x81), "bad syscall vector"),
    Case("twice", _calls(Call.LGUEST_INIT, SHARED), "already have lguest_data"),
    Case(
        "kernel address",
        _patched("kernel_address", 0xFFC00000),
        "bad kernel address 0xffc00000",
    ),
    Case("task gate", _gate_of_a_task, "bad IDT type 5"),
    Case("gate 256", _calls(Call.LOAD_IDT_ENTRY, 256, 0, 0), "Setting idt entry 256"),
    Case("segments", _calls(Call.LOAD_GDT, DATA, 33), "too many gdt entries 33", OLD),
    Case(
        "segment",
        _calls(Call.LOAD_GDT_ENTRY, 32, 0, 0),
        "too many gdt entries 32",
        NEW + NEWEST,
    ),
    Case("stack of ring 0", _calls(Call.SET_STACK, 0x68, DATA, 1), "bad stack segment 104"),
    Case("deep stack", _calls(Call.SET_STACK, KERNEL_DS, DATA, 3), "bad stack pages 3"),
    Case(
        "no stack",
        _paged_call(Call.SET_STACK, KERNEL_DS, NOWHERE, 1),
        "bad stack page 0x6fffffff",
    ),
    Case(
        "outside is read",
        _calls(Call.LOAD_TLS, OUTSIDE),
        "bad read address 0xfffff000 len 24",
    ),
    Case(
        "outside is walked",
        _calls(Call.NEW_PGTABLE, OUTSIDE),
        "bad read address 0xfffff000 len 4",
    ),
    Case(
        "last words outside",
        lambda p: p.call(Call.SHUTDOWN if p.abi.name != "2.6.24" else Call.CRASH, OUTSIDE, 1),
        "bad read address 0xfffff000 len 128",
    ),
    Case(
        "outside is written",
        _a_trap_on_a_stack_below_all,
        "bad write address 0xfffffffc len 4",
    ),
    Case("a stack that is nowhere", _a_trap_while_nowhere, "Bad address 0x70000000"),
    Case("no more shadow pages", _shadow_pages_run_out, "out of memory allocating pte page"),
    Case("switcher", _TOUCHES_SWITCHER, "attempt to access switcher pages", EARLIER),
    Case(
        "switcher, newer",
        _TOUCHES_SWITCHER,
        "unhandled trap 14 at {eip} (0xffd00000)",
        NEWEST,
    ),
    Case(
        "switcher's entry, older",
        _SET_PTE_IN_SWITCHER,
        "attempt to access switcher pages",
        EARLIER,
    ),
    Case(
        "switcher's entry",
        _SET_PTE_IN_SWITCHER,
        "attempt to set pte into Switcher pages",
        NEWEST,
    ),
    Case("past the directory", _SET_PGD_PAST_END, "Attempt to set pgd 1025/1024", NEWEST),
    Case(
        "large page",
        _reads(4 << 20, {1: TABLE | PRESENT | PAGE_SIZE_BIT}),
        "bad page directory entry",
    ),
    Case("table outside", _reads(4 << 20, {1: OUTSIDE | PRESENT}), "bad page directory entry"),
    Case("page outside", _reads(5 << 12, p5=OUTSIDE | PRESENT), "bad page table entry"),
    Case(
        "large page in a table",
        _reads(5 << 12, p5=0x5000 | PRESENT | PAGE_SIZE_BIT),
        "bad page table entry",
    ),
    Case(
        "page outside, said",
        _paged_call(Call.SET_PTE, DIRECTORY, CODE, OUTSIDE | PRESENT),
        "bad page table entry",
    ),
    Case("invalid opcode", lambda p: p.last(UD2), "unhandled trap 6 at {eip} (0x0)"),
    Case("page fault", _reads(NOWHERE), "unhandled trap 14 at {eip} (0x70000000)"),
    Case("protection fault", _somebody_elses_segment, "unhandled trap 13 at {eip} (0x50)"),
    Case("breakpoint", lambda p: p.last(b"\xcc"), "unhandled trap 13 at {eip} (0x1a)"),
    Case("divide error", lambda p: p.last(b"\xd4\x00"), "unhandled trap 0 at {eip} (0x0)"),
    Case(
        "a segment that has gone",
        _a_segment_is_taken_away_while_in_use,
        "unhandled trap 256 at {eip} (0x0)",
    ),
)


# ---- what the Launcher says -------------------------------------------------------------------------


def _ring(device: int, queue: int, *pieces: tuple[int, int, int]) -> Callable[[Condemned], None]:
    def build(program: Condemned) -> None:
        program.find_devices()
        program.start(device)
        program.request(queue, *pieces)

    return build


def _rows(*rows: tuple[int, int, int, int]) -> Callable[[Condemned], None]:
    def build(program: Condemned) -> None:
        program.find_devices()
        program.start(CONSOLE.address)
        program.descriptors(SCREEN_QUEUE.address, *rows)

    return build


def _available(idx: int, head: int) -> Callable[[Condemned], None]:
    def build(program: Condemned) -> None:
        program.find_devices()
        program.start(CONSOLE.address)
        program.offer(SCREEN_QUEUE.address, bytes(PAGE_SIZE) + struct.pack("<HHH", 0, idx, head))

    return build


def _block_request(kind: int, sector: int, *pieces: tuple[int, int, int]) -> Callable[..., None]:
    def build(program: Condemned) -> None:
        program.find_devices()
        program.more.append((REQUEST, block_head(kind, sector)))
        program.start(BLOCK.address)
        program.request(BLOCK.queues[0].address, (REQUEST, 16, 0), *pieces)

    return build


def _finalized_twice(program: Condemned) -> None:
    program.start(CONSOLE.address)
    program.call(Call.NOTIFY, CONSOLE.address)
    program.call(Call.NOTIFY, CONSOLE.address)


_STATUS = (STATUS_1, 1, WRITE)
_BLOCK_RING, _RNG_RING = BLOCK.queues[0].address, RNG.queues[0].address
_TEXT = DATA

OF_THE_LAUNCHER = (
    Case("nobody", _calls(Call.NOTIFY, 0xF0000000), "Bad NOTIFY 0xf0000000"),
    Case(
        "rung too early",
        _calls(Call.NOTIFY, SCREEN_QUEUE.address),
        "Notification on console before setup!",
        FINAL_FEATURES,
    ),
    Case(
        "finalized twice",
        _finalized_twice,
        "Device console features finalized twice",
        FINAL_FEATURES,
    ),
    Case(
        "a screen that writes",
        _ring(CONSOLE.address, SCREEN_QUEUE.address, (_TEXT, 4, WRITE)),
        "Input buffers in console output queue?",
        WITH_DEVICES,
    ),
    Case(
        "a keyboard that reads",
        _ring(CONSOLE.address, KEYS_QUEUE.address, (_TEXT, 4, 0)),
        "Output buffers in console in queue?",
        WITH_DEVICES,
    ),
    Case(
        "numbers to the rng",
        _ring(RNG.address, _RNG_RING, (_TEXT, 4, 0)),
        "Output buffers in rng?",
        WITH_DEVICES,
    ),
    Case("a buffer outside", _rows((OUTSIDE, 4, 0, 0)), "Invalid address 0xfffff000", WITH_DEVICES),
    Case(
        "half a request",
        _ring(BLOCK.address, _BLOCK_RING, (HEADS, 8, 0), _STATUS),
        "iovec too short!",
        WITH_DEVICES,
    ),
    Case(
        "no status",
        _ring(BLOCK.address, _BLOCK_RING, (HEADS, 16, 0)),
        "Bad virtblk cmd with no room for status",
        WITH_DEVICES,
    ),
    Case(
        "a write past the end",
        _block_request(OUT, 15, (SECTORS, 1024, 0), _STATUS),
        "Write past end 7680+1024",
        WITH_DEVICES,
    ),
    Case(
        "a sector past all",
        _block_request(0, 1 << 60, (SECTORS, 512, WRITE), _STATUS),
        f"Bad seek to sector {1 << 60}",
        WITH_DEVICES,
    ),
    Case("many at once", _available(300, 0), "Guest moved used index from 0 to 300", WITH_DEVICES),
    Case("a head outside", _available(1, 256), "Guest says index 256 is available", WITH_DEVICES),
    Case("a loop", _rows((_TEXT, 1, NEXT, 0)), "Looped descriptor", WITH_DEVICES),
    Case(
        "out after in",
        _rows((_TEXT, 1, WRITE | NEXT, 1), (_TEXT, 1, 0, 0)),
        "Descriptor has out after in",
        WITH_DEVICES,
    ),
    Case("a next outside", _rows((_TEXT, 1, NEXT, 300)), "Desc next is 300", WITH_DEVICES),
    Case(
        "more than there is",
        _rows((CODE, 0x200000, NEXT, 1), (CODE, 0x200000, 0, 0)),
        "Chain of 4194304 bytes",
        WITH_DEVICES,
    ),
    Case(
        "indirect",
        _rows((_TEXT, 16, INDIRECT, 0)),
        "Indirect descriptor, which was not offered",
        WITH_DEVICES,
    ),
)

CASES = (*OF_THE_HOST, *OF_THE_LAUNCHER)

__all__ = ["ALL", "CASES", "Case", "condemned"]
