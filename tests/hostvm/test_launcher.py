"""The Launcher: a kernel file becomes a Guest's memory, or one line says why it does not."""

from __future__ import annotations

import gzip
import hashlib
import struct
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostvm.abi import generation
from hostvm.devices.config import BlockConfig, NetConfig, RngConfig, SharedNetConfig
from hostvm.devices.descriptor_page import lay_out_devices
from hostvm.devices.lguest_bus import lay_out_bus
from hostvm.elf_image import SymbolTable, parse_elf
from hostvm.errors import ConfigurationError
from hostvm.launcher import GuestConfig, LoadedGuest, _first_tables, load_guest
from hostvm.launcher_abi import KERNEL_OFFSET, boot_protocol
from hostvm.memory import PhysicalMemory
from hostvm.memory_map import GUEST_AREA, SWITCHER_BASE, guest_slice_size
from hostvm.switcher import shipped_image
from hostvm.units import HostPhysical

MIB = 1 << 20
BASE = HostPhysical(GUEST_AREA)


def elf(
    *segments: tuple[int, bytes, int],
    entry: int = MIB,
    kind: int = 2,
    machine: int = 3,
    elf_class: int = 1,
    above: int = 0,
) -> bytes:
    """An ELF file with segments (physical address, content, memory size), linked `above` their addresses."""
    start = 52 + 32 * len(segments)
    headers, body = b"", b""
    for paddr, data, memsz in segments:
        at = start + len(body)
        headers += struct.pack("<8I", 1, at, paddr + above, paddr, len(data), memsz, 7, 4096)
        body += data
    ident = b"\x7fELF" + bytes((elf_class, 1, 1)) + bytes(9)
    rest = (kind, machine, 1, entry, 52, 0, 0, 52, 32, len(segments), 40, 0, 0)
    return ident + struct.pack("<HHIIIIIHHHHHH", *rest) + headers + body


KERNEL = elf((MIB, b"text" * 1000, 8192), (2 * MIB, b"data", 4096))


def in_a_bzimage(kernel: bytes) -> bytes:
    """A bzImage with nothing but a compressed kernel behind its setup sectors."""
    setup = bytearray(512 * 2)
    setup[0x1F1] = 1
    struct.pack_into("<4sH", setup, 0x202, b"HdrS", 0x207)
    struct.pack_into("<I", setup, 0x214, MIB)
    return bytes(setup) + gzip.compress(kernel)


def load(config: GuestConfig) -> tuple[LoadedGuest, PhysicalMemory]:
    memory = PhysicalMemory(BASE, guest_slice_size(config.memory))
    return load_guest(memory, BASE, config), memory


def refusal(config: GuestConfig) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(config)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_segments_go_to_their_physical_addresses_and_nothing_else_is_touched() -> None:
    _, memory = load(GuestConfig(KERNEL, memory=4 * MIB))
    assert memory.read(BASE + MIB, 4000) == b"text" * 1000
    assert memory.read(BASE + 2 * MIB, 4) == b"data"
    assert not any(memory.read(BASE + 0x2000, MIB - 0x2000))
    assert not any(memory.read(BASE + 2 * MIB + 4, 2 * MIB - 4))


def test_a_guest_starts_at_its_entry_point() -> None:
    loaded, _ = load(GuestConfig(KERNEL, memory=4 * MIB))
    assert loaded.start == MIB
    assert loaded.pgdir is None


def test_a_guest_may_name_the_device_pages_above_its_memory() -> None:
    loaded, memory = load(GuestConfig(KERNEL, memory=4 * MIB, devices=(RngConfig(),)))
    page = lay_out_devices(4 * MIB, (RngConfig(),))
    assert memory.read(BASE + 4 * MIB, len(page.content) + 1) == page.content + b"\0"
    assert (loaded.pfn_limit, loaded.devices) == (1025 + 9, page.devices)


def test_the_first_descriptors_of_virtio_are_lists_of_fields() -> None:
    config = GuestConfig(KERNEL, memory=4 * MIB, abi="2.6.24", devices=(BlockConfig(16),))
    loaded, memory = load(config)
    assert (loaded.pfn_limit, len(loaded.devices)) == (1025 + 3 * 2, 2)
    disk = bytes.fromhex("021a00 0208 8000 0100 01040000 4108 1000000000000000 4304 7e000000")
    console = bytes.fromhex("031400 0208 8000 0200 03040000 0208 8000 0300 05040000")
    assert memory.read(BASE + 4 * MIB, 53) == disk + console + b"\0"
    without = replace(config, devices=(RngConfig(),))
    assert refusal(without) == "lguest 2.6.24 has no device rng"


