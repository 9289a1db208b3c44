"""The part of a checkpoint that only Guests of 2.6.23 have: arrays of buffers that are bound, and one that is sent.

A binding is [place, host-physical address of the key, whether Guests share it, array, buffers, interrupt, order, next
buffer]. Addresses of arrays need no look here: they are checked whenever they are used.

Read next: hostvm/dma.py.
"""

from __future__ import annotations

from collections.abc import Iterable

from hostvm.interrupts_and_traps import LGUEST_IRQS
from hostvm.lguest_dma import MOST_BINDINGS, DmaBinding, DmaKey
from replay.device_checkpoints import Error
from replay.wire import Value

_WORD, _LONG, _SHORT = 1 << 32, 1 << 63, 1 << 16
_BOUNDS = (MOST_BINDINGS, _WORD, 2, _WORD, _SHORT, LGUEST_IRQS, _LONG, _SHORT)


def binding_values(bindings: Iterable[tuple[int, DmaBinding]]) -> list[Value]:
    """A Guest's bindings, for a checkpoint."""
    return [
        [
            *(place, its.key.address, int(its.key.shared)),
            *(its.dmas, its.count, its.interrupt, its.order, its.following),
        ]
        for place, its in bindings
    ]


def bindings_of(values: Iterable[Value], error: Error) -> tuple[tuple[int, DmaBinding], ...]:
    """The bindings that a checkpoint holds. Raises `error` for anything else."""
    found = tuple(_binding(value, error) for value in values)
    places = [place for place, _ in found]
    if places != sorted(set(places)):
        raise error("checkpoint of DMA bindings out of order")
    return found


def _binding(value: Value, error: Error) -> tuple[int, DmaBinding]:
    words = value if isinstance(value, list) else []
    numbers = [word for word in words if type(word) is int]
    within = all(0 <= n < bound for n, bound in zip(numbers, _BOUNDS, strict=False))
    if len(numbers) != len(words) or len(words) != len(_BOUNDS) or not within or not numbers[5]:
        raise error("checkpoint of an impossible DMA binding")
    place, key, shared, dmas, count, interrupt, order, following = numbers
    return place, DmaBinding(DmaKey(key, bool(shared)), dmas, count, interrupt, order, following)


__all__ = ["binding_values", "bindings_of"]
