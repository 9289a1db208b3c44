"""The runs of a sweep made by a Dask cluster, whose workers need share nothing with us but this program.

The bytes of the trace are the result of a task: a worker gets them once, and if the one that holds them dies, the
scheduler makes them again. A unit of work is a task too, so others make what a dead worker had not finished. A worker
keeps the machine of the sweep that it took part in last.

Results are those of a local sweep, to the byte. Needs the extra `dask`. Read next: sweep_crew.py.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from importlib import import_module
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

from hostvm.errors import HostvmError
from hostvm.units import Tick
from replay.errors import ReplayError
from replay.log import TraceReader
from replay.outcomes import Outcome
from replay.sweep import Sweep
from replay.sweep_crew import Journal, Results, Unit, results_of, taken_up, unit_results
from replay.sweep_plan import BadSweep, Plan

CONNECT_SECONDS = 10
# Dask gives a task up that so many workers have died with; a killed worker is no reason to lose one.
DEATHS = 10
_Answer: TypeAlias = list[list[dict[str, Any]]] | dict[str, str]


def sweep_on(
    address: str,
    path: str | PathLike[str],
    plan: Plan,
    ticks: Iterable[Tick],
    *,
    journal: Journal | None = None,
) -> Iterator[Outcome]:
    """As sweep_crew.sweep does, on the cluster at `address`. Raises BadSweep, also where there is none."""

    def made(units: Sequence[Unit]) -> Iterator[Results]:
        return _results(address, Path(path).read_bytes(), plan, units)

    return taken_up(ticks, journal, made)


def _results(address: str, trace: bytes, plan: Plan, units: Sequence[Unit]) -> Iterator[Results]:
    try:
        # Carries no types.
        distributed: Any = import_module("distributed")
    except ImportError as error:
        raise BadSweep(
            "--dask: distributed is not installed (pip install lgreplay[dask])"
        ) from error
    try:
        client = distributed.Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError, TypeError) as error:
        raise BadSweep(f"no Dask cluster at {address}: {error}") from error
    with client:
        text = json.dumps(plan.to_json())
        carried = client.submit(bytes, trace, pure=False, retries=DEATHS)
        tasks = [
            client.submit(_work, carried, text, unit, pure=False, retries=DEATHS) for unit in units
        ]
        try:
            for _, answer in distributed.as_completed(tasks, with_results=True):
                yield from _taken(answer)
        except distributed.KilledWorker as error:
            raise BadSweep(f"the cluster's workers die: {error}") from error
        except ConnectionError as error:
            raise BadSweep(f"the Dask cluster at {address} has gone: {error}") from error
        finally:
            client.cancel(tasks)


def _taken(answer: _Answer) -> Iterator[Results]:
    for row in [answer] if isinstance(answer, dict) else answer:
        results = results_of(row)
        if isinstance(results, str):
            raise BadSweep(results)
        yield results


# ---- on a worker -----------------------------------------------------------------------------------

# A worker may have several threads; a machine is for one.
_alone = Lock()


def _work(trace: bytes, plan: str, unit: Unit) -> _Answer:
    try:
        with _alone:
            return list(unit_results(_machine(trace, plan), unit))
    except (ReplayError, HostvmError, OSError) as error:
        return {"error": str(error)}


@lru_cache(maxsize=1)
def _machine(trace: bytes, plan: str) -> Sweep:
    with tempfile.NamedTemporaryFile(suffix=".lgt") as file:
        file.write(trace)
        file.flush()
        # The reader keeps the file open, so its name may go.
        return Sweep(TraceReader(file.name), Plan.from_json(json.loads(plan)))


__all__ = ["sweep_on"]
