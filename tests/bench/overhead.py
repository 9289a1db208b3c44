"""What recording costs a run, and what replaying costs against recording.

Both are about the running: what happens once, before the first instruction or after the last, counts as `start`.
"""

from __future__ import annotations

from tempfile import TemporaryDirectory

from tests.bench.figures import Aim, Figure, Measured, ratio
from tests.bench.workloads import BUSY, CALM, record_run, replay_run, run_unrecorded


def _recording(line: str, rounds: int) -> Measured:
    with TemporaryDirectory() as folder:
        return ratio(
            lambda: record_run(line, folder),
            lambda: run_unrecorded(line),
            rounds,
            ("recorded", "unrecorded"),
        )


def _replaying(line: str, rounds: int) -> Measured:
    with TemporaryDirectory() as folder:
        record_run(line, folder)
        return ratio(
            lambda: replay_run(folder),
            lambda: record_run(line, folder),
            rounds,
            ("replayed", "recorded"),
        )


FIGURES = (
    Figure("recording / running, calm", "x the time", Aim(1.10), lambda n: _recording(CALM, n)),
    Figure("recording / running, busy", "x the time", Aim(1.10), lambda n: _recording(BUSY, n)),
    Figure("replay / recording, calm", "x the time", Aim(1.1), lambda n: _replaying(CALM, n)),
    Figure("replay / recording, busy", "x the time", Aim(1.1), lambda n: _replaying(BUSY, n)),
)
