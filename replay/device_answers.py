"""What a World answers to devices: the bytes of disk images, random bytes, and just the time that a write takes.

Read next: virtual_world.py, host_world.py.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from hostvm.world import Action, Completion, Request

# Images by Guest and device; an image that is shorter than its disk goes on with zeros.
Disks: TypeAlias = Mapping[tuple[int, int], bytes | mmap.mmap]
NO_DISKS: Final[Disks] = MappingProxyType({})


class Outstanding:
    """Requests that devices wait for, each with the time at which its answer is due."""

    def __init__(self) -> None:
        self._requests: dict[tuple[int, int, int], tuple[int, Request]] = {}

    def __contains__(self, request: Request) -> bool:
        known = self._requests.get(_key(request))
        return known is not None and known[1] == request

    def add(self, due: int, request: Request) -> None:
        """Take a request; it replaces what its device waited for before."""
        self._requests[_key(request)] = due, request

    def next_due(self) -> int | None:
        """When the next answer is due."""
        if not self._requests:
            return None
        return min(due for due, _ in self._requests.values())

    def first(self) -> Request | None:
        """The request whose answer is due first, if there is one."""
        due = min(self._requests, key=lambda key: (self._requests[key][0], key), default=None)
        return None if due is None else self._requests[due][1]

    def take(self, guest: int, irq: int) -> Request | None:
        """Pass out the request that this interrupt of a Guest will answer, if there is one."""
        key = next((key for key in self._requests if (key[0], key[2]) == (guest, irq)), None)
        return None if key is None else self._requests.pop(key)[1]

    def take_due(self, now: int) -> tuple[Request, ...]:
        """Pass out the requests whose time has come, in the order of their times."""
        ripe = sorted((due, key) for key, (due, _) in self._requests.items() if due <= now)
        return tuple(self._requests.pop(key)[1] for _, key in ripe)


def _key(request: Request) -> tuple[int, int, int]:
    return request.guest, request.device, request.irq


def answer(request: Request, disks: Disks, entropy: Callable[[int], bytes]) -> Completion:
    """The completion that a request waits for."""
    data = b""
    match request.action:
        case Action.READ:
            data = _read(disks, request)
        case Action.ENTROPY:
            data = entropy(request.count)
    return Completion(request.guest, request.device, request.irq, data)


def _read(disks: Disks, request: Request) -> bytes:
    image = disks.get((request.guest, request.device), b"")
    found = image[request.position : request.position + request.count]
    return found.ljust(request.count, b"\0")


__all__ = ["Disks", "Outstanding", "answer"]
