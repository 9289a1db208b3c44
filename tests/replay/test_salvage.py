"""Damaged traces: what is saved is what was recorded, and all of it that can be proven."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from hostvm.machine import Machine
from hostvm.units import Tick
from replay import chunks, cli
from replay.catalogue import find_kernel
from replay.checkpoints import checkpoint_of
from replay.chunks import ChunkType
from replay.cut import cut
from replay.errors import Divergence, TraceError, TraceFormatError
from replay.events import Event, HostInterrupt, StateDigest
from replay.index import index
from replay.log import LogWriter, TraceReader
from replay.machine_header import header_of
from replay.pack import pack
from replay.recording import RecordingWorld
from replay.salvage import NothingToSave, Salvage, Saved
from replay.trace_header import TraceEnd, TraceEndReason
from replay.virtual_world import VirtualWorld
from tests.fuzz.trace import ACCIDENTS
from tests.replay.histories import forward_digests
from tests.replay.recorded import ORIGIN, altered, events_of, hello, verify
from tests.replay.traces import closed_without_index, take_apart

INTERVAL = 1 << 15


def recorded(path: Path, *, checkpoints: bool = False) -> Path:
    """A recording of many chunks, with or without checkpoints among them."""
    config = hello("loops=2 hz=20000", digest_interval=INTERVAL)
    recording = RecordingWorld(VirtualWorld(1))
    machine = Machine(config, recording)
    header, images = header_of(config, ORIGIN)
    with LogWriter(path, header, images) as log:
        recording.attach(log.write)
        while not machine.finished:
            machine.run(Tick(machine.tick + 40_000))
            if checkpoints and machine.tick % 3 == 0:
                log.checkpoint(checkpoint_of(machine))
            log.flush()
        log.close(TraceEnd(machine.tick, machine.digest(), TraceEndReason.FINISHED))
    return path


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded(tmp_path_factory.mktemp("salvage") / "bare.lgt")


@pytest.fixture(scope="module")
def indexed(bare: Path) -> Path:
    path = Path(shutil.copy(bare, bare.with_name("indexed.lgt")))
    index(path, every=2 * INTERVAL)
    return path


def save(path: Path, output: Path, part: int = 1) -> Saved:
    with closing(Salvage(path)) as found:
        return found.save(part, output)


def offsets(path: Path, kind: ChunkType) -> list[tuple[int, int]]:
    with TraceReader(path) as reader:
        return [(e.offset, e.size) for e in reader.chunks if e.type == kind]


def spoilt(path: Path, copy: Path, at: int, size: int = 1) -> Path:
    data = bytearray(path.read_bytes())
    data[at : at + size] = bytes(~b & 0xFF for b in data[at : at + size])
    copy.write_bytes(data)
    return copy


def is_what_was_recorded(output: Path, original: Path) -> None:
    """Every event a recorded one, none missing between, and the states those of the recording."""
    verify(output)
    found, wanted = list(events_of(output)), list(events_of(original))
    with TraceReader(output) as reader:
        assert reader.end is not None
        first, last = (0 if reader.starts_at_power_on else reader.first_tick), reader.end.tick
    at = wanted.index(found[0])
    assert found == wanted[at : at + len(found)]
    assert first is not None
    assert forward_digests(output, [first, last]) == forward_digests(original, [first, last])


# ---- nothing but proven history --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bare", "indexed"])
def test_whatever_happens_to_a_file_what_comes_out_was_recorded(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    original: Path = request.getfixturevalue(kind)
    sound = original.read_bytes()
    saved = 0
    for seed in range(8):
        random = Random(f"{kind}{seed}")
        data = bytearray(sound)
        for _ in range(random.choice((1, 1, 3))):
            random.choice(ACCIDENTS)(data, random)
        damaged, output = tmp_path / "damaged.lgt", tmp_path / "saved.lgt"
        damaged.write_bytes(data)
        try:
            with closing(Salvage(damaged, [find_kernel("hello").content])) as found:
                for part in range(1, len(found.parts) + 1):
                    found.save(part, output, force=True)
                    is_what_was_recorded(output, original)
                    saved += 1
        except (TraceError, NothingToSave):
            continue
        finally:
            assert damaged.read_bytes() == data
    assert saved > 3


@pytest.mark.parametrize("make", [pack, cut])
def test_of_a_damaged_file_the_others_make_nothing_or_what_was_recorded(
    make: Callable[..., object], indexed: Path, tmp_path: Path
) -> None:
    sound = indexed.read_bytes()
    refused = 0
    for seed in range(8):
        random = Random(f"others{seed}")
        data = bytearray(sound)
        random.choice(ACCIDENTS)(data, random)
        damaged, output = tmp_path / "damaged.lgt", tmp_path / "out.lgt"
        damaged.write_bytes(data)
        output.unlink(missing_ok=True)
        try:
            make(damaged, output)
        except (TraceError, Divergence):
            refused += 1
            assert {path.name for path in tmp_path.iterdir()} == {"damaged.lgt"}
        else:
            is_what_was_recorded(output, indexed)
    assert refused > 2


# ---- all that can be proven ------------------------------------------------------------------------


def test_a_sound_trace_loses_nothing(bare: Path, tmp_path: Path) -> None:
    done = save(bare, tmp_path / "x.lgt")
    assert done.whole
    assert list(events_of(tmp_path / "x.lgt")) == list(events_of(bare))


def test_a_trace_whose_recorder_was_killed_gets_an_end(bare: Path, tmp_path: Path) -> None:
    places = [at for at, _ in offsets(bare, ChunkType.EVENTS)]
    for place in (places[5], places[5] + 1, places[5] + 60, places[-1] - 1):
        torn = tmp_path / "x.lgt.incomplete"
        torn.write_bytes(bare.read_bytes()[:place])
        done = save(tmp_path / "x.lgt", tmp_path / "y.lgt")
        with TraceReader(torn) as reader:
            assert reader.last_tick is not None
            assert reader.last_tick - 1 <= done.last <= reader.last_tick
            assert reader.event_count - 3 <= done.events <= reader.event_count
        is_what_was_recorded(tmp_path / "y.lgt", bare)
        (tmp_path / "y.lgt").unlink()


def test_the_name_of_an_unfinished_trace_may_be_given_to_what_is_saved(
    bare: Path, tmp_path: Path
) -> None:
    torn = tmp_path / "x.lgt.incomplete"
    torn.write_bytes(bare.read_bytes()[:-500])
    before = torn.read_bytes()
    save(torn, tmp_path / "x.lgt")
    assert torn.read_bytes() == before
    is_what_was_recorded(tmp_path / "x.lgt", bare)


@pytest.mark.parametrize("lost", [1, 21, 40, 400])
def test_an_end_that_is_lost_costs_nothing_where_the_machine_had_ended(
    bare: Path, tmp_path: Path, lost: int
) -> None:
    size = bare.stat().st_size
    damaged = spoilt(bare, tmp_path / "x.lgt", size - lost, min(lost, 20))
    done = save(damaged, tmp_path / "y.lgt")
    assert list(events_of(tmp_path / "y.lgt")) == list(events_of(bare))
    assert done.last == verify(bare).last_tick


def test_damage_in_the_index_costs_nothing_else(indexed: Path, tmp_path: Path) -> None:
    for kind in (ChunkType.PAGES, ChunkType.STATE, ChunkType.STATES):
        for at in (2, 70):
            place, _ = offsets(indexed, kind)[0]
            damaged = spoilt(indexed, tmp_path / "x.lgt", place + at)
            assert save(damaged, tmp_path / f"{kind}{at}.lgt").whole


def test_damage_in_the_beginning_of_the_file_is_mended(bare: Path, tmp_path: Path) -> None:
    damaged = spoilt(bare, tmp_path / "x.lgt", 0, 16)
    with pytest.raises(TraceFormatError):
        TraceReader(damaged)
    assert save(damaged, tmp_path / "y.lgt").whole


def test_an_image_that_is_damaged_may_come_from_elsewhere(bare: Path, tmp_path: Path) -> None:
    damaged = spoilt(bare, tmp_path / "x.lgt", 5000)
    with closing(Salvage(damaged)) as found, pytest.raises(NothingToSave, match="--image"):
        found.save(1, tmp_path / "y.lgt")
    with closing(Salvage(damaged, [b"another kernel"])) as found, pytest.raises(NothingToSave):
        found.save(1, tmp_path / "y.lgt")
    with TraceReader(bare) as reader:
        kernel = reader.image(reader.header.images[0].name)
    with closing(Salvage(damaged, [kernel])) as found:
        assert found.save(1, tmp_path / "y.lgt").whole
    # The very kernel is among those that come along.
    assert cli.run(["salvage", str(damaged), "-o", str(tmp_path / "z.lgt")]) == 0


# ---- damage in the middle --------------------------------------------------------------------------


def test_behind_damage_there_is_what_a_stored_state_leads_to(indexed: Path, tmp_path: Path) -> None:
    place, size = offsets(indexed, ChunkType.EVENTS)[4]
    damaged = spoilt(indexed, tmp_path / "x.lgt", place + 60, size - 60)
    before, behind = tmp_path / "before.lgt", tmp_path / "behind.lgt"
    one, two = save(damaged, before, 1), save(damaged, behind, 2)
    with TraceReader(indexed) as reader:
        gap = next(entry for entry in reader.chunks if entry.offset == place)
        assert reader.end is not None
        assert one.last <= gap.first_tick
        assert gap.last_tick <= two.first <= gap.last_tick + 3 * INTERVAL
        assert two.last == reader.end.tick
    is_what_was_recorded(before, indexed)
    is_what_was_recorded(behind, indexed)


def test_behind_damage_there_is_what_a_checkpoint_leads_to(tmp_path: Path) -> None:
    original = recorded(tmp_path / "x.lgt", checkpoints=True)
    place, _ = offsets(original, ChunkType.EVENTS)[1]
    damaged = spoilt(original, tmp_path / "y.lgt", place)
    with TraceReader(original) as reader:
        places = {entry.first_tick for entry in reader.checkpoints()}
    with closing(Salvage(damaged)) as found:
        assert len(found.parts) == 2
        assert found.save(2, tmp_path / "z.lgt").first in places
    is_what_was_recorded(tmp_path / "z.lgt", original)


def test_without_a_state_what_is_behind_is_of_no_use(
    bare: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place, _ = offsets(bare, ChunkType.EVENTS)[4]
    damaged = spoilt(bare, tmp_path / "x.lgt", place)
    with pytest.raises(NothingToSave, match="no part 2"):
        save(damaged, tmp_path / "y.lgt", 2)
    assert cli.run(["salvage", str(damaged)]) == 0
    said = capfd.readouterr().out
    assert "are sound, but no state to start from is" in said
    assert "lost: " in said


def test_a_stored_state_that_is_another_one_is_not_taken(indexed: Path, tmp_path: Path) -> None:
    pieces = take_apart(indexed.read_bytes())
    for piece in pieces:
        if piece.header.type == ChunkType.PAGES:
            piece.raw = bytes(b ^ 1 for b in piece.raw)
    forged = tmp_path / "forged.lgt"
    forged.write_bytes(closed_without_index(pieces))
    place, _ = offsets(forged, ChunkType.EVENTS)[4]
    damaged = spoilt(forged, tmp_path / "x.lgt", place)
    with closing(Salvage(damaged)) as found:
        assert len(found.parts) == 1


def test_chunks_that_have_changed_places_are_put_in_order(bare: Path, tmp_path: Path) -> None:
    pieces = take_apart(bare.read_bytes())
    head, body, tail = pieces[:3], pieces[3:-2], pieces[-2:]
    moved = tmp_path / "x.lgt"
    whole = b"".join(piece.pack() for piece in [*head, *reversed(body), *tail])
    moved.write_bytes(chunks.pack_prologue(chunks.Version()) + whole)
    save(moved, tmp_path / "y.lgt")
    assert list(events_of(tmp_path / "y.lgt")) == list(events_of(bare))


# ---- histories that are not what happens -----------------------------------------------------------


def test_of_what_does_not_happen_again_there_is_what_agreed(bare: Path, tmp_path: Path) -> None:
    def change(events: list[Event]) -> list[Event]:
        at = [i for i, e in enumerate(events) if isinstance(e, HostInterrupt)][10]
        event = events[at]
        assert isinstance(event, HostInterrupt)
        events[at] = replace(event, check=event.check ^ 1)
        return events

    wrong = altered(bare, tmp_path / "x.lgt", change)
    moment = [e.tick for e in events_of(bare) if isinstance(e, HostInterrupt)][10]
    done = save(wrong, tmp_path / "y.lgt")
    assert done.against is not None
    assert done.against.tick == moment
    assert done.last <= moment
    is_what_was_recorded(tmp_path / "y.lgt", bare)


def test_where_a_digest_differs_all_goes_back_to_the_last_one(bare: Path, tmp_path: Path) -> None:
    digests = [e.tick for e in events_of(bare) if isinstance(e, StateDigest)]

    def change(events: list[Event]) -> list[Event]:
        return [
            replace(e, registers=b"another!")
            if isinstance(e, StateDigest) and e.tick == digests[5]
            else e
            for e in events
        ]

    wrong = altered(bare, tmp_path / "x.lgt", change)
    assert save(wrong, tmp_path / "y.lgt").last == digests[4]


# ---- the command -----------------------------------------------------------------------------------


def test_the_command_says_what_is_lost_in_ticks_and_bytes(
    indexed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place, size = offsets(indexed, ChunkType.EVENTS)[4]
    with TraceReader(indexed) as reader:
        gone = next(entry for entry in reader.chunks if entry.offset == place)
    damaged = spoilt(indexed, tmp_path / "x.lgt", place)
    out = tmp_path / "y.lgt"
    assert cli.run(["salvage", str(damaged), "-o", str(out)]) == 0
    said = capfd.readouterr().out
    assert f"damaged: bytes {place:#x} to {place + size:#x}, {size:,} of" in said
    assert f"lost: {gone.count:,} events of ticks {gone.first_tick:,} to {gone.last_tick:,}" in said
    assert "--part 2 takes ticks" in said
    assert cli.run(["salvage", str(damaged), "-o", str(out), "--after", "--force"]) == 0
    assert verify(out).first_tick > gone.last_tick


@pytest.mark.parametrize("words", [["--part", "0"], ["--part", "1", "--after"], ["--part", "9"]])
def test_a_part_that_is_none_is_refused(
    indexed: Path, tmp_path: Path, words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["salvage", str(indexed), "-o", str(tmp_path / "x.lgt"), *words]) == 2
    assert capfd.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_what_is_no_trace_is_refused(tmp_path: Path) -> None:
    for name, content in (
        ("empty", b""),
        ("noise", bytes(range(256)) * 9),
        ("marks", b"LGCK" * 99),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(TraceError):
            Salvage(path)
