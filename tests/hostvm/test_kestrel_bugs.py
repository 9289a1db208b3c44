"""The kernels with a bug are kestrel but for the two words that the Host is told."""

from __future__ import annotations

import pytest

from hostvm.elf_image import ElfImage, parse_elf
from hostvm.lguest_data import LAYOUT_3_2
from replay.catalogue import find_kernel

BUGS = ("kestrel-no-window", "kestrel-short-window")


def image_of(name: str) -> ElfImage:
    return parse_elf(name, find_kernel(name).content)


@pytest.mark.parametrize("name", BUGS)
def test_a_kernel_with_a_bug_differs_in_the_window_and_nowhere_else(name: str) -> None:
    right, wrong = image_of("kestrel"), image_of(name)
    data = right.address_of("lguest_data")
    window = range(data + LAYOUT_3_2.noirq_start, data + LAYOUT_3_2.noirq_end + 4)
    for ours, theirs in zip(right.segments, wrong.segments, strict=True):
        assert ours.vaddr == theirs.vaddr
        different = {
            ours.vaddr + place
            for place, (one, other) in enumerate(zip(ours.data, theirs.data, strict=True))
            if one != other
        }
        assert different <= set(window)


def test_a_window_can_be_none_or_end_before_the_iret() -> None:
    start, end = "lguest_noirq_start", "lguest_noirq_end"
    none, short, right = (image_of(name) for name in (*BUGS, "kestrel"))
    assert none.address_of(end) == none.address_of(start)
    assert short.address_of(start) == right.address_of(start)
    assert short.address_of(end) == right.address_of(end) - 1
    assert short.bytes_at(short.address_of(end), 1) == b"\xcf"
