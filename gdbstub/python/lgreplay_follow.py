"""gdb goes where the screen goes, at once: to be loaded when gdb is connected.

A thread listens where the screen is attached (`lgreplay gdb --tui-socket`). When the screen wants to be elsewhere, gdb
asks for the arrival, as soon as it is at its prompt, and shows the new place. Without this file, or while gdb is busy,
it comes to know with its next move. This file is read by the Python in gdb, so it imports nothing but its neighbour.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from pathlib import Path

import gdb

_HOME = str(Path(__file__).resolve().parents[2])
sys.path.insert(0, _HOME)
try:
    from gdbstub.python.lgreplay_stub import arrive
finally:
    sys.path.remove(_HOME)


def come() -> None:
    """Be where the screen has brought us, if it has, and show it."""
    try:
        while said := brought():
            arrive()
            gdb.write(f"\nthe screen: {said}\n")
            gdb.execute("frame")
    except gdb.error:
        # It runs, or is gone.
        return


def brought() -> str:
    """Where the screen has brought us since we asked last; behind words about how far the way there was."""
    lines = str(gdb.execute("monitor shared follow", to_string=True)).splitlines()
    return next((line for line in lines if line.startswith("tick ")), "")


def listen(connection: socket.socket) -> None:
    """Hear of the screen's wishes until there is nobody any more."""
    with connection, connection.makefile("rb") as lines:
        for line in lines:
            if "wanted" in json.loads(line):
                gdb.post_event(come)


def follow() -> None:
    """Begin to listen, if the stub shares its place."""
    try:
        path = str(gdb.execute("monitor shared", to_string=True)).strip()
    except gdb.error:
        return
    if not path.startswith("/"):
        return
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        return
    threading.Thread(target=listen, args=(connection,), daemon=True).start()


follow()
