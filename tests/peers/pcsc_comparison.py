# SPDX-License-Identifier: LGPL-2.1-or-later
"""The same programs behind pcscd and at the daemon's own door, and what each of them said.

`python -m tests.peers.pcsc_comparison [SOURCE] [VERSION=LIBRARY...]` writes the table of
docs/pcsc.md: SOURCE is an unpacked source of pcsc-lite, whose UnitaryTests are run too, and each
LIBRARY a directory with another version's libpcsclite.so.1.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.peers.daemon import Daemon, make_nss_database
from tests.peers.desk import OPENSC_MODULE, PIN, Desk
from tests.peers.private_pcscd import PrivatePcscd, ReaderEntry
from tests.peers.stage import DRIVER

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "pcsc.md"
BEGIN, END = "<!-- made by the run -->", "<!-- end of what the run made -->"

CERTS = "cert1,cert2,cert3"
SETTINGS = "[reader.vccid0]\npcsc = true\n"

#: What a program prints of which two runs differ anyway.
_VARIES = (
    (re.compile(r"0x[0-9a-f]{6,}|\bd?[hH]?(?:handle|Context|hcard)\S*\s*[:=]?\s*\d+"), "…"),
    (re.compile(r"(?<=object )\d+"), "…"),
    (re.compile(r"\d+\.\d+(?:e-\d+)?|\d{2}:\d{2}:\d{2}"), "…"),
)

_PYSCARD = """
from smartcard.System import readers
from smartcard.CardMonitoring import CardMonitor, CardObserver
from smartcard.util import toHexString
import threading
for name in readers(): print(name)
connection = readers()[0].createConnection(); connection.connect()
print(toHexString(connection.getATR()), connection.getProtocol())
print(connection.transmit([0, 0xA4, 4, 0, 7, 0xA0, 0, 0, 0, 0x79, 3, 0]))
seen = threading.Event()
class Watcher(CardObserver):
    def update(self, observable, actions):
        print([str(card) for card in actions[0]], actions[1]); seen.set()
monitor = CardMonitor(); monitor.addObserver(Watcher())
print(seen.wait(10))
connection.disconnect()
import os; os._exit(0)
"""

#: Run by the tests too: quick, and there on every machine that runs them.
PROGRAMS: Mapping[str, tuple[str, ...]] = {
    "opensc-tool --list-readers": ("opensc-tool", "--list-readers"),
    "opensc-tool --atr --name": ("opensc-tool", "--atr", "--name"),
    "opensc-tool --send-apdu": ("opensc-tool", "-s", "00A4040007A0000000790300"),
    "opensc-tool --reset": ("opensc-tool", "--reset"),
    "pkcs15-tool --dump": ("pkcs15-tool", "--dump"),
    "pkcs11-tool --list-slots": ("pkcs11-tool", "--module", OPENSC_MODULE, "--list-slots"),
    "pkcs11-tool --list-objects --login": (
        *("pkcs11-tool", "--module", OPENSC_MODULE, "--list-objects", "--login", "--pin", PIN),
    ),
    "pkcs11-tool --test --login": (
        *("pkcs11-tool", "--module", OPENSC_MODULE, "--test", "--login", "--pin", PIN),
    ),
    "p11tool --list-all": ("p11tool", "--provider", OPENSC_MODULE, "--list-all"),
    "pcsc_scan -r": ("pcsc_scan", "-r"),
    "pyscard: readers, card monitor, APDU": (sys.executable, "-c", _PYSCARD),
}

_LIBRARY: Final = "/usr/lib/x86_64-linux-gnu/libpcsclite.so.1"
_JAVA: Final = Path(os.environ.get("JAVA_HOME", "/usr/lib/jvm/default-java"), "bin", "java")
_SCDAEMON: Final = Path(os.environ.get("SCDAEMON", "/usr/lib/gnupg/scdaemon"))
_SCDAEMON_SAYS: Final = f"""
(echo SERIALNO; sleep 1; echo GETINFO reader_list; echo APDU 00A4040007A0000000790300; echo RESET;
 sleep 0.3; echo BYE) | {_SCDAEMON} --multi-server --server --disable-ccid --homedir "$HOME" 2>&1 |
sed 's/scdaemon.[0-9]*.: //'
"""

#: Those of which the machine that makes the table need not have the program.
OPTIONAL: Final[Mapping[str, tuple[Path, tuple[str, ...]]]] = {
    "scdaemon 2.2": (_SCDAEMON, ("sh", "-c", _SCDAEMON_SAYS)),
    **{
        f"Java's smartcardio, {protocol}": (
            _JAVA,
            (
                str(_JAVA),
                f"-Dsun.security.smartcardio.library={_LIBRARY}",
                str(Path(__file__).parent / "Smartcard.java"),
                protocol,
            ),
        )
        for protocol in ("*", "direct")
    },
}

#: Why a program says otherwise at the door.
REASONS: Final = {
    "Java's smartcardio, direct": "its next connection works: RAW is one handle's affair",
}

#: pcsc-lite's own that need no hand, compared by their status: most print handles and times. One
#: fails by design.
UNITARY = (
    *("SCardBeginTransaction_Disconnect", "SCardBeginTransaction_Reset"),
    *("SCardBeginTransaction_ExclusiceMode", "SCardBeginTransaction_SharedMode"),
    *("SCardBeginTransaction_deadlock", "SCardBlockingBehaviourTest"),
    *("SCardEndTransaction_extra_call", "SCardExclusiveBehaviour", "SCardCancel", "SCardCancel2"),
    *("SCardConnect_DIRECT", "SCardConnect_DIRECT2", "SCardGetStatusChange2"),
    *("SCardGetStatusChange/SCardGetStatusChange", "SCardGetStatusChange/SCardGetStatusChange_PnP"),
    *("ThreadSafe", "ThreadSafeConnect", "SCardGetAttrib", "FEATURE_GET_TLV_PROPERTIES"),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended.

    Attributes:
        status: its exit status.
        said: what it printed, without what differs between any two runs.
    """

    status: int
    said: str


