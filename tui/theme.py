"""How the styles look: dark, light, and without colour.

A style never stands alone: what it says is also there as a character or a word (a changed register has a `*`, the
current line an arrow), so that the picture without colour says the same. NO_COLOR (no-color.org) turns colours off;
bold, underline and reverse video stay. `ascii` is for terminals that know no other characters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from prompt_toolkit.styles import Style


class Theme(Enum):
    """A choice of colours."""

    DARK = "dark"
    LIGHT = "light"
    NONE = "none"


# A terminal's own green is too pale on white.
_GREEN = "fg:#005f00"
# Style: attributes without colour, then the colour on dark and on light ground.
_LOOKS: Mapping[str, tuple[str, str, str]] = {
    "title": ("bold", "fg:ansicyan", "fg:ansiblue"),
    "focus": ("bold reverse", "fg:ansicyan", "fg:ansiblue"),
    "border": ("", "fg:ansibrightblack", "fg:ansibrightblack"),
    "cursor": ("reverse", "", ""),
    "here": ("bold", "fg:ansigreen", _GREEN),
    "changed": ("bold underline", "fg:ansiyellow", "fg:ansired"),
    "dim": ("", "fg:ansibrightblack", "fg:ansibrightblack"),
    "address": ("", "fg:ansibrightblue", "fg:ansiblue"),
    "symbol": ("", "fg:ansigreen", _GREEN),
    "source": ("", "fg:ansibrightblack", "fg:ansibrightblack"),
    "good": ("bold", "fg:ansigreen", _GREEN),
    "bad": ("bold", "fg:ansired", "fg:ansired"),
    "warn": ("bold", "fg:ansiyellow", "fg:ansimagenta"),
    "key": ("bold", "fg:ansiyellow", "fg:ansiblue"),
    "point": ("bold", "fg:ansired", "fg:ansired"),
    "status": ("reverse", "", ""),
    "message": ("", "", ""),
    "lane": ("", "fg:ansicyan", "fg:ansiblue"),
    "match": ("underline", "fg:ansimagenta", "fg:ansimagenta"),
    "host": ("", "fg:ansimagenta", "fg:ansimagenta"),
    "switcher": ("", "fg:ansiyellow", "fg:ansired"),
    "kernel": ("", "fg:ansigreen", _GREEN),
    "user": ("", "fg:ansicyan", "fg:ansiblue"),
}
STYLES = frozenset(_LOOKS)


def style_of(theme: Theme) -> Style:
    """The look of every style under a theme."""
    column = {Theme.NONE: 0, Theme.DARK: 1, Theme.LIGHT: 2}[theme]
    rules = {}
    for name, look in _LOOKS.items():
        colour = look[column] if column else ""
        rules[name] = f"{look[0]} {colour}".strip()
    return Style.from_dict(rules)


def theme_for(wanted: str | None, environment: Mapping[str, str]) -> Theme:
    """The theme asked for; else none with NO_COLOR and on a VT; else what COLORFGBG says of the ground, else dark."""
    if wanted:
        return Theme(wanted)
    if environment.get("NO_COLOR") or environment.get("TERM", "").startswith("vt"):
        return Theme.NONE
    ground = environment.get("COLORFGBG", "").rpartition(";")[2]
    return Theme.LIGHT if ground in ("7", "15") else Theme.DARK


def knows_blocks(environment: Mapping[str, str], encoding: str) -> bool:
    """Whether more than ASCII may be drawn. Python takes the locale C for one of UTF-8; whoever says C means ASCII."""
    names = (environment.get(name) for name in ("LC_ALL", "LC_CTYPE", "LANG"))
    said = next((name for name in names if name), "")
    return said not in ("C", "POSIX") and "utf" in encoding.lower()


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters that are not letters: borders, arrows and the steps of a density strip."""

    across: str = "─"
    down: str = "│"
    arrow: str = "→"
    up_arrow: str = "↑"
    down_arrow: str = "↓"
    steps: str = " ▁▂▃▄▅▆▇█"
    mark: str = "◆"
    cursor: str = "▲"
    bullet: str = "●"


UNICODE = Glyphs()
ASCII = Glyphs("-", "|", ">", "^", "v", " .:-=+*%#", "m", "^", "o")

__all__ = ["ASCII", "STYLES", "UNICODE", "Glyphs", "Theme", "knows_blocks", "style_of", "theme_for"]
