"""A tiny deterministic machine that travels through time: the stub's target in tests.

It executes a dozen i386 instructions really, so that a real debugger can disassemble, step and finish in it. Its whole
history is computed at once, as a list of states, and the position is an index into that; going anywhere is exact and
trivial, which makes it an oracle. Two threads: 3 is the program in ring 3, 2 the kernel in ring 1, which `int 0x80`
enters.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from gdbstub.agent import Expression, is_hit
from gdbstub.commands import Point, PointKind
from gdbstub.description import memory_map, target_description, thread_list
from gdbstub.errors import TargetFault
from gdbstub.registers import NUMBER, READ_ONLY, partial_set, register_set, register_value
from gdbstub.stepping import Stepper
from gdbstub.target import Move, Reason, ReasonKind, RegisterSet, Stop
from hostvm.cpu_state import CpuState, Segment

KERNEL, USER = 2, 3
TEXT, DATA, HANDLER, STACK = 0x08048000, 0x0804A000, 0xC0100000, 0x0804C000
KERNEL_STACK = 0xC0200000
COUNTER, SHADOW = DATA, DATA + 4
EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI = range(8)
LAPS = 5

# main: counts laps; each lap calls `work`, which increments COUNTER and asks the kernel to increment SHADOW.
PROGRAM: dict[int, bytes] = {
    TEXT: bytes.fromhex(
        "b905000000"  # 00 main: mov $5, %ecx
        "e810000000"  # 05 lap:  call work
        "90"  #         0a       nop
        "49"  #         0b       dec %ecx
        "75f7"  #       0c       jnz lap
        "b801000000"  # 0e       mov $1, %eax
        "ebfe"  #       13 end:  jmp end
    ).ljust(0x1A, b"\x90")
    + bytes.fromhex(
        "55"  #           1a work: push %ebp
        "ff0500a00408"  # 1b       incl COUNTER
        "cd80"  #         21       int $0x80
        "5d"  #           23       pop %ebp
        "c3"  #           24       ret
    ),
    HANDLER: bytes.fromhex(
        "ff0504a00408"  # 00 handler: incl SHADOW
        "40"  #           06          inc %eax
        "cf"  #           07          iret
    ),
}
MAIN, LAP, END = TEXT, TEXT + 5, TEXT + 0x13
WORK, WRITE, SYSCALL, AFTER_SYSCALL, RETURN = (TEXT + at for at in (0x1A, 0x1B, 0x21, 0x23, 0x24))
HISTORY = 120
# For moves that are to be broken off: they must not come to their end before.
LONG_HISTORY = 30_000


@dataclass(frozen=True)
class State:
    """One moment. `access` is what the instruction that led here wrote: address and length."""

    regs: tuple[int, ...]
    eip: int
    zero: bool
    ring: int
    memory: Mapping[int, int]
    access: tuple[int, int] | None = None

    @property
    def thread(self) -> int:
        return USER if self.ring == 3 else KERNEL

    def read(self, address: int, length: int) -> bytes:
        out = bytearray()
        for at in range(address, address + length):
            byte = _byte(self, at)
            if byte is None:
                break
            out.append(byte)
        return bytes(out)

    def word(self, address: int) -> int:
        return int.from_bytes(self.read(address, 4), "little")


RANGES = ((TEXT, 0x1000), (DATA, 0x3000), (HANDLER, 0x1000), (KERNEL_STACK - 0x1000, 0x1000))


def _byte(state: State, address: int) -> int | None:
    if address in state.memory:
        return state.memory[address]
    for start, code in PROGRAM.items():
        if start <= address < start + len(code):
            return code[address - start]
    return 0 if any(start <= address < start + length for start, length in RANGES) else None


def _store(state: State, address: int, value: int) -> State:
    memory = dict(state.memory)
    memory |= {
        address + i: byte for i, byte in enumerate((value & 0xFFFFFFFF).to_bytes(4, "little"))
    }
    return replace(state, memory=memory, access=(address, 4))


def _set(state: State, register: int, value: int) -> State:
    regs = list(state.regs)
    regs[register] = value & 0xFFFFFFFF
    return replace(state, regs=tuple(regs))


def _push(state: State, value: int) -> State:
    esp = state.regs[ESP] - 4
    return _store(_set(state, ESP, esp), esp, value)


def _pop(state: State) -> tuple[State, int]:
    esp = state.regs[ESP]
    return _set(state, ESP, esp + 4), state.word(esp)


def _at(state: State, length: int) -> State:
    return replace(state, eip=state.eip + length)


def _signed(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


def _count(state: State, code: bytes) -> State:
    value = state.regs[code[0] & 7] + (1 if code[0] < 0x48 else -1)
    return replace(_set(_at(state, 1), code[0] & 7, value), zero=not value & 0xFFFFFFFF)


def _pop_register(state: State, code: bytes) -> State:
    after, value = _pop(_at(state, 1))
    return _set(after, code[0] & 7, value)


def _move(state: State, code: bytes) -> State:
    return _set(_at(state, 5), code[0] & 7, int.from_bytes(code[1:5], "little"))


def _increment(state: State, code: bytes) -> State:
    address = int.from_bytes(code[2:6], "little")
    return _store(_at(state, 6), address, state.word(address) + 1)


def _call(state: State, code: bytes) -> State:
    after = _push(_at(state, 5), state.eip + 5)
    return replace(after, eip=after.eip + _signed(code[1:5]) & 0xFFFFFFFF)


def _return(state: State, code: bytes) -> State:
    after, eip = _pop(state)
    return replace(after, eip=eip)


def _jump_if_not_zero(state: State, code: bytes) -> State:
    return _at(state, 2 if state.zero else 2 + _signed(code[1:2]))


def _enter_kernel(state: State, code: bytes) -> State:
    kept = _store(state, KERNEL_STACK - 8, state.eip + 2)
    kept = _store(kept, KERNEL_STACK - 4, state.regs[ESP])
    return replace(_set(kept, ESP, KERNEL_STACK - 8), eip=HANDLER, ring=1)


def _leave_kernel(state: State, code: bytes) -> State:
    eip, esp = state.word(KERNEL_STACK - 8), state.word(KERNEL_STACK - 4)
    return replace(_set(state, ESP, esp), eip=eip, ring=3)


_EXECUTE: dict[int, Callable[[State, bytes], State]] = {
    0x90: lambda state, code: _at(state, 1),
    **dict.fromkeys(range(0x40, 0x50), _count),
    **dict.fromkeys(range(0x50, 0x58), lambda s, code: _push(_at(s, 1), s.regs[code[0] & 7])),
    **dict.fromkeys(range(0x58, 0x60), _pop_register),
    **dict.fromkeys(range(0xB8, 0xC0), _move),
    0xFF: _increment,
    0xE8: _call,
    0xC3: _return,
    0x75: _jump_if_not_zero,
    0xEB: lambda state, code: _at(state, 2 + _signed(code[1:2])),
    0xCD: _enter_kernel,
    0xCF: _leave_kernel,
}


def execute(state: State) -> State:
    """The state after one instruction."""
    code = state.read(state.eip, 6)
    return _EXECUTE[code[0]](replace(state, access=None), code)


def history(length: int = HISTORY) -> list[State]:
    """The machine's run from power-on, `length` instructions long."""
    regs = (0, 0, 0, 0, STACK, 0, 0, 0)
    states = [State(regs, MAIN, zero=False, ring=3, memory={})]
    for _ in range(length):
        states.append(execute(states[-1]))
    return states


