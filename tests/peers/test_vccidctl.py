# SPDX-License-Identifier: LGPL-2.1-or-later
"""The real vccidctl, on a real daemon: verbs, exit codes, JSON, prompts, completion."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers.daemon import BIN, PATIENCE, Daemon, make_nss_database
from tests.peers.terminal import at_terminal
from vccid.wire import ifd

CERTS = "cert1,cert2,cert3"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ctl")


@pytest.fixture(scope="module")
def database(directory: Path) -> str:
    return make_nss_database(directory / "nss")


@pytest.fixture(scope="module")
def running(directory: Path) -> Iterator[Daemon]:
    with Daemon(directory / "v") as daemon:
        yield daemon


@pytest.fixture
def daemon(running: Daemon) -> Iterator[Daemon]:
    """The daemon, its one reader empty again after the test."""
    yield running
    if running.reader()["card"] is not None:
        running.ctl("remove")


@pytest.fixture(scope="module")
def pkcs12(directory: Path) -> Path:
    """A certificate and key locked with the password "locked"."""
    key, cert, locked = (directory / name for name in ("key.pem", "cert.pem", "id.p12"))
    for command in (
        f"req -x509 -newkey rsa:2048 -nodes -subj /CN=locked -keyout {key} -out {cert} -days 30",
        f"pkcs12 -export -inkey {key} -in {cert} -out {locked} -passout pass:locked",
    ):
        subprocess.run(["openssl", *command.split()], check=True, capture_output=True)
    return locked


# -- the verbs -----------------------------------------------------------------------------------


def test_a_card_for_people(daemon: Daemon, database: str) -> None:
    assert "(cert1) is in" in daemon.ctl("insert", "--certs", CERTS, "--db", database)
    status = daemon.ctl("status")
    assert f"pid {daemon.pid}" in status
    assert "vccid0" in status and "3 left" in status
    info = daemon.ctl("card", "info")
    assert "3B 7A 18 00 00 73 66 74 65 20 63 64 31 34 34" in info
    assert "CN=cert3" in info and "RSA-2048" in info
    assert "3 left" in daemon.ctl("pin", "reset")
    assert daemon.ctl("remove") == "vccid0: the card is out\n"
    assert "vccid0" in daemon.ctl("reader", "list")


def test_json_before_and_after_every_verb(daemon: Daemon, database: str) -> None:
    first = daemon.ctl_json("insert", "--certs", CERTS, "--db", database)
    info = json.loads(daemon.ctl("card", "info", "--json"))
    assert info["card"]["serial"] == first["card"]["serial"]
    assert len(info["certificates"]) == 3
    assert json.loads(daemon.ctl("pin", "reset", "--json"))["card"]["tries"] == 3
    assert json.loads(daemon.ctl("status", "--json"))["readers"][0]["name"] == "vccid0"
    assert json.loads(daemon.ctl("reader", "add", "lab", "--json"))["reader"]["name"] == "lab"
    assert len(json.loads(daemon.ctl("reader", "list", "--json"))["readers"]) == 2
    assert json.loads(daemon.ctl("reader", "remove", "lab", "--json")) == {"warnings": []}
    assert json.loads(daemon.ctl("version", "--json"))["vccid"]
    assert json.loads(daemon.ctl("remove", "--json"))["reader"] == "vccid0"


def test_fewer_certificates_and_the_factory_pin_are_warned_of(
    daemon: Daemon, database: str
) -> None:
    done = daemon.run_ctl("insert", "--certs", "cert2", "--db", database)
    assert done.returncode == 0
    assert "warning: one certificate" in done.stderr
    assert "factory PIN 123456" in done.stderr
    assert "warning" not in done.stdout


def test_paths_are_the_callers(daemon: Daemon, pkcs12: Path, tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("locked\n")
    (tmp_path / "pw").chmod(0o600)
    shutil.copy(pkcs12, tmp_path / "id.p12")
    done = daemon.run_ctl("insert", "--certs", "id.p12", "--password-file", "pw", cwd=tmp_path)
    assert done.returncode == 0, done
    assert daemon.reader()["wanted"] == [str(tmp_path / "id.p12")]


@pytest.mark.parametrize(
    ("mode", "warning"), [(0o600, ""), (0o640, "its group"), (0o604, "every user")]
)
def test_a_secret_that_others_can_read(
    daemon: Daemon, database: str, tmp_path: Path, mode: int, warning: str
) -> None:
    file = tmp_path / "pin"
    file.write_text("4711\n")
    file.chmod(mode)
    insert = ("insert", "--certs", "cert1", "--db", database, "--pin-file", file)
    told = f"warning: {file} can be read by {warning}: chmod 600 {file}"
    assert (told in daemon.run_ctl(*insert).stderr) == bool(warning)
    daemon.ctl("remove")
    assert "can be read by" not in daemon.run_ctl(*insert, "--json").stderr


def test_several_readers(daemon: Daemon, database: str) -> None:
    daemon.ctl("reader", "add", "lab")
    try:
        daemon.ctl("insert", "lab", "--certs", "cert1", "--db", database)
        assert daemon.reader("lab")["card"] is not None
        assert daemon.reader("vccid0")["card"] is None, "without a name, vccid0 is meant"
        assert daemon.run_ctl("remove").returncode == 1
    finally:
        daemon.ctl("reader", "remove", "lab")


def test_monitor(daemon: Daemon, database: str) -> None:
    watcher = subprocess.Popen(
        [BIN / "vccidctl", "--socket", daemon.control, "monitor", "--json"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert watcher.stdout is not None
        assert json.loads(watcher.stdout.readline())["readers"][0]["name"] == "vccid0"
        serial = daemon.ctl_json("insert", "--certs", "cert1", "--db", database)["card"]["serial"]
        daemon.ctl("remove")
        events = [json.loads(watcher.stdout.readline())["event"] for _ in range(2)]
        assert events == [
            {"kind": "card-inserted", "reader": "vccid0", "detail": serial},
            {"kind": "card-removed", "reader": "vccid0", "detail": serial},
        ]
        watcher.send_signal(signal.SIGINT)
        assert watcher.wait(PATIENCE) == 0
    finally:
        watcher.kill()
        watcher.communicate()


# -- waiting for hosts ---------------------------------------------------------------------------


class Host:
    """pcscd's driver, as far as presence goes, that looks only when it is told to."""

    def __init__(self, daemon: Daemon) -> None:
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.settimeout(PATIENCE)
        self.connection.connect(str(daemon.ifd()))
        self.connection.sendall(ifd.serialize_hello(ifd.Role.EVENTS))

    def look(self, generation: int) -> None:
        payload = ifd.SEEN.pack(generation)
        self.connection.sendall(ifd.HEADER.pack(ifd.Kind.SEEN, 0, len(payload)) + payload)

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *error: object) -> None:
        self.connection.close()


