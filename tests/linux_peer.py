"""A program on the other side of a network cable that speaks as QEMU's `-netdev stream` does.

It is the computer 10.0.2.2 and answers what is asked of it: who has that address (ARP), and whatever comes by UDP, in
capitals. Frames go over a Unix socket, each after its length, four bytes, high byte first.

Source: RFC 826, 768, 791.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ADDRESS = bytes((10, 0, 2, 2))
_CARD = bytes.fromhex("520000000002")
_ARP, _IP, _UDP = b"\x08\x06", b"\x08\x00", 17
_ASK = bytes.fromhex("0001 0800 06 04 0001")
_ANSWER = bytes.fromhex("0001 0800 06 04 0002")
_IP_HEAD, _UDP_HEAD = 20, 8


@contextmanager
def answering(path: Path) -> Iterator[None]:
    """Listen at the socket `path` for one that connects, and answer it until it goes, or this ends."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(1)
        thread = threading.Thread(target=_serve, args=(listening,))
        thread.start()
        try:
            yield
        finally:
            # Whoever waits in accept() is woken.
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(listening: socket.socket) -> None:
    try:
        other, _ = listening.accept()
    except OSError:
        return
    with other, other.makefile("rb") as stream:
        try:
            while len(head := stream.read(4)) == 4:
                answer = answer_to(stream.read(int.from_bytes(head, "big")))
                if answer:
                    other.sendall(len(answer).to_bytes(4, "big") + answer)
        except OSError:
            # The recorder has ended.
            return


def answer_to(frame: bytes) -> bytes:
    """The frame that answers this one; nothing if there is none."""
    sender, kind, rest = frame[6:12], frame[12:14], frame[14:]
    if kind == _ARP and rest[:8] == _ASK and rest[24:28] == ADDRESS:
        body = _ANSWER + _CARD + ADDRESS + rest[8:14] + rest[14:18]
    elif kind == _IP and rest[0] == 0x45 and rest[9] == _UDP and rest[16:20] == ADDRESS:
        body = _datagram(rest)
    else:
        return b""
    return (sender + _CARD + kind + body).ljust(60, b"\0")


def _datagram(asked: bytes) -> bytes:
    there, here, length = struct.unpack_from(">HHH", asked, _IP_HEAD)
    text = asked[_IP_HEAD + _UDP_HEAD : _IP_HEAD + length].upper()
    # A checksum of 0 is none.
    udp = struct.pack(">HHHH", here, there, length, 0) + text
    head = struct.pack(">BBHHHBBH", 0x45, 0, _IP_HEAD + len(udp), 0, 0, 64, _UDP, 0)
    head += ADDRESS + asked[12:16]
    return head[:10] + struct.pack(">H", _checksum(head)) + head[12:] + udp


def _checksum(head: bytes) -> int:
    total = sum(int.from_bytes(head[at : at + 2], "big") for at in range(0, len(head), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


__all__ = ["ADDRESS", "answer_to", "answering"]
