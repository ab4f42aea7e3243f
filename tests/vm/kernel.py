# SPDX-License-Identifier: LGPL-2.1-or-later
"""Unpack a bzImage: QEMU boots the ELF kernel inside it seconds faster than the bzImage itself."""

import lzma
import struct
import subprocess

BOOT_SECTOR_BYTES = 512
# Linux x86 boot protocol, "The Real-Mode Kernel Header"; little-endian.
SETUP_SECTS = struct.Struct("<B")  # at 0x1f1: setup code, in sectors, without the boot sector
SETUP_SECTS_OFFSET = 0x1F1
MAGIC_OFFSET = 0x202  # "HdrS"
PAYLOAD = struct.Struct("<II")  # at 0x248: payload_offset, payload_length (protocol 2.08)
PAYLOAD_OFFSET = 0x248
XZ_MAGIC = b"\xfd7zXZ\x00"  # as Debian 12 compresses it
ZSTD_MAGIC = bytes.fromhex("28b52ffd")  # as Debian 13 does; RFC 8878, 3.1.1
UNPACKED_SIZE_BYTES = 4
ZSTD_TIMEOUT_SECONDS = 60


def extract_vmlinux(image: bytes) -> bytes:
    """The ELF kernel in a bzImage compressed by XZ or Zstandard.

    Raises:
        ValueError: not a bzImage, or compressed by something else.
    """
    if image[MAGIC_OFFSET : MAGIC_OFFSET + 4] != b"HdrS":
        raise ValueError("not a Linux bzImage")
    (setup_sectors,) = SETUP_SECTS.unpack_from(image, SETUP_SECTS_OFFSET)
    offset, length = PAYLOAD.unpack_from(image, PAYLOAD_OFFSET)
    start = (setup_sectors + 1) * BOOT_SECTOR_BYTES + offset
    # The last four bytes are the unpacked size, no part of the compressed stream.
    payload = image[start : start + length - UNPACKED_SIZE_BYTES]
    if payload.startswith(XZ_MAGIC):
        return lzma.decompress(payload)
    if payload.startswith(ZSTD_MAGIC):
        command = ["zstd", "--decompress", "--stdout", "--quiet"]
        return subprocess.run(
            command, input=payload, stdout=subprocess.PIPE, check=True, timeout=ZSTD_TIMEOUT_SECONDS
        ).stdout
    raise ValueError("the kernel is compressed by neither XZ nor Zstandard")
