"""docs/trace-format.md is for people who write readers: its tables must be what the code does."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from hostvm.observations import EndReason
from replay import chunks, packings, wire
from replay.chunks import ChunkHeader, ChunkType
from replay.layouts import LAYOUTS, REQUIRED
from replay.trace_header import (
    EndChunk,
    GuestSetup,
    ImageInfo,
    TraceEnd,
    TraceEndReason,
    TraceHeader,
)

TEXT = (Path(__file__).parents[2] / "docs" / "trace-format.md").read_text("utf-8")


def tables() -> list[list[dict[str, str]]]:
    """All tables of the text, as rows that map column titles to cells."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", TEXT, re.MULTILINE):
        rows = [
            [cell.strip() for cell in line.strip()[1:-1].split("|")] for line in block.splitlines()
        ]
        title, _, *body = rows
        found.append([dict(zip(title, row, strict=True)) for row in body])
    return found


def table(*columns: str, first: str) -> list[dict[str, str]]:
    """The table with these columns whose first cell is `first`."""
    (one,) = (
        rows for rows in tables() if tuple(rows[0]) == columns and rows[0][columns[0]] == first
    )
    return one


def layout_after(heading: str) -> list[dict[str, str]]:
    """The table of offsets that follows a heading."""
    at = TEXT.index(heading)
    block = re.search(r"(?:^\|.*\n)+", TEXT[at:], re.MULTILINE)
    assert block is not None
    first = [cell.strip() for cell in block[0].splitlines()[2].strip()[1:-1].split("|")]
    return next(rows for rows in tables() if list(rows[0].values()) == first)


def test_the_table_of_events_is_the_codecs() -> None:
    written = {
        int(row["Kind"]): (row["Name"], row["Fields"])
        for row in table("Kind", "Name", "Fields", first="1")
    }
    assert written == {
        int(kind): (
            layout.kind.name,
            ", ".join(
                f"{field.name}: {field.packing.text}"
                + ("" if field.default is REQUIRED else f" = {field.default!r}")
                for field in layout.fields
            ),
        )
        for kind, layout in LAYOUTS.items()
    }


def test_every_packing_is_explained_with_its_limit() -> None:
    written = {
        row["Packing"]: row["In the file"] for row in table("Packing", "In the file", first="u4")
    }
    used = {field.packing for layout in LAYOUTS.values() for field in layout.fields}
    assert {packing.text for packing in used} <= set(written)
    for packing in used | {packings.U64}:
        if packing.limit is not None:
            bits = packing.limit.bit_length()
            assert (
                str(packing.limit) in written[packing.text]
                or f"2^{bits} - 1" in written[packing.text]
            )
    for name, limit in (
        ("data", packings.MAX_DATA),
        ("text", packings.MAX_TEXT),
        ("digest", packings.MAX_DIGEST),
        ("args", packings.MAX_ARGS),
    ):
        assert re.search(rf"\b{limit}\b", written[name])
    for reason in EndReason:
        assert f"{int(reason)} {reason.name}" in written["reason"]


@pytest.mark.parametrize(
    ("heading", "size"),
    [
        ("### Prologue", chunks.PROLOGUE_SIZE),
        ("### Chunk", chunks.CHUNK_HEADER_SIZE),
        ("### Trailer", chunks.TRAILER_SIZE),
    ],
)
def test_fixed_layouts_have_no_gaps_and_the_right_size(heading: str, size: int) -> None:
    at = 0
    for row in layout_after(heading):
        assert int(row["Offset"]) == at
        at += int(row["Size"])
    assert at == size


def test_a_chunk_header_is_laid_out_as_written() -> None:
    numbers = {field.name: index * 3 + 1 for index, field in enumerate(fields(ChunkHeader))}
    packed = chunks.pack_chunk_header(ChunkHeader(**numbers))  # type: ignore[arg-type]
    read = {}
    for row in layout_after("### Chunk"):
        start = int(row["Offset"])
        read[row["Field"]] = packed[start : start + int(row["Size"])]
    assert read.pop("mark") == chunks.MARK
    assert read.pop("reserved") == bytes(2)
    assert int.from_bytes(read.pop("header_crc"), "little") == chunks.crc(packed[:-4])
    assert {name: int.from_bytes(data, "little") for name, data in read.items()} == numbers


def test_magic_and_trailer_are_as_written() -> None:
    assert f"`{chunks.MAGIC.hex(' ')}`" in TEXT
    assert chunks.pack_prologue(chunks.Version(1, 0))[8:12] == bytes((1, 0, 0, 0))
    assert chunks.pack_trailer(0x1234)[:16] == b"LGTEND\r\n" + (0x1234).to_bytes(8, "little")
    version = f"{chunks.MAJOR}.{chunks.MINOR}"
    assert f"# The trace file, version {version}\n" in TEXT


def test_the_table_of_chunks_is_the_codes() -> None:
    written = {
        int(row["Type"]): (row["Name"], int(row["Flags"]), int(row["Largest raw_size"]))
        for row in table("Type", "Name", "Flags", "Largest raw_size", first="1")
    }
    assert written == {
        int(kind): (kind.name, int(chunks.FLAGS_OF[kind]), chunks.MAX_RAW[kind])
        for kind in ChunkType
    }


@pytest.mark.parametrize("made", [TraceHeader, GuestSetup, ImageInfo, EndChunk, TraceEnd])
def test_the_tables_of_named_fields_are_the_codes(made: type) -> None:
    expected = {
        field.name: "no" if field.default is MISSING else _default(field.default)
        for field in fields(made)
    }
    written = table("Field", "Type", "Optional", "Meaning", first=next(iter(expected)))
    assert {row["Field"]: row["Optional"] for row in written} == expected


def _default(value: object) -> str:
    return "`[]`" if value == () else f"`{value}`" if isinstance(value, int) else "empty"


@pytest.mark.parametrize(
    "limit",
    [
        chunks.MAX_CHUNKS,
        chunks.MAX_RAW_UNKNOWN,
        wire.MAX_DEPTH,
        wire.MAX_VALUES,
        wire.MAX_ROW_VALUES,
        chunks.COMPRESSED_SLACK,
    ],
)
def test_limits_are_written_down(limit: int) -> None:
    assert re.search(rf"\b{limit}\b", TEXT)


def test_reasons_for_the_end_of_a_trace_are_written_down() -> None:
    assert ", ".join(f"{int(reason)} {reason.name}" for reason in TraceEndReason) in TEXT
