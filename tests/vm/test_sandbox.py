# SPDX-License-Identifier: LGPL-2.1-or-later
"""All that vccid does, inside its unit: sandbox, seccomp filter and AppArmor profile enforced.

What the filter refuses ends the daemon here, and what the profile refuses is in the kernel's
log, which is read after each test. pcscd is shut in as Debian 13 has it.
"""

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.peers.libcacard import make_database
from tests.peers.pem import make_pem

from .conftest import MakeGuest
from .guest import Guest, GuestOptions, refusals, until
from .installation import SHARE_DATABASE, install

PASSWORD = "24681357"
PIN = "4711"
ATTACH = "/sys/devices/platform/vhci_hcd.0/attach"
SYSTEMD_MOST_EXPOSED = 1.5
DROP_IN = """[Service]
SystemCallErrorNumber=kill
# GLib, which OpenSC's module brings, asks for this, is refused by the unit, and does without.
SystemCallFilter=sched_setattr
LoadCredential=vccid.password.nssdb:/root/password
"""
#: pcscd.service of Debian 13; PrivateUsers=identity there, which systemd 252 does not know.
PCSCD = """[Service]
ProtectProc=invisible
CapabilityBoundingSet=
NoNewPrivileges=yes
UMask=0077
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateUsers=yes
ProtectHostname=yes
ProtectClock=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
RestrictNamespaces=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallFilter=@system-service
SystemCallFilter=~@resources @privileged
SystemCallArchitectures=native
"""
#: Readers here belong to another daemon, so that ours has a real card to follow.
REAL = """FRIENDLYNAME "vccid real"
DEVICENAME vccid:/run/real/real.ifd
LIBPATH /usr/lib/pcsc/drivers/serial/libifdvccid.so
"""
SETTINGS = """[far_cards]
listen = "127.0.0.1:2001"
[reader.usb]
[reader.guest]
[reader.token]
[reader.follower]
"""
#: Selects the CAC's ID applet at a device node.
SELECT = """
import os
node = os.open("/dev/vccid/usb", os.O_RDWR)
os.write(node, bytes.fromhex("00A4040007A0000000790100"))
print(os.read(node, 300).hex())
"""
#: Says what its one connection sends first.
QEMU = "socat -u -T 60 UNIX-LISTEN:/run/qemu.sock,mode=666 OPEN:/tmp/said,creat,trunc"
KERNEL_NOISE = ("vhci_device speed not set", "enqueue for inactive port")
LETTER = "/home/alice/letter"
REFUSED_ON_PURPOSE = (LETTER,)

pytestmark = pytest.mark.usefixtures("nothing_refused")


@pytest.fixture(scope="module")
def guest(make_guest: MakeGuest, tmp_path_factory: pytest.TempPathFactory) -> Guest:
    """A machine with vccid installed and running, and three certificates behind a password."""
    guest = make_guest(GuestOptions(systemd=True, refusals=True))
    database = make_database(tmp_path_factory.mktemp("nss") / "db", PASSWORD)
    guest.push(database.directory, "/etc/pki/nssdb")
    guest.write("/root/password", PASSWORD + "\n", mode=0o600)
    guest.write("/root/pin", PIN + "\n", mode=0o600)
    install(guest)
    guest.run(SHARE_DATABASE)
    guest.write("/etc/vccid/vccid.toml", SETTINGS)
    guest.write("/run/systemd/system/vccid.service.d/test.conf", DROP_IN)
    guest.write("/run/systemd/system/pcscd.service.d/debian13.conf", PCSCD)
    guest.write("/etc/reader.conf.d/real", REAL)
    guest.run("systemctl daemon-reload && systemctl start vccid")
    return guest


@pytest.fixture(scope="module")
def member(guest: Guest) -> str:
    """What runs a command as a member of group vccid."""
    guest.run("useradd --create-home --groups vccid alice")
    return "runuser -u alice --"


@pytest.fixture(scope="module")
def in_usb(guest: Guest) -> None:
    """A card in reader "usb"."""
    guest.run("vccidctl insert usb --certs cert1 --pin-file /root/pin")


