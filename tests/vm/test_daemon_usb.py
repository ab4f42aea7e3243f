# SPDX-License-Identifier: LGPL-2.1-or-later
"""The real daemon and vccidctl with the USB routes, under a real kernel, pcscd and libccid."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conversations.doors import USBIP, VHCI
from tests.peers.libcacard import make_database

from .conversations import Record, converse, converse_with_piv, give_piv
from .guest import Guest, until

PIN = "123456"
MODULE = "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so"
#: As in test_vhci, of an answer on its way to a daemon that is killed, and of pcscd, which goes on
#: with a device whose port was reset under it.
KERNEL_NOISE = ("vhci_device speed not set", "enqueue for inactive port", "sendmsg failed")
KERNEL_NOISE += (r"\(pcscd\) did not claim interface 0 before use",)
CARD = "--certs cert1,cert2,cert3 --db sql:/etc/pki/nssdb"
HANDS = ("vccidctl remove vccid0", f"vccidctl insert vccid0 {CARD}")
#: Another card: what is done to the PIN of one stays with its certificates.
OTHER_CARD = "--certs cert3,cert1 --db sql:/etc/pki/nssdb"
USB = "lsusb -d 0e0f:0004 >/dev/null"
#: The reader's line, not its hub's, with the speed behind it.
TREE = "lsusb -t | grep -q 'Class=Chip/SmartCard.*, {speed}'"
SIGN = f"pkcs11-tool --module {MODULE} --login --sign --mechanism SHA256-RSA-PKCS --id 0001"
SIGN += " --input-file /etc/hostname --output-file /tmp/signature"
#: Changes the PIN at the first reader's pad: FEATURE_MODIFY_PIN_DIRECT (PC/SC part 10, 2.5.3).
CHANGE = """
from smartcard.System import readers
structure = bytes.fromhex(
    "1E1E02080000"  # both times, bmFormatString: ASCII, block and length format, old PIN at 0
    "080804030200"  # the new one at 8; 4 to 8 digits; the old first, the new twice; no message
    "000000010200000015000000"  # language, message indices, bTeoPrologue, ulDataLength
    "0024000010" + "FF" * 16
)
connection = readers()[0].createConnection()
connection.connect()
told = connection.control(0x42000D48)
features = {told[at]: bytes(told[at + 2 : at + 6]) for at in range(0, len(told), 6)}
answer = connection.control(int.from_bytes(features[7], "big"), list(structure))
assert bytes(answer) == bytes.fromhex("9000"), answer
"""
#: PIN_VERIFY_STRUCTURE (PC/SC part 10, 2.5.2), but for bTimerOut.
VERIFY = (
    "00"  # bTimerOut2
    "02"  # bmFormatString: ASCII, from the data field's first byte on
    "08"  # bmPINBlockString
    "00"  # bmPINLengthFormat
    "0804"  # wPINMaxExtraDigit: 4 to 8
    "02"  # bEntryValidationCondition
    "00"  # bNumberMessage
    "0000"  # wLangId
    "00"  # bMsgIndex
    "000000"  # bTeoPrologue
    "0D000000"  # ulDataLength
    "0020000008FFFFFFFFFFFFFFFF"
)
LOOKS = "/etc/vccid/vccid.toml.d/looks.toml"
LOOPBACK = """[usbip]
address = "127.0.0.1"
allow = []
"""
#: Gemalto's id, at 5 Gbit/s.
OTHER_LOOKS = f"""{LOOPBACK}[usb]
vendor_id = "08e6"
product_id = "4433"
speed = "super"
"""
SETTINGS = """[usbip]
address = "10.9.0.1"
allow = ["10.9.0.0/24"]
[reader.vccid0]
ifd = false
[reader.second]
ifd = false
[reader.padded]
ifd = false
pin_pad = true
[reader.double]
ifd = false
slots = 2
"""


def cards(count: int, shown: str = "Yes") -> str:
    """A command that waits until pcscd has so many USB readers with a card ("No": without)."""
    return until(f"test $(opensc-tool -l | grep -c '^[0-9]* *{shown} ') = {count}")


@pytest.fixture(scope="module")
def piv_card(guest: Guest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """As `vccidctl insert` takes it."""
    return give_piv(guest, tmp_path_factory.mktemp("piv"))


@pytest.fixture(scope="module", autouse=True)
def machine(guest: Guest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """pcscd, and a daemon of readers that only USB hosts see."""
    database = make_database(tmp_path_factory.mktemp("nss") / "db", PIN)
    guest.push(database.directory, "/etc/pki/nssdb")
    guest.write("/root/password", PIN + "\n", mode=0o600)
    guest.write("/etc/vccid/vccid.toml", SETTINGS)
    guest.run("modprobe vhci-hcd; pcscd --foreground >/tmp/pcscd.log 2>&1 &")
    start(guest)


def start(guest: Guest) -> None:
    guest.run("vccid >>/tmp/vccid.log 2>&1 & echo $! >/tmp/vccid.pid")
    guest.run(until("vccidctl status >/dev/null 2>&1"))


def kill(guest: Guest) -> None:
    guest.run("kill -9 $(cat /tmp/vccid.pid)")


def reload(guest: Guest) -> None:
    told = "grep -c 'settings read again' /tmp/vccid.log"
    more = until(f"test $({told}) -gt $before")
    guest.run(f"before=$({told}); kill -HUP $(cat /tmp/vccid.pid); {more}")


@contextlib.contextmanager
def looks(guest: Guest, settings: str) -> Iterator[None]:
    """With further settings; what is attached meanwhile keeps its looks."""
    guest.write(LOOKS, settings)
    reload(guest)
    try:
        yield
    finally:
        guest.run(f"rm {LOOKS}")
        reload(guest)


@contextlib.contextmanager
def exported(guest: Guest) -> Iterator[None]:
    """vccid0 attached to this very machine, over USB/IP."""
    guest.run("vccidctl attach usbip --reader vccid0")
    try:
        guest.run("usbip attach -r 127.0.0.1 -b 1-1")
        yield
    finally:
        guest.run("vccidctl detach usbip --reader vccid0")


def put_away() -> None:
    from vccid.ctl.client import SYSTEM_SOCKET, Client

    with Client(SYSTEM_SOCKET) as client:
        for reader in client.call("ListReaders")["readers"]:
            for frontend in reader["frontends"]:
                client.call("Detach", {"reader": reader["name"], "kind": frontend["kind"]})
            if reader["card"] or reader["real_card"]:
                client.call("Remove", {"reader": reader["name"]})


@pytest.fixture(autouse=True)
def clean(guest: Guest, quiet_kernel: None) -> Iterator[None]:
    """Afterwards every reader is empty and attached to nothing."""
    yield
    guest.call(put_away)
    guest.run(until(f"! {USB}") + " && " + until("! opensc-tool -l | grep -q VMware"))


def readers(guest: Guest) -> dict[str, dict[str, Any]]:
    listed = json.loads(guest.run("vccidctl reader list --json").text)["readers"]
    return {reader["name"]: reader for reader in listed}


def test_what_status_tells_of_a_reader_in_use(guest: Guest) -> None:
    guest.run(f"vccidctl insert vccid0 {CARD} && vccidctl attach vhci --reader vccid0")
    guest.run(cards(1))
    guest.run(f"{SIGN} --pin {PIN}")
    reader = readers(guest)["vccid0"]
    (frontend,) = reader["frontends"]
    assert (frontend["kind"], frontend["up"]) == ("vhci", True)
    assert frontend["status"] == "port 0 of vhci_hcd"
    (host,) = reader["hosts"]
    assert (host["kind"], host["peer"], host["seen"]) == ("vhci", "port 0", True)
    assert host["commands"] > 10
    # pcscd may have asked for something since.
    told = re.search(r"host of vccid0: vhci port 0, (\d+) APDUs", guest.run("vccidctl status").text)
    assert told is not None and int(told[1]) >= host["commands"]


def exchange(guest: Guest, card: str) -> None:
    """Another card into the reader that pcscd sees."""
    guest.run(f"vccidctl remove vccid0 && {cards(1, 'No')}")
    guest.run(f"vccidctl insert vccid0 {card}")


def test_every_conversation_over_vhci(guest: Guest, piv_card: str, record_property: Record) -> None:
    guest.run(f"vccidctl insert vccid0 {CARD} && vccidctl attach vhci --reader vccid0")
    converse(guest, VHCI, PIN, record_property, *HANDS)
    exchange(guest, piv_card)
    converse_with_piv(guest, VHCI, PIN, record_property)


def test_every_conversation_over_usbip(
    guest: Guest, piv_card: str, record_property: Record
) -> None:
    guest.run(f"vccidctl insert vccid0 {CARD}")
    with looks(guest, LOOPBACK), exported(guest):
        converse(guest, USBIP, PIN, record_property, *HANDS)
        exchange(guest, piv_card)
        converse_with_piv(guest, USBIP, PIN, record_property)


def test_its_own_usb_reader_is_no_real_card(guest: Guest) -> None:
    guest.run(f"vccidctl insert vccid0 {CARD} && vccidctl attach vhci --reader vccid0")
    guest.run(cards(1))
    listed = guest.run("opensc-tool -l").text.splitlines()[-1]
    name = listed[listed.index("VMware") :].strip()
    refused = guest.run(f"vccidctl insert second --reader '{name}'", check=False)
    assert f"{name} is a reader of this daemon" in refused.errors
    refused = guest.run("vccidctl insert second --hardware", check=False)
    assert "none but vccid's own" in refused.errors


def test_the_kernel_lets_go(guest: Guest) -> None:
    guest.run("vccidctl attach vhci --reader vccid0 && " + until(USB))
    guest.run("usbip detach -p 0")
    guest.run(until("vccidctl status 2>&1 | grep -q 'vccid0 is not attached to vhci: .*let go'"))
    assert readers(guest)["vccid0"]["hosts"] == []
    kill(guest)
    start(guest)
    assert readers(guest)["vccid0"]["frontends"] == []
    guest.run("vccidctl attach vhci --reader vccid0 && " + until(USB))


def test_its_port_is_reset(guest: Guest) -> None:
    """pcscd goes on with the device, and powers its card anew."""
    guest.run(f"vccidctl insert vccid0 {CARD} && vccidctl attach vhci --reader vccid0")
    guest.run(cards(1))

    def reset(device: str) -> None:
        import fcntl

        with open(device, "wb") as node:
            fcntl.ioctl(node, 0x5514)  # USBDEVFS_RESET

    device = guest.run("lsusb -d 0e0f:0004 | sed -E 's|Bus (.*) Device (.*): ID.*|\\1/\\2|'").text
    guest.call(reset, f"/dev/bus/usb/{device.strip()}")
    guest.run("dmesg | grep -q 'usb 1-1: reset full-speed USB device'")
    guest.run(until(f"{SIGN} --pin {PIN}"))
    guest.run(f"test -e /dev/bus/usb/{device.strip()}")
    (frontend,) = readers(guest)["vccid0"]["frontends"]
    assert (frontend["up"], frontend["status"]) == (True, "port 0 of vhci_hcd")


def test_killed_in_the_middle_of_its_work_all_comes_back(guest: Guest) -> None:
    guest.run(f"vccidctl insert vccid0 {CARD} && vccidctl attach vhci --reader vccid0")
    guest.run(cards(1))
    before = readers(guest)["vccid0"]["card"]["serial"]
    at_work = guest.start(f"while {SIGN} --pin {PIN}; do echo signed; done", timeout=90)
    at_work.wait_for("signed")
    kill(guest)
    at_work.wait(90)
    start(guest)
    guest.run(cards(1))
    guest.run(f"{SIGN} --pin {PIN}")
    assert readers(guest)["vccid0"]["card"]["serial"] == before


def test_no_port_is_free(guest: Guest) -> None:
    def fill() -> list[str]:
        import socket
        import subprocess
        import time
        from pathlib import Path

        sysfs = Path("/sys/devices/platform/vhci_hcd.0")

        def free() -> list[int]:
            status = "".join(path.read_text() for path in sysfs.glob("status*"))
            lines = [line.split() for line in status.splitlines()]
            return [int(line[1]) for line in lines if line[0] == "hs" and line[2] == "004"]

        def attach() -> str:
            command = ["vccidctl", "attach", "vhci", "--reader", "vccid0"]
            done = subprocess.run(command, capture_output=True, text=True)
            return done.stdout + done.stderr

        taken = []
        for port in free():
            ours, kernels = socket.socketpair()
            (sysfs / "attach").write_text(f"{port} {kernels.fileno()} 65537 2")
            kernels.close()
            taken.append(ours)
        said = [attach()]
        taken.pop().close()
        while not free():
            time.sleep(0.05)
        said.append(attach())
        for ours in taken:
            ours.close()
        while len(free()) < len(taken):
            time.sleep(0.05)
        return [str(len(taken) + 1), *said]

    ports, full, room = guest.call(fill)
    assert int(ports) > 100
    assert "no port of vhci-hcd's hs hubs is free" in full
    assert "usbip detach -p PORT" in full
    assert "attached to vhci" in room


def test_importers_from_other_networks(guest: Guest) -> None:
    """Two importers, each in a network of its own; one owner; a third that is not allowed."""
    for name, ours, theirs in (
        ("one", "10.9.0.1", "10.9.0.2"),
        ("stranger", "10.8.0.1", "10.8.0.2"),
    ):
        inside = f"ip netns exec {name}"
        guest.run(
            f"ip netns add {name} && ip link add to-{name} type veth peer name out netns {name}"
            f" && ip addr add {ours}/24 dev to-{name} && ip link set to-{name} up"
            f" && {inside} ip addr add {theirs}/24 dev out && {inside} ip link set out up"
            f" && {inside} ip route add default via {ours}"
        )
    for reader in ("vccid0", "second"):
        guest.run(f"vccidctl insert {reader} {CARD} && vccidctl attach usbip --reader {reader}")
    usbip = "usbip attach -r 10.9.0.1 -b"
    refused = guest.run("ip netns exec stranger usbip list -r 10.9.0.1", check=False)
    assert refused.code != 0
    assert "10.8.0.2 port" in guest.run("grep 'address is not allowed' /tmp/vccid.log").text
    guest.run(f"ip netns exec one {usbip} 1-1")
    # usbip itself fails where a port is taken and its device is not there yet.
    guest.run(cards(1))
    refused = guest.run(f"{usbip} 1-1", check=False)
    assert "busy" in refused.errors
    guest.run(f"{usbip} 1-2")
    guest.run(cards(2))
    peers = {host["peer"] for reader in readers(guest).values() for host in reader["hosts"]}
    assert {peer.split()[0] for peer in peers} == {"10.9.0.1", "10.9.0.2"}
    # The importer's network goes, and its half of the connection with it.
    guest.run("usbip detach -p 0; usbip detach -p 1; " + until(f"! {USB}"))
    guest.run("ip netns del one; ip netns del stranger")


def test_a_card_comes_and_goes_in_both_hosts(guest: Guest) -> None:
    """On vhci as ever, and over USB/IP as further settings have it look."""
    guest.run("vccidctl attach vhci --reader vccid0 && " + cards(1, "No"))
    with looks(guest, OTHER_LOOKS), exported(guest):
        guest.run(f"{cards(2, 'No')} && {USB} && lsusb -d 08e6:4433")
        guest.run(" && ".join(TREE.format(speed=speed) for speed in ("12M", "5000M")))
        guest.run(f"vccidctl insert vccid0 {CARD} && " + cards(2))
        hosts = readers(guest)["vccid0"]["hosts"]
        assert {(host["kind"], host["seen"]) for host in hosts} == {
            ("usbip", True),
            ("vhci", True),
        }
        guest.run("vccidctl remove vccid0 && " + cards(2, "No"))


def test_a_pin_is_typed_and_changed_on_the_pad(guest: Guest) -> None:
    guest.write("/tmp/new", "7654321\n", mode=0o600)
    guest.run(
        f"vccidctl insert padded {OTHER_CARD} --password-file /root/password"
        " --pin-file /root/password && vccidctl attach vhci --reader padded"
    )
    guest.run(cards(1))

    def typed(program: str, *pins: str) -> None:
        asked = guest.start(f"{program} </dev/null 2>&1", timeout=60)
        files = " ".join(f"--pin-file {pin}" for pin in pins)
        guest.run(f"vccidctl pin enter padded --wait=20 {files}")
        assert asked.wait(60).code == 0, asked.output

    typed(SIGN, "/root/password")
    guest.write("/tmp/change.py", CHANGE)
    typed("python3 /tmp/change.py", "/root/password", "/tmp/new", "/tmp/new")
    typed(SIGN, "/tmp/new")


def test_nobody_types_or_the_cancel_key_is_pressed(guest: Guest) -> None:
    guest.run(f"vccidctl insert padded {CARD} && vccidctl attach vhci --reader padded")
    guest.run(cards(1))

    def verify(structure: str) -> list[str]:
        import subprocess

        from smartcard.System import readers

        connection = readers()[0].createConnection()
        connection.connect()
        told = connection.control(0x42000D48)
        features = {told[at]: bytes(told[at + 2 : at + 6]) for at in range(0, len(told), 6)}
        code = int.from_bytes(features[6], "big")
        answers = []
        for seconds, end in ((1, ""), (30, "--cancel"), (30, "--pin-file=/root/password")):
            enter = ["vccidctl", "pin", "enter", "padded", "--wait=20", end]
            typing = subprocess.Popen(enter) if end else None
            answer = connection.control(code, [seconds, *bytes.fromhex(structure)])
            answers.append(bytes(answer).hex())
            assert typing is None or typing.wait(20) == 0
        return answers

    assert guest.call(verify, VERIFY) == ["6400", "6401", "9000"]


def test_two_slots_of_one_device_side_by_side(guest: Guest) -> None:
    guest.run(f"vccidctl insert double {CARD} && vccidctl insert double-2 {OTHER_CARD}")
    guest.run("vccidctl attach vhci --reader double && " + cards(2))
    assert guest.run("lsusb -d 0e0f:0004 | wc -l").text == "1\n"
    signing = [
        guest.start(f"{SIGN}.{slot} --slot-index {slot} --pin {PIN} 2>&1", timeout=90)
        for slot in (0, 1)
    ]
    assert [program.wait(90).code for program in signing] == [0, 0]


def test_readers_leave_while_the_machine_sleeps(guest: Guest) -> None:
    """As vccid-sleep.service calls it, before and after; test_sandbox has the service itself."""
    sleep = "RUNTIME_DIRECTORY=/tmp /src/systemd/vccid-sleep"
    guest.run(f"vccidctl insert vccid0 {CARD} && vccidctl attach vhci --reader vccid0")
    guest.run(cards(1))
    guest.run(f"{sleep} detach && ! {USB}")
    assert readers(guest)["vccid0"]["frontends"] == []
    guest.run(f"sed -i '1i gone' /tmp/readers && ! {sleep} attach && " + cards(1))
    # Nothing is noted any more, and a daemon that is away keeps no machine awake.
    kill(guest)
    guest.run(f"{sleep} attach")
    refused = guest.run(f"{sleep} detach", check=False)
    assert "no daemon listens" in refused.errors
    start(guest)
    guest.run(cards(1))
