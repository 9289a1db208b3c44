"""Events for people and for other programs: one line of text, or one flat JSON object.

Three things are kept apart: numbers, which are what traces and machines hold (events.py, hostvm.x86, hostvm.abi);
names, the stable words that stand for them in JSON; and descriptions, prose that may change at any time. Addresses,
words and checksums are hexadecimal strings in JSON, so that they read as in a debugger; ticks, counts and times are
numbers. Whatever a Guest has written is escaped: it may contain anything.

Names: vectors after the Intel SDM 3A 6.3, hypercalls after lguest and by the Guest's generation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias, assert_never

from hostvm.abi import DEFAULT_GENERATION, GENERATIONS, Call
from hostvm.edits import Register, Target
from hostvm.observations import EndReason
from hostvm.world import DEVICE_VECTOR, NMI_VECTOR, TIMER_VECTOR
from hostvm.x86 import Vector
from replay import events as ev
from replay.errors import one_line
from replay.events import Event, Kind, is_observation
from replay.layouts import LAYOUTS

Json: TypeAlias = "bool | int | str | list[Json] | dict[str, Json] | None"

SYSCALL_VECTOR = 0x80
TEXT_SHOWN = 60

# Names.

_KINDS: Mapping[type[Event], Kind] = MappingProxyType(
    {layout.event: layout.kind for layout in LAYOUTS.values()}
)
HOST_VECTOR_NAMES: Mapping[int, str] = MappingProxyType(
    {NMI_VECTOR: "NMI", TIMER_VECTOR: "TIMER", DEVICE_VECTOR: "DEVICE"}
)
TRAP_NAMES: Mapping[int, str] = MappingProxyType(
    {int(vector): vector.name for vector in Vector} | {SYSCALL_VECTOR: "SYSCALL"}
)

# Descriptions.

KIND_DESCRIPTIONS: Mapping[Kind, str] = MappingProxyType(
    {
        Kind.HOST_INTERRUPT: "hardware interrupt taken while the Guest ran",
        Kind.HOST_WOKEN: "idle Host woken by a hardware interrupt",
        Kind.HOST_TURN_INTERRUPT: "hardware interrupt taken during the Host's turn",
        Kind.CLOCK_READING: "reading of the wall clock",
        Kind.TSC_READING: "answer to RDTSC",
        Kind.RANDOM_CHOICE: "random choice of the Host",
        Kind.DEVICE_COMPLETION: "device finished",
        Kind.CONSOLE_INPUT: "typed at the console",
        Kind.DEBUGGER_WRITE: "a debugger wrote into the machine",
        Kind.HYPERCALL: "hypercall carried out",
        Kind.TRAP_REFLECTED: "trap handed back to the Guest",
        Kind.IRQ_RAISED: "virtual interrupt became pending",
        Kind.IRQ_DELIVERED: "virtual interrupt delivered to the Guest",
        Kind.DIRECT_TRAPS: "traps that went straight to the Guest",
        Kind.CONSOLE_OUTPUT: "written to the console",
        Kind.STATE_DIGEST: "digest of the machine's state",
        Kind.GUEST_ENDED: "the Guest is gone",
        Kind.GUEST_RESTARTED: "the Guest was launched again",
        Kind.PACKET_SENT: "sent through a network card",
    }
)
END_OF_GUEST: Mapping[EndReason, str] = MappingProxyType(
    {
        EndReason.POWEROFF: "powered off",
        EndReason.RESTART: "asked for a restart",
        EndReason.KILLED: "was killed",
        EndReason.CRASHED: "crashed",
    }
)
TRAP_DESCRIPTIONS: Mapping[int, str] = MappingProxyType(
    {
        Vector.DE: "divide error",
        Vector.DB: "debug",
        Vector.NMI: "non-maskable interrupt",
        Vector.BP: "breakpoint",
        Vector.OF: "overflow",
        Vector.BR: "bound range exceeded",
        Vector.UD: "invalid opcode",
        Vector.NM: "no FPU available",
        Vector.DF: "double fault",
        Vector.TS: "invalid TSS",
        Vector.NP: "segment not present",
        Vector.SS: "stack segment fault",
        Vector.GP: "general protection",
        Vector.PF: "page fault",
        Vector.MF: "x87 error",
        Vector.AC: "alignment check",
        Vector.XM: "SIMD error",
        SYSCALL_VECTOR: "system call",
    }
)
HYPERCALL_DESCRIPTIONS: Mapping[Call, str] = MappingProxyType(
    {
        Call.FLUSH_ASYNC: "empty the ring of queued calls",
        Call.LGUEST_INIT: "tell where the shared page is",
        Call.CRASH: "give up, with a message",
        Call.SHUTDOWN: "power off or restart",
        Call.LOAD_GDT: "load the whole GDT",
        Call.NEW_PGTABLE: "switch page tables",
        Call.FLUSH_TLB: "forget translations",
        Call.LOAD_IDT_ENTRY: "set a gate",
        Call.SET_STACK: "set the kernel stack",
        Call.TS: "set or clear CR0.TS",
        Call.SET_CLOCKEVENT: "set the timer",
        Call.HALT: "sleep until an interrupt",
        Call.BIND_DMA: "offer buffers to a device",
        Call.SEND_DMA: "send a buffer to a device",
        Call.SET_PTE: "a page table entry has changed",
        Call.SET_PGD: "a page directory entry has changed",
        Call.LOAD_TLS: "load the thread's descriptors",
        Call.NOTIFY: "notify the Launcher",
        Call.LOAD_GDT_ENTRY: "set a descriptor",
        Call.SEND_INTERRUPTS: "interrupts are on again",
        Call.VMI_RDMSR: "read a model-specific register",
        Call.VMI_WRMSR: "set a model-specific register",
        Call.VMI_CPUID: "what processor is this?",
        Call.VMI_BAD_IRET: "an IRET that is not supported",
    }
)


def kind_name(event: Event) -> str:
    """Stable name of the event's kind, in lower case."""
    return _KINDS[type(event)].name.lower()


