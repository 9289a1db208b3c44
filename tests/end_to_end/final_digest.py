"""Replay a trace as a program of its own, and print the digest of the machine at its end.

Started by test_same_anywhere.py, in surroundings that a running interpreter cannot take on.
"""

from __future__ import annotations

import sys

from replay.log import TraceReader
from replay.session import Session


def final_digest(path: str) -> str:
    with TraceReader(path) as reader:
        session = Session(reader)
        for _ in session.verify():
            pass
        return f"{session.machine.tick} {session.machine.digest().hex()}"


if __name__ == "__main__":
    print(final_digest(sys.argv[1]))