def test_the_first_network_cards_of_virtio_say_their_address_in_a_field() -> None:
    card = NetConfig(bytes.fromhex("020000000001"))
    loaded, memory = load(GuestConfig(KERNEL, memory=4 * MIB, abi="2.6.24", devices=(card,)))
    assert (loaded.pfn_limit, len(loaded.devices)) == (1025 + 4 * 2, 2)
    says = bytes.fromhex("011c00 0208 8000 0100 01040000 0208 8000 0200 03040000 4106 020000000001")
    assert memory.read(BASE + 4 * MIB, len(says)) == says


def test_the_devices_of_2_6_23_are_an_array_with_pages_behind_it() -> None:
    devices = (SharedNetConfig(3), BlockConfig(16))
    page = lay_out_bus(4 * MIB, devices)
    assert page.pfn_limit == 1025 + 2
    rows = [struct.unpack_from("<HHHHI", page.content, 12 * n) for n in range(4)]
    assert rows == [
        (2, 0x4003, 0, 1, 1025),
        (3, 0x8000, 0, 1, 1026),
        (1, 0, 0, 0, 0),
        (0, 0, 0, 0, 0),
    ]
    assert struct.unpack_from("<I", page.content, 2 * 4096 + 16) == (16,)
    assert page.shared == ((1025 * 4096, 0),)
    assert [device.queues[0].irq for device in page.devices] == [1, 2, 3]


def test_boot_parameters_tell_what_linux_asks_for() -> None:
    initrd = b"ramdisk" * 1000
    config = GuestConfig(KERNEL, command_line="console=hvc0", memory=16 * MIB, initrd=initrd)
    loaded, memory = load(config)
    page = memory.read(BASE, 4096)
    assert page[0x1E8] == 1
    assert struct.unpack_from("<QQI", page, 0x2D0) == (0, 16 * MIB, 1)
    assert struct.unpack_from("<H", page, 0x206) == (0x207,)
    assert page[0x211] == 0x40
    assert struct.unpack_from("<I", page, 0x230) == (0x1000000,)
    assert struct.unpack_from("<I", page, 0x23C) == (1,)
    (line,) = struct.unpack_from("<I", page, 0x228)
    assert memory.read(BASE + line, 13) == b"console=hvc0\0"
    assert page[0x210] == 0xFF
    start, size = struct.unpack_from("<II", page, 0x218)
    assert (start, size) == (loaded.initrd_start, loaded.initrd_size) == (16 * MIB - 8192, 7000)
    assert memory.read(BASE + start, size) == initrd


def test_without_an_initrd_there_is_no_trace_of_one() -> None:
    loaded, memory = load(GuestConfig(KERNEL, memory=4 * MIB))
    assert memory.read(BASE + 0x210, 1) == b"\0"
    assert memory.read(BASE + 0x218, 8) == bytes(8)
    assert (loaded.initrd_start, loaded.initrd_size, loaded.initrd_sha256) == (0, 0, "")


def test_older_generations_have_no_kernel_alignment_but_page_tables() -> None:
    loaded, memory = load(GuestConfig(KERNEL, memory=6 * MIB, abi="2.6.27"))
    assert memory.read(BASE + 0x230, 4) == bytes(4)
    assert loaded.pgdir == 6 * MIB - 4096
    directory = struct.unpack("<1024I", memory.read(BASE + loaded.pgdir, 4096))
    assert not any(directory[2:])
    entries = b"".join(memory.read(BASE + (slot & ~0xFFF), 4096) for slot in directory[:2])
    words = struct.unpack("<2048I", entries)
    assert words[:1536] == tuple(page << 12 | 7 for page in range(1536))
    assert not any(words[1536:])


@pytest.mark.parametrize("abi", ["2.6.29", "2.6.30", "2.6.32", "2.6.37"])
def test_later_tables_have_all_memory_at_the_kernels_addresses_too(abi: str) -> None:
    initrd = bytes(5000)
    loaded, memory = load(GuestConfig(KERNEL, memory=6 * MIB, abi=abi, initrd=initrd))
    assert loaded.pgdir == 6 * MIB - 8192 - 4096
    assert memory.read(BASE + 0x230, 4) == bytes(4)
    directory = struct.unpack("<1024I", memory.read(BASE + loaded.pgdir, 4096))
    assert {slot for slot, entry in enumerate(directory) if entry} == {0, 1, 768, 769}
    assert directory[:2] == directory[768:770]
    (second,) = struct.unpack("<I", memory.read(BASE + (directory[1] & ~0xFFF), 4))
    assert second == 4 * MIB | 7


