"""Who makes the runs of a sweep: processes, one for each core.

Each worker is a Python of its own that opens the trace, gets units of work (ticks close to each other) line by line,
and answers with a line for each place. So nothing depends on how this process was started, and a worker that dies
costs nobody a result: what it had not finished goes to the others.

(i) *Order.* Results should soon tell something about the whole window. So the units are taken in strides: every
eighth of them first, from the beginning to the end of the window, then every eighth from the second on, and so on.
(ii) *The journal* has a line for each place, with all its results. A sweep that was broken off is taken up where its
     journal ends.

Read next: sweep.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike, fspath
from queue import SimpleQueue
from threading import Lock, Thread
from typing import IO, Any, Self, TypeAlias

from hostvm.errors import HostvmError
from hostvm.units import Tick
from replay.errors import ReplayError
from replay.interruption import put_off
from replay.log import TraceReader
from replay.outcomes import Outcome
from replay.rows import Rows
from replay.sweep import Sweep
from replay.sweep_plan import BadSweep, Plan

Unit: TypeAlias = tuple[Tick, ...]
# Of one place: what comes of it, or of each pair that begins there.
Results: TypeAlias = tuple[Outcome, ...]
UNIT = 32
_NEAR = 64
_STRIDE = 8
_AHEAD = 2
_PLENTY = 8
_BUNCH_S = 0.05
_VERSION = 2


def units_of(ticks: Iterable[Tick]) -> list[Unit]:
    """Ticks, ascending, in units of what lies close together; in the order in which they should be made."""
    units: list[list[Tick]] = []
    for tick in ticks:
        if not units or len(units[-1]) >= UNIT or tick - units[-1][-1] > _NEAR:
            units.append([])
        units[-1].append(tick)
    return [tuple(unit) for first in range(_STRIDE) for unit in units[first::_STRIDE]]


# ---- the journal -----------------------------------------------------------------------------------


class Journal(Rows[Results]):
    """The results so far, in a file that belongs to one trace and one plan. Raises BadJournal if it is another's."""

    def __init__(self, path: str | PathLike[str], trace_id: bytes, plan: Plan) -> None:
        head = {"sweep": _VERSION, "trace": trace_id.hex(), "plan": plan.to_json()}
        super().__init__(path, head, _rows_of, _results_in)

    @property
    def done(self) -> list[Outcome]:
        """All results that were there."""
        return [outcome for results in self.found for outcome in results]


def _rows_of(results: Results) -> list[dict[str, Any]]:
    return [outcome.to_json() for outcome in results]


def _results_in(row: Any) -> Results:
    return tuple(map(Outcome.from_json, row))


# ---- the workers -----------------------------------------------------------------------------------


