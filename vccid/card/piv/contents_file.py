# SPDX-License-Identifier: LGPL-2.1-or-later
"""A card's contents on disk: one JSON file for each card, replaced whole and synced.

Keys are in it as they are, or under a key of the host's own where there is one: AES-256-GCM
(SP 800-38D), the card's serial number and the key's place being authenticated with it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vccid.card.piv.algorithms import CIPHER_KEYS, Algorithm
from vccid.card.piv.cipher_suites import SUITES
from vccid.card.piv.contents import Contents, Issuer, Keeper, ManagementKey
from vccid.card.piv.keys import StoredKey, ready
from vccid.card.piv.references import Origin, PinPolicy
from vccid.card.piv.sm_credential import SmCredential
from vccid.card.state import remove_file, replace_file
from vccid.errors import StateError

#: The version of the file's layout; a file of a later one is not touched.
VERSION: Final = 1

#: The ending of a card's file.
ENDING: Final = ".piv.json"

_NONCE: Final = 12
_HINT: Final = "restore it from a backup, or remove it: the card is then as when it was new"


class Sealer:
    """Encrypts what is secret in a file."""

    def __init__(self, secret: bytes | None) -> None:
        """`secret`: of any length, from who keeps the host's secrets; None to encrypt nothing."""
        self._cipher = None if secret is None else AESGCM(hashlib.sha256(secret).digest())

    def seal(self, secret: bytes, place: str) -> dict[str, str]:
        """What stands in the file for a secret."""
        if self._cipher is None:
            return {"plain": _text(secret)}
        nonce = os.urandom(_NONCE)
        return {"sealed": _text(nonce + self._cipher.encrypt(nonce, secret, place.encode()))}

    def open(self, kept: Mapping[str, str], place: str) -> bytes:
        """The secret itself.

        Raises:
            StateError: it is sealed under another key, or under one that is not there.
        """
        if "plain" in kept:
            return _data(kept["plain"])
        sealed = _data(kept["sealed"])
        if self._cipher is None:
            raise StateError(
                "is encrypted, and there is no key for it",
                "give the daemon the systemd credential it was written with",
            )
        try:
            return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], place.encode())
        except InvalidTag:
            raise StateError(
                "is encrypted under another key",
                "give the daemon the systemd credential it was written with",
            ) from None


class FileKeeper(Keeper):
    """Keeps one card's contents in a file.

    Attributes:
        path: the file.
    """

    def __init__(self, directory: Path, serial: str, sealer: Sealer) -> None:
        """`directory` is there, for this user alone; `serial` is hexadecimal."""
        self.path = directory / f"{serial}{ENDING}"
        self._serial = serial
        self._sealer = sealer

    def load(self) -> Contents | None:
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(
                f"card file {self.path} cannot be read: {error.strerror}",
                "the daemon must own the file and be able to read it",
            ) from error
        try:
            return self._decode(json.loads(raw))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            # `from None`: the chain would carry what is in the file.
            raise StateError(f"card file {self.path} is damaged", _HINT) from None
        except StateError as error:
            raise StateError(f"card file {self.path} {error.message}", error.hint) from None

    def save(self, contents: Contents) -> None:
        try:
            replace_file(self.path, self._encode(contents))
        except OSError as error:
            raise StateError(
                f"card file {self.path} cannot be written: {error.strerror}",
                f"make room in {self.path.parent} or let the daemon write there",
            ) from error

    def forget(self) -> None:
        """Remove the file. Blocks.

        Raises:
            StateError: it cannot be removed.
        """
        remove_file(self.path)

    def _encode(self, contents: Contents) -> bytes:
        content = {
            "version": VERSION,
            "guid": contents.guid.hex(),
            "issuer": self._encode_issuer(contents.issuer, "issuer"),
            "attester": self._encode_issuer(contents.attester, "attester"),
            "management": {
                "algorithm": contents.management.algorithm,
                "key": self._seal(contents.management.key, "management"),
                "touch_policy": contents.management.touch,
            },
            "secure_messaging": self._encode_sm(contents.secure_messaging),
            "objects": {f"{tag:X}": _text(value) for tag, value in contents.objects.items()},
            "keys": {
                f"{reference:02X}": key and self._encode_key(reference, key)
                for reference, key in contents.keys.items()
            },
        }
        return json.dumps(content, indent=1).encode() + b"\n"

    def _encode_issuer(self, issuer: Issuer, place: str) -> dict[str, object]:
        return {
            "certificate": _text(issuer.certificate),
            "key": self._seal(issuer.pkcs8, place),
        }

    def _encode_sm(self, held: SmCredential | None) -> dict[str, object] | None:
        if held is None:
            return None
        return {
            "suite": held.suite.name,
            "certificate": _text(held.certificate),
            "signer": _text(held.signer),
            "key": self._seal(held.pkcs8, "secure messaging"),
            "pairing_code": self._seal(held.pairing_code.encode(), "pairing code"),
        }

    def _decode_sm(self, kept: Any) -> SmCredential | None:
        return kept and SmCredential(
            SUITES[kept["suite"]],
            self._open(kept["key"], "secure messaging"),
            _data(kept["certificate"]),
            _data(kept["signer"]),
            self._open(kept["pairing_code"], "pairing code").decode("ascii"),
        )

    def _decode_issuer(self, kept: Any, place: str) -> Issuer:
        return Issuer(self._open(kept["key"], place), _data(kept["certificate"]))

    def _encode_key(self, reference: int, key: StoredKey) -> dict[str, object]:
        return {
            "algorithm": key.algorithm,
            "origin": key.origin,
            "pin_policy": key.pin_policy,
            "touch_policy": key.touch_policy,
            "key": self._seal(key.pkcs8, f"{reference:02X}"),
        }

    def _decode(self, content: Any) -> Contents:
        version = content["version"]
        if type(version) is not int or version < 1:
            raise ValueError("no version")
        if version > VERSION:
            raise StateError(
                f"is of version {version}, from a later vccid",
                f"start that vccid again, or: {_HINT}",
            )
        management = content["management"]
        algorithm = Algorithm(management["algorithm"])
        key = self._open(management["key"], "management")
        guid = bytes.fromhex(content["guid"])
        if len(guid) != 16 or len(key) != CIPHER_KEYS[algorithm]:
            raise ValueError("a field is out of range")
        return Contents(
            guid,
            self._decode_issuer(content["issuer"], "issuer"),
            self._decode_issuer(content["attester"], "attester"),
            {int(tag, 16): _data(v) for tag, v in content["objects"].items()},
            {
                int(reference, 16): kept and self._decode_key(reference, kept)
                for reference, kept in content["keys"].items()
            },
            ManagementKey(algorithm, key, int(management.get("touch_policy", 1))),
            self._decode_sm(content.get("secure_messaging")),
        )

    def _decode_key(self, reference: str, kept: Any) -> StoredKey:
        stored = StoredKey(
            Algorithm(kept["algorithm"]),
            self._open(kept["key"], reference),
            Origin(kept["origin"]),
            PinPolicy(kept["pin_policy"]),
            int(kept["touch_policy"]),
        )
        ready(stored)  # a key that is none is found out now, not by a host
        return stored

    def _seal(self, secret: bytes, place: str) -> dict[str, str]:
        return self._sealer.seal(secret, f"{self._serial} {place}")

    def _open(self, kept: Mapping[str, str], place: str) -> bytes:
        return self._sealer.open(kept, f"{self._serial} {place}")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _data(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
