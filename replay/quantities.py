"""Numbers as people write and read them: 64M of memory, 2G ticks, the last 30s."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from hostvm.units import Nanoseconds
from replay.keep import Keep

_NUMBER = re.compile(r"(\d{1,18})([a-zA-Z]*)", re.ASCII)
_BYTES: Mapping[str, int] = MappingProxyType(
    {"k": 1 << 10, "kib": 1 << 10, "m": 1 << 20, "mib": 1 << 20, "g": 1 << 30, "gib": 1 << 30}
)
_COUNT: Mapping[str, int] = MappingProxyType({"": 1, "k": 10**3, "m": 10**6, "g": 10**9})
_TIME: Mapping[str, int] = MappingProxyType(
    {"ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9}
)


def _parse(text: str, units: Mapping[str, int], hint: str) -> int:
    match = _NUMBER.fullmatch(text.strip())
    unit = units.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"{text!r} is not {hint}")
    return int(match[1]) * unit


def parse_memory(text: str) -> int:
    """Bytes of memory; a bare number is in MiB, as lguest's Launcher had it. Raises ValueError."""
    return _parse(text, {"": 1 << 20, **_BYTES}, "an amount of memory such as 64M or 1G")


def parse_count(text: str) -> int:
    """A number, which may end in k, M or G (powers of ten). Raises ValueError."""
    return _parse(text, _COUNT, "a number such as 5000, 20M or 1G")


def parse_window(text: str) -> tuple[int, int]:
    """Two numbers as `A..B`. Raises ValueError."""
    low, dots, high = text.partition("..")
    if not dots:
        raise ValueError(f"{text!r} is not a window such as 1000..20k")
    window = parse_count(low), parse_count(high)
    if window[0] >= window[1]:
        raise ValueError(f"nothing is in {text!r}")
    return window


def parse_region(text: str) -> tuple[int, int]:
    """Address and length as `0xc0105000+64`. Raises ValueError."""
    address, _, length = text.partition("+")
    try:
        region = int(address, 0), int(length, 0)
    except ValueError:
        region = 0, 0
    if not (0 <= region[0] < 1 << 32 and 0 < region[1] <= 1 << 20):
        raise ValueError(f"{text!r} is not a region such as 0xc0105000+64")
    return region


def parse_keep(text: str) -> Keep:
    """How much to keep: bytes with a unit, or a time; `5m` is minutes, `5M` is memory. Raises ValueError."""
    hint = "an amount such as 100M, or a time such as 30s or 5m"
    text = re.sub(r"(?<=\d)m$", "min", text.strip())
    amount = _parse(text, {**_BYTES, **_TIME}, hint)
    if text.lower().endswith(tuple(_TIME)):
        return Keep(ns=Nanoseconds(amount))
    return Keep(bytes=amount)


def short_count(number: float) -> str:
    """Three significant figures: 950, 12.3k, 4.56M."""
    if number < 1000:
        return str(int(number))
    for unit in ("k", "M", "G"):
        number /= 1000
        if number < 999.5 or unit == "G":
            break
    digits = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:.{digits}f}{unit}"


__all__ = [
    "parse_count",
    "parse_keep",
    "parse_memory",
    "parse_region",
    "parse_window",
    "short_count",
]
