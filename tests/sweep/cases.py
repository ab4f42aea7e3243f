# SPDX-License-Identifier: LGPL-2.1-or-later
"""The commands that change what is kept, and in what order each does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.sweep.facts import (
    MANAGEMENT_KEYS,
    PINS,
    PUKS,
    prove_management,
    put_data,
    secret,
    verify,
)
from tests.sweep.house import READER, House, Work

WRONG_PIN: Final = verify(b"999999")
BLOCKED_PIN: Final = verify(b"\xff" * 8)
WRONG_PUK: Final = bytes.fromhex("00 2C 00 80 10") + b"99999999" + b"123456\xff\xff"

OLD, NEW = b"\x11" * 90, b"\x22" * 120
SCALAR: Final = bytes.fromhex("06 20") + bytes(31) + b"\x07"


@dataclass(frozen=True, slots=True)
class Case:
    """One command.

    Attributes:
        name: for people.
        act: does it.
        setup: what is made of a new card before, and lasts.
        before: what the same session has to prove first.
        steps: the facts it changes, by the beginning of their names, one write after another.
        counts: whose tries are taken before it is known what follows.
        words: status words that say it was not done.
        unkept: whether it is done even where it cannot be kept, which the answer says then.
    """

    name: str
    act: Work
    setup: Work
    before: Work
    steps: tuple[tuple[str, ...], ...] = ()
    counts: str = ""
    words: tuple[str, ...] = ("6581",)
    unkept: bool = False


async def nothing(house: House) -> str:
    return ""


def apdu(command: bytes) -> Work:
    """A command of the host's, and its status word."""

    async def act(house: House) -> str:
        return (await house.apdu(command))[-2:].hex()

    return act


def method(name: str, /, **parameters: object) -> Work:
    """A method of io.vccid."""

    async def act(house: House) -> str:
        return await house.said(name, **parameters)

    return act


def after(*works: Work) -> Work:
    """One thing after another."""

    async def act(house: House) -> str:
        return " ".join([await work(house) for work in works])

    return act


async def managing(house: House) -> str:
    assert await prove_management(house)
    return ""


async def worn(house: House) -> str:
    """A blank card with an object, two keys, and a try of PIN and PUK gone."""
    await house.call("Insert", card="piv", blank=True)
    await managing(house)
    for command in (
        put_data(0x5FFF00, OLD),
        bytes.fromhex("00 47 00 9A 05 AC 03 80 01 11 00"),
        bytes.fromhex("00 FE 11 9E 22") + SCALAR,
    ):
        assert (await house.apdu(command))[-2:].hex() == "9000"
    return f"{await apdu(WRONG_PIN)(house)} {await apdu(WRONG_PUK)(house)}"


async def blocked(house: House) -> str:
    await worn(house)
    for command in (BLOCKED_PIN, BLOCKED_PIN, WRONG_PUK, WRONG_PUK):
        await house.apdu(command)
    return ""


async def verified(house: House) -> str:
    await managing(house)
    return await apdu(verify(PINS[0]))(house)


def _change(reference: int, old: bytes, new: bytes) -> bytes:
    return (
        bytes((0x00, 0x24, 0x00, reference, 0x10)) + old.ljust(8, b"\xff") + new.ljust(8, b"\xff")
    )


#: In place of a card's contents, all of it.
CONTENTS: Final = ("key", "CHUID", "CCC", "certificate", "object", "management")

_UNBLOCK: Final = bytes.fromhex("00 2C 00 80 10") + PUKS[0] + PINS[1] + b"\xff\xff"
_MANAGEMENT: Final = bytes.fromhex("00 FF FF FF 1B 03 9B 18") + MANAGEMENT_KEYS[1]


