"""Questions that are answered from the target as it stands: registers, memory, threads, documents, files.

None of them moves the target. Which thread they are about is the session's to know, and is given to each.

Read next: session.py.
"""

from __future__ import annotations

from gdbstub import replies, search
from gdbstub.commands import (
    CloseFile,
    Command,
    CurrentThread,
    FileStatus,
    IsThreadAlive,
    MemoryChecksum,
    OpenFile,
    ReadFile,
    ReadLink,
    ReadMemory,
    ReadRegister,
    ReadRegisters,
    SearchMemory,
    SetFileSystem,
    ThreadExtraInfo,
    ThreadList,
    Transfer,
    WriteMemory,
    WriteRegister,
    WriteRegisters,
)
from gdbstub.errors import Errno, PacketError, TargetFault
from gdbstub.fields import ThreadId
from gdbstub.files import OpenFiles
from gdbstub.packet import PACKET_SIZE, escape
from gdbstub.registers import REGISTERS, WIDTHS
from gdbstub.target import (
    HasDocuments,
    HasFiles,
    NamesThreads,
    Target,
    WritesMemory,
    WritesRegisters,
)

_MAX_READ = PACKET_SIZE // 2 - 4
_SPACE = 1 << 32


class Lookups:
    """Answers about one target, for one debugger."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._files = OpenFiles(target.files) if isinstance(target, HasFiles) else None

    def answer(self, command: Command, thread: int) -> bytes | None:
        """The answer, or None if this is no question of this kind.

        Raises: PacketError, TargetFault.
        """
        for part in (self._registers, self._memory, self._threads):
            found = part(command, thread)
            if found is not None:
                return found
        match command:
            case Transfer(kind, annex, offset, length):
                return self._transfer(kind, annex, offset, length)
            case (
                OpenFile() | ReadFile() | FileStatus() | CloseFile() | ReadLink() | SetFileSystem()
            ):
                return self._files.perform(command) if self._files else replies.EMPTY
        return None

    # ---- registers ------------------------------------------------------------------------------

    def _registers(self, command: Command, thread: int) -> bytes | None:
        match command:
            case ReadRegisters():
                return replies.registers(self._target.read_registers(thread), WIDTHS)
            case ReadRegister(register):
                value = self._target.read_registers(thread)[_known(register)]
                return replies.register(value, WIDTHS[register])
            case WriteRegister(register, data):
                return self._write_register(thread, _known(register), data)
            case WriteRegisters(data):
                return self._write_registers(thread, data)
        return None

    def _write_register(self, thread: int, register: int, data: bytes) -> bytes:
        if not isinstance(self._target, WritesRegisters):
            return replies.EMPTY
        if len(data) != WIDTHS[register]:
            name = REGISTERS[register].name
            raise PacketError(f"{name} has {WIDTHS[register]} bytes, not {len(data)}")
        self._target.write_register(thread, register, data)
        return replies.OK

    def _write_registers(self, thread: int, data: bytes) -> bytes:
        """GDB writes all registers to change one of them: only those that differ are written."""
        if not isinstance(self._target, WritesRegisters):
            return replies.EMPTY
        if len(data) != sum(WIDTHS):
            raise PacketError(f"{sum(WIDTHS)} bytes of registers expected, {len(data)} given")
        at = 0
        old = self._target.read_registers(thread)
        for register, width in enumerate(WIDTHS):
            value = data[at : at + width]
            at += width
            if old[register] is not None and value != old[register]:
                self._target.write_register(thread, register, value)
        return replies.OK

    # ---- memory ---------------------------------------------------------------------------------

    def _memory(self, command: Command, thread: int) -> bytes | None:
        def read(address: int, length: int) -> bytes:
            return self._target.read_memory(thread, address, min(length, _SPACE - address))

        match command:
            case ReadMemory(address, length, binary):
                data = read(address, min(length, _MAX_READ))
                if length and not data:
                    raise TargetFault(f"no memory at {address:#010x}")
                return b"b" + escape(data) if binary else replies.hexadecimal(data)
            case WriteMemory(address, data):
                if not isinstance(self._target, WritesMemory):
                    return replies.EMPTY
                if data:
                    self._target.write_memory(thread, address, data)
                return replies.OK
            case SearchMemory(address, length, pattern):
                found = search.find(read, address, min(length, _SPACE - address), pattern)
                return b"0" if found is None else b"1,%x" % found
            case MemoryChecksum(address, length):
                value = search.crc(read, address, min(length, _SPACE - address))
                if value is None:
                    raise TargetFault(f"no memory at {address:#010x}")
                return b"C%x" % value
        return None

    # ---- threads --------------------------------------------------------------------------------

    def existing(self, asked: ThreadId) -> int:
        """The thread that is meant; any one is the one at work. Raises PacketError if there is none such."""
        if asked.thread <= 0:
            return self._target.current_thread()
        if asked.thread not in self._target.threads():
            raise PacketError(f"there is no thread {asked.thread}", Errno.EINVAL)
        return asked.thread

    def _threads(self, command: Command, _: int) -> bytes | None:
        match command:
            case IsThreadAlive(asked):
                self.existing(asked)
                return replies.OK
            case CurrentThread():
                return b"QC" + replies.thread(self._target.current_thread())
            case ThreadList(rest=True):
                return b"l"
            case ThreadList():
                return b"m" + b",".join(map(replies.thread, self._target.threads()))
            case ThreadExtraInfo(asked):
                return self._thread_info(self.existing(asked))
        return None

    def _thread_info(self, thread: int) -> bytes:
        if not isinstance(self._target, NamesThreads):
            return replies.EMPTY
        text = f"{self._target.thread_name(thread)}: {self._target.thread_state(thread)}"
        return replies.hexadecimal(text.encode())

    # ---- documents ------------------------------------------------------------------------------

    def _transfer(self, kind: str, annex: str, offset: int, length: int) -> bytes:
        if not isinstance(self._target, HasDocuments) or kind not in self._target.document_kinds:
            return replies.EMPTY
        document = self._target.document(kind, annex)
        if document is None:
            raise TargetFault(f"there is no {kind} {annex!a}", Errno.NONE)
        return replies.page(document, offset, length)


def _known(register: int) -> int:
    if register >= len(REGISTERS):
        raise PacketError(f"there is no register {register}")
    return register


__all__ = ["Lookups"]