def cpu_state(state: State) -> CpuState:
    flat = Segment(0x60 | state.ring, 0, 0xFFFFFFFF, 0x00CF9300 | state.ring << 13)
    table = Segment(0x80, 0xFFC02000, 0xFF, 0)
    return CpuState(
        regs=state.regs,
        eip=state.eip,
        eflags=0x202 | (0x40 if state.zero else 0),
        segs=(flat,) * 6,
        tables=(table,) * 4,
        cr=(0x80000011, 0, 0x10000000, 0),
        dr=(0,) * 8,
        fpu=(0, 0, 0x37F, b"\1" * 8, bytes(80), 0, 0, 0, 0, 0),
        mxcsr=0x1F80,
        xmm=bytes(128),
        sysenter_cs=0,
        shadow=False,
        nmi_blocked=False,
    )


class _View:
    def __init__(self, state: State, tick: int) -> None:
        self._state, self._tick = state, tick

    def register(self, number: int) -> int | None:
        return register_value(cpu_state(self._state), self._tick, number)

    def read(self, address: int, length: int) -> bytes:
        return self._state.read(address, length)


_WATCHED = {
    PointKind.WRITE: ReasonKind.WRITTEN,
    PointKind.READ: ReasonKind.READ,
    PointKind.ACCESS: ReasonKind.ACCESSED,
}
_BREAKS = {
    PointKind.SOFTWARE: ReasonKind.SOFTWARE_BREAKPOINT,
    PointKind.HARDWARE: ReasonKind.HARDWARE_BREAKPOINT,
}


