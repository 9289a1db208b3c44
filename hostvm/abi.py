"""The generations of lguest, as data: what a Guest kernel of each expects from its Host.

lguest never promised a stable interface; Guest and Host came from one tree. So each generation is one value here, and
the rest of hostvm asks it instead of comparing versions. Where a field names a behaviour, the module that implements
it says what the behaviour is.

Source: lguest in Linux 2.6.23 to 4.13 (drivers/lguest, arch/x86/lguest, include/linux/lguest*.h). Read next:
lguest_data.py for the shared page's layouts, quirks.py for bugs that all generations share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, IntEnum, auto
from types import MappingProxyType

from hostvm.errors import ConfigurationError
from hostvm.lguest_data import (
    LAYOUT_2_6_23,
    LAYOUT_2_6_24,
    LAYOUT_2_6_32,
    LAYOUT_3_2,
    LAYOUT_4_1,
    DataLayout,
)
from hostvm.memory_map import SWITCHER_BASE
from hostvm.x86 import Pte


class Call(Enum):
    """What a hypercall asks for; the number is the generation's."""

    FLUSH_ASYNC = auto()
    LGUEST_INIT = auto()
    CRASH = auto()
    SHUTDOWN = auto()
    LOAD_GDT = auto()
    NEW_PGTABLE = auto()
    FLUSH_TLB = auto()
    LOAD_IDT_ENTRY = auto()
    SET_STACK = auto()
    TS = auto()
    SET_CLOCKEVENT = auto()
    HALT = auto()
    BIND_DMA = auto()
    SEND_DMA = auto()
    SET_PTE = auto()
    SET_PGD = auto()
    LOAD_TLS = auto()
    NOTIFY = auto()
    LOAD_GDT_ENTRY = auto()
    SEND_INTERRUPTS = auto()
    VMI_RDMSR = auto()
    VMI_WRMSR = auto()
    VMI_CPUID = auto()
    VMI_BAD_IRET = auto()


class VmiCall(IntEnum):
    """Numbers of the hypercalls that only our own shims make (vmi_shims.py), far behind lguest's."""

    RDMSR = 64
    WRMSR = 65
    CPUID = 66
    BAD_IRET = 67


class Translation(Enum):
    """What a Guest's virtual addresses mean before it has given its own page tables."""

    LAUNCHER_TABLES_AT_OFFSET = auto()
    LAUNCHER_TABLES_IDENTITY = auto()
    HOST_TABLES = auto()
    LINEAR = auto()


class DevicePage(Enum):
    """What the Launcher's page of devices is like, and when a driver tells of its status.

    LGUEST_BUS is 2.6.23's, from before virtio (devices/lguest_bus.py); the descriptors of CONFIG_LIST, 2.6.24's, are of
    another kind. See devices/bus.py for the next three. With PCI there is no such page: devices are functions of a PCI
    bus, as virtio 1.0 has them (devices/pci_bus.py).
    """

    LGUEST_BUS = auto()
    CONFIG_LIST = auto()
    EVERY_STATUS = auto()
    DRIVER_OK = auto()
    FEATURES_FINAL = auto()
    PCI = auto()


