# SPDX-License-Identifier: LGPL-2.1-or-later
"""atheris over secure messaging and over the Management application of a YubiKey's double.

python -m tests.fuzz.fuzz_secure_messaging -runs=10000000 -max_len=600

An input spoils what a host with keys has protected, or is commands as they come. Only what was
not spoilt may be answered under secure messaging, and whatever comes is answered with a status
word that there is.
"""

import sys

import atheris

with atheris.instrument_imports(include=["vccid.card", "vccid.iso7816"]):
    from tests.unit.card.piv.host import NOW, Host, piv_card
    from vccid.card import pin as card_pin
    from vccid.card.piv.choices import Choices
    from vccid.card.piv.profiles import PROFILES
    from vccid.card.piv.slots import guid_of, new_contents

from tests.unit.card.piv.sm_host import SmHost, exchange

CS2 = 0x27
#: SW1 of all that a card may answer.
KNOWN = {0x61, 0x62, 0x63, 0x64, 0x65, 0x67, 0x68, 0x69, 0x6A, 0x6D, 0x6E, 0x6F, 0x90}
SELECT_MANAGEMENT = bytes.fromhex("00A4040008 A000000527471117")


class Target:
    """A card of either kind, made once; what proves or writes nothing leaves them as they are."""

    def __init__(self) -> None:
        card_pin.SCRYPT_COST = 16  # a PIN's hash costs what a run can spare
        contents = new_contents(guid_of([]), [], NOW, choices=Choices(secure_messaging="cs2"))
        self.secure = Host(piv_card(contents=contents, contactless=True))
        self.double = Host(piv_card(profile=PROFILES["yubikey-5.7"], number=1))
        self.session: SmHost | None = None

    def one_input(self, data: bytes) -> None:
        """The first byte says what the rest is."""
        kind, rest = data[:1], data[1:]
        if kind < b"\x80":
            self.spoil(rest)
        elif kind < b"\xc0":
            self.secure_as_it_comes(rest)
        else:
            self.manage(rest)

    def spoil(self, data: bytes) -> None:
        """A protected command, some of its bytes others: two of the input say where and how."""
        session = self.session or SmHost(self.secure.raw, CS2)
        plain, changes = data[2:40], data[40:60]
        right = session.wrap("0C CB 3F FF", plain)
        spoilt = bytearray(right)
        for at, change in zip(changes[::2], changes[1::2], strict=False):
            spoilt[4 + at % (len(spoilt) - 4)] ^= change
        answer = exchange(self.secure.raw, bytes(spoilt))
        assert answer[-2] in KNOWN, answer.hex()
        if bytes(spoilt) == right:
            session.unwrap(answer)
            self.session = session
        else:
            assert answer in (b"\x69\x87", b"\x69\x88"), answer.hex()
            self.session = None

    def secure_as_it_comes(self, data: bytes) -> None:
        """Data objects that nobody protected."""
        session, self.session = self.session or SmHost(self.secure.raw, CS2), None
        answer = exchange(self.secure.raw, session.wrap("0C CB 3F FF")[:4] + data)
        assert answer in (b"\x69\x87", b"\x69\x88"), answer.hex()

    def manage(self, data: bytes) -> None:
        """Commands to the Management application, each as long as a byte says."""
        self.double.raw(SELECT_MANAGEMENT)
        while data:
            command, data = data[1 : 1 + data[0]], data[1 + data[0] :]
            if command[1:2] != b"\x1f":  # a reset makes keys
                answer = self.double.raw(command)
                assert len(answer) >= 2 and answer[-2] in KNOWN, answer.hex()


if __name__ == "__main__":
    target = Target()
    atheris.Setup(sys.argv, target.one_input)
    atheris.Fuzz()
