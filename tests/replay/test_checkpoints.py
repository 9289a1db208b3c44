"""Checkpoints: what is written is read back, and what a stranger wrote cannot do worse than stop the machine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostvm.errors import HostvmError
from hostvm.machine import Machine
from hostvm.units import Tick
from replay.checkpoints import checkpoint_of, state_of
from replay.errors import Place, TraceFormatError
from replay.log import Checkpoint
from replay.virtual_world import VirtualWorld
from replay.wire import pack_map, unpack_map
from tests.replay.recorded import hello

HERE = ("a.lgt", 0x123)
STOPS = (0, 1, 30_000, 90_000, 200_000)
FURTHER = 5000


def machine_at(tick: int, guests: int = 1) -> Machine:
    machine = Machine(hello("loops=1 hz=20000", guests), VirtualWorld(1))
    machine.run(Tick(tick))
    return machine


@pytest.mark.parametrize("guests", [1, 2])
@pytest.mark.parametrize("tick", STOPS)
def test_a_checkpoint_read_back_is_the_machine_it_was_taken_of(tick: int, guests: int) -> None:
    machine = machine_at(tick, guests)
    before = machine.digest()
    checkpoint = checkpoint_of(machine)
    packed = Checkpoint(checkpoint.tick, unpack_map(pack_map(checkpoint.fields), Place(*HERE)))
    other = Machine(machine.config, VirtualWorld(2))
    state = state_of(packed, other, *HERE)
    assert state == machine.state()
    other.restore(state)
    assert other.state() == state
    assert other.digest() == before == machine.digest()


@pytest.fixture(scope="module")
def machine() -> Machine:
    return machine_at(90_000)


@pytest.fixture(scope="module")
def checkpoint(machine: Machine) -> Checkpoint:
    return checkpoint_of(machine_at(90_000))


def changed(checkpoint: Checkpoint, name: str, value: Any) -> Checkpoint:
    return replace(checkpoint, fields={**checkpoint.fields, name: value})


def test_a_checkpoint_without_one_of_its_fields_is_refused(
    machine: Machine, checkpoint: Checkpoint
) -> None:
    for name in checkpoint.fields:
        fields = {key: value for key, value in checkpoint.fields.items() if key != name}
        with pytest.raises(TraceFormatError) as caught:
            state_of(Checkpoint(checkpoint.tick, fields), machine, *HERE)
        assert (caught.value.path, caught.value.offset) == HERE
        assert name.split(".")[-1] in str(caught.value)


@pytest.mark.parametrize("value", [None, -1, 1 << 64, "x", b"x", [None], [[]], {"a": 1}])
def test_a_field_of_another_kind_is_refused(
    machine: Machine, checkpoint: Checkpoint, value: Any
) -> None:
    for name in checkpoint.fields:
        if name.endswith("ended_text") and value == "x":
            continue
        with pytest.raises(TraceFormatError):
            state_of(changed(checkpoint, name, value), machine, *HERE)


def test_a_checkpoint_of_another_machine_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(TraceFormatError):
        state_of(checkpoint, machine_at(0, guests=2), *HERE)
    with pytest.raises(TraceFormatError, match="another tick"):
        state_of(replace(checkpoint, tick=Tick(5)), machine_at(0), *HERE)


NUMBERS = st.one_of(
    st.sampled_from([0, 1, 7, 0xFFF, 0x1000, 0xC0000000, 0xFFC00000, 0xFFFFFFFF]),
    st.integers(0, (1 << 32) - 1),
)


def other_value(data: st.DataObject, value: Any) -> Any:
    """A value of the same kind."""
    match value:
        case bool():
            return not value
        case int():
            return data.draw(NUMBERS)
        case bytes():
            return other_bytes(data, value)
        case str():
            return data.draw(st.text(max_size=20))
        case []:
            return data.draw(st.lists(NUMBERS, max_size=2))
        case list():
            at = data.draw(st.integers(0, len(value) - 1))
            return [*value[:at], other_value(data, value[at]), *value[at + 1 :]]
        case _:
            return value


def other_bytes(data: st.DataObject, value: bytes) -> bytes:
    if not value:
        return data.draw(st.binary(max_size=8))
    at = data.draw(st.integers(0, len(value) - 1))
    piece = data.draw(st.binary(min_size=1, max_size=8))
    return (value[:at] + piece + value[at + len(piece) :])[: len(value)]


def ends_in_a_defined_way(machine: Machine, act: Callable[[], None]) -> None:
    with suppress(TraceFormatError, HostvmError):
        act()
    machine.world = VirtualWorld(1)


@given(st.data())
@settings(max_examples=150)
def test_a_forged_checkpoint_is_refused_or_runs_into_a_defined_end(
    machine: Machine, checkpoint: Checkpoint, data: st.DataObject
) -> None:
    forged = checkpoint
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(sorted(checkpoint.fields)))
        forged = changed(forged, name, other_value(data, forged.fields[name]))

    def act() -> None:
        state = state_of(forged, machine, *HERE)
        machine.restore(state)
        machine.run(Tick(state.tick + FURTHER))
        machine.digest()
        checkpoint_of(machine)

    ends_in_a_defined_way(machine, act)


def test_a_forged_checkpoint_does_not_spoil_the_machine_for_the_next(
    machine: Machine, checkpoint: Checkpoint
) -> None:
    machine.restore(state_of(checkpoint, machine, *HERE))
    machine.world = VirtualWorld(1)
    assert machine.state() == machine_at(90_000).state()


def test_the_checkpoint_of_a_small_guest_is_small(checkpoint: Checkpoint) -> None:
    assert len(pack_map(checkpoint.fields)) < 1 << 20
