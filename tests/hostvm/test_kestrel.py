"""kestrel on the machine: all generations boot, processes keep apart, and a user's program is init."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TypeAlias

import pytest

from hostvm.abi import generation
from hostvm.elf_image import ElfImage, parse_elf
from hostvm.launcher import GuestConfig
from hostvm.machine import Machine
from hostvm.observations import EndReason, Hypercall, TrapReflected
from hostvm.units import Tick
from hostvm.world import DEVICE_VECTOR, Completion
from tests.hostvm.quiet_world import QuietWorld, machine_of
from tests.hostvm.user_programs import compiled, exit_with, newc, program

GUEST = Path(__file__).parents[2] / "hostvm" / "guest"
IMAGES = {
    "3.2": "kestrel.elf",
    "2.6.23": "kestrel-2.6.23.elf",
    "2.6.27": "kestrel-2.6.27.elf",
    "2.6.32": "kestrel-2.6.32.elf",
    "2.6.37": "kestrel-2.6.37.elf",
}
GENERATIONS = tuple(IMAGES)
LONGEST = Tick(20_000_000)
MEMORY = 8 << 20
MOV_MEMORY = {"cli": b"\xc7\x05", "sti": b"\xc7\x05", "popf": b"\xa3", "pushf": b"\xa1"}
NO_FPU = 7
KEYBOARD_IRQ = 1
NEW_PGTABLE, SET_STACK, TS, SET_PTE, SET_PGD, LOAD_TLS = 4, 7, 8, 14, 15, 16
LOAD_GDT, LOAD_GDT_ENTRY, SEND_INTERRUPTS = 3, 18, 19

Compile: TypeAlias = Callable[[str], bytes]

both = pytest.mark.parametrize("abi", GENERATIONS)


@cache
def kernel(abi: str) -> bytes:
    return files("hostvm").joinpath("guest", "images", IMAGES[abi]).read_bytes()


def boot(
    abi: str, line: str = "", initrd: bytes = b"", world: QuietWorld | None = None
) -> tuple[Machine, QuietWorld]:
    """kestrel after its last instruction."""
    guest = GuestConfig(kernel(abi), line, MEMORY, initrd, abi, IMAGES[abi])
    machine, world = machine_of(guest, world=world, digest_interval=1 << 20)
    machine.run(LONGEST)
    assert machine.finished, world.console[-400:]
    return machine, world


@cache
def usual_run(abi: str) -> QuietWorld:
    """The built-in programs, three rounds each, under many timer interrupts."""
    return boot(abi, "hz=10000 -- 3")[1]


@pytest.fixture(scope="module")
def compile_program(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """A function from C, with syscall() and main(), to an ELF file."""
    folder = tmp_path_factory.mktemp("programs")
    return lambda text: compiled(text, folder)


# ---- booting ------------------------------------------------------------------------------------


@both
def test_kestrel_boots_and_switches_itself_off(abi: str) -> None:
    world = usual_run(abi)
    assert [(end.reason, end.text) for end in world.ends] == [(EndReason.POWEROFF, "Power down")]
    lines = world.console.decode().splitlines()
    expected = f"kestrel: in ring 1 under lguest, generation {abi}, {MEMORY >> 10} KiB of memory"
    assert lines[:3] == [
        expected,
        'kestrel: command line is "hz=10000 -- 3"',
        "kestrel: no PC around us",
    ]
    assert "kestrel: init[1] is done, status 0" in lines


@both
def test_the_programs_compute_what_they_compute_on_any_processor(abi: str) -> None:
    lines = usual_run(abi).console.decode().splitlines()
    assert "mix: 3 rounds, checksum dcb7d2ca" in lines
    assert "crunch: 3 rounds, checksum 4eed1cbd" in lines


@both
def test_programs_that_share_the_fpu_and_are_preempted_lose_nothing(abi: str) -> None:
    world = usual_run(abi)
    traps = [o.vector for o in world.observations if isinstance(o, TrapReflected)]
    assert traps.count(NO_FPU) >= 8
    for process in (b"parent", b"child"):
        assert b"fpu: %b lost 0 of its numbers\n" % process in world.console
    quiet = boot(abi, "hz=10 -- 3")[1]
    sums = re.compile(rb"^(?:mix|crunch|calls):.*$", re.MULTILINE)
    assert sorted(sums.findall(quiet.console)) == sorted(sums.findall(world.console))


@both
def test_a_system_call_with_a_bad_argument_is_refused_and_harms_nobody(abi: str) -> None:
    assert b"calls: 0 wrong answers, maps " in usual_run(abi).console


@both
def test_parent_and_children_see_their_own_writes_only(abi: str) -> None:
    console = usual_run(abi).console.decode()
    children = re.findall(r"cow: child (\d) found (\w+) and leaves (\w+)", console)
    assert {number for number, _, _ in children} == {"1", "2", "3"}
    (before, after) = re.findall(r"cow: parent had (\w+) and has (\w+)", console)[0]
    assert {found for _, found, _ in children} == {before} == {after}
    assert len({left for _, _, left in children} | {before}) == 4
    copied = re.search(r"(\d+) pages copied", console)
    assert copied is not None
    assert int(copied.group(1)) >= 12


def test_the_generations_differ_in_how_the_guest_asks_and_not_in_what_it_does() -> None:
    def outcome(abi: str) -> list[bytes]:
        lines = usual_run(abi).console.splitlines()
        return sorted(line for line in lines if not line.startswith(b"kestrel:"))

    assert outcome("3.2") == outcome("2.6.37") == outcome("2.6.32") == outcome("2.6.27")
    assert outcome("3.2") == outcome("2.6.23")
    calls = {abi: usual_run(abi).observations for abi in GENERATIONS}
    numbers = {
        abi: {o.number for o in seen if isinstance(o, Hypercall)} for abi, seen in calls.items()
    }
    assert numbers["3.2"] - numbers["2.6.27"] == {LOAD_GDT_ENTRY, SEND_INTERRUPTS}
    assert numbers["2.6.27"] - numbers["3.2"] == {LOAD_GDT}
    assert numbers["2.6.32"] == numbers["2.6.37"] == numbers["3.2"]


@both
def test_hypercalls_that_can_wait_are_queued(abi: str) -> None:
    seen = [o for o in usual_run(abi).observations if isinstance(o, Hypercall)]
    assert {o.number for o in seen if o.queued} >= {
        NEW_PGTABLE,
        SET_STACK,
        TS,
        SET_PTE,
        SET_PGD,
        LOAD_TLS,
    }


# ---- what is patched, and where nothing may interrupt ------------------------------------------------


def words(machine: Machine, image: ElfImage, start: str, end: str) -> list[int]:
    first, last = image.address_of(start), image.address_of(end)
    return list(struct.unpack(f"<{(last - first) // 4}I", image.bytes_at(first, last - first)))


@both
def test_calls_of_the_flag_operations_are_replaced_by_their_templates(abi: str) -> None:
    machine, _ = boot(abi, "init=idle -- 1")
    image = parse_elf(IMAGES[abi], kernel(abi))
    table = words(machine, image, "__parainstructions_start", "__parainstructions_end")
    assert len(table) > 40
    patched = {0: "cli", 3: "pushf"}
    if abi in ("2.6.23", "2.6.27"):
        patched |= {1: "sti", 2: "popf"}
    memory = machine.guests[0].guest_memory
    for site, operation in zip(table[::2], table[1::2], strict=True):
        before, after = image.bytes_at(site, 10), memory.read(site - 0xC0000000, 10)
        assert before[0] == 0xE8
        assert before[5:] == b"\x90" * 5
        if operation in patched:
            assert after.startswith(MOV_MEMORY[patched[operation]])
        else:
            assert after == before


def words_at(image: ElfImage, address: int, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}I", image.bytes_at(address, 4 * count))


@both
def test_the_iret_has_the_window_that_the_host_was_told_of(abi: str) -> None:
    image = parse_elf(IMAGES[abi], kernel(abi))
    layout = generation(abi).data
    data = image.address_of("lguest_data")
    start, end = image.address_of("lguest_noirq_start"), image.address_of("lguest_noirq_end")
    told = image.bytes_at(data + layout.noirq_start, 8)
    assert struct.unpack("<II", told) == (start, end)
    store = b"\x36\xa3" + data.to_bytes(4, "little")
    assert image.bytes_at(end - 8, 8) == store + b"\x58\xcf"
    off = b"\x36\xc7\x05" + data.to_bytes(4, "little") + bytes(4)
    for entry in words_at(image, image.address_of("direct_entries"), 6):
        assert start <= entry < end
        assert image.bytes_at(entry, len(off)) == off
    assert image.symbols.by_name["lguest_data"].size == layout.size


# ---- a user's program -------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("status", [0, 7, 255])
def test_an_elf_file_as_ramdisk_is_init_and_its_status_is_reported(abi: str, status: int) -> None:
    _, world = boot(abi, initrd=program(exit_with(status)))
    assert f"kestrel: init[1] is done, status {status}\n".encode() in world.console
    assert world.ends[0].reason is EndReason.POWEROFF


@both
def test_an_archive_has_init_and_programs_that_it_starts(abi: str) -> None:
    # execve("/bin/next", 0, 0), or else exit with the error.
    name = 0x08048000 + 52 + 32 + 23
    init = b"\xb8\x0b\0\0\0\xbb" + name.to_bytes(4, "little") + b"\x31\xc9\x31\xd2\xcd\x80"
    init += b"\x89\xc3\xb0\x01\xcd\x80".ljust(23 - len(init), b"\x90")
    archive = newc(("init", program(init, b"/bin/next\0")), ("bin/next", program(exit_with(33))))
    _, world = boot(abi, initrd=archive)
    assert b"kestrel: next[1] is done, status 33\n" in world.console


@pytest.mark.parametrize(
    ("initrd", "error"),
    [
        (b"\x7fELF" + bytes(40), 8),
        (program(exit_with(0))[:60], 8),
        (program(exit_with(0)).replace(b"\x03\0\x01\0\0\0", b"\x28\0\x01\0\0\0"), 8),
        (newc(("other", b"x")), 2),
        (newc(("init", b"#!/bin/sh\n")), 8),
        (b"070701" + b"f" * 104 + b"init\0", 2),
    ],
)
def test_a_ramdisk_without_a_program_for_init_is_said_so(initrd: bytes, error: int) -> None:
    _, world = boot("3.2", "", initrd)
    assert world.ends[0].reason is EndReason.CRASHED
    assert world.ends[0].text == f"cannot start /init: error {error}"


@both
def test_a_compiled_program_uses_the_kernel_as_it_would_linuxs(
    abi: str, compile_program: Compile
) -> None:
    _, world = boot(abi, "-- first second", compile_program(_EVERYTHING))
    lines = world.console.decode().splitlines()
    assert [line for line in lines if line.startswith("WRONG")] == []
    assert len([line for line in lines if line.startswith("ok ")]) == 21
    assert "kestrel: init[1] is done, status 42" in lines


_EVERYTHING = r"""
static int equal(const char *a, const char *b) { while (*a && *a == *b) a++, b++; return *a == *b; }
static int zeros[3000], word = 5;
static int tls(void) { int v; asm volatile("movl %%gs:0, %0" : "=r"(v)); return v; }
static void sleep_ms(int ms) { int t[2] = { 0, ms * 1000000 }; syscall(162, (int)t, 0, 0, 0); }
static int child(void (*run)(void)) {
    int pid = syscall(2, 0, 0, 0, 0);
    if (!pid) { run(); syscall(1, 99, 0, 0, 0); }
    return wait();
}
static int own[4];
static double number = 1.5;
static void separate(void) {
    word = 6; own[0] = 0x55; number *= 3;
    int kept = tls() == 0x55;
    sleep_ms(3);
    syscall(1, kept && tls() == 0x55 && word == 6 && number == 4.5 ? 5 : 1, 0, 0, 0);
}
static void odd_flags(void) {
    /* DF and NT, and then faults and calls, which must not hurt the kernel. */
    asm volatile("pushfl\n orl $0x4400, (%%esp)\n popfl" ::: "memory");
    for (int i = 0; i < 3000; i += 100) zeros[i] = i;
    syscall(20, 0, 0, 0, 0);
    syscall(1, 6, 0, 0, 0);
}
static void stepping(void) {
    asm volatile("pushfl\n orl $0x100, (%%esp)\n popfl\n movl $1, %0" : "=m"(zeros[2900]));
}
static void cli(void) { asm volatile("cli"); }
static void hypercall(void) { asm volatile("int $0x1f" :: "a"(2)); }
static void breakpoint(void) { asm volatile("int3"); }
static void divide(void) { asm volatile("divl %0" :: "r"(0), "a"(1), "d"(0)); }
static void undefined(void) { asm volatile("ud2"); }
static void port(void) { asm volatile("inb $0x60, %%al" ::: "eax"); }
static void switcher(void) { *(volatile int *)0xffc00010 = 1; }
static void deep(void) { volatile char big[1 << 12]; big[0] = 1; deep(); big[1] = big[0]; }
int main(int argc, char **argv) {
    check("arguments", argc == 3 && equal(argv[0], "/init") && equal(argv[2], "second"));
    zeros[2999] += 1;
    check("bss", zeros[2999] == 1 && zeros[0] == 0);
    struct { int entry, base, limit, flags; } area = { -1, (int)own, 0xfffff, 0x51 };
    own[0] = 0x11223344;
    check("set_thread_area", syscall(243, (int)&area, 0, 0, 0) == 0 && area.entry == 6);
    asm volatile("movl %0, %%gs" :: "r"(area.entry << 3 | 3));
    check("tls", tls() == 0x11223344);
    int *map = (int *)syscall(192, 0, 0x5000, 3, 0x22);
    map[0x1400 - 1] = 7;
    check("mmap2", map[0] == 0 && map[0x1400 - 1] == 7);
    check("munmap", syscall(91, (int)map, 0x5000, 0, 0) == 0);
    int end = syscall(45, 0, 0, 0, 0);
    check("brk", syscall(45, end + 9000, 0, 0, 0) == end + 9000 && ((int *)end)[2000] == 0);
    check("brk back", syscall(45, end, 0, 0, 0) == end);
    check("child", child(separate) == 5 << 8);
    check("parent", word == 5 && own[0] == 0x11223344 && tls() == own[0] && number == 1.5);
    check("odd flags", child(odd_flags) == 6 << 8);
    check("single step", child(stepping) == 5);
    check("cli", child(cli) == 11);
    check("hypercall", child(hypercall) == 11);
    check("breakpoint", child(breakpoint) == 5);
    check("divide", child(divide) == 8);
    check("undefined", child(undefined) == 4);
    check("port", child(port) == 11);
    check("switcher", child(switcher) == 11);
    check("deep", child(deep) == 11);
    area.base = area.limit = 0; area.flags = 0x28;
    check("no more tls", syscall(243, (int)&area, 0, 0, 0) == 0);
    return 42;
}
"""


# ---- ends ---------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("write", r"page fault in the kernel at (c01\w+) \(deadbee0\)"),
        ("storm", r"page fault storm: (c01\w+) wants 00001000"),
    ],
)
def test_a_kernel_that_cannot_go_on_says_why_and_shows_its_registers(
    abi: str, how: str, text: str
) -> None:
    _, world = boot(abi, f"crash={how}")
    (end,) = world.ends
    assert end.reason is EndReason.CRASHED
    found = re.fullmatch(text, end.text)
    assert found is not None, end.text
    console = world.console.decode()
    assert f"kestrel: PANIC: {end.text}\nprocess 0 (idle)\neip {found.group(1)}  cs 0000" in console
    assert re.search(r"esi \w{8}  edi \w{8}  ebp \w{8}  esp c01\w{5}\n$", console)


@both
@pytest.mark.parametrize(("where", "address"), [("", "00000010"), (" -- kernel", "c0100000")])
def test_a_wild_program_is_ended_and_the_kernel_goes_on(abi: str, where: str, address: str) -> None:
    _, world = boot(abi, "init=wild" + where)
    assert b"page fault in wild[1] at 0804" in world.console
    assert f"({address})\nkestrel: wild[1] was killed by signal 11\n".encode() in world.console
    assert world.ends[0].reason is EndReason.POWEROFF


@both
def test_a_program_that_eats_all_memory_goes_before_the_kernel_does(
    abi: str, compile_program: Compile
) -> None:
    hungry = r"""
