"""Whose keys they are: the screen's, or those of a guest that is being recorded.

The guest has them from the moment when the user says so until Esc, ^] or ^C, or until it has come to a stop. While it
has them it runs, and what it writes is shown before it is past for anybody who looks.

Read next: live.py, window.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.live import Typing

if TYPE_CHECKING:
    from tui.app import Tui

TAKEN = "Keys go to the guest: Esc or ^] takes them back, ^C stops it"


class GuestKeys:
    """The keys of a screen; without `typing` no guest can have them. `taken`: whether one has them."""

    def __init__(self, tui: Tui, typing: Typing | None) -> None:
        self._tui = tui
        self._typing = typing
        self.taken = False

    def heard(self) -> bytes | None:
        """What the guest has written up to now, if that is to be seen before it is past. On any thread."""
        return self._typing.seen if self._typing is not None and self.taken else None

    def give(self) -> None:
        """Let the guest run on, and have what is typed from now on."""
        refusal = self._refusal()
        if refusal:
            self._tui.say(refusal, refused=True)
            return
        self._tui.focus_on("console")
        self.taken = True
        self._tui.move(lambda desk: desk.run_on(), "the guest has the keys", watched=True)

    def _refusal(self) -> str:
        if self._typing is None:
            return "what is typed goes to a guest only while it is recorded: --record"
        return self._typing.refusal

    def take_back(self) -> None:
        """Have the keys back; the guest runs on."""
        self.taken = False
        self._tui.say("the guest runs on; ^C stops it" if not self._tui.idle else "")

    def type(self, data: bytes) -> None:
        """Type to the guest."""
        assert self._typing is not None
        if not self._typing.type(data.replace(b"\r", b"\n")):
            self._tui.say("the guest does not read what is typed", refused=True)


__all__ = ["TAKEN", "GuestKeys"]
