"""The file under a trace: how it comes to be, grows, is cut and gets its name; how it is read within bounds.

The life of a trace file, as an observer sees the directory:

    NAME.incomplete       being recorded, or left by a recorder that was killed; readable up to its last whole chunk
    NAME.incomplete~      the same, of an earlier recording under this name; put aside when a new one began
    NAME.incomplete.cut   for a moment, while a flight recorder drops its oldest part
    NAME                  closed; an earlier NAME is replaced at this moment and not before
    NAME.indexing         a copy of a closed NAME with stored states, about to replace it
    NAME.unverified       made of another trace, and not yet replayed; it becomes NAME when it has been

TraceOutput holds a lock on the file it writes, so two recorders cannot take the same name. Every append is all or
nothing as far as that is in our hands: when one fails, the file is cut back to where it began. Bytes go to the
operating system at once (a killed process loses none), to the disk when the trace is closed.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Self

from replay.chunks import CHUNK_HEADER_SIZE, ChunkHeader, Version, crc, unpack_chunk_header
from replay.errors import Place, TraceOpenError, TraceReadError
from replay.interruption import put_off
from replay.wire import decompress

if sys.platform != "win32":
    import fcntl

INCOMPLETE = ".incomplete"
COPYING = ".indexing"
UNVERIFIED = ".unverified"
COPY_SIZE = 1 << 20
_NEW = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)


def incomplete_path(path: Path) -> Path:
    """Name of the trace while it is being recorded."""
    return path.parent / (path.name + INCOMPLETE)


def final_path(path: Path) -> Path:
    """Name of the trace that is being recorded at `path`, once that is done."""
    return path.parent / path.name.removesuffix(INCOMPLETE)


def _lock(descriptor: int) -> None:
    if sys.platform != "win32":
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(error.errno, "another recorder is writing it") from error
        except OSError:
            # A file system without locks: its user has to keep recorders apart.
            return


def _open_locked(path: Path, flags: int, mode: int = 0o666) -> int:
    descriptor = os.open(path, flags, mode)
    try:
        _lock(descriptor)
    except BlockingIOError:
        os.close(descriptor)
        raise
    return descriptor


class TraceOutput:
    """A trace file that is being written, from `open` on. All methods raise OSError when the system refuses."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.incomplete = incomplete_path(path)
        self._descriptor = -1
        self._is_ours = False
        self.size = 0

    def open(self) -> None:
        """Take the name for a file without content. After a ^C at its end there is one to be removed."""
        if self.path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a directory")
        with put_off():
            self._put_aside()
            self._descriptor = _open_locked(self.incomplete, _NEW | os.O_EXCL)
            self._is_ours = True

    def _put_aside(self) -> None:
        """Keep what an earlier recorder left, but do not take it from one that is still at work."""
        try:
            earlier = _open_locked(self.incomplete, os.O_RDWR)
        except FileNotFoundError:
            return
        try:
            self.incomplete.replace(self.incomplete.with_name(self.incomplete.name + "~"))
        finally:
            os.close(earlier)

    def append(self, *parts: bytes) -> None:
        """Write all parts behind what is there, or nothing."""
        at, whole = self.size, False
        try:
            for part in parts:
                at = _write_all(self._descriptor, part, at)
            self.size, whole = at, True
        finally:
            if not whole:
                self._cut_back()

    def _cut_back(self) -> None:
        # A reader copes with a torn chunk too; this only makes room on a full disk.
        with suppress(OSError):
            os.ftruncate(self._descriptor, self.size)

    def drop(self, head: int, first_kept: int) -> None:
        """Take the bytes from `head` up to `first_kept` out of the file; a reader finds it whole at any moment.

        When the system refuses, the file is as before.
        """
        temporary = self.incomplete.with_name(self.incomplete.name + ".cut")
        copy = os.open(temporary, _NEW | os.O_TRUNC, 0o666)
        try:
            _lock(copy)
            size = _copy(self._descriptor, 0, head, copy, 0)
            size = _copy(self._descriptor, first_kept, self.size, copy, size)
            temporary.replace(self.incomplete)
        except OSError:
            os.close(copy)
            temporary.unlink(missing_ok=True)
            raise
        os.close(self._descriptor)
        self._descriptor, self.size = copy, size

    def finish(self) -> None:
        """Make sure that all is on the disk, and give the trace its name."""
        os.fsync(self._descriptor)
        self.incomplete.replace(self.path)
        self.close()

    def close(self) -> None:
        """Leave the file as it is, under the name it has."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def remove(self) -> None:
        """Close the file and delete it: nothing of use has been written."""
        self.close()
        if self._is_ours:
            self.incomplete.unlink(missing_ok=True)


class TraceDraft:
    """A trace that gets the name `path` when it is whole; until then, from `open` on, it is called `temporary`.

    What a killed program left there is replaced. All methods raise OSError when the system refuses.
    """

    def __init__(self, path: Path, temporary: Path, mode: int = 0o666) -> None:
        self.path = path
        self.temporary = temporary
        self._mode = mode
        self._descriptor = -1
        self.size = 0

    def open(self) -> None:
        """Begin with a file without content. After a ^C at its end there is one to be removed."""
        with put_off():
            self._descriptor = _open_locked(self.temporary, _NEW, self._mode)
            os.ftruncate(self._descriptor, 0)

    def append(self, *parts: bytes) -> None:
        """Write all parts behind what is there."""
        for part in parts:
            self.size = _write_all(self._descriptor, part, self.size)

    def finish(self) -> None:
        """Make sure that all is on the disk, and give it its name."""
        os.fsync(self._descriptor)
        self.check()
        with put_off():
            self.temporary.replace(self.path)
            self._close()

    def check(self) -> None:
        """Whether it may have that name; asked at the last moment."""

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def remove(self) -> None:
        """Forget it, unless it is finished."""
        if self._descriptor >= 0:
            self.temporary.unlink(missing_ok=True)
        self._close()


class TraceCopy(TraceDraft):
    """A new version of a closed trace NAME, under the name NAME.indexing until it takes the other's place."""

    def __init__(self, original: TraceInput) -> None:
        path = Path(original.path).resolve()
        self._original = original.identity
        mode = stat.S_IMODE(path.stat().st_mode)
        super().__init__(path, path.with_name(path.name + COPYING), mode)

    def check(self) -> None:
        """Whether the original is still the same."""
        if _identity(self.path.stat()) != self._original:
            raise OSError(errno.EBUSY, "somebody else has changed it meanwhile", str(self.path))


