"""Loading lguest into a Host's kernel that is short of something: the error, and that nothing stays taken."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from hostvm.host_module import (
    DEVICE,
    SWITCHER_SIZE,
    Errno,
    HostKernel,
    LguestModule,
    ModuleRefused,
)
from hostvm.memory import PhysicalMemory
from hostvm.memory_map import HOST_AREA, HOST_PGDIR, SWITCHER_BASE, SWITCHER_SLOT, SWITCHER_TEXT
from hostvm.switcher import load_switcher, shipped_image
from hostvm.units import HostPhysical
from hostvm.x86 import PAGE_SIZE, Cr4

TABLE = 0xC0003000, 256
AREA = 1 << 20
SWITCHER_PAGES, ALL_PAGES = 3, 4


def kernel(**wishes: Any) -> HostKernel:
    memory = PhysicalMemory(HOST_AREA, AREA)
    memory.write(HostPhysical(HOST_AREA + 0x3000), b"somebody else's")
    return HostKernel(memory, **wishes)


def load(on: HostKernel) -> LguestModule:
    module = LguestModule(on)
    module.load(load_switcher(shipped_image("switcher.elf")), TABLE, TABLE)
    return module


def everything(of: HostKernel) -> dict[str, Any]:
    """All that the kernel has, but for what it has printed."""
    plain = {name: value for name, value in vars(of).items() if name not in ("memory", "log")}
    return deepcopy(plain) | {"pages": of.memory.used_pages()}


def refused(on: HostKernel) -> Errno:
    """Loading fails, and the kernel has all that it had."""
    before = everything(on)
    with pytest.raises(ModuleRefused) as caught:
        load(on)
    assert everything(on) == before
    assert str(caught.value) == f"lguest cannot be loaded: -{caught.value.error.name}"
    return caught.value.error


def test_a_module_that_is_loaded_has_put_the_switcher_at_its_address() -> None:
    host = kernel()
    load(host)
    text = load_switcher(shipped_image("switcher.elf")).text
    assert host.memory.read(SWITCHER_TEXT, len(text)) == text
    assert host.memory.read_u32(HostPhysical(HOST_PGDIR + 4 * SWITCHER_SLOT)) & 1
    assert host.areas == [(SWITCHER_BASE, SWITCHER_SIZE)]
    assert host.devices == {DEVICE}
    assert host.log == ["lguest: mapped switcher at ffc00000"]


def test_global_pages_are_off_while_it_is_loaded_and_on_again_afterwards() -> None:
    host = kernel()
    module = load(host)
    assert not host.cr4 & Cr4.PGE
    assert not host.features_pge
    module.unload()
    assert host.cr4 & Cr4.PGE
    assert host.features_pge


def test_a_kernel_that_had_no_global_pages_gets_none() -> None:
    host = kernel(cr4=0, features_pge=False)
    load(host).unload()
    assert (host.cr4, host.features_pge) == (0, False)


def test_unloading_gives_everything_back() -> None:
    host = kernel(areas=[(0xF0000000, PAGE_SIZE)])
    before = everything(host)
    module = load(host)
    assert everything(host) != before
    module.unload()
    assert everything(host) == before


def test_it_can_be_loaded_again_once_it_is_gone() -> None:
    host = kernel()
    load(host).unload()
    load(host)
    assert host.devices == {DEVICE}


@pytest.mark.parametrize("name", ["Xen", "VMI", "lguest", "KVM"])
def test_it_is_afraid_of_other_hypervisors_and_of_itself(name: str) -> None:
    host = kernel(paravirt=name)
    assert refused(host) is Errno.EPERM
    assert host.log == [f"lguest is afraid of {name}"]


def test_without_memory_for_the_array_it_takes_nothing() -> None:
    host = kernel(can_allocate=False)
    assert refused(host) is Errno.ENOMEM
    assert host.log == []


@pytest.mark.parametrize("pages", range(ALL_PAGES))
def test_each_page_that_is_not_to_be_had_gives_back_those_before_it(pages: int) -> None:
    host = kernel(free_pages=pages)
    assert refused(host) is Errno.ENOMEM
    mapped = pages == SWITCHER_PAGES
    assert host.log == ["lguest: mapped switcher at ffc00000"] * mapped


def test_four_pages_are_enough() -> None:
    host = kernel(free_pages=ALL_PAGES)
    load(host)
    assert host.free_pages == 0


@pytest.mark.parametrize(
    "start", [SWITCHER_BASE - PAGE_SIZE, SWITCHER_BASE, SWITCHER_BASE + 0x2000]
)
def test_an_address_that_is_taken_cannot_be_had(start: int) -> None:
    host = kernel(areas=[(start, 2 * PAGE_SIZE)])
    assert refused(host) is Errno.ENOMEM
    assert host.log == ["lguest: could not map switcher pages high"]


@pytest.mark.parametrize("start", [SWITCHER_BASE - PAGE_SIZE, SWITCHER_BASE + SWITCHER_SIZE])
def test_a_neighbour_is_no_hindrance(start: int) -> None:
    load(kernel(areas=[(start, PAGE_SIZE)]))


def test_it_cannot_be_loaded_twice() -> None:
    host = kernel()
    load(host)
    host.log.clear()
    with pytest.raises(ModuleRefused):
        load(host)
    assert host.log == ["lguest: could not map switcher pages high"]
    assert host.devices == {DEVICE}


@pytest.mark.parametrize("error", [Errno.ENOMEM, Errno.EINVAL])
def test_a_mapping_that_fails_gives_area_and_pages_back(error: Errno) -> None:
    host = kernel(map_error=error)
    assert refused(host) is error
    assert host.log == [f"lguest: map_vm_area failed: -{error.value}"]


def test_a_device_that_cannot_be_registered_takes_the_switcher_down_again() -> None:
    host = kernel(device_error=Errno.EBUSY)
    assert refused(host) is Errno.EBUSY
    assert host.log == ["lguest: mapped switcher at ffc00000"]
    assert refused(kernel(devices={DEVICE})) is Errno.EBUSY


def test_what_is_taken_last_is_given_back_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order shows in what is still allocated when a page is given back."""
    host = kernel(device_error=Errno.EBUSY)
    seen: list[tuple[str, ...]] = []
    write = host.memory.write

    def watch(address: int, data: bytes) -> None:
        seen.append(tuple(host.allocated))
        write(address, data)

    monkeypatch.setattr(host.memory, "write", watch)
    with pytest.raises(ModuleRefused):
        load(host)
    falling = seen[seen.index(max(seen, key=len)) :]
    assert [len(names) for names in falling] == sorted(map(len, falling), reverse=True)
    assert falling[-1] == ("switcher_page", "switcher page 0")