def hypercall_of(number: int, generation: str = DEFAULT_GENERATION) -> Call | None:
    """What hypercall `number` means in a generation of lguest; None when it has no meaning there."""
    return GENERATIONS.get(generation, GENERATIONS[DEFAULT_GENERATION]).hypercalls.get(number)


def _generation_of(event: Event, generations: Sequence[str]) -> str:
    return generations[event.guest] if event.guest < len(generations) else DEFAULT_GENERATION


# JSON.


def event_to_json(event: Event, generations: Sequence[str] = ()) -> dict[str, Json]:
    """Make a flat object of the event; `generations` are the lguest generations of the Guests, in order."""
    kind = _KINDS[type(event)]
    return {
        "tick": event.tick,
        "guest": event.guest,
        "event": kind.name.lower(),
        "class": "observation" if is_observation(kind) else "input",
        **_fields(event, generations),
    }


def _hex(value: int) -> str:
    return f"{value:#010x}"


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _fields(event: Event, generations: Sequence[str]) -> dict[str, Json]:
    match event:
        case ev.HostInterrupt(vector=vector, eip=eip, check=check):
            return {**_host_vector(vector), "eip": _hex(eip), "check": f"{check:#x}"}
        case ev.HostWoken(vector=vector) | ev.HostTurnInterrupt(vector=vector):
            return _host_vector(vector)
        case ev.ClockReading(ns=ns):
            return {"ns": ns}
        case ev.TscReading(value=value):
            return {"value": value}
        case ev.RandomChoice(bound=bound, value=value):
            return {"bound": bound, "value": value}
        case ev.DeviceCompletion() | ev.ConsoleInput() | ev.DebuggerWrite():
            return _data_fields(event)
        case _:
            return _observed_fields(event, generations)


