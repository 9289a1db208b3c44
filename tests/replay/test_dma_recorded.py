"""Recordings of 2.6.23's devices: they replay in pieces too, and their states go through checkpoints."""

from __future__ import annotations

import copy
from pathlib import Path
from random import Random

import pytest

from hostvm.devices.config import BlockConfig, DeviceConfig, NetConfig, SharedNetConfig
from hostvm.elf_image import Segment
from hostvm.errors import ConfigurationError
from hostvm.genuine_lguest import SIGNATURE, entry_point, intuit_page_offset, page_offset_of
from hostvm.kernel_image import inspect_kernel
from hostvm.launcher import GuestConfig
from hostvm.machine import MachineConfig
from hostvm.observations import ConsoleOutput
from hostvm.units import Tick
from replay.catalogue import find_kernel
from replay.checkpoints import checkpoint_of, state_of
from replay.errors import TraceFormatError
from replay.log import Checkpoint, TraceReader
from replay.session import Session
from tests.replay.recorded import events_of, record_hello, verify

MEMORY = 4 << 20


def guest(line: str, *devices: DeviceConfig) -> GuestConfig:
    kernel = find_kernel("kestrel-2.6.23")
    return GuestConfig(kernel.content, line, MEMORY, abi=kernel.abi, name="k", devices=devices)


def console(path: Path) -> bytes:
    return b"".join(e.data for e in events_of(path) if isinstance(e, ConsoleOutput))


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two Guests with a disk each, and a network of two kinds."""
    path = tmp_path_factory.mktemp("talk") / "t.lgt"
    devices = [(SharedNetConfig(n), BlockConfig(64)) for n in range(2)]
    guests = tuple(guest("init=talk quiet -- 3", *each) for each in devices)
    record_hello(path, config=MachineConfig(guests, digest_interval=1 << 14))
    return path


def test_a_disk_by_dma_is_written_and_read_and_it_replays(tmp_path: Path) -> None:
    path = tmp_path / "t.lgt"
    record_hello(path, config=MachineConfig((guest("init=disk", BlockConfig(16)),)))
    assert b"disk: 4 of 4 sectors are good\n" in console(path)
    verify(path)


def test_two_guests_talk_in_pieces_as_they_did_at_once(talk: Path) -> None:
    assert console(talk).count(b"talk: 3 rounds, 0 garbled") == 2
    with TraceReader(talk) as reader:
        session = Session(reader)
        machine, r = session.machine, Random("talk")
        bound = 0
        while machine.tick < session.end_tick and not machine.finished:
            machine.run(Tick(min(machine.tick + r.randint(1, 30_000), session.end_tick)))
            checkpoint = checkpoint_of(machine)
            bound += "guest1.dma" in checkpoint.fields
            before = machine.digest()
            machine.restore(state_of(checkpoint, machine, "t.lgt", 0))
            assert machine.digest() == before
            machine.cpu.flush()
        for _ in session.verify():
            raise AssertionError("there was nothing left to run")
    assert bound > 5


@pytest.mark.parametrize(
    ("place", "value"), [(0, 32), (1, -1), (4, 1 << 16), (5, 0), (5, 32), (7, True), (2, "x")]
)
def test_a_forged_binding_is_refused(talk: Path, place: int, value: object) -> None:
    with TraceReader(talk) as reader:
        machine = Session(reader).machine
        machine.run(Tick(400_000))
        checkpoint = checkpoint_of(machine)
        fields = copy.deepcopy(dict(checkpoint.fields))
        bindings = fields["guest0.dma"]
        assert isinstance(bindings, list)
        assert isinstance(bindings[0], list)
        bindings[0][place] = value  # type: ignore[call-overload]
        with pytest.raises(TraceFormatError, match="DMA"):
            state_of(Checkpoint(machine.tick, fields), machine, "t.lgt", 0)


def test_frames_go_by_the_launcher_where_guests_share_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t.lgt"
    cards = [NetConfig(bytes((2, 0, 0, 0, 0, n))) for n in (1, 2)]
    guests = tuple(guest("init=talk -- 1", card) for card in cards)
    record_hello(path, config=MachineConfig(guests), max_ticks=Tick(600_000))
    sent = [e for e in events_of(path) if type(e).__name__ == "PacketSent"]
    assert {e.guest for e in sent} == {0, 1}
    verify(path)


def test_a_kernel_of_2_6_23_is_known_by_its_text_and_begins_behind_it() -> None:
    kernel = find_kernel("kestrel-2.6.23")
    assert inspect_kernel("k", kernel.content).abi == "2.6.23"
    segment = Segment(0x100000, 0xC0100000, b"...." + SIGNATURE + b"\x90", 64)
    assert page_offset_of("k", [segment]) == 0xC0000000
    assert entry_point("k", [segment], 0xC0000000) == 0xC0100000 + 4 + len(SIGNATURE)
    with pytest.raises(ConfigurationError, match=r"^k: no text GenuineLguest in it"):
        entry_point("k", [Segment(0x100000, 0xC0100000, b"", 64)], 0xC0000000)
    other = Segment(0x200000, 0xC0100000, b"", 64)
    with pytest.raises(ConfigurationError, match=r"^k: page offset of segment 1 different"):
        page_offset_of("k", [segment, other])


def test_where_a_raw_image_is_linked_shows_in_what_it_loads() -> None:
    loads = b"".join(bytes((0xA1, n, 2, 3, 0xC0)) for n in range(4))
    assert intuit_page_offset("k", b"\xa1\0\0\0\x10" + loads) == 0xC0000000
    for image in (loads[:-1], b"", b"\xa1" * 3):
        with pytest.raises(ConfigurationError, match=r"^k: could not determine page offset"):
            intuit_page_offset("k", image)
