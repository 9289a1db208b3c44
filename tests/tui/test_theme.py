"""The colours of the screen: on the ground that each theme is for."""

from __future__ import annotations

import pytest

from tui.theme import Theme, style_of

# xterm's own sixteen colours, as far as they are used.
XTERM = {
    "ansired": 0xCD0000,
    "ansigreen": 0x00CD00,
    "ansiyellow": 0xCDCD00,
    "ansiblue": 0x0000EE,
    "ansimagenta": 0xCD00CD,
    "ansicyan": 0x00CDCD,
    "ansibrightblack": 0x7F7F7F,
    "ansibrightblue": 0x5C5CFF,
}


def luminance(colour: int) -> float:
    parts = (colour >> shift & 0xFF for shift in (16, 8, 0))
    linear = [p / 255 / 12.92 if p <= 10 else ((p / 255 + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(
    ("theme", "ground"), [(Theme.DARK, 0x000000), (Theme.LIGHT, 0xFFFFFF)], ids=["dark", "light"]
)
def test_each_colour_can_be_read_on_its_ground(theme: Theme, ground: int) -> None:
    rules = dict(style_of(theme).style_rules)
    colours = {
        name: word.removeprefix("fg:")
        for name, rule in rules.items()
        for word in rule.split()
        if word.startswith("fg:")
    }
    assert len(colours) > 10
    for name, colour in colours.items():
        shown = int(colour[1:], 16) if colour.startswith("#") else XTERM[colour]
        pair = sorted((luminance(shown), luminance(ground)))
        # What the guidelines for the web ask of large and of bold text.
        assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 3, name
