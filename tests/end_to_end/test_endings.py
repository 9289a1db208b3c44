"""How recordings end: by ^C, on a full disk, as flight recordings; and what wrong usage is answered with."""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from replay import chunks
from replay.log import TraceReader
from replay.trace_header import TraceEndReason
from tests.end_to_end.commands import command, complaint, environment, lgreplay, start, wait_for
from tests.patience import PATIENCE
from tests.replay.recorded import record_hello, verify

LONG = ("record", "--guest", "hello", "--append", "loops=1000000 hz=5000", "--memory", "16M")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("clock", ["host", "virtual"])
def test_a_signal_ends_the_recording_and_the_trace_is_whole(
    tmp_path: Path, clock: str, number: int
) -> None:
    process = start(*LONG, "--clock", clock, "--quiet", "-o", "t.lgt", folder=tmp_path)
    wait_for(tmp_path / "t.lgt.incomplete", 20_000, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert "ended as you asked" in err
    assert not (tmp_path / "t.lgt.incomplete").exists()
    with TraceReader(tmp_path / "t.lgt") as reader:
        assert reader.end is not None
        assert reader.end.reason == TraceEndReason.INTERRUPTED
    outcome = lgreplay("replay", "t.lgt", folder=tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    assert "all as recorded" in outcome.out


def record_within(limit: int, folder: Path) -> subprocess.CompletedProcess[str]:
    """Record where files may grow to `limit` bytes only."""
    soft = (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    return subprocess.run(
        command(*LONG, "--clock", "virtual", "--quiet", "-o", "t.lgt", hasty=True),
        cwd=folder,
        env=environment({"PYTHONDONTWRITEBYTECODE": "1"}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, soft),
    )


def test_a_file_that_may_not_grow_ends_the_recording_and_stays_readable(tmp_path: Path) -> None:
    done = record_within(32_000, tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "t.lgt.incomplete: recording stopped: File too large" in done.stderr
    assert "remains readable" in done.stderr
    shown = verify(tmp_path / "t.lgt")
    assert shown.torn is not None
    assert shown.events > 0


def test_a_disk_too_small_for_the_head_leaves_no_file(tmp_path: Path) -> None:
    done = record_within(5000, tmp_path)
    assert done.returncode == 2
    assert "nothing was written" in done.stderr
    assert list(tmp_path.iterdir()) == []


NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
FULL_DISK = """
mount -t tmpfs -o size=64k none "$1" && cd "$1" || exit 99
shift
"$@"; echo "record $?"
"""


def test_a_full_disk_ends_the_recording_and_says_so(tmp_path: Path) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare (util-linux)")
    folder = tmp_path / "small"
    folder.mkdir()
    recorder = command(*LONG, "--clock", "virtual", "--quiet", "-o", "t.lgt", hasty=True)
    script = (
        FULL_DISK
        + '"$0" -m replay replay t.lgt; echo "replay $?"; ls; head -c 9000 /dev/zero > more'
    )
    done = subprocess.run(
        [*NAMESPACE, "sh", "-c", script, recorder[0], str(folder), *recorder],
        env=environment({"PYTHONDONTWRITEBYTECODE": "1"}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if "record" not in done.stdout:
        pytest.skip("this system does not allow a tmpfs of one's own")
    assert done.stdout.split() == ["record", "2", "replay", "2", "t.lgt.incomplete"]
    stopped, torn, *_ = done.stderr.splitlines()
    assert "recording stopped: No space left on device" in stopped
    assert "all is as recorded" in torn


def test_a_flight_recording_begins_at_a_checkpoint_and_replays(tmp_path: Path) -> None:
    process = start(
        *("record", "--guest", "hello", "--append", "loops=1000000 hz=20000", "--memory", "16M"),
        *("--clock", "virtual", "--max-ticks", "30M"),
        *("--keep-last", "20k", "--quiet", "-o", "t.lgt"),
        folder=tmp_path,
    )
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    with TraceReader(tmp_path / "t.lgt") as reader:
        assert not reader.starts_at_power_on
        first = next(reader.chunks).first_tick
    assert first > 0
    outcome = lgreplay("replay", "t.lgt", folder=tmp_path)
    assert outcome.code == 0, outcome
    assert f"since tick {first:,}: all as recorded" in outcome.out


# Wrong usage.


@pytest.fixture(scope="module")
def future(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace that says it is of the next major version."""
    path = tmp_path_factory.mktemp("future") / "t.lgt"
    record_hello(path, max_ticks=1000)
    prologue = chunks.pack_prologue(chunks.Version(chunks.MAJOR + 1, 0))
    path.write_bytes(prologue + path.read_bytes()[len(prologue) :])
    return path


COMMANDS = ("replay", "info", "events")


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_no_trace_is_refused_in_one_line(tmp_path: Path, name: str, future: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("Dear reader,\nthis is not a trace.\n" * 100)
    (tmp_path / "folder").mkdir()
    shutil.copy(future, tmp_path / "future")
    refusals = {
        "missing": "No such file",
        "empty": "ends",
        "text": "not an lgreplay trace",
        "folder": "not a regular file",
        "/dev/null": "not a regular file",
        "future": "a newer lgreplay is needed",
        "line\nfeed\x1b[2J": "No such file",
    }
    for trace, said in refusals.items():
        line = complaint(lgreplay(name, trace, folder=tmp_path))
        assert said in line, line
        assert "\x1b" not in line


def test_a_recording_that_cannot_begin_is_refused_in_one_line_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    wrong = [
        ("--guest", "nobody"),
        ("--guest", "/dev/null"),
        ("--memory", "1"),
        ("--memory", "much"),
        ("--initrd", "missing"),
        ("-o", "missing/t.lgt"),
        ("-o", "."),
        ("--keep-last", "0"),
        ("--seed", "-1"),
    ]
    for arguments in wrong:
        complaint(lgreplay("record", "--max-ticks", "1k", *arguments, folder=tmp_path))
        assert list(tmp_path.iterdir()) == [], arguments
