"""Integers that must not be confused: mypy refuses to mix them.

Tick counts machine steps since power-on and orders every state of the machine (docs/tour.txt explains what one step
is). The three kinds of address are those of any hypervisor text: what the Guest's program uses, what the Guest
believes to be physical, and what the emulated machine's memory bus sees.
"""

from __future__ import annotations

from typing import NewType

Tick = NewType("Tick", int)
Nanoseconds = NewType("Nanoseconds", int)
GuestVirtual = NewType("GuestVirtual", int)
GuestPhysical = NewType("GuestPhysical", int)
HostPhysical = NewType("HostPhysical", int)

__all__ = ["GuestPhysical", "GuestVirtual", "HostPhysical", "Nanoseconds", "Tick"]