static void eat(void) {
    for (;;) {
        char *map = (char *)syscall(192, 0, 1 << 20, 3, 0x22);
        for (int i = 0; i < 1 << 20; i += 4096) map[i] = 1;
    }
}
int main(int argc, char **argv) {
    for (int i = 0; i < 3; i++) {
        if (!syscall(2, 0, 0, 0, 0)) eat();
        check("hungry child ended", wait() == 9);
    }
    return 3;
}
"""
    _, world = boot(abi, initrd=compile_program(hungry))
    assert world.console.count(b"ok hungry child ended") == 3
    assert b"init[1] is done, status 3" in world.console


@both
def test_kestrel_sleeps_without_a_clock_while_it_waits_for_the_keyboard(abi: str) -> None:
    guest = GuestConfig(kernel(abi), "init=echo", MEMORY, b"", abi, IMAGES[abi])
    machine, world = machine_of(guest)
    machine.run(LONGEST)
    assert machine.finished
    assert world.ends == []
    assert world.deadline is None
    assert world.console.endswith(b"echo: type something\n")


@dataclass
class Typist(QuietWorld):
    """A QuietWorld in which each interrupt of a device brings one line from the keyboard."""

    to_type: list[bytes] = field(default_factory=list)

    def completions(self, tick: Tick) -> tuple[Completion, ...]:
        return (Completion(0, 0, KEYBOARD_IRQ, self.to_type.pop(0)),)


@both
def test_what_is_typed_comes_back(abi: str) -> None:
    typed = [b"hello\n", b"exit\n"]
    lines = [(400_000 + 100_000 * number, DEVICE_VECTOR) for number in range(len(typed))]
    world: QuietWorld = Typist(lines, to_type=typed)
    _, world = boot(abi, "init=echo", world=world)
    assert b"echo: type something\nhello\necho: 6 bytes\n" in world.console


# ---- the images ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with all images built again, from a copy of the sources at another path."""
    for tool in ("gcc", "ld", "make", "nm"):
        if shutil.which(tool) is None:
            pytest.skip(f"KESTREL WAS NOT CHECKED AGAINST ITS SOURCES: there is no {tool} here")
    there = tmp_path_factory.mktemp("guest")
    shutil.copytree(GUEST, there / "copy", ignore=shutil.ignore_patterns("images"))
    make = [
        "make",
        "-s",
        "-C",
        str(there / "copy"),
        *(f"images/{name}" for name in IMAGES.values()),
    ]
    done = subprocess.run(make, capture_output=True, text=True, check=False)
    if done.returncode and "-m32" in done.stderr:
        pytest.skip("KESTREL WAS NOT CHECKED AGAINST ITS SOURCES: gcc has no -m32 here")
    assert done.returncode == 0, done.stderr
    return there / "copy" / "images"


