"""The x87 unit of the engine and the integer routines of x87.py: copying the one to the other and back.

The engine keeps registers by physical number, a tag byte each, and TOP apart from the status word. It also keeps the
address of the last x87 instruction, which FNSTENV shows; an instruction carried out here must leave its own.
Source: Intel SDM volume 1, 8.1.8. Read next: x87.py.
"""

from __future__ import annotations

from hostvm.cpu_state import CS
from hostvm.engine_layout import Env
from hostvm.x87 import FpuView, apply
from hostvm.x87_format import Float80, X87Op

ERROR_SUMMARY = 1 << 7


def execute(env: Env, opcode: int) -> None:
    """Carry out the instruction D9 `opcode` at EIP on the engine's x87 unit; EIP is left to the caller."""
    before = FpuView(
        fpstt=env.fpstt & 7,
        fptags=tuple(env.fptags),
        fpregs=tuple(Float80(r.sign_exponent, r.significand) for r in env.fpregs),
        fpus=env.fpus,
        fpuc=env.fpuc,
    )
    after = apply(X87Op(opcode), before)
    env.fpstt, env.fpus = after.fpstt, after.fpus
    for index, (tag, value) in enumerate(zip(after.fptags, after.fpregs, strict=True)):
        env.fptags[index] = tag
        env.fpregs[index].sign_exponent, env.fpregs[index].significand = value
    env.fpip, env.fpcs = env.eip, env.segs[CS].selector


__all__ = ["ERROR_SUMMARY", "execute"]
