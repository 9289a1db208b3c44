"""What the sources say to a Guest that they kill, so that tests can ask whether each of it is met by a case."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path


def texts_in(files: Iterable[Path]) -> frozenset[str]:
    """Every text in these source files, as a pattern."""
    return frozenset(
        pattern for file in files for pattern in _templates(ast.parse(file.read_text("utf-8")))
    )


def unmet(patterns: Iterable[str], said: Iterable[str]) -> set[str]:
    """The patterns that no text in `said` is, as they stand in the sources but for `.*`."""
    texts = tuple(said)
    missing = (p for p in patterns if not any(re.fullmatch(p, text) for text in texts))
    return {re.sub(r"\\(.)", r"\1", pattern, flags=re.DOTALL) for pattern in missing}


def _templates(tree: ast.AST) -> Iterator[str]:
    """What stands in GuestKilled(...), and in `killed` of a device, a queue or its memory, as a pattern."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Name(id="GuestKilled") | ast.Attribute(attr="killed"), args=[text]
            ):
                pattern = _pattern(text)
                # A text that is handed on is somebody else's.
                if pattern is not None:
                    yield pattern


def _pattern(text: ast.expr) -> str | None:
    match text:
        case ast.Constant(value=str(constant)):
            return re.escape(constant)
        case ast.JoinedStr(values=parts):
            return "".join(
                re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".*"
                for part in parts
            )
    return None


__all__ = ["texts_in", "unmet"]
