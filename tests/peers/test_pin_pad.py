# SPDX-License-Identifier: LGPL-2.1-or-later
"""OpenSC asks for PINs on the reader's own pad, through pcscd and our driver."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.peers.daemon import BIN
from tests.peers.desk import OPENSC_MODULE, PIN, WRONG_PIN, Desk
from tests.peers.pcsc_client import PcscClient, PcscError
from tests.peers.pem import make_pem
from tests.peers.private_pcscd import PrivatePcscd, ReaderEntry
from tests.peers.stage import DRIVER, Stage
from tests.peers.terminal import at_terminal
from vccid.ccid.pin_entry import CONFIRMATION_FAILED
from vccid.iso7816.status import SUCCESS, tries_left

PAD = "[reader.vccid0]\npin_pad = true\n"

#: What ends an entry that was cancelled (PC/SC part 10).
CANCELLED = bytes.fromhex("6401")

#: A program that logs in on the pad: no PIN is given to it, and none is asked for.
LOG_IN = ("pkcs11-tool", "--module", OPENSC_MODULE, "--login")

#: SCardControl's codes.
GET_FEATURE_REQUEST = 0x42000D48
VERIFY_PIN_DIRECT = 0x42330006
MODIFY_PIN_DIRECT = 0x42330007

#: PIN_MODIFY_STRUCTURE, PC/SC part 10
MODIFY_STRUCTURE = bytes.fromhex(
    "1E"  # bTimerOut
    "1E"  # bTimerOut2
    "02"  # bmFormatString: ASCII
    "08"  # bmPINBlockString
    "00"  # bmPINLengthFormat
    "00"  # bInsertionOffsetOld
    "08"  # bInsertionOffsetNew
    "0804"  # wPINMaxExtraDigit: 4 to 8
    "03"  # bConfirmPIN: the old one first, the new one twice
    "02"  # bEntryValidationCondition
    "00"  # bNumberMessage
    "0000"  # wLangId
    "000102"  # bMsgIndex1 to 3
    "000000"  # bTeoPrologue
    "15000000"  # ulDataLength
    "0024000010FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"
)

PATIENCE = 30


@dataclass
class Bench:
    """A card with a PIN of its own in a reader with a pad, and the desk before it."""

    stage: Stage
    pcscd: PrivatePcscd
    desk: Desk

    @contextlib.contextmanager
    def running(self, *argv: str) -> Iterator[subprocess.Popen[bytes]]:
        """A program that will ask for a PIN; ended when the block is left."""
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            cwd=self.desk.directory, env=self.desk.env,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def says(self, *argv: str, typed: tuple[str, ...] = (), end: str = "") -> tuple[int, str]:
        """Exit status and output of a program, for which PINs are typed or the entry ended."""
        with self.running(*argv) as process:
            self.enter(*typed, end=end)
            output, _ = process.communicate(timeout=PATIENCE)
            return process.returncode, output.decode()

    def enter(self, *pins: str, end: str = "") -> None:
        """Wait until a host asks, then type."""
        options: list[str | Path] = [end] if end else []
        for number, pin in enumerate(pins):
            options += ["--pin-file", self.desk.write(f"typed-{number}", f"{pin}\n".encode())]
        shown = self.stage.daemon.ctl("pin", "enter", "--wait=15", *options)
        assert shown.startswith("vccid0: ")
        assert f"for ifd pcscd (pid {self.pcscd.pid})" in shown

    def tries(self) -> str:
        shown = self.stage.daemon.ctl("card", "info").splitlines()
        return next(line for line in shown if "PIN" in line)


def is_listed(desk: Desk, shown: list[str]) -> bool:
    return listed(desk) == shown


def listed(desk: Desk) -> list[str]:
    """OpenSC's line on the only reader: number, whether a card is in, features, name."""
    return desk.say("opensc-tool", "--list-readers").splitlines()[-1].split()


def pcscd_of(stage: Stage, name: str) -> PrivatePcscd:
    """A pcscd that writes down every APDU it sees."""
    entry = ReaderEntry("vccid vccid0", f"vccid:{stage.daemon.ifd()}", DRIVER)
    return PrivatePcscd(stage.directory / name, [entry], log_apdus=True)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    directory = tmp_path_factory.mktemp("pad")
    pem, pin = make_pem(directory / "own.pem"), directory / "pin"
    pin.write_text(f"{PIN}\n")
    with contextlib.ExitStack() as stack:
        stage = Stage(directory)
        stage.daemon.settings.write_text(PAD)
        stack.enter_context(stage)
        pcscd = stack.enter_context(pcscd_of(stage, "host"))
        stage.daemon.ctl("insert", "--certs", pem, "--pin-file", pin, "--wait")
        yield Bench(stage, pcscd, Desk(directory / "desk", pcscd.env))


@pytest.fixture
def bench(own: Bench) -> Bench:
    """The card with its PIN and all its tries."""
    pin = own.desk.write("first", f"{PIN}\n".encode())
    own.stage.daemon.ctl("pin", "reset", "--pin-file", pin)
    return own


