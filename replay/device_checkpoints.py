"""The devices' part of a checkpoint: states of devices as plain lists, and back, with every value looked at.

A device is [running, queues, typed, sector numbers, sector contents], and on PCI behind that all of its registers. Each
queue is [chains taken, untold], followed by what waits in it, if anything: head, action, position, count, and an
address and a length for each piece. Sector numbers are 8 bytes each, little-endian, ascending; sectors are 512 bytes
each.

Addresses need no look here: a device checks them whenever it uses them. Read next: hostvm/devices/device.py.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable

from hostvm.devices.bus import DeviceBus
from hostvm.devices.config import SECTOR, BlockConfig
from hostvm.devices.console import MOST_TYPED
from hostvm.devices.descriptor_page import QUEUE_ENTRIES
from hostvm.devices.device import Device, DeviceState
from hostvm.devices.pci_virtqueue import MOST_ENTRIES
from hostvm.devices.virtqueue import LONGEST_CHAIN, QueueState, Waiting
from hostvm.world import Action
from replay.wire import Value

_WORD, _LONG = 1 << 32, 1 << 63
_HEAD = 4

# Makes the error to raise for a text.
Error = Callable[[str], Exception]


def device_values(states: Iterable[DeviceState]) -> list[Value]:
    """States of a Guest's devices, for a checkpoint."""
    return [
        [
            state.running,
            [_queue_values(queue) for queue in state.queues],
            state.typed,
            b"".join(struct.pack("<Q", number) for number, _ in state.sectors),
            b"".join(content for _, content in state.sectors),
            *([state.registers] if state.registers else []),
        ]
        for state in states
    ]


def _queue_values(queue: QueueState) -> list[Value]:
    values: list[Value] = [queue.taken, int(queue.untold)]
    waiting = queue.waiting
    if waiting is not None:
        values += [waiting.head, int(waiting.action), waiting.position, waiting.count]
        values += [word for piece in waiting.pieces for word in piece]
    return values


def devices_of(values: list[Value], bus: DeviceBus, error: Error) -> tuple[DeviceState, ...]:
    """The states that a checkpoint holds, for the devices of this bus. Raises `error` for anything else."""
    if len(values) != len(bus.devices):
        raise error("checkpoint of other devices")
    return tuple(
        _device(value, device, len(now.registers), error)
        for value, device, now in zip(values, bus.devices, bus.state(), strict=True)
    )


def _device(value: Value, device: Device, registers: int, error: Error) -> DeviceState:
    # On PCI the Guest says how long a ring is.
    entries = MOST_ENTRIES if registers else QUEUE_ENTRIES
    match value:
        case [
            bool(running),
            list(queues),
            bytes(typed),
            bytes(numbers),
            bytes(contents),
            *more,
        ] if (
            len(queues) == len(device.queues)
            and len(typed) <= MOST_TYPED
            and (its := _registers(more)) is not None
            and len(its) == registers
        ):
            return DeviceState(
                running,
                tuple(_queue(queue, entries, error) for queue in queues),
                typed,
                _sectors(numbers, contents, device, error),
                its,
            )
    raise error(f"checkpoint of {device.name}: not the state of such a device")


def _registers(more: list[Value]) -> bytes | None:
    match more:
        case []:
            return b""
        case [bytes(registers)]:
            return registers
    return None


def _sectors(
    numbers: bytes, contents: bytes, device: Device, error: Error
) -> tuple[tuple[int, bytes], ...]:
    config = device.placed.config
    most = config.sectors if isinstance(config, BlockConfig) else 0
    if len(numbers) % 8 or len(contents) != len(numbers) // 8 * SECTOR:
        raise error(f"checkpoint of {device.name}: sectors without numbers")
    found = struct.unpack(f"<{len(numbers) // 8}Q", numbers)
    if list(found) != sorted(set(found)) or (found and found[-1] >= most):
        raise error(f"checkpoint of {device.name}: sectors that it does not have")
    return tuple(
        (number, contents[at * SECTOR : (at + 1) * SECTOR]) for at, number in enumerate(found)
    )


def _queue(value: Value, entries: int, error: Error) -> QueueState:
    words = value if isinstance(value, list) else []
    numbers = [word for word in words if type(word) is int and 0 <= word < _LONG]
    match numbers:
        case _ if len(numbers) != len(words):
            pass
        case [taken, untold, *waiting] if taken < 1 << 16 and untold <= 1:
            return QueueState(taken, bool(untold), _waiting(waiting, entries, error))
    raise error("checkpoint of an impossible virtqueue")


def _waiting(words: list[int], entries: int, error: Error) -> Waiting | None:
    if not words:
        return None
    pieces = tuple(zip(words[_HEAD::2], words[_HEAD + 1 :: 2], strict=False))
    match words[:_HEAD]:
        case [head, action, position, count] if (
            head < entries
            and action in set(Action)
            and count <= LONGEST_CHAIN
            and len(words) % 2 == 0
            and len(pieces) <= entries + 1
            and max(words[_HEAD:], default=0) < _WORD
        ):
            return Waiting(head, Action(action), position, count, pieces)
    raise error("checkpoint of an impossible request")


__all__ = ["device_values", "devices_of"]
