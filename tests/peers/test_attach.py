# SPDX-License-Identifier: LGPL-2.1-or-later
"""vccidctl attach and detach on the real daemon; USB/IP listed by Linux's own usbip tool."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.daemon import Daemon, make_nss_database

USBIP = shutil.which("usbip", path="/usr/sbin:/sbin:/usr/bin") or "usbip"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def usbip_list(port: int) -> str:
    done = subprocess.run(
        [USBIP, "--tcp-port", str(port), "list", "-r", "127.0.0.1"],
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def daemon(tmp_path: Path, port: int) -> Iterator[Daemon]:
    with Daemon(tmp_path / "vccid", settings=f"[usbip]\nport = {port}\n") as running:
        yield running


def attachments(daemon: Daemon, reader: str = "vccid0") -> dict[str, bool]:
    return {f["kind"]: f["up"] for f in daemon.reader(reader)["frontends"]}


def test_usbip_exports_only_what_is_attached(daemon: Daemon, port: int) -> None:
    daemon.ctl("reader", "add", "second")
    daemon.ctl("attach", "usbip")
    listed = usbip_list(port)
    assert "1-1: VMware, Inc. : Virtual CCID (0e0f:0004)" in listed
    assert "/vccid/vccid0" in listed and "second" not in listed
    daemon.ctl("attach", "usbip", "--reader", "second")
    assert "/vccid/second" in usbip_list(port)
    daemon.ctl("detach", "usbip")
    assert "/vccid/vccid0" not in usbip_list(port)
    daemon.ctl("detach", "usbip", "--reader", "second")
    with socket.socket() as nobody:
        assert nobody.connect_ex(("127.0.0.1", port)) != 0


def test_what_was_attached_is_attached_again_after_a_crash(daemon: Daemon, port: int) -> None:
    daemon.ctl("attach", "usbip")
    daemon.kill()
    daemon.start()
    daemon.wait_for(lambda: attachments(daemon).get("usbip") is True)
    assert "/vccid/vccid0" in usbip_list(port)


def test_what_cannot_be_attached_again_is_told_and_kept(tmp_path: Path, port: int) -> None:
    with Daemon(tmp_path / "vccid", settings=f"[usbip]\nport = {port}\n") as daemon:
        daemon.ctl("attach", "usbip")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        daemon.start()
        try:
            daemon.wait_for(lambda: attachments(daemon).get("usbip") is False)
            assert "vccid0 is not attached to usbip" in daemon.run_ctl("status").stderr
            other.close()
            daemon.ctl("attach", "usbip")
            assert attachments(daemon)["usbip"]
        finally:
            daemon.stop()


def test_twice_and_not_at_all_are_told(daemon: Daemon) -> None:
    daemon.ctl("attach", "usbip")
    again = daemon.run_ctl("attach", "usbip")
    assert again.returncode == 1 and "is attached to usbip 1-1 already" in again.stderr
    assert again.stderr.endswith("first: vccidctl detach usbip 1-1 --reader vccid0\n")
    daemon.ctl("detach", "usbip", "1-1", "--reader", "vccid0")
    never = daemon.run_ctl("detach", "vsc", "/run/nobody")
    assert never.returncode == 1 and "is not attached to vsc /run/nobody" in never.stderr


def test_who_listens_is_told_from_who_dials(daemon: Daemon, tmp_path: Path) -> None:
    guest = ("usbredir", "--listen", tmp_path / "guest")
    daemon.ctl("attach", *guest)
    again = daemon.run_ctl("attach", *guest)
    assert f"is attached to usbredir --listen {tmp_path}/guest already" in again.stderr
    assert f"vccidctl detach usbredir --listen {tmp_path}/guest --reader vccid0" in again.stderr
    dialled = daemon.run_ctl("detach", "usbredir", tmp_path / "guest")
    assert dialled.returncode == 1
    assert f"is not attached to usbredir {tmp_path}/guest" in dialled.stderr
    assert "usbredir --listen (listening)" in daemon.ctl("status")
    (frontend,) = [f for f in daemon.reader()["frontends"] if f["kind"] == "usbredir"]
    assert frontend["listen"] is True
    daemon.ctl("detach", *guest)
    never = daemon.run_ctl("detach", *guest)
    assert f"is not attached to usbredir --listen {tmp_path}/guest" in never.stderr


def test_the_reader_may_stand_where_others_have_an_address(daemon: Daemon, port: int) -> None:
    daemon.ctl("reader", "add", "second")
    daemon.ctl("attach", "usbip", "second")
    assert "usbip" in attachments(daemon, "second")
    daemon.ctl("detach", "usbip", "second")
    assert "usbip" not in attachments(daemon, "second")


def test_cuse_without_the_module_says_how_to_load_it(daemon: Daemon) -> None:
    if Path("/dev/cuse").exists():
        assert daemon.run_ctl("attach", "cuse").returncode == 0
        daemon.ctl("detach", "cuse")
        return
    done = daemon.run_ctl("attach", "cuse")
    assert done.returncode == 1
    assert "cuse is not loaded" in done.stderr and "modprobe cuse" in done.stderr
    assert "cuse" not in attachments(daemon)


def test_vhci_without_the_module_says_how_to_load_it(daemon: Daemon) -> None:
    if Path("/sys/devices/platform/vhci_hcd.0").exists():
        assert daemon.run_ctl("attach", "vhci").returncode == 0
        daemon.ctl("detach", "vhci")
        return
    done = daemon.run_ctl("attach", "vhci")
    assert done.returncode == 1
    assert "vhci-hcd is not loaded" in done.stderr and "modprobe vhci-hcd" in done.stderr
    assert "vhci" not in attachments(daemon)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["vsc"], "needs the address of the guest"),
        (["vhci", "/run/guest"], "takes no address"),
        (["vsc", "--listen", "/run/guest"], "vsc cannot listen"),
        (["vsc", "guest"], "'guest' is no address"),
        (["usbredir", "192.0.2.7:4000"], "plain TCP to 192.0.2.7:4000 would carry PINs"),
    ],
)
def test_what_attach_refuses(daemon: Daemon, words: list[str], told: str) -> None:
    done = daemon.run_ctl("attach", *words)
    assert done.returncode == 1 and told in done.stderr
    assert list(attachments(daemon)) == ["ifd"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ('address = "0.0.0.0"', "has no authentication"),
        ('address = "here"', "'here' is no IP address"),
        ('allow = ["192.0.2.0/99"]', "'192.0.2.0/99' is no IP network"),
        ('tls_key = "key.pem"', "takes three files, not all are named"),
    ],
)
def test_settings_that_would_expose_readers(tmp_path: Path, settings: str, told: str) -> None:
    with Daemon(tmp_path / "vccid", settings=f"[usbip]\n{settings}\n") as daemon:
        done = daemon.run_ctl("attach", "usbip")
        assert done.returncode == 1 and told in done.stderr


def make_authority(directory: Path) -> None:
    """An authority with a certificate for each side, as PEM files."""

    def openssl(*words: str) -> None:
        subprocess.run(
            ["openssl", *words], cwd=directory, check=True, capture_output=True, timeout=30
        )

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca")
    for side in ("server", "client"):
        (directory / "names").write_text("subjectAltName = IP:127.0.0.1\n")
        openssl(
            "req", *key, "-keyout", f"{side}.key", "-out", f"{side}.csr", "-subj", f"/CN={side}"
        )
        openssl("x509", "-req", "-in", f"{side}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                "-CAcreateserial", "-out", f"{side}.pem", "-extfile", "names")  # fmt: skip


def test_usbip_behind_tls_takes_only_a_certified_socat(tmp_path: Path, port: int) -> None:
    make_authority(tmp_path)
    settings = f"""[usbip]
        port = {port}
        tls_certificate = "{tmp_path}/server.pem"
        tls_key = "{tmp_path}/server.key"
        tls_authorities = "{tmp_path}/ca.pem"
    """
    with Daemon(tmp_path / "vccid", settings=settings) as daemon:
        daemon.ctl("attach", "usbip")
        assert "/vccid/vccid0" not in usbip_list(port)
        for extra, is_served in (("", False), (f",cert={tmp_path}/client.pem", True)):
            if is_served:
                extra += f",key={tmp_path}/client.key"
            local = free_port()
            with subprocess.Popen(
                ["socat", f"TCP-LISTEN:{local},bind=127.0.0.1,fork,reuseaddr",
                 f"OPENSSL:127.0.0.1:{port},cafile={tmp_path}/ca.pem{extra}"],
                stderr=subprocess.DEVNULL,
            ) as tunnel:  # fmt: skip
                try:
                    wait_for_port(local)
                    assert ("/vccid/vccid0" in usbip_list(local)) is is_served
                finally:
                    tunnel.terminate()


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"nobody listens at {port}")


def test_a_card_of_one_daemon_is_in_a_reader_of_another(tmp_path: Path) -> None:
    database = make_nss_database(tmp_path / "nss")
    place = tmp_path / "far"
    with (
        Daemon(tmp_path / "near", settings=f'[far_cards]\nlisten = "{place}"\n') as near,
        Daemon(tmp_path / "away") as away,
    ):
        away.ctl("insert", "--db", database, "--certs", "cert1,cert2,cert3")
        away.ctl("attach", "vsc", place)
        near.wait_for(lambda: far_card(near) is not None)
        assert near.ctl_json("card", "info", "far0")["atr"] == away.ctl_json("card", "info")["atr"]
        shown = near.ctl("status")
        assert f"listening for far cards at {place}: pid {away.pid}" in shown
        assert f"far0 is vccid0 of pid {away.pid}: 0 commands" in shown
        assert "vsc (attached (once so far))" in away.ctl("status")
        refused = near.run_ctl("reader", "remove", "far0")
        assert refused.returncode == 1 and "belongs to a far card" in refused.stderr
        away.ctl("remove")
        near.wait_for(lambda: far_card(near) is None)
        away.kill()
        near.wait_for(lambda: "far0" not in readers(near))


def readers(daemon: Daemon) -> list[str]:
    return [reader["name"] for reader in daemon.ctl_json("reader", "list")["readers"]]


def far_card(daemon: Daemon) -> object:
    return daemon.reader("far0")["card"] if "far0" in readers(daemon) else None


def test_one_device_with_two_slots(tmp_path: Path, port: int) -> None:
    """Its descriptors, as Linux's usbip imports them, are tested in a guest (tests/vm)."""
    settings = f"[usbip]\nport = {port}\n[reader.vccid0]\nslots = 2\n"
    with Daemon(tmp_path / "vccid", settings=settings) as daemon:
        database = make_nss_database(tmp_path / "nss", ["cert1"])
        daemon.ctl("insert", "vccid0-2", "--certs", "cert1", "--db", database)
        daemon.ctl("attach", "usbip")
        assert usbip_list(port).count("0e0f:0004") == 1
        assert max_slot_index(port) == 1


