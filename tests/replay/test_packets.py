"""A capture of the network, read by a reader of its own, and by tcpdump where there is one."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hostvm.devices.config import NetConfig
from hostvm.units import Nanoseconds, Tick
from replay import cli
from replay.events import ClockReading, DeviceCompletion, Event, PacketSent
from replay.log import LogWriter, TraceReader
from replay.packets import capture
from replay.trace_header import GuestSetup
from tests.replay.traces import END, HEADER, IMAGES

CARD = NetConfig(bytes((2, 0, 0, 0, 0, 1)))
SENT = (
    b"\xff" * 6
    + CARD.address
    + b"\x08\x06"
    + bytes.fromhex(
        "0001080006040001" + CARD.address.hex() + "0a000001" + "000000000000" + "0a000002"
    )
)
CAME = CARD.address + b"\x02\0\0\0\0\x02" + b"\x88\xb5" + b"odd"
EVENTS: tuple[Event, ...] = (
    PacketSent(Tick(5), 1, 1, SENT),
    ClockReading(Tick(6), 0, Nanoseconds(1_184_846_400_000_000_007)),
    DeviceCompletion(Tick(7), 1, 1, 3, CAME),
    DeviceCompletion(Tick(8), 1, 0, 1, b"a disk's, not the network's"),
)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    setups = (
        GuestSetup(1 << 20, "3.2", "hello"),
        GuestSetup(1 << 20, "3.2", "hello", devices=("block:1", str(CARD))),
    )
    path = tmp_path / "net.lgt"
    with LogWriter(path, replace(HEADER, guests=setups), IMAGES) as writer:
        for event in EVENTS:
            writer.write(event)
        writer.close(END)
    return path


def blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        kind, length = struct.unpack_from("<II", data)
        assert struct.unpack_from("<I", data, length - 4) == (length,)
        yield kind, data[8 : length - 4]
        data = data[length:]


def test_each_frame_stands_with_its_card_its_time_and_its_tick(trace: Path) -> None:
    with TraceReader(trace) as reader:
        section, interface, *packets = blocks(b"".join(capture(reader)))
    assert section[0] == 0x0A0D0D0A
    assert (interface[0], interface[1][:2]) == (1, b"\1\0")
    assert b"guest 1 device 1" in interface[1]
    times = []
    for (kind, body), frame, tick, way in zip(
        packets, (SENT, CAME), (b"tick 5", b"tick 7"), (2, 1), strict=True
    ):
        card, high, low, kept, whole = struct.unpack_from("<5I", body)
        assert (kind, card, kept, whole) == (6, 0, len(frame), len(frame))
        assert body[20 : 20 + len(frame)] == frame
        assert tick in body
        assert struct.pack("<HHI", 2, 4, way) in body
        times.append(high << 32 | low)
    assert times == [0, 1_184_846_400_000_000_007]


def test_the_command_writes_the_same_bytes_anywhere(
    trace: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    path = tmp_path / "net.pcapng"
    assert cli.run(["export", "--pcapng", str(trace), "-o", str(path)]) == 0
    assert cli.run(["export", "--pcapng", str(trace)]) == 0
    assert capfdbinary.readouterr().out == path.read_bytes()


@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="there is no tcpdump to ask")
def test_tcpdump_reads_it(trace: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.pcapng"
    assert cli.run(["export", "--pcapng", str(trace), "-o", str(path)]) == 0
    said = subprocess.run(
        ["tcpdump", "-n", "-r", str(path)], capture_output=True, text=True, check=True
    )
    lines = said.stdout.splitlines()
    assert "who-has 10.0.0.2 tell 10.0.0.1" in lines[0]
    assert "ethertype Unknown (0x88b5)" in lines[1]
