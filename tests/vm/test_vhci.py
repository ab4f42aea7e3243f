# SPDX-License-Identifier: LGPL-2.1-or-later
"""Our USB reader under a real kernel: vhci-hcd, libccid, pcscd and OpenSC decide."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.pem import make_pem

from .guest import Guest, until

PARENT = "/sys/devices/platform/vhci_hcd.0"
STATUS = f"{PARENT}/status"
ATTACH = f"{PARENT}/attach"
MODULE = "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so"
NAME = "VMware"
STAGE = "cd /src && exec python3 -m tests.vm.usb_stage"
#: What the kernel says of every full-speed device, and of a transfer that pcscd begins between
#: our unplugging and the hub's noticing it (vhci_urb_enqueue).
KERNEL_NOISE = ("vhci_device speed not set", "enqueue for inactive port")
RULE = "/etc/udev/rules.d/60-vccid.rules"
RULES = Path(__file__).parents[2] / "systemd" / "60-vccid.rules"


def ask(guest: Guest, request: str) -> str:
    """One request of the stage; its answer without the "ok"."""
    answer = guest.run(f"echo {request} | socat -t 30 - UNIX-CONNECT:/tmp/stage").text.strip()
    assert answer.startswith("ok"), answer
    return answer.removeprefix("ok").strip()


@pytest.fixture(scope="module", autouse=True)
def stage(guest: Guest, tmp_path_factory: pytest.TempPathFactory) -> None:
    guest.run("modprobe vhci-hcd")
    for number in (1, 2):
        pem = make_pem(tmp_path_factory.mktemp("card") / f"cert{number}.pem")
        guest.write(f"/tmp/cards/{number}.pem", pem.read_bytes())
    start_pcscd(guest)
    start(guest)


def start_pcscd(guest: Guest) -> None:
    guest.run(
        "LIBCCID_ifdLogLevel=7 pcscd --debug --apdu --foreground >/tmp/pcscd.log 2>&1 & "
        + until("test -S /run/pcscd/pcscd.comm")
    )


def start(guest: Guest) -> None:
    guest.run(f"({STAGE}) >/share/stage.log 2>&1 & echo $! >/tmp/stage.pid")
    guest.run(until("grep -q ready /share/stage.log"))


@pytest.fixture(autouse=True)
def clean(guest: Guest, quiet_kernel: None) -> Iterator[None]:
    """Afterwards nothing is attached and no card is in, whatever the test came to."""
    yield
    ask(guest, "reset")
    guest.run(until("! lsusb -d 0e0f:0004 >/dev/null"))
    guest.run(until(f"! opensc-tool -l | grep -q {NAME}"))


@pytest.fixture
def attached(guest: Guest) -> str:
    """A reader, without card, that pcscd has found."""
    port = ask(guest, "attach zero")
    guest.run(until("opensc-tool -l | grep -q zero"))
    return port


def test_the_device_is_what_lsusb_expects(guest: Guest, attached: str) -> None:
    shown = guest.run("lsusb -v -d 0e0f:0004")
    for pattern in (
        r"bInterfaceClass\s+11 Chip/SmartCard",
        r"bcdCCID\s+1\.10",
        r"dwFeatures\s+0004047A",
        r"Auto configuration based on ATR",
        r"Short and extended APDU level exchange",
        r"dwMaxCCIDMsgLen\s+65554",
        r"bMaxCCIDBusySlots\s+1",
        r"iSerial\s+3 5E41A1zero",
    ):
        assert re.search(pattern, shown.text), f"{pattern} in\n{shown.text}"
    # lsusb says of every revision but 1.0 that it decodes that one.
    text = shown.text.replace("(Warning: Only accurate for version 1.0)", "")
    for complaint in ("unknown", "unrecognized", "Couldn't", "Warning", "invalid", "junk"):
        assert complaint not in text + shown.errors
    assert attached == "port 0 of vhci_hcd"


@pytest.mark.parametrize(("speed", "shown"), [("high", "480M"), ("super", "5000M")])
def test_other_speeds(guest: Guest, speed: str, shown: str) -> None:
    ask(guest, "insert zero 1")
    ask(guest, f"attach zero {speed}")
    guest.run(until("opensc-tool -a | grep -q 3b:7a"))
    # Its own line: the hub's tells a speed too.
    assert re.search(f"Class=Chip/SmartCard.*, {shown}", guest.run("lsusb -t").text)


def test_opensc_signs(guest: Guest, attached: str) -> None:
    ask(guest, "insert zero 1 20")
    assert "Common Access Card" in guest.run("opensc-tool -n").text
    tested = guest.run(
        f"pkcs11-tool --module {MODULE} --login --pin 123456 --test", timeout=120
    ).text
    assert "No errors" in tested


def test_a_reader_too_slow_for_libccid_is_plugged_in_again(guest: Guest) -> None:
    """pcscd opens a reader once, and gives it 100 ms for an answer then (usb/opening.py)."""
    size = int(guest.run("stat -c %s /tmp/pcscd.log").text)
    ask(guest, "late")
    ask(guest, "insert zero 1")
    ask(guest, "attach zero")
    guest.run(until("opensc-tool -a | grep -q 3b:7a"))
    assert b"Failed adding USB device" in guest.read("/tmp/pcscd.log")[size:]
    assert "plugging it in again" in guest.run("cat /share/stage.log").text


def test_pcsc_scan_shows_the_card(guest: Guest, attached: str) -> None:
    scan = guest.start("exec pcsc_scan -n")
    scan.wait_for("Reader 0: VMware Virtual USB CCID [zero] (5E41A1zero)")
    scan.wait_for("Card removed")
    ask(guest, "insert zero 1")
    scan.wait_for("ATR: 3B 7A 18 00 00 73 66 74 65 20 63 64 31 34 34")
    scan.stop()


def test_long_answers_and_commands(guest: Guest, attached: str) -> None:
    def transmit(atr: str) -> list[int]:
        from smartcard.System import readers

        connection = readers()[0].createConnection()
        connection.connect()
        assert bytes(connection.getATR()).hex() == atr, connection.getATR()
        results = []
        for count in (1, 244, 245, 246, 256, 502, 1014, 16374, 32758, 65535, 65536):
            command = [0, 0xB0, 0, 0, 0, count >> 8 & 0xFF, count & 0xFF]
            data, sw1, sw2 = connection.transmit(command)
            assert (sw1, sw2) == (0x90, 0), (count, sw1, sw2)
            assert bytes(data) == (bytes(range(256)) * 257)[:count]
            results.append(len(data))
        for count in (1, 45, 47, 49, 16367, 65535):
            command = [0, 0xD6, 0, 0, 0, count >> 8, count & 0xFF, *([7] * count)]
            data, sw1, sw2 = connection.transmit(command)
            assert (sw1, sw2) == (0x90, 0)
            assert int.from_bytes(bytes(data), "big") == count
        return results

    for card, atr in (
        ("long", "3bf71300008131fe458031c173c021c0cd"),
        ("long-t0", "3b7a18000073667465206364313434"),
    ):
        ask(guest, f"insert zero {card} 20")
        assert guest.call(transmit, atr)[-1] == 65536
        ask(guest, "remove zero 20")


def test_a_slow_card_keeps_libccid_waiting(guest: Guest, attached: str) -> None:
    ask(guest, "insert zero slow 20")
    sent = guest.run("opensc-tool -c default -s 00:A4:00:00:02:3F:00").text
    assert "SW1=0x90" in sent
    assert "Time extension requested" in guest.run("cat /tmp/pcscd.log").text


def test_fifty_times_in_and_out(guest: Guest, attached: str) -> None:
    def rounds() -> list[int]:
        import socket

        from smartcard import scard

        def stage(request: str) -> None:
            with socket.socket(socket.AF_UNIX) as link:
                link.connect("/tmp/stage")
                link.sendall(request.encode() + b"\n")
                assert link.recv(99).strip() == b"ok True", request

        _, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)
        _, names = scard.SCardListReaders(context, [])
        seen = []
        for round_number in range(50):
            card = ("long", "long-t0")[round_number % 2]
            for request, wanted in (
                (f"insert zero {card} 20", scard.SCARD_STATE_PRESENT),
                ("remove zero 20", scard.SCARD_STATE_EMPTY),
            ):
                stage(request)
                known = scard.SCARD_STATE_UNAWARE
                for _ in range(20):
                    _, states = scard.SCardGetStatusChange(context, 5000, [(names[0], known)])
                    known = states[0][1]
                    if known & wanted:
                        break
                assert known & wanted, (round_number, request, known)
            seen.append(known >> 16)
        return seen

    assert len(guest.call(rounds, timeout=300)) == 50


def test_an_exchange_is_noticed_however_quick(guest: Guest, attached: str) -> None:
    ask(guest, "insert zero long 20")
    guest.run("opensc-tool -a | grep -q 3b:f7")
    ask(guest, "remove zero")
    ask(guest, "insert zero 1 20")
    guest.run(until("opensc-tool -a | grep -q 3b:7a"))


def test_two_readers_with_different_cards(guest: Guest, attached: str) -> None:
    ask(guest, "attach one")
    ask(guest, "insert zero 1")
    ask(guest, "insert one long")
    guest.run(until("test $(opensc-tool -l | grep -c 'VMware.*Yes\\|Yes.*VMware') = 2"))
    atrs = {guest.run(f"opensc-tool -r {number} -a").text.split()[0] for number in (0, 1)}
    assert {atr[:5] for atr in atrs} == {"3b:7a", "3b:f7"}


def test_two_slots_in_one_device(guest: Guest) -> None:
    ask(guest, "insert one long")
    ask(guest, "attach zero,one")
    guest.run(until("test $(opensc-tool -l | grep -c VMware) = 2"))
    guest.run(until("opensc-tool -l | grep -q '^1 *Yes'"))
    ask(guest, "insert zero 1")
    guest.run(until("opensc-tool -l | grep -q '^0 *Yes'"))
    assert guest.run("opensc-tool -r 0 -a").text.startswith("3b:7a")
    assert guest.run("opensc-tool -r 1 -a").text.startswith("3b:f7")


def test_a_pin_is_typed_at_the_reader(guest: Guest) -> None:
    ask(guest, "insert zero 1")
    ask(guest, "attach zero full pad")
    guest.run(until("opensc-tool -l | grep -q 'Yes *PIN pad'"))
    guest.write("/tmp/opensc.conf", "app default { enable_pinpad = true; }\n")
    test = f"OPENSC_CONF=/tmp/opensc.conf pkcs11-tool --module {MODULE} --login --sign"
    test += " --mechanism SHA256-RSA-PKCS --input-file /etc/hostname --output-file /tmp/signature"
    asked = guest.start(f"{test} </dev/null 2>&1", timeout=60)
    assert ask(guest, "pin zero 123456") == "current"
    assert asked.wait(60).code == 0
    refused = guest.start(f"{test} </dev/null 2>&1", timeout=60)
    assert ask(guest, "pin zero cancel") == "current"
    assert refused.wait(60).code != 0


@pytest.mark.parametrize("names", [["zero"], ["zero", "one"]], ids=["one", "two"])
def test_pcscd_sees_cards_leave_before_their_reader(guest: Guest, names: list[str]) -> None:
    """Both at once, and it may hang (CcidHost.leave)."""
    for name in names:
        ask(guest, f"insert {name} 1")
    ask(guest, f"attach {','.join(names)}")
    guest.run(until(f"test $(opensc-tool -l | grep -c Yes) = {len(names)}"))
    size = int(guest.run("stat -c %s /tmp/pcscd.log").text)
    ask(guest, "detach zero")
    guest.run(until(f"! opensc-tool -l | grep -q {NAME}"))
    log = guest.read("/tmp/pcscd.log")[size:].decode()
    before, _, _ = log.partition("USB Device removed")
    assert before.count("Card Removed From") == len(names)


def test_the_kernel_lets_go(guest: Guest) -> None:
    ask(guest, "attach zero")
    guest.run(until("lsusb -d 0e0f:0004"))
    assert "vhci:port 0" in ask(guest, "status")
    guest.run("usbip detach -p 0")
    guest.run(until("! lsusb -d 0e0f:0004"))
    guest.run(until("echo status | socat - UNIX-CONNECT:/tmp/stage | grep -q lost=..zero"))
    assert "hosts=[]" in ask(guest, "status")


def test_a_suspended_device_wakes_up(guest: Guest) -> None:
    """As libccid's udev rule has it: asleep while nobody has the device open."""
    guest.run("pkill -x pcscd && " + until("! pgrep -x pcscd"))
    ask(guest, "insert zero 1")
    ask(guest, "attach zero")
    guest.run(until("lsusb -d 0e0f:0004"))
    power = guest.run("dirname $(grep -l 0e0f /sys/bus/usb/devices/*/idVendor)").text.strip()
    guest.run(f"echo 0 >{power}/power/autosuspend_delay_ms; echo auto >{power}/power/control")
    guest.run(until(f"grep -q suspended {power}/power/runtime_status"))
    start_pcscd(guest)
    guest.run(until("opensc-tool -a | grep -q 3b:7a"))
    assert guest.run(f"cat {power}/power/runtime_status").text == "active\n"


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_a_dissector_finds_nothing_malformed(guest: Guest, tmp_path: Path) -> None:
    guest.run("modprobe usbmon")
    capture = guest.start("exec tcpdump -i usbmon0 -s 0 -U -w /tmp/usb.pcap")
    capture.wait_for("listening on")
    ask(guest, "attach zero")
    guest.run(until("opensc-tool -l | grep -q zero"))
    ask(guest, "insert zero 1 20")
    guest.run(f"pkcs11-tool --module {MODULE} --login --pin 123456 -O")
    ask(guest, "remove zero 20")
    capture.stop()
    guest.pull("/tmp/usb.pcap", tmp_path / "usb.pcap")
    dissect = ["tshark", "-r", str(tmp_path / "usb.pcap"), "-Y"]
    faults = "_ws.malformed || _ws.expert.severity >= 6291456"  # warnings and errors
    found = subprocess.run([*dissect, faults], capture_output=True, text=True, check=True)
    assert found.stdout == ""
    seen = subprocess.run([*dissect, "usbccid"], capture_output=True, text=True, check=True)
    assert seen.stdout.count("\n") > 50


