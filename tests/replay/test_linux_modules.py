"""The modules of a Linux, in memory that is made up: two arrangements of the same structure."""

from __future__ import annotations

from itertools import pairwise

import pytest

from replay.linux_memory import NoLinux
from replay.linux_modules import Module, loaded_modules
from tests.replay.made_up_kernel import BASE, MadeUp

HEAD, CORE, OTHER = BASE + 0x100, BASE + 0x4000, BASE + 0x8000
INSIDE = 0x640


def memory_with(*cores: int, places_at: int = 0xD8, init: int = 0) -> MadeUp:
    memory = MadeUp()
    memory.symbols |= {"init_task": BASE, "modules": HEAD}
    structs = [core + INSIDE for core in cores]
    nodes = [HEAD, *(at + 4 for at in structs), HEAD]
    for node, following in pairwise(nodes):
        memory.words(node, following)
    for number, (at, core) in enumerate(zip(structs, cores, strict=True)):
        memory.put(at + 12, b"module_%d\0" % number)
        memory.words(at + places_at, init, core, 0x80 if init else 0, 0x1234, 0, 0x500)
    return memory


@pytest.mark.parametrize("places_at", [0x60, 0xD8, 0x140])
def test_modules_are_found_wherever_their_fields_are(places_at: int) -> None:
    found = list(loaded_modules(memory_with(CORE, OTHER, places_at=places_at).kernel()))
    assert found == [
        Module("module_0", CORE + INSIDE, CORE, 0x1234),
        Module("module_1", OTHER + INSIDE, OTHER, 0x1234),
    ]


def test_one_that_is_just_beginning_has_its_first_part_still() -> None:
    (module,) = loaded_modules(memory_with(CORE, init=0xC4830000).kernel())
    assert module.init == 0xC4830000


def test_a_kernel_that_can_have_none_has_none() -> None:
    memory = MadeUp()
    memory.symbols["init_task"] = BASE
    assert list(loaded_modules(memory.kernel())) == []


def test_before_there_is_a_list_there_are_none() -> None:
    memory = MadeUp()
    memory.symbols |= {"init_task": BASE, "modules": HEAD}
    assert list(loaded_modules(memory.kernel())) == []


def test_what_is_no_linux_is_said_to_be_none() -> None:
    with pytest.raises(NoLinux):
        list(loaded_modules(MadeUp().kernel()))


def test_a_list_without_an_end_ends() -> None:
    memory = memory_with(CORE)
    memory.words(CORE + INSIDE + 4, CORE + INSIDE + 4)
    assert len(list(loaded_modules(memory.kernel()))) <= 1000