class TraceDerivate(TraceDraft):
    """A trace made of another one, under the name NAME.unverified until it is known to be good.

    `force`: it may take the place of what has that name.
    """

    def __init__(self, path: Path, *, force: bool) -> None:
        self._force = force
        super().__init__(path, path.with_name(path.name + UNVERIFIED))

    def open(self) -> None:
        """Begin, unless the name is that of a directory."""
        if self.path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a directory", str(self.path))
        super().open()

    def check(self) -> None:
        """Whether the name is free, or to be taken."""
        if not self._force and os.path.lexists(self.path):
            raise FileExistsError(errno.EEXIST, "is there already", str(self.path))


def _identity(known: os.stat_result) -> tuple[int, int, int, int]:
    return known.st_dev, known.st_ino, known.st_size, known.st_mtime_ns


def _write_all(descriptor: int, data: bytes, at: int) -> int:
    """Write at an offset; return the offset behind."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, at)
        view = view[written:]
        at += written
    return at


def _copy(source: int, start: int, end: int, target: int, at: int) -> int:
    """Copy a range of one file to an offset of another; return the offset behind."""
    while start < end:
        data = os.pread(source, min(COPY_SIZE, end - start), start)
        if not data:
            raise OSError(5, "the file became shorter while it was being recorded")
        at = _write_all(target, data, at)
        start += len(data)
    return at


class TraceInput:
    """A trace file that is being read: chunk headers and payloads at offsets, each checked before it is believed.

    It is not mapped into memory: a file that someone cuts while it is read must be an error, not a signal.
    Raises (all methods): TraceReadError when the system refuses; TraceFormatError for damage.
    """

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise TraceOpenError(self.path, "not a regular file")
            self._file = path.open("rb", buffering=0)
            known = os.fstat(self._file.fileno())
            self.size, self.identity = known.st_size, _identity(known)
        except (OSError, ValueError) as error:
            # ValueError: a name with a zero byte in it.
            text = getattr(error, "strerror", None) or str(error)
            raise TraceOpenError(self.path, text) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def place(self, offset: int) -> Place:
        """Name a place in this file."""
        return Place(self.path, offset)

    def read(self, offset: int, size: int) -> bytes:
        """Read up to `size` bytes; fewer only where the file ends."""
        size = min(size, self.size - offset)
        try:
            data = os.pread(self._file.fileno(), size, offset) if size > 0 else b""
            while len(data) < size:
                more = os.pread(self._file.fileno(), size - len(data), offset + len(data))
                if not more:
                    raise self.place(offset).malformed("the file became shorter while it was read")
                data += more
        except OSError as error:
            raise TraceReadError(self.path, offset, error.strerror or str(error)) from error
        return data

    def pieces(self, offset: int, end: int) -> Iterable[bytes]:
        """Yield the bytes of a range, in pieces of bounded size."""
        for at in range(offset, min(end, self.size), COPY_SIZE):
            yield self.read(at, min(COPY_SIZE, end - at))

    def is_zero_from(self, offset: int) -> bool:
        """Tell whether nothing but zeros follows: what a power failure may leave behind the last chunk."""
        # The first byte decides almost always, and must not cost more.
        return not any(self.read(offset, 1)) and not any(map(any, self.pieces(offset, self.size)))

    def header_at(self, offset: int, version: Version) -> ChunkHeader:
        """Read the header of the chunk at `offset`; the chunk need not be whole."""
        data = self.read(offset, CHUNK_HEADER_SIZE)
        if len(data) < CHUNK_HEADER_SIZE:
            raise self.place(offset).malformed("the file ends where a chunk should be")
        return unpack_chunk_header(data, version, self.place(offset))

    def payload_at(self, offset: int, header: ChunkHeader) -> bytes:
        """Read, check and decompress the payload of the chunk at `offset`."""
        payload = self.read(offset + CHUNK_HEADER_SIZE, header.compressed_size)
        if len(payload) < header.compressed_size or crc(payload) != header.payload_crc:
            raise self.place(offset).malformed("damaged chunk (checksum of its content)")
        return decompress(payload, header.raw_size, self.place(offset))

    def check_payload(self, offset: int, header: ChunkHeader) -> None:
        """Check the payload of a chunk of unknown type."""
        value = 0
        for piece in self.pieces(offset + CHUNK_HEADER_SIZE, offset + header.size):
            value = crc(piece, value)
        if value != header.payload_crc:
            raise self.place(offset).malformed("damaged chunk (checksum of its content)")


__all__ = [
    "COPYING",
    "INCOMPLETE",
    "UNVERIFIED",
    "TraceCopy",
    "TraceDerivate",
    "TraceInput",
    "TraceOutput",
    "final_path",
    "incomplete_path",
]
