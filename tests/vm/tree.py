# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a guest's file system holds, for comparing before and after, as piuparts does."""

from .guest import Guest

Tree = dict[str, list[str]]


def take(guest: Guest) -> Tree:
    """Each path of the root file system and /run: type, mode, owner; size and time, or target."""
    tree: Tree = guest.call(_take)
    return tree


def compare(before: Tree, after: Tree) -> dict[str, str]:
    """Paths that came, went or changed."""
    changes = {path: "came" for path in after.keys() - before.keys()}
    changes |= {path: "went" for path in before.keys() - after.keys()}
    both = before.keys() & after.keys()
    return changes | {path: "changed" for path in both if before[path] != after[path]}


def _take() -> dict[str, list[str]]:
    import os
    import stat

    # What changes by itself: the kernel's own, the test's own, logs, caches, package lists.
    left_out = {
        "/dev", "/proc", "/sys", "/src", "/share", "/srv", "/root", "/tmp", "/var/tmp",
        "/var/log", "/var/cache", "/var/lib/apt", "/var/lib/dpkg", "/var/backups",
        "/var/lib/systemd/timers", "/var/lib/systemd/random-seed",
        "/run/systemd", "/run/udev", "/run/log", "/run/user", "/run/lock",
    }  # fmt: skip
    tree = {}

    def note(path: str) -> None:
        status = os.lstat(path)
        fields = [stat.filemode(status.st_mode), f"{status.st_uid}:{status.st_gid}"]
        if stat.S_ISREG(status.st_mode):
            fields += [str(status.st_size), str(status.st_mtime_ns)]
        elif stat.S_ISLNK(status.st_mode):
            fields.append(os.readlink(path))
        tree[path] = fields

    for folder, folders, files in os.walk("/"):
        paths = {name: os.path.join(folder, name) for name in (*folders, *files)}
        folders[:] = [name for name in folders if paths[name] not in left_out]
        for path in paths.values():
            if path not in left_out:
                note(path)
    return tree
