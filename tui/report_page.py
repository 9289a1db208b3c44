"""A page about a trace, out of a Story: lanes of events, the last moments, and what the interrupts were about.

Pure functions. Read next: replay/page.py for what all pages have in common.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import log2

from hostvm.gates import FIRST_EXTERNAL_VECTOR
from hostvm.lguest_regs import REGS_ORDER
from hostvm.x86 import Eflags
from replay.page import folded, lines, page, section, table, text
from tui.changes import CONTROL, GENERAL, SEGMENTS, values_of
from tui.panes.registers import flags
from tui.report import Step, Story
from tui.values import EventRow, Gate, Irq, Snapshot, Strips, Word

_LABEL, _LANE, _WIDTH = 90, 18, 960
_CONSOLE_LINES = 40
_STACK_WORDS = 24


def report(story: Story) -> str:
    """The whole page."""
    then, guest = story.then, story.guest
    return page(
        story.title,
        (
            f'<p class="lead wrong">{text(story.lead)}</p>',
            f'<p class="dim">{text(_where(story))}</p>',
            section("Timeline", _lanes(story.whole, then), _lanes(story.near, then)),
            section("The guest's last instructions", _steps(story.steps)),
            section("Registers, and who called", _state(guest)),
            section("Events up to there", _events(story.events)),
            section("Virtual interrupts", _waiting(story), _irqs(then.irqs), _window(then)),
            section("IDT", _idt(then)),
            section("Console", f"<pre>{_console(then)}</pre>" if then.console else ""),
            section("What the Host knows", _words(then)),
            section("The trace", f"<pre>{lines(chr(10).join(story.facts))}</pre>"),
        ),
    )


def _where(story: Story) -> str:
    here = story.then.position
    kept = (
        ""
        if story.guest.position.tick == here.tick
        else (f"; the guest last had the processor at tick {story.guest.position.tick:,}")
    )
    place = f"tick {here.tick:,} of {here.first:,} to {here.end:,}"
    return f"{place}{kept}. Up to here all was replayed, and is as recorded."


# ---- lanes -----------------------------------------------------------------------------------------


def _lanes(strips: Strips, shot: Snapshot) -> str:
    """Lanes of density; the moment is a line across them."""
    lanes = [(name, counts) for name, counts in strips.lanes if any(counts)]
    if not lanes:
        return ""
    height = _LANE * len(lanes) + 16
    parts = [_lane(name, counts, row) for row, (name, counts) in enumerate(lanes)]
    span = max(strips.last - strips.first, 1)
    at = _LABEL + _WIDTH * min(max(shot.position.tick - strips.first, 0), span) / span
    style = 'stroke="var(--bad)" stroke-width="1.5"'
    parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{height - 14}" {style}/>')
    for x, tick, anchor in ((_LABEL, strips.first, "start"), (_LABEL + _WIDTH, strips.last, "end")):
        parts.append(
            f'<text x="{x}" y="{height - 2}" text-anchor="{anchor}" fill="var(--dim)">{tick:,}</text>'
        )
    width = _LABEL + _WIDTH + 4
    return f'<svg viewBox="0 0 {width} {height}" width="100%">' + "".join(parts) + "</svg>"


def _lane(name: str, counts: tuple[int, ...], row: int) -> str:
    top, wide = row * _LANE, _WIDTH / len(counts)
    most = log2(1 + max(counts))
    label = f'<text x="0" y="{top + 13}" fill="var(--dim)">{text(name)}</text>'
    bars = "".join(
        f'<rect x="{_LABEL + at * wide:.1f}" y="{top + 2}" width="{max(wide, 1.5):.1f}" height="{_LANE - 5}" '
        f'fill="var(--bar)" opacity="{0.25 + 0.75 * log2(1 + count) / most:.2f}"/>'
        for at, count in enumerate(counts)
        if count
    )
    return label + bars


# ---- the last moments ------------------------------------------------------------------------------


def _steps(steps: tuple[Step, ...]) -> str:
    rows = (
        (
            f"{step.tick:,}",
            f'<span class="dim">{step.world}</span>',
            f"{step.eip:08x}",
            text(step.symbol),
            text(step.text),
            f'<span class="dim">{text(step.changed)}</span>',
        )
        for step in steps
    )
    head = ("tick", "", "", "", "", "changed by the one before")
    return table(rows, head, here=len(steps) - 1)


def _state(shot: Snapshot) -> str:
    values = values_of(shot.cpu)
    general = [(n, f"{values[n]:08x}") for n in (*GENERAL, "eip", "eflags")]
    general.append(("", text(flags(shot.cpu.eflags, Eflags))))
    system = [(n, f"{values[n]:08x}") for n in CONTROL]
    system += [(n, f"{values[n]:04x}") for n in SEGMENTS]
    callers = [
        (f"{c.eip:08x}", text(c.symbol), text(c.source), "" if c.sure else "perhaps")
        for c in shot.callers
    ]
    sides = (table(_named(general)), table(_named(system)), table(callers), _stack(shot))
    return '<div class="columns">' + "".join(sides) + "</div>"


def _named(pairs: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    return ((f'<span class="dim">{name}</span>', value) for name, value in pairs)


def _stack(shot: Snapshot) -> str:
    data = shot.stack.data[: 4 * _STACK_WORDS]
    words = (data[at : at + 4] for at in range(0, len(data) - 3, 4))
    rows = (
        (
            f'<span class="dim">{shot.stack.address + 4 * n:08x}</span>',
            f"{int.from_bytes(w, 'little'):08x}",
        )
        for n, w in enumerate(words)
    )
    return table(rows, ("stack",))


def _events(events: tuple[EventRow, ...]) -> str:
    rows = [(f"{row.tick:,}", text(row.name), text(row.details)) for row in events]
    return table(rows, here=len(rows) - 1)


def _console(shot: Snapshot) -> str:
    shown = shot.console.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
    return lines("\n".join(shown.rstrip("\n").split("\n")[-_CONSOLE_LINES:]))


# ---- interrupts ------------------------------------------------------------------------------------


def _waiting(story: Story) -> str:
    said = []
    for irq, why in story.waiting:
        reasons = why or story.then.irqs[irq].why
        listed = "".join(f"<li>{text(each)}</li>" for each in reasons)
        said.append(f"<p>IRQ {irq} is pending and not delivered:</p><ul>{listed}</ul>")
    return "".join(said) or "<p>None is pending.</p>"


def _irqs(irqs: tuple[Irq, ...]) -> str:
    rows = [
        (
            f"{each.irq}",
            "pending" if each.pending else "",
            "blocked" if each.blocked else "",
            _tick(each.raised),
            _tick(each.delivered),
            text("; ".join(each.why)),
        )
        for each in irqs
        if each.pending or each.raised is not None or each.delivered is not None
    ]
    return table(rows, ("IRQ", "", "", "last raised", "last delivered", "why not now"))


def _tick(tick: int | None) -> str:
    return "" if tick is None else f"{tick:,}"


def _window(shot: Snapshot) -> str:
    """What keeps all interrupts away."""
    here = shot.position
    facts = [f"irq_enabled is {_on(here.virtual_if)}"]
    if here.blocked is not None:
        facts.append(f"blocked_interrupts is {here.blocked:#x}")
    first, last = shot.noirq
    facts.append(
        f"noirq window {first:#010x} to {last:#010x}" if first < last else "no noirq window"
    )
    facts += ["the guest is in it"] * here.in_noirq + ["the guest is halted"] * here.halted
    return f'<p class="dim">{text("; ".join(facts))}.</p>'


def _on(value: bool | None) -> str:
    return "not known" if value is None else "on" if value else "off"


def _idt(shot: Snapshot) -> str:
    """Traps, and interrupts that there have been; the rest is folded."""
    quiet = {FIRST_EXTERNAL_VECTOR + each.irq for each in shot.irqs if each.raised is None}
    seen = tuple(gate for gate in shot.gates if gate.name and gate.vector not in quiet)
    said = "direct: the CPU goes straight to the guest's handler; default: to the Switcher, and so to the Host"
    every = folded("all gates", _gates(shot.gates))
    return f'{_gates(seen)}<p class="dim">{text(said)}.</p>{every}' if every else ""


def _gates(gates: tuple[Gate, ...]) -> str:
    rows = [
        (
            f"{gate.vector:#04x}",
            text(gate.name),
            text(gate.handler),
            f"{gate.hi:08x}:{gate.lo:08x}",
            f"{gate.real_hi:08x}:{gate.real_lo:08x}",
            gate.way,
        )
        for gate in gates
        if gate.handler
    ]
    head = ("vector", "", "the guest's handler", "its gate", "the CPU's gate", "leads")
    return table(rows, head)


# ---- the Host --------------------------------------------------------------------------------------


def _words(shot: Snapshot) -> str:
    def rows(words: tuple[Word, ...]) -> list[tuple[str, str, str]]:
        return [
            (f'<span class="dim">{text(w.name)}</span>', _hex(w.value), text(w.meaning))
            for w in words
        ]

    saved = [word for word in shot.saved if word.name in REGS_ORDER]
    sides = (
        table(rows(tuple(saved)), ("saved by the Switcher", "", "")),
        table(rows(shot.shared), ("struct lguest_data", "", "")),
    )
    return '<div class="columns">' + "".join(sides) + "</div>"


def _hex(value: int | None) -> str:
    return "" if value is None else f"{value:08x}"


__all__ = ["report"]
