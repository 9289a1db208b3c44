"""The sample traces are golden files: a machine that behaves otherwise than when they were recorded fails here."""

from __future__ import annotations

from pathlib import Path

import pytest

from replay.log import TraceReader
from tests.readme_session import BLOCK, comparable, replayed
from tests.replay.recorded import verify
from tests.samples import FOLDER, Sample, samples

LARGEST = 200_000

each_sample = pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.trace.stem)


def test_every_trace_has_a_recipe_and_every_recipe_a_trace() -> None:
    assert {sample.trace for sample in samples()} == set(FOLDER.glob("*/*.lgt"))
    assert samples()


@pytest.mark.parametrize(
    "readme", sorted(FOLDER.glob("*/README.md")), ids=lambda it: it.parent.name
)
def test_the_session_of_a_sample_goes_as_shown(readme: Path) -> None:
    """After a change to what is shown: `python -m tests.readme_session traces/*/README.md`."""
    text = readme.read_text(encoding="utf-8")
    assert BLOCK.search(text)
    assert comparable(replayed(text, readme.parent.glob("*.lgt"))) == comparable(text)


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
