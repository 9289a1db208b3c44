"""LZO and LZ4: what the real tools packed comes out as it was, and no damage is worse than a ValueError."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostvm.lz_kernels import LZ4_MAGIC, LZO_MAGIC, unpack_lz4, unpack_lzo

LIMIT = 1 << 20
Unpack = Callable[[bytes, int], bytes]


def content() -> bytes:
    """Something in which there is every kind of copy: short and long, near and far, overlapping."""
    out = bytearray()
    state = 1
    for step in range(90):
        state = state * 1103515245 + 12345 & 0x7FFFFFFF
        word = state.to_bytes(4, "little")
        out += word[: 1 + step % 4]
        out += out[-(step * step * 7 % len(out)) - 1 :][: 2 + step % 5]
        match step % 30:
            case 10:
                out += bytes((step,)) * 40
            case 15:
                out += word + (state * state).to_bytes(8, "little")
                out += (state * state * 7).to_bytes(9, "little")
            case 20:
                out += bytes((step,)) * 17000
    for distance, count in (
        (100, 20),
        (3000, 33),
        (9000, 12),
        (40000, 9),
        (48000, 7),
        (35000, 500),
    ):
        out += b"-" + out[-distance:][:count]
    return bytes(out)


# What `lzop -9` (1.04) and `lz4 -l -9` (1.9.4) made of it.
LZO = base64.b64decode(
    "iUxaTwANChoKEEAgoAlAAwkDAAANAAAAAGsBtmQAAAAAACrnAvwAAMyAAAADM+N1LTIVpqbnsE8AlOSBYAEBPZtrRIUB"
    "MqICg3QPAwC24lgDATmu+xxpAn6eAN/VvwAsMr0JDAogBgAAAfX03zFZCIpiC/vwmwsYReGoCgNx64dECgp0AA/hp7Yx"
    "Pn1YEieX/luzbGuAAFZaE9ehfwDEmjGAFQGtzd5jvQ/iCR8UIAAAAAAAAADmAAAgAAAAAAAAAOYAACAAAAAAAAAA5gAA"
    "IAAAAAAAAADmAAAgAAAAAAAAAOYAACAAAAAAAAAA5gAAIAAAAAAAAADmAAAgAAAAAAAAAOYAACAAAEgCAHOEUwAwnw9s"
    "AQGpl0cokQIurgPP9A8AXH6HRAEBZQVZM2UCOp4C6w68AwZIJDwUFOGSWW9NAQZiAseunwL0PBOgBAQdfHtKFBSSRgFj"
    "cH8BYDShnAIBGb3YaaUE3gkAKCAGAgC/r18FjDZVeAYB1REvEJ0H6roI24hsAAAErnpZa90Ob9HKOm/vDWgJuoubAXgv"
    "ZVgDAVH2WzR5BLaSBbfXswYky3kBATIgAAAAAAAAAOYAACAAAAAAAAAA5gAAIAAAAAAAAADmAAAgAAAAAAAAAOYAACAA"
    "AAAAAAAA5gAAIAAAAAAAAADmAAAgAAAAAAAAAOYAACAAAAAAAAAA5gAAIAAASAAABY2mmAMUFBRCTwAUUzh0AAEUkHUa"
    "nAAFFIkedksUFI5FAa8THw28WtmcAgFFGpkHpQSaCgDLXl8AqGY/ewHBFTYTxg4UZroDpxwPAFRFeEQBAf1MTR5lAvKe"
    "AkPcvwPAYr4BAUYgBgAAAfm7pjZBFj52Fp/5kxfs6oa2GLUeBCm0AA/563pcsoOmAc9zXIfgmY0LAEpaA7uQcwTYyW2Q"
    "BQEx8U4zuQYWCQBQIAAAAAAAAADmAAAgAAAAAAAAAOYAACAAAAAAAAAA5gAAIAAAAAAAAADmAAAgAAAAAAAAAOYAACAA"
    "AAAAAAAA5gAAIAAAAAAAAADmAAAgAAAAAAAAAOYAACAAAEgCAJd9EcMLhKvhVAACFG1vcB1+ABSilwAUM1wPAPD7j0QB"
    "AWmVsQR1Be6OBo+IrQctMkEBLT/IASuFAC0faR0tLRwAGADl5CIRAAAAAAAA"
)
LZ4 = base64.b64decode(
    "AiFMGBgDAACgpqbnsKam55TkgQkAQT2ba0QKABIyEQDgg3RrRAC24ueU5Dmu+xwTABF+CAAi39UIAG8sMr09mwoBABSA"
    "9fTfMTmu+4pZACH78F8AMhhF4VMAYHHrh0QKCgYA8Ajhp7YxPn1YEieX/luzbGuAAFampufXoQgAMcSaMakAQq3N3mOA"
    "AE/ivT0UAQD/////////////////////////////////////////////////////////////////////////////////"
    "//////+WgHOEFBQUMJ8PDABBqZdHKBUAEi4cAODP9BQUXH6HFBQUZQVZMxIAEToYACLrDiAA0EgkPBQU4ZJZbxQUFAYR"
    "ACHHrhgAMvQ8EyEAwB18e0oUFJIUFBRjcBAAMWA0oRgAQhm92GkiAE/eFBQoAQAUgL+vFBQUjDZVNwBB1REvEEAAEupH"
    "ACDbiAQA8A6uellr3Q5v0co6b+8NaAm6i5sBeC9lFBQUUfZbNCcAEbYtACK31zUAbyTLeRQUMgEA////////////////"
    "////////////////////////////////////////////////////////////////////////loCNppgDFBQUQnlCIVM4"
    "gEIykHUaiUKxiR52SxQUjhQUFK9HQzG8WtkYAEJFGpkHIgCwmhQUy14UFBSoZj8PADHBFTaxQyIUZh8A4KccFBRURXgU"
    "FBT9TE0eEgAR8hgAIkPcIABvwGK+FBRGAQAUgPm7pjYyMjI+tgAhn/m9ADLs6obGAEK1Ho4UBgDwCPnrelyyg6YBz3Nc"
    "h+CZjQsASjIyMruQJQAx2MltLQBCMfFOMzcATxYyMlABAP//////////////////////////////////////////////"
    "/////////////////////////////////////////5aAl30UFBSEq+H3QkFtb3AdAEMSogdD4DNcFBTw+48UFBRplbEE"
    "LgAR7jQAIo+IPAAeLVEADhUADyIADBUtWocbLQgAD7mI/9ZQKCgoKCg="
)


def outcome(unpack: Unpack, file: bytes) -> bytes | None:
    """What comes out; None for a refusal, which is a ValueError and nothing else."""
    try:
        return unpack(file, LIMIT)
    except ValueError:
        return None


each = pytest.mark.parametrize(("unpack", "packed"), [(unpack_lzo, LZO), (unpack_lz4, LZ4)])


@each
def test_what_the_real_tool_packed_comes_out_as_it_was(unpack: Unpack, packed: bytes) -> None:
    assert unpack(packed, LIMIT) == content()
    assert unpack(packed, len(content())) == content()


@each
def test_the_size_that_a_kernels_build_puts_behind_it_does_no_harm(
    unpack: Unpack, packed: bytes
) -> None:
    assert unpack(packed + struct.pack("<I", len(content())), LIMIT) == content()


@each
def test_more_than_the_limit_is_refused(unpack: Unpack, packed: bytes) -> None:
    with pytest.raises(ValueError, match="too large"):
        unpack(packed, len(content()) - 1)


@each
def test_a_file_cut_short_anywhere_is_refused_or_ends_with_a_whole_block(
    unpack: Unpack, packed: bytes
) -> None:
    for end in range(len(packed)):
        assert not outcome(unpack, packed[:end])


@each
@given(data=st.data())
def test_a_damaged_file_is_refused_or_gives_other_bytes(
    unpack: Unpack, packed: bytes, data: st.DataObject
) -> None:
    damaged = bytearray(packed)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    out = outcome(unpack, bytes(damaged))
    assert out is None or len(out) <= LIMIT


@pytest.mark.parametrize(("unpack", "magic"), [(unpack_lzo, LZO_MAGIC), (unpack_lz4, LZ4_MAGIC)])
@given(rest=st.binary(max_size=80))
def test_any_bytes_behind_the_magic_do_no_harm(unpack: Unpack, magic: bytes, rest: bytes) -> None:
    assert outcome(unpack, rest) is None
    out = outcome(unpack, magic + rest)
    assert out is None or len(out) <= LIMIT


def test_a_copy_from_before_the_beginning_is_refused() -> None:
    block = bytes((0x10,)) + b"A" + b"\x02\x00" + b"\x00"
    with pytest.raises(ValueError, match="before its beginning"):
        unpack_lz4(LZ4_MAGIC + struct.pack("<I", len(block)) + block, LIMIT)


def test_a_block_of_lzo_that_could_not_be_packed_is_taken_as_it_is() -> None:
    header = LZO_MAGIC + struct.pack(">HHBIIIB", 0x0900, 0x2000, 1, 0, 0o644, 0, 0) + bytes(4)
    block = struct.pack(">II", 5, 5) + b"plain"
    assert unpack_lzo(header + block * 2 + bytes(4), LIMIT) == b"plainplain"