@pytest.fixture(scope="module")
def vhci(guest: Guest) -> None:
    """vhci-hcd, which comes after the daemon, whose sandbox was made without it."""
    guest.run("modprobe vhci-hcd && udevadm settle")


def main_pid(guest: Guest) -> int:
    return int(guest.run("systemctl show --property MainPID --value vccid").text)


def cards(guest: Guest) -> set[str]:
    """The readers that hold a card."""
    readers = json.loads(guest.run("vccidctl --json reader list").text)["readers"]
    return {reader["name"] for reader in readers if reader["card"] is not None}


def sign(guest: Guest, reader: str, pin: str) -> None:
    """OpenSC signs, through pcscd, with the card in a reader."""
    shown = guest.run(until(f"opensc-tool -l | grep 'Yes.*{reader}'")).text
    slot = re.match(r"(\d+)", shown)
    assert slot is not None, shown
    signing = "pkcs15-crypt --sign --sha-256 --pkcs1 --key 0001 --raw"
    guest.run("openssl dgst -sha256 -binary -out /tmp/digest /etc/hostname")
    guest.run(
        f"{signing} --reader {slot[1]} --pin {pin} --input /tmp/digest --output /tmp/signature"
        f" && pkcs15-tool --reader {slot[1]} --read-public-key 0001 -o /tmp/public.pem"
        " && openssl dgst -sha256 -verify /tmp/public.pem -signature /tmp/signature /etc/hostname"
    )


def restart(guest: Guest) -> None:
    """Restart the daemon, and wait for the card in vccid0."""
    guest.run("systemctl restart vccid && " + until("vccidctl card info vccid0 >/dev/null"))


def pin_kind(guest: Guest) -> str:
    """Whose PIN the card in vccid0 asks for."""
    info = json.loads(guest.run("vccidctl --json card info vccid0").text)
    return str(info["card"]["pin"])


def test_it_is_confined(guest: Guest) -> None:
    pid = main_pid(guest)
    assert guest.run(f"cat /proc/{pid}/attr/current").text.strip() == "vccid (enforce)"
    status = guest.run(f"cat /proc/{pid}/status").text
    for line in ("NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000"):
        assert line in status
    assert guest.run("cat /sys/fs/cgroup/system.slice/vccid.service/memory.swap.max").text == "0\n"
    security = guest.run("systemd-analyze security vccid.service --no-pager").text
    level = re.search(r"Overall exposure level for vccid\.service: ([\d.]+)", security)
    assert level is not None, security
    assert float(level[1]) <= SYSTEMD_MOST_EXPOSED, security


def test_a_password_comes_as_a_credential(guest: Guest, quiet_kernel: None) -> None:
    """The card has a PIN of its own, which counts where something else opens the database."""
    guest.run("vccidctl insert vccid0 --certs cert1,cert2,cert3 --pin-file /root/pin")
    sign(guest, "vccid0", PIN)
    restart(guest)
    assert pin_kind(guest) == "card"
    sign(guest, "vccid0", PIN)
    guest.run("mv /run/systemd/system/vccid.service.d/test.conf /root && systemctl daemon-reload")
    restart(guest)
    assert pin_kind(guest) == "token"
    guest.run("mv /root/test.conf /run/systemd/system/vccid.service.d && systemctl daemon-reload")
    restart(guest)


