"""The command line as its users meet it: what commands say, and with what they exit."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest

from hostvm import doctor
from hostvm.errors import EngineMisfit
from replay import cli
from replay.catalogue import SHIPPED
from replay.commands.terminal import harmless
from replay.events import Event, Hypercall
from replay.exit_codes import MEANINGS, ExitCode
from replay.log import TraceReader
from replay.quantities import parse_count, parse_keep, parse_memory, short_count
from replay.trace_header import TraceEndReason
from tests.patience import PATIENCE
from tests.replay.recorded import altered, record_hello

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "hostvm" / "guest" / "images"
COMMANDS = sorted(entry_points(group=cli.COMMANDS), key=lambda entry: entry.name)
HEAVY = {"unicorn", "msgpack", "zstandard", "numpy", "capstone", "prompt_toolkit"}
FOREVER = ("--guest", "hello", "--append", "loops=100000000")
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="session")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "hello.lgt"
    record_hello(path)
    return path


@dataclass(frozen=True, slots=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@pytest.fixture
def lgreplay(
    capfd: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Done]:
    """Run a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Done:
        code = cli.run([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Done(code, captured.out, captured.err)

    return run


Run = Callable[..., Done]


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a command in a process of its own; its output is not buffered by anything of ours."""
    return subprocess.Popen(
        [sys.executable, "-m", "replay", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def assert_refused(done: Done, said: str) -> None:
    assert done.code == ExitCode.REFUSED, done.err
    assert done.err.startswith("lgreplay: ")
    assert done.err.count("\n") == 1
    assert said in done.err


class TestHelp:
    def test_it_names_all_commands_and_exit_codes(self, lgreplay: Run) -> None:
        done = lgreplay("--help")
        assert done.code == ExitCode.OK
        for entry in COMMANDS:
            assert re.search(rf"^  {entry.name} ", done.out, re.MULTILINE)
        for code in ExitCode:
            assert re.search(rf"^  {code:d} ", done.out, re.MULTILINE)

    @pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: entry.name)
    def test_each_command_has_help_of_its_own(self, lgreplay: Run, entry: object) -> None:
        done = lgreplay(entry.name, "--help")  # type: ignore[attr-defined]
        assert done.code == ExitCode.OK
        assert done.out.startswith("Usage: lgreplay")

    def test_it_loads_nothing_that_takes_time(self) -> None:
        code = (
            "import sys; from replay.cli import run; run(['--help']);"
            "print('LOADED', *{name.partition('.')[0] for name in sys.modules})"
        )
        out = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout
        loaded = set(out.partition("LOADED ")[2].split())
        assert "click" in loaded
        assert not loaded & HEAVY

    def test_recording_does_not_load_what_only_looking_back_needs(self, tmp_path: Path) -> None:
        arguments = ["record", "--quiet", "--max-ticks", "1", "-o", str(tmp_path / "t.lgt")]
        code = (
            f"import sys; from replay.cli import run; run({arguments});"
            "print('LOADED', *{name.partition('.')[0] for name in sys.modules})"
        )
        out = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout
        loaded = set(out.partition("LOADED ")[2].split())
        assert "unicorn" in loaded
        assert "numpy" not in loaded

    def test_no_command_at_all_gets_the_help_and_is_an_error(self, lgreplay: Run) -> None:
        done = lgreplay()
        assert done.code == ExitCode.REFUSED
        assert "Commands:" in done.err

    def test_version_names_program_engine_and_python(self, lgreplay: Run) -> None:
        assert re.fullmatch(
            r"lgreplay \S+ \(unicorn 2\.1\.4, \w+ 3\.\d+\.\d+\S*\)\n", lgreplay("--version").out
        )

    def test_the_documentation_has_every_command_and_exit_code(self) -> None:
        text = (ROOT / "docs" / "commands.md").read_text()
        for entry in COMMANDS:
            assert f"`lgreplay {entry.name}" in text, entry.name
        rows = dict(re.findall(r"^\| (\d+) \| (.*) \|$", text, re.MULTILINE))
        assert rows == {str(int(code)): meaning for code, meaning in MEANINGS.items()}

    def test_the_documentation_has_every_option(self) -> None:
        text = (ROOT / "docs" / "commands.md").read_text()
        for entry in COMMANDS:
            command: click.Command = entry.load()
            for parameter in command.params:
                for option in (o for o in parameter.opts if o.startswith("--")):
                    assert f"`{option}" in text, f"{entry.name} {option}"


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["nonsense"], "No such command"),
            (["record", "--nonsense"], "No such option"),
            (["replay"], "TRACE"),
            (["record", "--memory", "lots"], "not an amount of memory"),
            (["record", "--memory", "1M"], "too little"),
            (["record", "--memory", "0"], "lgreplay"),
            (["record", "--max-ticks", "-3"], "not a number"),
            (["record", "--keep-last", "12"], "not an amount"),
            (["record", "--keep-last", "0s"], "positive"),
            (["record", "--guest", "nobody"], "neither a shipped guest"),
            (["record", "--guest", sys.executable], "64-bit"),
            (["record", "--abi", "1.0"], "generation"),
            (["record", "--initrd", "missing"], "missing: No such file"),
            (["record", "--block", "missing"], "missing: No such file"),
            (["record", "--block", os.devnull], "no disk"),
            (["record", "-o", "missing/x.lgt"], "No such file"),
            (["record", "--append", "x" * 3000], "command line"),
            (["replay", "missing.lgt"], "No such file"),
            (["info", "/"], "not a regular file"),
            (["events", sys.executable], "not an lgreplay trace"),
        ],
        ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
    )
    def test_each_is_refused_in_one_line(
        self, lgreplay: Run, tmp_path: Path, arguments: list[str], said: str
    ) -> None:
        assert_refused(lgreplay(*arguments), said)
        assert list(tmp_path.iterdir()) == []

    def test_an_unknown_kind_of_event_is_refused_with_the_known_ones(
        self, lgreplay: Run, trace: Path
    ) -> None:
        assert_refused(lgreplay("events", trace, "--kind", "party"), "hypercall")

    @pytest.mark.parametrize("command", ["replay", "events", "info"])
    def test_a_file_without_a_whole_header_is_refused(
        self, lgreplay: Run, trace: Path, tmp_path: Path, command: str
    ) -> None:
        head = trace.read_bytes()
        for size in (0, 1, 7, 15, 16, 40, 100, 200):
            (tmp_path / "cut").write_bytes(head[:size])
            assert_refused(lgreplay(command, "cut"), "cut: at byte")

    @pytest.mark.parametrize("command", ["replay", "events"])
    def test_a_truncated_trace_is_used_as_far_as_it_goes_and_then_refused(
        self, lgreplay: Run, trace: Path, tmp_path: Path, command: str
    ) -> None:
        whole = trace.read_bytes()
        for size in (len(whole) - 1, len(whole) - 300, len(whole) // 2 + 13):
            (tmp_path / "cut").write_bytes(whole[:size])
            assert_refused(lgreplay(command, "cut"), "cut: at byte")

    def test_a_damaged_trace_is_refused_where_the_damage_is(
        self, lgreplay: Run, trace: Path, tmp_path: Path
    ) -> None:
        damaged = bytearray(trace.read_bytes())
        for at in range(20, len(damaged), 4001):
            damaged[at] ^= 0x40
            (tmp_path / "damaged").write_bytes(damaged)
            assert_refused(lgreplay("replay", "damaged"), "damaged: at byte")
            damaged[at] ^= 0x40

    @pytest.mark.parametrize("mebibytes", [400, 800, 1200, 1500])
    def test_too_little_memory_on_this_computer_is_one_line(
        self, tmp_path: Path, mebibytes: int
    ) -> None:
        limit = mebibytes << 20
        done = subprocess.run(
            [sys.executable, "-m", "replay", "record", "--quiet"],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        )
        assert_refused(Done(done.returncode, done.stdout, done.stderr), "too little memory")


class TestRecord:
    def test_it_shows_the_console_and_says_how_it_ended(
        self, lgreplay: Run, tmp_path: Path
    ) -> None:
        done = lgreplay("record", "--append", "loops=1", "--clock", "virtual")
        assert done.code == ExitCode.OK
        assert done.lines[0].startswith("hello: in ring 1 under lguest")
        assert "guest 0 powered off at tick" in done.err
        assert "hello.lgt: " in done.err
        assert [path.name for path in tmp_path.iterdir()] == ["hello.lgt"]

    def test_it_takes_the_next_free_name(self, lgreplay: Run, tmp_path: Path) -> None:
        for _ in range(3):
            lgreplay("record", "--append", "loops=1", "--quiet", "--max-ticks", "100k")
        names = sorted(path.name for path in tmp_path.iterdir())
        assert names == ["hello-2.lgt", "hello-3.lgt", "hello.lgt"]

    def test_quiet_hides_the_console(self, lgreplay: Run) -> None:
        assert lgreplay("record", "--append", "loops=1", "--quiet").out == ""

    def test_equal_seeds_of_the_virtual_clock_give_equal_runs(
        self, lgreplay: Run, tmp_path: Path
    ) -> None:
        ends = []
        for name in ("one", "other"):
            options = ("--clock", "virtual", "--seed", "9", "--append", "loops=1", "--quiet")
            lgreplay("record", "-o", name, *options)
            with TraceReader(tmp_path / name) as reader:
                ends.append(reader.end)
        assert ends[0] == ends[1]

    def test_the_limit_of_ticks_is_exact(self, lgreplay: Run, tmp_path: Path) -> None:
        lgreplay("record", "-o", "t", "--max-ticks", "200k", "--quiet")
        with TraceReader(tmp_path / "t") as reader:
            assert reader.end is not None
            assert (reader.end.tick, reader.end.reason) == (200_000, TraceEndReason.LIMIT)

    def test_a_kernel_file_may_be_named(self, lgreplay: Run, tmp_path: Path) -> None:
        done = lgreplay("record", "--guest", IMAGES / "hello.elf", "--max-ticks", "100k")
        assert done.code == ExitCode.OK
        assert (tmp_path / "hello.elf.lgt").exists()

    def test_a_kernel_file_has_an_option_of_its_own(self, lgreplay: Run, tmp_path: Path) -> None:
        lgreplay("record", "--kernel", IMAGES / "hello.elf", "--max-ticks", "100k", "-o", "t")
        with TraceReader(tmp_path / "t") as reader:
            assert [guest.kernel for guest in reader.header.guests] == ["hello.elf"]

    def test_a_file_that_is_no_kernel_is_refused_before_anything_runs(
        self, lgreplay: Run, tmp_path: Path
    ) -> None:
        (tmp_path / "text").write_text("no kernel")
        assert_refused(lgreplay("record", "--kernel", "text"), "neither an ELF file nor a bzImage")
        assert_refused(lgreplay("record", "--kernel", IMAGES / "host.elf"), "no lguest guest")
        assert [path.name for path in tmp_path.iterdir()] == ["text"]

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    @pytest.mark.parametrize("clock", ["host", "virtual"])
    def test_a_signal_ends_it_cleanly(
        self, lgreplay: Run, tmp_path: Path, number: signal.Signals, clock: str
    ) -> None:
        with start(tmp_path, "record", *FOREVER, "-o", "t", "--clock", clock) as recorder:
            assert recorder.stdout is not None
            recorder.stdout.readline()
            recorder.send_signal(number)
            _, said = recorder.communicate(timeout=PATIENCE)
        assert recorder.returncode == ExitCode.OK, said
        assert b"ended as you asked" in said
        assert [path.name for path in tmp_path.iterdir()] == ["t"]
        assert lgreplay("replay", "t").code == ExitCode.OK

    def test_killing_it_leaves_a_trace_that_replays_as_far_as_it_goes(
        self, lgreplay: Run, tmp_path: Path
    ) -> None:
        options = ("--append", "loops=100000000 hz=100000")
        with start(tmp_path, "record", *options, "-o", "t", "--clock", "virtual") as recorder:
            trace = tmp_path / "t.incomplete"
            while not trace.exists() or trace.stat().st_size < 40_000:
                assert recorder.poll() is None
            recorder.kill()
            recorder.communicate()
        done = lgreplay("replay", "t")
        assert_refused(done, "all is as recorded")

    def test_when_nobody_reads_the_console_any_more_it_ends_with_a_whole_trace(
        self, lgreplay: Run, tmp_path: Path
    ) -> None:
        with start(tmp_path, "record", *FOREVER, "-o", "t") as recorder:
            assert recorder.stdout is not None
            recorder.stdout.readline()
            recorder.stdout.close()
            assert recorder.wait(timeout=PATIENCE) == ExitCode.BROKEN_PIPE
        assert lgreplay("replay", "t").code == ExitCode.OK


class TestReplay:
    def test_a_faithful_trace_is_verified(self, lgreplay: Run, trace: Path) -> None:
        done = lgreplay("replay", trace)
        with TraceReader(trace) as reader:
            assert reader.end is not None
            assert done.lines == [
                f"{reader.end.tick:,} ticks, {reader.event_count:,} events: all as recorded"
            ]
        assert done.code == ExitCode.OK

    def test_a_divergence_has_its_own_exit_code_and_names_tick_and_sides(
        self, lgreplay: Run, trace: Path, tmp_path: Path
    ) -> None:
        tick = 0

        def change(events: list[Event]) -> list[Event]:
            nonlocal tick
            rank = max(r for r, event in enumerate(events) if isinstance(event, Hypercall))
            event = events[rank]
            assert isinstance(event, Hypercall)
            tick = event.tick
            events[rank] = replace(event, args=(0xABCD,))
            return events

        altered(trace, tmp_path / "t", change)
        done = lgreplay("replay", "t")
        assert done.code == ExitCode.DIVERGED
        assert done.out == ""
        assert done.err.startswith(f"lgreplay: divergence at tick {tick}: observation: ")
        assert "0x0000abcd" in done.err
        assert done.err.count("\n") == 1


class TestEvents:
    def test_text_has_one_line_for_each_event(self, lgreplay: Run, trace: Path) -> None:
        done = lgreplay("events", trace)
        with TraceReader(trace) as reader:
            assert len(done.lines) == reader.event_count
        assert done.lines[-1].endswith("poweroff: Power down")

    def test_jsonl_has_one_object_for_each_event(self, lgreplay: Run, trace: Path) -> None:
        done = lgreplay("events", trace, "--format", "jsonl")
        objects = [json.loads(line) for line in done.lines]
        with TraceReader(trace) as reader:
            assert [o["tick"] for o in objects] == [e.tick for e in reader.events()]

    def test_kinds_and_ticks_select(self, lgreplay: Run, trace: Path) -> None:
        options = ("--kind", "hypercall", "--kind", "Clock-Reading", "--format", "jsonl")
        all_ = [json.loads(line) for line in lgreplay("events", trace, *options).lines]
        assert {o["event"] for o in all_} == {"hypercall", "clock_reading"}
        first, last = all_[3]["tick"], all_[9]["tick"]
        some = lgreplay("events", trace, *options, "--from", str(first), "--to", str(last))
        assert [json.loads(line) for line in some.lines] == [
            o for o in all_ if first <= o["tick"] <= last
        ]

    def test_when_nobody_reads_on_it_ends_quietly(self, trace: Path, tmp_path: Path) -> None:
        with start(tmp_path, "events", str(trace)) as lister:
            assert lister.stdout is not None
            assert lister.stderr is not None
            lister.stdout.close()
            said = lister.stderr.read()
        assert (lister.returncode, said) == (ExitCode.BROKEN_PIPE, b"")


class TestInfo:
    def test_it_tells_what_was_recorded(self, lgreplay: Run, trace: Path) -> None:
        done = lgreplay("info", trace)
        assert done.code == ExitCode.OK
        for said in (
            "lgreplay record",
            "unicorn 2.1.4",
            "virtual, seed 1",
            "hello, lguest 3.2, 16 MiB, command line 'loops=1'",
            "because the machine had ended",
            "guest 0 powered off at tick",
            " hypercall ",
        ):
            assert said in done.out

    def test_a_truncated_trace_is_told_about_too(
        self, lgreplay: Run, trace: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "cut").write_bytes(trace.read_bytes()[:-300])
        done = lgreplay("info", "cut")
        assert done.code == ExitCode.OK
        assert "unfinished" in done.out


class TestOtherCommands:
    def test_guests_names_every_shipped_guest(self, lgreplay: Run) -> None:
        done = lgreplay("guests")
        for name in SHIPPED:
            assert re.search(rf"^{name} ", done.out, re.MULTILINE)

    @pytest.mark.parametrize("name", SHIPPED)
    def test_every_guest_in_the_catalogue_has_an_image(self, name: str) -> None:
        assert (IMAGES / f"{name}.elf").is_file()

    def test_every_guest_image_is_in_the_catalogue(self) -> None:
        images = {path.stem for path in IMAGES.glob("*.elf")}
        images -= {"host", "switcher", "switcher-2.6.23"}
        assert images == set(SHIPPED)

    def test_the_demo_runs_and_leaves_nothing_behind(self, lgreplay: Run, tmp_path: Path) -> None:
        done = lgreplay("demo")
        assert done.code == ExitCode.OK, done.err
        assert "all as recorded" in done.out
        assert list(tmp_path.iterdir()) == []

    def test_the_doctor_finds_this_computer_well(self, lgreplay: Run) -> None:
        done = lgreplay("doctor")
        assert done.code == ExitCode.OK
        assert "CPU engine unicorn 2.1.4 works as expected" in done.out

    def test_the_doctor_names_what_is_wrong(
        self, lgreplay: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def check_nothing() -> doctor.Finding:
            """The nothing: that there is."""
            raise EngineMisfit("it is something")

        monkeypatch.setattr(doctor, "CHECKS", (check_nothing,))
        done = lgreplay("doctor")
        assert done.out == "BAD  The nothing: it is something\n"
        assert done.code == ExitCode.REFUSED


class TestQuantities:
    @pytest.mark.parametrize(
        ("text", "size"),
        [("64", 64 << 20), ("64M", 64 << 20), ("512k", 512 << 10), ("1GiB", 1 << 30)],
    )
    def test_memory_is_in_mebibytes_unless_said_otherwise(self, text: str, size: int) -> None:
        assert parse_memory(text) == size

    @pytest.mark.parametrize(
        ("text", "count"), [("7", 7), ("500k", 500_000), ("20M", 20_000_000), ("1G", 10**9)]
    )
    def test_counts_go_by_thousands(self, text: str, count: int) -> None:
        assert parse_count(text) == count

    def test_what_to_keep_is_an_amount_or_a_time(self) -> None:
        assert parse_keep("100M").bytes == 100 << 20
        assert parse_keep("30s").ns == 30 * 10**9
        assert parse_keep("5min").ns == 300 * 10**9
        assert parse_keep("5m").ns == 300 * 10**9
        assert parse_keep("5M").bytes == 5 << 20

    @pytest.mark.parametrize("text", ["", "x", "1x", "-1", "1.5", "1e3", "٣", "9" * 40])
    def test_anything_else_is_refused(self, text: str) -> None:
        parsers: Sequence[Callable[[str], object]] = (parse_memory, parse_count, parse_keep)
        for parse in parsers:
            with pytest.raises(ValueError, match="not"):
                parse(text)

    @pytest.mark.parametrize(
        ("number", "text"),
        [
            (0, "0"),
            (999, "999"),
            (1000, "1.00k"),
            (12_345, "12.3k"),
            (999_600, "1.00M"),
            (5e12, "5000G"),
        ],
    )
    def test_short_counts_have_three_figures(self, number: float, text: str) -> None:
        assert short_count(number) == text


class TestHarmless:
    def test_ends_of_lines_and_text_stay(self) -> None:
        assert harmless("a\tb\r\nça\b".encode()) == "a\tb\r\nça\b"

    @pytest.mark.parametrize("data", [b"\x1b[2J", b"\x07", b"\x9b2J", b"\xc2\x9b2J", b"\x7f"])
    def test_nothing_steers_the_terminal(self, data: bytes) -> None:
        assert harmless(data).isprintable()
