"""The sample traces are golden files: a machine that behaves otherwise than when they were recorded fails here."""

from __future__ import annotations

from pathlib import Path

import pytest

from replay.log import TraceReader
from tests import gdb_session
from tests.gdbstub.debuggers import found
from tests.readme_session import BLOCK, comparable, replayed
from tests.replay.recorded import verify
from tests.samples import FOLDER, Sample, samples

LARGEST = 200_000

each_sample = pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.trace.stem)


def test_every_trace_has_a_recipe_and_every_recipe_a_trace() -> None:
    assert {sample.trace for sample in samples()} == set(FOLDER.glob("*/*.lgt"))
    assert samples()


each_readme = pytest.mark.parametrize(
    "readme", sorted(FOLDER.glob("*/README.md")), ids=lambda it: it.parent.name
)
each_with_gdb = pytest.mark.parametrize(
    "readme",
    [it for it in sorted(FOLDER.glob("*/README.md")) if gdb_session.LAUNCH in it.read_text()],
    ids=lambda it: it.parent.name,
)


@each_readme
def test_the_table_of_samples_has_every_one(readme: Path) -> None:
    assert f"({readme.parent.name}/README.md)" in (FOLDER / "README.md").read_text("utf-8")


@each_readme
def test_the_session_of_a_sample_goes_as_shown(readme: Path) -> None:
    """After a change to what is shown: `python -m tests.readme_session traces/*/README.md`."""
    text = readme.read_text(encoding="utf-8")
    assert BLOCK.search(text)
    assert comparable(replayed(text, readme.parent.glob("*.lgt"))) == comparable(text)


@pytest.mark.needs_gdb
@each_with_gdb
def test_gdb_says_on_a_sample_what_is_shown(readme: Path) -> None:
    """After a change to what is shown: `python -m tests.gdb_session traces/*/README.md`."""
    text = readme.read_text(encoding="utf-8")
    assert gdb_session.replayed(text, readme.parent, found()[0]) == text


@each_sample
def test_a_sample_does_again_what_it_did(sample: Sample) -> None:
    with TraceReader(sample.trace) as reader:
        reader.verify()
        assert reader.end is not None
        end, events = reader.end, reader.event_count
    shown = verify(sample.trace)
    assert (shown.first_tick, shown.last_tick, shown.events) == (0, end.tick, events)
    assert shown.torn is None


@each_sample
def test_a_sample_is_small_and_explained(sample: Sample) -> None:
    assert sample.trace.stat().st_size < LARGEST
    readme = sample.trace.with_name("README.md").read_text()
    assert f"{sample.command_line}\n" in readme


@each_sample
def test_a_sample_was_recorded_as_its_recipe_says(sample: Sample) -> None:
    with TraceReader(sample.trace) as reader:
        program, *arguments = reader.header.command_line
    assert program == "lgreplay"
    assert tuple(arguments) == sample.command
