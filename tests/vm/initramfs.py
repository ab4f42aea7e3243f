# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guest's initramfs: busybox, the modules needed to reach the disk, and one script."""

import lzma
import pathlib
import stat
import subprocess
from dataclasses import dataclass

from .kernel import XZ_MAGIC

BOOT_MODULES = (
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "crc32c_generic",
    "ext4",
    "9pnet_virtio",
    "9p",
)
DEBUGFS_TIMEOUT_SECONDS = 60
CONSOLE_DEVICE = (5, 1)  # Linux devices.txt: /dev/console
INIT = pathlib.Path(__file__).with_name("initramfs-init")


@dataclass(frozen=True)
class Entry:
    """One file of a cpio archive; `mode` holds type and permissions as in stat(2)."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def cpio(entries: list[Entry]) -> bytes:
    """A "newc" archive of these files, owned by root.

    Kernel documentation, "initramfs buffer format": a header of 13 fields, each eight
    hexadecimal digits, then name and data, each padded to four bytes.
    """
    archive = bytearray()
    for number, entry in enumerate([*entries, Entry("TRAILER!!!", 0)], start=1):
        name = entry.name.encode() + b"\0"
        fields = (
            number,  # c_ino
            entry.mode,  # c_mode
            0,  # c_uid
            0,  # c_gid
            1,  # c_nlink
            0,  # c_mtime
            len(entry.data),  # c_filesize
            0,  # c_maj
            0,  # c_min
            entry.device[0],  # c_rmaj
            entry.device[1],  # c_rmin
            len(name),  # c_namesize
            0,  # c_chksum
        )
        archive += b"070701" + b"".join(b"%08x" % field for field in fields)
        for part in (name, entry.data):
            archive += part
            archive += bytes(-len(archive) % 4)
    return bytes(archive)


def load_order(dependencies: str, wanted: tuple[str, ...]) -> list[str]:
    """Paths of the wanted modules and all they need, each after what it needs.

    `dependencies` is the text of modules.dep: "path: needed-last ... needed-first".
    """
    needs = {}
    by_name = {}
    for line in dependencies.splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
        by_name[pathlib.PurePath(path).name.split(".")[0].replace("-", "_")] = path
    order: list[str] = []
    for name in wanted:
        path = by_name[name]
        for module in [*reversed(needs[path]), path]:
            if module not in order:
                order.append(module)
    return order


def _debugfs(disk: pathlib.Path, *requests: str) -> str:
    done = subprocess.run(
        ["/sbin/debugfs", "-f", "-", str(disk)],
        input="\n".join(requests) + "\n",
        capture_output=True,
        text=True,
        check=True,
        timeout=DEBUGFS_TIMEOUT_SECONDS,
    )
    return done.stdout


def _dump(disk: pathlib.Path, paths: list[str], scratch: pathlib.Path) -> list[bytes]:
    """The contents of these files in the ext4 image, read without mounting it."""
    out = scratch / "dumped"
    out.mkdir(exist_ok=True)
    _debugfs(disk, *(f"dump {path} {out}/{index}" for index, path in enumerate(paths)))
    return [(out / str(index)).read_bytes() for index in range(len(paths))]


def _unpacked(module: bytes) -> bytes:
    """Debian 13's modules are compressed, which busybox's insmod does not undo."""
    return lzma.decompress(module) if module.startswith(XZ_MAGIC) else module


def build(disk: pathlib.Path, target: pathlib.Path, scratch: pathlib.Path) -> tuple[bytes, str]:
    """Write the initramfs for the kernel in `disk`; returns its bzImage and its release name."""
    listing = _debugfs(disk, "ls -p /boot").split("/")
    release = next(name for name in listing if name.startswith("vmlinuz-"))[len("vmlinuz-") :]
    tree = f"/usr/lib/modules/{release}"
    lists = (f"{tree}/modules.dep", f"{tree}/modules.builtin")
    dependencies, builtin = (text.decode() for text in _dump(disk, [*lists], scratch))
    wanted = tuple(name for name in BOOT_MODULES if f"/{name}.ko\n" not in builtin)
    modules = load_order(dependencies, wanted)
    paths = [f"/boot/vmlinuz-{release}", "/usr/bin/busybox", *(f"{tree}/{m}" for m in modules)]
    kernel, busybox, *objects = _dump(disk, paths, scratch)
    names = [pathlib.PurePath(module).name.removesuffix(".xz") for module in modules]
    directory = stat.S_IFDIR | 0o755
    entries = [Entry(name, directory) for name in ("bin", "dev", "modules", "proc", "root", "sys")]
    entries += [
        Entry("dev/console", stat.S_IFCHR | 0o600, device=CONSOLE_DEVICE),
        Entry("bin/busybox", stat.S_IFREG | 0o755, busybox),
        Entry("init", stat.S_IFREG | 0o755, INIT.read_bytes()),
        Entry("modules/order", stat.S_IFREG | 0o644, "\n".join(names).encode() + b"\n"),
    ]
    entries += [
        Entry(f"modules/{name}", stat.S_IFREG | 0o644, _unpacked(data))
        for name, data in zip(names, objects, strict=True)
    ]
    target.write_bytes(cpio(entries))
    return kernel, release