def test_the_driver_s_socket_is_all_that_pcscd_gets(guest: Guest, in_usb: None) -> None:
    guest.run("opensc-tool -l")
    pcscd = int(guest.run("systemctl show --property MainPID --value pcscd").text)
    within = f"nsenter --target {pcscd} --mount --"
    guest.run(f"{within} test -S /run/vccid/vccid0.ifd")
    for command in ("touch /run/vccid/x", "ls /var/lib/vccid", "cat /run/vccid/lock"):
        unprivileged = f"{within} setpriv --bounding-set=-all --inh-caps=-all {command}"
        assert guest.run(unprivileged, check=False).code != 0, command
    modes = guest.run("stat -c '%a %U %n' /run/vccid/* /var/lib/vccid /var/lib/vccid/*").text
    for line in (
        "666 vccid /run/vccid/control",
        "600 vccid /run/vccid/lock",
        "666 vccid /run/vccid/vccid0.ifd",
        "700 vccid /var/lib/vccid",
        "700 vccid /var/lib/vccid/cards",
        "600 vccid /var/lib/vccid/lock",
        "600 vccid /var/lib/vccid/readers.json",
    ):
        assert f"{line}\n" in modes
    # Who is neither pcscd nor root connects, and is hung up on.
    stranger = "runuser -u nobody -- socat -u UNIX-CONNECT:/run/vccid/vccid0.ifd -"
    assert guest.run(stranger, check=False, timeout=60).text == ""
    assert "was refused on /run/vccid/vccid0.ifd" in guest.run("journalctl -u vccid").text


def test_this_host_s_usb(
    guest: Guest, member: str, vhci: None, in_usb: None, quiet_kernel: None
) -> None:
    guest.run(f"{member} vccidctl attach vhci --reader usb")
    sign(guest, "VMware.*usb", PIN)
    refused = guest.run(f"{member} sh -c 'echo 0 >{ATTACH}'", check=False)
    assert "Permission denied" in refused.errors
    guest.run("vccidctl detach vhci --reader usb && " + until("! lsusb -d 0e0f:0004"))


def test_readers_leave_while_the_machine_sleeps(
    guest: Guest, vhci: None, in_usb: None, quiet_kernel: None
) -> None:
    """A suspend that stops short of devices: the guest's 9p would not come back from more."""
    guest.run("systemctl enable vccid-sleep")
    guest.run("vccidctl attach vhci --reader usb && " + until("lsusb -d 0e0f:0004"))
    guest.run("echo 1 >/sys/module/suspend/parameters/pm_test_delay")
    guest.run("echo freezer >/sys/power/pm_test")
    # One that went meanwhile, so cannot be detached, keeps neither others nor the machine.
    gone = 'names.insert(0, "gone")'
    guest.run(f"sed -i '/asleep.write_text/i\\    {gone}' /usr/lib/vccid/vccid-sleep")
    guest.run("systemctl start suspend.target")
    assert guest.run("systemctl show -P Result systemd-suspend").text == "success\n"
    guest.run(until("lsusb -d 0e0f:0004"))
    log = guest.run("journalctl -o cat -u vccid -u systemd-suspend").text
    order = ("host-detached vhci", "Entering sleep", "returned from sleep", "host-attached vhci")
    assert re.search(".*".join(order), log, re.DOTALL), log
    said = guest.run("journalctl -o cat -u vccid-sleep").text
    assert "vccid-sleep: gone: " in said, said
    guest.run("vccidctl detach vhci --reader usb && " + until("! lsusb -d 0e0f:0004"))


def test_usb_ip(guest: Guest, vhci: None, in_usb: None, quiet_kernel: None) -> None:
    guest.run("vccidctl attach usbip --reader usb")
    assert "0e0f:0004" in guest.run("usbip list -r 127.0.0.1").text
    guest.run("usbip attach -r 127.0.0.1 -b 1-1")
    sign(guest, "VMware.*usb", PIN)
    guest.run("usbip detach -p 0 && " + until("! lsusb -d 0e0f:0004"))
    guest.run("vccidctl detach usbip --reader usb")


