# SPDX-License-Identifier: LGPL-2.1-or-later
"""A PIV card: signatures and agreements a second through pcscd, with OpenSC above it and without,
beside `openssl speed`; the engine alone; new keys; and a card personalised by yubico-piv-tool.

File keys, in turns with openssl. Prints the figures as JSON (see tests.bench.__main__).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.peers.daemon import BIN
from tests.peers.desk import OPENSC_MODULE, PIN, Desk
from tests.peers.piv import Issued, connect, manage
from tests.peers.stage import Stage
from tests.unit.card.piv.host import Host, credentials, encode, piv_card
from vccid.run.generate import DEFAULT_ALGORITHM, Recipe, new_certificates

#: Turns, and seconds of each.
TURNS, SECONDS = 3, 1

#: In 9A, 9C, 9D and 9E.
KINDS = ("P-256", "P-384", "P-256", "RSA2048")

#: What openssl calls the same, and in which column of its report it stands.
SPEED = {"P-256": ("ecdsap256", 3), "P-384": ("ecdsap384", 3), "RSA2048": ("rsa2048", 3),
         "ECDH": ("ecdhp256", 3)}  # fmt: skip

#: Commands over and over, in a process of its own, since libpcsclite reads its environment once.
CLIENT = """
import sys, time
from smartcard import scard
seconds, setup, batch = float(sys.argv[1]), sys.argv[2].split(), sys.argv[3].split()
_, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)
_, readers = scard.SCardListReaders(context, [])
_, card, protocol = scard.SCardConnect(
    context, readers[0], scard.SCARD_SHARE_SHARED, scard.SCARD_PROTOCOL_T1)
def send(text):
    code, answer = scard.SCardTransmit(card, protocol, list(bytes.fromhex(text)))
    assert code == 0 and answer[-2] in (0x90, 0x61), bytes(answer).hex()
for text in setup:
    send(text)
count, start = 0, time.perf_counter()
while (spent := time.perf_counter() - start) < seconds:
    for text in batch:
        send(text)
    count += 1
print(count / spent)
"""

#: Signs as a program above OpenSC does.
PKCS11 = """
import sys, time, PyKCS11
module, pin, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
library = PyKCS11.PyKCS11Lib()
library.load(module)
session = library.openSession(library.getSlotList(tokenPresent=True)[0])
session.login(pin)
wanted = [(PyKCS11.CKA_CLASS, PyKCS11.CKO_PRIVATE_KEY), (PyKCS11.CKA_ID, (1,))]
key = session.findObjects(wanted)[0]
mechanism = PyKCS11.Mechanism(PyKCS11.CKM_ECDSA, None)
count, start = 0, time.perf_counter()
while (spent := time.perf_counter() - start) < seconds:
    session.sign(key, bytes(32), mechanism)
    count += 1
