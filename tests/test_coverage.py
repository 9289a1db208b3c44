"""docs/coverage.md: what it refers to exists, nothing of the documents is left out, and gaps have their reasons."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "coverage.md"
REFERENCE = re.compile(r"`([\w./-]+)::([\w.]+)`")
ROW = re.compile(r"^\| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$")
GAP = re.compile(r"(?:not built yet|none): (?:\S+ ){2}\S", re.IGNORECASE)

# The names that the four documents have, in their order; comments' rules have rows without a name.
OF_THE_GUEST = """
    startup_32 hardware_subarch __PAGE_OFFSET .init.text lguest_entry LHCALL_LGUEST_INIT LGUEST_TRAP_ENTRY
    LGUEST_DATA_pgdir init_thread_union THREAD_SIZE lguest_init LGUEST_PATCH lgstart_cli lgend_cli lgstart_sti
    lgend_sti lgstart_popf lgend_popf lgstart_pushf lgend_pushf LGUEST_DATA_irq_enabled X86_EFLAGS_IF
    lguest_noirq_start lguest_noirq_end M:004 lguest_iret
"""
OF_INTERRUPTS = """
    syscall_vector idt_address idt_type idt_present push_guest_stack set_guest_interrupt interrupt_pending
    LGUEST_IRQS try_deliver_interrupt set_interrupt could_be_syscall check_syscall_vector init_interrupts
    free_interrupts has_err deliver_trap direct_trap M:005 M:006 pin_stack_pages guest_set_stack set_trap
    load_guest_idt_entry CHANGED_IDT default_idt_entry setup_default_idt_entries copy_traps guest_set_clockevent
    clockdev_fn init_clockdev
"""
OF_CORE = """
    start_switcher_text end_switcher_text switch_to_guest default_idt_entries SHARED_SWITCHER_PAGES
    TOTAL_SWITCHER_PAGES SWITCHER_ADDR switcher_vma switcher_page cpu_had_pge lguest_entry lguest_lock last_guest
    MAX_LGUEST_GUESTS lguests switcher_offset lguest_pages map_switcher free_some_pages free_pages free_vma out
    host_gdt_desc host_idt_desc guest_gdt_desc guest_idt_desc io_bitmap_base setup_default_gdt_entries
    GDT_ENTRY_LGUEST_CS GDT_ENTRY_LGUEST_DS unmap_switcher emulate_insn guest_pa lguest_address_ok lgread_u32
    lgwrite_u32 lgread lgwrite set_ts copy_in_guest_info CHANGED_ALL last_pages host_cr3 map_switcher_in_guest esp1
    ss1 CHANGED_GDT CHANGED_GDT_TLS run_guest_once run_guest do_hypercalls dma_is_pending signal_pending break_out
    maybe_do_interrupt try_to_freeze halted local_irq_disable trapnum errcode read_cr2 math_state_restore cond_resched
    find_free_guest adjust_pge init paravirt_enabled lock_cpu_hotplug fini
"""
OF_VMI = """
    mach_asm.h CLI STI STI_SYSEXIT sysexit IRET iret_exc .fixup .pushsection .popsection GET_CR0 RDMSR WRMSR CPUID
    CLI_STRING STI_STRING preempt_stop resume_userspace resume_kernel sysenter_entry sysenter_past_esp syscall_exit
    syscall_exit_work restore_nocheck restore_all work_pending work_resched device_not_available ldt_ss
    nmi_16bit_stack
"""
SECTIONS = (OF_THE_GUEST, OF_INTERRUPTS, OF_CORE, OF_VMI)


@cache
def sections() -> tuple[str, ...]:
    return tuple(PAGE.read_text(encoding="utf-8").split("\n## ")[1:])


def rows(text: str) -> list[tuple[str, str, str, str]]:
    found = (ROW.match(line) for line in text.splitlines())
    cells = [(m[1], m[2], m[3], m[4]) for m in found if m]
    return [row for row in cells if row[0] != "In the document"]


def references() -> list[tuple[str, str]]:
    return sorted(set(REFERENCE.findall(PAGE.read_text(encoding="utf-8"))))


def _bound(tree: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[str]:
    """Functions, classes and what is assigned, with those in classes after a dot."""
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name):
                yield prefix + name
            case ast.ClassDef(name=name):
                yield prefix + name
                yield from _bound(node, f"{prefix}{name}.")
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield prefix + name
            case ast.Assign(targets=targets):
                yield from (prefix + each.id for each in targets if isinstance(each, ast.Name))


@cache
def names_in(file: str) -> frozenset[str]:
    text = (ROOT / file).read_text(encoding="utf-8")
    if file.endswith(".py"):
        return frozenset(_bound(ast.parse(text)))
    return frozenset(re.findall(r"[A-Za-z_]\w*", text))


@pytest.mark.parametrize(("file", "name"), references())
def test_what_the_table_refers_to_exists(file: str, name: str) -> None:
    assert (ROOT / file).is_file()
    assert name in names_in(file)


@pytest.mark.parametrize("number", range(len(SECTIONS)))
def test_every_name_of_the_documents_has_its_line(number: int) -> None:
    words = set(re.findall(r"[\w.:]+", " ".join(row[0] for row in rows(sections()[number]))))
    assert [name for name in SECTIONS[number].split() if name not in words] == []


def test_every_line_has_code_and_a_test_or_says_why_not() -> None:
    for item, rule, code, test in rows(PAGE.read_text(encoding="utf-8")):
        assert len(rule) > 10, item
        if test == "-":
            assert re.match(r"(not built yet|none): ", code), item
        else:
            assert REFERENCE.search(code), item
            assert all(file.startswith("tests/") for file, _ in REFERENCE.findall(test)), item
            assert REFERENCE.search(test), item
        for word in ("not built yet", "none:"):
            assert word not in code.lower() or GAP.search(code), item


def test_the_whole_page_is_in_the_tables_that_are_checked() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    table = [line for line in lines if line.startswith("|") and not line.startswith("|---")]
    assert len(table) == len(rows("\n".join(lines))) + len(SECTIONS)
    assert len(sections()) == len(SECTIONS)


def test_a_name_that_is_gone_is_noticed() -> None:
    assert "set_guest_interrupt" in names_in("hostvm/interrupts_and_traps.py")
    assert "ShadowPageTables.demand_page" in names_in("hostvm/page_tables.py")
    assert "demand_page" not in names_in("hostvm/page_tables.py")
    assert "Quirk.IRET_EFLAGS" in names_in("hostvm/quirks.py")