def test_usb_ip_beyond_this_host(guest: Guest, in_usb: None, quiet_kernel: None) -> None:
    """The unit lets loopback through alone, until a drop-in names the network too."""
    guest.run(
        "ip netns add far && ip link add near0 type veth peer name far0 netns far"
        " && ip address add 10.9.0.1/24 dev near0 && ip link set near0 up"
        " && ip -n far address add 10.9.0.2/24 dev far0 && ip -n far link set far0 up"
    )
    settings = "/etc/vccid/vccid.toml.d/far.toml"
    drop_in = "/run/systemd/system/vccid.service.d/far.conf"
    guest.write(settings, '[usbip]\naddress = "10.9.0.1"\nallow = ["10.9.0.0/24"]\n')
    guest.run("systemctl reload vccid && vccidctl attach usbip --reader usb")
    guest.run(until("ss -ltn | grep -q 10.9.0.1:3240"))
    call = "ip netns exec far socat -u OPEN:/dev/null TCP:10.9.0.1:3240,connect-timeout=2"
    # Not "refused": somebody listens, whom the kernel lets nothing through to.
    assert "timed out" in guest.run(call, check=False).errors
    guest.write(drop_in, "[Service]\nIPAddressAllow=10.9.0.0/24\n")
    guest.run("systemctl daemon-reload && systemctl restart vccid")
    # What was attached comes back only behind the unit's readiness.
    guest.run(until("ip netns exec far timeout 20 usbip list -r 10.9.0.1 | grep -q 0e0f:0004"))
    guest.run(
        f"vccidctl detach usbip --reader usb && rm {settings} {drop_in}"
        " && systemctl daemon-reload && systemctl reload vccid && ip netns delete far"
    )


def test_device_nodes(guest: Guest, member: str, in_usb: None) -> None:
    guest.run("modprobe cuse && udevadm settle")
    assert guest.run("stat -c '%a %U' /dev/cuse").text == "600 vccid\n"
    refused = guest.run(f"{member} sh -c ': <>/dev/cuse'", check=False)
    assert "Permission denied" in refused.errors
    guest.run("vccidctl attach cuse --reader usb")
    assert guest.run("stat -c '%a %U %G' /dev/vccid/usb").text == "660 root vccid\n"
    answer = guest.run(f"{member} python3 -", stdin=SELECT.encode()).text.strip()
    assert re.search("(61..|9000)$", answer)
    guest.run("vccidctl detach cuse --reader usb")
    # Of the devices of this machine the daemon sees no other, by name or by number.
    within = f"nsenter --target {main_pid(guest)} --mount --"
    guest.run(f"{within} test -c /dev/cuse")
    assert guest.run(f"{within} test -e /dev/vda", check=False).code != 0


def test_a_terminal(guest: Guest, member: str, quiet_kernel: None) -> None:
    guest.run("vccidctl attach pty --reader usb")
    terminal = "/run/vccid/usb.tty"
    assert guest.run(f"stat --dereference -c '%a %U %G' {terminal}").text == "660 vccid vccid\n"
    guest.run(f"{member} sh -c ': <>{terminal}'")
    refused = guest.run(f"runuser -u nobody -- sh -c ': <>{terminal}'", check=False)
    assert "Permission denied" in refused.errors
    guest.run("vccidctl detach pty --reader usb")


def test_guests_and_far_cards(guest: Guest, in_usb: None, quiet_kernel: None) -> None:
    """vsc dials this very daemon, which listens for far cards: both sides of the protocol."""
    guest.run("vccidctl attach vsc 127.0.0.1:2001 --reader usb")
    guest.run(until("vccidctl card info far0"))
    guest.run("vccidctl detach vsc 127.0.0.1:2001 --reader usb")
    guest.run(until("! vccidctl reader list | grep far0"))

    guest.run("vccidctl attach usbredir --listen /run/vccid/guest.sock --reader guest")
    assert guest.run("stat -c %a /run/vccid/guest.sock").text == "600\n"
    hello = guest.run("timeout 20 socat -u UNIX-CONNECT:/run/vccid/guest.sock - | head -c 76")
    assert b"vccid" in hello.stdout
    guest.run("vccidctl detach usbredir --listen /run/vccid/guest.sock --reader guest")

    qemu = guest.start(QEMU)
    guest.run(until("test -S /run/qemu.sock"))
    guest.run("vccidctl attach usbredir /run/qemu.sock --reader guest")
    guest.run(until("grep -q vccid /tmp/said"))
    guest.run("vccidctl detach usbredir /run/qemu.sock --reader guest")
    qemu.wait(60)


