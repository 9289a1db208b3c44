"""Shadow page tables, looked at as the CPU does: by walking them."""

from __future__ import annotations

from contextlib import suppress
from itertools import repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostvm.errors import ConfigurationError, GuestKilled
from hostvm.memory import PhysicalMemory
from hostvm.page_pool import PagePool
from hostvm.quirks import UPSTREAM, Quirk
from hostvm.units import HostPhysical
from tests.hostvm.lguest_kit import (
    GUEST_BASE,
    GUEST_PAGES,
    SWITCHER_PAGE_TABLE,
    Bench,
    kills,
)

P, RW, US, A, D, PSE, G = 1, 2, 4, 0x20, 0x40, 0x80, 0x100
READ, WRITE, USER = 0, 2, 4
PGD, PT, PAGE = 0x10000, 0x11000, 0x20000
KERNEL = 0xC0000000
V = 0xC0001000
BOTH = ["3.2", "3.10"]


def can(bench: Bench, vaddr: int, *, write: bool = False, user: bool = False) -> int | None:
    """The CPU's walk with CR0.WP set: host-physical address, or None for a page fault."""
    directory, entry = bench.shadow(vaddr)
    allowed = directory & entry
    if not allowed & P or (write and not allowed & RW) or (user and not allowed & US):
        return None
    return (entry & ~0xFFF) | (vaddr & 0xFFF)


def running(name: str = "3.2", **options: object) -> Bench:
    """A Guest that has switched to its own tables at PGD."""
    bench = Bench(name, **options)  # type: ignore[arg-type]
    bench.tables.set_kernel_address(KERNEL)
    bench.tables.new_pagetable(PGD)
    return bench


def guests_entry(bench: Bench, vaddr: int = V) -> int:
    return bench.memory.read_u32(PT + (vaddr >> 12 & 0x3FF) * 4)


# Linear mode.


def test_a_new_guest_sees_every_page_at_its_own_address() -> None:
    bench = Bench()
    assert bench.tables.demand_page(0x123456, READ)
    assert can(bench, 0x123456) == GUEST_BASE + 0x123456
    assert bench.tables.guest_pa(0x123456) == 0x123456


def test_linear_pages_are_the_kernels_and_read_only_until_written() -> None:
    bench = Bench()
    bench.tables.demand_page(0x5000, READ)
    assert can(bench, 0x5000, user=True) is None
    assert can(bench, 0x5000, write=True) is None
    assert bench.tables.demand_page(0x5000, WRITE)
    assert can(bench, 0x5000, write=True) == GUEST_BASE + 0x5000
    assert bench.shadow(0x5000)[0] & 0xFFF == 0x67


def test_linear_mode_maps_nothing_for_user_mode() -> None:
    assert not Bench().tables.demand_page(0x5000, USER)


def test_linear_mode_writes_nothing_into_the_guest() -> None:
    bench = Bench()
    before = bench.memory.read(0, 1 << 20)
    bench.tables.demand_page(0x5000, WRITE)
    assert bench.memory.read(0, 1 << 20) == before


def test_linear_access_beyond_memory_kills() -> None:
    with kills("bad page table entry"):
        Bench().tables.demand_page(GUEST_PAGES * 4096, READ)


def test_the_first_page_table_ends_linear_mode() -> None:
    bench = Bench()
    bench.tables.demand_page(0x5000, WRITE)
    bench.tables.new_pagetable(PGD)
    assert can(bench, 0x5000) is None
    assert not bench.tables.demand_page(0x5000, READ)
    assert bench.shadow(0x5000) == (0, 0)


def test_an_older_generation_starts_on_the_launchers_tables() -> None:
    bench = Bench("2.6.24", first_pgdir=PGD)
    bench.map(PGD, PT, 0x1000, PAGE | P | RW)
    assert bench.tables.demand_page(0x1000, READ)
    assert can(bench, 0x1000) == GUEST_BASE + PAGE
    assert bench.tables.guest_pa(0x1234) == PAGE + 0x234
    assert bench.tables.current == 0


# Faults.


