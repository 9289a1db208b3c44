"""Programs for kestrel: a few bytes in an ELF file, archives of them, and such that a C compiler makes."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

_COMMAND = ("gcc", "-m32", "-O1", "-static", "-nostdlib", "-no-pie", "-fno-pic", "-w")
_WITHOUT = ("-fno-stack-protector", "-mno-sse", "-fcf-protection=none")


def program(code: bytes, data: bytes = b"") -> bytes:
    """A static i386 ELF file of one segment at 0x08048000, headers included, entered at `code`."""
    base, start = 0x08048000, 52 + 32
    size = start + len(code) + len(data)
    ident = b"\x7fELF\x01\x01\x01".ljust(16, b"\0")
    header = struct.pack(
        "<16sHHIIIIIHHHHHH", ident, 2, 3, 1, base + start, 52, 0, 0, 52, 32, 1, 40, 0, 0
    )
    segment = struct.pack("<IIIIIIII", 1, 0, base, base, size, size + 4096, 7, 4096)
    return header + segment + code + data


def exit_with(status: int) -> bytes:
    return b"\xb8\x01\0\0\0\xbb" + status.to_bytes(4, "little") + b"\xcd\x80"


def newc(*entries: tuple[str, bytes]) -> bytes:
    """A cpio archive in "newc" format."""
    archive = b""
    for name, data in (*entries, ("TRAILER!!!", b"")):
        path = name.encode() + b"\0"
        numbers = (1, 0o100755, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        part = b"070701" + b"".join(b"%08x" % number for number in numbers) + path
        part += b"\0" * (-len(part) % 4)
        archive += part + data + b"\0" * (-len(data) % 4)
    return archive


def compiled(text: str, folder: Path) -> bytes:
    """An ELF file out of C with a main(), which may use what stands in RUNTIME; the test is skipped without gcc."""
    source, out = folder / "program.c", folder / "program"
    if shutil.which("gcc") is None:
        pytest.skip("NO PROGRAM OF A USER WAS COMPILED AND RUN: there is no gcc here")
    source.write_text(RUNTIME + text)
    command = [*_COMMAND, *_WITHOUT, str(source), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "-m32" in done.stderr + done.stdout:
        pytest.skip("NO PROGRAM OF A USER WAS COMPILED AND RUN: gcc has no -m32 here")
    assert done.returncode == 0, done.stderr
    return out.read_bytes()


RUNTIME = r"""
static int syscall(int n, int a, int b, int c, int d) {
    int r;
    asm volatile("int $0x80" : "=a"(r) : "a"(n), "b"(a), "c"(b), "d"(c), "S"(d) : "memory");
    return r;
}
static void print(const char *s) { int n = 0; while (s[n]) n++; syscall(4, 1, (int)s, n, 0); }
static void check(const char *what, int ok) { print(ok ? "ok " : "WRONG "); print(what); print("\n"); }
static int wait(void) { int s = -1; syscall(7, -1, (int)&s, 0, 0); return s; }
int main(int argc, char **argv);
asm(".globl _start\n_start: movl (%esp), %eax\n leal 4(%esp), %edx\n pushl %edx\n pushl %eax\n"
    "call main\n movl %eax, %ebx\n movl $252, %eax\n int $0x80");
"""
