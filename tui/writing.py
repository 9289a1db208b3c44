"""What is to be written, in words: `$eax = 5`, `word[esp] = lguest_iret`, `mem 0xc0109000 = 90 90 "text"`.

On the left stands a register, a location as in replay/location_words.py, a size with an address in brackets as in
expressions, or gdb's `{int}ADDRESS` and `*ADDRESS`; an address space may be named before it, and `var` is passed over.
On the right stands an expression; behind `mem`, bytes: pairs of hex digits and texts in quotation marks.

Read next: desk.py; replay/histories.py, which writes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from hostvm.edits import Edit, Register
from replay.branch import set_memory, set_register
from replay.location_words import location_of
from replay.locations import GuestEntry, NoSuchLocation, SharedField, place_of
from replay.locations import Register as AskedRegister
from replay.look import Space
from replay.places import Place
from replay.timeline import Timeline
from tui.chosen_look import ChosenLook
from tui.memory_view import space_named
from tui.values import SPACES

_SIZES: Mapping[str, int] = {"byte": 1, "char": 1, "half": 2, "short": 2, "word": 4, "int": 4}
_SIZED = re.compile(r"(byte|half|word)\[(.*)\]")
_CAST = re.compile(r"\{(?:unsigned\s+)?(char|short|int)\}\s*(.*)")
_PIECE = re.compile(r'\s*(?:"([^"]*)"|(0x)?((?:[0-9a-fA-F]{2})+))(?=\s|"|$)')
_VAR = re.compile(r"^var(iable)?\s+")
_MEM = re.compile(r"mem(?:ory)?\s+(.*)")
_ASSIGNMENT = re.compile(r"(?<![=!<>])=(?!=)")
_MOST = 4096


class BadWrite(ValueError):
    """Words that cannot be written; the text says why."""


def edits_of(timeline: Timeline, look: ChosenLook, text: str) -> tuple[str, list[Edit]]:
    """What is written, in a few words, and the edits that do it.

    Raises BadWrite, BadLocation, NoSuchLocation, BadPredicate.
    """
    left, right = _sides(_VAR.sub("", text.strip()))
    space, left = _spaced(look, left)
    if found := _MEM.fullmatch(left):
        space, where = (space, found[1]) if space is not look.own_space else _spaced(look, found[1])
        data = _bytes(right)
        address = look.address(timeline, _plain(where))
        place = Place(address, len(data), space)
        return f"{len(data)} bytes at {address:#x}", _memory_edits(look, place, data)
    value = look.evaluate(timeline, _plain(right))
    if (name := left.removeprefix("$").upper()) in Register.__members__:
        size = Register[name].size
        edit = set_register(name, _fitting(value, size), look.guest.number)
        return f"{name.lower()} = {value:#x}", [edit]
    place = _place(timeline, look, space, left)
    data = _fitting(value, place.length).to_bytes(place.length, "little")
    return f"{left} = {value:#x}", _memory_edits(look, place, data)


def _sides(text: str) -> tuple[str, str]:
    parts = _ASSIGNMENT.split(text, maxsplit=1)
    if len(parts) != 2 or not parts[0].strip() or not parts[1].strip():
        raise BadWrite("what, and to what? `set $eax = 5`, or `set mem 0xc0109000 = 90 90`")
    return parts[0].strip(), parts[1].strip()


def _plain(text: str) -> str:
    return text.replace("$", "")


def _spaced(look: ChosenLook, text: str) -> tuple[Space, str]:
    """The address space named in front, by default the one where this is."""
    name, _, rest = text.partition(" ")
    if name in SPACES and rest:
        return space_named(name, look), rest.strip()
    return look.own_space, text


def _fitting(value: int, size: int) -> int:
    if not -(1 << 8 * size - 1) <= value < 1 << 8 * size:
        raise BadWrite(f"{value:#x} has no room in {size} bytes")
    return value & (1 << 8 * size) - 1


def _place(timeline: Timeline, look: ChosenLook, space: Space, left: str) -> Place:
    for pattern in (_SIZED, _CAST):
        if found := pattern.fullmatch(left):
            address = look.address(timeline, _plain(found[2]))
            return Place(address, _SIZES[found[1]], space)
    words = left if left.isidentifier() else look.said(left)
    location = location_of(
        timeline, words, look.guest.number, lambda at, length: Place(at, length, space)
    )
    match location:
        case Place():
            return location
        case SharedField() | GuestEntry():
            return place_of(timeline.look, location)
        case AskedRegister(name):
            raise BadWrite(f"{name} is no register that a Guest may be given another value of")
    raise BadWrite("that is the Host's: only a Guest's registers and memory can be written")


def _memory_edits(look: ChosenLook, place: Place, data: bytes) -> list[Edit]:
    try:
        return set_memory(look, place.address, data, place.space)
    except ValueError as error:
        raise NoSuchLocation(str(error)) from error


def _bytes(text: str) -> bytes:
    found, at = b"", 0
    while at < len(text):
        piece = _PIECE.match(text, at)
        if piece is None:
            raise BadWrite(f'{text[at:].strip()!r}: pairs of hex digits are wanted, or a "text"')
        found += bytes.fromhex(piece[3]) if piece[3] else piece[1].encode()
        at = piece.end()
    if not 0 < len(found) <= _MOST:
        raise BadWrite(f"between 1 and {_MOST} bytes, not {len(found)}")
    return found


__all__ = ["BadWrite", "edits_of"]
