"""A recorder that dies at any moment leaves a trace that replays up to its last whole chunk."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from replay.chunks import ChunkType
from replay.errors import TraceTruncated
from replay.log import TraceReader
from tests.end_to_end.commands import complaint, lgreplay, start, wait_for
from tests.replay.recorded import record_hello, verify

LONG = ("record", "--guest", "hello", "--append", "loops=1000000 hz=5000", "--memory", "16M")
HEAD_AND_POWER_ON = 29_000
ROUNDS, KILLS, AT_ONCE = 5, 10, 2


def kill_after(delays: list[float], folder: Path) -> list[Path]:
    """Start recorders side by side and kill each as long after its beginning; return what they leave."""
    recorders = []
    for number, delay in enumerate(delays):
        name = f"{number}.lgt"
        process = start(*LONG, "--quiet", "-o", name, folder=folder, hasty=True)
        recorders.append((process, folder / f"{name}.incomplete", delay))
    for process, path, _ in recorders:
        wait_for(path, 0, process)
    began = time.monotonic()
    for process, _, delay in sorted(recorders, key=lambda recorder: recorder[2]):
        time.sleep(max(0.0, began + delay - time.monotonic()))
        process.kill()
        process.communicate()
        assert process.returncode == -9
    return [path for _, path, _ in recorders]


def replays_to_its_last_whole_chunk(path: Path) -> bool:
    """Whether something was recorded at all; if so, it must be verified as far as it goes."""
    with TraceReader(path) as reader:
        assert not reader.complete
        torn_at, last = reader.torn_at, reader.last_tick
        assert torn_at is not None
        assert torn_at <= path.stat().st_size
        ends = [entry.offset + entry.size for entry in reader.chunks]
        # What the recorder was told of the step that begins at the last tick need not be all of it.
        determined = sum(1 for event in reader.events() if event.tick < (last or 0))
        events = reader.event_count
    if not ends:
        return False
    assert ends[-1] == torn_at
    shown = verify(path)
    assert shown.torn is not None
    assert shown.last_tick == last
    assert determined <= shown.events <= events
    return True


@pytest.mark.slow
@pytest.mark.parametrize("round_", range(ROUNDS))
def test_a_recorder_killed_at_any_moment_leaves_what_replays_to_its_last_whole_chunk(
    round_: int, tmp_path: Path
) -> None:
    random = Random(round_)
    replayed = 0
    for pair in range(KILLS // AT_ONCE):
        folder = tmp_path / str(pair)
        folder.mkdir()
        delays = [random.uniform(0.0, 0.5) for _ in range(AT_ONCE)]
        for path in kill_after(delays, folder):
            if path.stat().st_size < HEAD_AND_POWER_ON:
                # Killed within the milliseconds before there was anything to replay.
                with suppress(TraceTruncated):
                    replays_to_its_last_whole_chunk(path)
            else:
                replayed += replays_to_its_last_whole_chunk(path)
        shutil.rmtree(folder)
    assert replayed >= KILLS // 2


def test_a_killed_recording_is_replayed_by_the_command_and_said_to_be_unfinished(
    tmp_path: Path,
) -> None:
    (path,) = kill_after([0.6], tmp_path)
    with TraceReader(path) as reader:
        last = reader.last_tick
    outcome = lgreplay("replay", "0.lgt", folder=tmp_path)
    assert f"up to tick {last} all is as recorded" in complaint(outcome)
    assert lgreplay("info", "0.lgt", folder=tmp_path).code == 0
    # The next recording under the name does not destroy it.
    again = lgreplay(
        *LONG, "--clock", "virtual", "--max-ticks", "1k", "-o", "0.lgt", folder=tmp_path
    )
    assert again.code == 0
    assert lgreplay("replay", "0.lgt", folder=tmp_path).code == 0
    assert path.with_name("0.lgt.incomplete~").exists()


def test_a_recording_torn_anywhere_in_its_head_is_refused_as_truncated(tmp_path: Path) -> None:
    whole = tmp_path / "whole.lgt"
    record_hello(whole, max_ticks=1000)
    data = whole.read_bytes()
    with TraceReader(whole) as reader:
        body = next(e.offset for e in reader.chunks if e.type == ChunkType.EVENTS)
    torn = tmp_path / "torn.lgt.incomplete"
    for size in (0, 1, 15, 16, 17, 60, 68, 200, body // 2, body - 1):
        torn.write_bytes(data[:size])
        with pytest.raises(TraceTruncated):
            verify(torn)
    assert "ends" in complaint(lgreplay("replay", "torn.lgt", folder=tmp_path))
    # The head is whole, but the machine asks something before its first step.
    torn.write_bytes(data[:body])
    with pytest.raises(TraceTruncated, match="unfinished"):
        verify(torn)
