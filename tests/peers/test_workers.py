# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cards whose PKCS#11 modules run in processes of their own, in a whole daemon with SoftHSM, NSS
and a module that crashes and hangs."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.key_material import certificate, der, key_der, rsa_key, run
from tests.peers.daemon import Daemon, make_nss_database
from tests.softhsm import MODULE, PIN, SO_PIN, configure
from tests.unit.keys.pretend_token import module_path
from vccid.ctl.client import Client

ROUNDS = 50
PATIENCE = 20.0
QUERY = f"?module-path={MODULE}"


class Tokens:
    """A folder of SoftHSM tokens with a configuration of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = configure(folder)
        self.set = f"SOFTHSM2_CONF={self.conf}"
        (folder / "key").write_bytes(key_der(rsa_key(1)))

    def wipe(self) -> None:
        shutil.rmtree(self.folder / "tokens")
        (self.folder / "tokens").mkdir()

    def make(self, label: str, common_name: str) -> None:
        """A new token with one pair; the certificate has this name."""
        self._run("softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN,
                  "--so-pin", SO_PIN)  # fmt: skip
        (self.folder / "cert").write_bytes(der(certificate(common_name, rsa_key(1).public_key())))
        for kind, file in (("cert", "cert"), ("privkey", "key")):
            self._run("pkcs11-tool", "--module", MODULE, "--token-label", label, "--login",
                      "--pin", PIN, "--write-object", str(self.folder / file), "--type", kind,
                      "--label", "one", "--id", "01")  # fmt: skip

    def _run(self, *arguments: str) -> None:
        run("env", self.set, *arguments)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def descendants(pid: int) -> list[int]:
    """The nursery and its workers, whichever thread of the daemon started it."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (int(word) for word in (task / "children").read_text().split()):
            found += [child, *children(child)]
    return found


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def holder(daemon: Daemon, file: str) -> int:
    """The worker that has a file open."""
    for pid in descendants(daemon.pid):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            if os.path.islink(link) and os.readlink(link).endswith(file):
                return pid
    raise AssertionError(f"nobody has {file}")


def test_a_worker_that_is_killed(tmp_path: Path) -> None:
    first, second = (make_nss_database(tmp_path / name, ("cert1",)) for name in ("one", "two"))
    with Daemon(tmp_path / "d") as daemon:
        daemon.ctl("reader", "add", "other")
        daemon.ctl("insert", "--certs", "cert1", "--db", first)
        daemon.ctl("insert", "other", "--certs", "cert1", "--db", second)
        serial = daemon.reader()["card"]["serial"]
        os.kill(holder(daemon, f"{tmp_path}/one/key4.db"), signal.SIGKILL)
        until(lambda: daemon.reader()["card"] is None)
        assert daemon.reader()["problem"] == (
            f"{tmp_path}/one is gone: its process was ended by SIGKILL"
            " — vccidctl insert puts the card back"
        )
        assert "is gone: its process was ended by SIGKILL" in daemon.run_ctl("status").stderr
        assert daemon.reader("other")["card"] is not None
        daemon.ctl("insert")
        assert daemon.reader()["card"]["serial"] == serial
        assert daemon.reader()["problem"] is None
        left = descendants(daemon.pid)
        daemon.kill()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left))


def test_each_card_has_its_own_environment(tmp_path: Path) -> None:
    """The same label in two folders; kept over a restart."""
    uri = f"pkcs11:token=card;object=one{QUERY}"
    folders = [Tokens(tmp_path / name) for name in ("a", "b")]
    for tokens in folders:
        tokens.make("card", tokens.folder.name)
    with Daemon(tmp_path / "d") as daemon:
        daemon.ctl("reader", "add", "vccid1")
        for name, tokens in zip(("vccid0", "vccid1"), folders, strict=True):
            daemon.ctl("insert", name, "--certs", uri, "--set", tokens.set)
        assert [daemon.reader(f"vccid{n}")["card"]["label"] for n in (0, 1)] == ["a", "b"]
        daemon.stop()
        daemon.start()
        until(lambda: all(daemon.reader(f"vccid{n}")["card"] for n in (0, 1)))
        assert [daemon.reader(f"vccid{n}")["card"]["label"] for n in (0, 1)] == ["a", "b"]


