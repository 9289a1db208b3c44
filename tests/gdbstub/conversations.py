"""What a debugger, or somebody who is none, may say: strategies for the fuzz tests."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.gdbstub.dialogue import GDB, framed
from tests.gdbstub.fake_target import COUNTER, HANDLER, MAIN, SHADOW, SYSCALL, WORK

_ADDRESSES = st.sampled_from(
    (MAIN, WORK, SYSCALL, HANDLER, COUNTER, SHADOW, 0, 0x10, 0xFFFFFFFF, 0x100000000)
) | st.integers(0, 1 << 33)
_LENGTHS = st.sampled_from((0, 1, 4, 0x40, 0x1000, 0xFFFF)) | st.integers(0, 0x400)
_THREADS = st.sampled_from((b"0", b"-1", b"2", b"3", b"4", b"p1.2", b"p1.-1", b"p2.1", b"p1"))
_CONDITIONS = st.sampled_from((b"", b";X3,220127", b";X3,220027", b";X1,27", b";X7,26000122021327"))
_FIXED = st.sampled_from(
    (
        *(b"?", b"!", b"g", b"qC", b"c", b"s", b"bs", b"bc", b"vCont?", b"vCont;c", b"vRun;"),
        *(b"D", b"k", b"vKill;1", b"R00", b"QStartNoAckMode", b"qfThreadInfo", b"vFile:setfs:0"),
        *(GDB, b"qSupported", b"qXfer:threads:read::0,1000", b"vMustReplyEmpty", b"qAttached"),
        *(b"qRcmd,7768656e", b"vFile:open:2f66616b652f70726f6772616d,0,0", b"vFile:close:1"),
    )
)


@st.composite
def _built(draw: st.DrawFn) -> bytes:
    """A packet of a known kind with numbers that may or may not fit."""
    address, length, thread = draw(_ADDRESSES), draw(_LENGTHS), draw(_THREADS)
    data = draw(st.binary(max_size=8))
    numbers = {b"a": address, b"n": length}
    template = draw(
        st.sampled_from(
            (
                *(b"m%(a)x,%(n)x", b"x%(a)x,%(n)x", b"M%(a)x,%(n)x:%(h)b", b"X%(a)x,%(n)x:%(d)b"),
                *(b"Z%(k)d,%(a)x,%(n)x%(c)b", b"z%(k)d,%(a)x,%(n)x", b"p%(n)x", b"P%(n)x=%(h)b"),
                *(b"Hg%(t)b", b"Hc%(t)b", b"T%(t)b", b"vCont;s:%(t)b;c", b"vCont;s:%(t)b"),
                *(b"vCont;r%(a)x,%(b)x:%(t)b;c", b"c%(a)x", b"qThreadExtraInfo,%(t)b", b"G%(h)b"),
                *(b"qXfer:features:read:target.xml:%(n)x,%(n)x", b"qCRC:%(a)x,%(n)x"),
                *(b"qSearch:memory:%(a)x;%(n)x;%(d)b", b"vFile:pread:1,%(n)x,%(n)x"),
                *(b"vFile:fstat:%(n)x", b"qRcmd,%(h)b", b"vRun;;%(h)b", b"S05;%(a)x"),
            )
        )
    )
    return template % {
        **numbers,
        b"b": address + length,
        b"k": draw(st.integers(0, 5)),
        b"h": data.hex().encode(),
        b"d": data,
        b"t": thread,
        b"c": draw(_CONDITIONS),
    }


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    packet = framed(draw(_built()))
    at = draw(st.integers(0, len(packet)))
    return packet[:at] + draw(st.binary(max_size=3)) + packet[at + draw(st.integers(0, 3)) :]


def conversations(max_size: int = 12) -> st.SearchStrategy[bytes]:
    """Bytes: packets good and bad, whole and damaged, and noise between them."""
    pieces = (
        _FIXED.map(framed)
        | _built().map(framed)
        | _damaged()
        | st.sampled_from((b"+", b"-", b"\x03", b"$", b"#", b"}"))
        | st.binary(max_size=10)
    )
    return st.lists(pieces, max_size=max_size).map(b"".join)


__all__ = ["conversations"]
