"""The compiled part: when there is one, when it is refused, and when it leaves the counting to the engine."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import hostvm.native
from hostvm import doctor
from hostvm.cpu import Cpu, ExitKind
from hostvm.memory import PhysicalMemory
from hostvm.native import HERE, VARIABLE, load
from hostvm.native.build import LIBRARY, SOURCES, build, source_digest
from hostvm.probes import EVERYWHERE, NO_PROBES, Probes
from hostvm.units import HostPhysical
from tests.hostvm.bare_machine import CODE, DATA, BareMachine
from tests.hostvm.ways import COMPILED, counting, needs_compiled


def _cpu() -> Cpu:
    return Cpu(PhysicalMemory(HostPhysical(0), 1 << 20))


def test_the_environment_can_forbid_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "0")
    assert load().library is None
    assert _cpu().native == "switched off by LGREPLAY_NATIVE=0"


def test_where_it_was_not_built_the_doctor_says_so_and_is_content(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(hostvm.native, "HERE", tmp_path)
    hostvm.native._load.cache_clear()
    try:
        finding = doctor.check_native()
    finally:
        hostvm.native._load.cache_clear()
    assert finding.good is None
    assert "not built" in finding.text


@needs_compiled
def test_the_doctor_says_that_it_is_there() -> None:
    with counting(COMPILED):
        finding = doctor.check_native()
    assert finding.good
    assert "counts and delivers" in finding.text


@needs_compiled
def test_one_that_was_built_from_other_sources_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for path in HERE.iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    (tmp_path / "run.c").write_text("/* something else */")
    monkeypatch.setattr(hostvm.native, "HERE", tmp_path)
    hostvm.native._load.cache_clear()
    try:
        assert load().text == "built from other sources; install again"
    finally:
        hostvm.native._load.cache_clear()


@needs_compiled
def test_an_engine_in_which_it_does_not_count_right_goes_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hostvm.native.blocks.Blocks, "run", lambda *_: (1, 1, 0))
    with counting(COMPILED):
        cpu = _cpu()
    assert cpu.native == "does not count as it should"


@needs_compiled
def test_probes_take_the_counting_away_and_a_long_run_without_them_gives_it_back() -> None:
    # 1: inc %eax; jmp 1b
    with counting(COMPILED):
        bare = BareMachine(b"\x40\xeb\xfd")
    bare.start(3)
    by_blocks = bare.cpu._by_blocks
    assert by_blocks is not None
    blocks = by_blocks.blocks
    bare.cpu.run(100)
    assert blocks.on
    bare.cpu.set_probes(Probes(code=(EVERYWHERE,)))
    bare.cpu.run(100)
    assert not blocks.on
    bare.cpu.set_probes(NO_PROBES)
    bare.cpu.run(100)
    assert blocks.on
    assert bare.cpu.state().regs[0] == 150


@needs_compiled
@pytest.mark.parametrize("form", ["add", "and", "cmp"])
def test_a_bit_test_leaves_the_flags_that_it_does_not_define(form: str) -> None:
    """What they are would depend on what the engine has translated together with it."""
    opcode = {"add": b"\x01", "and": b"\x21", "cmp": b"\x39"}[form]
    outcomes = []
    for cut in (100, 1):
        with counting(COMPILED):
            bare = BareMachine(opcode + b"\xd8" + b"\x0f\xa3\xc8" + b"\xf4")
        bare.start(0, {0: 0x7FFFFFFF, 3: 0x7FFFFFFF, 1: 3})
        while bare.cpu.run(cut).kind is not ExitKind.HALT:
            pass
        outcomes.append(bare.cpu.state())
    assert outcomes[0] == outcomes[1]


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize(("count", "equal", "taken"), [(2, 0, 1), (1, 0, 0), (2, 1, 0)])
def test_loopne_counts_looks_at_zf_and_keeps_the_flags(count: int, equal: int, taken: int) -> None:
    # cmp %ebx,%eax; loopne +2; hlt; hlt; hlt
    program = b"\x39\xd8\xe0\x02\xf4\xf4\xf4"
    bare = BareMachine(program)
    bare.start(0, {0: 5, 3: 5 if equal else 6, 1: count})
    assert bare.cpu.run(100).steps == 3
    assert bare.cpu.eip == CODE + 5 + 2 * taken
    assert bare.cpu.state().regs[1] == count - 1
    assert bool(bare.cpu.eflags() & 1) is not bool(equal)


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("cut", [1, 100])
def test_a_code_segment_that_does_not_begin_at_zero_is_run_where_it_lies(cut: int) -> None:
    bare = BareMachine(b"\x40\x40\x40\x40\xf4")
    bare.start(0)
    bare.cpu.env.segs[1].base = DATA - CODE
    bare.memory.write(DATA, b"\x41\x41\x41\x41\xf4")
    steps = 0
    while True:
        done = bare.cpu.run(cut)
        steps += done.steps
        if done.kind is ExitKind.HALT:
            break
        assert steps < 10
    assert (steps, bare.cpu.state().regs[1], bare.cpu.eip) == (5, 4, CODE + 5)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler: building was not tried")
def test_it_needs_nothing_but_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    for name in SOURCES:
        shutil.copy(HERE / name, tmp_path)
    assert build(tmp_path) is None
    assert source_digest(tmp_path) == source_digest(HERE)
    assert (tmp_path / LIBRARY).stat().st_size > 0


def test_why_it_cannot_be_built_is_said_in_one_line_and_an_old_one_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    for name in SOURCES:
        shutil.copy(HERE / name, tmp_path)
    (tmp_path / LIBRARY).touch()
    monkeypatch.setenv("CC", "no-such-compiler")
    assert build(tmp_path) == "there is no C compiler"
    assert not (tmp_path / LIBRARY).exists()
    monkeypatch.setenv("CC", "false")
    assert build(tmp_path) == f"{shutil.which('false')} failed: no message"
    monkeypatch.setenv(VARIABLE, "0")
    assert build(tmp_path) == "LGREPLAY_NATIVE=0 says so"
