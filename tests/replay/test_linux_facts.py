"""A Linux's version, command line and resources, out of memory that is made up."""

from __future__ import annotations

import pytest

from replay.linux_facts import command_line, resources, version
from replay.linux_memory import NoLinux
from tests.replay.made_up_kernel import BASE, MadeUp

NAMES = BASE + 0x1000


def test_the_version_is_the_kernels_banner() -> None:
    memory = MadeUp()
    memory.symbols["linux_banner"] = BASE
    memory.put(BASE, b"Linux version 3.11.0 (somebody)\n\0rest")
    assert version(memory.kernel()) == "Linux version 3.11.0 (somebody)"


def test_what_is_missing_is_said() -> None:
    memory = MadeUp()
    with pytest.raises(NoLinux, match="no symbol linux_banner"):
        version(memory.kernel())
    memory.symbols["linux_banner"] = 0x1000
    with pytest.raises(NoLinux, match="linux_banner is not mapped here"):
        version(memory.kernel())


@pytest.mark.parametrize("is_saved", [False, True])
def test_the_command_line_is_the_one_saved_or_before_that_the_first(*, is_saved: bool) -> None:
    memory = MadeUp()
    memory.symbols |= {"saved_command_line": BASE, "boot_command_line": BASE + 0x100}
    memory.words(BASE, NAMES if is_saved else 0)
    memory.put(BASE + 0x100, b"first\0")
    memory.put(NAMES, b"console=hvc0\0")
    assert command_line(memory.kernel()) == ("console=hvc0" if is_saved else "first")


def tree() -> MadeUp:
    """System RAM with the kernel's code in it, and a device behind it."""
    memory = MadeUp()
    memory.symbols["iomem_resource"] = BASE
    root, ram, code, device = (BASE + at for at in (0, 0x40, 0x80, 0xC0))
    memory.put(NAMES, b"System RAM\0Kernel code\0")
    memory.words(root, 0, 0xFFFFFFFF, 0, 0, 0, 0, ram)
    memory.words(ram, 0x1000, 0x9FFFF, NAMES, 0, root, device, code)
    memory.words(code, 0x2000, 0x2FFF, NAMES + 11, 0, ram, 0, 0)
    memory.words(device, 0xF0000000, 0xF0000FFF, 0, 0, root, 0, 0)
    return memory


def test_resources_are_shown_as_the_tree_that_they_are() -> None:
    assert list(resources(tree().kernel(), "iomem_resource")) == [
        "00001000-0009ffff : System RAM",
        "  00002000-00002fff : Kernel code",
        "f0000000-f0000fff : <BAD>",
    ]


def test_a_tree_that_bites_its_own_tail_comes_to_an_end() -> None:
    memory = tree()
    memory.words(BASE + 0xC0 + 20, BASE + 0x40)
    with pytest.raises(NoLinux, match="is no tree here"):
        list(resources(memory.kernel(), "iomem_resource"))


def test_a_tree_that_leads_nowhere_is_said_to() -> None:
    memory = tree()
    memory.words(BASE + 0xC0 + 20, 0x10)
    with pytest.raises(NoLinux, match="0x00000010 is not mapped here"):
        list(resources(memory.kernel(), "iomem_resource"))
