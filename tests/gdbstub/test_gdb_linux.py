"""Real gdbs on real Linux kernels: their tasks and their messages, read from the Guest's memory.

The kernels are the user's (docs/linux.md). What they have printed, which the trace holds, says what is right.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gdbstub.serving import GDB_SCRIPT
from hostvm.observations import ConsoleOutput
from replay.log import TraceReader
from tests.end_to_end.commands import lgreplay
from tests.gdbstub.debuggers import Gdb, found
from tests.gdbstub.test_gdb_kestrel import LGREPLAY
from tests.linux_kernels import NOT_SET, Ending, LinuxBoot, boots, small_user_space

pytestmark = [pytest.mark.needs_gdb, pytest.mark.slow, pytest.mark.timeout(600)]
KERNELS = tuple({boot.kernel: boot for boot in boots()}.values())
if not KERNELS:
    pytestmark.append(pytest.mark.skip(NOT_SET))
SYSTEMS = next((gdb for gdb in found() if not gdb.home), None)


@pytest.fixture(scope="module", params=KERNELS, ids=lambda boot: boot.kernel.name)
def trace(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    boot = request.param
    assert isinstance(boot, LinuxBoot)
    folder = tmp_path_factory.mktemp("linux")
    initrd = folder / "initramfs"
    initrd.write_bytes(small_user_space(Ending.POWEROFF))
    words = ["--kernel", boot.kernel, "--memory", f"{boot.memory}M", "--initrd", initrd]
    options = ["--append", boot.command_line, "--clock", "virtual", "--quiet", "-o", "t.lgt"]
    done = lgreplay("record", *map(str, words), *options, folder=folder)
    assert done.code == 0, done.err
    return folder / "t.lgt"


@pytest.fixture
def gdb() -> Gdb:
    if SYSTEMS is None:
        pytest.skip("the system has no gdb")
    return SYSTEMS


def said(gdb: Gdb, trace: Path, *commands: str) -> list[str]:
    start = ("set pagination off", "set confirm off", f"source {GDB_SCRIPT}")
    return gdb.batch([*start, f"target remote | {LGREPLAY} gdb --stdio {trace}", *commands])


def greeted(trace: Path) -> tuple[int, str]:
    """When user space has last said that it works, and everything said until then."""
    with TraceReader(trace) as reader:
        printed = [event for event in reader.events() if isinstance(event, ConsoleOutput)]
    last = max(at for at, event in enumerate(printed) if b"works" in event.data)
    return printed[last].tick, b"".join(event.data for event in printed[: last + 1]).decode()


def test_its_tasks_are_those_that_there_must_be(gdb: Gdb, trace: Path) -> None:
    tick, _ = greeted(trace)
    lines = said(gdb, trace, f"seek {tick}", "info lx-tasks", "p $lx_current()", "info lguest")
    tasks = [line.split() for line in lines if re.match(r"[ *] 0x", line)]
    rows = {int(words[-4]): words[-3] for words in tasks}
    assert rows[0] in {"swapper", "swapper/0"}
    assert (rows[1], rows[2]) == ("init", "kthreadd")
    assert len(rows) == len(tasks)
    (current,) = (words for words in tasks if words[0] == "*")
    assert any(line.startswith("$") and int(current[1], 16) for line in lines)
    assert f"current task   {current[3]}" in lines


def test_the_first_task_is_the_only_one_at_first(gdb: Gdb, trace: Path) -> None:
    lines = said(gdb, trace, "break start_kernel", "continue", "info lx-tasks", "info threads")
    (task,) = (line.split() for line in lines if re.match(r"[ *] 0x", line))
    assert (task[0], task[2]) == ("*", "0")
    assert any("Guest kernel" in line and "task swapper" in line for line in lines)


def test_its_messages_are_what_it_printed(gdb: Gdb, trace: Path) -> None:
    tick, console = greeted(trace)
    lines = said(gdb, trace, f"seek {tick}", "echo begin\\n", "info lx-dmesg", "detach")
    stamp = re.compile(r"\[ *\d+\.\d+\] |<\d>")
    messages = [stamp.sub("", line).strip() for line in lines[lines.index("begin") + 1 :]]
    printed = {stamp.sub("", line).strip() for line in console.splitlines()}
    known = [line for line in messages if line in printed]
    (version,) = (line for line in messages if line.startswith("Linux version "))
    assert version in printed
    # What is for debugging only does not reach the console.
    assert len(known) > len(messages) * 2 // 3 > 15
