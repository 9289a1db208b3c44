"""Annotations of hook points: what is in them, and that nothing in them is believed."""

from __future__ import annotations

import re

import capstone
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostvm.elf_image import ElfImage
from hostvm.errors import ConfigurationError
from hostvm.kernel_image import inspect_kernel
from hostvm.lguest_data import LAYOUT_3_2
from hostvm.memory_map import VMI_TEXT
from hostvm.switcher import shipped_image
from hostvm.vmi_shims import IRET_COPY, IRET_OFFSET, Shims, make_shims
from hostvm.vmi_sites import NATIVE, SECTION, Annotations, Kind, Site, Spares, read_annotations
from tests.hostvm.heron import (
    entries,
    heron_hooks,
    heron_image,
    sites_of,
    with_entry,
    with_header,
    with_section,
)

SYMBOLS = heron_image().symbols
USER_TEXT = 0x08048000


def refused(image: ElfImage) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read_annotations(image)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def shims() -> Shims:
    return make_shims("heron", heron_hooks(), LAYOUT_3_2)


def test_herons_hooks_are_of_every_kind_and_show_the_native_instruction_and_nops() -> None:
    assert {site.kind for site in heron_hooks().sites} == set(Kind)
    for site in heron_hooks().sites:
        code = heron_image().bytes_at(site.address, site.length)
        assert code == NATIVE[site.kind].ljust(site.length, b"\x90")


def test_the_hooks_of_the_string_form_are_in_the_spinlocks() -> None:
    """Inlined into C: in `write_text` and `wait_for_door`, which take locks."""
    for kind in (Kind.CLI, Kind.STI):
        near = [SYMBOLS.nearest(site.address) for site in sites_of(kind)]
        names = {found[0].name for found in near if found is not None}
        assert {"write_text", "wait_for_door"} <= names


def test_there_is_one_hook_for_sti_and_sysexit_and_no_nop_between_them() -> None:
    (site,) = sites_of(Kind.STI_SYSEXIT)
    assert heron_image().bytes_at(site.address, 3) == b"\xfb\x0f\x35"


def test_no_privileged_instruction_of_the_entry_code_is_outside_of_a_hook() -> None:
    start, end = SYMBOLS.address_of("trap_common"), SYMBOLS.address_of("switch_context")
    assert start is not None
    assert end is not None
    hooked = {site.address for site in heron_hooks().sites}
    code = heron_image().bytes_at(start, end - start)
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_32)
    privileged = {"cli", "sti", "iretd", "sysexit", "rdmsr", "wrmsr", "cpuid"}
    found = [
        address
        for address, _, name, operands in disassembler.disasm_lite(code, start)
        if name in privileged or "cr0" in operands
    ]
    behind_sti = {site.address + 1 for site in sites_of(Kind.STI_SYSEXIT)}
    assert set(found) - hooked == behind_sti
    assert len(found) > 10


def test_a_kernel_with_hooks_is_known_by_them() -> None:
    assert inspect_kernel("heron", heron_image().image).abi == "vmi"
    assert inspect_kernel("hello", shipped_image("hello.elf").image).abi == "3.2"