def test_killed_in_the_middle_of_a_command(guest: Guest) -> None:
    ask(guest, "insert zero slow")
    ask(guest, "attach zero")
    guest.run(until("opensc-tool -l | grep -q Yes"))
    under_way = guest.start("opensc-tool -c default -s 00:CB:00:00:01:07", timeout=30)
    guest.run(until("grep -q 'APDU: 00 CB 00 00 01 07' /tmp/pcscd.log"))
    guest.run("kill -9 $(cat /tmp/stage.pid)")
    guest.run(until(f"grep -q 'hs *0000 *004' {STATUS}"))
    assert under_way.wait(30).code != 0
    guest.run(until("! opensc-tool -l | grep -q zero"))
    start(guest)
    ask(guest, "insert zero 1")
    ask(guest, "attach zero")
    guest.run(until("opensc-tool -a | grep -q 3b:7a"))


def test_the_stock_usbip_tool(guest: Guest) -> None:
    ask(guest, "insert one 1")
    ask(guest, "export 3240")
    listed = guest.run("usbip list -r 127.0.0.1")
    assert re.search(r"1-1: VMware.*\(0e0f:0004\)", listed.text), listed.text
    assert "1-2: " in listed.text
    guest.run("usbip attach -r 127.0.0.1 -b 1-2")
    guest.run(until("opensc-tool -a | grep -q 3b:7a"))
    assert guest.run("usbip attach -r 127.0.0.1 -b 1-2", check=False).code != 0
    assert "1-2" not in guest.run("usbip list -r 127.0.0.1").text
    assert "usbip:127.0.0.1" in ask(guest, "status")
    ask(guest, "remove one 20")
    guest.run(until("opensc-tool -l | grep -q No"))
    guest.run("usbip detach -p 0")
    guest.run(until("! lsusb -d 0e0f:0004"))
    guest.run(until("echo status | socat - UNIX-CONNECT:/tmp/stage | grep -q hosts=..\\ "))


