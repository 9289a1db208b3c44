"""Payloads become commands; what is unknown and what is wrong are told apart."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdbstub import commands as c
from gdbstub.errors import PacketError
from gdbstub.fields import ALL_THREADS, EVERY_THREAD, ThreadId
from gdbstub.parser import parse_command

# Commands of GDB 13 to 18 and LLDB 23 as they came over the wire, and some malformed ones.
EXAMPLES = (
    b"qSupported:multiprocess+;swbreak+;xmlRegisters=i386",
    b"vCont;s:3;c",
    b"vCont;r8048000,8048005:p1.3;c:p1.-1",
    b"Z0,10003,1;X3,220127",
    b"qXfer:features:read:target.xml:0,1000",
    b"vFile:open:6a757374,0,1c0",
    b"qSearch:memory:8048000;100;\x00\x01;",
    b"X8048000,2:\x03}",
    b"Hgp1.3",
    b"P8=00000000",
    b"qRcmd,7768656e",
)


@pytest.mark.parametrize(
    ("payload", "command"),
    [
        (b"", c.Unknown()),
        (b"vMustReplyEmpty", c.Unknown()),
        (b"qTStatus", c.Unknown()),
        (b"QNonStop:1", c.Unknown()),
        (b"bx", c.Unknown()),
        (b"qXfer:auxv:write:0:00", c.Unknown()),
        (b"vFile:unlink:00", c.Unknown()),
        (b"?", c.WhyStopped()),
        (b"!", c.EnableExtendedMode()),
        (b"qSupported:a+;b=1;", c.QuerySupported(frozenset({"a+", "b=1"}))),
        (b"qSupported", c.QuerySupported(frozenset())),
        (b"QStartNoAckMode", c.StartNoAckMode()),
        (b"Hg0", c.SelectThread(ThreadId(0), for_resume=False)),
        (b"Hc-1", c.SelectThread(EVERY_THREAD, for_resume=True)),
        (b"Hgp1.2", c.SelectThread(ThreadId(2), for_resume=False)),
        (b"T3", c.IsThreadAlive(ThreadId(3))),
        (b"g", c.ReadRegisters()),
        (b"G0102", c.WriteRegisters(b"\1\2")),
        (b"p2b", c.ReadRegister(0x2B)),
        (b"P8=78563412", c.WriteRegister(8, b"\x78\x56\x34\x12")),
        (b"mc0100000,4", c.ReadMemory(0xC0100000, 4)),
        (b"xc0100000,4", c.ReadMemory(0xC0100000, 4, binary=True)),
        (b"M10,2:abcd", c.WriteMemory(0x10, b"\xab\xcd")),
        (b"X10,2::#", c.WriteMemory(0x10, b":#")),
        (b"X10,0:", c.WriteMemory(0x10, b"")),
        (b"c", c.Resume((c.Action(c.Motion.CONTINUE),))),
        (b"s1000", c.Resume((c.Action(c.Motion.STEP),), 0x1000)),
        (b"C05", c.Resume((c.Action(c.Motion.CONTINUE),))),
        (b"S05;1000", c.Resume((c.Action(c.Motion.STEP),), 0x1000)),
        (b"bs", c.Reverse(c.Motion.STEP)),
        (b"bc", c.Reverse(c.Motion.CONTINUE)),
        (b"vCont?", c.QueryResumeActions()),
        (
            b"vCont;S05:2;c",
            c.Resume((c.Action(c.Motion.STEP, ThreadId(2)), c.Action(c.Motion.CONTINUE))),
        ),
        (
            b"vCont;r1000,1005:p1.3;c:p1.-1",
            c.Resume(
                (
                    c.Action(c.Motion.RANGE, ThreadId(3), 0x1000, 0x1005),
                    c.Action(c.Motion.CONTINUE, ThreadId(ALL_THREADS)),
                )
            ),
        ),
        (b"Z0,1000,1", c.InsertPoint(c.Point(c.PointKind.SOFTWARE, 0x1000, 1))),
        (
            b"Z1,1000,1;X1,27X3,220127",
            c.InsertPoint(c.Point(c.PointKind.HARDWARE, 0x1000, 1), (b"\x27", b"\x22\x01\x27")),
        ),
        (b"z4,1000,8", c.RemovePoint(c.Point(c.PointKind.ACCESS, 0x1000, 8))),
        (b"D;1", c.Detach()),
        (b"k", c.Kill(answered=False)),
        (b"vKill;1", c.Kill(answered=True)),
        (b"R00", c.Restart((), answered=False)),
        (b"vRun;;3330", c.Restart(("30",), answered=True)),
        (b"vRun;", c.Restart((), answered=True)),
        (b"qRcmd,7768656e", c.Monitor("when")),
        (
            b"qXfer:features:read:a:b.xml:10,1000",
            c.Transfer("features", "a:b.xml", 0x10, 0x1000),
        ),
        (b"qSearch:memory:1000;20;a;b", c.SearchMemory(0x1000, 0x20, b"a;b")),
        (b"qCRC:1000,20", c.MemoryChecksum(0x1000, 0x20)),
        (b"qC", c.CurrentThread()),
        (b"qThreadExtraInfo,2", c.ThreadExtraInfo(ThreadId(2))),
        (b"vFile:open:2f61,0,1c0", c.OpenFile("/a", 0)),
        (b"vFile:pread:1,20000,0", c.ReadFile(1, 0x20000, 0)),
        (b"vFile:setfs:0", c.SetFileSystem()),
    ],
)
def test_a_payload_means(payload: bytes, command: c.Command) -> None:
    assert parse_command(payload) == command


@pytest.mark.parametrize(
    "payload",
    [
        b"m",
        b"m1000",
        b"m1000,",
        b"m+1000,4",
        b"m 1000,4",
        b"m1_0,4",
        b"m100000000,4",
        b"m11111111111111111,4",
        b"M10,3:abcd",
        b"X10,1:",
        b"G012",
        b"Hx0",
        b"Hgp2.1",
        b"Hg",
        b"T-2",
        b"P8",
        b"Z5,0,1",
        b"Z0,0,1;Y",
        b"Z0,0,1;X4,00",
        b"Z0,0,1;cmds:0",
        b"vCont",
        b"vCont;t",
        b"vCont;r1000",
        b"vCont;c:x",
        b"qRcmd,0",
        b"qXfer:features:read:target.xml:0",
        b"qSearch:memory:0;1;",
        b"vFile:open:zz,0,0",
        b"vFile:pread:1,2",
        b"c-1",
    ],
)
def test_what_is_malformed_is_no_unknown_packet(payload: bytes) -> None:
    with pytest.raises(PacketError):
        parse_command(payload)


@given(
    st.binary(max_size=40)
    | st.sampled_from(EXAMPLES).flatmap(
        lambda e: st.tuples(st.just(e), st.integers(0, 60), st.binary(max_size=3)).map(
            lambda t: t[0][: t[1]] + t[2] + t[0][t[1] + 1 :]
        )
    )
)
def test_any_payload_is_a_command_or_a_packet_error(payload: bytes) -> None:
    with suppress(PacketError):
        parse_command(payload)
