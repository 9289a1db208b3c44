"""What the stub tells the debugger that it can do: computed from what the target can do, never listed by hand.

A debugger trusts these claims for the rest of the session: one that is not true makes conditions silently stop working,
or a command fail that would have had a way around.

Source: GDB manual, E.4 (qSupported), E.2 (vCont?). Read next: session.py.
"""

from __future__ import annotations

from gdbstub.packet import PACKET_SIZE
from gdbstub.replies import Manners
from gdbstub.target import HasDocuments, HasPoints, Reversible, StepsRanges, Target

_ALWAYS = (f"PacketSize={PACKET_SIZE:x}", "QStartNoAckMode+", "vContSupported+", "binary-upload+")
_CAPABILITIES: tuple[tuple[type, tuple[str, ...]], ...] = (
    (Reversible, ("ReverseStep+", "ReverseContinue+")),
    (HasPoints, ("swbreak+", "hwbreak+", "ConditionalBreakpoints+")),
)


def supported(target: Target, manners: Manners) -> bytes:
    """The answer to qSupported."""
    found = list(_ALWAYS)
    for capability, features in _CAPABILITIES:
        if isinstance(target, capability):
            found += features
    if isinstance(target, HasDocuments):
        found += [f"qXfer:{kind}:read+" for kind in sorted(target.document_kinds)]
    if manners.error_message:
        found.append("error-message+")
    return ";".join(found).encode()


def resume_actions(target: Target) -> bytes:
    """The answer to vCont?."""
    return b"vCont;c;C;s;S" + (b";r" if isinstance(target, StepsRanges) else b"")


__all__ = ["resume_actions", "supported"]
