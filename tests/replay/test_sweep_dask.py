"""A sweep on a Dask cluster of several processes: nothing is lost, and nothing is different."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hostvm.units import Tick
from replay import cli
from replay.exit_codes import ExitCode
from replay.outcomes import Oracle, Outcome
from replay.sweep_crew import sweep
from replay.sweep_dask import sweep_on
from replay.sweep_plan import BadSweep, Plan

distributed = pytest.importorskip("distributed", reason="no Dask here: pip install lgreplay[dask]")

PASSING = Path(__file__).parents[2] / "traces" / "iret-race" / "passing.lgt"
PLAN = Plan(oracle=Oracle(ticks=5_000))
TICKS = [Tick(tick) for tick in range(317_000, 317_200)]
# What Dask says of dead workers and open sockets is its own affair.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    options = {"threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(n_workers=3, **options) as made:
        yield made


def in_order(outcomes: Iterator[Outcome]) -> list[Outcome]:
    return sorted(outcomes, key=lambda outcome: outcome.tick)


def test_a_cluster_finds_what_processes_find_though_one_of_its_workers_is_killed(
    cluster: Any,
) -> None:
    found: list[Outcome] = []
    for outcome in sweep_on(cluster.scheduler_address, PASSING, PLAN, TICKS):
        if not found:
            os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)
        found.append(outcome)
    assert in_order(iter(found)) == in_order(sweep(PASSING, PLAN, TICKS, workers=1))


def test_an_error_on_a_worker_is_ours(cluster: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.lgt"
    broken.write_bytes(PASSING.read_bytes()[:5000])
    with pytest.raises(BadSweep, match="lgt"):
        list(sweep_on(cluster.scheduler_address, broken, PLAN, TICKS))


def test_the_command_shows_the_same(cluster: Any, capfd: pytest.CaptureFixture[str]) -> None:
    command = ["sweep", str(PASSING), "--window", "317000..317050", "--ticks", "5k"]
    assert cli.run([*command, "--dask", cluster.scheduler_address]) == ExitCode.OK
    there = capfd.readouterr().out
    assert cli.run([*command, "--workers", "1"]) == ExitCode.OK
    assert capfd.readouterr().out == there


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "what://127.0.0.1:1"])
def test_where_no_cluster_is_it_says_so_in_one_line(
    address: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("replay.sweep_dask.CONNECT_SECONDS", 0.3)
    command = ["sweep", str(PASSING), "--window", "317000..317050", "--dask", address]
    assert cli.run(command) == ExitCode.REFUSED
    err = capfd.readouterr().err
    assert err.startswith(f"lgreplay: no Dask cluster at {address}")
    assert err.count("\n") == 1
