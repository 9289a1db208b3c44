"""What one asynchronous event - an interrupt or a device's answer, with its position - adds to a trace."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from replay.codec import EventEncoder
from replay.events import (
    DeviceCompletion,
    Event,
    HostInterrupt,
    HostTurnInterrupt,
    HostWoken,
)
from replay.log import LogWriter, TraceReader
from tests.bench.figures import Aim, Figure, Measured, summary
from tests.bench.workloads import BUSY, CALM, TRACE, record_run

ASYNCHRONOUS = (HostInterrupt, HostTurnInterrupt, HostWoken, DeviceCompletion)


def raw_size(events: Sequence[Event], _: TraceReader, __: str) -> int:
    """Bytes before compression."""
    encoder = EventEncoder()
    for event in events:
        encoder.add(event)
    return encoder.size


def file_size(events: Sequence[Event], reader: TraceReader, folder: str) -> int:
    """Bytes of a trace with these events."""
    path = Path(folder) / "part.trace"
    images = {info.name: reader.image(info.name) for info in reader.header.images}
    with LogWriter(path, reader.header, images, now=lambda: 0) as log:
        for event in events:
            log.write(event)
        assert reader.end is not None
        log.close(reader.end)
    return path.stat().st_size


def _added(line: str, compressed: bool) -> tuple[float, int]:
    """Bytes that the asynchronous events of a run add, by leaving them out; and how many there are."""
    size = file_size if compressed else raw_size
    with TemporaryDirectory() as folder:
        record_run(line, folder)
        with TraceReader(Path(folder) / TRACE) as reader:
            events = list(reader.events())
            others = [event for event in events if not isinstance(event, ASYNCHRONOUS)]
            number = len(events) - len(others)
            added = size(events, reader, folder) - size(others, reader, folder)
    return added / number, number


def _bytes(compressed: bool) -> Measured:
    """The runs are the same each time, so rounds are of no use; the spread is over kinds of runs."""
    per_event = [_added(line, compressed) for line in (CALM, BUSY)]
    note = f"in runs with {' and '.join(f'{number:,}' for _, number in per_event)} of them"
    return summary([added for added, _ in per_event], note)


FIGURES = (
    Figure("asynchronous event, raw", "bytes", Aim(12), lambda _: _bytes(compressed=False)),
    Figure("asynchronous event, compressed", "bytes", Aim(4), lambda _: _bytes(compressed=True)),
)