@pytest.mark.parametrize("name", BOTH)
def test_a_read_maps_read_only_and_sets_accessed_in_the_guest(name: str) -> None:
    bench = running(name)
    bench.map(PGD, PT, V, PAGE | P | RW | US)
    assert bench.tables.demand_page(V + 7, READ)
    assert can(bench, V + 7, user=True) == GUEST_BASE + PAGE + 7
    assert can(bench, V, write=True) is None
    assert guests_entry(bench) == PAGE | P | RW | US | A


@pytest.mark.parametrize("name", BOTH)
def test_a_write_maps_writable_and_sets_dirty_in_the_guest(name: str) -> None:
    bench = running(name)
    bench.map(PGD, PT, V, PAGE | P | RW)
    assert bench.tables.demand_page(V, READ)
    assert bench.tables.demand_page(V, WRITE)
    assert can(bench, V, write=True) == GUEST_BASE + PAGE
    assert guests_entry(bench) == PAGE | P | RW | A | D


def test_a_page_already_dirty_is_writable_after_a_read() -> None:
    bench = running()
    bench.map(PGD, PT, V, PAGE | P | RW | D)
    bench.tables.demand_page(V, READ)
    assert can(bench, V, write=True) == GUEST_BASE + PAGE
    assert bench.shadow(V)[1] & 0xFFF == P | RW | A | D


@pytest.mark.parametrize(
    ("flags", "error"), [(0, READ), (P, WRITE), (P | RW, USER), (P | US, USER | WRITE)]
)
def test_a_fault_that_the_guests_own_tables_explain_is_left_to_the_guest(
    flags: int, error: int
) -> None:
    bench = running()
    bench.map(PGD, PT, V, PAGE | flags)
    assert not bench.tables.demand_page(V, error)
    assert guests_entry(bench) == PAGE | flags
    assert can(bench, V) is None


def test_a_directory_entry_that_is_not_present_is_left_to_the_guest() -> None:
    bench = running()
    assert not bench.tables.demand_page(V, READ)
    assert bench.shadow(V) == (0, 0)


def test_the_guests_directory_flags_reach_the_cpu() -> None:
    bench = running()
    bench.map(PGD, PT, V, PAGE | P | RW | US | D, directory_flags=P | US)
    bench.tables.demand_page(V, WRITE)
    assert can(bench, V, user=True) is not None
    assert can(bench, V, write=True) is None


def test_global_is_stripped_and_other_bits_are_kept() -> None:
    bench = running()
    bench.map(PGD, PT, V, PAGE | P | G | 0x18 | 0xE00)
    bench.tables.demand_page(V, READ)
    assert bench.shadow(V)[1] & 0xFFF == P | A | 0x18 | 0xE00


def test_every_installed_entry_has_accessed_set_whatever_the_guest_gave() -> None:
    bench = running()
    bench.map(PGD, PT, V, PAGE | P, directory_flags=P | RW)
    bench.tables.demand_page(V, READ)
    bench.tables.set_pte(PGD, V + 0x1000, PAGE | P | D)
    assert bench.shadow(V)[0] & A
    assert bench.shadow(V)[1] & A
    assert bench.shadow(V + 0x1000)[1] & A


@pytest.mark.parametrize("entry", [PAGE | P | PSE, (GUEST_PAGES << 12) | P, 0xFFFFF001])
@pytest.mark.parametrize("name", BOTH)
def test_a_bad_table_entry_kills(name: str, entry: int) -> None:
    bench = running(name)
    bench.map(PGD, PT, V, entry)
    with kills("bad page table entry"):
        bench.tables.demand_page(V, READ)


@pytest.mark.parametrize(("name", "dies"), [("2.6.24", True), ("2.6.27", False), ("3.2", False)])
def test_only_the_oldest_generation_dies_of_write_through(name: str, dies: bool) -> None:
    bench = running(name)
    bench.map(PGD, PT, V, PAGE | P | 8)
    if dies:
        with kills("bad page table entry"):
            bench.tables.demand_page(V, READ)
    else:
        assert bench.tables.demand_page(V, READ)


