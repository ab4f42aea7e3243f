# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a guest's file system holds, for comparing before and after, as piuparts does."""

from .guest import Guest

Tree = dict[str, str]

# What changes by itself: the kernel's own, the test's own, logs, caches, package lists.
LEFT_OUT = (
    "/dev", "/proc", "/sys", "/src", "/share", "/srv", "/root", "/tmp", "/var/tmp",
    "/var/log", "/var/cache", "/var/lib/apt", "/var/lib/dpkg", "/var/backups",
    "/var/lib/systemd/timers", "/var/lib/systemd/random-seed",
    "/run/systemd", "/run/udev", "/run/log", "/run/user", "/run/lock",
)  # fmt: skip
# In find's words: path, and type with mode, owner; of a file size and time, of a link its target.
DIRECTIVES = (("-type f", "%M %U:%G %s %T@"), ("-type l", "%M %U:%G %l"), ("-true", "%M %U:%G"))


def take(guest: Guest) -> Tree:
    """What is known of each path of the root file system and /run."""
    left_out = " -o ".join(f"-path {path}" for path in LEFT_OUT)
    shown = " -o ".join(f"{test} -printf '%p\\0{known}\\0'" for test, known in DIRECTIVES)
    # Of what goes while it looks, find complains.
    listed = guest.run(f"find / -mindepth 1 \\( {left_out} \\) -prune -o {shown}", check=False)
    words = iter(listed.text.split("\0")[:-1])
    tree = dict(zip(words, words, strict=True))
    assert "/etc/passwd" in tree, listed.errors
    return tree


def compare(before: Tree, after: Tree) -> dict[str, str]:
    """Paths that came, went or changed."""
    changes = {path: "came" for path in after.keys() - before.keys()}
    changes |= {path: "went" for path in before.keys() - after.keys()}
    both = before.keys() & after.keys()
    return changes | {path: "changed" for path in both if before[path] != after[path]}
