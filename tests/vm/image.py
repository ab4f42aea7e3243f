# SPDX-License-Identifier: LGPL-2.1-or-later
"""Build the guest's disk, kernel and initramfs once, and keep them by key.

The key is the hash of everything the build depends on, so a changed package list
makes a new image and an unchanged one costs nothing.
"""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

from . import initramfs, kernel

SUITE = "bookworm"
DISK_SIZE = "1400M"
BUILD_TIMEOUT_SECONDS = 900
KEEP_UNUSED_SECONDS = 14 * 86400

PACKAGES = (
    # kernel and init
    "linux-image-amd64 busybox-static systemd systemd-sysv udev kmod iproute2 procps",
    # smart cards and USB
    "pcscd libccid opensc pcsc-tools usbutils usbip libnss3 libnss3-tools openssl",
    # what vccid imports
    "python3 python3-cryptography python3-click python3-rich python3-sdnotify python3-uvloop"
    " python3-pyscard python3-pyfuse3 fuse3",
    # what guards the daemon, and a token it uses
    "apparmor softhsm2",
    # to look inside, and to connect things
    "strace tcpdump socat",
)
EXCLUDED_PATHS = (
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    # No initramfs of Debian's: ours is a hundredth of it.
    "/etc/kernel/postinst.d/initramfs-tools",
    # Half of the kernel package, for hardware QEMU does not show.
    "/lib/modules/*/kernel/sound/*",
    "/lib/modules/*/kernel/drivers/gpu/*",
    "/lib/modules/*/kernel/drivers/media/*",
    "/lib/modules/*/kernel/drivers/infiniband/*",
    "/lib/modules/*/kernel/drivers/net/wireless/*",
    "/lib/modules/*/kernel/drivers/net/ethernet/*",
)
# $1 is the new root; /dev, /proc and /sys are mounted in it, hence the bind mount without them.
MAKE_DISK = """set -e
rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*
mount --bind "$1" "$1/mnt"
mkdir -p "$1/src" "$1/share"
/sbin/mkfs.ext4 -q -F -O ^has_journal -E lazy_itable_init=1,lazy_journal_init=1 \\
    -d "$1/mnt" {disk} {size}
umount "$1/mnt"
"""


class ImageError(Exception):
    """The guest's image cannot be built; the text says why and what to do."""


@dataclass(frozen=True)
class Image:
    """One built guest, read-only: any number of guests boot from it at once."""

    directory: pathlib.Path

    @property
    def disk(self) -> pathlib.Path:
        """The ext4 root file system, a raw image."""
        return self.directory / "rootfs.ext4"

    @property
    def kernel(self) -> pathlib.Path:
        """The ELF vmlinux, which QEMU boots by PVH without firmware."""
        return self.directory / "vmlinux"

    @property
    def initramfs(self) -> pathlib.Path:
        """The uncompressed cpio archive."""
        return self.directory / "initramfs.cpio"


def packages() -> list[str]:
    """The Debian packages installed in the guest."""
    return " ".join(PACKAGES).split()


def cache_directory() -> pathlib.Path:
    """Where images are kept between runs and checkouts."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "vccid" / "vm"


def _key() -> str:
    digest = hashlib.sha256()
    here = pathlib.Path(__file__).parent
    for name in ("image.py", "initramfs.py", "initramfs-init", "kernel.py"):
        digest.update((here / name).read_bytes())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def _locked(path: pathlib.Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def ensure() -> Image:
    """The image for this checkout, built now if it is not there. Safe to call concurrently.

    Raises:
        ImageError: a tool is missing, or the build failed.
    """
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    image = Image(cache / _key())
    if not image.directory.is_dir():  # whoever has theirs need not wait for another's
        with _locked(cache / "lock"):
            if not image.directory.is_dir():
                _build(image.directory)
            _prune(cache, keep=image.directory)
    os.utime(image.directory)
    return image


def _prune(cache: pathlib.Path, keep: pathlib.Path) -> None:
    """Remove images that no checkout has used for a while."""
    oldest = time.time() - KEEP_UNUSED_SECONDS
    for directory in cache.iterdir():
        if directory.is_dir() and directory != keep and directory.stat().st_mtime < oldest:
            shutil.rmtree(directory)


def _build(target: pathlib.Path) -> None:
    for tool in ("mmdebstrap", "/sbin/mkfs.ext4", "/sbin/debugfs"):
        if shutil.which(tool) is None:
            raise ImageError(f"{tool} is missing: run ./dev setup")
    # In a user namespace the build's root may not reach this user's home: hence /var/tmp.
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="vccid-vm-") as name:
        scratch = pathlib.Path(name)
        scratch.chmod(0o777)
        _bootstrap(scratch / "rootfs.ext4")
        kernel_image, release = initramfs.build(
            scratch / "rootfs.ext4", scratch / "initramfs.cpio", scratch
        )
        (scratch / "vmlinux").write_bytes(kernel.extract_vmlinux(kernel_image))
        (scratch / "release").write_text(release + "\n")
        staged = target.with_suffix(".new")
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
        for file in ("rootfs.ext4", "vmlinux", "initramfs.cpio", "release"):
            command = ["cp", "--sparse=always", "--reflink=auto", str(scratch / file), str(staged)]
            subprocess.run(command, check=True, timeout=BUILD_TIMEOUT_SECONDS)
        staged.rename(target)


def _bootstrap(disk: pathlib.Path) -> None:
    """Make the root file system with mmdebstrap; `disk` becomes its ext4 image."""
    hook = MAKE_DISK.format(disk=shlex.quote(str(disk)), size=DISK_SIZE)
    command = ["nice", "-n", "10", "mmdebstrap", "--variant=minbase", "--format=null"]
    command += ['--aptopt=Apt::Install-Recommends "false"']
    command += [f"--dpkgopt=path-exclude={path}" for path in EXCLUDED_PATHS]
    command += [f"--include={','.join(packages())}", f"--customize-hook={hook}"]
    command += [SUITE, "/dev/null", *_apt_sources()]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=BUILD_TIMEOUT_SECONDS,
    )
    if done.returncode != 0:
        raise ImageError(f"mmdebstrap failed:\n{done.stdout[-4000:]}")


def _apt_sources() -> list[str]:
    """This host's own apt sources where it is the same Debian; else mmdebstrap's default mirror."""
    for name in ("sources.list.d/debian.sources", "sources.list"):
        path = pathlib.Path("/etc/apt") / name
        if path.is_file() and SUITE in path.read_text():
            return [str(path)]
    return []
