"""What of the user's is in a trace: all of it is said, and what a replay can do without goes."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostvm.devices.config import SECTOR, BlockConfig
from hostvm.launcher import GuestConfig
from hostvm.machine import MachineConfig
from hostvm.units import Nanoseconds
from hostvm.world import Completion
from replay import cli
from replay.archive import names_in
from replay.catalogue import find_kernel
from replay.cut import cut
from replay.events import ConsoleOutput, DeviceCompletion
from replay.index import index
from replay.log import TraceReader
from replay.machine_header import Origin
from replay.private import findings
from replay.recording import record
from replay.redact import redact
from replay.virtual_world import Arrival, VirtualWorld
from tests.replay.recorded import Silent, events_of, record_hello, verify
from tests.replay.traces import take_apart

SECRET = b"swordfish"
DISK = b"".join(bytes([number]) * SECTOR for number in range(1, 17))
KEYS_IRQ = 2


def typing(*lines: bytes) -> list[Arrival]:
    """Lines for the console, which comes behind the disk."""
    return [
        Arrival(Nanoseconds(8_000_000 + n * 3_000_000), Completion(0, 1, KEYS_IRQ, line))
        for n, line in enumerate(lines)
    ]


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guest that reads what is typed, with a disk."""
    path = tmp_path_factory.mktemp("redact") / "secret-plan.lgt"
    kernel = find_kernel("kestrel")
    guest = GuestConfig(
        kernel.content,
        "init=echo",
        16 << 20,
        abi=kernel.abi,
        name="/home/ann/kernel",
        devices=(BlockConfig(16),),
    )
    world = VirtualWorld(1, arrivals=typing(SECRET + b"\n", b"exit\n"), disks={(0, 0): DISK})
    origin = Origin("virtual", 1, ("lgreplay", "record", "/home/ann/kernel"), 1_700_000_000 * 10**9)
    record(MachineConfig((guest,), 1 << 12), world, path, origin, Silent(), max_ticks=6_000_000)
    assert SECRET in b"".join(e.data for e in events_of(path) if isinstance(e, ConsoleOutput))
    return path


def found(path: Path) -> dict[str, tuple[str, bool]]:
    with TraceReader(path) as reader:
        return {f.what: (f.how_much, f.stays is not None) for f in findings(reader)}


def raw_payloads(path: Path) -> Iterator[bytes]:
    """Everything that is in the file, decompressed."""
    return (piece.raw for piece in take_apart(path.read_bytes()))


# ---- what is said ----------------------------------------------------------------------------------


def test_all_that_came_from_the_user_is_named_with_its_size(trace: Path) -> None:
    said = found(trace)
    assert said["the recorder's command line"] == ("lgreplay record /home/ann/kernel", False)
    assert said["when it was recorded"][0] == "2023-11-14 22:13:20 UTC"
    assert said["names of files"] == ("/home/ann/kernel", False)
    assert said["guest 0's command line"] == ("'init=echo'", True)
    typed = sum(len(e.data) for e in events_of(trace) if isinstance(e, DeviceCompletion))
    assert said["console input"] == (f"{typed:,} bytes in 2 pieces", True)
    assert said["console output"][1]


def test_memory_in_an_index_or_at_the_beginning_is_said_to_be_there(
    trace: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copy(trace, tmp_path / "x.lgt"))
    index(own, every=1 << 20)
    assert not found(own)["memory in the index"][1]
    cut(own, tmp_path / "y.lgt", start="-50k")
    assert found(tmp_path / "y.lgt")["memory at the beginning"][1]
    assert "memory in the index" not in found(tmp_path / "y.lgt")


def test_the_files_of_a_ramdisk_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "x.lgt"
    kernel = find_kernel("kestrel")
    ramdisk = archive({"init": b"#!", "etc/passwd": b"root"})
    guest = GuestConfig(kernel.content, "", 16 << 20, gzip.compress(ramdisk), kernel.abi, "k")
    record_hello(path, config=MachineConfig((guest,)), max_ticks=50_000)
    assert "2 files: init, etc/passwd" in found(path)["initial ramdisk"][0]


def archive(files: dict[str, bytes]) -> bytes:
    """By somebody else's reading of the format: each field eight hex digits, all padded to four bytes."""

    def one(name: str, content: bytes) -> bytes:
        fields = [1, 0o100644, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0]
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        head += bytes(-len(head) % 4)
        return head + content + bytes(-len(content) % 4)

    return b"".join(one(*item) for item in files.items()) + one("TRAILER!!!", b"")


