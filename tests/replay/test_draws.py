"""Numbers from a seed: those of splitmix64."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from replay.draws import MASK_64, Draws, mix


def test_mixing_is_that_of_splitmix64() -> None:
    """First numbers of the reference implementation for state 1234567."""
    state, step = 1234567, 0x9E3779B97F4A7C15
    numbers = [mix(state + step * rank & MASK_64) for rank in (1, 2, 3)]
    assert numbers == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@given(st.integers(0, MASK_64), st.integers(1, (1 << 32) - 1))
def test_a_draw_is_below_its_bound(seed: int, bound: int) -> None:
    assert 0 <= Draws(seed).below(bound) < bound
