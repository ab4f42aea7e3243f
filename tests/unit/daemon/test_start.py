# SPDX-License-Identifier: LGPL-2.1-or-later
"""A daemon that starts loads what it needs at once, and nothing besides."""

from __future__ import annotations

import subprocess
import sys

#: What a daemon imports until READY, with one reader for pcscd's driver.
START = "import vccid.run.verbs, vccid.daemon.daemon, vccid.frontends.pcsc.driver"

#: For cards, and for other frontends than pcscd's: each is loaded with the first of its kind.
LATER = (
    "cryptography", "rich", "smartcard", "sqlite3",
    "vccid.backends", "vccid.card.cac.cac_card", "vccid.ccid", "vccid.ctl", "vccid.keys",
    "vccid.run.command", "vccid.usb",
)  # fmt: skip


def modules(statements: str) -> list[str]:
    """What is loaded after them in an interpreter of their own."""
    program = f"{statements}; import sys; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout.split()


def below(name: str, package: str) -> bool:
    """Whether a module is a package or lies in it."""
    return name == package or name.startswith(f"{package}.")


def test_a_start_loads_no_card_and_no_other_frontend() -> None:
    loaded = modules(START)
    assert [name for name in loaded if any(below(name, package) for package in LATER)] == []
    driver = {f"vccid.frontends.pcsc.{name}" for name in ("driver", "commands_states", "listening")}
    ours = {"vccid.frontends", "vccid.frontends.pcsc", *driver}
    assert {name for name in loaded if below(name, "vccid.frontends")} == ours
    assert {name for name in loaded if below(name, "vccid.wire")} == {
        "vccid.wire", "vccid.wire.ifd", "vccid.wire.varlink"
    }  # fmt: skip
