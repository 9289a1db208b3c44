"""Numbers that depend on a seed alone, on every computer and Python: the splitmix64 generator.

A run that is made again from its seed must draw the same numbers for ever, so they come from the integer arithmetic
written out here and not from Python's `random`. Who draws for several purposes gives each its own row, or one purpose
would move another's numbers.

Source: Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators (2014). Read next: virtual_world.py.
"""

from __future__ import annotations

from typing import Final

MASK_64: Final = (1 << 64) - 1
SHORTEST_SERVICE_NS: Final = 20_000
LONGEST_SERVICE_NS: Final = 120_000


def mix(value: int) -> int:
    """Scramble a 64-bit number one-to-one (the last steps of the splitmix64 generator)."""
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & MASK_64
    value = (value ^ value >> 27) * 0x94D049BB133111EB & MASK_64
    return value ^ value >> 31


class Draws:
    """A row of numbers that depends on the seed alone, on every computer and Python (splitmix64)."""

    def __init__(self, seed: int) -> None:
        self._state = mix(seed & MASK_64)

    def below(self, bound: int) -> int:
        """Draw the next number of range(bound)."""
        self._state = self._state + 0x9E3779B97F4A7C15 & MASK_64
        return mix(self._state) * bound >> 64

    def service_ns(self) -> int:
        """Draw how long a device takes for a request."""
        return SHORTEST_SERVICE_NS + self.below(LONGEST_SERVICE_NS - SHORTEST_SERVICE_NS)

    def data(self, count: int) -> bytes:
        """Draw so many bytes."""
        words = (self.below(1 << 64).to_bytes(8, "little") for _ in range(-(-count // 8)))
        return b"".join(words)[:count]


__all__ = ["MASK_64", "Draws", "mix"]
