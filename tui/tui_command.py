"""`lgreplay tui`: its options."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[TRACE]")
@click.option(
    "--record",
    "live",
    is_flag=True,
    help="Show a guest while it is being recorded; instead of TRACE come the options of `lgreplay record`.",
)
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
@click.pass_context
def tui(
    ctx: click.Context,
    words: tuple[str, ...],
    live: bool,
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
    from tui.starting import Options, show_recording, show_trace

    options = Options(theme, where, ascii_only, fresh)
    if not live:
        show_trace(_trace(words), options, salvage=salvage, attach=attach)
        return
    if attach or salvage:
        raise click.UsageError("--record: --attach and --salvage are for a TRACE")
    from replay.commands.record import record, wish_of

    wish = wish_of(record.make_context("record", list(words), parent=ctx))
    show_recording(wish, ctx.find_root().obj or (), options)


def _trace(words: tuple[str, ...]) -> str | None:
    for word in words:
        if word.startswith("-"):
            raise click.NoSuchOption(word)
    if len(words) > 1:
        raise click.UsageError("one TRACE, or --record with the options of `record`")
    return words[0] if words else None


__all__ = ["tui"]