def slots_in_use(kernel: bytes, abi: str) -> set[int]:
    loaded, memory = load(GuestConfig(kernel, memory=6 * MIB, abi=abi))
    assert loaded.pgdir is not None
    directory = struct.unpack("<1024I", memory.read(BASE + loaded.pgdir, 4096))
    return {slot for slot, entry in enumerate(directory) if entry}


@pytest.mark.parametrize("offset", [0x40000000, 0x80000000, 0xB0000000])
@pytest.mark.parametrize("wrap", [bytes, in_a_bzimage], ids=["vmlinux", "bzImage"])
def test_later_tables_have_it_where_a_kernel_with_another_split_is_linked(
    offset: int, wrap: Callable[[bytes], bytes]
) -> None:
    kernel = wrap(elf((MIB, b"text" * 1000, 8192), above=offset))
    slot = offset >> 22
    assert slots_in_use(kernel, "2.6.32") == {0, 1, slot, slot + 1}


@pytest.mark.parametrize("offset", [0x1000, 0x200000])
def test_a_kernel_linked_where_no_table_can_have_it_gets_the_usual_tables(offset: int) -> None:
    kernel = elf((MIB, b"text" * 1000, 8192), above=offset)
    assert slots_in_use(kernel, "2.6.37") == {0, 1, 768, 769}


@pytest.mark.parametrize("memory", [1021 * MIB, 1024 * MIB, 2048 * MIB])
def test_tables_of_a_guest_with_much_memory_lie_where_it_has_an_address_for_them(
    memory: int,
) -> None:
    """The Guest writes to its directory at 3 GiB and so much; from there on upwards is the Switcher."""
    protocol = boot_protocol(generation("2.6.32"))
    (directory, slots), _ = _first_tables(protocol, memory, memory, KERNEL_OFFSET)
    assert (directory, len(slots)) == (SWITCHER_BASE - KERNEL_OFFSET - 4096, 4096)


def test_page_tables_lie_below_the_initrd() -> None:
    config = GuestConfig(KERNEL, memory=6 * MIB, abi="2.6.24", initrd=bytes(5000))
    loaded, _ = load(config)
    assert loaded.initrd_start == 6 * MIB - 8192
    assert loaded.pgdir == 6 * MIB - 8192 - 4096


def test_a_bzimage_goes_to_one_mebibyte_without_its_setup_sectors() -> None:
    image = bytearray(512 * 3) + b"protected mode"
    image[0x1F1] = 2
    image[0x202:0x206] = b"HdrS"
    image[0x214:0x218] = struct.pack("<I", MIB)
    loaded, memory = load(GuestConfig(bytes(image), memory=4 * MIB))
    assert loaded.start == MIB
    assert memory.read(BASE + MIB, 15) == b"protected mode\0"
    assert len(loaded.symbols) == 0


def test_the_files_are_known_by_their_hashes() -> None:
    loaded, _ = load(GuestConfig(KERNEL, memory=4 * MIB, initrd=b"x"))
    assert loaded.kernel_sha256 == hashlib.sha256(KERNEL).hexdigest()
    assert loaded.initrd_sha256 == hashlib.sha256(b"x").hexdigest()


@pytest.mark.parametrize(
    ("looked_for", "line", "runs"),
    [
        (b"\0nokaslr\0", "console=hvc0", False),
        (b"\0nokaslr\0", "console=hvc0 nokaslr panic=1", True),
        (b"\0nokaslr\0", "nokaslrs", False),
        (b"\0kaslr\0", "console=hvc0", True),
        (b"\0kaslr\0", "kaslr console=hvc0", False),
        (b"\0kasl\0", "kaslr", True),
    ],
)
def test_a_bzimage_that_would_choose_its_place_by_chance_is_told_not_to(
    looked_for: bytes, line: str, runs: bool
) -> None:
    kernel = in_a_bzimage(KERNEL) + b"text" + looked_for
    config = GuestConfig(kernel, line, memory=4 * MIB, name="bzImage")
    if runs:
        assert load(config)[0].start == MIB
    else:
        assert refusal(config).startswith("bzImage: with CONFIG_RANDOMIZE_BASE")


# ---- the user's mistakes ------------------------------------------------------------------------

CONFIG = GuestConfig(KERNEL, memory=4 * MIB, name="vmlinux")


