"""What a sweep has found, for people: a table of the classes, and a strip beside the disassembly.

In the strip each instruction has a row, and each visit to it a mark, in order of time: a letter for each class of
failures, and signs for what is none. Where there are more visits than room, a mark stands for several, and a failure
among them wins. The same goes to a terminal and into a page of HTML that needs nothing else.

Read next: commands/sweep.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from string import ascii_uppercase

from replay.errors import one_line
from replay.instructions import text_of
from replay.outcomes import Class, Outcome, Verdict, classes
from replay.page import page, table, text
from replay.sweep_plan import Plan
from replay.symbols import Symbols

_SIGNS = {Verdict.PASSED: ".", Verdict.ENDED: "o", Verdict.SKIPPED: "-"}
_FEW_ROWS = 40
_GUEST_TOP = 0xFFC00000


@dataclass(frozen=True, slots=True)
class Row:
    """An instruction, and the marks of the visits to it."""

    address: int
    name: str
    text: str
    marks: str


class Report:
    """The findings of a sweep. `places` is how many there are to be, if it was broken off."""

    def __init__(self, outcomes: Sequence[Outcome], plan: Plan, symbols: Symbols) -> None:
        self.classes = [c for c in classes(outcomes) if c.verdict is not Verdict.SKIPPED]
        self._outcomes = sorted(outcomes, key=lambda outcome: outcome.tick)
        self._plan = plan
        self._symbols = symbols
        self.marks = dict(_marks(self.classes))

    @property
    def failed(self) -> bool:
        """Whether any run has."""
        return any(found.verdict.failed for found in self.classes)

    # ---- the table ------------------------------------------------------------------------------

    def summary(self) -> Iterator[str]:
        """What was done."""
        plan, tried = self._plan, sum(len(found.outcomes) for found in self.classes)
        irqs = " and ".join(map(str, plan.irqs))
        yield (
            f"irq {irqs} at {tried:,} of {len(self._outcomes):,} places, "
            f"up to {plan.oracle.ticks:,} ticks each, seed {plan.seed}"
        )
        missed = Counter(o.reception for o in self._outcomes if o.verdict is Verdict.SKIPPED)
        for reception, count in sorted(missed.items(), key=lambda item: -item[1]):
            yield f"not tried at {count:,}: {reception.value}"

    def table(self) -> Iterator[str]:
        """A line for each class."""
        for found in self.classes:
            first = found.first
            mark, count = self.marks[found.kind], len(found.outcomes)
            yield f"{mark} {count:>7,}  {one_line(found.kind)}"
            if found.verdict.failed:
                later = f"{first.end - first.tick:,} ticks later it is over"
                yield f"           first at tick {first.tick}, {self._name(first)}, {later}"

    def _name(self, outcome: Outcome) -> str:
        in_guest = outcome.eip < _GUEST_TOP
        found = self._symbols.name_of(outcome.eip, in_guest=in_guest, guest=self._plan.guest)
        return f"{outcome.eip:#010x}" if found is None else str(found)

    # ---- the strip ------------------------------------------------------------------------------

    def rows(self, width: int) -> list[Row]:
        """The instructions, in order of their addresses; those never tried only where there are few."""
        at: dict[int, list[Outcome]] = {}
        for outcome in self._outcomes:
            at.setdefault(outcome.eip, []).append(outcome)
        if len(at) > _FEW_ROWS:
            at = {eip: all_ for eip, all_ in at.items() if _tried(all_)}
        return [self._row(all_, width) for _, all_ in sorted(at.items())]

    def _row(self, outcomes: list[Outcome], width: int) -> Row:
        first = outcomes[0]
        marks = "".join(self._mark(outcome) for outcome in outcomes)
        return Row(
            first.eip, self._name(first), text_of(first.code, first.eip), squeezed(marks, width)
        )

    def _mark(self, outcome: Outcome) -> str:
        return _SIGNS.get(outcome.verdict) or self.marks[outcome.kind]

    def strip(self, width: int) -> Iterator[str]:
        """The strip for a terminal."""
        for row in self.rows(width):
            yield f"{row.address:08x}  {row.name:<24} {row.text:<36} {row.marks}".rstrip()

    # ---- a page -----------------------------------------------------------------------------------

    def html(self, title: str) -> str:
        """A page with all of it."""
        head = "".join(f"<p>{text(line)}</p>" for line in self.summary())
        titles = ("", "times", "outcome", "first at", "", "ticks to its end")
        found = table(map(self._html_class, self.classes), titles)
        return page(title, (head, found, table(map(self._html_row, self.rows(400)))))

    def _html_class(self, found: Class) -> tuple[str, ...]:
        return (
            self._html_mark(self.marks[found.kind]),
            f"{len(found.outcomes):,}",
            text(found.kind),
            f"{found.first.tick}",
            text(self._name(found.first)),
            f"{found.first.end - found.first.tick:,}",
        )

    def _html_row(self, row: Row) -> tuple[str, ...]:
        marks = "".join(self._html_mark(mark) for mark in row.marks)
        return f"{row.address:08x}", text(row.name), text(row.text), marks

    def _html_mark(self, mark: str) -> str:
        kind = "bad" if mark.isupper() or mark == "*" else "good" if mark in ".o" else "none"
        return f'<b class="{kind}">{mark}</b>'


def _marks(found: Sequence[Class]) -> Iterator[tuple[str, str]]:
    letters = iter(ascii_uppercase)
    for each in found:
        yield each.kind, next(letters, "*") if each.verdict.failed else _SIGNS[each.verdict]


def _tried(outcomes: Sequence[Outcome]) -> bool:
    return any(outcome.verdict is not Verdict.SKIPPED for outcome in outcomes)


def squeezed(marks: str, width: int) -> str:
    """At most `width` marks: each of a run of visits, and a failure among them counts most."""
    if len(marks) <= width:
        return marks
    ends = [len(marks) * at // width for at in range(width + 1)]
    return "".join(max(marks[begin:end], key=_weight) for begin, end in pairwise(ends))


def _weight(mark: str) -> tuple[int, int]:
    order: Mapping[str, int] = {"-": 0, ".": 1, "o": 2, "*": 3}
    return order.get(mark, 4), -ord(mark)


__all__ = ["Report", "Row", "squeezed"]