@pytest.mark.parametrize("directory", [PT | P | PSE, PT | P | 8, (GUEST_PAGES << 12) | P])
@pytest.mark.parametrize("name", BOTH)
def test_a_bad_directory_entry_kills(name: str, directory: int) -> None:
    bench = running(name)
    bench.memory.write_u32(PGD + (V >> 22) * 4, directory)
    with kills("bad page directory entry"):
        bench.tables.demand_page(V, READ)


@pytest.mark.parametrize(("name", "dies"), [("3.2", False), ("3.10", True)])
def test_later_generations_vet_the_directory_even_if_the_shadow_has_the_table(
    name: str, dies: bool
) -> None:
    bench = running(name)
    bench.map(PGD, PT, V, PAGE | P)
    bench.tables.demand_page(V, READ)
    bench.memory.write_u32(PGD + (V >> 22) * 4, PT | P | 0x200)
    if dies:
        with kills("bad page directory entry"):
            bench.tables.demand_page(V, READ)
    else:
        assert bench.tables.demand_page(V, READ)


def test_a_page_directory_outside_memory_kills() -> None:
    bench = running()
    bench.tables.new_pagetable(0xFFFFF000)
    with kills("bad read address 0xfffffc00 len 4"):
        bench.tables.demand_page(V, READ)


def test_running_out_of_shadow_pages_kills() -> None:
    bench = running(pool_pages=2)
    bench.map(PGD, PT, V, PAGE | P)
    bench.map(PGD, PT, 0x1000, PAGE | P)
    assert bench.tables.demand_page(V, READ)
    with kills("out of memory allocating pte page"):
        bench.tables.demand_page(0x1000, READ)


# The Switcher's range.


def test_the_switcher_is_in_every_root_and_nothing_drops_it() -> None:
    bench = running(choices=[0, 1, 2, 3])
    for pgd in (PGD + 0x1000, PGD + 0x2000):
        bench.tables.new_pagetable(pgd)
    bench.tables.release_all()
    bench.tables.flush_user()
    bench.tables.set_pgd(PGD, 1023)
    assert all(bench.tables.roots)
    for root in bench.tables.roots:
        assert bench.shadow(0xFFC00000, root)[0] == SWITCHER_PAGE_TABLE | P | RW | A


def test_touching_the_switchers_range_kills_if_the_guest_maps_it() -> None:
    bench = running()
    assert not bench.tables.demand_page(0xFFC00000, READ)
    bench.map(PGD, PT, 0xFFC00000, PAGE | P)
    for access in (
        lambda: bench.tables.demand_page(0xFFC00000, READ),
        lambda: bench.tables.set_pte(PGD, 0xFFFFF000, PAGE | P | A),
        lambda: bench.tables.pin_page(0xFFC01000),
        lambda: Bench().tables.demand_page(0xFFC00000, READ),
    ):
        with kills("attempt to access switcher pages"):
            access()


def test_later_generations_reflect_faults_in_the_switchers_range() -> None:
    bench = running("3.10")
    bench.map(PGD, PT, 0xFFC00000, PAGE | P)
    assert not bench.tables.demand_page(0xFFC00000, READ)
    with kills("attempt to set pte into Switcher pages"):
        bench.tables.set_pte(PGD, 0xFFC00000, 0)
    with kills("bad stack page 0xffc00000"):
        bench.tables.pin_page(0xFFC00000)


def test_a_fault_in_the_switchers_range_is_reflected_where_that_is_corrected() -> None:
    bench = running(quirks=UPSTREAM & ~Quirk.SWITCHER_ADDRESS_KILLS)
    bench.map(PGD, PT, 0xFFC00000, PAGE | P)
    assert not bench.tables.demand_page(0xFFC00000, USER)
    with kills("attempt to access switcher pages"):
        bench.tables.set_pte(PGD, 0xFFC00000, PAGE | P | A)


def test_a_directory_index_beyond_the_table_kills_in_later_generations_only() -> None:
    running("3.2").tables.set_pgd(PGD, 0xFFFFFFFF)
    with kills("Attempt to set pgd 1025/1024"):
        running("3.10").tables.set_pgd(PGD, 1025)