@dataclass(frozen=True, slots=True, eq=False)
class Abi:
    """One generation.

    `regs_order` is how registers lie in `struct lguest_regs`. `hypercall_registers` gives call number and arguments in
    order; word i of a ring slot is argument `slot_order[i]`. `forbidden_gpte` are flags that a Guest's page table
    entry must not have. `vmcall`: that instruction is taken for a hypercall (vmcall.py). `checks_switcher_first`:
    addresses in the Switcher's range are turned down before any table is looked at. `checks_directory_always`: a
    Guest's directory entry is vetted at each fault, not only when the shadow has none. `idt_entries` gates are kept;
    one for a vector beyond them kills, or with `syscall_gate_apart` is ignored, but for the system call's.
    `vmi`: the kernel is for a PC and has hook points, which the Host fills (vmi.py). `launcher_emulates`: port
    instructions, and moves to and from device memory, are the Launcher's to carry out. `iret_is_redone`: where the
    Guest is about to IRET, an interrupt is delivered on the frame that stands there. `traps_clear_flags`: entering a
    handler clears TF, NT, RF and VM. `reflects_syscalls`: a system call by an interrupt gate reaches the Guest.
    """

    name: str
    kernels: str
    regs_order: tuple[str, ...]
    hypercall_registers: tuple[str, ...]
    slot_order: tuple[int, ...]
    hypercalls: Mapping[int, Call]
    data: DataLayout
    translation: Translation
    null_pointer: str
    cpuid_1_edx_mask: int
    first_call: str = "INIT"
    cpuid_1_ecx_mask: int = 0x2201
    cpuid_1_edx_set: int = 0x2000
    vmcall: bool = False
    ring_drained_at_every_exit: bool = False
    limit_is_exclusive: bool = True
    word_kill_names_length: bool = True
    switcher_address: int = SWITCHER_BASE
    guest_pa_walks: bool = True
    forbidden_gpte: int = Pte.PSE
    first_root_is_chosen: bool = True
    checks_switcher_first: bool = False
    checks_directory_always: bool = False
    idt_entries: int = 256
    syscall_gate_apart: bool = False
    never_direct: frozenset[int] = frozenset({6, 7, 13, 14, 31})
    default_gate_keeps_dpl: bool = True
    port_skip_asks_ring: bool = True
    port_read_by_width: bool = True
    port_skip_knows_cli: bool = True
    device_page: DevicePage = DevicePage.FEATURES_FINAL
    vmi: bool = False
    launcher_emulates: bool = False
    iret_is_redone: bool = False
    traps_clear_flags: bool = False
    reflects_syscalls: bool = False

    @property
    def reserve_mem(self) -> int:
        """Bytes at the top of the address space that the Guest must leave alone."""
        return 2**32 - self.switcher_address

    @property
    def has_old_switcher(self) -> bool:
        """Whether its Switcher is the one of 2.6.23."""
        return self.regs_order is _REGISTERS_2_6_23