def test_opensc_sees_the_pad(bench: Bench) -> None:
    assert listed(bench.desk)[:4] == ["0", "Yes", "PIN", "pad"]
    slots = bench.desk.say("pkcs11-tool", "--module", OPENSC_MODULE, "--list-slots")
    assert "PIN pad present" in slots


def test_a_key_is_used_with_a_pin_typed_on_the_pad(bench: Bench) -> None:
    data = bench.desk.write("data", b"signed with a PIN no program has seen")
    status, said = bench.says(
        *LOG_IN, "--sign", "--mechanism", "SHA256-RSA-PKCS", "--id", "0001",
        "--input-file", str(data), "--output-file", "signature", typed=(PIN,),
    )  # fmt: skip
    assert status == 0, said
    public = bench.desk.public_key("0001")
    bench.desk.say(
        "openssl", "dgst", "-sha256", "-verify", public,
        "-signature", bench.desk.directory / "signature", data,
    )  # fmt: skip


def test_opensc_tests_the_card_with_a_pin_typed_on_the_pad(bench: Bench) -> None:
    status, said = bench.says(*LOG_IN, "--test", typed=(PIN,))
    assert status == 0, said
    assert said.splitlines()[-1] == "No errors"


def test_a_wrong_pin_counts_and_the_last_try_blocks(bench: Bench) -> None:
    for left in ("2 left", "1 left", "none left"):
        status, said = bench.says(*LOG_IN, "--list-objects", typed=(WRONG_PIN,))
        assert status != 0 and "CKR_PIN" in said
        assert left in bench.tries()
    status, said = bench.says(*LOG_IN, "--list-objects", typed=(PIN,))
    assert status != 0 and "CKR_PIN_LOCKED" in said


def test_cancelled_and_timed_out_entries_cost_no_try(bench: Bench) -> None:
    before = bench.tries()
    status, said = bench.says(*LOG_IN, "--list-objects", end="--cancel")
    assert status != 0 and "CKR_FUNCTION_CANCELED" in said
    status, said = bench.says(*LOG_IN, "--list-objects", end="--time-out")
    assert status != 0 and "CKR_" in said
    assert bench.tries() == before
    assert bench.says(*LOG_IN, "--list-objects", typed=(PIN,))[0] == 0


def test_an_entry_outlives_what_the_driver_calls_silence(bench: Bench) -> None:
    with bench.running(*LOG_IN, "--list-objects") as process:
        # The driver gives a silent daemon up after 5 seconds.
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(6)
        bench.enter(PIN)
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    assert b"Private Key Object" in output


def test_the_card_is_removed_while_a_pin_is_asked_for(bench: Bench) -> None:
    certificate = bench.stage.directory / "own.pem"
    with bench.running(*LOG_IN, "--list-objects") as process:
        # Too short for the host: so it is known to ask, and the entry goes on.
        short = bench.desk.write("short", b"1\n")
        done = bench.stage.daemon.run_ctl("pin", "enter", "--wait=15", "--pin-file", short)
        assert done.returncode != 0 and "digits" in done.stderr
        bench.stage.daemon.ctl("remove", "--wait")
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0, output
    assert "no host asks" in bench.stage.daemon.run_ctl("pin", "enter", "--cancel").stderr
    bench.stage.daemon.ctl("insert", "--certs", certificate, "--wait")
    assert bench.says(*LOG_IN, "--list-objects", typed=(PIN,))[0] == 0


def test_opensc_leaves_a_change_of_a_cac_pin_to_programs(bench: Bench) -> None:
    """OpenSC 0.23 and later look at the new PIN's length first, and have none to look at."""
    done = bench.desk.run("pkcs15-tool", "--use-pinpad", "--change-pin")
    assert b"Invalid PIN length" in done.stdout


def test_each_prompt_is_asked_for_at_the_terminal(bench: Bench) -> None:
    host = f"ifd pcscd (pid {bench.pcscd.pid})"
    with bench.running(*LOG_IN, "--list-objects") as process:
        code, said = at_terminal(bench.stage.daemon, {"PIN:": PIN}, "pin", "enter", "--wait=15")
        assert code == 0 and f"{host} asks" in said, said
        assert PIN not in said
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    with PcscClient(bench.desk.env) as application:
        application.begin_control(MODIFY_PIN_DIRECT, MODIFY_STRUCTURE)
        answers = {"\nPIN:": PIN, "New PIN:": "87654321", "New PIN again:": "87654321"}
        code, said = at_terminal(bench.stage.daemon, answers, "pin", "enter", "--wait=15")
        assert code == 0, said
        assert application.finish() == SUCCESS


def test_what_is_typed_at_the_terminal_goes_to_no_host_that_came_later(bench: Bench) -> None:
    daemon = bench.stage.daemon
    with PcscClient(bench.desk.env) as application:
        application.begin_control(MODIFY_PIN_DIRECT, MODIFY_STRUCTURE)

        def another_asks() -> str:
            daemon.ctl("pin", "enter", "--cancel")
            assert application.finish() == CANCELLED
            application.begin_control(MODIFY_PIN_DIRECT, MODIFY_STRUCTURE)
            return "87654321"

        answers = {"\nPIN:": PIN, "New PIN:": "87654321", "New PIN again:": another_asks}
        code, said = at_terminal(daemon, answers, "pin", "enter", "--wait=15")
        assert code == 1 and "does not wait for it any more" in said, said
        assert PIN not in said
        daemon.ctl("pin", "enter", "--wait=15", "--cancel")
        assert application.finish() == CANCELLED