@pytest.mark.parametrize("address", [0xFFC00000, 0xFFFFFFFF])
def test_a_kernel_in_the_switchers_range_kills(address: int) -> None:
    with kills(f"bad kernel address {address:#x}"):
        Bench().tables.set_kernel_address(address)


# Pinning.


def test_pinning_maps_a_page_writable_and_dirties_it_once() -> None:
    bench = running()
    entry = bench.map(PGD, PT, V, PAGE | P | RW)
    bench.tables.pin_page(V)
    assert can(bench, V, write=True) == GUEST_BASE + PAGE
    bench.memory.write_u32(entry, PAGE | P | RW)
    bench.tables.pin_page(V)
    assert guests_entry(bench) == PAGE | P | RW


def test_a_stack_that_cannot_be_mapped_kills() -> None:
    bench = running()
    bench.map(PGD, PT, V, PAGE | P)
    with kills("bad stack page 0xc0001000"):
        bench.tables.pin_page(V)
    with kills("bad stack page 0x0"):
        bench.tables.pin_page(0)


# The Guest's own addresses.


def test_a_guests_virtual_address_is_looked_up_in_its_own_tables() -> None:
    bench = running()
    bench.map(PGD, PT, V, PAGE | P)
    assert bench.tables.guest_pa(V + 0xABC) == PAGE + 0xABC
    with kills("Bad address 0xc0002000"):
        bench.tables.guest_pa(V + 0x1000)
    with kills("Bad address 0x1000"):
        bench.tables.guest_pa(0x1000)


# SET_PTE and SET_PGD.


def with_table(quirks: Quirk = UPSTREAM, v: int = V) -> Bench:
    bench = running(quirks=quirks)
    bench.map(PGD, PT, v, PAGE | P | RW | US)
    bench.tables.demand_page(v, WRITE)
    return bench


def test_an_entry_without_accessed_and_dirty_is_only_forgotten() -> None:
    bench = with_table()
    bench.tables.set_pte(PGD, V, PAGE | P | RW)
    assert bench.shadow(V)[1] == 0


def test_an_accessed_entry_is_installed_writable_as_upstream_wrote_it() -> None:
    bench = with_table()
    bench.tables.set_pte(PGD, V, (PAGE + 0x1000) | P | RW | A)
    assert can(bench, V, write=True) == GUEST_BASE + PAGE + 0x1000


def test_an_accessed_entry_is_read_only_where_the_quirk_is_off() -> None:
    bench = with_table(UPSTREAM & ~Quirk.SET_PTE_SKIPS_DIRTY)
    bench.tables.set_pte(PGD, V, PAGE | P | RW | A)
    assert can(bench, V) == GUEST_BASE + PAGE
    assert can(bench, V, write=True) is None
    bench.tables.set_pte(PGD, V, PAGE | P | RW | A | D)
    assert can(bench, V, write=True) == GUEST_BASE + PAGE


@pytest.mark.parametrize("entry", [PAGE | P | A | PSE, (GUEST_PAGES << 12) | P | D])
def test_a_bad_entry_kills_when_it_is_set(entry: int) -> None:
    bench = with_table()
    with kills("bad page table entry"):
        bench.tables.set_pte(PGD, V, entry)


def test_an_entry_without_a_shadow_table_is_ignored() -> None:
    bench = running()
    bench.tables.set_pte(PGD, V, 0xFFFFFFFF)
    bench.tables.set_pte(0x77000, 0x1000, 0xFFFFFFFF)
    assert bench.shadow(V) == (0, 0)


def test_a_kernel_entry_is_set_in_all_roots_and_a_user_entry_in_its_own() -> None:
    bench = running(choices=[0, 0, 1])
    other, u = PGD + 0x2000, 0x1000
    for pgd, switch in ((PGD, False), (other, True)):
        if switch:
            bench.tables.new_pagetable(pgd)
        for vaddr in (V, u):
            bench.map(pgd, PT, vaddr, PAGE | P | RW)
            bench.tables.demand_page(vaddr, READ)
    first, second = bench.tables.roots[:2]
    for vaddr in (V, u):
        bench.tables.set_pte(PGD, vaddr, 0)
    assert [bench.shadow(V, root)[1] for root in (first, second)] == [0, 0]
    assert bench.shadow(u, first)[1] == 0
    assert bench.shadow(u, second)[1] & P