def test_wait_ends_when_the_host_has_looked(daemon: Daemon, database: str) -> None:
    with Host(daemon) as host:
        daemon.wait_for(lambda: len(daemon.reader()["hosts"]) == 1)
        done: list[subprocess.CompletedProcess[str]] = []
        insert = threading.Thread(target=lambda: done.append(
            daemon.run_ctl("insert", "--wait", "vccid0", "--certs", CERTS, "--db", database)
        ))  # fmt: skip
        insert.start()
        daemon.wait_for(lambda: daemon.reader()["card"] is not None)
        assert daemon.reader()["hosts"][0]["seen"] is False
        assert "not looked yet" in daemon.ctl("status")
        assert not done
        host.look(daemon.reader()["generation"])
        insert.join(PATIENCE)
        assert done[0].returncode == 0, done


def test_wait_that_ends_too_soon_has_its_own_exit_code(daemon: Daemon, database: str) -> None:
    with Host(daemon):
        daemon.wait_for(lambda: len(daemon.reader()["hosts"]) == 1)
        late = daemon.run_ctl("insert", "--certs", CERTS, "--db", database, "--wait=0.05")
        assert late.returncode == 5
        assert "not seen yet by: ifd pcscd" in late.stderr
        assert "is in" in late.stdout
        # Without --wait nobody is waited for.
        assert daemon.run_ctl("remove").returncode == 0
    daemon.wait_for(lambda: not daemon.reader()["hosts"])
    assert daemon.run_ctl("insert", "--wait").returncode == 0, "nobody to wait for"


# -- how it fails --------------------------------------------------------------------------------


def test_errors_are_a_line_a_hint_and_a_code(daemon: Daemon, database: str) -> None:
    failed = daemon.run_ctl("insert", "--certs", "cert9", "--db", database)
    assert (failed.returncode, failed.stdout) == (1, "")
    first, hint = failed.stderr.splitlines()
    assert first.startswith("vccidctl: ") and "cert9" in first
    assert "cert1" in hint, "near matches"
    as_json = daemon.run_ctl("--json", "insert", "--certs", "cert9", "--db", database)
    assert (as_json.returncode, as_json.stdout) == (1, "")
    assert json.loads(as_json.stderr)["error"] == "CertificateNotFound"


def test_a_failed_insert_leaves_the_card_that_is_in(daemon: Daemon, database: str) -> None:
    daemon.ctl("insert", "--certs", "cert1", "--db", database)
    for certs in ("cert9", "cert2"):
        full = daemon.run_ctl("insert", "--certs", certs, "--db", database)
        assert full.returncode == 1
        assert "already holds a card" in full.stderr
    assert daemon.reader()["card"]["label"] == "cert1"


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["insert", "--wait=soon"], ["insert", "--atr", "x"], ["reader", "add"],
     ["completion", "tcsh"], ["insert", "--pin-file", "a", "--ask-pin"]],
)  # fmt: skip
def test_a_wrong_command_line(daemon: Daemon, arguments: list[str]) -> None:
    assert daemon.run_ctl(*arguments).returncode == 2


