# SPDX-License-Identifier: LGPL-2.1-or-later
"""What was written to a PIV card outlasts removal, a restart, and kill -9 at any write."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from tests.peers.desk import PIN
from tests.peers.ifd_client import Gone, IfdClient
from tests.peers.piv import SUCCESS, Issued, connect, manage
from tests.peers.stage import Stage

KILLS = 12

GET_OBJECT = bytes.fromhex("00 CB 3F FF 05 5C 03 5F FF 00 00")


def put(number: int) -> bytes:
    content = number.to_bytes(4, "big") * 50
    return bytes.fromhex("00 DB 3F FF D0 5C 03 5F FF 00 53 81 C8") + content


def number_in(answer: bytes) -> int:
    assert answer[-2:] == SUCCESS and answer[:3] == bytes.fromhex("53 81 C8"), answer.hex()
    assert answer[3:-2] == answer[3:7] * 50, "half of it was written"
    return int.from_bytes(answer[3:7], "big")


def generate(host: IfdClient) -> bytes:
    answer = host.transmit(bytes.fromhex("00 47 00 9A 05 AC 03 80 01 11 00"))
    assert answer[-2:] == SUCCESS
    return answer[:-2]


def test_removal_and_restart(tmp_path: Path) -> None:
    with Stage(tmp_path) as stage:
        ctl = stage.daemon.ctl
        ctl("insert", "--blank")
        serial = stage.daemon.ctl_json("card", "info")["card"]["serial"]
        with connect(stage) as host:
            manage(host)
            assert host.transmit(put(7)) == SUCCESS
            public = generate(host)
            wrong = bytes.fromhex("00 20 00 80 08 39 39 39 39 39 39 FF FF")
            assert host.transmit(wrong) == bytes.fromhex("63C2")
        for again in ("insert", "restart"):
            if again == "insert":
                ctl("remove")
                ctl("insert")
            else:
                stage.daemon.stop()
                stage.daemon.start()
            with connect(stage) as host:
                assert number_in(host.transmit(GET_OBJECT)) == 7
                metadata = host.transmit(bytes.fromhex("00 F7 00 9A 00"))
                assert public.partition(b"\x86\x41")[2] in metadata
                assert host.transmit(bytes.fromhex("00 20 00 80")) == bytes.fromhex("63C2")
            info = stage.daemon.ctl_json("card", "info")
            assert info["card"]["serial"] == serial
            assert [slot["source"] for slot in info["slots"]] == ["generated on the card"]
        ctl("remove")
        ctl("insert", "--blank")
        assert stage.daemon.ctl_json("card", "info")["card"]["serial"] != serial


def test_a_card_of_certificates(tmp_path: Path) -> None:
    with Stage(tmp_path) as stage:
        issued = Issued(tmp_path, "P-256", "RSA2048")
        insert = ("insert", "--card", "piv", "--certs", issued.items)
        stage.daemon.ctl(*insert)
        with connect(stage) as host:
            manage(host)
            assert host.transmit(put(1)) == SUCCESS
            generate(host)
        stage.daemon.ctl("remove")
        stage.daemon.ctl(*insert)
        slots = stage.daemon.ctl_json("card", "info")["slots"]
        assert [slot["source"] for slot in slots] == ["generated on the card", str(issued.files[1])]
        folder = tmp_path / "export"
        files = stage.daemon.ctl_json("card", "export", folder)["files"]
        names = {Path(file).name for file in files}
        assert names >= {"9a.ber", "9c.ber", "ccc.ber", "chuid.ber", "discovery.ber", "5fff00.ber"}
        assert (folder / "5fff00.ber").read_bytes()[:3] == bytes.fromhex("5381C8")
        stage.daemon.ctl("card", "reset")
        slots = stage.daemon.ctl_json("card", "info")["slots"]
        assert [slot["source"] for slot in slots] == list(map(str, issued.files))
        with connect(stage) as host:
            assert host.transmit(GET_OBJECT) == bytes.fromhex("6A82")
        stage.daemon.ctl("remove")
        stage.daemon.ctl(*insert, "--in-memory")
        with connect(stage) as host:
            manage(host)
            assert host.transmit(put(2)) == SUCCESS
        stage.daemon.ctl("remove")
        stage.daemon.ctl("insert")
        with connect(stage) as host:
            assert host.transmit(GET_OBJECT) == bytes.fromhex("6A82")


def test_pin_and_puk_reset(tmp_path: Path) -> None:
    with Stage(tmp_path) as stage:
        stage.daemon.ctl("insert", "--blank")
        (tmp_path / "puk").write_text("87654321\n")
        said = stage.daemon.ctl("pin", "reset", "--puk", "--pin-file", tmp_path / "puk")
        assert said.splitlines()[-1] == "vccid0: PUK tries: 3 left"
        with connect(stage) as host:
            unblock = bytes.fromhex("00 2C 00 80 10") + b"87654321" + b"111111\xff\xff"
            assert host.transmit(unblock) == SUCCESS
            for left in (2, 1, 0):
                answer = host.transmit(bytes.fromhex("00 20 00 80 08") + PIN.encode() + b"\xff\xff")
                assert answer == bytes((0x63, 0xC0 | left))
        assert "PIN:          card, none left: the PIN is blocked" in stage.daemon.ctl(
            "card", "info"
        )
        stage.daemon.ctl("pin", "reset")
        with connect(stage) as host:
            assert host.transmit(bytes.fromhex("00 20 00 80")) == bytes.fromhex("63C3")


@pytest.mark.timeout(300)
def test_kill_nine_at_any_write(tmp_path: Path) -> None:
    """The object is the last one that was answered, or the one on its way; the key stays."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with Stage(tmp_path) as stage:
        stage.daemon.ctl("insert", "--blank")
        with connect(stage) as host:
            manage(host)
            public = generate(host)
            assert host.transmit(put(0)) == SUCCESS
        written = 0
        for _ in range(KILLS):
            with connect(stage) as host:
                manage(host)
                for _ in range(chance.randrange(3)):
                    written += 1
                    assert host.transmit(put(written)) == SUCCESS
                host.begin(put(written + 1))
                time.sleep(chance.uniform(0, 0.004))
                stage.daemon.kill()
                try:
                    answered = host.finish() == SUCCESS
                except Gone:
                    answered = False
            stage.daemon.start()
            with connect(stage) as host:
                found = number_in(host.transmit(GET_OBJECT))
                assert found == written + 1 or (found == written and not answered)
                written = found
                metadata = host.transmit(bytes.fromhex("00 F7 00 9A 00"))
                assert public.partition(b"\x86\x41")[2] in metadata
        (kept,) = (stage.daemon.state / "cards").glob("*.piv.json")
        assert json.loads(kept.read_bytes())["version"] == 1