def test_a_directory_entry_that_changed_is_forgotten_with_its_table() -> None:
    bench = with_table()
    pages = len(bench.pool.state())
    bench.tables.set_pgd(PGD + 0x1000, V >> 22)
    assert can(bench, V) is not None
    bench.tables.set_pgd(PGD, V >> 22)
    assert bench.shadow(V) == (0, 0)
    assert len(bench.pool.state()) == pages - 1


# Switching and flushing.


def test_a_known_table_is_switched_to_without_asking_the_world() -> None:
    bench = running(choices=[2, 2, 3])
    assert bench.tables.new_pagetable(PGD + 0x1000)
    assert not bench.tables.new_pagetable(PGD)
    assert bench.tables.current == 2
    assert not bench.tables.new_pagetable(PGD + 0x1000)
    assert bench.tables.current == 3


def test_a_table_at_address_zero_is_not_taken_for_a_root_never_used() -> None:
    bench = running(choices=[0, 0, 3])
    assert bench.tables.new_pagetable(0)
    assert bench.tables.current == 3
    assert bench.tables.root


def test_a_reused_root_keeps_its_kernel_part_and_loses_the_rest() -> None:
    bench = with_table()
    bench.map(PGD, PT, 0x1000, PAGE | P)
    bench.tables.demand_page(0x1000, READ)
    assert not bench.tables.new_pagetable(PGD + 0x5000)
    assert can(bench, V) == GUEST_BASE + PAGE
    assert can(bench, 0x1000) is None


def test_without_memory_for_a_root_the_current_one_serves() -> None:
    bench = running(choices=[0, 0, 1], pool_pages=1)
    assert not bench.tables.new_pagetable(PGD + 0x5000)
    assert bench.tables.current == 0
    assert bench.tables.shadowed[0] == PGD + 0x5000


def test_flushing_user_mappings_spares_the_kernel_and_other_roots() -> None:
    bench = with_table()
    bench.map(PGD, PT, 0x1000, PAGE | P)
    bench.tables.demand_page(0x1000, READ)
    bench.tables.flush_user()
    assert can(bench, 0x1000) is None
    assert can(bench, V) is not None


def test_releasing_all_leaves_only_the_roots() -> None:
    bench = with_table()
    bench.tables.release_all()
    assert can(bench, V) is None
    assert len(bench.pool.state()) == sum(map(bool, bench.tables.roots))
    check_shadows(bench)


def test_a_change_is_reported_for_the_tlb() -> None:
    bench = with_table()
    bench.tables.tlb_dirty = False
    bench.tables.demand_page(V + 0x1000, READ)
    assert not bench.tables.tlb_dirty
    bench.tables.set_pte(PGD, V, 0)
    assert bench.tables.tlb_dirty


def test_no_memory_at_all_is_the_users_mistake() -> None:
    with pytest.raises(ConfigurationError):
        Bench(pool_pages=0)


# State.


def test_a_restored_state_goes_on_like_the_original() -> None:
    bench = with_table()
    state = bench.tables.state()
    shadow_pages = bench.physical.read(bench.pool.base, 16 * 4096)
    bench.tables.new_pagetable(PGD + 0x1000)
    bench.tables.release_all()
    bench.tables.restore(state)
    bench.physical.write(bench.pool.base, shadow_pages)
    assert bench.tables.state() == state
    assert can(bench, V, write=True) == GUEST_BASE + PAGE
    assert bench.tables.tlb_dirty


def test_the_pool_hands_out_the_lowest_page_first_and_zeroed() -> None:
    physical = PhysicalMemory(HostPhysical(0), 1 << 16)
    pool = PagePool(physical, HostPhysical(0x4000), 3)
    pages = [pool.allocate() for _ in range(4)]
    assert pages == [0x4000, 0x5000, 0x6000, None]
    physical.write(0x5000, b"\1" * 4096)
    pool.free(0x6000)
    pool.free(0x5000)
    assert pool.state() == (0,)
    assert pool.allocate() == 0x5000
    assert physical.read(0x5000, 4096) == bytes(4096)
    pool.restore((2,))
    assert pool.allocate() == 0x4000


