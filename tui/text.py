"""Styled lines: what panes are made of. A fragment is (style, text); a line is a tuple of fragments.

Every character of a line takes one column of the screen, whatever a Guest has put into its memory: `clean` sees to
that. So widths are lengths, and no pane needs to know of terminals. Styles are names that theme.py gives a look.

Read next: panes/__init__.py, screen.py (lines into a screen).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TypeAlias
from unicodedata import east_asian_width

Fragment: TypeAlias = tuple[str, str]
Line: TypeAlias = tuple[Fragment, ...]
EMPTY: Line = ()


@lru_cache(maxsize=4096)
def clean(text: str) -> str:
    """`text` with every character one column wide and none that steers the terminal."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if _narrow(c) else "?" for c in text)


def _narrow(char: str) -> bool:
    return char.isprintable() and east_asian_width(char) not in "WF"


def printable(data: bytes) -> str:
    """Bytes as in the right column of a memory dump."""
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in data)


def line(*parts: str | Fragment) -> Line:
    """A line of fragments; a bare string has the usual style."""
    return tuple(("", part) if isinstance(part, str) else part for part in parts)


def plain(fragments: Line) -> str:
    """The text alone."""
    return "".join(text for _, text in fragments)


def length(fragments: Line) -> int:
    """Columns that the line takes."""
    return sum(len(text) for _, text in fragments)


def fit(fragments: Line, width: int) -> Line:
    """The line cut or padded to exactly `width` columns."""
    missing = width - length(fragments)
    if missing >= 0:
        return (*fragments, ("", " " * missing)) if missing else fragments
    kept: list[Fragment] = []
    for style, text in fragments:
        if len(text) >= width:
            kept.append((style, text[:width]))
            break
        kept.append((style, text))
        width -= len(text)
    return tuple(kept)


def over(fragments: Line, style: str) -> Line:
    """The line with `style` on top of the style of every fragment."""
    return tuple((f"{own} {style}", text) for own, text in fragments)


def block(lines: Iterable[Line], width: int, height: int) -> list[Line]:
    """Exactly `height` lines of exactly `width` columns."""
    fitted = [fit(each, width) for each in list(lines)[:height]]
    return fitted + [fit(EMPTY, width)] * (height - len(fitted))


def wrapped(words: Iterable[Line], width: int, gap: int = 1) -> list[Line]:
    """Short pieces set one after the other in lines of at most `width` columns."""
    lines: list[Line] = []
    here: list[Fragment] = []
    used = 0
    for word in words:
        size = length(word)
        if here and used + gap + size > width:
            lines.append(tuple(here))
            here, used = [], 0
        if here:
            here.append(("", " " * gap))
            used += gap
        here += word
        used += size
    return [*lines, tuple(here)] if here else lines


__all__ = [
    "EMPTY",
    "Fragment",
    "Line",
    "block",
    "clean",
    "fit",
    "length",
    "line",
    "over",
    "plain",
    "printable",
    "wrapped",
]