print(count / spent)
"""


def speed(name: str) -> float:
    """Operations a second by `openssl speed`."""
    algorithm, column = SPEED[name]
    done = subprocess.run(
        ["openssl", "speed", "-mr", "-seconds", str(SECONDS), algorithm],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return float(next(x for x in done.stdout.splitlines() if x[0] == "+").split(":")[column])


def use(algorithm: int, slot: int, member: int, data: bytes) -> str:
    """GENERAL AUTHENTICATE, in as many parts as it needs, in hexadecimal."""
    body = encode(0x7C, encode(0x82, b"") + encode(member, data))
    parts = []
    while len(body) > 255:
        parts.append(bytes((0x10, 0x87, algorithm, slot, 255)) + body[:255])
        body = body[255:]
    parts.append(bytes((0x00, 0x87, algorithm, slot, len(body))) + body + b"\0")
    if len(parts) > 1:
        parts.append(bytes.fromhex("00C0000000"))
    return " ".join(part.hex() for part in parts)


def figure(name: str, unit: str, ours: list[float], floors: list[float]) -> dict[str, object]:
    value, floor = statistics.median(ours), statistics.median(floors)
    return {
        "name": name, "value": round(value), "unit": unit, "floor": round(floor),
        "ratio": round(value / floor, 3), "better": "higher",
    }  # fmt: skip


def in_turns(ours: Callable[[], float], name: str) -> tuple[list[float], list[float]]:
    pairs = [(ours(), speed(name)) for _ in range(TURNS)]
    first, second = zip(*pairs, strict=True)
    return list(first), list(second)


def through_pcscd(stage: Stage, desk: Desk, issued: Issued) -> list[dict[str, object]]:
    verify = "00200080083132333435" + "36FFFF"
    point = issued.keys[3 - 1].public_key()
    encoded = point.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    cases = {
        "P-256": ("signatures", use(0x11, 0x9A, 0x81, bytes(32))),
        "P-384": ("signatures", f"{verify} {use(0x14, 0x9C, 0x81, bytes(48))}"),
        "ECDH": ("agreements", use(0x11, 0x9D, 0x85, encoded)),
        "RSA2048": ("signatures", use(0x07, 0x9E, 0x81, b"\0\1" + bytes(254))),
    }
    environment = {"PATH": os.environ["PATH"]}
    figures = []
    for name, (what, batch) in cases.items():

        def ours(batch: str = batch) -> float:
            said = desk.say(sys.executable, "-c", CLIENT, str(SECONDS), verify, batch,
                            env=environment)  # fmt: skip
            return float(said.splitlines()[-1])

        label = {"P-384": "P-384, with its PIN each time", "ECDH": "ECDH on P-256"}.get(name, name)
        label = f"PIV {what} through pcscd, {label}, median; beside: openssl speed"
        figures.append(figure(label, f"{what}/s", *in_turns(ours, name)))

    def opensc() -> float:
        said = desk.say(sys.executable, "-c", PKCS11, OPENSC_MODULE, PIN, str(SECONDS),
                        env=environment)  # fmt: skip
        return float(said.splitlines()[-1])

    label = "PIV signatures through pcscd and OpenSC, P-256, median; beside: openssl speed"
    figures.append(figure(label, "signatures/s", *in_turns(opensc, "P-256")))
    return figures


def engine() -> list[dict[str, object]]:
    """APDUs a second in one process, nothing above the card."""
    host = Host(piv_card(credentials()))
    batch = [
        bytes.fromhex(text)
        for text in (
            "00A4040009A00000030800001000 00", "00CB3FFF035C017E00", "0020008000",
            "00CB3FFF055C035FC10200", "00C0000000", "00CB3FFF055C035FC10500", "00C0000000",
        )
    ]  # fmt: skip
    rates = []
    for _ in range(TURNS):
        count, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < SECONDS:
            for command in batch:
                host.raw(command)
            count += len(batch)
        rates.append(count / spent)
    host.close()
    value = round(statistics.median(rates))
    return [{"name": "PIV engine, an OpenSC start, median", "value": value, "unit": "APDU/s"}]


def personalising(stage: Stage, desk: Desk) -> list[dict[str, object]]:
    """Milliseconds for a key on the card, and for a whole card by yubico-piv-tool."""
    figures: list[dict[str, object]] = []
    with connect(stage, "blank") as host:
        manage(host)
        for name, algorithm in (("P-256", "11"), ("RSA-2048", "07")):
            spent = []
            for _ in range(9):
                start = time.perf_counter()
                host.transmit(bytes.fromhex(f"00 47 00 9A 05 AC 03 80 01 {algorithm} 00"))
                spent.append(1000 * (time.perf_counter() - start))
            value = round(statistics.median(spent), 1)
            name = f"PIV GENERATE of a {name} key, written to the disk, median of 9"
            figures.append({"name": name, "value": value, "unit": "ms"})
    start = time.perf_counter()
    desk.say("yubico-piv-tool", "-r", "blank", "-a", "set-chuid", "-a", "set-ccc")
    for slot in ("9a", "9c", "9d", "9e"):
        public, cert = desk.directory / f"{slot}.pub", desk.directory / f"{slot}.pem"
        desk.say("yubico-piv-tool", "-r", "blank", "-a", "generate", "-s", slot, "-A", "ECCP256",
                 "-o", public)  # fmt: skip
        desk.say("sh", "-c", f"openssl req -x509 -newkey rsa:1024 -nodes -keyout /dev/null"
                 f" -subj /CN={slot} -out {cert} 2>/dev/null")  # fmt: skip
        desk.say("yubico-piv-tool", "-r", "blank", "-a", "import-certificate", "-s", slot,
                 "-i", cert)  # fmt: skip
    value = round(time.perf_counter() - start, 2)
    name = "a whole PIV card by yubico-piv-tool: 4 keys, 4 certificates, CHUID, CCC"
    figures.append({"name": name, "value": value, "unit": "s"})
    return figures


def new_cards() -> list[dict[str, object]]:
    """Milliseconds for the certificates of `vccid run --generate`, and for all of it."""
    figures: list[dict[str, object]] = []
    for card in ("cac", "piv"):
        recipe = Recipe(card, DEFAULT_ALGORITHM[card])
        run = [str(BIN / "vccid"), "run", "--generate", "--card", card, "--", "true"]
        for what, work in (
            ("keys and certificates of a new card", partial(new_certificates, recipe)),
            ("`vccid run --generate`, a card in and out", partial(subprocess.run, run, check=True)),
        ):
            spent = []
            for _ in range(9):
                start = time.perf_counter()
                work()
                spent.append(1000 * (time.perf_counter() - start))
            name = f"{what}, {card}, {recipe.algorithm}, median of 9"
            figures.append({"name": name, "value": round(statistics.median(spent)), "unit": "ms"})
    return figures


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="vccid-bench-") as name, Stage(Path(name)) as stage:
        issued, pin = Issued(Path(name), *KINDS), Path(name) / "pin"
        pin.write_text(f"{PIN}\n")
        desk = stage.host()
        card = ("--card", "piv", "--certs", issued.items, "--pin-file", pin)
        stage.daemon.ctl("insert", *card, "--wait")
        figures = through_pcscd(stage, desk, issued) + engine()
        stage.daemon.ctl("reader", "add", "blank")
        other = stage.host("other", "blank")
        stage.daemon.ctl("insert", "blank", "--blank", "--wait")
        figures += personalising(stage, other)
    figures += new_cards()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
