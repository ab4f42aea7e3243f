# SPDX-License-Identifier: LGPL-2.1-or-later
"""TLS with certificates on both sides, to QEMU's own TLS (GnuTLS) and between two of ours."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.far import FarReaders, until
from tests.peers.vpcd import free_port
from tests.unit.fakes import FakeCard
from vccid.backends.vsc import VscListener
from vccid.frontends.dialling import Timing
from vccid.frontends.guest.vsc import VscFrontend
from vccid.links import tls
from vccid.links.transport import Endpoint, TcpAddress
from vccid.reader import Reader

TIMING = Timing(first_retry=0.05, last_retry=0.1, exchange=0.02)
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")


class Pki:
    """Two authorities; `friend` and `server` are of the first, `stranger` of the second."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for authority, names in (("ca", ("server", "friend")), ("other", ("stranger",))):
            self._openssl(
                "req",
                "-x509",
                *KEY,
                "-subj",
                f"/CN={authority}",
                "-keyout",
                f"{authority}-key.pem",
                "-out",
                f"{authority}-cert.pem",
            )
            for name in names:
                self._openssl(
                    "req",
                    *KEY,
                    "-subj",
                    f"/CN={name}",
                    "-addext",
                    "subjectAltName=IP:127.0.0.1",
                    "-keyout",
                    f"{name}-key.pem",
                    "-out",
                    f"{name}.csr",
                )
                self._openssl("x509", "-req", "-in", f"{name}.csr", "-days", "2",
                              "-CA", f"{authority}-cert.pem", "-CAkey", f"{authority}-key.pem",
                              "-copy_extensions", "copy", "-out", f"{name}-cert.pem")  # fmt: skip

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, capture_output=True)

    def endpoint(self, port: int, name: str, *, server: bool = False) -> Endpoint:
        files = tls.Files("guests", *(str(self.directory / f"{which}.pem") for which in (
            f"{name}-cert", f"{name}-key", "ca-cert")))  # fmt: skip
        return Endpoint(TcpAddress("127.0.0.1", port), tls.context(files, server=server))


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def qemu(pki: Pki, port: int) -> Iterator[None]:
    """QEMU that listens with TLS and wants a certificate of its clients."""
    process = subprocess.Popen(
        [
            *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-S"),
            *("-M", "pc", "-m", "8", "-nodefaults", "-display", "none"),
            "-object",
            f"tls-creds-x509,id=tls,dir={pki.directory},endpoint=server,verify-peer=on",
            "-chardev",
            f"socket,id=ccid0,host=127.0.0.1,port={port},server=on,wait=off,tls-creds=tls",
            *("-device", "piix3-usb-uhci", "-device", "usb-ccid"),
            *("-device", "ccid-card-passthru,chardev=ccid0"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield
    process.kill()
    process.wait()


async def test_qemu_takes_whom_its_authority_knows(pki: Pki, qemu: None, port: int) -> None:
    reader = Reader("vccid0")
    frontend = VscFrontend(reader, pki.endpoint(port, "friend"), TIMING)
    await frontend.start()
    assert await reader.wait_seen(reader.insert(FakeCard()), 10)
    await until(lambda: reader.hosts and frontend.seen == reader.generation)
    await frontend.stop()


async def test_qemu_does_not_take_a_stranger(pki: Pki, qemu: None, port: int) -> None:
    frontend = VscFrontend(Reader("vccid0"), pki.endpoint(port, "stranger"), TIMING)
    await frontend.start()
    await until(lambda: frontend.trouble and "Connect call failed" not in frontend.trouble)
    assert frontend.connections == 0
    await frontend.stop()


async def test_our_listener_takes_whom_its_authority_knows(pki: Pki, port: int) -> None:
    far = FarReaders()
    listener = VscListener(pki.endpoint(port, "server", server=True), far)
    await listener.start()
    reader = Reader("near")
    reader.insert(FakeCard())
    stranger = VscFrontend(reader, pki.endpoint(port, "stranger"), TIMING)
    await stranger.start()
    await until(lambda: stranger.trouble)
    plain = VscFrontend(reader, Endpoint(TcpAddress("127.0.0.1", port)), TIMING)
    await plain.start()
    await until(lambda: plain.trouble)
    assert far.readers == []
    await stranger.stop()
    await plain.stop()
    friend = VscFrontend(reader, pki.endpoint(port, "friend"), TIMING)
    await friend.start()
    await until(lambda: far.readers and far.readers[0].card)
    session = await far.readers[0].power_on()
    assert await session.transmit(bytes.fromhex("00A4000C")) == bytes.fromhex("00A4000C9000")
    await friend.stop()
    await until(lambda: not far.readers)
    await listener.close()