@pytest.mark.parametrize(
    ("kernel", "says"),
    [
        (b"", "vmlinux: neither an ELF file nor a bzImage"),
        (b"#!/bin/sh\n" * 100, "vmlinux: neither an ELF file nor a bzImage"),
        (b"\x7fELF", "vmlinux: the ELF header is cut off"),
        (elf((MIB, b"x", 1), elf_class=2), "vmlinux: a 64-bit ELF file"),
        (elf((MIB, b"x", 1), machine=40), "machine 40"),
        (elf((MIB, b"x", 1), kind=1), "type 1"),
        (elf((MIB, b"x", 1), kind=3), "type 3"),
        (elf(), "nothing in it is to be loaded"),
        (elf((MIB, b"x" * 100, 100))[:-1], "the segment for 0x100000 is cut off"),
        (elf((MIB, b"xx", 1)), "the segment for 0x100000 is cut off"),
        (elf((MIB, b"x", 1))[:60], "the program header is cut off"),
        (elf(*[(MIB, b"", 0)] * 65), "65 program headers"),
        (elf((4 * MIB, b"x", 1)), "reaches up to 0x400001; 4 MiB of memory are too little"),
        (elf((MIB, b"x", 3 * MIB + 1)), "too little"),
        (elf((0xFFFFF000, b"x", 0xFFFFFFFF)), "too little"),
        (elf((MIB, b"x", 1), entry=0xC0100000), "starts at 0xc0100000, which is no physical"),
    ],
)
def test_a_kernel_that_does_not_fit_is_refused_in_one_line(kernel: bytes, says: str) -> None:
    assert says in refusal(replace(CONFIG, kernel=kernel))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"memory": 0}, "0 bytes of memory"),
        ({"memory": -4096}, "-4096 bytes of memory"),
        ({"memory": 4 * MIB + 1}, "not a number of whole pages"),
        ({"command_line": "x" * 2048}, "2048 bytes; a Guest reads 2047"),
        ({"initrd": bytes(5 * MIB)}, "the initrd has 5 MiB; the Guest has 4 MiB"),
        ({"initrd": bytes(3 * MIB)}, "too little beside its initrd"),
        ({"abi": "2.6.23"}, "linked 0x0 above its physical addresses"),
        ({"abi": "9.9"}, "no lguest generation"),
    ],
)
def test_an_impossible_wish_is_refused_in_one_line(changes: dict[str, object], says: str) -> None:
    assert says in refusal(replace(CONFIG, **changes))  # type: ignore[arg-type]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8), st.integers(0))
def test_whatever_a_kernel_file_contains_it_is_loaded_or_refused(
    patches: list[tuple[int, int]], cut: int
) -> None:
    image = bytearray(shipped_image("hello.elf").image)
    for index, (at, value) in enumerate(patches):
        image[at if index % 2 else len(image) - 1 - at] = value
    image = image[: len(image) - cut % (2 * len(image))] if cut % 3 == 0 else image
    memory = PhysicalMemory(BASE, guest_slice_size(4 * MIB))
    said = ""
    try:
        loaded = load_guest(memory, BASE, GuestConfig(bytes(image), memory=4 * MIB))
        assert all(symbol.name for symbol in loaded.symbols)
    except ConfigurationError as error:
        said = str(error)
    assert "\n" not in said


# ---- symbols ------------------------------------------------------------------------------------


def test_symbols_are_those_that_another_reader_finds() -> None:
    elffile = pytest.importorskip("elftools.elf.elffile")
    path = shipped_image("hello.elf")
    import io

    table = elffile.ELFFile(io.BytesIO(path.image)).get_section_by_name(".symtab")
    wanted = ("STT_FUNC", "STT_OBJECT", "STT_NOTYPE")
    theirs = {
        (symbol.name, symbol["st_value"])
        for symbol in table.iter_symbols()
        if symbol.name and symbol["st_info"]["type"] in wanted and symbol["st_shndx"] != "SHN_UNDEF"
    }
    assert {(symbol.name, symbol.address) for symbol in path.symbols} == theirs


def test_an_address_is_told_as_symbol_and_offset() -> None:
    symbols = shipped_image("hello.elf").symbols
    start = symbols.address_of("start_kernel")
    assert start is not None
    found = symbols.nearest(start + 5)
    assert found is not None
    assert (found[0].name, found[1]) == ("start_kernel", 5)


def test_an_address_outside_all_symbols_has_no_name() -> None:
    assert SymbolTable(()).nearest(0x1000) is None
    assert shipped_image("hello.elf").symbols.nearest(0x10) is None
    assert shipped_image("hello.elf").symbols.address_of("no_such_name") is None


def test_a_missing_symbol_or_range_names_the_file() -> None:
    image = parse_elf("vmlinux", KERNEL)
    with pytest.raises(ConfigurationError, match="vmlinux: has no symbol start"):
        image.address_of("start")
    with pytest.raises(ConfigurationError, match="vmlinux: nothing is loaded at 0x0"):
        image.bytes_at(0, 4)