class FakeTarget:
    """The machine as a target, with every capability. `pace` makes each step of a long move take that many seconds."""

    steps_ranges = True
    point_kinds = frozenset(PointKind)
    document_kinds = frozenset({"features", "memory-map", "threads", "exec-file", "libraries"})

    def __init__(self, length: int = HISTORY, pace: float = 0.0) -> None:
        self.states = history(length)
        self.tick = 0
        self.points: dict[int, tuple[Point, tuple[Expression, ...]]] = {}
        self.progress: Callable[[str], None] | None = None
        self.moves = 0
        self.writes: list[tuple[object, ...]] = []
        self.programs: dict[str, bytes] = {"/fake/program": b"\x7fELF" + bytes(range(256)) * 700}
        self.stepper = Stepper(self)
        self._home = USER
        self._numbers = iter(range(1, 1 << 30))
        self._pace = pace
        self._cancelled = threading.Event()

    @property
    def state(self) -> State:
        return self.states[self.tick]

    # Target.

    def threads(self) -> Sequence[int]:
        return (KERNEL, USER)

    def current_thread(self) -> int:
        return self.state.thread

    def read_registers(self, thread: int) -> RegisterSet:
        if thread == self.state.thread:
            return register_set(cpu_state(self.state), self.tick)
        known = {"tick": self.tick}
        pc = self.program_counter(thread)
        if thread == self.stepper.disguised:
            known["eip"] = 0
        elif pc is not None:
            known |= {"eip": pc, "esp": self.state.word(KERNEL_STACK - 4)}
        return partial_set(known)

    def read_memory(self, thread: int, address: int, length: int) -> bytes:
        return self.state.read(address, length)

    def cancel(self) -> None:
        self._cancelled.set()

    def advance(self, move: Move) -> Stop:
        return self._move(self.stepper.advance, move)

    # Capabilities.

    def go_back(self, move: Move) -> Stop:
        return self._move(self.stepper.go_back, move)

    def add_point(self, point: Point, conditions: Sequence[Expression]) -> int:
        number = next(self._numbers)
        self.points[number] = point, tuple(conditions)
        return number

    def remove_point(self, number: int) -> None:
        del self.points[number]

    def write_register(self, thread: int, register: int, value: bytes) -> None:
        if register in READ_ONLY:
            raise TargetFault("this register is read-only")
        self.writes.append((thread, register, value))

    def write_memory(self, thread: int, address: int, data: bytes) -> None:
        if not self.state.read(address, 1):
            raise TargetFault(f"no memory at {address:#010x}")
        self.writes.append((thread, address, data))

    def document(self, kind: str, annex: str) -> bytes | None:
        match kind, annex:
            case "features", "target.xml":
                return target_description()
            case "memory-map", "":
                return memory_map([("ram", 0, 1 << 32)])
            case "threads", "":
                return thread_list(
                    [(t, self.thread_name(t), self.thread_state(t)) for t in self.threads()]
                )
            case "exec-file", _:
                return next(iter(self.programs)).encode()
            case "libraries", "":
                return b"<library-list/>"
        return None

    def files(self) -> Mapping[str, Callable[[], bytes]]:
        return {name: lambda data=data: data for name, data in self.programs.items()}  # type: ignore[misc]

    def monitor(self, text: str) -> str:
        match text.split():
            case ["when"]:
                return f"tick {self.tick}\n"
            case ["seek", where] if where.isdigit() and int(where) < len(self.states):
                self.tick = int(where)
                self.stepper.forget()
                return f"tick {self.tick}\n"
        raise TargetFault(f"no such command: {text}")

    def restart(self, arguments: Sequence[str]) -> Stop:
        self.tick = 0
        self.stepper.forget()
        return Stop(self.state.thread)

    def thread_name(self, thread: int) -> str:
        return {KERNEL: "kernel", USER: "program"}[thread]

    def thread_state(self, thread: int) -> str:
        return "running" if thread == self.state.thread else "waiting <&>"

    # Moving: Walker.

    def _move(self, go: Callable[[Move], Stop], move: Move) -> Stop:
        self.moves += 1
        self._cancelled.clear()
        start = self.tick
        stop = go(move)
        if any(reason.kind is ReasonKind.INTERRUPTED for reason in stop.reasons):
            self.tick = start
            return replace(stop, thread=self.state.thread)
        return stop

    def set_home(self, thread: int) -> None:
        self._home = thread

    def is_home(self) -> bool:
        return self.state.thread == self._home

    def program_counter(self, thread: int) -> int | None:
        if thread == self.state.thread:
            return self.state.eip
        return self.state.word(KERNEL_STACK - 8) if thread == USER else None

    def step(self, *, backwards: bool) -> tuple[Reason, ...]:
        direction = -1 if backwards else 1
        if self._pace and self._cancelled.wait(self._pace):
            return (Reason(ReasonKind.INTERRUPTED),)
        if self.tick + direction not in range(len(self.states)):
            return (Reason(ReasonKind.HISTORY_START if backwards else ReasonKind.HISTORY_END),)
        self.tick += direction
        if self.progress and self._pace and self.tick % 16 == 0:
            self.progress(f"at tick {self.tick}\n")
        return tuple(self._hits(direction))

    def run_out(self, start: int, end: int) -> tuple[Reason, ...]:
        while True:
            reasons = self.step(backwards=False)
            if reasons or self.state.eip not in range(start, end):
                return reasons

    def position(self) -> int:
        return self.tick

    def return_to(self, position: int) -> None:
        self.tick = position

    def run(self, *, backwards: bool, until_home: bool) -> tuple[Reason, ...]:
        while True:
            reasons = self.step(backwards=backwards)
            if reasons or (until_home and self.is_home()):
                return reasons

    def _hits(self, direction: int) -> Iterator[Reason]:
        access = self.states[self.tick + (direction < 0)].access
        view = _View(self.state, self.tick)
        for point, conditions in self.points.values():
            if point.kind in _BREAKS:
                hit = point.address == self.state.eip
                reason = Reason(_BREAKS[point.kind])
            else:
                hit = access is not None and _overlap(point, access)
                reason = Reason(_WATCHED[point.kind], point.address)
            if hit and is_hit(conditions, view):
                yield reason


def _overlap(point: Point, access: tuple[int, int]) -> bool:
    address, length = access
    return (
        point.kind is not PointKind.READ
        and point.address < address + length
        and address < point.address + point.length
    )


def registers_of(target: FakeTarget) -> dict[str, bytes | None]:
    """Registers of the thread at work, by name."""
    values = target.read_registers(target.current_thread())
    return {name: values[number] for name, number in NUMBER.items()}
