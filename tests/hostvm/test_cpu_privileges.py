"""Every privileged or trapping opcode at rings 0, 1 and 3, against the Intel SDM (volume 2, "Exceptions" of each).

`OK` means that the instruction completes. What the engine leaves unenforced is listed in cpu.py and not here.
"""

from __future__ import annotations

import struct

import pytest

from tests.hostvm.bare_machine import CODE, CODE_SELECTOR, DATA, STACKS, BareMachine

pytestmark = pytest.mark.usefixtures("each_way")

OK, UD, NM, GP = None, (6, 0), (7, 0), (13, 0)
DB, BP = (1, 0), (3, 0)

# opcode bytes: (name, outcome at ring 0, ring 1, ring 3)
TABLE: dict[str, tuple[str, object, object, object]] = {
    "fa": ("cli", OK, GP, GP),
    "fb": ("sti", OK, GP, GP),
    "f4": ("hlt", OK, GP, GP),
    "0f06": ("clts", OK, GP, GP),
    "0f08": ("invd", OK, GP, GP),
    "0f09": ("wbinvd", OK, GP, GP),
    "0f20c0": ("mov %cr0,%eax", OK, GP, GP),
    "0f20d0": ("mov %cr2,%eax", OK, GP, GP),
    "0f20d8": ("mov %cr3,%eax", OK, GP, GP),
    "0f22d0": ("mov %eax,%cr2", OK, GP, GP),
    "0f21f8": ("mov %dr7,%eax", OK, GP, GP),
    "0f23c0": ("mov %eax,%dr0", OK, GP, GP),
    "0f013d00000200": ("invlpg", OK, GP, GP),
    "0f011500000200": ("lgdt", OK, GP, GP),
    "0f011d00000200": ("lidt", OK, GP, GP),
    "0f00d0": ("lldt %ax", OK, GP, GP),
    # The engine takes a null selector in ring 0, where only our own Host and Switcher run.
    "0f00d8": ("ltr %ax", OK, GP, GP),
    "0f01f0": ("lmsw %ax", OK, GP, GP),
    "0f30": ("wrmsr", OK, GP, GP),
    "0f32": ("rdmsr", OK, GP, GP),
    "0f33": ("rdpmc", GP, GP, GP),
    "0f34": ("sysenter, disabled", GP, GP, GP),
    "0f35": ("sysexit, disabled", GP, GP, GP),
    "0f05": ("syscall, not on Intel", UD, UD, UD),
    "0f07": ("sysret, not on Intel", UD, UD, UD),
    "0faa": ("rsm outside SMM", UD, UD, UD),
    "0f0b": ("ud2", UD, UD, UD),
    "0f01c1": ("vmcall without VMX", UD, UD, UD),
    "0f01d9": ("vmmcall", UD, UD, UD),
    "0f01d0": ("xgetbv without XSAVE", UD, UD, UD),
    "0f01f9": ("rdtscp, not offered", UD, UD, UD),
    "0fc7f0": ("rdrand, not offered", UD, UD, UD),
    "f1": ("icebp", DB, DB, DB),
    "cc": ("int3", BP, BP, BP),
    "e460": ("in $0x60,%al", OK, GP, GP),
    "e560": ("in $0x60,%eax", OK, GP, GP),
    "ec": ("in (%dx),%al", OK, GP, GP),
    "66ed": ("in (%dx),%ax", OK, GP, GP),
    "e660": ("out %al,$0x60", OK, GP, GP),
    "ee": ("out %al,(%dx)", OK, GP, GP),
    "66ef": ("out %ax,(%dx)", OK, GP, GP),
    "6c": ("insb", OK, GP, GP),
    "6d": ("insl", OK, GP, GP),
    "f36d": ("rep insl", OK, GP, GP),
    "6e": ("outsb", OK, GP, GP),
    "f36e": ("rep outsb", OK, GP, GP),
    "0f31": ("rdtsc", OK, OK, OK),
    "0fa2": ("cpuid", OK, OK, OK),
    "0f010500000200": ("sgdt", OK, OK, OK),
    "0f010d00000200": ("sidt", OK, OK, OK),
    "0f01e0": ("smsw %eax", OK, OK, OK),
    "0f00c8": ("str %eax", OK, OK, OK),
    "9c": ("pushf", OK, OK, OK),
    "9d": ("popf", OK, OK, OK),
}


