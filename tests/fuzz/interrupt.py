"""^C anywhere: `python -m tests.fuzz.interrupt --runs 100 --seed 0`.

Python raises KeyboardInterrupt between any two of its steps, and a clock seldom meets the two that matter: after a file
has been made and before anybody knows of it. So ^C does not come by the clock here, but at a step: each command is run
once to see which calls and returns there are, in Python and into C; then once more for each of those that are chosen,
from a fresh folder, and there it gets its SIGINT. Each place in the source is as likely as any other, however often it
is passed, and so is each time that it is passed.

Afterwards there must be no traceback; the exit code is what docs/commands.md says; a trace that was there is as it was;
and what is new in the folder is whole, or has the name of what is not.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import re
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, NoReturn, TypeAlias

from replay.__main__ import main as lgreplay
from replay.exit_codes import ExitCode
from replay.log import TraceReader

TRACES = Path(__file__).parents[2] / "traces"
_PATIENCE = 120.0
# File, line, and what the interpreter says happens there: call, return, c_call, c_return.
Step: TypeAlias = tuple[str, int, str]


@dataclass(frozen=True, slots=True)
class Case:
    """A command line. `ends`: how it may end when ^C comes; `leaves`: names of what it may then leave."""

    arguments: tuple[str, ...]
    ends: frozenset[int] = frozenset({ExitCode.INTERRUPTED})
    leaves: str = r"(?!)"


def _case(line: str, *, ends: int = ExitCode.INTERRUPTED, leaves: str = r"(?!)") -> Case:
    words = tuple(line.split())
    return Case(words, frozenset({ends, ExitCode.INTERRUPTED}), leaves)


_SEARCH = "--ticks 3k --window 1356k..1357200"
CASES = (
    _case("record --guest hello --memory 8M --clock virtual --quiet -o new.lgt", ends=0),
    _case("record --guest hello --memory 8M --chaos=1 --tries 2 --until-failure --quiet -o new.lgt"),
    _case("replay race.lgt"),
    _case("info race.lgt"),
    _case("events race.lgt"),
    _case("index race.lgt --every 200k"),
    _case("sweep race.lgt --window 317k..317020 --ticks 1k --workers 1 --journal j --html h.html", leaves="j"),
    _case("sweep race.lgt --window 317k..317004 --ticks 1k --workers 1 --save saved", leaves="saved.*"),
    _case(f"bisect race.lgt --runs 1 {_SEARCH}"),
    _case("explain race.lgt --runs 1 --ticks 3k"),
    _case("diff race.lgt other.lgt"),
    _case("export race.lgt --perfetto -o new.json"),
    _case("export race.lgt --jsonl -o new.jsonl"),
    _case("report race.lgt -o new.html"),
    _case("pack race.lgt -o new.lgt"),
    _case("cut race.lgt --from failure-50k -o new.lgt"),
    _case("salvage torn.lgt -o new.lgt"),
    _case("redact race.lgt -o new.lgt"),
    _case("test race.lgt --guest kestrel -o new.lgt --ticks 3k --junit new.xml", ends=ExitCode.DIVERGED),
)  # fmt: skip


def prepare(folder: Path) -> None:
    """What the commands work on."""
    race = TRACES / "iret-race" / "iret-race.lgt"
    shutil.copyfile(race, folder / "race.lgt")
    shutil.copyfile(TRACES / "iret-race" / "passing.lgt", folder / "other.lgt")
    (folder / "torn.lgt").write_bytes(race.read_bytes()[:-900])


# ---- in the child ------------------------------------------------------------------------------------


class Steps:
    """Counts calls and returns by where they are, and calls `meet` at the `wanted`-th passage of a place."""

    def __init__(self, wanted: tuple[Step, int] | None, meet: Callable[[], None]) -> None:
        self.passed: dict[Step, int] = {}
        self._wanted, self._meet = wanted, meet

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        step = (frame.f_code.co_filename, frame.f_lineno, event)
        count = self.passed[step] = self.passed.get(step, 0) + 1
        if self._wanted is not None and count == self._wanted[1] and step == self._wanted[0]:
            self._wanted = None
            sys.setprofile(None)
            self._meet()


def _run(arguments: tuple[str, ...], steps: Steps, folder: Path) -> int:
    """Run a command here, from the folder, as if it were the whole program; its exit code."""
    os.chdir(folder)
    for number, name in ((0, os.devnull), (1, "../out"), (2, "../err")):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), number)
    sys.argv = ["lgreplay", *arguments]
    try:
        sys.setprofile(steps)
        lgreplay()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    finally:
        sys.setprofile(None)
        sys.stdout.flush()
        sys.stderr.flush()


def _in_child(work: Callable[[], int]) -> int | None:
    """Have `work` done by a child; its exit code, None if it had to be killed."""
    child = os.fork()
    if not child:
        _end_with(work)
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _end_with(work: Callable[[], int]) -> NoReturn:
    code = 99
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = work()
    except BaseException:  # noqa: BLE001 - whatever it is, the user would see it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


# ---- around it ---------------------------------------------------------------------------------------


def load() -> None:
    """Load what commands load when they need it: children then need not, and there is no ^C in an import."""
    for name in ("replay", "tui"):
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not module.name.endswith(("__main__", "build", "sweep_dask")):
                importlib.import_module(module.name)


@contextmanager
def _fresh(prepared: Path) -> Iterator[Path]:
    with TemporaryDirectory() as outer:
        folder = Path(outer) / "in"
        shutil.copytree(prepared, folder)
        yield folder


def _contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """A command that was left alone: its exit code, what is in the folder then, and the steps that it takes."""

    code: int
    contents: dict[str, bytes]
    steps: dict[Step, int]

    def chosen(self, random: Random) -> tuple[Step, int]:
        """A step, and at which of its passages."""
        step = random.choice(sorted(self.steps))
        return step, random.randint(1, self.steps[step])


def undisturbed(case: Case, prepared: Path) -> Undisturbed:
    """Run a command to its end."""
    with _fresh(prepared) as folder:
        found = folder.parent / "steps"

        def work() -> int:
            steps = Steps(None, lambda: None)
            code = _run(case.arguments, steps, folder)
            found.write_text(json.dumps([[*step, n] for step, n in steps.passed.items()]))
            return code

        code = _in_child(work)
        assert code is not None, f"{case.arguments} does not end"
        said = (folder.parent / "err").read_text()
        assert "Traceback" not in said, said
        steps = {(f, line, e): n for f, line, e, n in json.loads(found.read_text())}
        ours = {step: n for step, n in steps.items() if not step[0].startswith("<frozen")}
        return Undisturbed(code, _contents(folder), ours)


def disturbed(
    case: Case, prepared: Path, whole: Undisturbed, where: tuple[Step, int]
) -> str | None:
    """Run it once more with a ^C there; answers what is wrong then."""
    with _fresh(prepared) as folder:
        before = _contents(folder)
        steps = Steps(where, lambda: signal.raise_signal(signal.SIGINT))
        code = _in_child(lambda: _run(case.arguments, steps, folder))
        said = (folder.parent / "err").read_text(errors="replace")
        if code is None:
            return f"it does not end\n{said}"
        if "Traceback" in said or "Exception ignored" in said:
            return said
        if code not in case.ends | {whole.code}:
            return f"exit code {code}\n{said}"
        return _wrong_files(case, before, _contents(folder), whole, folder)


def _wrong_files(
    case: Case,
    before: dict[str, bytes],
    after: dict[str, bytes],
    whole: Undisturbed,
    folder: Path,
) -> str | None:
    for name, content in before.items():
        if after.get(name) not in (content, whole.contents.get(name)):
            return f"{name} is another"
    for name in sorted(after.keys() - before.keys()):
        if name not in whole.contents and not re.fullmatch(case.leaves, name):
            return f"it leaves {name}"
        if name.endswith(".lgt") and not _is_whole(folder / name):
            return f"it leaves {name}, which is not whole"
        if name.endswith((".html", ".json", ".xml")) and after[name] != whole.contents[name]:
            return f"it leaves half of {name}"
    return None


def _is_whole(path: Path) -> bool:
    with TraceReader(path) as reader:
        return sum(1 for _ in reader.events()) >= 0 and reader.end is not None


def check(case: Case, prepared: Path, seeds: Sequence[int]) -> list[str]:
    """Interrupt a command once for each seed; what is wrong."""
    whole, failures = undisturbed(case, prepared), []
    for seed in seeds:
        (file, line, event), times = where = whole.chosen(Random(f"{seed} {case.arguments}"))
        wrong = disturbed(case, prepared, whole, where)
        if wrong is not None:
            failures.append(
                f"{' '.join(case.arguments)}, seed {seed}\n"
                f"^C at {event} number {times} of {file}:{line}\n{wrong}"
            )
    return failures


def main() -> int:
    """Interrupt all of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.interrupt", description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="of each command")
    parser.add_argument("--seed", type=int, default=0, help="the first of them")
    parser.add_argument("--only", nargs="*", default=[""], help="commands that begin so")
    wanted = parser.parse_args()
    load()
    bad = 0
    with TemporaryDirectory() as name:
        prepare(Path(name))
        for case in CASES:
            if not " ".join(case.arguments).startswith(tuple(wanted.only)):
                continue
            began = time.monotonic()
            failures = check(case, Path(name), range(wanted.seed, wanted.seed + wanted.runs))
            print(*failures, sep="\n\n", end="\n\n" if failures else "")
            took = time.monotonic() - began
            print(f"{wanted.runs} times ^C, {len(failures)} wrong, {took:.0f} s:", *case.arguments)
            bad += len(failures)
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
