"""The kernels with a bug: two are kestrel but for the two words that the Host is told, one shows others by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hostvm.elf_image import ElfImage, parse_elf
from hostvm.lguest_data import LAYOUT_3_2
from replay.catalogue import find_kernel
from tests.samples import samples

BUGS = ("kestrel-no-window", "kestrel-short-window")


def image_of(name: str) -> ElfImage:
    return parse_elf(name, find_kernel(name).content)


@pytest.mark.parametrize("name", BUGS)
def test_a_kernel_with_a_bug_differs_in_the_window_and_nowhere_else(name: str) -> None:
    right, wrong = image_of("kestrel"), image_of(name)
    data = right.address_of("lguest_data")
    window = range(data + LAYOUT_3_2.noirq_start, data + LAYOUT_3_2.noirq_start + 8)
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


def test_every_bug_that_can_be_named_has_samples_with_and_without_it() -> None:
    sources = Path(__file__).parents[2] / "hostvm" / "guest" / "kestrel" / "bugs"
    named = set(re.findall(r'\{ "([a-z]+)", show_', (sources / "main.c").read_text()))
    shown = {word for sample in samples() for word in sample.arguments}
    assert named
    for bug in named:
        assert any(word.split()[0] == f"bug={bug}" for word in shown if word.strip()), bug
    # This one is the Host's, which is corrected and not the kernel.
    assert {f"fix={bug}" for bug in named - {"more"}} <= {w.split()[0] for w in shown if w.strip()}