def _data_fields(
    event: ev.DeviceCompletion | ev.ConsoleInput | ev.DebuggerWrite,
) -> dict[str, Json]:
    match event:
        case ev.DeviceCompletion(device=device, irq=irq, data=data):
            return {"device": device, "irq": irq, "data": data.hex()}
        case ev.ConsoleInput(data=data):
            return {"data": data.hex(), "text": _text(data)}
        case ev.DebuggerWrite(target=target, address=address, data=data):
            where = place_name(target, address)
            return {"where": where, "address": _hex(address), "data": data.hex()}


def _observed_fields(event: ev.Observation, generations: Sequence[str]) -> dict[str, Json]:
    match event:
        case ev.Hypercall(number=number, args=args, queued=queued):
            call = hypercall_of(number, _generation_of(event, generations))
            name = call.name if call else None
            words: list[Json] = [_hex(word) for word in args]
            return {"number": number, "name": name, "args": words, "queued": queued}
        case ev.TrapReflected(vector=vector, error_code=code, eip=eip):
            name = TRAP_NAMES.get(vector)
            return {"vector": vector, "name": name, "error_code": _hex(code), "eip": _hex(eip)}
        case ev.IrqRaised(irq=irq) | ev.IrqDelivered(irq=irq):
            return {"irq": irq}
        case ev.DirectTraps(counts=counts):
            return {"counts": {str(vector): count for vector, count in counts}}
        case ev.ConsoleOutput() | ev.PacketSent():
            return _sent_fields(event)
        case ev.StateDigest(registers=registers, memory=memory):
            return {"registers": registers.hex(), "memory": memory.hex()}
        case ev.GuestEnded(reason=reason, text=text):
            return {
                "reason": reason.name.lower(),
                "text": _text(text.encode("utf-8", "backslashreplace")),
            }
        case ev.GuestRestarted(text=text):
            return {"text": _text(text.encode("utf-8", "backslashreplace"))}
        case _:
            assert_never(event)


def _sent_fields(event: ev.ConsoleOutput | ev.PacketSent) -> dict[str, Json]:
    shown: dict[str, Json] = {"data": event.data.hex()}
    match event:
        case ev.ConsoleOutput(data=data):
            return {**shown, "text": _text(data)}
        case ev.PacketSent(device=device):
            return {"device": device, **shown}


def _host_vector(vector: int) -> dict[str, Json]:
    return {"vector": vector, "name": HOST_VECTOR_NAMES.get(vector)}


# Text.


def event_to_text(event: Event, generations: Sequence[str] = ()) -> str:
    """Make one line of the event, without the newline; `generations` as for event_to_json."""
    details = one_line(_details(event, generations))
    return f"{event.tick:>14}  guest {event.guest}  {kind_name(event):<19}  {details}".rstrip()


def _shown(data: bytes) -> str:
    shown = ascii(_text(data[:TEXT_SHOWN]))
    return shown if len(data) <= TEXT_SHOWN else f"{shown} ... ({len(data)} bytes)"


def _details(event: Event, generations: Sequence[str]) -> str:
    match event:
        case ev.HostInterrupt(vector=vector, eip=eip, check=check):
            return f"{_host_vector_text(vector)} at {_hex(eip)}, check {check:#x}"
        case ev.HostWoken(vector=vector) | ev.HostTurnInterrupt(vector=vector):
            return _host_vector_text(vector)
        case ev.ClockReading(ns=ns):
            return f"{ns // 10**9}.{ns % 10**9:09} s"
        case ev.TscReading(value=value):
            return f"{value:#018x}"
        case ev.RandomChoice(bound=bound, value=value):
            return f"{value} of {bound}"
        case ev.DeviceCompletion() | ev.ConsoleInput() | ev.DebuggerWrite():
            return _data_details(event)
        case _:
            return _observed_details(event, generations)


