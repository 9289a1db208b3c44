"""Completion of the command line, out of the table of commands and what the trace knows. Read next: commands.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from replay.events import Kind
from replay.location_words import SHARED
from replay.location_words import WORDS as LOCATIONS
from replay.named_stops import NAMES as STOPS
from replay.predicate import NAMES as STATES
from tui.arrangement import SCREENS
from tui.commands import BY_NAME
from tui.panes import PANES
from tui.theme import Theme
from tui.values import CODE_VIEWS, SPACES

_MOST = 200
_DELIMITERS = " +-*/&|<>()[],"
_IN_EXPRESSIONS = frozenset({"symbol", "location", "kind"})
_FIXED: Mapping[str, Sequence[str]] = {
    "stop": sorted(STOPS),
    "kind": sorted(kind.name.lower() for kind in Kind),
    "screen": list(SCREENS),
    "pane": list(PANES),
    "space": list(SPACES),
    "code view": list(CODE_VIEWS),
    "branch": ["leave", "save "],
    "theme": [theme.value for theme in Theme],
}


class Words(Completer):
    """Completes a command, then its arguments. `symbols` and `bookmarks` are asked when wanted."""

    def __init__(self, symbols: Sequence[str], bookmarks: Callable[[], Iterable[str]]) -> None:
        self._symbols = sorted(symbols)
        self._bookmarks = bookmarks

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterator[Completion]:
        """Yield what may stand for the word at the cursor."""
        before = document.text_before_cursor
        command, space, rest = before.lstrip().partition(" ")
        word: str = command
        candidates: Sequence[str] = sorted(BY_NAME)
        if space:
            word, candidates = self._argument(command, rest)
        fitting = [each for each in candidates if each.startswith(word)]
        for each in fitting[:_MOST]:
            yield Completion(each, start_position=-len(word))

    def _argument(self, command: str, rest: str) -> tuple[str, Sequence[str]]:
        known = BY_NAME.get(command)
        kind = known.arguments if known else ""
        word = rest
        for delimiter in _DELIMITERS if kind in _IN_EXPRESSIONS else "":
            word = word.rpartition(delimiter)[2]
        return word, self._candidates(kind, word)

    def _candidates(self, kind: str, word: str) -> Sequence[str]:
        match kind:
            case "symbol" | "location":
                names = [*sorted(STATES), *self._symbols] if word else []
                return [*LOCATIONS, *SHARED, *names] if kind == "location" else names
            case "place":
                return ["start", "end", "event ", *(f"@{name}" for name in self._bookmarks())]
            case "bookmark":
                return sorted(self._bookmarks())
        return _FIXED.get(kind, ())


__all__ = ["Words"]