@pytest.mark.parametrize(
    "data", [b"", b"\x1f\x8bnot gzip", b"BZh!", b"\xfd7zXZ!", b"070701" + b"z" * 200, bytes(500)]
)
def test_what_is_no_archive_has_no_names(data: bytes) -> None:
    assert names_in(data) == []


# ---- what goes -------------------------------------------------------------------------------------


def test_what_a_replay_can_do_without_is_nowhere_in_the_file(trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.lgt"
    own = Path(shutil.copy(trace, tmp_path / "indexed.lgt"))
    index(own, every=1 << 20)
    redact(own, out)
    assert b"ann" in b"".join(raw_payloads(own))
    assert not [raw for raw in raw_payloads(out) if b"/home/ann" in raw]
    assert all(stays for _, stays in found(out).values())
    with TraceReader(out) as reader, TraceReader(trace) as before:
        assert reader.header.created_ns == 0
        assert reader.trace_id != before.trace_id
        assert reader.end is not None
        assert before.end is not None
        assert reader.end.digest == before.end.digest
    assert list(events_of(out)) == list(events_of(trace))
    verify(out)


def test_what_is_redacted_once_has_nothing_more_to_give(trace: Path, tmp_path: Path) -> None:
    redact(trace, tmp_path / "x.lgt")
    assert redact(tmp_path / "x.lgt", tmp_path / "y.lgt").gone == ()
    assert (tmp_path / "x.lgt").read_bytes() == (tmp_path / "y.lgt").read_bytes()


def test_several_guests_keep_their_own_kernels(tmp_path: Path) -> None:
    path = tmp_path / "x.lgt"
    one, two = find_kernel("hello"), find_kernel("kestrel")
    guests = tuple(
        GuestConfig(k.content, "", 16 << 20, abi=k.abi, name=k.name) for k in (one, two, one)
    )
    record_hello(path, config=MachineConfig(guests, 1 << 16), max_ticks=300_000)
    redact(path, tmp_path / "y.lgt")
    with TraceReader(tmp_path / "y.lgt") as reader:
        assert [g.kernel for g in reader.header.guests] == ["kernel", "kernel-2", "kernel"]


# ---- what came in ----------------------------------------------------------------------------------


def test_what_was_typed_is_replaced_where_the_run_goes_the_same_way(
    trace: Path, tmp_path: Path
) -> None:
    out = tmp_path / "x.lgt"
    done = redact(trace, out, scrubs=["console"])
    assert done.scrubbed is not None
    # Without `exit` the guest would not end.
    assert (done.scrubbed.replaced, done.scrubbed.pieces) == (1, 2)
    assert not [raw for raw in raw_payloads(out) if SECRET in raw]
    typed = [e.data for e in events_of(out) if isinstance(e, DeviceCompletion)]
    assert typed == [b"x" * len(SECRET) + b"\n", b"exit\n"]
    assert b"xxxxxxxxx" in b"".join(e.data for e in events_of(out) if isinstance(e, ConsoleOutput))
    ticks = [[e.tick for e in events_of(path)] for path in (trace, out)]
    assert ticks[0] == ticks[1]
    with TraceReader(out) as reader, TraceReader(trace) as before:
        assert reader.end is not None
        assert before.end is not None
        # What was typed is in memory.
        assert reader.end.digest != before.end.digest
        assert reader.end.tick == before.end.tick
    verify(out)


def test_scrubbing_wants_a_kind_that_there_is_and_a_place(
    trace: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["redact", str(trace), "--scrub", "console"]) == 2
    assert cli.run(["redact", str(trace), "--scrub", "all", "-o", str(tmp_path / "x.lgt")]) == 2
    assert capfd.readouterr().err.count("\n") == 2
    done = redact(trace, tmp_path / "y.lgt", scrubs=["random"])
    assert done.scrubbed is not None
    assert done.scrubbed.pieces == 0


def test_the_command_says_what_went_and_what_is_left(
    trace: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["redact", str(trace)]) == 0
    listed = capfd.readouterr().out
    assert "not needed for a replay:" in listed
    assert "  console input: " in listed
    out = tmp_path / "x.lgt"
    assert cli.run(["redact", str(trace), "-o", str(out), "--scrub", "console"]) == 0
    said = capfd.readouterr().out
    assert "taken out:" in said
    assert "scrubbed: 1 of 2 pieces (console)" in said
    assert cli.run(["redact", str(trace), "-o", str(out)]) == 2