_REGISTERS = (
    *("eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "gs", "fs", "ds", "es"),
    *("trapnum", "errcode", "eip", "cs", "eflags", "esp", "ss"),
)
_REGISTERS_2_6_23 = (
    *("ebx", "ecx", "edx", "esi", "edi", "ebp", "gs", "eax", "fs", "ds", "es"),
    *("trapnum", "errcode", "eip", "cs", "eflags", "esp", "ss"),
)
_COMMON_CALLS = {
    0: Call.FLUSH_ASYNC,
    1: Call.LGUEST_INIT,
    4: Call.NEW_PGTABLE,
    5: Call.FLUSH_TLB,
    6: Call.LOAD_IDT_ENTRY,
    7: Call.SET_STACK,
    8: Call.TS,
    9: Call.SET_CLOCKEVENT,
    10: Call.HALT,
    14: Call.SET_PTE,
    15: Call.SET_PGD,
    16: Call.LOAD_TLS,
}


def _calls(more: Mapping[int, Call]) -> Mapping[int, Call]:
    return MappingProxyType(_COMMON_CALLS | dict(more))


_2_6_24 = Abi(
    name="2.6.24",
    kernels="2.6.24",
    regs_order=_REGISTERS,
    hypercall_registers=("eax", "edx", "ebx", "ecx"),
    slot_order=(0, 2, 3, 1),
    hypercalls=_calls({2: Call.CRASH, 3: Call.LOAD_GDT, 17: Call.NOTIFY}),
    data=LAYOUT_2_6_24,
    translation=Translation.LAUNCHER_TABLES_IDENTITY,
    null_pointer="00000000",
    cpuid_1_edx_mask=0x07808101,
    forbidden_gpte=Pte.PSE | Pte.PWT,
    first_root_is_chosen=False,
    never_direct=frozenset({7, 13, 14, 31}),
    default_gate_keeps_dpl=False,
    port_read_by_width=False,
    port_skip_knows_cli=False,
    device_page=DevicePage.CONFIG_LIST,
)
_2_6_23 = replace(
    _2_6_24,
    name="2.6.23",
    kernels="2.6.23",
    regs_order=_REGISTERS_2_6_23,
    slot_order=(0, 1, 2, 3),
    hypercalls=_calls(
        {2: Call.CRASH, 3: Call.LOAD_GDT, 12: Call.BIND_DMA, 13: Call.SEND_DMA},
    ),
    data=LAYOUT_2_6_23,
    translation=Translation.LAUNCHER_TABLES_AT_OFFSET,
    ring_drained_at_every_exit=True,
    word_kill_names_length=False,
    guest_pa_walks=False,
    first_call="LGUEST_INIT",
    idt_entries=64,
    syscall_gate_apart=True,
    port_skip_asks_ring=False,
    device_page=DevicePage.LGUEST_BUS,
)
_2_6_27 = replace(
    _2_6_24,
    name="2.6.27",
    kernels="2.6.25 to 2.6.28",
    hypercalls=_calls({2: Call.SHUTDOWN, 3: Call.LOAD_GDT, 17: Call.NOTIFY}),
    cpuid_1_edx_mask=0x07808111,
    forbidden_gpte=Pte.PSE,
    default_gate_keeps_dpl=True,
    device_page=DevicePage.EVERY_STATUS,
)
_2_6_29 = replace(
    _2_6_27,
    name="2.6.29",
    kernels="2.6.29",
    translation=Translation.HOST_TABLES,
)
_2_6_30 = replace(
    _2_6_29,
    name="2.6.30",
    kernels="2.6.30",
    hypercall_registers=("eax", "ebx", "ecx", "edx"),
    slot_order=(0, 1, 2, 3),
    hypercalls=_calls({2: Call.SHUTDOWN, 17: Call.NOTIFY, 18: Call.LOAD_GDT_ENTRY}),
    vmcall=True,
    never_direct=frozenset({6, 7, 13, 14, 31}),
)
_3_2 = Abi(
    name="3.2",
    kernels="3.1 to 3.9",
    regs_order=_REGISTERS,
    hypercall_registers=("eax", "ebx", "ecx", "edx", "esi"),
    slot_order=(0, 1, 2, 3, 4),
    hypercalls=_calls(
        {
            2: Call.SHUTDOWN,
            17: Call.NOTIFY,
            18: Call.LOAD_GDT_ENTRY,
            19: Call.SEND_INTERRUPTS,
        }
    ),
    data=LAYOUT_3_2,
    translation=Translation.LINEAR,
    null_pointer="(null)",
    cpuid_1_edx_mask=0x07808151,
)
_2_6_37 = replace(
    _3_2,
    name="2.6.37",
    kernels="2.6.34 to 3.0",
    data=LAYOUT_2_6_32,
    translation=Translation.HOST_TABLES,
    vmcall=True,
    first_root_is_chosen=False,
    port_read_by_width=False,
    device_page=DevicePage.DRIVER_OK,
)
_2_6_32 = replace(
    _2_6_37,
    name="2.6.32",
    kernels="2.6.31 to 2.6.33",
    port_skip_knows_cli=False,
)
_3_10 = replace(
    _3_2,
    name="3.10",
    kernels="3.10 to 4.0",
    limit_is_exclusive=False,
    checks_switcher_first=True,
    checks_directory_always=True,
)
_4_1 = replace(
    _3_10,
    name="4.1",
    kernels="4.1 to 4.13",
    hypercalls=_calls({2: Call.SHUTDOWN, 18: Call.LOAD_GDT_ENTRY, 19: Call.SEND_INTERRUPTS}),
    data=LAYOUT_4_1,
    never_direct=frozenset({7, 13, 14, 31}),
    device_page=DevicePage.PCI,
    launcher_emulates=True,
    iret_is_redone=True,
    traps_clear_flags=True,
    # From 4.6 on, when Linux had come to use such a gate; earlier Hosts took it for an interrupt of their own.
    reflects_syscalls=True,
)
# Traps that a hook's shim can cause must pass the Host, which says where in the kernel they would have been.
_VMI = replace(
    _3_2,
    name="vmi",
    kernels="kernels for a PC with VMI hooks",
    hypercalls=MappingProxyType(
        dict(_3_2.hypercalls)
        | {
            VmiCall.RDMSR.value: Call.VMI_RDMSR,
            VmiCall.WRMSR.value: Call.VMI_WRMSR,
            VmiCall.CPUID.value: Call.VMI_CPUID,
            VmiCall.BAD_IRET.value: Call.VMI_BAD_IRET,
        }
    ),
    never_direct=_3_2.never_direct | {1, 10, 11, 12, 17},
    vmi=True,
)

GENERATIONS: Mapping[str, Abi] = MappingProxyType(
    {
        abi.name: abi
        for abi in (
            *(_2_6_23, _2_6_24, _2_6_27, _2_6_29, _2_6_30),
            *(_2_6_32, _2_6_37, _3_2, _3_10, _4_1, _VMI),
        )
    }
)
DEFAULT_GENERATION = "3.2"


def generation(name: str) -> Abi:
    """The generation called `name`.

    Raises ConfigurationError for one that does not exist.
    """
    abi = GENERATIONS.get(name)
    if abi is None:
        known = ", ".join(GENERATIONS)
        raise ConfigurationError(f"no lguest generation {name!r}; there are {known}")
    return abi


__all__ = [
    "DEFAULT_GENERATION",
    "GENERATIONS",
    "Abi",
    "Call",
    "DevicePage",
    "Translation",
    "VmiCall",
    "generation",
]