def test_an_interrupted_wait_types_nothing(bench: Bench, tmp_path: Path) -> None:
    daemon = bench.stage.daemon
    files = [bench.desk.write("typed-0", PIN.encode()), tmp_path / "pipe"]
    os.mkfifo(files[1])
    argv = [BIN / "vccidctl", "--socket", daemon.control, "pin", "enter", "--wait=60"]
    with subprocess.Popen(
        [*argv, "--pin-file", files[0], "--pin-file", files[0], "--pin-file", files[1]],
        stdin=subprocess.DEVNULL,
    ) as waiting:
        files[1].write_bytes(PIN.encode())  # once it is read, the call is as good as made
        time.sleep(0.5)
        waiting.send_signal(signal.SIGINT)
    assert waiting.returncode == 130
    with PcscClient(bench.desk.env) as application:
        application.begin_control(MODIFY_PIN_DIRECT, MODIFY_STRUCTURE)
        daemon.ctl("pin", "enter", "--wait=15", "--cancel")
        assert application.finish() == CANCELLED


def test_without_a_terminal_nobody_is_waited_for(bench: Bench) -> None:
    done = bench.stage.daemon.run_ctl("pin", "enter", "--wait=60")
    assert done.returncode != 0 and "no terminal" in done.stderr


@pytest.mark.parametrize(
    ("typed", "answer", "left"),
    [
        ((PIN, "87654321", "87654321"), SUCCESS, "87654321"),
        ((PIN, "87654321", "87654320"), CONFIRMATION_FAILED, PIN),
        ((WRONG_PIN, "87654321", "87654321"), tries_left(2), PIN),
    ],
    ids=["changed", "confirmation differs", "wrong PIN"],
)
def test_a_pin_is_changed_on_the_pad(
    bench: Bench, typed: tuple[str, ...], answer: bytes, left: str
) -> None:
    with PcscClient(bench.desk.env) as application:
        application.begin_control(MODIFY_PIN_DIRECT, MODIFY_STRUCTURE)
        bench.enter(*typed)
        assert application.finish() == answer
    status, said = bench.says(*LOG_IN, "--list-objects", typed=(left,))
    assert status == 0, said


def test_features_by_scardcontrol(bench: Bench) -> None:
    with PcscClient(bench.desk.env) as application:
        told = application.control(GET_FEATURE_REQUEST)
        features = {told[at]: told[at + 2 : at + 6].hex() for at in range(0, len(told), 6)}
        assert features == {
            0x12: "42330012",  # FEATURE_GET_TLV_PROPERTIES
            0x06: "42330006",  # FEATURE_VERIFY_PIN_DIRECT
            0x07: "42330007",  # FEATURE_MODIFY_PIN_DIRECT
            0x0A: "4233000a",  # FEATURE_IFD_PIN_PROPERTIES
        }
        assert (
            application.control(0x42330012)
            == bytes.fromhex(
                "0A04 00000100"  # dwMaxAPDUDataSize
                "0102 0000"  # wLcdLayout
                "0201 02"  # bEntryValidationCondition
                "0301 00"  # bTimeOut2
            )
        )
        with pytest.raises(PcscError):
            application.control(VERIFY_PIN_DIRECT, MODIFY_STRUCTURE[:18])
    assert "no host asks" in bench.stage.daemon.run_ctl("pin", "enter", "--cancel").stderr


def test_neither_pcscd_nor_the_daemon_writes_a_pin_down(bench: Bench) -> None:
    assert bench.says(*LOG_IN, "--list-objects", typed=(PIN,))[0] == 0
    seen = bench.pcscd.log.read_text(errors="replace")
    assert "APDU: 00 20 00 00 00" in seen  # it does write APDUs down
    for log in (seen.replace(" ", "").upper(), bench.stage.daemon.printed()):
        assert PIN not in log
        assert PIN.encode().hex().upper() not in log


def test_a_reload_gives_the_pad_and_takes_it_away(tmp_path: Path) -> None:
    with Stage(tmp_path) as stage:
        desk = stage.host()
        certificate = make_pem(tmp_path / "own.pem")
        stage.daemon.ctl("insert", "--certs", certificate, "--wait")
        for settings, features in (("", []), (PAD, ["PIN", "pad"]), ("", [])):
            stage.daemon.settings.write_text(settings)
            stage.daemon.signal(signal.SIGHUP)
            stage.daemon.wait_for(
                lambda: any("READY=1" in text for text in stage.daemon.new_notifications())
            )
            shown = ["0", "Yes", *features, "vccid", "vccid0", "00", "00"]
            stage.daemon.wait_for(partial(is_listed, desk, shown))