def test_a_softhsm_token(guest: Guest, vhci: None, quiet_kernel: None, tmp_path: Path) -> None:
    guest.write("/root/token.pem", make_pem(tmp_path / "token.pem").read_bytes())
    guest.run("usermod --append --groups softhsm vccid && systemctl restart vccid")
    init = "softhsm2-util --init-token --free --label box --so-pin 12345678 --pin 24680"
    write = "pkcs11-tool --module /usr/lib/softhsm/libsofthsm2.so --token-label box --login"
    write += " --pin 24680 --id 01 --label id"
    guest.run(
        f"umask 007 && {init} && openssl x509 -in /root/token.pem -outform DER -out /root/c.der"
        " && openssl pkey -in /root/token.pem -outform DER -out /root/k.der"
        f" && {write} --write-object /root/k.der --type privkey --usage-sign --usage-decrypt"
        f" && {write} --write-object /root/c.der --type cert"
        " && chgrp -R softhsm /var/lib/softhsm/tokens && chmod -R g+rwX /var/lib/softhsm/tokens"
    )
    uri = shlex.quote("pkcs11:token=box;object=id?module-name=softhsm2")
    guest.run(f"vccidctl insert token --certs {uri}")
    assert "token" in cards(guest)
    guest.run("vccidctl attach vhci --reader token")
    sign(guest, "VMware.*token", "24680")
    guest.run("vccidctl detach vhci --reader token && vccidctl remove token")


def test_files_below_home(guest: Guest, member: str, quiet_kernel: None, tmp_path: Path) -> None:
    guest.write("/home/alice/id.pem", make_pem(tmp_path / "home.pem").read_bytes(), mode=0o640)
    guest.run("chgrp vccid /home/alice /home/alice/id.pem && chmod 710 /home/alice")
    guest.run("vccidctl insert token --certs /home/alice/id.pem --pin-file /root/pin")
    assert "token" in cards(guest)
    guest.run(f"vccidctl remove token && mv /home/alice/id.pem {LETTER}")
    refused = guest.run(f"vccidctl insert token --certs {LETTER}", check=False)
    assert "AppArmor does not" in refused.errors
    assert LETTER in "".join(refusals(guest))
    guest.write("/etc/apparmor.d/local/vccid", f"{LETTER} r,\n")
    guest.run("apparmor_parser --replace /etc/apparmor.d/vccid")
    guest.run(f"vccidctl insert token --certs {LETTER} && vccidctl remove token")


def test_a_real_card(guest: Guest, vhci: None, tmp_path: Path) -> None:
    """The other daemon is root's, unconfined, and its card is real to ours."""
    guest.write("/root/real/vccid.toml", "[reader.real]\n[reader.vccid0]\nenabled = false\n")
    directories = "--runtime-directory /run/real --state-directory /root/real"
    other = guest.start(f"vccid {directories} --configuration-directory /root/real")
    guest.write("/root/real.pem", make_pem(tmp_path / "real.pem").read_bytes())
    control = "vccidctl --socket /run/real/control"
    guest.run(until(f"{control} insert real --certs /root/real.pem --pin-file /root/pin"))
    guest.run(until("opensc-tool -l | grep 'Yes.*real'"))
    guest.run("vccidctl insert follower --reader 'vccid real'")
    guest.run("vccidctl attach vhci --reader follower")
    sign(guest, "VMware.*follower", PIN)
    guest.run("vccidctl detach vhci --reader follower && vccidctl remove follower")
    # A card made from it, by OpenSC's module in the daemon.
    guest.run("vccidctl insert follower --hardware 'vccid real'")
    guest.run("vccidctl attach vhci --reader follower")
    sign(guest, "VMware.*follower", PIN)
    guest.run("vccidctl detach vhci --reader follower && vccidctl remove follower")
    other.stop()


def test_reload_and_stop(guest: Guest) -> None:
    before = main_pid(guest)
    guest.run("systemctl reload vccid && vccidctl status")
    assert main_pid(guest) == before
    guest.run("systemctl stop vccid.socket vccid.service")
    assert guest.run("systemctl show --property Result --value vccid").text == "success\n"
    guest.run("systemctl start vccid.socket vccid.service")
