"""Files for the debugger: programs out of the trace, read-only, and nothing else.

GDB opens names as if on a file system of the target's. Here a name is a key in a table of what the target offers; no
name reaches this computer's own files. Contents are fetched when they are first read, and kept while a file is open.

Source: GDB manual, E.7 Host I/O Packets, E.13.9 (flags and numbers).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gdbstub import replies
from gdbstub.commands import CloseFile, FileStatus, OpenFile, ReadFile, ReadLink, SetFileSystem
from gdbstub.errors import Errno
from gdbstub.packet import PACKET_SIZE

_WRITING = 0x1 | 0x2 | 0x8 | 0x200 | 0x400 | 0x800
_MAX_OPEN = 64
# Escaping may double what is sent.
_MAX_READ = PACKET_SIZE // 2 - 32


class OpenFiles:
    """The files that one debugger has open; `files` answers which there are at the moment."""

    def __init__(self, files: Callable[[], Mapping[str, Callable[[], bytes]]]) -> None:
        self._files = files
        self._open: dict[int, bytes] = {}

    def perform(
        self, command: OpenFile | ReadFile | FileStatus | CloseFile | ReadLink | SetFileSystem
    ) -> bytes:
        """Carry out one operation; the answer to it."""
        match command:
            case SetFileSystem():
                return replies.file_result(0)
            case OpenFile(name, flags):
                return self._open_file(name, flags)
            case ReadLink(name):
                known = name in self._files()
                return replies.file_error(Errno.EINVAL if known else Errno.ENOENT)
            case ReadFile(descriptor) | FileStatus(descriptor) | CloseFile(descriptor):
                if descriptor not in self._open:
                    return replies.file_error(Errno.EBADF)
        return self._use(command)

    def _use(self, command: ReadFile | FileStatus | CloseFile) -> bytes:
        content = self._open[command.descriptor]
        match command:
            case ReadFile(_, count, offset):
                part = content[offset : offset + min(count, _MAX_READ)]
                return replies.file_result(len(part), part)
            case FileStatus():
                status = replies.file_status(len(content))
                return replies.file_result(len(status), status)
            case CloseFile(descriptor):
                del self._open[descriptor]
                return replies.file_result(0)

    def _open_file(self, name: str, flags: int) -> bytes:
        if flags & _WRITING:
            return replies.file_error(Errno.EROFS)
        content = self._files().get(name)
        if content is None:
            return replies.file_error(Errno.ENOENT)
        free = next((n for n in range(1, _MAX_OPEN + 1) if n not in self._open), None)
        if free is None:
            return replies.file_error(Errno.EMFILE)
        self._open[free] = content()
        return replies.file_result(free)


__all__ = ["OpenFiles"]
