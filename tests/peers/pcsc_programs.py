# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs of PC/SC to be run behind pcscd and at the daemon's own door."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.peers.desk import OPENSC_MODULE, PIN

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

_CHILD: Final = Path("/usr/libexec/sssd/p11_child")
#: A copy of the agent is not set-gid, and heeds LD_LIBRARY_PATH.
_SSH_SAYS: Final = f"""
cp /usr/bin/ssh-agent agent
printf '#!/bin/sh\\necho {PIN}\\n' > ask && chmod 700 ask && eval "$(./agent)" >/dev/null
SSH_ASKPASS=./ask SSH_ASKPASS_REQUIRE=force ssh-add -s {OPENSC_MODULE}
ssh-add -L | tee keys; ssh-add -T keys && echo signed; ssh-add -e {OPENSC_MODULE}
./agent -k >/dev/null
"""
_NSS_SAYS: Final = f"""
echo {PIN} > pin && rm -rf nss && mkdir nss && certutil -N -d sql:nss --empty-password
modutil -force -dbdir sql:nss -add opensc -libfile {OPENSC_MODULE}
certutil -L -d sql:nss -h all -f pin; certutil -K -d sql:nss -h all -f pin
"""
#: Both its ways: who may log in, and whether the PIN and the key are right.
_CHILD_SAYS: Final = f"""
ask() {{
  printf %s {PIN} | {_CHILD} "$@" --ca_db=/dev/null --chain-id=1 2>/dev/null; echo "status $?"
}}
ask --pre --verify=no_verification | tee told
ask --auth --pin --verify=no_verification --token_name="$(sed -n 1p told)" \\
  --module_name="$(sed -n 2p told)" --key_id="$(sed -n 3p told)" --label="$(sed -n 4p told)"
"""

#: Those of which the machine that makes the table need not have the program.
OPTIONAL: Final[Mapping[str, tuple[Path, tuple[str, ...]]]] = {
    "ssh-add -s, -T": (Path("/usr/bin/ssh-add"), ("sh", "-c", _SSH_SAYS)),
    "NSS: modutil, certutil": (Path("/usr/bin/certutil"), ("sh", "-c", _NSS_SAYS)),
    "SSSD's p11_child --pre, --auth": (_CHILD, ("sh", "-c", _CHILD_SAYS)),
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

#: Of pyscard's own tests, those that need no hand and that this version's has the names for.
_SUITES: Final = {
    "scard": "getatr getattrib geterrormessage locatecards returncodes transaction",
    "framework": "ATR CAtr Card CardConnection CardMonitor CardRequest CardService CardType "
    "ErrorChecking ExclusiveCardConnection readergroups readermonitor readers utils",
}


def _suite(source: Path, name: str) -> tuple[str, ...]:
    """One of pyscard's suites; it wants two readers with cards, and finds one."""
    tests = source / "src" / "smartcard" / "test"
    script = f"""
rm -rf suite && cp -r {tests}/{name} suite && cd suite
sed 's/time.sleep(5)//' {tests}/configcheck.py > check.py && {sys.executable} check.py
for each in {_SUITES[name]}; do echo "$each"; {sys.executable} testcase_$each.py 2>&1 |
grep -E '^(Ran|OK|FAILED|ERROR:|FAIL:|[A-Za-z]*Error)'; done
"""
    return "sh", "-c", script


def named(places: Mapping[str, Path]) -> dict[str, tuple[str, ...]]:
    """Programs that whoever makes the table has a place of."""
    jobs: dict[str, tuple[str, ...]] = {}
    if source := places.get("pyscard"):
        jobs |= {f"pyscard's {name} suite": _suite(source, name) for name in _SUITES}
    if program := places.get("p11test"):
        jobs["p11test"] = (str(program), "-m", OPENSC_MODULE, "-p", PIN, "-s", "0")
    return jobs


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
