"""What a debugger can ask: one small value per packet.

A command holds numbers, bytes and names, never the packet's text; it has been checked as far as it can be without
knowing the target. parser.py makes commands out of payloads, session.py acts on them.

Source: GDB manual, E.2 Packets, E.4 General Query Packets, E.7 Host I/O Packets.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import TypeAlias

from gdbstub.fields import EVERY_THREAD, ThreadId


@dataclass(frozen=True, slots=True)
class Unknown:
    """Anything else; the protocol's answer to that is the empty packet."""


@dataclass(frozen=True, slots=True)
class QuerySupported:
    """qSupported: what the peer understands."""

    features: frozenset[str]


@dataclass(frozen=True, slots=True)
class StartNoAckMode:
    """QStartNoAckMode."""


@dataclass(frozen=True, slots=True)
class EnableExtendedMode:
    """`!`."""


@dataclass(frozen=True, slots=True)
class WhyStopped:
    """`?`."""


@dataclass(frozen=True, slots=True)
class SelectThread:
    """Hg, Hc: the thread that later packets are about."""

    thread: ThreadId
    for_resume: bool


@dataclass(frozen=True, slots=True)
class IsThreadAlive:
    """T."""

    thread: ThreadId


@dataclass(frozen=True, slots=True)
class ReadRegisters:
    """g."""


@dataclass(frozen=True, slots=True)
class WriteRegisters:
    """G."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ReadRegister:
    """p."""

    register: int


@dataclass(frozen=True, slots=True)
class WriteRegister:
    """P."""

    register: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ReadMemory:
    """m, and x with `binary`."""

    address: int
    length: int
    binary: bool = False


@dataclass(frozen=True, slots=True)
class WriteMemory:
    """M and X."""

    address: int
    data: bytes


class Motion(Enum):
    """How far a thread is to go."""

    CONTINUE = "continue"
    STEP = "step"
    RANGE = "step while inside a range"


@dataclass(frozen=True, slots=True)
class Action:
    """One action of vCont. `start` and `end` (exclusive) belong to RANGE."""

    motion: Motion
    thread: ThreadId = EVERY_THREAD
    start: int = 0
    end: int = 0


@dataclass(frozen=True, slots=True)
class Resume:
    """c, s, C, S and vCont: forward. An action applies to the threads that no earlier one names."""

    actions: tuple[Action, ...]
    address: int | None = None


@dataclass(frozen=True, slots=True)
class Reverse:
    """bs and bc: backward."""

    motion: Motion


@dataclass(frozen=True, slots=True)
class QueryResumeActions:
    """vCont?."""


class PointKind(IntEnum):
    """The number behind Z and z."""

    SOFTWARE = 0
    HARDWARE = 1
    WRITE = 2
    READ = 3
    ACCESS = 4


@dataclass(frozen=True, slots=True)
class Point:
    """What to stop at. `length` is of the watched range, or the kind of breakpoint instruction."""

    kind: PointKind
    address: int
    length: int


@dataclass(frozen=True, slots=True)
class InsertPoint:
    """Z; the stop counts if one of `conditions` (agent expressions) is true, or if there are none."""

    point: Point
    conditions: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class RemovePoint:
    """z."""

    point: Point


@dataclass(frozen=True, slots=True)
class Detach:
    """D: the peer leaves."""


@dataclass(frozen=True, slots=True)
class Kill:
    """k and vKill; only the latter is `answered`."""

    answered: bool


@dataclass(frozen=True, slots=True)
class Restart:
    """R and vRun: begin again, where `arguments` say; only vRun is `answered`."""

    arguments: tuple[str, ...]
    answered: bool


@dataclass(frozen=True, slots=True)
class Monitor:
    """qRcmd: a command in words."""

    text: str


@dataclass(frozen=True, slots=True)
class Transfer:
    """qXfer:object:read."""

    object: str
    annex: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class SearchMemory:
    """qSearch:memory."""

    address: int
    length: int
    pattern: bytes


@dataclass(frozen=True, slots=True)
class MemoryChecksum:
    """qCRC."""

    address: int
    length: int


@dataclass(frozen=True, slots=True)
class CurrentThread:
    """qC."""


@dataclass(frozen=True, slots=True)
class ThreadList:
    """qfThreadInfo, and with `rest` qsThreadInfo."""

    rest: bool


@dataclass(frozen=True, slots=True)
class ThreadExtraInfo:
    """qThreadExtraInfo."""

    thread: ThreadId


@dataclass(frozen=True, slots=True)
class IsAttached:
    """qAttached."""


@dataclass(frozen=True, slots=True)
class SymbolsOffered:
    """qSymbol: the peer can look up symbols."""


@dataclass(frozen=True, slots=True)
class OpenFile:
    """vFile:open."""

    name: str
    flags: int


@dataclass(frozen=True, slots=True)
class ReadFile:
    """vFile:pread."""

    descriptor: int
    count: int
    offset: int


@dataclass(frozen=True, slots=True)
class FileStatus:
    """vFile:fstat."""

    descriptor: int


@dataclass(frozen=True, slots=True)
class CloseFile:
    """vFile:close."""

    descriptor: int


@dataclass(frozen=True, slots=True)
class ReadLink:
    """vFile:readlink."""

    name: str


@dataclass(frozen=True, slots=True)
class SetFileSystem:
    """vFile:setfs: whose file system names are of."""


Command: TypeAlias = (
    Unknown
    | QuerySupported
    | StartNoAckMode
    | EnableExtendedMode
    | WhyStopped
    | SelectThread
    | IsThreadAlive
    | ReadRegisters
    | WriteRegisters
    | ReadRegister
    | WriteRegister
    | ReadMemory
    | WriteMemory
    | Resume
    | Reverse
    | QueryResumeActions
    | InsertPoint
    | RemovePoint
    | Detach
    | Kill
    | Restart
    | Monitor
    | Transfer
    | SearchMemory
    | MemoryChecksum
    | CurrentThread
    | ThreadList
    | ThreadExtraInfo
    | IsAttached
    | SymbolsOffered
    | OpenFile
    | ReadFile
    | FileStatus
    | CloseFile
    | ReadLink
    | SetFileSystem
)

__all__ = [
    "Action",
    "CloseFile",
    "Command",
    "CurrentThread",
    "Detach",
    "EnableExtendedMode",
    "FileStatus",
    "InsertPoint",
    "IsAttached",
    "IsThreadAlive",
    "Kill",
    "MemoryChecksum",
    "Monitor",
    "Motion",
    "OpenFile",
    "Point",
    "PointKind",
    "QueryResumeActions",
    "QuerySupported",
    "ReadFile",
    "ReadLink",
    "ReadMemory",
    "ReadRegister",
    "ReadRegisters",
    "RemovePoint",
    "Restart",
    "Resume",
    "Reverse",
    "SearchMemory",
    "SelectThread",
    "SetFileSystem",
    "StartNoAckMode",
    "SymbolsOffered",
    "ThreadExtraInfo",
    "ThreadList",
    "Transfer",
    "Unknown",
    "WhyStopped",
    "WriteMemory",
    "WriteRegister",
    "WriteRegisters",
]
