"""Page tables: the Guest's entry and the shadow's for one address, side by side. Source: Intel SDM 3A 4.3."""

from __future__ import annotations

from collections.abc import Sequence

from hostvm.x86 import PAGE_MASK, Pte
from replay.locations import GuestEntry, ShadowEntry
from replay.look import GuestPhysicalSpace, MachineSpace
from replay.places import Place
from tui.panes.pane import NOTHING, Pane, Target, View, listing, mark, note
from tui.text import Line, clean
from tui.values import PageEntry, Snapshot

_FLAGS = (Pte.P, Pte.RW, Pte.US, Pte.PWT, Pte.PCD, Pte.A, Pte.D, Pte.PSE, Pte.G)


def entry_text(entry: int | None) -> str:
    """Frame and flags."""
    if entry is None:
        return "no table"
    if not entry & Pte.P:
        return f"{entry:08x} not present"
    names = " ".join(str(flag.name) for flag in _FLAGS if entry & flag)
    return f"{entry & PAGE_MASK:08x} {names}"


def _title(shot: Snapshot) -> str:
    return f"Page tables {clean(shot.wish.table_at)} = {shot.walk.address:08x}"


def _keys(shot: Snapshot) -> Sequence[int]:
    return range(2 * len(shot.walk.entries))


def draw(shot: Snapshot, width: int, height: int, view: View) -> list[Line]:
    """Directory and table, each as the Guest's line above the shadow's; then where both lead."""
    if not shot.walk.entries:
        return note(shot.walk.missing or "nothing to show", width, height)
    rows = [line for each in shot.walk.entries for line in _entry(each, shot)]
    rows += _ends(shot)
    return listing(rows, PANE.selected(shot, view.cursor), width, height, view)


def _guest_text(each: PageEntry) -> str:
    """The Guest's entry; its directory may lie where the Guest has no memory."""
    if each.guest is None and each.guest_at is not None:
        return "the guest has no memory there"
    return entry_text(each.guest)


def _entry(each: PageEntry, shot: Snapshot) -> list[Line]:
    found: list[Line] = []
    for who, at, text in (
        ("guest", each.guest_at, _guest_text(each)),
        ("shadow", each.shadow_at, entry_text(each.shadow)),
    ):
        changed = f"{who} {each.level}" in shot.changed.entries
        where = "        " if at is None else f"{at:08x}"
        style = "class:changed" if changed else ""
        found.append(
            (
                (style, f"{mark(changed)}{each.level:<9} {who:<6} "),
                ("class:address", f"{where}: "),
                (style, text),
            )
        )
    return found


def _ends(shot: Snapshot) -> list[Line]:
    walk = shot.walk
    guest = "nowhere" if walk.guest_physical is None else f"{walk.guest_physical:08x}"
    host = "nowhere" if walk.host_physical is None else f"{walk.host_physical:08x}"
    rows: list[Line] = [(("", f" guest-physical {guest}, host-physical {host}"),)]
    if walk.host_physical is None and walk.guest_physical is not None:
        rows.append((("class:dim", " the shadow does not have it yet: the next access faults"),))
    elif walk.host_physical is not None and walk.host_physical != walk.expected:
        rows.append((("class:bad", " the shadow leads elsewhere than the guest's tables"),))
    return rows


def _target(shot: Snapshot, key: int) -> Target:
    entry, is_shadow = shot.walk.entries[key // 2], bool(key % 2)
    at = entry.shadow_at if is_shadow else entry.guest_at
    if at is None:
        return NOTHING
    text = f"{'shadow' if is_shadow else 'guest'} {entry.level} entry"
    guest = shot.position.guest
    if entry.level == "table":
        kind = ShadowEntry if is_shadow else GuestEntry
        words = f"{'spte' if is_shadow else 'pte'} {shot.walk.address:#x}"
        value = entry.shadow if is_shadow else entry.guest
        return Target(kind(shot.walk.address, guest), text=text, words=words, value=value)
    space = MachineSpace() if is_shadow else GuestPhysicalSpace(guest)
    return Target(Place(at, 4, space), text=text)


PANE = Pane("tables", _title, draw, _keys, target=_target, least=5)

__all__ = ["PANE", "draw", "entry_text"]
