"""Kernel files: what they say of themselves, and which of them are turned down in one line."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
from collections.abc import Callable

import pytest

from hostvm.abi import GENERATIONS
from hostvm.errors import ConfigurationError
from hostvm.kernel_image import KernelFacts, inspect_kernel, linux_version
from hostvm.lguest_data import RING_SLOTS, DataLayout
from hostvm.lz_kernels import LZ4_MAGIC, LZO_MAGIC
from hostvm.switcher import shipped_image
from tests.hostvm.test_launcher import elf

ADDRESS = 0x1000000
VERSIONS = {
    "2.6.24": "2.6.24",
    "2.6.25.20": "2.6.27",
    "2.6.28": "2.6.27",
    "2.6.29": "2.6.29",
    "2.6.30": "2.6.30",
    "2.6.31": "2.6.32",
    "2.6.33.20": "2.6.32",
    "2.6.34": "2.6.37",
    "2.6.39.4": "2.6.37",
    "3.0": "2.6.37",
    "3.0.101": "2.6.37",
    "3.1": "3.2",
    "3.2.65": "3.2",
    "3.9.11": "3.2",
    "3.10": "3.10",
    "3.11.10": "3.10",
    "4.0.9": "3.10",
    "4.1": "4.1",
    "4.13.16": "4.1",
}


def shared_data(layout: DataLayout) -> bytes:
    """`struct lguest_data` as a compiler leaves it in a kernel."""
    data = bytearray(layout.size)
    data[layout.hcall_status : layout.hcall_status + RING_SLOTS] = b"\xff" * RING_SLOTS
    fields = (
        (layout.blocked_interrupts, 1),
        (layout.noirq_start, 0xC1001000),
        (layout.noirq_end, 0xC1001008),
        (layout.kernel_address, 0xC0000000),
        (layout.syscall_vec, 0x80),
    )
    for offset, value in fields:
        if offset is not None:
            struct.pack_into("<I", data, offset, value)
    return bytes(data)


def linux(version: str, *, layout: str | None = "3.2", text: bytes = b"") -> bytes:
    """A kernel as far as this module looks at it."""
    banner = f"Linux version {version} (somebody@somewhere) #1\n".encode()
    data = b"" if layout is None else shared_data(GENERATIONS[layout].data)
    content = b"code" * 16 + text + b"\0" + banner + bytes(64) + data + b"behind" + bytes(64)
    return elf((ADDRESS, content, len(content)), entry=ADDRESS)


def bzimage(payload: bytes, version: str, protocol: int = 0x20A) -> bytes:
    setup = bytearray(2 * 512)
    setup[0x1F1] = 1
    struct.pack_into("<4sH", setup, 0x202, b"HdrS", protocol)
    struct.pack_into("<H", setup, 0x20E, 0x300 - 512)
    struct.pack_into("<I", setup, 0x214, 0x100000)
    struct.pack_into("<II", setup, 0x248, 64, len(payload))
    struct.pack_into("<QI", setup, 0x258, ADDRESS, 1 << 20)
    words = f"{version} (somebody@somewhere) #1".encode()
    setup[0x300 : 0x300 + len(words)] = words
    return bytes(setup) + bytes(64) + payload + b"tail"


def refusal(content: bytes, abi: str | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        inspect_kernel("file", content, abi)
    text = str(caught.value)
    assert text.startswith("file: ")
    assert "\n" not in text
    return text


@pytest.mark.parametrize(("version", "abi"), VERSIONS.items())
def test_the_generation_follows_from_the_version(version: str, abi: str) -> None:
    facts = inspect_kernel("file", linux(version, layout=abi))
    assert facts.abi == abi
    assert facts.version == version


def test_data_of_another_layout_says_more_than_the_version() -> None:
    assert inspect_kernel("file", linux("3.2.65", layout="2.6.32")).abi == "2.6.32"


@pytest.mark.parametrize("abi", ["2.6.27", "2.6.32", "2.6.37", "3.2"])
def test_a_kernel_that_is_not_linux_is_known_by_its_data_and_its_first_hypercall(abi: str) -> None:
    image = shipped_image("kestrel.elf" if abi == "3.2" else f"kestrel-{abi}.elf").image
    assert inspect_kernel("file", image) == KernelFacts("", abi)


@pytest.mark.parametrize(
    ("layout", "first_call", "abi"),
    [
        ("2.6.27", b"\xb8\x01\0\0\0\xba1234\xcd\x1f", "2.6.27"),
        ("2.6.30", b"\xb8\x01\0\0\0\xbb1234\x0f\x01\xc1", "2.6.30"),
        ("2.6.32", b"\xb8\x01\0\0\0\xbb1234\x0f\x01\xc1", "2.6.32"),
        ("2.6.37", b"\xb8\x01\0\0\0\xbb1234\xcd\x1f", "2.6.37"),
    ],
)
def test_where_the_layout_gainsays_the_version_the_first_hypercall_tells_generations_apart(
    layout: str, first_call: bytes, abi: str
) -> None:
    assert inspect_kernel("file", linux("3.2.65", layout=layout, text=first_call)).abi == abi


@pytest.mark.parametrize("name", ["hello.elf", "kestrel-no-window.elf", "kestrel-short-window.elf"])
def test_the_other_shipped_kernels_are_of_the_usual_generation(name: str) -> None:
    assert inspect_kernel("file", shipped_image(name).image).abi == "3.2"


def test_what_the_user_says_is_believed() -> None:
    assert inspect_kernel("file", linux("3.2.65"), "3.10").abi == "3.10"
    assert inspect_kernel("file", linux("3.2.65", layout=None), "3.2").abi == "3.2"


@pytest.mark.parametrize(
    "compress",
    [
        gzip.compress,
        bz2.compress,
        lzma.compress,
        lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    ],
    ids=["gzip", "bzip2", "xz", "lzma"],
)
@pytest.mark.parametrize("protocol", [0x207, 0x20A])
def test_a_bzimage_is_looked_into(compress: Callable[[bytes], bytes], protocol: int) -> None:
    image = bzimage(compress(linux("3.11.0", layout="3.10")), "3.11.0", protocol)
    assert inspect_kernel("file", image).abi == "3.10"
    without = bzimage(compress(linux("3.11.0", layout=None)), "3.11.0", protocol)
    assert "CONFIG_LGUEST_GUEST" in refusal(without)


@pytest.mark.parametrize("compression", ["lz4", "lzop"])
def test_a_bzimage_packed_as_python_does_not_know_is_looked_into_too(compression: str) -> None:
    """Both are packed without any copy, which every unpacker must take."""

    def pack(kernel: bytes) -> bytes:
        if compression == "lz4":
            runs = b"\xff" * ((len(kernel) - 15) // 255) + bytes(((len(kernel) - 15) % 255,))
            block = b"\xf0" + runs + kernel
            return LZ4_MAGIC + struct.pack("<I", len(block)) + block
        header = struct.pack(">HHBIIIB", 0x0900, 0x2000, 1, 0, 0o644, 0, 0) + bytes(4)
        return LZO_MAGIC + header + struct.pack(">II", *[len(kernel)] * 2) + kernel + bytes(4)

    image = bzimage(pack(linux("3.11.0", layout="3.10")), "3.11.0")
    assert inspect_kernel("file", image).abi == "3.10"
    assert "CONFIG_LGUEST_GUEST" in refusal(bzimage(pack(linux("3.11.0", layout=None)), "3.11.0"))


def test_a_bzimage_of_unknown_compression_is_believed_by_its_version() -> None:
    facts = inspect_kernel("file", bzimage(b"\x89LZO" + bytes(100), "3.11.0"))
    assert (facts.version, facts.abi) == ("3.11.0", "3.10")


def test_a_damaged_payload_is_no_traceback() -> None:
    payload = bytearray(gzip.compress(linux("3.11.0")))
    payload[12:40] = b"\xff" * 28
    assert inspect_kernel("file", bzimage(bytes(payload), "3.11.0")).abi == "3.10"


@pytest.mark.parametrize("wrap", [bytes, lambda data: bzimage(gzip.compress(data), "3.2.65")])
def test_three_levels_of_page_tables_are_turned_down(wrap: Callable[[bytes], bytes]) -> None:
    kernel = wrap(linux("3.2.65", text=b"*pdpt = %016Lx "))
    assert "CONFIG_X86_PAE" in refusal(kernel)
    assert "CONFIG_X86_PAE" in refusal(kernel, "3.2")


def test_a_linux_without_lguest_is_turned_down() -> None:
    assert "without CONFIG_LGUEST_GUEST" in refusal(linux("3.2.65", layout=None))


def test_64_bits_are_turned_down_in_a_bzimage_too() -> None:
    wide = bytearray(linux("3.11.0"))
    wide[4] = 2
    assert "64-bit" in refusal(bytes(wide))
    assert "64-bit" in refusal(bzimage(gzip.compress(bytes(wide)), "3.11.0"))


def test_versions_outside_of_lguests_life_are_turned_down() -> None:
    assert "older than lguest" in refusal(linux("2.6.22"))
    assert "went with 4.14" in refusal(linux("4.14", layout="4.1"))


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"#!/bin/sh\n", bytes(4096), b"HdrS" * 200])
def test_other_files_are_turned_down(content: bytes) -> None:
    refusal(content)


def test_a_program_that_makes_no_hypercall_is_turned_down() -> None:
    program = elf((ADDRESS, b"\xb8\1\0\0\0\xcd\x80" * 9, 4096), entry=ADDRESS)
    assert "no lguest guest" in refusal(program)
    assert inspect_kernel("file", program, "3.2").abi == "3.2"


def test_our_own_guests_need_no_banner() -> None:
    facts = inspect_kernel("hello", shipped_image("hello.elf").image)
    assert (facts.version, facts.abi) == ("", "3.2")


def test_the_version_alone_is_found_without_a_look_at_the_rest() -> None:
    assert linux_version(linux("3.2.65", layout=None)) == "3.2.65"
    assert linux_version(bzimage(b"", "3.11.0")) == "3.11.0"
    assert linux_version(b"") == ""
