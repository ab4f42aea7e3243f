# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every command of README and docs/ is run: here as it stands, or by a test that is named here.

`test_howto.py` has the sessions of README and docs/howto that an ordinary user runs at once.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers import test_howto
from tests.peers.daemon import BIN, PATIENCE
from tests.peers.docs_commands import PAGES, ROOT, commands
from tests.peers.private_pcscd import PrivatePcscd, ReaderEntry
from tests.peers.stage import DRIVER
from tests.peers.test_run_terminal import Session, session
from tests.peers.user import BECOME_NOBODY, NOBODY, User, temporary_user

README = ROOT / "README.md"
PIN = "123456"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts, and becomes another user")

#: Commands that are not run here: pages and words of theirs, the test, and words of its.
ELSEWHERE = (
    ("README", r"\./dev test$", ".ci/run", r"\./dev test"),
    ("README", r"\./dev (demo|setup)$", "tests/peers/test_docs.py", r"tests/demo/demo"),
    ("README", r"\./dev deb|apt install", "tests/vm/test_deb.py", r"apt|install"),
    ("README", r"systemctl start vccid", "tests/vm/test_deb.py", r"systemctl"),
    ("ccid", r"tests\.fuzz\.fuzz_", "tests/fuzz/test_usb_wires.py", r"fuzz_"),
    ("device-node", r"", "tests/vm/test_cuse.py", r"device-node\.md"),
    ("files", r"mkdir|mount|openssl|fusermount3", "tests/peers/test_files.py", r"x509 -noout"),
    ("files", r"ssh-copy-id", "tests/peers/test_files_ssh.py", r'"ssh-copy-id", "-f", "-i"'),
    ("files", r"systemctl", "tests/vm/test_files.py", r"vccid-files"),
    ("keys", r"certutil|chgrp|chmod|--db sql:", "tests/peers/test_docs.py", r"certutil"),
    ("keys", r"id\.p12,", "tests/peers/test_howto.py", r"HOWTO"),
    ("keys", r"softhsm|pkcs11", "tests/peers/test_keys_softhsm.py", r"softhsm"),
    ("pcsc", r"attach pcsc|CSOCK_NAME", "tests/peers/test_pcsc_door.py", r'"attach", "pcsc"'),
    ("pcsc", r"opensc-tool", "tests/peers/pcsc_programs.py", r'"--list-readers"'),
    ("piv", r"insert", "tests/peers/test_piv_lasting.py", r'"--card", "piv"'),
    ("piv", r"vccid run --generate", "tests/peers/test_run.py", r'"--card", "piv"'),
    ("piv", r"--secure-messaging", "tests/peers/test_run.py", r'"--secure-messaging"'),
    ("piv", r"--reader-name", "tests/peers/test_run.py", r'"--reader-name"'),
    ("piv", r"--profile", "tests/upstream/test_ykman.py", r'"--profile"'),
    ("piv", r"yubico-piv-tool", "tests/peers/test_piv_yubico.py", r'"import-certificate"'),
    ("pin-pad", r"", "tests/peers/test_pin_pad.py", r'"pin", "enter"'),
    ("qemu", r"qemu-system|vccidctl attach (usbredir|vsc)", "tests/peers/test_docs_qemu.py",
     r"PAGE"),
    ("qemu", r"^vscclient", "tests/peers/test_vsc_libcacard.py", r"vsc_client"),
    ("qemu", r"vicc|vpicc", "tests/peers/test_vpcd.py", r"test_vicc_"),
    ("qemu", r"insert --(reader|hardware)", "tests/peers/test_real_cards.py", r"--hardware"),
    ("security", r"systemd-creds|systemctl edit", "tests/vm/test_sandbox.py", r"Credential"),
    ("serial", r"", "tests/vm/test_cuse_tty.py", r"attach tty"),
    ("testing", r"\./dev vm|test_guest\.py", "tests/vm/__main__.py", r"build|shell|run"),
    ("testing", r"\./dev sweep", "tests/sweep/__main__.py", r"\./dev sweep"),
    ("testing", r"\./dev fresh", "tests/fresh/__main__.py", r"\./dev fresh"),
    ("usbip", r"usbip|modprobe", "tests/vm/test_daemon_usb.py", r"usbip attach -r"),
    ("usbip", r"systemctl", "tests/vm/test_sandbox.py", r"IPAddressAllow"),
    ("usbip", r"socat", "tests/vm/test_vhci.py", r"OPENSSL:"),
)  # fmt: skip


def block(page: Path, word: str) -> str:
    """The fenced block with this word."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return next(str(text) for text in blocks if word in text)


def run_here() -> set[str]:
    """What the tests below and test_howto run, word by word."""
    sessions = {command.text for page in test_howto.PAGES for command in test_howto.commands(page)}
    service = [line[2:] for line in _service().splitlines() if line.startswith("# ")]
    scripts = [*block(README, "./my-tests").splitlines(), *block(README, "/tmp/one ").splitlines()]
    return {" ".join(line.split()) for line in (*sessions, *service, *scripts)}


def _service() -> str:
    """From the database to the card's removal."""
    return block(README, "certutil -N") + block(README, "vccidctl insert --certs")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_command_is_left_out(page: Path) -> None:
    here = run_here()
    for command in commands(page):
        named = [
            test
            for name, words, test, _ in ELSEWHERE
            if name == page.stem and re.search(words, command)
        ]
        assert command in here or named, f"no test runs {command}"


