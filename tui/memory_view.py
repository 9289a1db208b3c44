"""Memory, stack, page tables and callers as values for the screen; for the engine's thread.

A backtrace without frame pointers is guesswork: every word on the stack behind a call instruction *may* be a return
address. Such lines are marked. What is sure is where an interrupt's frame lies, and the frame pointers of a kernel that
has them. Read next: snapshot.py. Source: Intel SDM 3A 4.3.
"""

from __future__ import annotations

from collections.abc import Iterator

from hostvm.page_tables import SWITCHER_SLOT
from hostvm.x86 import PAGE_MASK, Pte
from replay.frames import frames
from replay.instructions import is_call, length_of
from replay.look import GuestPhysicalSpace, GuestSpace, Look, MachineSpace, Space, World
from replay.predicate import BadPredicate
from replay.timeline import Timeline
from tui.chosen_look import ChosenLook
from tui.code_view import CodeView
from tui.source_lines import SourceLines
from tui.values import Bytes, Caller, PageEntry, PageWalk, TrapFrame

_P = int(Pte.P)
_STACK = 2048
_CALLERS = 24
_CALL_LENGTHS = (5, 2, 3, 6, 7, 4)
_WORD = 0xFFFFFFFF


def space_named(name: str, look: ChosenLook) -> Space:
    """The space of that name: current, guest, physical (the Guest's) or machine."""
    match name:
        case "guest":
            return GuestSpace(look.guest.number)
        case "physical":
            return GuestPhysicalSpace(look.guest.number)
        case "machine":
            return MachineSpace()
        case _:
            return look.own_space


def memory(timeline: Timeline, look: ChosenLook, at: str, space: str, count: int) -> Bytes:
    """Bytes at the address that an expression gives."""
    try:
        address = look.address(timeline, at)
    except BadPredicate as error:
        return Bytes(space=space, missing=str(error))
    address &= ~0xF if at not in ("esp", "ebp") else ~0x3
    data = look.read(address, count, space_named(space, look))
    return Bytes(address, data, space, "" if data else "not mapped here")


def stack(look: ChosenLook, count: int) -> Bytes:
    """Bytes from the stack pointer on."""
    data = look.read(look.esp, count)
    return Bytes(look.esp, data, "current", "" if data else "not mapped here")


# ---- page tables -----------------------------------------------------------------------------------


def walk(timeline: Timeline, look: ChosenLook, at: str) -> PageWalk:
    """Both walks of the address that an expression gives."""
    try:
        address = look.address(timeline, at)
    except BadPredicate as error:
        return PageWalk(missing=str(error))
    guest = look.guest
    entries = (_directory_level(look, address), _table_level(look, address))
    guest_physical = look.physical(address, GuestSpace(guest.number))
    shadow = entries[1].shadow
    reached = None
    if shadow is not None and shadow & _P:
        reached = (shadow & PAGE_MASK) | (address & 0xFFF)
    return PageWalk(
        address,
        entries,
        None if guest_physical is None else guest_physical - guest.base,
        reached,
        guest_physical,
    )


def _guest_word(look: Look, at: int | None) -> int | None:
    return None if at is None else look.word(at, GuestPhysicalSpace(look.guest.number))


def _directory_level(look: Look, address: int) -> PageEntry:
    guest_at, _ = look.entry_addresses(address, GuestSpace(look.guest.number))
    shadow_at = look.guest.tables.root + (address >> 20 & 0xFFC)
    shadow = look.word(shadow_at, MachineSpace())
    return PageEntry("directory", guest_at, _guest_word(look, guest_at), shadow_at, shadow)


def _table_level(look: Look, address: int) -> PageEntry:
    _, guest_at = look.entry_addresses(address, GuestSpace(look.guest.number))
    directory = look.word(look.guest.tables.root + (address >> 20 & 0xFFC), MachineSpace()) or 0
    shadow_at = None
    if directory & _P and address >> 22 < SWITCHER_SLOT:
        shadow_at = (directory & PAGE_MASK) + (address >> 10 & 0xFFC)
    shadow = None if shadow_at is None else look.word(shadow_at, MachineSpace())
    return PageEntry("table", guest_at, _guest_word(look, guest_at), shadow_at, shadow)


# ---- who called -------------------------------------------------------------------------------------


def trap_frames(look: ChosenLook, code: CodeView) -> tuple[TrapFrame, ...]:
    """Frames of traps and interrupts on the Guest kernel's stack, innermost first."""
    return tuple(
        TrapFrame(f.at, f.eip, f.cs, f.eflags, code.name(f.eip) if not f.from_user else "a program")
        for f in frames(look)
    )


def callers(look: ChosenLook, code: CodeView, sources: SourceLines) -> tuple[Caller, ...]:
    """The place itself, and who may have called it, innermost first."""
    eip = look.eip
    here = Caller(eip, code.name(eip), None, True, sources.at(eip, look.guest.number))
    if not look.in_guest:
        return (here,)
    found = [here]
    for caller in _on_stack(look, code, sources):
        found.append(caller)
        if len(found) == _CALLERS:
            break
    return tuple(found)


def _on_stack(look: ChosenLook, code: CodeView, sources: SourceLines) -> Iterator[Caller]:
    esp = look.esp
    raw = look.read(esp, _STACK)
    traps = {frame.at: frame for frame in frames(look)}
    kernel = look.guest.tables.kernel_address
    in_kernel = look.world is World.KERNEL
    for offset in range(0, len(raw) - 3, 4):
        at = esp + offset
        word = int.from_bytes(raw[offset : offset + 4], "little")
        if at in traps:
            frame = traps[at]
            name = "a program" if frame.from_user else code.name(word)
            yield Caller(word, f"{name} (interrupted)", at, True)
            if frame.from_user:
                return
        elif in_kernel == (word >= kernel > 0) and _is_behind_call(look, word):
            yield Caller(word, code.name(word), at, False, sources.at(word - 1, look.guest.number))


def _is_behind_call(look: Look, address: int) -> bool:
    before = look.read(address - 7 & _WORD, 7)
    if len(before) < 7:
        return False
    for length in _CALL_LENGTHS:
        code = before[7 - length :]
        if is_call(code) and length_of(code) == length:
            return True
    return False


__all__ = ["callers", "memory", "space_named", "stack", "trap_frames", "walk"]
