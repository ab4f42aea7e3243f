# SPDX-License-Identifier: LGPL-2.1-or-later
"""Build a guest's disk, kernel and initramfs once, and keep them by key.

The key is the hash of everything the build depends on, so a changed recipe
makes a new image and an unchanged one costs nothing.
"""

import hashlib
import os
import pathlib
import shlex
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass

from tests.debian_mirror import apt_sources, cache_of, locked

from . import initramfs, kernel
from .recipe import STOCK, Recipe

BUILD_TIMEOUT_SECONDS = 900
KEEP_UNUSED_SECONDS = 14 * 86400

# In these hooks $1 is the new root. A clean machine's dpkg and apt leave nothing out. The files of
# their options are emptied: mmdebstrap fails when it finds one gone.
MAKE_CLEAN = """set -e
: >"$1"/etc/apt/apt.conf.d/00mmdebstrap
: >"$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap
rm -rf "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*
"""
# What keeps services from starting while packages are installed is mmdebstrap's, and goes: in the
# guest they do start. /dev, /proc and /sys are mounted, hence the bind mount without them.
MAKE_DISK = """set -e
rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1/usr/sbin/policy-rc.d"
starter=$1/sbin/start-stop-daemon
[ ! -e "$starter.REAL" ] || mv "$starter.REAL" "$starter"
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


def cache_directory() -> pathlib.Path:
    """Where images are kept between runs and checkouts."""
    return cache_of("vm")


def _key(recipe: Recipe) -> str:
    digest = hashlib.sha256(repr(recipe).encode())
    here = pathlib.Path(__file__).parent
    for name in ("image.py", "initramfs.py", "initramfs-init", "kernel.py"):
        digest.update((here / name).read_bytes())
    return digest.hexdigest()[:16]


def ensure(recipe: Recipe = STOCK) -> Image:
    """A recipe's image, built now if it is not there. Safe to call concurrently.

    Raises:
        ImageError: a tool is missing, or the build failed.
    """
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    image = Image(cache / _key(recipe))
    with locked(image.directory.with_suffix(".lock")):
        if not image.directory.is_dir():
            _build(recipe, image.directory)
        os.utime(image.directory)
        _prune(cache, keep=image.directory)
    return image


def _prune(cache: pathlib.Path, keep: pathlib.Path) -> None:
    """Remove images that no checkout has used for a while."""
    oldest = time.time() - KEEP_UNUSED_SECONDS
    for directory in cache.iterdir():
        if directory.is_dir() and directory != keep and directory.stat().st_mtime < oldest:
            shutil.rmtree(directory)
            directory.with_suffix(".lock").unlink(missing_ok=True)


def _build(recipe: Recipe, target: pathlib.Path) -> None:
    for tool in ("mmdebstrap", "zstd", "/sbin/mkfs.ext4", "/sbin/debugfs"):
        if shutil.which(tool) is None:
            raise ImageError(f"{tool} is missing: run ./dev setup")
    # In a user namespace the build's root may not reach this user's home: hence /var/tmp.
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="vccid-vm-") as name:
        scratch = pathlib.Path(name)
        scratch.chmod(0o777)
        _bootstrap(recipe, scratch / "rootfs.ext4")
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


def _bootstrap(recipe: Recipe, disk: pathlib.Path) -> None:
    """Make the root file system with mmdebstrap; `disk` becomes its ext4 image."""
    command = ["nice", "-n", "10", "mmdebstrap", "--variant=minbase", "--format=null"]
    command += ['--aptopt=Apt::Install-Recommends "false"']
    command += [f"--dpkgopt=path-exclude={path}" for path in recipe.excluded]
    command += [f"--include={','.join(recipe.packages.split())}"]
    if recipe.clean:
        command += [f"--customize-hook={MAKE_CLEAN}"]
    hook = MAKE_DISK.format(disk=shlex.quote(str(disk)), size=recipe.size)
    sources = apt_sources(recipe.suite, disk.parent)
    command += [f"--customize-hook={hook}", recipe.suite, "/dev/null", *sources]
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
