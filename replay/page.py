"""Pages of HTML that need nothing but a browser: one file each, light or dark as the reader has it, and no scripts.

What comes from a trace is escaped, and control characters in it are shown and not obeyed. The page forbids itself to
load anything, so a report about somebody's guest asks the network for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from replay.errors import one_line

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1b1f24; --dim: #68707c; --line: #d5d9df; --soft: #f4f5f7;
  --bad: #b3261e; --bad-ground: #c22; --good: #cec; --mark: #fff1c2; --bar: #2f6fdb }
@media (prefers-color-scheme: dark) { :root { --ground: #15181d; --ink: #d6dae1; --dim: #8a93a1; --line: #333a45;
  --soft: #1d2128; --bad: #ff8a80; --bad-ground: #a33; --good: #2f4a34; --mark: #4a3f17; --bar: #7aa2f7 } }
body { font: 14px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--ground); margin: 2em auto;
  max-width: 1180px; padding: 0 1.5em }
h1 { font-size: 1.5em; margin-bottom: .2em }
h2 { font-size: 1.1em; margin: 2em 0 .5em; border-bottom: 1px solid var(--line) }
table, pre, svg text, code { font-family: ui-monospace, monospace; font-size: 12.5px }
table { border-collapse: collapse; margin-bottom: 1em }
td, th { padding: 1px 1.2em 1px 0; text-align: left; vertical-align: top; white-space: pre }
th { font-weight: normal; color: var(--dim) }
pre { background: var(--soft); padding: .8em 1em; overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere }
summary { cursor: pointer; color: var(--dim) }
.wide { overflow-x: auto } .dim { color: var(--dim) } .lead { font-size: 1.1em }
.wrong { color: var(--bad); font-weight: 600 } tr.here td { background: var(--mark) }
.columns { display: flex; flex-wrap: wrap; gap: 0 3em }
b { font-weight: normal; padding: 0 1px } b.bad { background: var(--bad-ground); color: #fff }
b.good { background: var(--good) } b.none { color: var(--dim) }
"""


def page(title: str, body: Iterable[str]) -> str:
    """A whole page; `body` is HTML already."""
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width"><title>{text(title)}</title>'
    )
    whole = "\n".join(body)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head>\n'
        f"<body>\n<h1>{text(title)}</h1>\n{whole}\n</body></html>\n"
    )


def text(words: str) -> str:
    """Words as HTML, on one line."""
    return escape(one_line(words))


def lines(words: str) -> str:
    """Words of several lines as HTML, with only ends of lines and tabs obeyed."""
    return "\n".join(escape(one_line(each.replace("\t", "    "))) for each in words.split("\n"))


def section(title: str, *parts: str) -> str:
    """A part of a page under a heading; nothing where there is nothing to say."""
    inside = "\n".join(part for part in parts if part)
    return f"<section><h2>{text(title)}</h2>\n{inside}\n</section>" if inside else ""


def folded(title: str, inside: str) -> str:
    """A part that is shown when it is asked for."""
    return f"<details><summary>{text(title)}</summary>\n{inside}\n</details>" if inside else ""


def table(rows: Iterable[Iterable[str]], head: Iterable[str] = (), here: int | None = None) -> str:
    """A table of cells that are HTML already; row `here` is marked. Nothing where there are no rows."""
    titles = "".join(f"<th>{text(title)}</th>" for title in head)
    made = [f"<tr>{titles}</tr>"] if titles else []
    found = list(rows)
    for number, row in enumerate(found):
        mark = ' class="here"' if number == here else ""
        made.append(f"<tr{mark}>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>")
    return '<div class="wide"><table>\n' + "\n".join(made) + "\n</table></div>" if found else ""


__all__ = ["folded", "lines", "page", "section", "table", "text"]