def test_no_daemon(tmp_path: Path) -> None:
    def ctl(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BIN / "vccidctl", "--socket", tmp_path / "none", *arguments],
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip

    assert ctl("status").returncode == 3
    assert "systemctl start vccid" in ctl("status").stderr
    assert json.loads(ctl("--json", "status").stderr)["error"] == "NoDaemon"
    version = ctl("version")
    assert version.returncode == 0
    assert "does not run" in version.stdout


def test_a_daemon_that_speaks_something_else(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "control"))
        listening.listen()

        def answer() -> None:
            for said in (b"HTTP/1.1 400\r\n\0", b"", b'{"error":"org.example.No"}\0'):
                connection, _ = listening.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        codes = []
        for _ in range(3):
            done = subprocess.run(
                [BIN / "vccidctl", "--socket", tmp_path / "control", "status"],
                capture_output=True, text=True, timeout=PATIENCE, check=False,
            )  # fmt: skip
            assert "Traceback" not in done.stderr
            codes.append(done.returncode)
        thread.join()
    assert codes == [1, 3, 1]


def test_a_pipe_that_nobody_reads(daemon: Daemon) -> None:
    read, write = os.pipe()
    os.close(read)
    done = daemon_status_into(daemon, write)
    os.close(write)
    assert done.returncode == 1
    assert done.stderr == b""


def daemon_status_into(daemon: Daemon, stdout: int) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [BIN / "vccidctl", "--socket", daemon.control, "status", "--json"],
        stdout=stdout, stderr=subprocess.PIPE, timeout=PATIENCE, check=False,
    )  # fmt: skip


# -- secrets -------------------------------------------------------------------------------------


def test_a_password_turns_out_to_be_needed(daemon: Daemon, pkcs12: Path) -> None:
    code, said = at_terminal(daemon, {"Password:": "locked"}, "insert", "--certs", pkcs12)
    assert code == 0, said
    assert "needs a password" in said
    assert "p12: locked" not in said and "Password: locked" not in said, "no echo"
    assert "(locked) is in" in said


def test_a_wrong_password_is_not_asked_for_again(daemon: Daemon, pkcs12: Path) -> None:
    code, said = at_terminal(daemon, {"Password:": "wrong"}, "insert", "--certs", pkcs12)
    assert code == 1, said
    assert "wrong password" in said
    assert said.count("Password:") == 1


def test_without_a_terminal_nothing_is_asked(daemon: Daemon, pkcs12: Path) -> None:
    done = daemon.run_ctl("insert", "--certs", pkcs12)
    assert done.returncode == 1
    assert "needs a password" in done.stderr
    assert "--password-file" in done.stderr
    asked = daemon.run_ctl("insert", "--certs", pkcs12, "--ask-password")
    assert asked.returncode == 1
    assert "no terminal" in asked.stderr


def test_a_new_pin_is_asked_for_twice(daemon: Daemon, database: str) -> None:
    daemon.ctl("insert", "--certs", CERTS, "--db", database)
    answers = {"New card PIN:": "87654321", "Repeat for confirmation:": "87654321"}
    code, said = at_terminal(daemon, answers, "pin", "reset", "--ask-pin")
    assert code == 0, said
    assert "87654321" not in said
    code, said = at_terminal(daemon, {"New card PIN:": "\x03"}, "pin", "reset", "--ask-pin")
    assert code == 130, said


def test_a_secret_from_standard_input(daemon: Daemon, pkcs12: Path) -> None:
    read, write = os.pipe()
    os.write(write, b"locked\n")
    os.close(write)
    done = daemon.run_ctl("insert", "--certs", pkcs12, "--password-file", "-", stdin=read)
    os.close(read)
    assert done.returncode == 0, done


# -- completion ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell: str) -> None:
    done = subprocess.run(
        [BIN / "vccidctl", "completion", shell],
        capture_output=True, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    assert "_VCCIDCTL_COMPLETE" in done.stdout
    assert done.stderr == ""


def bash_completes(daemon: Daemon, *words: str) -> list[str]:
    """What bash, with the script, offers for the last word."""
    line = " ".join(words)
    script = f"""
        eval "$(vccidctl completion bash)"
        COMP_WORDS=({line}{" ''" if words[-1] == "" else ""}) COMP_CWORD={len(words) - 1}
        _vccidctl_completion vccidctl; printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    environment: dict[str, Any] = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "VCCID_SOCKET": str(daemon.control),
    }
    done = subprocess.run(
        ["bash", "-c", script], env=environment,
        capture_output=True, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    return done.stdout.split()


def test_bash_completes_verbs_options_and_readers(daemon: Daemon) -> None:
    assert {"insert", "remove", "status"} <= set(bash_completes(daemon, "vccidctl", ""))
    assert bash_completes(daemon, "vccidctl", "insert", "--password-") == ["--password-file"]
    assert bash_completes(daemon, "vccidctl", "remove", "vcc") == ["vccid0"]
    assert bash_completes(daemon, "vccidctl", "insert", "--atr", "") == ["cac", "t1"]
