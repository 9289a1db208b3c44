"""A disk with a file system on it, in which a Linux finds one file: ext2 as it was first, one group, blocks of 1 KiB.

Block 0 is for whoever boots from it. Then come the superblock, the description of the group, a block with a bit for
each block, one with a bit for each inode, the inodes, the root directory, and the file's data.

Source: "Design and Implementation of the Second Extended Filesystem" (Card, Ts'o, Tweedie); e2fsck agrees.
"""

from __future__ import annotations

import struct

BLOCK = 1024
BLOCKS = 2048
INODES = 128
_INODE_SIZE = 128
_SUPERBLOCK, _GROUP, _BLOCK_MAP, _INODE_MAP, _TABLE = 1, 2, 3, 4, 5
_ROOT_BLOCK = _TABLE + INODES * _INODE_SIZE // BLOCK
_DATA = _ROOT_BLOCK + 1
_ROOT, _FILE = 2, 11
_DIRECT = 12
_DIRECTORY_MODE, _FILE_MODE = 0o040755, 0o100644
_MAGIC = 0xEF53


def ext2_image(name: str, data: bytes) -> bytes:
    """Two MiB with one file, of at most twelve blocks."""
    count = -(-len(data) // BLOCK)
    assert count <= _DIRECT
    used = _DATA + count
    image = bytearray(BLOCKS * BLOCK)

    def put(block: int, content: bytes, offset: int = 0) -> None:
        at = block * BLOCK + offset
        image[at : at + len(content)] = content

    put(_SUPERBLOCK, _superblock(BLOCKS - used, INODES - _FILE))
    counts = (BLOCKS - used, INODES - _FILE, 1)
    put(_GROUP, struct.pack("<III3H", _BLOCK_MAP, _INODE_MAP, _TABLE, *counts))
    # The first bit is of block 1; bits behind the last block are set.
    put(_BLOCK_MAP, _bits(used - 1, BLOCKS - 1))
    put(_INODE_MAP, _bits(_FILE, INODES))
    put(_TABLE, _inode(_DIRECTORY_MODE, BLOCK, 2, (_ROOT_BLOCK,)), (_ROOT - 1) * _INODE_SIZE)
    blocks = tuple(range(_DATA, used))
    put(_TABLE, _inode(_FILE_MODE, len(data), 1, blocks), (_FILE - 1) * _INODE_SIZE)
    put(_ROOT_BLOCK, _directory((".", _ROOT), ("..", _ROOT), (name, _FILE)))
    put(_DATA, data)
    return bytes(image)


def _superblock(free_blocks: int, free_inodes: int) -> bytes:
    counts = (INODES, BLOCKS, 0, free_blocks, free_inodes)
    sizes = (1, 0, 0, 8 * BLOCK, 8 * BLOCK, INODES)
    times = (0, 0)
    mounts = (0, 0xFFFF, _MAGIC, 1, 1, 0)
    return struct.pack("<5I6I2I6H", *counts, *sizes, *times, *mounts)


def _bits(used: int, there: int) -> bytes:
    """A block of bits: the first `used` are set, and those from `there` on."""
    value = (1 << used) - 1 | (1 << 8 * BLOCK) - (1 << there)
    return value.to_bytes(BLOCK, "little")


def _inode(mode: int, length: int, links: int, blocks: tuple[int, ...]) -> bytes:
    sectors = len(blocks) * (BLOCK // 512)
    head = struct.pack("<HHI4IHHIII", mode, 0, length, 0, 0, 0, 0, 0, links, sectors, 0, 0)
    return head + struct.pack(f"<{len(blocks)}I", *blocks)


def _directory(*names: tuple[str, int]) -> bytes:
    """The last entry reaches to the end of the block."""
    block = b""
    for at, (name, inode) in enumerate(names):
        size = 8 + -(-len(name) // 4) * 4
        size = size if at < len(names) - 1 else BLOCK - len(block)
        entry = struct.pack("<IHH", inode, size, len(name)) + name.encode("ascii")
        block += entry.ljust(size, b"\0")
    return block


__all__ = ["ext2_image"]