@pytest.mark.parametrize("ring", [0, 1, 3])
@pytest.mark.parametrize("opcode", TABLE, ids=lambda code: TABLE[code][0])
def test_an_instruction_faults_where_the_manual_says(opcode: str, ring: int) -> None:
    name, *outcomes = TABLE[opcode]
    expected = outcomes[(0, 1, 3).index(ring)]
    raw = bytes.fromhex(opcode)
    # Flags that survive the fault: xor leaves ZF and PF set.
    bare = BareMachine(b"\x31\xed" + raw + b"\x90" * 12)
    regs = {0: 0, 1: 1 if raw[0] == 0xF3 else 0x10, 2: 0x60, 6: DATA, 7: DATA}
    bare.start(ring, regs)
    bare.memory.write(DATA, b"\x5a" * 16)
    bare.cpu.run(1)
    before = bare.cpu.state()
    done = bare.cpu.run(1)
    assert done.steps == 1, name
    after = bare.cpu.state()
    if expected is OK:
        assert after.eip in (CODE + 2 + len(raw), CODE + 2), f"{name} did not complete"
        return
    assert 0xC000 <= after.eip < 0xD000, f"{name} at ring {ring} did not fault"
    _, frame = bare.run_to_handler()
    assert (frame[0], frame[1]) == expected
    behind = len(raw) if frame[0] in (1, 3) else 0
    assert frame[2] == CODE + 2 + behind
    assert frame[4] == before.eflags
    changed = [i for i in range(8) if i != 4 and after.regs[i] != before.regs[i]]
    assert not changed, f"{name} changed registers {changed} before it faulted"
    assert bare.memory.read(DATA, 16) == b"\x5a" * 16, f"{name} wrote to memory before it faulted"


def test_ports_that_the_tss_allows_do_not_fault_in_ring_3() -> None:
    bare = BareMachine(b"\xe4\x60\xe4\x61")
    bitmap = bytearray(b"\xff" * 16)
    bitmap[0x60 // 8] = 0xFE
    bare.memory.write(0x1868, bytes(bitmap))
    bare.memory.write(0x1000 + 0x38, (0x18000000 | 0x77).to_bytes(4, "little"))
    bare.start(3)
    state = bare.cpu.env
    state.tr.limit = 0x77
    assert bare.cpu.run(1).steps == 1
    assert bare.cpu.eip == CODE + 2
    _, frame = bare.run_to_handler()
    assert (frame[0], frame[2]) == (13, CODE + 2)


@pytest.mark.parametrize("ring", [1, 3])
@pytest.mark.parametrize("before", [b"", b"\x0f\xa3\xc0", b"\xeb\x00"])
def test_only_ring_0_returns_to_virtual_8086_mode(before: bytes, ring: int) -> None:
    """SDM 2A, IRET: elsewhere VM is ignored, so CS is a selector, and this one is none."""
    bare = BareMachine(before + b"\xcf")
    bare.start(ring)
    esp = bare.cpu.state().regs[4] - 32
    bare.memory.write(esp, struct.pack("<3I", 0, 0x1000, 0x23202) + bytes(24))
    bare.start(ring, {4: esp})
    for _ in range(2 if before else 1):
        bare.cpu.run(1)
    assert 0xC000 <= bare.cpu.eip < 0xD000
    _, frame = bare.run_to_handler()
    assert frame[:4] == (13, 0x1000, CODE + len(before), CODE_SELECTOR[ring])
    assert frame[5] == esp


@pytest.mark.parametrize("ring", [1, 3])
def test_a_return_without_virtual_8086_mode_is_one(ring: int) -> None:
    bare = BareMachine(b"\xcf".ljust(16, b"\x90"))
    esp = STACKS[ring] - 32
    words = (CODE + 8, CODE_SELECTOR[ring], 0x10A02)
    bare.memory.write(esp, struct.pack("<3I", *words) + b"\xff" * 20)
    bare.start(ring, {4: esp})
    assert bare.cpu.run(1).steps == 1
    after = bare.cpu.state()
    assert (after.eip, after.regs[4]) == (CODE + 8, esp + 12)
    assert after.eflags & 0x20C00 == 0x800


def test_ring_0_returns_to_virtual_8086_mode() -> None:
    bare = BareMachine(b"\xcf")
    esp = STACKS[0] - 64
    words = (0x10, 0x1000, 0x20002, 0x100, 0x2000, 1, 2, 3, 4)
    bare.memory.write(esp, struct.pack("<9I", *words))
    bare.start(0, {4: esp})
    bare.cpu.run(1)
    after = bare.cpu.state()
    assert after.eflags & 0x20000
    assert (after.eip, after.segs[1].base, after.segs[2].base) == (0x10, 0x10000, 0x20000)