def _data_details(event: ev.DeviceCompletion | ev.ConsoleInput | ev.DebuggerWrite) -> str:
    match event:
        case ev.DeviceCompletion(device=device, irq=irq, data=data):
            return f"device {device}, irq {irq}, {len(data)} bytes"
        case ev.ConsoleInput(data=data):
            return _shown(data)
        case ev.DebuggerWrite():
            return edit_to_text(event)


def _observed_details(event: ev.Observation, generations: Sequence[str]) -> str:
    match event:
        case ev.Hypercall(number=number, args=args, queued=queued):
            call = hypercall_of(number, _generation_of(event, generations))
            name = call.name if call else f"hypercall {number}"
            words = ", ".join(map(_hex, args))
            return f"{name}({words}){' queued' if queued else ''}"
        case ev.TrapReflected(vector=vector, error_code=code, eip=eip):
            name = TRAP_NAMES.get(vector, "")
            what = TRAP_DESCRIPTIONS.get(vector, "")
            said = f" {name} ({what})" if name else ""
            return f"{vector:#04x}{said}, error code {code:#x}, at {_hex(eip)}"
        case ev.IrqRaised(irq=irq) | ev.IrqDelivered(irq=irq):
            return f"irq {irq}"
        case ev.DirectTraps(counts=counts):
            return ", ".join(
                f"{TRAP_NAMES.get(vector, f'{vector:#04x}')} {count}" for vector, count in counts
            )
        case ev.ConsoleOutput() | ev.PacketSent():
            return _sent_details(event)
        case ev.StateDigest(registers=registers, memory=memory):
            return f"registers {registers.hex()}" + (f", memory {memory.hex()}" if memory else "")
        case ev.GuestEnded(reason=reason, text=text):
            return f"{reason.name.lower()}: {text}" if text else reason.name.lower()
        case ev.GuestRestarted(text=text):
            return text
        case _:
            assert_never(event)


def _sent_details(event: ev.ConsoleOutput | ev.PacketSent) -> str:
    match event:
        case ev.ConsoleOutput(data=data):
            return _shown(data)
        case ev.PacketSent(device=device, data=data):
            return f"device {device}, {_frame(data)}"


def _frame(data: bytes) -> str:
    """An Ethernet frame's ends and kind, as far as it goes."""
    there, here, kind = data[:6].hex(":"), data[6:12].hex(":"), data[12:14].hex()
    return f"{here} > {there}, type 0x{kind}, {len(data)} bytes"


def place_name(target: int, address: int) -> str:
    """Stable name of what a debugger wrote to: a register, or a kind of address."""
    match target:
        case Target.REGISTER if address in set(Register):
            return Register(address).name.lower()
        case Target.PHYSICAL:
            return "physical"
        case Target.LINEAR:
            return "linear"
    return f"target {target}"


def edit_to_text(event: ev.DebuggerWrite) -> str:
    """What a debugger wrote where."""
    name, data = place_name(event.target, event.address), event.data
    if event.target == Target.REGISTER:
        return f"{name} = {int.from_bytes(data, 'little'):#x}"
    shown = data[:16].hex(" ") + (f" ... ({len(data)} bytes)" if len(data) > 16 else "")
    return f"{name} {_hex(event.address)} = {shown}"


def _host_vector_text(vector: int) -> str:
    name = HOST_VECTOR_NAMES.get(vector)
    return f"{vector:#04x} {name}" if name else f"{vector:#04x}"


__all__ = [
    "END_OF_GUEST",
    "HOST_VECTOR_NAMES",
    "HYPERCALL_DESCRIPTIONS",
    "KIND_DESCRIPTIONS",
    "TRAP_DESCRIPTIONS",
    "TRAP_NAMES",
    "Json",
    "edit_to_text",
    "event_to_json",
    "event_to_text",
    "hypercall_of",
    "kind_name",
    "place_name",
]
