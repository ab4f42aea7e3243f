# SPDX-License-Identifier: LGPL-2.1-or-later
"""`./dev vm`: the test guest, for a person.

usage: ./dev vm build            make the guests' images now, those that are not there
       ./dev vm shell [QEMU…]    a root shell in a fresh guest on this terminal
       ./dev vm run COMMAND      run one shell command in a fresh guest
"""

import os
import pathlib
import sys
import tempfile

from .channel import GuestError
from .guest import Guest, GuestOptions, qemu_command
from .image import ImageError, cache_directory, ensure
from .recipe import RECIPES

RUN_TIMEOUT_SECONDS = 600.0


def shell(arguments: list[str]) -> int:
    """Give this terminal to a guest's serial console; Ctrl-A X ends it."""
    image = ensure()
    share = cache_directory().with_name("vm-share")
    share.mkdir(exist_ok=True)
    options = GuestOptions(qemu=arguments, network=True)
    command = qemu_command(image, options, share, "shell", "stdio,mux=on,signal=off")
    print(f"/src is the checkout, /share is {share}; exit or Ctrl-A X ends the guest.", flush=True)
    os.execvp(command[0], command)


def run(arguments: list[str]) -> int:
    """Run one command; its exit code is ours."""
    with (
        tempfile.TemporaryDirectory(prefix="vccid-vm-") as name,
        Guest(GuestOptions(), pathlib.Path(name)) as guest,
    ):
        result = guest.run(" ".join(arguments), timeout=RUN_TIMEOUT_SECONDS, check=False)
    sys.stdout.buffer.write(result.stdout)
    sys.stderr.buffer.write(result.stderr)
    return result.code


def main(arguments: list[str]) -> int:
    """Do what the first argument says; returns the exit code."""
    match arguments:
        case ["build"]:
            for name, recipe in RECIPES.items():
                print(name, ensure(recipe).directory)
            return 0
        case ["shell", *rest]:
            return shell(rest)
        case ["run", _, *_]:
            return run(arguments[1:])
    print((__doc__ or "").strip(), file=sys.stderr)
    return 2


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (ImageError, GuestError) as error:
        sys.exit(f"vm: {error}")
