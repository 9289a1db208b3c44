"""`lgreplay tui`: its options."""

from __future__ import annotations

from pathlib import Path

import click


@click.command
@click.argument("trace", required=False)
@click.option(
    "--theme",
    type=click.Choice(["dark", "light", "none"]),
    help="Colours. By default dark, or what the terminal says of its ground; none if NO_COLOR is set.",
)
@click.option("--ascii", "ascii_only", is_flag=True, help="Draw with ASCII characters only.")
@click.option("--seek", "where", metavar="PLACE", help="Begin there: a tick, 50%, end, @bookmark.")
@click.option("--fresh", is_flag=True, help="Forget how the last session on this trace was left.")
@click.option(
    "--attach",
    type=click.Path(path_type=Path),
    metavar="SOCKET",
    help="Share the position with a debugger: what `lgreplay gdb --tui-socket SOCKET` serves.",
)
@click.option("--salvage", is_flag=True, help="Take a damaged trace up to the damage.")
def tui(
    trace: str | None,
    theme: str | None,
    ascii_only: bool,
    where: str | None,
    fresh: bool,
    attach: Path | None,
    salvage: bool,
) -> None:
    """Look into TRACE on a full screen, forwards and backwards in time.

    The key ? shows all keys, q leaves. With --attach, TRACE is the debugger's unless it is given.
    """
    from tui.starting import start

    start(
        trace,
        theme,
        where,
        ascii_only=ascii_only,
        fresh=fresh,
        salvage=salvage,
        attach=attach,
    )


__all__ = ["tui"]