# Whatever the Guest does.

FRAMES = st.integers(0, GUEST_PAGES + 1)
WORDS = st.one_of(
    st.sampled_from([PT | 0x67, PT | 7, (PT + 0x1000) | 0x67, PGD | 0x67]),
    st.builds(lambda frame, flags: frame << 12 | flags | P, FRAMES, st.integers(0, 0xFFF)),
    st.integers(0, 0xFFFFFFFF),
)
VADDRS = st.sampled_from([V, V + 0x1000, 0x1000, 0x2000, 0x400000, 0xFFC00000])
INDICES = st.sampled_from([0, 1, V >> 22, 1022, 1023, 1024, 1025])
PGDS = st.sampled_from([PGD, PGD + 0x1000, PT, 0, 0x77000])
OPERATIONS = st.one_of(
    st.tuples(st.just("write"), st.sampled_from([PGD, PT, PT + 0x1000]), VADDRS, WORDS),
    st.tuples(st.just("fault"), VADDRS, st.integers(0, 7)),
    st.tuples(st.just("set_pte"), PGDS, VADDRS, WORDS),
    st.tuples(st.just("set_pgd"), PGDS, INDICES),
    st.tuples(st.just("new"), PGDS),
    st.tuples(st.just("flush"), st.booleans()),
)


def apply(bench: Bench, operation: tuple[object, ...]) -> None:
    tables = bench.tables
    match operation:
        case ("write", int(table), int(vaddr), int(word)):
            shift = 22 if table == PGD else 12
            bench.memory.write_u32(table + (vaddr >> shift & 0x3FF) * 4, word)
        case ("fault", int(vaddr), int(error)):
            tables.demand_page(vaddr, error)
        case ("set_pte", int(pgd), int(vaddr), int(gpte)):
            tables.set_pte(pgd, vaddr, gpte)
        case ("set_pgd", int(pgd), int(index)):
            tables.set_pgd(pgd, index)
        case ("new", int(pgd)):
            tables.new_pagetable(pgd)
        case ("flush", True):
            tables.release_all()
        case _:
            tables.flush_user()


def check_shadows(bench: Bench) -> None:
    """Every root: the Switcher where it belongs, tables from the pool, frames of this Guest, A set and G clear."""
    pages = set()
    for root in filter(None, bench.tables.roots):
        pages.add(root)
        assert bench.shadow(0xFFC00000, root)[0] == SWITCHER_PAGE_TABLE | P | RW | A
        for index in range(1023):
            directory = bench.shadow(index << 22, root)[0]
            if not directory & P:
                assert directory == 0
                continue
            assert directory & A
            assert not directory & PSE
            assert directory & ~0xFFF not in pages
            pages.add(directory & ~0xFFF)
            for entry in memoryview(bench.physical.read(directory & ~0xFFF, 4096)).cast("I"):
                if entry & P:
                    assert entry & A
                    assert not entry & (G | PSE)
                    assert GUEST_BASE <= entry & ~0xFFF < GUEST_BASE + GUEST_PAGES * 4096
    assert pages <= {bench.pool.base + index * 4096 for index in bench.pool.state()}


@pytest.mark.parametrize("name", BOTH)
@given(operations=st.lists(OPERATIONS, max_size=30), choices=st.lists(st.integers(0, 3)))
@settings(max_examples=200, deadline=None)
def test_no_guest_gets_at_memory_that_is_not_its_own(
    name: str, operations: list[tuple[object, ...]], choices: list[int]
) -> None:
    bench = Bench(name, choices=[*choices, *range(4), *repeat(0, 40)])
    bench.tables.set_kernel_address(KERNEL)
    for operation in operations:
        # A killed Guest makes no more calls; going on all the same asks more of the tables than they must give.
        with suppress(GuestKilled):
            apply(bench, operation)
    check_shadows(bench)
