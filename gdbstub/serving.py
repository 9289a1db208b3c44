"""The ways in which `lgreplay gdb` serves: at an address, over standard streams, or to a gdb that it starts.

A gdb that is started shares our terminal: ^C is typed for it, and it passes it on through the socket. So we turn a deaf
ear to the signal from then on.

Read next: server.py; python/lgreplay_gdb.py, which the gdb loads.
"""

from __future__ import annotations

import shlex
import signal
import subprocess
import threading
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

import click

from gdbstub.server import Server, StandardStreams, listen_tcp, listen_unix
from gdbstub.shared_target import SharedTarget
from gdbstub.target import Target

GDB_SCRIPT = files("gdbstub") / "python" / "lgreplay_gdb.py"
FOLLOW_SCRIPT = files("gdbstub") / "python" / "lgreplay_follow.py"


def gdb_commands(address: str, *, shared: bool = False) -> list[str]:
    """What a gdb must be told to debug what is served at `address`; `shared`: and to go where a screen goes."""
    follow = [f"source {FOLLOW_SCRIPT}"] if shared else []
    return [f"source {GDB_SCRIPT}", f"target remote {address}", *follow]


def serve_at(target: Target, where: Path | int) -> None:
    """Serve at a TCP port or a unix socket until ^C."""
    listener = listen_unix(where) if isinstance(where, Path) else listen_tcp(where)
    with listener:
        address = (
            str(where) if isinstance(where, Path) else f"127.0.0.1:{listener.getsockname()[1]}"
        )
        commands = gdb_commands(address, shared=isinstance(target, SharedTarget))
        words = (word for line in commands for word in ("-ex", line))
        click.echo(f"listening at {address}; in another terminal:", err=True)
        click.echo(f"  gdb {shlex.join(words)}", err=True)
        try:
            Server(target, listener).serve()
        except KeyboardInterrupt:
            click.echo("", err=True)
        finally:
            if isinstance(where, Path):
                where.unlink(missing_ok=True)


def serve_stdio(target: Target) -> None:
    """Serve the debugger at the other end of our standard streams until it goes."""
    with suppress(KeyboardInterrupt):
        Server(target, connection=StandardStreams()).serve()


def launch_gdb(target: Target, program: str) -> int:
    """Start a gdb and serve it until it ends; its exit code.

    Raises: OSError when it cannot be started.
    """
    with listen_tcp(0) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        commands = gdb_commands(address, shared=isinstance(target, SharedTarget))
        words = [word for line in commands for word in ("-ex", line)]
        debugger = subprocess.Popen([*shlex.split(program), "-q", *words])
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        server = Server(target, listener)
        threading.Thread(target=_stop_with, args=(debugger, server), daemon=True).start()
        server.serve()
        return debugger.wait()


def _stop_with(debugger: subprocess.Popen[bytes], server: Server) -> None:
    debugger.wait()
    server.stop()


__all__ = ["GDB_SCRIPT", "gdb_commands", "launch_gdb", "serve_at", "serve_stdio"]