@both
def test_the_committed_image_is_what_its_sources_build(abi: str, rebuilt: Path) -> None:
    name = IMAGES[abi]
    ours, again = parse_elf(name, kernel(abi)), parse_elf(name, (rebuilt / name).read_bytes())
    compilers = [re.findall(rb"GCC: \([^\0]*", image.image) for image in (ours, again)]
    if compilers[0] != compilers[1]:
        pytest.skip(f"{name} WAS NOT CHECKED AGAINST ITS SOURCES: another compiler built it")
    assert again.segments == ours.segments
    assert again.entry == ours.entry
    assert [(s.name, s.address) for s in again.symbols] == [
        (s.name, s.address) for s in ours.symbols
    ]


@both
def test_the_image_has_debugging_information_and_no_path_of_the_builders_machine(abi: str) -> None:
    data = kernel(abi)
    assert b".debug_info\0" in data
    assert b".debug_line\0" in data
    paths = set(re.findall(rb"\0(/[A-Za-z0-9_.-]+/[A-Za-z0-9_./-]+)(?=\0)", data))
    assert paths <= {
        b"/dev/console",
        b"/dev/net",
        b"/dev/null",
        b"/dev/tty",
        b"/dev/vda",
        b"/no/such/file",
        b"/no/such/program",
    }
