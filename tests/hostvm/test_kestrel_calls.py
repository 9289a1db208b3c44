"""What ordinary programs ask of kernels, asked of kestrel: clone, files, times, a terminal, a restart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hostvm.abi import Call, generation
from hostvm.devices.config import BlockConfig
from hostvm.launcher import GuestConfig
from hostvm.machine import Machine, MachineConfig
from hostvm.observations import EndReason, GuestRestarted
from hostvm.units import Tick
from hostvm.world import DEVICE_VECTOR, Completion
from tests.hostvm.quiet_world import QuietWorld
from tests.hostvm.test_kestrel import GENERATIONS, LONGEST, MEMORY, Typist, boot, both, kernel
from tests.hostvm.user_programs import compiled, exit_with, newc, program

Compile = Callable[[str], bytes]


# 2.6.23 has no hypercall to restart: a Guest that tries it as on a PC is gone.
restarting = pytest.mark.parametrize(
    "abi", [abi for abi in GENERATIONS if Call.SHUTDOWN in generation(abi).hypercalls.values()]
)


@pytest.fixture(scope="module")
def compile_program(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    folder = tmp_path_factory.mktemp("programs")
    return lambda text: compiled(text, folder)


@both
def test_calls_of_a_c_library_have_the_answers_that_it_expects(
    abi: str, compile_program: Compile
) -> None:
    archive = newc(("init", compile_program(_CALLS)), ("etc/motd", b"hello\n"))
    _, world = boot(abi, "argv0=called", archive)
    lines = world.console.decode().splitlines()
    assert [line for line in lines if line.startswith("WRONG")] == []
    assert len([line for line in lines if line.startswith("ok ")]) == 31
    assert "kestrel: called[1] is done, status 42" in lines


_CALLS = r"""
static int call4(int n, int a, int b, int c, int d, int e) {
    int r;
    asm volatile("int $0x80" : "=a"(r) : "a"(n), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory");
    return r;
}
static int equal(const char *a, const char *b) { while (*a && *a == *b) a++, b++; return *a == *b; }
static int words[40], tid, parent_tid;
static char text[64], stack[4096];
#define CHILD_SETTID 0x1000000
#define PARENT_SETTID 0x100000
#define VFORK 0x4100
int main(int argc, char **argv) {
    check("argv0", equal(argv[0], "called"));
    int pid = call4(120, 17 | CHILD_SETTID | PARENT_SETTID, 0, (int)&parent_tid, 0, (int)&tid);
    if (!pid) syscall(252, tid == syscall(20, 0, 0, 0, 0) ? 7 : 1, 0, 0, 0);
    check("clone", pid > 1 && wait() == 7 << 8);
    check("clone tells the parent", parent_tid == pid && tid == 0);
    check("no threads", call4(120, 0x10f00, (int)(stack + 4096), 0, 0, 0) == -38);
    check("no shared memory", call4(120, 0x100, (int)(stack + 4096), 0, 0, 0) == -38);
    pid = call4(120, VFORK | 17, 0, 0, 0, 0);
    if (!pid) syscall(252, 8, 0, 0, 0);
    check("vfork", wait() == 8 << 8);
    check("clone to nowhere", call4(120, 17 | PARENT_SETTID, 0, 0x10, 0, 0) == -14);
    check("stat", syscall(195, (int)"/etc/motd", (int)words, 0, 0) == 0 && words[11] == 6);
    check("stat of nothing", syscall(195, (int)"/etc/passwd", (int)words, 0, 0) == -2);
    check("stat of the root", syscall(196, (int)"/", (int)words, 0, 0) == 0 && words[4] == 0040555);
    check("access", syscall(33, (int)"/init", 1, 0, 0) == 0 && syscall(33, (int)"/x", 1, 0, 0) == -2);
    check("readlink", syscall(85, (int)"/init", (int)text, 64, 0) == -22);
    check("chdir", syscall(12, (int)"/", 0, 0, 0) == 0 && syscall(12, (int)"/init", 0, 0, 0) == -20);
    check("getcwd", syscall(183, (int)text, 64, 0, 0) == 2 && equal(text, "/"));
    check("getcwd short", syscall(183, (int)text, 1, 0, 0) == -34);
    int fd = syscall(5, (int)"/etc/motd", 0, 0, 0);
    check("dup", syscall(41, fd, 0, 0, 0) == fd + 1 && syscall(41, 15, 0, 0, 0) == -9);
    check("dup2", syscall(63, fd, 12, 0, 0) == 12 && syscall(3, 12, (int)text, 64, 0) == 6);
    check("dup2 too far", syscall(63, fd, 16, 0, 0) == -9);
    check("fcntl", syscall(221, fd, 0, 9, 0) == 9 && syscall(221, fd, 3, 0, 0) == 2);
    check("fcntl of nothing", syscall(221, 14, 0, 9, 0) == -9 && syscall(221, fd, 77, 0, 0) == -22);
    fd = syscall(5, (int)"/dev/null", 0, 0, 0);
    check("null", syscall(4, fd, (int)text, 9, 0) == 9 && syscall(3, fd, (int)text, 9, 0) == 0);
    fd = syscall(5, (int)"/", 0, 0, 0);
    check("folder", fd > 0 && syscall(3, fd, (int)text, 9, 0) == -22);
    check("tcgets", syscall(54, 1, 0x5401, (int)words, 0) == -25 && syscall(54, 15, 0x5401, 0, 0) == -9);
    words[0] = 0; words[1] = 1; words[2] = 14; words[3] = 1;
    check("poll", syscall(168, (int)words, 2, -1, 0) == 2 && words[1] == 0x10001 && words[3] == 0x200001);
    check("limits", syscall(191, 3, (int)words, 0, 0) == 0 && words[0] == 1 << 20);
    check("prlimit", syscall(340, 0, 7, 0, (int)words) == 0 && words[1] == -1);
    check("sysinfo", syscall(116, (int)words, 0, 0, 0) == 0 && words[4] > 1 << 20);
    int then[4] = { 0, 0 }, now[4];
    syscall(265, 1, (int)words, 0, 0);
    words[1] += 3000000;
    words[0] += words[1] / 1000000000; words[1] %= 1000000000;
    check("sleep until", syscall(267, 1, 1, (int)words, 0) == 0);
    syscall(403, 1, (int)now, 0, 0);
    check("slept", now[0] > words[0] || (now[0] == words[0] && now[2] >= words[1] - 1000000));
    check("times", syscall(43, (int)words, 0, 0, 0) >= 0 && syscall(77, 0, (int)words, 0, 0) == 0);
    check("reboot how", syscall(88, 0, 0, 1, 0) == -22);
    return 42;
}
"""


@both
def test_quiet_leaves_only_the_end_of_the_first_process(abi: str) -> None:
    _, world = boot(abi, "quiet -- 1")
    ends = [line for line in world.console.splitlines() if b" is done, " in line]
    assert ends == [b"kestrel: init[1] is done, status 0"]


def typing(*typed: bytes) -> QuietWorld:
    lines = [(400_000 + 100_000 * number, DEVICE_VECTOR) for number in range(len(typed))]
    return Typist(lines, to_type=list(typed))


@both
def test_a_terminal_shows_what_is_typed_and_gives_whole_lines(abi: str) -> None:
    world = typing(b"heLx", b"\x7f\x08", b"\x1bllo\r", b"gone\x15ex", b"it\r")
    _, world = boot(abi, "init=echo tty", world=world)
    assert b"echo: type something\n" in world.console
    text = world.console.partition(b"something\n")[2]
    assert text.startswith(b"heLx\b \b\b \bllo\nhello\n")
    assert b"gone" + b"\b \b" * 4 + b"exit\necho: 6 bytes\n" in text


@both
@pytest.mark.parametrize(
    ("keys", "end"), [(b"\x04", b"echo: 0 bytes\n"), (b"\x03", b"echo[1] was killed by signal 2\n")]
)
def test_a_terminal_knows_the_end_of_input_and_the_end_of_the_reader(
    abi: str, keys: bytes, end: bytes
) -> None:
    _, world = boot(abi, "tty init=echo", world=typing(keys))
    assert end in world.console


def test_a_line_that_is_too_long_for_a_terminal_is_cut() -> None:
    world = typing(*[b"x" * 200] * 2, b"\rexit\r")
    _, world = boot("3.2", "tty init=echo", world=world)
    line = b"x" * 255 + b"\n"
    assert line + line + b"exit\necho: 256 bytes" in world.console


# ---- restarting ---------------------------------------------------------------------------------


class WithDisk(QuietWorld):
    """A QuietWorld that serves one disk of zeros at once."""

    def submit(self, tick: Tick, request: object) -> None:
        super().submit(tick, request)  # type: ignore[arg-type]
        done = self.requests[-1]
        self.to_deliver.append(Completion(0, done.device, done.irq, bytes(done.count)))
        self.lines.append((tick + 2000, DEVICE_VECTOR))


_BOOTS = r"""
static char sector[512] __attribute__((aligned(512)));
int main(int argc, char **argv) {
    int disk = syscall(5, (int)"/dev/vda", 0, 0, 0);
    syscall(3, disk, (int)sector, 512, 0);
    sector[0]++;
    syscall(19, disk, 0, 0, 0);
    syscall(4, disk, (int)sector, 512, 0);
    print("boot\n");
    if (sector[0] < 3) syscall(88, 0xfee1dead, 672274793, 0x1234567, 0);
    return sector[0];
}
"""


@restarting
def test_a_guest_that_restarts_finds_its_disk_as_it_left_it_and_nothing_else(
    abi: str, compile_program: Compile
) -> None:
    guest = GuestConfig(
        kernel(abi), "", MEMORY, compile_program(_BOOTS), abi, devices=(BlockConfig(8),)
    )
    world = WithDisk()
    machine = Machine(MachineConfig((guest,), 1 << 16, 2, restarts=True), world)
    machine.run(LONGEST)
    assert machine.finished
    restarts = [o for o in world.observations if isinstance(o, GuestRestarted)]
    assert [o.text for o in restarts] == ["Restarting"] * 2
    assert world.console.count(b"boot\n") == 3
    assert world.console.count(b"kestrel: in ring 1") == 3
    assert b"kestrel: init[1] is done, status 3\n" in world.console
    assert [end.reason for end in world.ends] == [EndReason.POWEROFF]


@restarting
def test_without_restarts_asking_for_one_is_the_end(abi: str, tmp_path: Path) -> None:
    code = b"\xb8\x58\0\0\0\xba\x67\x45\x23\x01\xcd\x80" + exit_with(1)
    _, world = boot(abi, initrd=program(code))
    assert [(end.reason, end.text) for end in world.ends] == [(EndReason.RESTART, "Restarting")]


def test_the_other_guests_run_on_while_one_restarts() -> None:
    code = b"\xb8\x58\0\0\0\xba\x67\x45\x23\x01\xcd\x80" + exit_with(1)
    again = GuestConfig(kernel("3.2"), "", MEMORY, program(code))
    other = replace(again, command_line="hz=1000 -- 1", initrd=b"")
    world = QuietWorld()
    machine = Machine(MachineConfig((again, other), 1 << 20, restarts=True), world)
    machine.run(Tick(9_000_000))
    assert [(end.guest, end.reason) for end in world.ends] == [(1, EndReason.POWEROFF)]
    assert b"init[1] is done, status 0" in world.console_of(1)
    assert sum(isinstance(o, GuestRestarted) for o in world.observations) > 3
