"""Instructions that the Launcher carries out: widths, registers, lengths, and those that it does not know."""

from __future__ import annotations

import pytest

from hostvm.emulate_io import emulate_mmio, emulate_port
from tests.hostvm.devices.pci_driver import ADDRESS_PORT, DATA_PORT, EIP, STATUS, PciBench
from tests.hostvm.lguest_kit import PlainRegs

SLOT_1 = 1 << 31 | 1 << 11


class Asked(PlainRegs):
    """Registers by name."""

    def get(self, name: str) -> int:
        return int(getattr(self, name))

    def set(self, name: str, value: int) -> None:
        assert 0 <= value < 1 << 32
        setattr(self, name, value)


def registers(**values: int) -> Asked:
    return Asked(eip=EIP, **values)


def port(bench: PciBench, code: str, **values: int) -> Asked | None:
    """Registers after an instruction that was carried out."""
    regs = registers(**values)
    insn = bytes.fromhex(code).ljust(7, b"\x90")
    return regs if emulate_port(insn, regs, bench.bus) else None


@pytest.mark.parametrize(
    ("code", "port_", "eax", "length"),
    [
        ("ec", DATA_PORT, 0xAAAAAAF4, 1),
        ("66ed", DATA_PORT, 0xAAAA1AF4, 2),
        ("ed", DATA_PORT, 0x10431AF4, 1),
        ("ec", DATA_PORT + 3, 0xAAAAAA10, 1),
        ("66ed", DATA_PORT + 2, 0xAAAA1043, 2),
        ("ed", ADDRESS_PORT, SLOT_1, 1),
        ("e464", 0, 0xAAAAAA01, 2),
        ("e460", 0, 0xAAAAAAFF, 2),
        ("66e571", 0, 0xAAAAFFFF, 3),
        ("ed", 0x3F8, 0xFFFFFFFF, 1),
    ],
)
def test_in_reads_as_many_bytes_as_it_says(code: str, port_: int, eax: int, length: int) -> None:
    bench = PciBench()
    bench.bus.port_out(ADDRESS_PORT, 4, SLOT_1, EIP)
    regs = port(bench, code, eax=0xAAAAAAAA, edx=0x50000 | port_)
    assert regs is not None
    assert (regs.eax, regs.eip) == (eax, EIP + length)


def test_out_writes_and_to_ports_of_nobody_too() -> None:
    bench = PciBench()
    regs = port(bench, "ef", eax=SLOT_1, edx=ADDRESS_PORT)
    assert regs is not None
    assert (regs.eip, bench.bus.port_in(DATA_PORT, 4, EIP)) == (EIP + 1, 0x10431AF4)
    for code in ("e680", "66e780", "ee"):
        assert port(bench, code, edx=0x3F8) is not None


def test_cli_is_skipped() -> None:
    regs = port(PciBench(), "fa")
    assert regs is not None
    assert regs.eip == EIP + 1


@pytest.mark.parametrize("code", ["f4", "6c", "66f4", "f3ec", "0f30", "fb", "6666ed"])
def test_what_is_none_of_these_is_the_guests_own_fault(code: str) -> None:
    assert port(PciBench(), code) is None


def test_a_program_may_not_and_a_register_that_cannot_be_written_is_a_fault() -> None:
    assert port(PciBench(), "ed", cs=0x73, edx=DATA_PORT) is None
    assert port(PciBench(), "ef", edx=DATA_PORT) is None


# Moves to and from registers of devices: ModRM 0x01 is (%ecx) with eax, 0x41 the same with one byte behind it.


def move(bench: PciBench, offset: int, code: str, **values: int) -> Asked | None:
    regs = registers(**values)
    address = bench.placed("console").address + offset
    insn = bytes.fromhex(code).ljust(7, b"\x90")
    return regs if emulate_mmio(insn, address, regs, bench.bus) else None


@pytest.mark.parametrize(
    ("code", "name", "value", "length"),
    [
        ("8801", "eax", 0x99999901, 2),
        ("8811", "edx", 0x99999901, 2),
        ("8821", "eax", 0x99990199, 2),
        ("8839", "ebx", 0x99990199, 2),
        ("884114", "eax", 1, 3),
        ("888114000000", "eax", 1, 6),
        ("8805", "eax", 1, 4),
    ],
    ids=["al", "dl", "ah", "bh", "disp8", "disp32", "no base"],
)
def test_a_store_takes_its_register_and_goes_on_behind_its_displacement(
    code: str, name: str, value: int, length: int
) -> None:
    bench = PciBench()
    regs = move(bench, STATUS, code, **{name: value})
    assert regs is not None
    assert (bench.read("console", STATUS, 1), regs.eip) == (1, EIP + length)


@pytest.mark.parametrize(
    ("code", "name", "value", "length"),
    [
        ("668b01", "eax", 0x99990002, 3),
        ("668b39", "edi", 0x99990002, 3),
        ("668b6112", "esp", 0x99990002, 4),
    ],
)
def test_a_load_changes_as_much_of_its_register_as_it_reads(
    code: str, name: str, value: int, length: int
) -> None:
    regs = move(PciBench(), 18, code, **{name: 0x99999999})
    assert regs is not None
    assert (regs.get(name), regs.eip) == (value, EIP + length)


def test_high_bytes_are_loaded_beside_low_ones() -> None:
    bench = PciBench()
    bench.write("console", STATUS, 1, 1)
    regs = move(bench, STATUS, "8a21", eax=0x99999977)
    assert regs is not None
    assert regs.eax == 0x99990177


@pytest.mark.parametrize("code", ["c70100000000", "a1", "668801", "f3a4", "ff01", "0fb601", "87"])
def test_other_instructions_are_the_guests_own_fault(code: str) -> None:
    assert move(PciBench(), STATUS, code) is None


@pytest.mark.parametrize("offset", [-1, 72, 4096])
def test_so_is_memory_that_is_no_devices(offset: int) -> None:
    assert move(PciBench(), offset, "8801") is None