def card_commands() -> list[Case]:
    """What a host does."""
    pin, puk = ("6581", "6983"), ("6581", "6983")
    return [
        Case("VERIFY", apdu(verify(PINS[0])), worn, nothing, (("PIN",),), "PIN", pin),
        Case("VERIFY wrong", apdu(WRONG_PIN), worn, nothing, (("PIN",),), "", pin),
        Case("VERIFY wrong, the last try", apdu(WRONG_PIN), after(worn, apdu(WRONG_PIN)), nothing,
             (("PIN",),), "", pin),
        Case("CHANGE PIN", apdu(_change(0x80, PINS[0], PINS[1])), worn, nothing, (("PIN",),),
             "PIN", pin),
        Case("CHANGE PIN wrong", apdu(_change(0x80, b"999999", PINS[1])), worn, nothing,
             (("PIN",),), "", pin),
        Case("CHANGE PUK", apdu(_change(0x81, PUKS[0], PUKS[1])), worn, nothing, (("PUK",),),
             "PUK", puk),
        Case("RESET RETRY COUNTER", apdu(_UNBLOCK), worn, nothing, (("PUK",), ("PIN",)), "PUK",
             puk),
        Case("RESET RETRY COUNTER wrong", apdu(WRONG_PUK), worn, nothing, (("PUK",),), "", puk),
        Case("PUT DATA", apdu(put_data(0x5FFF11, NEW)), worn, managing, (("object",),)),
        Case("PUT DATA over another", apdu(put_data(0x5FFF00, NEW)), worn, managing,
             (("object",),)),
        Case("PUT DATA of nothing", apdu(put_data(0x5FFF00, b"")), worn, managing, (("object",),)),
        Case("GENERATE", apdu(bytes.fromhex("00 47 00 9C 05 AC 03 80 01 11 00")), worn, managing,
             (("key",),)),
        Case("GENERATE over another", apdu(bytes.fromhex("00 47 00 9A 05 AC 03 80 01 11 00")),
             worn, managing, (("key",),)),
        Case("IMPORT", apdu(bytes.fromhex("00 FE 11 9D 22") + SCALAR), worn, managing,
             (("key",),)),
        Case("SET MANAGEMENT KEY", apdu(_MANAGEMENT), worn, managing, (("management",),)),
        Case("SET RETRIES", apdu(bytes.fromhex("00 FA 05 07")), after(worn, verified), verified,
             (("PIN",), ("PUK",))),
        Case("RESET", apdu(bytes.fromhex("00 FB 00 00")), blocked, nothing,
             (CONTENTS, ("PIN",), ("PUK",))),
    ]  # fmt: skip


def desk_commands(certificates: list[str]) -> list[Case]:
    """What `vccidctl` does; `certificates` are files."""
    insert = method("Insert", card="piv", certificates=certificates, pin=secret(PINS[1]))
    refused = ("refused",)
    kept = Case("", nothing, worn, nothing, words=refused, unkept=True)

    def of_reader(name: str, act: Work, step: str, setup: Work = worn) -> Case:
        return Case(name, act, setup, nothing, ((step,),), "", kept.words, unkept=True)

    def of_card(name: str, act: Work, *steps: tuple[str, ...]) -> Case:
        return Case(name, act, worn, nothing, steps, "", refused)

    added = method("AddReader", name="second")
    attached = method("Attach", reader=READER, kind="pty")
    return [
        of_card("pin reset", method("ResetPin", reader=READER), ("PIN",)),
        of_card("pin reset to another", method("ResetPin", reader=READER, pin=secret(PINS[1])),
                ("PIN",)),
        of_card("pin reset --puk", method("ResetPin", reader=READER, puk=True,
                pin=secret(PUKS[1])), ("PUK",)),
        of_card("card reset", method("ResetCard", reader=READER), CONTENTS, ("PIN",), ("PUK",)),
        of_reader("insert", insert, "", nothing),
        of_reader("remove", method("Remove", reader=READER), ""),
        of_reader("reader add", added, "reader"),
        of_reader("reader remove", method("RemoveReader", name="second"), "reader",
                  after(worn, added)),
        of_reader("attach", attached, "reader"),
        of_reader("detach", method("Detach", reader=READER, kind="pty"), "reader",
                  after(worn, attached)),
    ]  # fmt: skip
