"""From a payload to a command: a table of packets.

GDB asks for many things only to see whether they exist, so a packet that is not in the table is no error (`Unknown`,
answered with the empty packet), while one that is in it and is malformed is a PacketError. The two must not be
confused: GDB believes an empty answer for the rest of the session.

Packets come in two shapes. Those beginning with `q`, `Q` or `v` have a name up to the first separator; of the older
ones, the first letter is the name. Read next: session.py.

Source: GDB manual, E.2 Packets, E.4 General Query Packets, E.7 Host I/O Packets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TypeAlias

from gdbstub.commands import (
    Action,
    CloseFile,
    Command,
    CurrentThread,
    Detach,
    EnableExtendedMode,
    FileStatus,
    InsertPoint,
    IsAttached,
    IsThreadAlive,
    Kill,
    MemoryChecksum,
    Monitor,
    Motion,
    OpenFile,
    Point,
    PointKind,
    QueryResumeActions,
    QuerySupported,
    ReadFile,
    ReadLink,
    ReadMemory,
    ReadRegister,
    ReadRegisters,
    RemovePoint,
    Restart,
    Resume,
    Reverse,
    SearchMemory,
    SelectThread,
    SetFileSystem,
    StartNoAckMode,
    SymbolsOffered,
    ThreadExtraInfo,
    ThreadList,
    Transfer,
    Unknown,
    WhyStopped,
    WriteMemory,
    WriteRegister,
    WriteRegisters,
)
from gdbstub.errors import PacketError
from gdbstub.fields import (
    EVERY_THREAD,
    hex_bytes,
    number,
    numbers,
    shown,
    split_once,
    thread_id,
)

_Parse: TypeAlias = Callable[[bytes], Command]

_NAME = re.compile(rb"[qQv][A-Za-z0-9]*\??")
_WORD_MASK = 0xFFFFFFFF


def _fixed(command: Command) -> _Parse:
    """A packet that says nothing but its name; what else may stand in it is for other targets."""
    return lambda _: command


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _address(value: int) -> int:
    if value > _WORD_MASK:
        raise PacketError(f"{value:#x} is no 32-bit address")
    return value


def _range(text: bytes) -> tuple[int, int]:
    """ADDRESS,LENGTH."""
    address, length = numbers(text, 2)
    return _address(address), length


# ---- packets with one letter ----------------------------------------------------------------------


def _select(text: bytes) -> Command:
    if text[:1] not in {b"g", b"c"}:
        raise PacketError(f"H{shown(text)}: neither g nor c")
    return SelectThread(thread_id(text[1:]), for_resume=text[:1] == b"c")


def _write_register(text: bytes) -> Command:
    register, value = split_once(text, b"=", "=")
    return WriteRegister(number(register), hex_bytes(value))


def _write_memory(text: bytes, decode: Callable[[bytes], bytes]) -> Command:
    where, data = split_once(text, b":", "data")
    address, length = _range(where)
    content = decode(data)
    if len(content) != length:
        raise PacketError(f"{length} bytes announced, {len(content)} given")
    return WriteMemory(address, content)


def _resume(motion: Motion) -> _Parse:
    """c and s: [ADDRESS]."""

    def parse(text: bytes) -> Command:
        return Resume((Action(motion),), _address(number(text)) if text else None)

    return parse


def _resume_with_signal(motion: Motion) -> _Parse:
    """C and S: SIGNAL[;ADDRESS]; there is nobody to give the signal to."""

    def parse(text: bytes) -> Command:
        signal, _, address = text.partition(b";")
        number(signal)
        return _resume(motion)(address)

    return parse


_REVERSE = MappingProxyType({b"s": Reverse(Motion.STEP), b"c": Reverse(Motion.CONTINUE)})


def _point(text: bytes) -> Point:
    kind, address, length = numbers(text, 3)
    if kind not in set(PointKind):
        raise PacketError(f"there are no points of kind {kind}")
    return Point(PointKind(kind), _address(address), length)


def _insert(text: bytes) -> Command:
    where, *more = text.split(b";")
    return InsertPoint(_point(where), tuple(_expressions(more)))


def _expressions(fields: list[bytes]) -> list[bytes]:
    """The conditions of a point: fields, each of any number of XLENGTH,CODE."""
    return [code for rest in fields for code in _chain(rest)]


def _chain(rest: bytes) -> Iterator[bytes]:
    while rest:
        if not rest.startswith(b"X"):
            raise PacketError(f"{shown(rest)} is no condition")
        length, tail = split_once(rest[1:], b",", "expression")
        digits = 2 * number(length)
        code = hex_bytes(tail[:digits])
        if 2 * len(code) != digits:
            raise PacketError("a condition is cut off")
        yield code
        rest = tail[digits:]


# ---- packets with a name --------------------------------------------------------------------------


def _motion(text: bytes) -> tuple[Motion, int, int]:
    match text[:1]:
        case b"c" if text == b"c":
            return Motion.CONTINUE, 0, 0
        case b"s" if text == b"s":
            return Motion.STEP, 0, 0
        case b"C" | b"S":
            number(text[1:])
            return Motion.CONTINUE if text[:1] == b"C" else Motion.STEP, 0, 0
        case b"r":
            start, end = numbers(text[1:], 2)
            return Motion.RANGE, _address(start), end
    raise PacketError(f"vCont cannot {shown(text)}")


def _vcont(text: bytes) -> Command:
    actions = []
    for part in text.split(b";"):
        what, colon, thread = part.partition(b":")
        whose = thread_id(thread) if colon else EVERY_THREAD
        motion, start, end = _motion(what)
        actions.append(Action(motion, whose, start, end))
    return Resume(tuple(actions))


def _transfer(text: bytes) -> Command:
    parts = text.split(b":")
    if len(parts) < 4 or parts[1] != b"read":
        return Unknown()
    # An annex may contain colons, which is why the ends are counted from.
    offset, length = numbers(parts[-1], 2)
    return Transfer(_text(parts[0]), _text(b":".join(parts[2:-1])), offset, length)


def _supported(text: bytes) -> Command:
    features = (_text(part) for part in text.split(b";") if part)
    return QuerySupported(frozenset(features))


def _search(text: bytes) -> Command:
    kind, rest = split_once(text, b":", "kind of search")
    if kind != b"memory":
        return Unknown()
    parts = rest.split(b";", 2)
    if len(parts) != 3 or not parts[2]:
        raise PacketError(f"{shown(rest)}: address, length and pattern expected")
    return SearchMemory(_address(number(parts[0])), number(parts[1]), parts[2])


def _run(text: bytes) -> Command:
    """FILENAME[;ARGUMENT]..., each in hexadecimal; the file is always the same."""
    _, *arguments = (_text(hex_bytes(part)) for part in text.split(b";"))
    return Restart(tuple(arguments), answered=True)


def _open(text: bytes) -> Command:
    name, rest = split_once(text, b",", "flags")
    flags, _ = numbers(rest, 2)
    return OpenFile(_text(hex_bytes(name)), flags)


def _read_file(text: bytes) -> Command:
    return ReadFile(*numbers(text, 3))


_FILE_OPERATIONS: Mapping[bytes, _Parse] = MappingProxyType(
    {
        b"open": _open,
        b"pread": _read_file,
        b"fstat": lambda text: FileStatus(number(text)),
        b"close": lambda text: CloseFile(number(text)),
        b"readlink": lambda text: ReadLink(_text(hex_bytes(text))),
        b"setfs": _fixed(SetFileSystem()),
    }
)


def _file(text: bytes) -> Command:
    operation, _, rest = text.partition(b":")
    parse = _FILE_OPERATIONS.get(operation)
    return parse(rest) if parse else Unknown()


_LETTERS: Mapping[bytes, _Parse] = MappingProxyType(
    {
        b"!": _fixed(EnableExtendedMode()),
        b"?": _fixed(WhyStopped()),
        b"C": _resume_with_signal(Motion.CONTINUE),
        b"D": _fixed(Detach()),
        b"G": lambda text: WriteRegisters(hex_bytes(text)),
        b"H": _select,
        b"M": lambda text: _write_memory(text, hex_bytes),
        b"P": _write_register,
        b"R": _fixed(Restart((), answered=False)),
        b"S": _resume_with_signal(Motion.STEP),
        b"T": lambda text: IsThreadAlive(thread_id(text)),
        b"X": lambda text: _write_memory(text, bytes),
        b"Z": _insert,
        b"b": lambda text: _REVERSE.get(text, Unknown()),
        b"c": _resume(Motion.CONTINUE),
        b"g": _fixed(ReadRegisters()),
        b"k": _fixed(Kill(answered=False)),
        b"m": lambda text: ReadMemory(*_range(text)),
        b"p": lambda text: ReadRegister(number(text)),
        b"s": _resume(Motion.STEP),
        b"x": lambda text: ReadMemory(*_range(text), binary=True),
        b"z": lambda text: RemovePoint(_point(text.partition(b";")[0])),
    }
)

_NAMES: Mapping[bytes, _Parse] = MappingProxyType(
    {
        b"QStartNoAckMode": _fixed(StartNoAckMode()),
        b"qAttached": _fixed(IsAttached()),
        b"qC": _fixed(CurrentThread()),
        b"qCRC": lambda text: MemoryChecksum(*_range(text)),
        b"qRcmd": lambda text: Monitor(_text(hex_bytes(text))),
        b"qSearch": _search,
        b"qSupported": _supported,
        b"qSymbol": _fixed(SymbolsOffered()),
        b"qThreadExtraInfo": lambda text: ThreadExtraInfo(thread_id(text)),
        b"qXfer": _transfer,
        b"qfThreadInfo": _fixed(ThreadList(rest=False)),
        b"qsThreadInfo": _fixed(ThreadList(rest=True)),
        b"vCont": _vcont,
        b"vCont?": _fixed(QueryResumeActions()),
        b"vFile": _file,
        b"vKill": _fixed(Kill(answered=True)),
        b"vRun": _run,
    }
)


def parse_command(payload: bytes) -> Command:
    """The command that a payload means.

    Raises: PacketError for a malformed packet of a kind that is known.
    """
    named = _NAME.match(payload)
    if named:
        parse = _NAMES.get(named[0])
        # One separator, whichever it is, stands between the name and the rest.
        rest = payload[named.end() + 1 :]
    else:
        parse = _LETTERS.get(payload[:1])
        rest = payload[1:]
    return parse(rest) if parse else Unknown()


__all__ = ["parse_command"]
