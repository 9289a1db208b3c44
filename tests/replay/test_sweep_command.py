"""`lgreplay sweep` as its users meet it: what it shows and writes, what it refuses, and ^C."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from replay import cli
from replay.exit_codes import ExitCode
from replay.log import TraceReader
from replay.session import Session
from tests.patience import PATIENCE, wait_until
from tests.replay.sweeps import PASSING

RACE = ["--window", "302505..302515", "--ticks", "20k"]
Capture = pytest.CaptureFixture[str]


def test_it_writes_a_page_and_a_trace_for_each_class(tmp_path: Path, capfd: Capture) -> None:
    page, folder = tmp_path / "page.html", tmp_path / "found"
    options = [*RACE, "--force", "--html", str(page), "--save", str(folder)]
    assert cli.run(["sweep", str(PASSING), *options]) == ExitCode.OK
    assert "crashed: page fault in the kernel" in capfd.readouterr().out
    assert "lguest_iret+0x10" in page.read_text()
    saved = sorted(path.name for path in folder.iterdir())
    assert saved == ["passing-crashed.lgt", "passing-passed.lgt"]
    for path in folder.iterdir():
        with TraceReader(path) as reader:
            assert list(Session(reader).verify())


def test_it_ends_with_the_first_failure_if_asked(capfd: Capture) -> None:
    assert cli.run(["sweep", str(PASSING), *RACE, "--first", "--workers", "1"]) == ExitCode.OK
    assert "not reached at" in capfd.readouterr().out


def test_after_ctrl_c_it_shows_what_there_is_and_goes_on_from_the_journal(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    options = ["--window", "318000..318300", "--ticks", "20k", "--journal", str(journal)]
    command = [sys.executable, "-m", "replay", "sweep", str(PASSING), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        wait_until(lambda: journal.exists() and journal.read_bytes().count(b"\n") >= 20)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=PATIENCE)
    # On a busy computer it may have been done before it was told.
    assert child.returncode in {ExitCode.INTERRUPTED, ExitCode.OK}
    if child.returncode:
        assert err == b"lgreplay: interrupted\n"
    assert b"not reached at" in out
    before = journal.read_bytes()
    again = subprocess.run(command, capture_output=True, check=True)
    assert b"at 300 of 300 places" in again.stdout
    assert journal.read_bytes().startswith(before)
    assert journal.read_bytes().count(b"\n") == 301


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "say where"),
        (["--window", "9"], "not a window"),
        (["--window", "9..9"], "nothing is in"),
        (["--window", "1G..2G"], "no such place"),
        (["--symbol", "nobody"], "no symbol nobody"),
        (["--events", "weddings"], "no events are called"),
        (["--events", "irq:x"], "no events are called"),
        (["--window", "1..9", "--irq", "32"], "32"),
        (["--window", "1..9", "--guest", "4"], "no guest 4"),
        (["--window", "1..9", "--region", "12"], "not a region"),
        (["--window", "1..9", "--region", "0+0"], "not a region"),
        (["--window", "1..9", "--assert", "1 +"], "not an expression"),
        (["--window", "1..9", "--panic", "("], "unterminated"),
        (["--window", "1..9", "--journal", "/"], "/"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    options: list[str], said: str, capfd: Capture
) -> None:
    assert cli.run(["sweep", str(PASSING), *options]) == ExitCode.REFUSED
    err = capfd.readouterr().err
    assert said in err
    assert err.count("\n") == 1
