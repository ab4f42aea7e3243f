# SPDX-License-Identifier: LGPL-2.1-or-later
"""A second reading of SP 800-73-5 part 2: what a card has to answer, held beside one.

Written from the standard and Yubico's instructions, not from the card. A `Model` is told each
command APDU and says what may come; where the card chooses (a challenge, a key, a signature), it
is told the answer and judges it. Of a blank card, whose keys are on P-256.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from tests.unit.card.piv.host import MANAGEMENT_KEY, decrypt, ecb, encode, encrypt

#: What a card may answer: data exactly, or what judges them; and the status word.
Judge = Callable[[bytes], None]

SUCCESS = 0x9000
KEYS = (0x9A, 0x9C, 0x9D, 0x9E, *range(0x82, 0x96))
PIN_TO_READ = (0x5FC103, 0x5FC108, 0x5FC109, 0x5FC121, 0x5FC123)
NEVER, ONCE, ALWAYS = 1, 2, 3

#: Objects that say what is on the card, unless somebody has written them; judged elsewhere.
MADE_BY_THE_CARD = (0x5FC10C, 0x5FC106, 0x5FFF01)


class Other(Exception):
    """A command is answered with this status word."""


class Unknown(Exception):
    """What is answered is judged elsewhere."""


@dataclass
class Counter:
    """Reference data: a PIN or PUK with its tries."""

    value: bytes
    left: int = 3
    limit: int = 3

    def compare(self, candidate: bytes) -> bool:
        """2.4.2: one try less where it is wrong, all of them where it is right."""
        right = candidate == self.value
        self.left = self.limit if right else self.left - 1
        return right


@dataclass
class Key:
    point: bytes
    policy: int


@dataclass
class Model:
    """One card and one session with it."""

    pin: Counter
    puk: Counter
    objects: dict[int, bytes]
    keys: dict[int, Key] = field(default_factory=dict)
    verified: bool = False
    fresh: bool = False
    managed: bool = False
    challenge: bytes = b""
    witness: bytes = b""
    chain: tuple[bytes, bytes] | None = None
    waiting: tuple[bytes | None, int] | None = None

    def reset(self) -> None:
        """A cold reset: reference data and objects stay."""
        self.verified = self.fresh = self.managed = False
        self.challenge = self.witness = b""
        self.chain = self.waiting = None

    # -- transport (ISO/IEC 7816-4) ------------------------------------------------------------

    def judge(self, raw: bytes, answer: bytes) -> None:
        """Hold an answer against what the standard says of the command."""
        data, sw = answer[:-2], int.from_bytes(answer[-2:], "big")
        parsed = parse(raw)
        if parsed is None:
            assert (data, sw) == (b"", 0x6700)
            return
        cla, ins, p1, p2, body, le = parsed
        if cla >= 0x20 or cla & 0x0F:
            self.chain = self.waiting = None
            channel = 0x40 <= cla < 0x80 or (cla < 0x20 and cla & 3)
            secure = cla < 0x20 and not cla & 3
            expected = 0x6881 if channel else 0x6882 if secure else 0x6E00
            assert (data, sw) == (b"", expected), hex(cla)
            return
        self._judge_plain(cla, (ins, p1, p2), body, le or 256, data, sw)

    def _judge_plain(
        self, cla: int, header: tuple[int, int, int], body: bytes, le: int, data: bytes, sw: int
    ) -> None:
        before, self.chain = self.chain, None
        if cla & 0x10 and header[0] == 0xC0:
            assert (data, sw) == (b"", 0x6900)
            return
        if before is not None and before[0] == bytes(header):
            body = before[1] + body
            if len(body) > 0xFFFF:
                assert (data, sw) == (b"", 0x6700)
                return
        if cla & 0x10:
            self.waiting, self.chain = None, (bytes(header), body)
            assert (data, sw) == (b"", SUCCESS)
            return
        if header[0] == 0xC0:
            if self.waiting is None:
                assert (data, sw) == (b"", 0x6985)
                return
            whole, final = self.waiting
        else:
            self.waiting = None
            whole, final = self._whole(header, body, data, sw, le)
        self._judge_part(whole, final, le, data, sw)

    def _judge_part(self, whole: bytes | None, final: int, le: int, data: bytes, sw: int) -> None:
        """5.3.4: as much as Le allows, then 61xx while more waits."""
        if whole is None:
            assert len(data) <= le and (sw == SUCCESS or (len(data) == le and sw >> 8 == 0x61))
            self.waiting = None if sw == SUCCESS else (None, SUCCESS)
            return
        assert data == whole[:le]
        rest = whole[le:]
        self.waiting = (rest, final) if rest else None
        assert sw == (0x6100 | (len(rest) & 0xFF if len(rest) < 256 else 0) if rest else final)

    def _whole(
        self, header: tuple[int, int, int], body: bytes, data: bytes, sw: int, le: int
    ) -> tuple[bytes | None, int]:
        """The whole answer; of what the card chooses, as it has it; None of what it makes."""
        ins, p1, p2 = header
        pending = self.challenge or self.witness
        if pending and not (ins == 0x87 and p2 == 0x9B):
            self.challenge = self.witness = b""
            self.managed = False
        handler = getattr(self, f"_ins_{ins:02x}", None)
        if handler is None:
            return b"", 0x6D00
        try:
            told = handler(p1, p2, body)
        except Unknown:
            return None, SUCCESS
        except Other as other:
            return b"", int(str(other), 16)
        if not callable(told):
            return told or b"", SUCCESS
        # What the card chooses fits into one answer, and Le is large enough in these tests.
        assert sw == SUCCESS and len(data) <= le, hex(sw)
        told(data)
        return data, SUCCESS

    # -- data access (3.1) ---------------------------------------------------------------------

    def _ins_a4(self, p1: int, p2: int, body: bytes) -> bytes:
        if p1 <= 9 and p1 != 4:
            raise Other("6A82")
        require(p1 == 4 and p2 in (0, 4, 8, 12), "6A86")
        aid = bytes.fromhex("A000000308000010000100")
        require(5 <= len(body) <= 11 and aid[: len(body)] == body, "6A82")
        template = encode(0x4F, aid) + encode(0x79, encode(0x4F, aid[:5]))
        return b"" if p2 == 12 else encode(0x61, template)

    def _ins_cb(self, p1: int, p2: int, body: bytes) -> bytes | Judge:
        require((p1, p2) == (0x3F, 0xFF), "6A86")
        ((tag, value),) = items(body, 1)
        require(tag == 0x5C, "6A80")
        name = named(value)
        require(self.verified or name not in PIN_TO_READ, "6982")
        if name in MADE_BY_THE_CARD and name not in self.objects:
            raise Unknown
        require(name in self.objects, "6A82")
        return encode(name if name in (0x7E, 0x7F61) else 0x53, self.objects[name])

    def _ins_db(self, p1: int, p2: int, body: bytes) -> None:
        require(self.managed, "6982")
        require((p1, p2) == (0x3F, 0xFF), "6A86")
        found = items(body)
        if len(found) == 1 and found[0][0] in (0x7E, 0x7F61):
            name, content = found[0]
            require(len(content) <= 32768, "6A84")
            require(bool(content), "6A80")
        else:
            require([tag for tag, _ in found] == [0x5C, 0x53], "6A80")
            name, content = named(found[0][1]), found[1][1]
            require(name not in (0x7E, 0x7F61), "6A80")
            require(len(content) <= 32768, "6A84")
        self.objects[name] = content
        if not content:
            del self.objects[name]

    # -- authentication (3.2) ------------------------------------------------------------------

    def _compare(self, counter: Counter, candidate: bytes) -> None:
        require(counter.left > 0, "6983")
        right = counter.compare(candidate)
        if counter is self.pin:
            self.verified = self.fresh = right
        require(right, f"63C{counter.left}")

    def _ins_20(self, p1: int, p2: int, body: bytes) -> None:
        require(p2 == 0x80, "6A88")
        require(p1 in (0, 0xFF), "6A86")
        if p1 == 0xFF:
            require(not body, "6A80")
            self.verified = self.fresh = False
        elif body:
            self._compare(self.pin, body)
        else:
            require(self.verified, f"63C{self.pin.left}")

    def _ins_24(self, p1: int, p2: int, body: bytes) -> None:
        require(p2 in (0x80, 0x81), "6A88")
        require(p1 == 0, "6A86")
        require(len(body) == 16, "6A80")
        counter = self.pin if p2 == 0x80 else self.puk
        require(counter.left > 0, "6983")
        require(p2 == 0x81 or well_formed(body[8:]), "6A80")
        self._compare(counter, body[:8])
        counter.value = body[8:]

    def _ins_2c(self, p1: int, p2: int, body: bytes) -> None:
        require(p2 == 0x80, "6A88")
        require(p1 == 0, "6A86")
        require(len(body) == 16, "6A80")
        require(self.puk.left > 0, "6983")
        if not self.puk.compare(body[:8]):
            self.verified = self.fresh = False
            raise Other(f"63C{self.puk.left}")
        require(well_formed(body[8:]), "6A80")
        self.pin.value, self.pin.left = body[8:], self.pin.limit

    def _ins_87(self, p1: int, p2: int, body: bytes) -> bytes | Judge | None:
        require(p2 in KEYS or p2 == 0x9B, "6A86")
        if p2 == 0x9B:
            require(p1 in (0, 3), "6A86")
            return self._prove(body)
        require(p1 == 0x11 and p2 in self.keys, "6A86")
        key = self.keys[p2]
        allowed = {NEVER: True, ONCE: self.verified, ALWAYS: self.fresh}[key.policy]
        require(allowed, "6982")
        members = template(body)
        require(members.get(0x82) == b"", "6A80")
        if members.keys() == {0x82, 0x85} and p2 in (0x9D, *range(0x82, 0x96)):
            return self._agree(members[0x85])
        require(members.keys() == {0x81, 0x82} and 0 < len(members[0x81]) <= 32, "6A80")
        self.fresh = False
        digest, point = members[0x81].rjust(32, b"\0"), key.point
        return lambda data: verify(point, digest, answered(data, 0x82))

    def _agree(self, point: bytes) -> Judge:
        self.fresh = False
        try:
            require(len(point) == 65 and point[0] == 4, "6A80")
            ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        except ValueError:
            raise Other("6A80") from None

        def judge(data: bytes) -> None:
            assert len(answered(data, 0x82)) == 32

        return judge

    def _prove(self, body: bytes) -> bytes | Judge | None:
        """Challenge and response with the management key; the last step ends what was begun."""
        challenge, witness = self.challenge, self.witness
        self.challenge = self.witness = b""
        try:
            members = template(body)
        except Other:
            self.managed = False
            raise
        if members in ({0x81: b""}, {0x80: b""}):
            (member,) = members
            if challenge or witness:
                self.managed = False  # what was begun before is abandoned
            return lambda data: self._begun(member, answered(data, member))
        self.managed = False
        if members.keys() == {0x82} and challenge:
            require(members[0x82] == encrypt(ecb(3, MANAGEMENT_KEY), challenge), "6982")
            self.managed = True
            return None
        asked = members.pop(0x82, b"")
        require(members.keys() == {0x80, 0x81} and not asked and bool(witness), "6A80")
        require(len(members[0x81]) == 8, "6A80")
        require(members[0x80] == witness, "6982")
        self.managed = True
        answer = encrypt(ecb(3, MANAGEMENT_KEY), members[0x81])
        return encode(0x7C, encode(0x82, answer))

    def _begun(self, member: int, value: bytes) -> None:
        assert len(value) == 8
        if member == 0x81:
            self.challenge = value
        else:
            self.witness = decrypt(ecb(3, MANAGEMENT_KEY), value)

    # -- card management (3.3) -----------------------------------------------------------------

    def _ins_47(self, p1: int, p2: int, body: bytes) -> Judge:
        require(self.managed, "6982")
        require(p1 == 0 and p2 in KEYS, "6A86")
        ((tag, value),) = items(body, 1)
        require(tag == 0xAC, "6A80")
        members = once(items(value))
        policy = members.pop(0xAA, b"\0")
        require(members.keys() == {0x80} and members[0x80] == b"\x11", "6A80")
        require(len(policy) == 1 and policy[0] <= 3, "6A80")

        def learn(data: bytes) -> None:
            assert data[:5] == bytes.fromhex("7F49438641") and len(data) == 70
            default = {0x9C: ALWAYS, 0x9E: NEVER}.get(p2, ONCE)
            self.keys[p2] = Key(data[5:], policy[0] or default)

        return learn

    def _ins_fb(self, p1: int, p2: int, body: bytes) -> None:
        require((p1, p2) == (0, 0), "6A86")
        require(not self.pin.left and not self.puk.left, "6985")
        raise Unknown


def parse(raw: bytes) -> tuple[int, int, int, int, bytes, int] | None:
    """The four cases, short and extended (5.1, 5.2)."""
    if len(raw) < 4:
        return None
    header, rest = raw[:4], raw[4:]
    if len(rest) <= 1:
        return (*header, b"", (rest[0] or 256) if rest else 0)
    size = rest[0]
    if size:
        if len(rest) not in (size + 1, size + 2):
            return None
        return (*header, rest[1 : size + 1], (rest[-1] or 256) if len(rest) == size + 2 else 0)
    size = int.from_bytes(rest[1:3], "big")
    if len(rest) == 3:
        return (*header, b"", size or 65536)
    if not size or len(rest) not in (size + 3, size + 5):
        return None
    le = int.from_bytes(rest[-2:], "big") or 65536
    return (*header, rest[3 : size + 3], le if len(rest) == size + 5 else 0)


def require(held: object, sw: str) -> None:
    if not held:
        raise Other(sw)


def well_formed(pin: bytes) -> bool:
    digits = pin.rstrip(b"\xff")
    return len(pin) == 8 and len(digits) >= 6 and digits.isdigit()


def items(data: bytes, count: int | None = None) -> list[tuple[int, bytes]]:
    """BER-TLV; what is none is an incorrect data field."""
    found, at = [], 0
    while at < len(data):
        end = at + 1
        if data[at] & 0x1F == 0x1F:
            while end < len(data) and data[end] & 0x80:
                end += 1
            end += 1
        require(end - at <= 3 and end < len(data), "6A80")
        tag, size = int.from_bytes(data[at:end], "big"), data[end]
        end += 1
        if size >= 0x80:
            more = size & 0x7F
            require(1 <= more <= 3 and end + more <= len(data), "6A80")
            size = int.from_bytes(data[end : end + more], "big")
            end += more
        require(end + size <= len(data), "6A80")
        found.append((tag, data[end : end + size]))
        at = end + size
    require(count is None or len(found) == count, "6A80")
    return found


def once(found: list[tuple[int, bytes]]) -> dict[int, bytes]:
    require(len(dict(found)) == len(found), "6A80")
    return dict(found)


def named(value: bytes) -> int:
    require(value in (b"\x7e", b"\x7f\x61") or len(value) == 3, "6A80")
    require(len(value) < 3 or value[0] == 0x5F, "6A82")
    return int.from_bytes(value, "big")


def template(body: bytes) -> dict[int, bytes]:
    ((tag, value),) = items(body, 1)
    require(tag == 0x7C, "6A80")
    members = once(items(value))
    require(members and members.keys() <= {0x80, 0x81, 0x82, 0x85}, "6A80")
    return members


def answered(data: bytes, member: int) -> bytes:
    ((tag, value),) = items(data, 1)
    ((inner, found),) = items(value, 1)
    assert (tag, inner) == (0x7C, member)
    return found


def verify(point: bytes, digest: bytes, signature: bytes) -> None:
    public: Any = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    try:
        public.verify(signature, digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    except InvalidSignature:
        raise AssertionError("no signature of this key") from None