@pytest.mark.parametrize(("page", "words", "test", "said"), ELSEWHERE)
def test_what_is_run_elsewhere_is(page: str, words: str, test: str, said: str) -> None:
    path = README if page == "README" else ROOT / "docs" / f"{page}.md"
    assert any(re.search(words, command) for command in commands(path)), "the page has it no more"
    assert re.search(said, (ROOT / test).read_text()), f"{test} has it no more"


# -- README ----------------------------------------------------------------------------------------


@pytest.fixture
def user() -> Iterator[User]:
    with temporary_user(os.geteuid() or NOBODY) as somebody:
        yield somebody


def test_the_demo(user: User) -> None:
    """As ./dev calls it."""
    assert "vccid run --pcscd -- tests/demo/demo" in (ROOT / "dev").read_text()
    assert "That was all" in user.say("run", "--pcscd", "--", ROOT / "tests/demo/demo")


def test_a_daemon_and_a_pcscd_without_root(user: User) -> None:
    """The record of reader.conf with the driver of this tree."""
    place = user.home / "one"
    script = block(README, "/tmp/one ").replace("/tmp/one", str(place))
    record = block(README, "FRIENDLYNAME").replace("/tmp/one", str(place))
    become = [] if user.uid == os.geteuid() else BECOME_NOBODY
    process = subprocess.Popen(
        [*become, "bash", "-e", "-c", f"{script}\nread line; kill $!; wait $!"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        cwd=user.home, env=user.env,
    )  # fmt: skip
    assert process.stdout is not None
    lines: list[str] = []
    while not any(line.startswith("vccid0") for line in lines):
        line = process.stdout.readline()
        assert line, lines
        lines.append(line)
    name, device = (re.search(rf'^{key} +"?([^"\n]+)', record, re.MULTILINE)
                    for key in ("FRIENDLYNAME", "DEVICENAME"))  # fmt: skip
    assert name is not None and device is not None
    with PrivatePcscd(user.temporary / "p", [ReaderEntry(name[1], device[1], DRIVER)]) as pcscd:
        said = subprocess.run(
            ["opensc-tool", "-l"], env={**os.environ, **pcscd.env},
            capture_output=True, text=True, check=True, timeout=PATIENCE,
        )  # fmt: skip
    assert "vccid vccid0" in said.stdout
    process.communicate("\n", timeout=PATIENCE)
    assert process.returncode == 0
    shutil.rmtree(user.temporary / "p")


def test_certificates_of_ones_own(user: User) -> None:
    make = (
        "for name in id sign crypt; do openssl req -x509 -newkey rsa:2048 -nodes -days 9"
        " -subj /CN=$name -keyout key -out cert 2>/dev/null; openssl pkcs12 -export -inkey key"
        f" -in cert -passout pass:{PIN} -out $name.p12; done; echo {PIN} >pw; chmod 600 pw;"
        r" printf '#!/bin/sh\nopensc-tool -l\nexec pkcs11-tool --login --test --pin 123456\n'"
        " >my-tests; chmod +x my-tests"
    )
    become = [] if user.uid == os.geteuid() else BECOME_NOBODY
    done = subprocess.run(
        [*become, "bash", "-e", "-c", f"{make}\n{block(README, './my-tests')}"],
        cwd=user.home, env=user.env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("No errors\n")


#: What certutil, vccidctl and pkcs11-tool ask at a terminal, and the answers.
ANSWERS = {
    "Enter new password:": f"{PIN}\n",
    "Re-enter password:": f"{PIN}\n",
    'Enter Password or Pin for "NSS Certificate DB":': f"{PIN}\n",
    "Continue typing until the progress meter is full:": "kj3h4 kjh sdf98 asdkj3 " * 12,
    "Press enter to continue": "\n",
    "Password: ": f"{PIN}\n",
    "Please enter User PIN:": f"{PIN}\n",
}


def answer_until(there: Session, end: str) -> str:
    """Answer its questions until it says the last; returns all it said."""
    said, asked = "", 0
    deadline = time.monotonic() + 60
    while end not in said:
        left = deadline - time.monotonic()
        assert left > 0 and select.select([there.terminal], [], [], left)[0], said
        said += os.read(there.terminal, 4096).decode(errors="replace")
        for question, answer in ANSWERS.items():
            if question in said[asked:]:
                asked = len(said)
                time.sleep(0.1)  # what comes before echo is off is thrown away
                there.type(answer)
    return said


@contextlib.contextmanager
def without_pki() -> Iterator[None]:
    """/etc/pki is there to be mounted on, and as it was afterwards."""
    folder = Path("/etc/pki")
    made = not folder.exists()
    folder.mkdir(exist_ok=True)
    try:
        yield
    finally:
        if made:
            folder.rmdir()


@as_root
def test_a_database_becomes_a_card(tmp_path: Path) -> None:
    """As root of a machine where vccid is installed: a group vccid, and nothing in /etc/pki."""
    shutil.copy("/etc/group", tmp_path / "group")
    with (tmp_path / "group").open("a") as group:
        group.write("vccid:x:64999:\n")
    setting = f"mount --bind {tmp_path / 'group'} /etc/group; mount -t tmpfs x /etc/pki"
    lines = [line[2:] for line in _service().splitlines() if line.startswith("# ")]
    session_file = tmp_path / "session"
    session_file.write_text("\n".join(["set -e", setting, *lines, "echo all do''ne"]))
    argv = ("unshare", "--mount", str(BIN / "vccid"), "run", "--", "bash", str(session_file))
    with without_pki(), temporary_user(0) as root, session(root, *argv) as there:
        said = answer_until(there, "all done")
        assert there.ended_with() == 0
    assert "No errors" in said
    assert "Card inserted" in said, "pcsc_scan"
    assert "the card is out" in said
