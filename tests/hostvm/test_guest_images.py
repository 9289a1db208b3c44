"""The built images: they are what their sources say, and nothing in them tells where they were built."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hostvm.elf_image import ElfImage, parse_elf
from hostvm.lguest_data import LAYOUT_3_2
from hostvm.memory_map import HOST_TEXT, HOST_TEXT_SIZE, SWITCHER_BASE, host_virtual
from hostvm.switcher import shipped_image

GUEST = Path(__file__).parents[2] / "hostvm" / "guest"
IMAGES = (
    "switcher.elf",
    "host.elf",
    "hello.elf",
    "kestrel-bugs.elf",
    "heron.elf",
    "heron-raw-iret.elf",
)
PAGE_OFFSET = 0xC0000000


def word(image: ElfImage, address: int) -> int:
    return int.from_bytes(image.bytes_at(address, 4), "little")


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ElfImage]:
    """All images built again, in a copy of the sources at another path."""
    for tool in ("gcc", "ld", "make", "nm"):
        if shutil.which(tool) is None:
            pytest.skip(
                f"THE IMAGES WERE NOT CHECKED AGAINST THEIR SOURCES: there is no {tool} here"
            )
    there = tmp_path_factory.mktemp("guest")
    probe = there / "probe.c"
    probe.write_text("int x;\n")
    command = ["gcc", "-m32", "-ffreestanding", "-c", str(probe), "-o", str(there / "probe.o")]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("THE IMAGES WERE NOT CHECKED AGAINST THEIR SOURCES: gcc has no -m32 here")
    shutil.copytree(GUEST, there / "copy", ignore=shutil.ignore_patterns("images"))
    make = ["make", "-s", "-C", str(there / "copy")]
    done = subprocess.run(make, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    out = there / "copy" / "images"
    return {name: parse_elf(name, (out / name).read_bytes()) for name in IMAGES}


def compiler(image: ElfImage) -> bytes:
    found = re.search(rb"GCC: \([^\0]*", image.image)
    return found.group() if found else b"no compiler"


@pytest.mark.parametrize("name", IMAGES)
def test_the_committed_image_is_what_its_sources_build(
    name: str, rebuilt: dict[str, ElfImage]
) -> None:
    ours, again = shipped_image(name), rebuilt[name]
    if compiler(ours) != compiler(again):
        pytest.skip(
            f"{name} WAS NOT CHECKED AGAINST ITS SOURCES: built by "
            f"{compiler(ours).decode()}, here is {compiler(again).decode()}"
        )
    assert again.segments == ours.segments
    assert again.entry == ours.entry
    assert {s.name: s.address for s in again.symbols} == {s.name: s.address for s in ours.symbols}


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_has_debugging_information_and_no_path_of_the_builders_machine(name: str) -> None:
    data = shipped_image(name).image
    assert b".debug_info\0" in data
    assert b".debug_line\0" in data
    assert not re.search(rb"\0/[A-Za-z0-9_.-]+/[A-Za-z0-9_./-]+\0", data)


def test_the_switcher_is_linked_where_it_runs() -> None:
    assert shipped_image("switcher.elf").address_of("start_switcher_text") == SWITCHER_BASE


def test_the_hosts_text_is_linked_where_the_host_maps_it() -> None:
    image = shipped_image("host.elf")
    (segment,) = image.segments
    assert segment.vaddr == host_virtual(HOST_TEXT)
    assert segment.memsz <= HOST_TEXT_SIZE
    assert image.address_of("host_loop") == segment.vaddr


def test_hello_is_linked_like_linux() -> None:
    image = shipped_image("hello.elf")
    assert image.entry == image.address_of("startup_32") - PAGE_OFFSET
    by_address = {segment.paddr: segment for segment in image.segments}
    assert by_address[0x100000].vaddr == PAGE_OFFSET + 0x100000
    kernel = [segment for segment in image.segments if segment.vaddr >= PAGE_OFFSET]
    assert all(segment.vaddr - segment.paddr == PAGE_OFFSET for segment in kernel)


def test_hello_presents_lguest_data_as_the_host_expects_it() -> None:
    image = shipped_image("hello.elf")
    data = image.address_of("lguest_data")
    layout = LAYOUT_3_2
    assert image.symbols.by_name["lguest_data"].size == layout.size
    assert layout.kernel_address is not None
    assert layout.syscall_vec is not None
    assert word(image, data + layout.blocked_interrupts) == 1
    assert image.bytes_at(data + layout.hcall_status, 64) == b"\xff" * 64
    assert word(image, data + layout.noirq_start) == image.address_of("lguest_noirq_start")
    assert layout.noirq_end is not None
    assert word(image, data + layout.noirq_end) == image.address_of("lguest_noirq_end")
    assert word(image, data + layout.kernel_address) == PAGE_OFFSET
    assert word(image, data + layout.syscall_vec) == 0x80


def test_hellos_window_without_interrupts_is_the_store_the_pop_and_the_iret() -> None:
    image = shipped_image("hello.elf")
    start, end = image.address_of("lguest_noirq_start"), image.address_of("lguest_noirq_end")
    data = image.address_of("lguest_data").to_bytes(4, "little")
    assert image.bytes_at(start, end - start) == b"\x36\xa3" + data + b"\x58\xcf"