def test_which_variables_may_be_set(tmp_path: Path) -> None:
    with Daemon(tmp_path / "d", settings='[pkcs11]\nvariables = ["MINE"]\n') as daemon:
        refused = daemon.run_ctl("insert", "--certs", "cert1", "--set", "LD_PRELOAD=/tmp/x.so")
        assert refused.returncode != 0
        assert "variable LD_PRELOAD may not be set for a PKCS#11 module" in refused.stderr
        assert "pkcs11.variables in vccid.toml lists MINE" in refused.stderr
        odd = daemon.run_ctl("insert", "--certs", "cert1", "--set", "MINE")
        assert "--set takes NAME=VALUE" in odd.stderr


@pytest.mark.parametrize("how", ["--certs", "--hardware"])
def test_wipe_make_insert(tmp_path: Path, how: str) -> None:
    """As SSSD's tests have it: a token for each, with another card in all the while."""
    tokens, other = Tokens(tmp_path / "t"), Tokens(tmp_path / "o")
    other.make("other", "other")
    uri = (
        f"pkcs11:token=card;object=one{QUERY}" if how == "--certs" else f"pkcs11:token=card{QUERY}"
    )
    with Daemon(tmp_path / "d", {"SOFTHSM2_CONF": str(tokens.conf)}) as daemon:
        daemon.ctl("reader", "add", "other")
        item = f"pkcs11:token=other;object=one{QUERY}"
        daemon.ctl("insert", "other", "--certs", item, "--set", other.set)
        wish = {"certificates": [uri]} if how == "--certs" else {"hardware": uri}
        with Client(daemon.control) as client:
            for number in range(ROUNDS if how == "--certs" else 3):
                tokens.wipe()
                tokens.make("card", f"round {number}")
                inserted = client.call("Insert", {**wish, "reader": "vccid0"})
                assert inserted["card"]["label"] == f"round {number}"
                client.call("Remove", {"reader": "vccid0"})
        assert daemon.reader("other")["card"]["label"] == "other"
        # the nursery, the other card's, and the one that waits; one on its way out
        until(lambda: len(descendants(daemon.pid)) <= 3)


def test_a_module_that_hangs_and_one_that_crashes(tmp_path: Path) -> None:
    settings = '[pkcs11]\ntimeout = 1\nvariables = ["PRETEND_HANG", "PRETEND_CRASH"]\n'
    cert = der(certificate("pretend", rsa_key().public_key()))
    (tmp_path / "pretend").write_bytes(cert)
    environment = {"PRETEND_CERTIFICATE": str(tmp_path / "pretend")}
    uri = f"pkcs11:token=pretend;object=pretend?module-path={module_path()}"
    database = make_nss_database(tmp_path / "nss", ("cert1",))
    with Daemon(tmp_path / "d", environment, settings=settings) as daemon:
        daemon.ctl("reader", "add", "other")
        daemon.ctl("insert", "other", "--certs", "cert1", "--db", database)
        for fault, says in (
            ("PRETEND_HANG=C_FindObjectsInit", "did not answer for 1 s, and was ended"),
            ("PRETEND_CRASH=C_FindObjectsInit", "its process was ended by SIGSEGV"),
            ("PRETEND_CRASH=C_Initialize", "its process was ended by SIGSEGV"),
        ):
            failed = daemon.run_ctl("insert", "--certs", uri, "--set", fault)
            assert failed.returncode != 0
            assert says in failed.stderr
            assert "Traceback" not in daemon.printed()
        daemon.ctl("insert", "--certs", uri)
        assert daemon.reader()["card"]["label"] == "pretend"
        assert daemon.reader("other")["card"] is not None


def test_nothing_secret_is_shown(tmp_path: Path) -> None:
    """The PIN is in no argument and no environment of any process, and in no log."""
    tokens = Tokens(tmp_path / "t")
    tokens.make("card", "secret")
    (tmp_path / "pin").write_text(PIN)
    with Daemon(tmp_path / "d", settings='[log]\nlevel = "debug"\n') as daemon:
        uri = f"pkcs11:token=card;object=one{QUERY}"
        file = str(tmp_path / "pin")
        daemon.ctl("insert", "--certs", uri, "--set", tokens.set, "--password-file", file)
        places = [Path(f"/proc/{pid}") for pid in descendants(daemon.pid)]
        assert len(places) >= 2
        for place in places:
            for name in ("cmdline", "environ"):
                assert PIN.encode() not in (place / name).read_bytes()
        assert PIN not in daemon.printed()
