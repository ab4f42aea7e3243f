# SPDX-License-Identifier: LGPL-2.1-or-later
"""Elliptic curves: those a key may be on, a public key on one, and what signatures look like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from vccid.errors import KeyOperationError


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve.

    Attributes:
        name: as OpenSSL and `cryptography` have it.
        label: for people.
        size: bytes of a coordinate, of a scalar, and of a shared secret.
        point_size: bytes of a public key.
        order: of the base point (SP 800-186, 3.2.1); 0 where every scalar of `size` bytes will do.
        oid: DER of its object identifier (RFC 5480, 2.1.1.1; RFC 8410, 3), CKA_EC_PARAMS too.
    """

    name: str
    label: str
    size: int
    point_size: int
    order: int
    oid: bytes


_ORDER_P256: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_ORDER_P384: Final = int(
    "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"
    "C7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973",
    16,
)

P256: Final = Curve(
    "secp256r1", "EC on secp256r1", 32, 65, _ORDER_P256,
    bytes.fromhex("06 08 2A 86 48 CE 3D 03 01 07"),
)  # fmt: skip
P384: Final = Curve(
    "secp384r1", "EC on secp384r1", 48, 97, _ORDER_P384, bytes.fromhex("06 05 2B 81 04 00 22")
)
ED25519: Final = Curve("ed25519", "Ed25519", 32, 32, 0, bytes.fromhex("06 03 2B 65 70"))
X25519: Final = Curve("x25519", "X25519", 32, 32, 0, bytes.fromhex("06 03 2B 65 6E"))

#: Curves of ECDSA and ECDH (SP 800-78-5, table 1).
NIST_CURVES: Final = {P256.name: P256, P384.name: P384}


@dataclass(frozen=True, slots=True)
class Point:
    """A public key on a curve.

    Attributes:
        curve: the curve.
        encoded: SEC 1, 2.3.3, uncompressed; or the 32 bytes of RFC 7748 and RFC 8032.
    """

    curve: Curve
    encoded: bytes

    @property
    def bits(self) -> int:
        """The curve's size."""
        return self.curve.size * 8

    @property
    def description(self) -> str:
        """For people."""
        return self.curve.label


def point_of(public: object) -> Point | None:
    """A public key of `cryptography`'s as a point; None where it is on no curve of ours."""
    if isinstance(public, ec.EllipticCurvePublicKey):
        curve = NIST_CURVES.get(public.curve.name)
        if curve is None:
            return None
        return Point(curve, public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))
    if isinstance(public, ed25519.Ed25519PublicKey):
        return Point(ED25519, public.public_bytes(Encoding.Raw, PublicFormat.Raw))
    if isinstance(public, x25519.X25519PublicKey):
        return Point(X25519, public.public_bytes(Encoding.Raw, PublicFormat.Raw))
    return None


def fit_digest(digest: bytes, curve: Curve) -> bytes:
    """A digest as long as the order: its leftmost bits (FIPS 186-5, 6.4.1), or zeros before it.

    The order of either curve has as many bits as its coordinates.
    """
    return digest[: curve.size].rjust(curve.size, b"\0")


def ecdsa_der(signature: bytes) -> bytes:
    """A PKCS#11 signature, r and s of equal length, as SEQUENCE of INTEGER r and s (RFC 3279).

    Raises:
        KeyOperationError: it is none.
    """
    half, odd = divmod(len(signature), 2)
    if odd or not half:
        raise KeyOperationError(f"the token answered {len(signature)} bytes for a signature")
    r, s = signature[:half], signature[half:]
    return encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))


def peer_key(curve: Curve, point: bytes) -> ec.EllipticCurvePublicKey:
    """The other side's public key, once it is known to be on the curve.

    Raises:
        KeyOperationError: it is no uncompressed point, or not on the curve.
    """
    numbers: dict[str, type[ec.EllipticCurve]] = {
        P256.name: ec.SECP256R1,
        P384.name: ec.SECP384R1,
    }
    try:
        if len(point) != curve.point_size or point[0] != 4:
            raise ValueError("no uncompressed point")
        return ec.EllipticCurvePublicKey.from_encoded_point(numbers[curve.name](), point)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyOperationError(f"the point is not one of {curve.name}") from None
