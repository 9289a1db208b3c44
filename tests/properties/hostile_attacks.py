"""Kernels that mean harm: what a hostile Guest has in its memory, as a function of a seed and a generation of lguest.

Random bytes alone die of the first trap. So an attack consists of *chapters*, pieces of random code, and every trap,
interrupt or end of a chapter leads to one handler that puts the stack right and begins the next. What a chapter does is
mostly plausible and now and then wild: hypercalls with any arguments, queued ones, page tables, descriptors, gates and
virtqueues (made here as pages, and moved by the code to where the Host looks for them), privileged and odd
instructions in rings 1 and 3, random bytes. How wild an attack is, and what it likes best, is drawn first.

An attack begins either at power-on, where it sets itself up as badly as it likes, or *settled*: as a kernel whose
prologue, made here too, has said hello and has a handler for every vector.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from hostvm.abi import Abi, Call, generation
from hostvm.lguest_data import RING_SLOTS
from hostvm.x86 import PAGE_SIZE
from tests.properties.hostile_kernels import (
    AVAILABLE,
    DATA,
    DESCRIPTORS,
    DIRECTORIES,
    HANDLER,
    KERNEL_ADDRESS,
    KERNEL_CS,
    KERNEL_DS,
    LIMIT,
    MEMORY,
    PAGE,
    PROLOGUE,
    REGISTERS,
    REQUESTS,
    ROOM,
    SEGMENTS,
    SOURCES,
    STACK,
    TABLES,
    TEXT,
    USER_CS,
    USER_DS,
    data_page,
    gate,
    good_segments,
    hypercall,
    jump_to_handler,
    mov,
    numbers_of,
    prologue,
    store,
    words,
)

CHAPTERS = 16
_CODE_SIZE = 4 * PAGE_SIZE
_CHAPTER_SIZE = 960
_JUMPS = ROOM + 0x100
_QUEUES = tuple(queue.address for device in PAGE.devices for queue in device.queues)
_STATUSES = tuple(device.status for device in PAGE.devices)
_DOORBELLS = (*_QUEUES, *(device.address for device in PAGE.devices), TEXT)
_NEAR = (0, 1, 0xFFC, HANDLER, STACK, DATA, *DIRECTORIES, *SOURCES, MEMORY, *_QUEUES, LIMIT - 4)
_FAR = (LIMIT, LIMIT + PAGE_SIZE, 0x40000000, KERNEL_ADDRESS, 0xFFBFFFFC, 0xFFC00000, 0xFFC01FB8)
_WILD = (*_FAR, 0xFFC02000, 0xFFC021A8, 0xFFFFF000, 0xFFFFFFFC, 0xFFFFFFFF, 0x80000000)

# Instructions that need a look: privileged, obsolete, or odd in one way or the other.
_ODD = tuple(
    bytes.fromhex(text)
    for text in (
        *("cd80", "cd1f", "cd0e", "cd02", "cd08", "cd20", "cc", "ce", "f1", "0f0b", "f4", "fa"),
        *("fb", "9c9d", "ec", "ed", "66ed", "ee", "ef", "e460", "e764", "6c", "6d", "f36e", "fafb"),
        *("0fa2", "0f31", "0f33", "0f32", "0f30", "0f34", "0f05", "0f09", "0f08", "0f20c0"),
        *("0f22d8", "0f22c0", "0f23f8", "0f21c0", "0f01e0", "0f01f0", "0f01c1", "0f01d9", "0f00d8"),
        *(
            "0f00d0",
            "0f00e0",
            "0f02c3",
            "0f03c3",
            "63d8",
            "8ed8",
            "8ee0",
            "8ed0",
            "8ec8",
            "1f",
            "17",
        ),
        *("9bd9e8", "d9fe", "d9f3", "dbe3", "ddd8", "d9f8", "0f06", "0f77", "0fae05", "660f7ec0"),
        *(
            "f7f0",
            "d400",
            "f0ff00",
            "f090",
            "0fc7c8",
            "0fc70e",
            "c9",
            "c8ff1f1f",
            "62c0",
            "d6",
            "f3ab",
        ),
        *("f3a4", "f2ae", "60", "61", "cf", "cb", "ff2e", "ffd4", "ffe4", "ff36", "8f00", "0fff"),
    )
)


@dataclass(frozen=True, slots=True)
class Attack:
    """`pages` are what the Guest has at guest-physical addresses; `settled`: the prologue has run before."""

    abi: str
    settled: bool
    pages: Mapping[int, bytes]


def _handler() -> bytes:
    """Mend the stack and the segments, count, and go to the next chapter."""
    segments = b"".join(b"\x6a" + bytes((KERNEL_DS,)) + pop for pop in (b"\x1f", b"\x07"))
    count = b"\xff\x05" + words(ROOM) + b"\xa1" + words(ROOM) + b"\x83\xe0" + bytes((CHAPTERS - 1,))
    return mov("esp", STACK) + segments + count + b"\xff\x24\x85" + words(_JUMPS)


def attack(seed: int, abi_name: str) -> Attack:
    """The attack of a seed."""
    return _Attacker(Random(f"{abi_name} {seed}"), generation(abi_name)).attack()


class _Attacker:
    """Draws everything from `r`."""

    def __init__(self, r: Random, abi: Abi) -> None:
        self.r = r
        self.abi = abi
        self.numbers = numbers_of(abi)
        self.calls = tuple(self.numbers)
        self.wildness = r.choice((0.0, 0.01, 0.05, 0.2, 0.6))
        kinds: tuple[Callable[[], bytes], ...] = (
            *(self.call, self.queue_call, self.store, self.copy, self.odd, self.noise, self.enter),
            *(self.pivot, self.flags, self.device, self.tables, self.wait, self.modify),
        )
        self.kinds = kinds
        self.weights = [r.choice((0, 1, 1, 3, 10)) for _ in kinds]
        self.weights[0] += 1
        self.sayings_of = self.sayings()

    def wild(self, plausible: int) -> int:
        """This, or now and then something else."""
        return self.argument() if self.r.random() < self.wildness else plausible

    def argument(self) -> int:
        r = self.r
        match r.randrange(6):
            case 0:
                return r.randrange(300)
            case 1:
                return r.choice(_NEAR)
            case 2:
                return r.choice(_WILD)
            case 3:
                return r.choice(_NEAR) + r.randrange(-16, PAGE_SIZE)
            case 4:
                return r.choice(_WILD) + r.randrange(-16, PAGE_SIZE)
            case _:
                return r.getrandbits(32)

    # ---- pieces of code ---------------------------------------------------------------------------

    def gate(self) -> tuple[int, ...]:
        r = self.r
        kind = r.choice((0xE, 0xE, 0xF, 0xF, self.wild(0xE) & 0x1F))
        address = self.wild(HANDLER + r.choice((0, 0, 0, r.randrange(64))))
        return r.randrange(256), *gate(address, kind, r.randrange(4))

    def stack(self) -> tuple[int, ...]:
        r = self.r
        segment = r.choice((KERNEL_DS, KERNEL_DS, r.randrange(32) << 3 | 1))
        return segment, r.choice((STACK, STACK, *_NEAR)), r.randrange(1, 3)

    def delay(self) -> int:
        r = self.r
        return r.choice((0, r.randrange(1, 60_000), r.randrange(1, 1 << 32)))

    def slot_number(self) -> int:
        r = self.r
        return r.choice((0, 1, KERNEL_ADDRESS >> 22, 1022, 1023, r.randrange(1026)))

    def sayings(self) -> Mapping[Call, Callable[[], tuple[int, ...]]]:
        """What a kernel might say with a call; others have small numbers."""
        r = self.r
        return {
            Call.LGUEST_INIT: lambda: (DATA,),
            Call.SHUTDOWN: lambda: (TEXT, r.choice((1, 2, 3))),
            Call.LOAD_GDT: lambda: (SEGMENTS, 32),
            Call.NEW_PGTABLE: lambda: (r.choice((*DIRECTORIES, *_NEAR)),),
            Call.LOAD_IDT_ENTRY: self.gate,
            Call.SET_STACK: self.stack,
            Call.SET_CLOCKEVENT: lambda: (self.delay(),),
            Call.SET_PTE: lambda: (r.choice(DIRECTORIES), self.address(), self.pte()),
            Call.SET_PGD: lambda: (r.choice(DIRECTORIES), self.slot_number()),
            Call.LOAD_TLS: lambda: (SEGMENTS + r.randrange(32) * 8,),
            Call.NOTIFY: lambda: (r.choice(_DOORBELLS),),
            Call.LOAD_GDT_ENTRY: lambda: (r.randrange(32), *self.segment()),
        }

    def full_call(self) -> tuple[int, ...]:
        """Number and four arguments."""
        call = self.r.choice(self.calls)
        if call in (Call.SHUTDOWN, Call.CRASH, Call.LGUEST_INIT) and self.r.random() < 0.9:
            call = Call.FLUSH_TLB
        say = self.sayings_of.get(call, lambda: (self.r.randrange(2), self.r.randrange(2)))
        said = (self.numbers[call], *say())
        return tuple(self.wild(value) for value in (*said, 0, 0, 0, 0)[:5])

    def call(self) -> bytes:
        return hypercall(self.abi, *self.full_call())

    def queue_call(self) -> bytes:
        """Into the ring, from where the next hypercall has it done."""
        slot = self.r.randrange(RING_SLOTS)
        status = self.r.choice((0, 0, 0, self.r.randrange(256)))
        begin = b"\xc6\x05" + words(DATA + self.abi.data.hcall_status + slot) + bytes((status,))
        at = DATA + self.abi.data.hcalls + slot * self.abi.data.slot_words * 4
        return begin + b"".join(
            store(at + 4 * index, value) for index, value in enumerate(self.slot(self.full_call()))
        )

    def slot(self, said: tuple[int, ...]) -> list[int]:
        return [said[argument] for argument in self.abi.slot_order]

    def address(self) -> int:
        r = self.r
        return self.wild(r.choice((HANDLER, STACK - 4, KERNEL_ADDRESS, *_NEAR)))

    def store(self) -> bytes:
        r = self.r
        layout = self.abi.data
        of_data = (0, 4, 8, layout.noirq_start, layout.noirq_start + 4, layout.reserve_mem)
        place = r.choice((DATA + r.choice(of_data), self.address(), r.choice(_STATUSES)))
        return store(self.wild(place), r.choice((0, 0x200, 7, 0x46, self.argument())))

    def copy(self) -> bytes:
        """Move prepared contents to where the Host looks."""
        r = self.r
        targets = (*_QUEUES, *(q + PAGE_SIZE for q in _QUEUES), MEMORY, *DIRECTORIES, DATA)
        code = mov("esi", r.choice(SOURCES)) + mov("edi", self.wild(r.choice(targets)))
        return code + mov("ecx", r.choice((16, 64, 256, 1024))) + b"\xfc\xf3\xa5"

    def odd(self) -> bytes:
        code = self.r.choice(_ODD)
        return mov(self.r.choice(REGISTERS[:3]), self.argument()) + code

    def noise(self) -> bytes:
        return self.r.randbytes(self.r.randrange(1, 12))

    def enter(self) -> bytes:
        """iret: to ring 3, or to ring 1 with other flags."""
        r = self.r
        target = self.wild(r.choice((HANDLER + 0x40, self.chapter_address())))
        flags = r.choice((0x202, 0x202, 0x2, 0x302, r.getrandbits(22)))
        frame: tuple[int, ...]
        if r.random() < 0.3:
            frame = (flags, self.wild(KERNEL_CS), target)
        else:
            frame = (self.wild(USER_DS), STACK - 0x400, flags, self.wild(USER_CS), target)
        return b"".join(b"\x68" + words(word) for word in frame) + b"\xcf"

    def chapter_address(self) -> int:
        return HANDLER + 0x100 + self.r.randrange(CHAPTERS) * _CHAPTER_SIZE

    def pivot(self) -> bytes:
        return mov("esp", self.wild(self.r.choice((STACK, STACK - 3, DATA + 0x800, *_WILD))))

    def flags(self) -> bytes:
        flags = self.r.choice((0x302, 0x4202, 0x40202, 0x602, self.r.getrandbits(22)))
        return b"\x68" + words(flags) + b"\x9d"

    def device(self) -> bytes:
        """Start a device with prepared rings, and ring."""
        r = self.r
        device = r.choice(PAGE.devices)
        queue = r.choice(device.queues).address
        code = b""
        for source, target in ((DESCRIPTORS, queue), (AVAILABLE, queue + PAGE_SIZE)):
            code += mov("esi", source + r.choice((0, 0, 16 * r.randrange(64))))
            code += mov("edi", target) + mov("ecx", 0x100) + b"\xfc\xf3\xa5"
        code += b"\xc6\x05" + words(device.status) + bytes((r.choice((7, 7, 4, 0, 0x87)),))
        notify = self.numbers[Call.NOTIFY]
        return code + b"".join(
            hypercall(self.abi, notify, self.wild(at)) for at in (device.address, queue, queue)
        )

    def tables(self) -> bytes:
        """Change an entry of a table in use, and perhaps tell."""
        r = self.r
        directory = r.choice(DIRECTORIES)
        code = hypercall(self.abi, self.numbers[Call.NEW_PGTABLE], self.wild(directory))
        if r.random() < 0.7:
            code += store(r.choice(TABLES) + 4 * r.randrange(0x140), self.pte())
        if r.random() < 0.5:
            code += hypercall(self.abi, self.numbers[Call.FLUSH_TLB], r.randrange(2))
        return code + (b"\xa1" + words(self.address()) if r.random() < 0.5 else b"")

    def wait(self) -> bytes:
        """Compute for a while, so that something may come in."""
        return mov("ecx", self.r.choice((10, 100, 1000))) + b"\xe2\xfe"

    def modify(self) -> bytes:
        """Write into code: a later chapter's, or this one's."""
        at = self.r.choice((self.chapter_address(), HANDLER + self.r.randrange(_CODE_SIZE)))
        return b"\xc6\x05" + words(at) + self.r.randbytes(1) if self.r.random() < 0.5 else b"\x90"

    def chapter(self, number: int) -> bytes:
        at = HANDLER + 0x100 + number * _CHAPTER_SIZE
        length = self.r.choice((40, 200, 700))
        code = b""
        while len(code) < length:
            code += self.r.choices(self.kinds, self.weights)[0]()
        code = code[: _CHAPTER_SIZE - 5]
        return code + jump_to_handler(at + len(code))

    # ---- pages ------------------------------------------------------------------------------------

    def pte(self) -> int:
        r = self.r
        page = r.choice((HANDLER, STACK - PAGE_SIZE, DATA, r.randrange(LIMIT)))
        flags = r.choice((0x67, 0x67, 0x27, 0x07, 0x05, 0x61, 0x167, r.randrange(1 << 12)))
        return self.wild(page & ~0xFFF | flags)

    def table(self) -> bytes:
        """Everything mapped to itself, but for a few entries."""
        entries = [page << 12 | 0x67 for page in range(PAGE.pfn_limit)]
        if self.wildness:
            for _ in range(self.r.randrange(1, 40)):
                entries[self.r.randrange(len(entries))] = self.pte()
        return words(*entries).ljust(PAGE_SIZE, b"\0")

    def directory(self, table: int) -> bytes:
        page = bytearray(PAGE_SIZE)
        for slot in (0, KERNEL_ADDRESS >> 22):
            page[slot * 4 : slot * 4 + 4] = words(self.wild(table | 0x67))
        for _ in range(self.r.randrange(6)):
            slot = self.r.randrange(1024)
            entry = self.r.choice(TABLES) | self.r.choice((0x67, 0x07, 0x01, 0x27))
            page[slot * 4 : slot * 4 + 4] = words(self.wild(entry))
        return bytes(page)

    def segment(self) -> tuple[int, int]:
        r = self.r
        kinds = (0x00CF9B00, 0x00CFFB00, 0x00CFF300, 0x00CF9300, 0x00409A00, 0x00009200)
        odd = (0x00008900, 0x0000EC00, 0x0000E500, 0x00008200, r.getrandbits(32))
        return self.wild(0xFFFF), r.choice((*kinds, *odd))

    def segments(self) -> bytes:
        table = bytearray(good_segments())
        for _ in range(self.r.randrange(12) if self.wildness else 0):
            at = self.r.randrange(32) * 8
            table[at : at + 8] = words(*self.segment())
        return bytes(table)

    def descriptors(self) -> bytes:
        """A virtqueue's descriptor table."""
        r = self.r
        page = b""
        for index in range(96):
            address = self.wild(r.choice((REQUESTS + r.randrange(16) * 16, TEXT, ROOM + 0x800)))
            length = r.choice((1, 16, 16, 512, 4096, self.wild(0)))
            following = self.wild(index + 1) & 0xFFFF
            high = 1 if r.random() < self.wildness / 4 else 0
            flags = r.choice((0, 1, 1, 2, 3, 3, self.wild(2) & 0xFFFF))
            page += words(address, high, length) + struct.pack("<HH", flags, following)
        return page.ljust(PAGE_SIZE, b"\0")

    def available(self) -> bytes:
        """What a driver makes available."""
        r = self.r
        heads = (self.wild(r.randrange(96)) & 0xFFFF for _ in range(256))
        idx = self.wild(r.randrange(1, 12)) & 0xFFFF
        return struct.pack("<258H", r.randrange(2), idx, *heads).ljust(PAGE_SIZE, b"\0")

    def requests(self) -> bytes:
        """Heads of a disk's requests."""
        r = self.r
        kinds = (0, 0, 1, 1, 4, 2, 8)
        parts = (
            words(self.wild(r.choice(kinds)), 0, self.wild(r.randrange(70)), 0) for _ in range(256)
        )
        return b"".join(parts)

    def ring(self) -> bytes:
        """A shared page with calls queued."""
        r = self.r
        layout = self.abi.data
        queued = r.choice((0, 0, 1, 10, RING_SLOTS))
        statuses = bytes(0 if slot < queued else 0xFF for slot in range(RING_SLOTS))
        page = data_page(layout, statuses)
        for slot in range(queued):
            at = layout.hcalls + slot * layout.slot_words * 4
            page[at : at + layout.slot_words * 4] = words(*self.slot(self.full_call()))
        return bytes(page)

    def setup(self) -> bytes:
        """A prologue of its own, as bad as it gets."""
        r = self.r
        good = prologue(self.abi)
        if r.random() < 0.3:
            cut = r.randrange(len(good))
            return good[:cut] + self.chapter(0)
        code = mov("esp", STACK) + hypercall(self.abi, self.wild(1), self.wild(DATA))
        return code + b"".join(self.call() for _ in range(r.randrange(30))) + good

    def attack(self) -> Attack:
        """All of it."""
        settled = self.r.random() < 0.8
        code = _handler().ljust(0x100, b"\x90")
        for number in range(CHAPTERS):
            code += self.chapter(number).ljust(_CHAPTER_SIZE, b"\x90")
        jumps = [HANDLER + 0x100 + number * _CHAPTER_SIZE for number in range(CHAPTERS)]
        pages = {HANDLER: code.ljust(_CODE_SIZE, b"\xcc")[:_CODE_SIZE]}
        pages[ROOM] = bytes(0x100) + words(*jumps)
        for directory, table in zip(DIRECTORIES, TABLES, strict=True):
            pages[directory] = self.directory(table)
            pages[table] = self.table()
        pages[SEGMENTS] = self.segments()
        pages[DESCRIPTORS] = self.descriptors()
        pages[AVAILABLE] = self.available()
        pages[REQUESTS] = self.requests()
        pages[TEXT] = self.r.choice((b"help\0", self.r.randbytes(200), b"x" * 4096))
        pages[DATA] = self.ring()
        if not settled:
            pages[PROLOGUE] = self.setup()[:PAGE_SIZE]
        return Attack(self.abi.name, settled, pages)