def test_a_kernel_without_hooks_is_refused_when_they_are_asked_for() -> None:
    assert refused(shipped_image("hello.elf")) == (
        "hello.elf: has no section .vmi_hooks, so nobody knows where its hooks are"
    )


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        (with_header(magic=b"VMIHOCKS"), "section .vmi_hooks does not begin with VMIHOOKS"),
        (with_header(version=2), "section .vmi_hooks is of version 2; this Host reads 1"),
        (with_header(start=0xC0000000), r"section .vmi_hooks has its entries at 0xc0000000\.\..*"),
        (with_header(end=0xC0FFFFFF), r"section .vmi_hooks has its entries at .*, which cannot be"),
        (with_header(shared=0xD0000000), "nothing is loaded at 0xd0000000"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(image: ElfImage, complaint: str) -> None:
    assert re.fullmatch(f"heron: {complaint}", refused(image))


def test_an_entry_that_makes_no_sense_is_refused_and_named() -> None:
    address, kind, length, _ = entries()[3]
    name = f"{Kind(kind).name} at {address:#x}"
    assert refused(with_entry(3, kind=9)) == (
        f"heron: the hook at {address:#x} is of kind 9; there are 1 to 8"
    )
    assert refused(with_entry(3, kind=0)).startswith(
        f"heron: the hook at {address:#x} is of kind 0"
    )
    assert refused(with_entry(3, spares=6)) == (
        f"heron: the hook at {address:#x} spares 0x6; only flags (1) are known"
    )
    assert refused(with_entry(3, length=0)) == (
        f"heron: the hook {name} has 0 bytes; its instruction has {len(NATIVE[Kind(kind)])}"
    )
    assert refused(with_entry(3, length=length + 1)).startswith(
        f"heron: the hook {name} has {length + 1} bytes, and not all behind its instruction"
    )
    elsewhere = address - 1
    there = heron_image().bytes_at(elsewhere, 1).hex()
    assert refused(with_entry(3, address=elsewhere, length=1)) == (
        f"heron: the hook {Kind(kind).name} at {elsewhere:#x} is none: {there} stands there"
    )


def test_hooks_that_overlap_are_refused_and_both_are_named() -> None:
    (first, second, *_) = heron_hooks().sites
    index = next(at for at, entry in enumerate(entries()) if entry[0] == second.address)
    said = refused(with_entry(index, address=first.address + 1))
    assert said == (
        f"heron: the hook {second.kind.name} at {first.address + 1:#x} "
        f"overlaps the {first.length} bytes of {first}"
    )


@pytest.mark.parametrize("address", [0, USER_TEXT, 0xC0104000, 0xFFFFFFF0])
def test_a_hook_outside_the_kernels_text_is_refused(address: int) -> None:
    kind, length = entries()[0][1:3]
    assert refused(with_entry(0, address=address)) == (
        f"heron: the hook {Kind(kind).name} at {address:#x}, {length} bytes, "
        f"is not in the kernel's text"
    )


def test_a_hook_that_ends_outside_the_kernels_text_is_refused() -> None:
    text = next(section for section in heron_image().sections if section.name == ".text")
    assert "is not in the kernel's text" in refused(
        with_entry(0, address=text.address + text.size - 1)
    )


def test_a_hook_without_room_for_a_jump_is_refused() -> None:
    short = tuple(
        Site(site.address, site.kind, 4, site.spares) if site.kind is Kind.IRET else site
        for site in heron_hooks().sites
    )
    hooks = Annotations(short, heron_hooks().shared_data, heron_hooks().shared_physical)
    with pytest.raises(ConfigurationError, match=r"IRET at .* has 4 bytes; a jump needs 5"):
        make_shims("heron", hooks, LAYOUT_3_2)


def test_more_hooks_than_there_is_room_for_are_refused() -> None:
    first = sites_of(Kind.IRET)[0]
    many = tuple(
        Site(type(first.address)(first.address + 8 * at), Kind.IRET, 5, Spares.NOTHING)
        for at in range(60)
    )
    hooks = Annotations(many, heron_hooks().shared_data, heron_hooks().shared_physical)
    with pytest.raises(ConfigurationError, match="its 60 hooks need 5280 bytes of code; there is"):
        make_shims("heron", hooks, LAYOUT_3_2)


def test_each_copy_in_the_region_has_its_iret_where_the_host_believes_it() -> None:
    made = shims()
    start, end = made.region
    assert start == VMI_TEXT
    assert end - start == IRET_COPY * (len(sites_of(Kind.IRET)) + len(sites_of(Kind.STI_SYSEXIT)))
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_32)
    for copy in range(0, end - start, IRET_COPY):
        code = made.text[copy : copy + IRET_COPY]
        lines = list(disassembler.disasm_lite(code, 0))
        assert [at for at, _, name, _ in lines if name == "iretd"] == [IRET_OFFSET]
        assert lines[0][2:] == ("push", "eax")
        assert sum(size for _, size, _, _ in lines) == IRET_COPY
        starts = {at for at, *_ in lines}
        jumps = [int(to, 16) for _, _, name, to in lines if name.startswith("j")]
        assert set(jumps) <= starts


def test_a_patch_is_as_long_as_its_site_and_what_remains_are_nops() -> None:
    made = shims()
    lengths = {site.address: site.length for site in heron_hooks().sites}
    assert {address: len(code) for address, code in made.patches.items()} == lengths
    (cli, *_) = sites_of(Kind.CLI)
    flag = heron_hooks().shared_data.to_bytes(4, "little")
    assert made.patches[cli.address] == b"\x36\xc7\x05" + flag + bytes(4)


def test_a_site_that_can_spare_no_flags_keeps_them() -> None:
    site = next(site for site in sites_of(Kind.STI) if site.spares is Spares.NOTHING)
    loose = next(site for site in sites_of(Kind.STI) if site.spares is Spares.FLAGS)
    made = shims()

    def first(of: Site) -> int:
        jump = made.patches[of.address]
        target = of.address + 5 + int.from_bytes(jump[1:5], "little", signed=True)
        return made.text[target - VMI_TEXT & 0xFFFFFFFF]

    assert first(site) == 0x9C
    assert first(loose) == 0x36


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255)), min_size=1, max_size=6))
def test_annotations_with_bytes_changed_are_read_or_refused_in_one_line(
    changes: list[tuple[int, int]],
) -> None:
    data = bytearray(next(s.data for s in heron_image().sections if s.name == SECTION))
    for at, value in changes:
        data[at % len(data)] = value
    image = with_section(bytes(data))
    try:
        make_shims("heron", read_annotations(image), LAYOUT_3_2)
    except ConfigurationError as refusal:
        complaint = str(refusal)
    else:
        complaint = ""
    assert "\n" not in complaint