def max_slot_index(port: int) -> int:
    """bMaxSlotIndex of bus id 1-1, asked for over USB/IP as a kernel does."""
    with socket.create_connection(("127.0.0.1", port), 20) as server:
        server.sendall(bytes.fromhex("0111 8003 00000000") + b"1-1".ljust(32, b"\0"))
        assert server.recv(8 + 312, socket.MSG_WAITALL)[:8] == bytes.fromhex("0111 0003 00000000")
        server.sendall(
            bytes.fromhex(
                "00000001"  # USBIP_CMD_SUBMIT
                "00000001"  # seqnum
                "00010002"  # devid
                "00000001"  # direction in
                "00000000"  # ep
                "00000200"  # transfer_flags
                "000000ff"  # transfer_buffer_length
                "00000000"  # start_frame
                "ffffffff"  # number_of_packets
                "00000000"  # interval
                "80 06 0002 0000 ff00"  # GET_DESCRIPTOR(CONFIGURATION)
            )
        )
        header = server.recv(48, socket.MSG_WAITALL)
        descriptors = server.recv(int.from_bytes(header[24:28], "big"), socket.MSG_WAITALL)
    # bDescriptorType 21h, then bcdCCID and bMaxSlotIndex (CCID rev 1.1, 5.1)
    at = descriptors.index(bytes.fromhex("36 21 10 01"))
    return descriptors[at + 4]