def test_usbip_through_tls(guest: Guest, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec

    from tests.unit.frontends.tls_files import make_authority

    make_authority(tmp_path, ec.SECP256R1())
    for name in ("ca", "server", "client"):
        guest.write(f"/tmp/tls/{name}.pem", (tmp_path / f"{name}.pem").read_bytes())
    ask(guest, "insert one 1")
    ask(guest, "export 3241 /tmp/tls/server.pem /tmp/tls/ca.pem")
    tunnel = guest.start(
        "exec socat -d -d TCP-LISTEN:3240,bind=127.0.0.1,reuseaddr,fork"
        " OPENSSL:127.0.0.1:3241,commonname=localhost"
        ",cert=/tmp/tls/client.pem,cafile=/tmp/tls/ca.pem"
    )
    guest.run(until("ss -ltn | grep -q 127.0.0.1:3240"))
    attached = guest.run("usbip attach -r 127.0.0.1 -b 1-2", check=False)
    assert attached.code == 0, tunnel.output
    guest.run(until("opensc-tool -a | grep -q 3b:7a"))
    guest.run("usbip detach -p 0")
    guest.run(until("! lsusb -d 0e0f:0004"))
    tunnel.stop()


def test_without_privileges(guest: Guest) -> None:
    """The udev rule gives the file to the daemon's user, and that is all it needs.

    Its group, which may drive the daemon, could plug in a keyboard with it.
    """
    guest.run("kill $(cat /tmp/stage.pid)")
    guest.run("groupadd -f vccid; useradd -g vccid vccid; rm -rf /tmp/stage*; rmmod vhci-hcd")
    guest.write(RULE, RULES.read_bytes())
    guest.run("udevadm control --reload; modprobe vhci-hcd; udevadm settle")
    given = until(f"stat -c '%a %U' {ATTACH} | grep -q '200 vccid'")
    guest.run(f"{given} || {{ ls -l {ATTACH} {RULE}; udevadm test {PARENT}; exit 1; }}")
    member = "setpriv --reuid nobody --regid vccid --clear-groups"
    assert guest.run(f"{member} sh -c 'echo >{ATTACH}'", check=False).code != 0
    unprivileged = "setpriv --reuid vccid --regid vccid --clear-groups"
    guest.run(f"{unprivileged} sh -c '{STAGE}' >/tmp/user.log 2>&1 &")
    guest.run(until("grep -q ready /tmp/user.log"))
    ask(guest, "attach zero")
    guest.run(until("lsusb -d 0e0f:0004"))
    ask(guest, "detach zero")
    guest.run(f"chown root {ATTACH}")
    refused = guest.run("echo attach zero | socat -t 30 - UNIX-CONNECT:/tmp/stage").text
    assert re.search("failed .*attach cannot be written", refused)
    # A driver that was there before the rule: the boot's coldplug, and what the error says to do.
    for trigger in ("trigger --action=add --sysname-match=vhci_hcd.0", f"trigger {PARENT}"):
        guest.run(f"chown root {ATTACH} && udevadm {trigger} --settle")
        assert guest.run(f"stat -c '%a %U' {ATTACH}").text == "200 vccid\n"
    guest.run("rmmod vhci-hcd")
    refused = guest.run("echo attach zero | socat -t 30 - UNIX-CONNECT:/tmp/stage").text
    assert re.search("failed .*not loaded", refused)
