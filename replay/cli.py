"""The shell around the commands: finds them, and turns errors into one line and an exit code.

Each package registers its commands under the entry-point group `lgreplay.commands`; so this package need not know
those that stand above it. A command's module imports click and no more at its top. That keeps `lgreplay --help`, which
loads them all, quick.

Who is to blame decides the exit code (exit_codes.py). What is not an error of ours in this sense - an assertion, a
KeyError - is a bug, and passes through as a traceback.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points

import click

from hostvm.errors import HostvmError
from replay.errors import Divergence, ReplayError, one_line
from replay.exit_codes import MEANINGS, ExitCode
from replay.versions import version_line

COMMANDS = "lgreplay.commands"


class _Commands(click.Group):
    """The commands of all packages, each loaded when it is looked at."""

    @cached_property
    def _found(self) -> dict[str, EntryPoint]:
        found = {entry.name: entry for entry in entry_points(group=COMMANDS)}
        if not found:
            raise click.ClickException("not installed, so no commands are known; try `make setup`")
        return found

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name all commands."""
        return sorted(self._found)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one command."""
        entry = self._found.get(cmd_name)
        if entry is None:
            return None
        command = entry.load()
        assert isinstance(command, click.Command), entry
        return command

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the exit codes."""
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), text) for code, text in MEANINGS.items()])


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(version_line())
        ctx.exit()


@click.command(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show version, engine and Python.",
)
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Record, replay and debug lguest Guests on an emulated 32-bit x86."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(ExitCode.REFUSED)


def run(arguments: Sequence[str]) -> int:
    """Run the command that `arguments` ask for; return the exit code."""
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered must not complain once more when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.BROKEN_PIPE
    return code


def _run(arguments: Sequence[str]) -> int:
    try:
        with cli.make_context("lgreplay", list(arguments), obj=tuple(arguments)) as ctx:
            cli.invoke(ctx)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _complain("interrupted", ExitCode.INTERRUPTED)
    except click.ClickException as error:
        return _complain(_click_text(error), ExitCode.REFUSED)
    except Divergence as divergence:
        return _complain(str(divergence), ExitCode.DIVERGED)
    except (ReplayError, HostvmError) as error:
        return _complain(str(error), ExitCode.REFUSED)
    except MemoryError:
        return _complain("this computer has too little memory", ExitCode.REFUSED)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _complain(_os_text(error), ExitCode.REFUSED)
    return ExitCode.OK


def _complain(text: str, code: ExitCode) -> ExitCode:
    click.echo(f"lgreplay: {one_line(text)}", err=True)
    return code


def _click_text(error: click.ClickException) -> str:
    """One line; the usage that click would show first is a `--help` away."""
    text = " ".join(error.format_message().split())
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"{text} ({error.ctx.command_path} --help says more)"
    return text


def _os_text(error: OSError) -> str:
    if error.errno == errno.ENOMEM:
        return "this computer has too little memory"
    reason = error.strerror or str(error)
    return f"{os.fsdecode(error.filename)}: {reason}" if error.filename else reason


__all__ = ["cli", "run"]
