"""The engine's thread: does what it is asked on the timeline, one thing after the other, and reports.

The screen's thread only ever puts jobs into a queue, and `cancel`s. So a key is never waited for longer than drawing
takes, however long a search runs. After each job a snapshot is taken; when jobs wait already (a key held down), its
report may be left out, but not for long. While there is nothing to do, the index of events grows.

What a job refuses is reported as a message. Anything else that goes wrong is our mistake: the thread ends with it, and
`report` gets the exception, to be raised where the terminal is put in order. Read next: desk.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import TypeAlias

from hostvm.units import Tick
from replay.errors import ReplayError
from replay.timeline import Interrupted, Timeline
from tui.desk import REFUSALS, Desk, Refused
from tui.text import Line, clean
from tui.values import Snapshot, Wish

Job: TypeAlias = Callable[[Desk], str | None]
REPORT_NS = 40_000_000
GROWTH_NS = 150_000_000
_LABEL = 36


@dataclass(frozen=True, slots=True)
class Report:
    """What the screen is told. `message` None: leave the one that is there. `busy`: how far a long job is."""

    shot: Snapshot | None = None
    message: str | None = None
    refused: bool = False
    busy: str = ""
    page: tuple[str, tuple[Line, ...]] | None = None
    select: tuple[str, int] | None = None
    failed: BaseException | None = None
    done: int = 0


@dataclass(frozen=True, slots=True)
class _Task:
    job: Job
    label: str
    number: int
    watched: bool = False


class Engine:
    """Works on `timeline`; `report` is called from the engine's thread and must not block.

    `heard`: what a guest has written that runs at this moment, if that is to be shown at once.
    """

    def __init__(
        self,
        timeline: Timeline,
        report: Callable[[Report], None],
        heard: Callable[[], bytes | None] | None = None,
    ) -> None:
        self._desk = Desk(timeline)
        self._heard = heard
        self._report = report
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._lock = Lock()
        self._running: _Task | None = None
        self._cancelled = False
        self._wish = Wish()
        self._before: Snapshot | None = None
        self._mark: Snapshot | None = None
        self._shot: Snapshot | None = None
        self._reported_at = 0
        self._grown_at = 0
        self._submitted = 0
        self._thread = Thread(target=self._main, name="engine", daemon=True)

    # ---- for the screen's thread ------------------------------------------------------------------

    def start(self) -> None:
        """Begin; the first report comes by itself."""
        self._thread.start()

    def submit(self, job: Job, label: str = "", *, watched: bool = False) -> int:
        """Have a job done; returns its number, which a report has as `done` once it is.

        `watched`: what it passes is shown on the way, as far as it does not cost much.
        """
        self._submitted += 1
        self._tasks.put(_Task(job, label, self._submitted, watched))
        return self._submitted

    def wish(self, wish: Wish) -> int:
        """See something else of the same moment."""
        self._wish = wish
        return self.submit(lambda _: None)

    def mark(self) -> int:
        """Tell changes against this moment from now on; again: against the moment before, as usual."""

        def toggle(_: Desk) -> str:
            self._mark = None if self._mark is not None else self._shot
            if self._mark is None:
                return "changes are told since the last stop"
            return f"changes are told since tick {self._mark.position.tick:,}"

        return self.submit(toggle)

    def cancel(self) -> bool:
        """Break off what is going on and forget what was to come; False if there is nothing."""
        with self._lock:
            dropped = self._drop()
            if self._running is None:
                return dropped
            self._cancelled = self._desk.cancelled = True
            self._desk.timeline.cancel()
            return True

    @property
    def busy(self) -> bool:
        """Whether a job is being done or waits."""
        return self._running is not None or not self._tasks.empty()

    def close(self) -> None:
        """End the thread."""
        self.cancel()
        self._tasks.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def _drop(self) -> bool:
        dropped = False
        while True:
            try:
                task = self._tasks.get_nowait()
            except Empty:
                return dropped
            if task is None:
                self._tasks.put(None)
                return dropped
            dropped = True

    # ---- the thread -------------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            self._desk.timeline.progress = self._progress
            self._look(0, None, refused=False)
            while self._turn():
                pass
        except BaseException as error:  # noqa: BLE001 - it is raised again by the screen's thread
            self._report(Report(failed=error))

    def _turn(self) -> bool:
        """Do the next job, or a little of what can be done in between; False at the end."""
        try:
            task = self._tasks.get(block=self._idle())
        except Empty:
            self._grow()
            return True
        if task is None:
            return False
        self._do(task)
        return True

    def _idle(self) -> bool:
        camera = self._desk.camera
        return camera.index.whole and camera.sources.whole

    def _grow(self) -> None:
        """Read a chunk of the log, or a kernel's source lines, and show it now and then."""
        trouble = self._read_on()
        now = time.monotonic_ns()
        if self._idle() or now - self._grown_at >= GROWTH_NS:
            self._grown_at = now
            self._look(0, trouble, refused=trouble is not None)

    def _read_on(self) -> str | None:
        """Read a little more; what is wrong with the log, if that is met."""
        camera = self._desk.camera
        try:
            if not camera.index.whole:
                camera.index.grow()
            else:
                camera.sources.read()
        except ReplayError as error:
            camera.index.ends_here = True
            return str(error)
        return None

    def _do(self, task: _Task) -> None:
        with self._lock:
            self._running = task
        origin = self._desk.moment
        message, refused = self._outcome(task.job)
        with self._lock:
            self._running = None
            cancelled, self._cancelled = self._cancelled, False
            self._desk.cancelled = False
        if cancelled:
            # A cancellation that came too late must not meet the next move.
            self._desk.timeline.go(self._desk.timeline.tick)
            message = message or "interrupted"
        if self._desk.moment != origin:
            self._before = self._shot
        self._look(task.number, message, refused=refused)

    def _outcome(self, job: Job) -> tuple[str | None, bool]:
        try:
            return job(self._desk), False
        except Interrupted:
            return "interrupted; this is where it was before", True
        except Refused as refusal:
            return str(refusal), True
        except REFUSALS as error:
            return str(error), True

    def _look(self, done: int, message: str | None, *, refused: bool) -> None:
        desk = self._desk
        base = self._mark or self._before
        since = f"tick {base.position.tick:,}" if base is not None and base is self._mark else ""
        shot = desk.camera.take(self._wish, desk.points(), base, since)
        self._shot = shot = replace(shot, sheets=desk.histories.sheets)
        page, desk.page = desk.page, None
        select, desk.select = desk.select, None
        now = time.monotonic_ns()
        told = message or page or select
        if not told and not self._tasks.empty() and now - self._reported_at < REPORT_NS:
            return
        self._reported_at = now
        text = None if message is None else clean(message)
        self._report(Report(shot, text, refused, "", page, select, None, done))

    def _progress(self, tick: Tick) -> None:
        task = self._running
        label = clean(task.label)[:_LABEL] if task is not None and task.label else "running"
        shot = None
        self._read_on()
        if task is not None and task.watched:
            shot = self._desk.camera.take(self._wish, self._desk.points())
            heard = None if self._heard is None else self._heard()
            shot = shot if heard is None else replace(shot, console=heard)
        self._report(Report(shot, busy=f"{label}: tick {tick:,}"))


__all__ = ["Engine", "Job", "Report"]
