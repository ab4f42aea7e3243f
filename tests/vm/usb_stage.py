# SPDX-License-Identifier: LGPL-2.1-or-later
"""Readers over USB without the daemon, for tests in a guest: `python3 -m tests.vm.usb_stage`.

Takes one request a connection at /tmp/stage, a line of words, and answers "ok …" or
"failed …". The cards' keys are /tmp/cards/N.pem, key and certificate in one file.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from tests.cards import RsaKey, in_thread, serial_of
from tests.unit.fakes import FakeCard
from tests.vm.late_answers import late_answers
from vccid.card.cac.cac_card import CacCard
from vccid.card.card import Card
from vccid.card.pin import CardPin
from vccid.card.state import StateStore
from vccid.errors import VccidError
from vccid.frontends.pin_pad import PinPad
from vccid.frontends.usb.usb_host import UsbReader
from vccid.frontends.usb.usbip_server import UsbIpServer, UsbIpSettings
from vccid.frontends.usb.vhci import VhciFrontend
from vccid.iso7816.atr import LIBCACARD_ATR, T1_ATR
from vccid.keys.base import Credential
from vccid.reader import Reader
from vccid.usb.descriptors import Identity, Speed

SOCKET = Path("/tmp/stage")
CARDS = Path("/tmp/cards")
PIN = b"123456"


def read_binary(command: bytes) -> bytes:
    """00 B0 with an extended Le: that many bytes; 00 D6 with an extended Lc: their number."""
    if command[1] == 0xD6:
        return (len(command) - 7).to_bytes(4, "big") + b"\x90\x00"
    count = int.from_bytes(command[5:7], "big") or 65536
    return (bytes(range(256)) * 257)[:count] + b"\x90\x00"


async def slowly(command: bytes) -> bytes:
    await asyncio.sleep(5)
    return b"\x90\x00"


def load_credential(number: str) -> Credential:
    """What stands in /tmp/cards/`number`.pem."""
    raw = (CARDS / f"{number}.pem").read_bytes()
    key = load_pem_private_key(raw, None)
    assert isinstance(key, rsa.RSAPrivateKey)
    certificate = x509.load_pem_x509_certificate(raw).public_bytes(Encoding.DER)
    return Credential(f"cert{number}", certificate, RsaKey(key), None)


class Stage:
    def __init__(self) -> None:
        self.readers = {name: Reader(name) for name in ("zero", "one")}
        self.pin_pads = {name: PinPad() for name in self.readers}
        self.attached: dict[str, VhciFrontend] = {}
        self.lost: list[str] = []
        self.exported: list[str] = []
        self.servers: list[UsbIpServer] = []

    async def serve(self) -> None:
        SOCKET.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._request, SOCKET)
        SOCKET.chmod(0o666)
        print("ready", flush=True)
        await server.serve_forever()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        words = (await reader.readline()).decode().split()
        try:
            answer = f"ok {await getattr(self, words[0])(*words[1:])}"
        except VccidError as error:
            answer = f"failed {error.message}; {error.hint}"
        writer.write(answer.encode() + b"\n")
        writer.close()

    def _usb(self, names: list[str], speed: str, pin_pad: bool) -> UsbReader:
        return UsbReader(
            names[0],
            tuple(self.readers[name] for name in names),
            Identity(serial=f"5E41A1{names[0]}", label=names[0]),
            tuple(self.pin_pads[name] if pin_pad else None for name in names),
            Speed[speed.upper()],
        )

    async def insert(self, name: str, what: str, wait: str = "0") -> str:
        """`what`: a number of a key, or one of the plain cards."""
        plain: dict[str, Callable[[], Card]] = {
            "long": lambda: FakeCard(read_binary, T1_ATR),
            "long-t0": lambda: FakeCard(read_binary, LIBCACARD_ATR),
            "slow": lambda: FakeCard(slowly),
        }
        card = plain[what]() if what in plain else await self._card(what)
        reader = self.readers[name]
        generation = reader.insert(card)
        return str(await reader.wait_seen(generation, float(wait)))

    async def _card(self, number: str) -> Card:
        # In threads, as the daemon does: checking a key takes seconds here, and libccid takes a
        # reader that is silent for 200 ms while it is opened for a broken one.
        held = [await in_thread(lambda: load_credential(number))]
        store = StateStore(Path(tempfile.mkdtemp()))
        pin = await CardPin.open(store, serial_of(held), in_thread, PIN)
        return CacCard(held, pin, in_thread)

    async def remove(self, name: str, wait: str = "0") -> str:
        reader = self.readers[name]
        return str(await reader.wait_seen(reader.remove(), float(wait)))

    async def attach(self, names: str, speed: str = "full", pin_pad: str = "") -> str:
        usb = self._usb(names.split(","), speed, bool(pin_pad))
        frontend = VhciFrontend(usb, lambda: self.lost.append(usb.name))
        await frontend.start()
        self.attached[usb.name] = frontend
        return frontend.status

    async def detach(self, name: str) -> str:
        frontend = self.attached.pop(name)
        await frontend.stop()
        return frontend.status

    async def late(self) -> str:
        """Of what is attached next, the second and third answer: too late for libccid."""
        late_answers().__enter__()
        return ""

    async def status(self) -> str:
        hosts = [f"{h.kind}:{h.peer}" for r in self.readers.values() for h in r.hosts]
        return f"hosts={sorted(hosts)} lost={self.lost}"

    async def export(self, port: str, certificate: str = "", authority: str = "") -> str:
        tls = None
        if certificate:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority)
            tls.verify_mode = ssl.CERT_REQUIRED
            tls.load_cert_chain(certificate)
        server = UsbIpServer(
            lambda: {
                f"1-{number}": self._usb([name], "full", False)
                for number, name in enumerate(self.readers, start=1)
            },
            UsbIpSettings(port=int(port), tls=tls),
        )
        await server.start()
        self.servers.append(server)
        return ""

    async def unexport(self) -> str:
        while self.servers:
            await self.servers.pop().stop()
        return ""

    async def reset(self) -> str:
        """Everything out and away, for the next test."""
        for name in tuple(self.attached):
            await self.detach(name)
        await self.unexport()
        for reader in self.readers.values():
            if reader.card is not None:
                reader.remove()
        self.lost.clear()
        return ""

    async def pin(self, name: str, *pins: str) -> str:
        pad = self.pin_pads[name]
        entry = await pad.wait_asked(20)
        if pins == ("cancel",):
            entry.cancel()
        else:
            entry.enter(pins)
        return ",".join(entry.request.prompts)


if __name__ == "__main__":
    sys.exit(asyncio.run(Stage().serve()))