def run(desk: Desk, argv: tuple[str, ...], directory: Path | None = None) -> Outcome:
    """Run a program at a desk."""
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=directory or desk.directory,
        env=desk.env,
        timeout=60,
        check=False,
    )
    said = done.stdout.decode(errors="replace")
    for pattern, sign in _VARIES:
        said = pattern.sub(sign, said)
    return Outcome(done.returncode, said)


class Both:
    """A daemon with a card, shown by pcscd and at its own door; a context manager."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._daemon = Daemon(directory / "vccid", settings=SETTINGS)
        entry = ReaderEntry("vccid vccid0", f"vccid:{self._daemon.ifd()}", DRIVER)
        self._pcscd = PrivatePcscd(directory / "pcscd", [entry])
        self._desks = 0

    def __enter__(self) -> Both:
        self._daemon.start()
        try:
            self._pcscd.start()
            database = make_nss_database(self._directory / "nss")
            self._daemon.ctl("insert", "--db", database, "--certs", CERTS, "--wait")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._pcscd.stop()
        self._daemon.stop()

    def fresh_card(self) -> None:
        """Pull the card and put it back: nothing of the program before is left."""
        self._daemon.ctl("remove", "--wait")
        self._daemon.ctl("insert", "--wait")

    def behind_pcscd(self) -> Desk:
        """A desk whose programs find pcscd."""
        return self._desk(self._pcscd.env)

    def at_the_door(self, library: Path | None = None) -> Desk:
        """A desk whose programs find the daemon; `library` is another libpcsclite's directory."""
        env = {**self._pcscd.env, "PCSCLITE_CSOCK_NAME": str(self._daemon.runtime / "pcscd.comm")}
        if library is not None:
            env["LD_LIBRARY_PATH"] = str(library)
        return self._desk(env)

    def _desk(self, env: Mapping[str, str]) -> Desk:
        self._desks += 1
        return Desk(self._directory / f"desk{self._desks}", env)


def _outcome(desk: Desk, argv: tuple[str, ...], directory: Path | None) -> Outcome:
    outcome = run(desk, argv, directory)
    return outcome if directory is None else Outcome(outcome.status, "")


def _cell(ours: Outcome, pcscds: Outcome, reason: str | None) -> str:
    if ours == pcscds:
        return "same"
    if reason is not None:
        return reason
    return f"status {ours.status}" if ours.status != pcscds.status else "says otherwise"


def table(
    both: Both, source: Path | None, libraries: Mapping[str, Path], look: Callable[[str], object]
) -> str:
    """The table, in Markdown."""
    jobs: dict[str, tuple[tuple[str, ...], Path | None]]
    jobs = {name: (argv, None) for name, argv in PROGRAMS.items()}
    last = {name: (argv, None) for name, (path, argv) in OPTIONAL.items() if path.exists()}
    if source is not None:
        for test in UNITARY:
            path = source / "UnitaryTests" / f"{test}.py"
            jobs[f"UnitaryTests/{test}.py"] = (sys.executable, str(path)), path.parent
    jobs |= last
    behind, doors = both.behind_pcscd(), {"1.9.9": both.at_the_door()}
    doors |= {version: both.at_the_door(path) for version, path in libraries.items()}
    rows = [
        "| program | Debian 12's pcscd | "
        + " | ".join(f"our door, libpcsclite {version}" for version in doors)
        + " |",
        "|" + " --- |" * (2 + len(doors)),
    ]
    for name, (argv, directory) in jobs.items():
        both.fresh_card()
        expected = _outcome(behind, argv, directory)
        cells = []
        for version, door in doors.items():
            both.fresh_card()
            ours = _outcome(door, argv, directory)
            cells.append(_cell(ours, expected, REASONS.get(name)))
            if ours != expected:
                look(f"{name} with {version}:\n{expected}\n{ours}")
        rows.append(f"| `{name}` | status {expected.status} | {' | '.join(cells)} |")
    return "\n".join(rows)


def main(arguments: list[str]) -> None:
    libraries = dict(argument.split("=") for argument in arguments if "=" in argument)
    sources = [Path(argument) for argument in arguments if "=" not in argument]
    with tempfile.TemporaryDirectory(prefix="vccid-") as name, Both(Path(name)) as both:
        made = table(
            both,
            sources[0] if sources else None,
            {version: Path(path) for version, path in libraries.items()},
            lambda text: print(text, file=sys.stderr),
        )
    page = PAGE.read_text()
    head, _, rest = page.partition(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n{made}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main(sys.argv[1:])