class Crew:
    """`count` workers for one trace and plan. A context manager: at the end they are gone.

    Raises BadSweep where a worker reports an error, or when no worker is left.
    """

    def __init__(self, path: str | PathLike[str], plan: Plan, count: int) -> None:
        assert count > 0
        self._units: deque[Unit] = deque()
        self._lock = Lock()
        # Of the other kind, a ^C can leave the lock held.
        self._results: SimpleQueue[Results | str | None] = SimpleQueue()
        start = json.dumps({"path": fspath(path), "plan": plan.to_json()})
        self._threads: list[Thread] = []
        self.workers = [_spawn(start) for _ in range(count)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.kill()
        for worker in self.workers:
            worker.wait()
        # A thread may stand in a read from one: it ends, now that there is nobody to read from.
        for thread in self._threads:
            thread.join()
        for worker in self.workers:
            _close(worker)

    def results(self, units: Sequence[Unit]) -> Iterator[Results]:
        """The results, as they come."""
        self._units.extend(units)
        while self._units:
            alive = [worker for worker in self.workers if worker.poll() is None]
            if not alive:
                raise BadSweep("all workers have died")
            # What a worker leaves that dies last of all is for another round.
            yield from self._round(alive)

    def _round(self, workers: Sequence[subprocess.Popen[bytes]]) -> Iterator[Results]:
        with put_off():
            self._threads = [Thread(target=self._feed, args=(worker,)) for worker in workers]
            for thread in self._threads:
                thread.start()
        working = len(self._threads)
        while working:
            result = self._results.get()
            if result is None:
                working -= 1
            elif isinstance(result, str):
                raise BadSweep(result)
            else:
                yield result

    def _feed(self, worker: subprocess.Popen[bytes]) -> None:
        """Give one worker unit after unit, until none is left or it dies."""
        given: deque[Unit] = deque()
        try:
            while self._give(worker, given) or given:
                self._take(worker, given)
                given.popleft()
        except (OSError, EOFError):
            # It has died: what it was given is for others.
            with self._lock:
                self._units.extendleft(reversed(given))
        self._results.put(None)

    def _give(self, worker: subprocess.Popen[bytes], given: deque[Unit]) -> bool:
        """Give it one unit if it has none, and a second where that leaves plenty; answers whether it got one."""
        assert worker.stdin is not None
        before = len(given)
        while len(given) < _AHEAD:
            with self._lock:
                if len(self._units) <= (_PLENTY if given else 0):
                    break
                given.append(self._units.popleft())
            worker.stdin.write(json.dumps(given[-1]).encode() + b"\n")
            worker.stdin.flush()
        return len(given) > before

    def _take(self, worker: subprocess.Popen[bytes], given: deque[Unit]) -> None:
        """Take the results of the first unit that it was given. What it has not made stays in `given`."""
        assert worker.stdout is not None
        while given[0]:
            line = worker.stdout.readline()
            if not line.endswith(b"\n"):
                raise EOFError
            self._results.put(results_of(json.loads(line)))
            given[0] = given[0][1:]


def results_of(row: Any) -> Results | str:
    """What a worker has said of a place, or the error that it reports."""
    return str(row["error"]) if isinstance(row, dict) else _results_in(row)


def _spawn(start: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "replay.sweep_crew"]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert worker.stdin is not None
    worker.stdin.write(start.encode() + b"\n")
    worker.stdin.flush()
    return worker


def _close(worker: subprocess.Popen[bytes]) -> None:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdout.close()
    # What it never read cannot be written any more.
    with suppress(OSError):
        worker.stdin.close()


def sweep(
    path: str | PathLike[str],
    plan: Plan,
    ticks: Iterable[Tick],
    *,
    workers: int | None = None,
    journal: Journal | None = None,
) -> Iterator[Outcome]:
    """Make the runs of `plan` at all of `ticks`; yield what is in the journal, then new results as they come.

    Raises BadSweep, and as Timeline does.
    """

    def made(units: Sequence[Unit]) -> Iterator[Results]:
        with Crew(path, plan, min(workers or os.cpu_count() or 1, len(units))) as crew:
            yield from crew.results(units)

    return taken_up(ticks, journal, made)


def taken_up(
    ticks: Iterable[Tick],
    journal: Journal | None,
    made: Callable[[Sequence[Unit]], Iterator[Results]],
) -> Iterator[Outcome]:
    """What the journal has of `ticks`, then what `made` makes of the others, which goes into the journal."""
    done = [] if journal is None else journal.done
    known = {outcome.tick for outcome in done}
    wanted = sorted(set(ticks))
    asked = set(wanted)
    yield from (outcome for outcome in done if outcome.tick in asked)
    units = units_of(tick for tick in wanted if tick not in known)
    for results in made(units) if units else ():
        if journal is not None:
            journal.put(results)
        yield from results


# ---- inside a worker -------------------------------------------------------------------------------


def unit_results(made: Sweep, unit: Iterable[Tick]) -> Iterator[list[dict[str, Any]]]:
    """The results of each place of a unit, as JSON has them."""
    for tick in unit:
        yield _rows_of(tuple(made.outcomes((tick,))))


@dataclass(slots=True)
class _Answers:
    """Lines for whoever gave the work: they go out in bunches, and all of them when a unit is done."""

    out: IO[bytes]
    _last: float = 0.0

    def say(self, row: Any) -> None:
        self.out.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")
        if time.monotonic() - self._last > _BUNCH_S:
            self.flush()

    def flush(self) -> None:
        self.out.flush()
        self._last = time.monotonic()


def _work(lines: IO[bytes], out: IO[bytes]) -> None:
    answers = _Answers(out)
    start = json.loads(lines.readline())
    try:
        with TraceReader(start["path"]) as reader:
            made = Sweep(reader, Plan.from_json(start["plan"]))
            for line in lines:
                for results in unit_results(made, json.loads(line)):
                    answers.say(results)
                answers.flush()
    except BrokenPipeError:
        # Whoever wanted the results has died.
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
    except (ReplayError, HostvmError, OSError) as error:
        answers.say({"error": str(error)})
        answers.flush()


def _main() -> None:
    # ^C at a terminal goes to all; whoever started this one ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _work(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    _main()

__all__ = [
    "UNIT",
    "Crew",
    "Journal",
    "Results",
    "Unit",
    "results_of",
    "sweep",
    "taken_up",
    "unit_results",
    "units_of",
]
