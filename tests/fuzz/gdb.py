"""Say anything to the GDB stub: `python -m tests.fuzz.gdb --seconds 600 --seed 1`.

Each round is a conversation of packets good, bad, damaged and cut, drawn from a seed. It is held twice with a session,
whole and one byte at a time, and must end in the same answers, the same place and the same points; then once over a
socket, cut at random, after which another debugger must be served. `--only N` repeats one round.
"""

from __future__ import annotations

import argparse
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from random import Random

from gdbstub.packet import PACKET_SIZE
from gdbstub.server import Server, listen_tcp
from tests.gdbstub.dialogue import GDB, Client, Dialogue, framed
from tests.gdbstub.fake_target import COUNTER, HANDLER, MAIN, SHADOW, SYSCALL, WORK, FakeTarget

SECONDS_FOR_ONE = 20.0
ADDRESSES = (MAIN, WORK, SYSCALL, HANDLER, COUNTER, SHADOW, 0, 0xFFFFFFFF, 1 << 32, 1 << 64)
WORDS = (
    *(b"?", b"!", b"g", b"G", b"p", b"P", b"m", b"M", b"X", b"x", b"c", b"s", b"C05", b"S05"),
    *(b"bs", b"bc", b"Z0", b"Z1", b"Z2", b"Z3", b"Z4", b"z0", b"z2", b"Hg", b"Hc", b"T", b"k"),
    *(b"D", b"R", b"qC", b"qCRC:", b"qRcmd,", b"qSearch:memory:", b"qXfer:features:read:"),
    *(b"target.xml:", b"qSupported:", b"qThreadExtraInfo,", b"qfThreadInfo", b"vCont", b"vCont?"),
    *(b";c", b";s:3;c", b";r8048000,8048010:3;c", b"vFile:open:", b"vFile:pread:", b"vFile:fstat:"),
    *(b"vFile:close:", b"vRun;", b"vKill;", b"QStartNoAckMode", b",", b":", b";", b"=", b"p1."),
    *(b"-1", b"X3,220127", b"X7,26000122021327", b"777768656e", b"2f66616b652f70726f6772616d"),
)
EDGES = (b"", b"+", b"-", b"\x03", b"$", b"#", b"}", b"$#00", b"$" + b"a" * (PACKET_SIZE + 10))


def piece(random: Random) -> bytes:
    """A word, a number, or bytes."""
    match random.randrange(4):
        case 0:
            return b"%x" % random.choice((*ADDRESSES, random.randrange(1 << 12)))
        case 1:
            return random.randbytes(random.randrange(6))
        case _:
            return random.choice(WORDS)


def packet(random: Random) -> bytes:
    """Something like a packet, possibly damaged."""
    whole = framed(b"".join(piece(random) for _ in range(random.randint(1, 6))))
    if random.random() < 0.2:
        at = random.randrange(len(whole))
        whole = whole[:at] + random.randbytes(random.randrange(3)) + whole[at + 1 :]
    return whole


def conversation(random: Random) -> bytes:
    """Packets, with this and that between them."""
    start = framed(GDB) if random.random() < 0.5 else b""
    parts = (
        random.choice(EDGES) if random.random() < 0.2 else packet(random)
        for _ in range(random.randint(1, 40))
    )
    return start + b"".join(parts)


def hold(data: bytes, pieces: Sequence[bytes]) -> tuple[bytes, int, str]:
    """What comes back, where it ends, and which points are left, when `data` comes in these pieces."""
    assert b"".join(pieces) == data
    target = FakeTarget(length=60)
    gdb = Dialogue(target, offers=None)
    out = b"".join(gdb.bytes_in(part) for part in pieces)
    points = sorted(map(repr, target.points.values()))
    gdb.session.close()
    assert not target.points
    return out, target.tick, repr(points)


def cut(random: Random, data: bytes) -> list[bytes]:
    """The same bytes in pieces."""
    ends = sorted(random.randrange(len(data) + 1) for _ in range(random.randrange(8)))
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]


def over_a_socket(random: Random, data: bytes, address: tuple[str, int]) -> None:
    """Say it, leave, and see that another one is served."""
    with socket.create_connection(address) as connection, suppress(OSError):
        connection.settimeout(SECONDS_FOR_ONE)
        for part in cut(random, data):
            connection.sendall(part)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 16):
            pass
    gdb = Client(socket.create_connection(address))
    assert gdb.ask(b"qC") in {b"QC2", b"QC3"}
    gdb.close()


def attack(seed: int, number: int, address: tuple[str, int]) -> None:
    """One round."""
    random = Random(f"{seed}/{number}")
    data = conversation(random)
    whole = hold(data, [data])
    assert hold(data, cut(random, data)) == whole
    # Byte by byte is slow for the longest packets.
    if len(data) < PACKET_SIZE:
        assert hold(data, [bytes((byte,)) for byte in data]) == whole
    over_a_socket(random, data, address)


def main() -> int:
    """Attack until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", type=int)
    options = parser.parse_args()
    listener = listen_tcp(0)
    server = Server(FakeTarget(length=60), listener)
    serving = threading.Thread(target=server.serve)
    serving.start()
    number, end = options.only or 0, time.monotonic() + options.seconds
    try:
        while time.monotonic() < end:
            begin = time.monotonic()
            try:
                attack(options.seed, number, listener.getsockname())
                assert time.monotonic() - begin < SECONDS_FOR_ONE, "too slow"
            except BaseException:
                print(f"failed: --seed {options.seed} --only {number}", file=sys.stderr)
                raise
            number += 1
            if options.only is not None:
                break
    finally:
        server.stop()
        serving.join()
        listener.close()
    print(f"{number} conversations, seed {options.seed}: none had another end than documented")
    return 0


if __name__ == "__main__":
    sys.exit(main())
