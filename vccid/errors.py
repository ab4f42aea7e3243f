# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every exception vccid raises on purpose.

VccidError                    what is wrong, and a hint: what to do about it
├── ConfigError               a settings file or option
├── KeySourceError            a database, token or file of certificates and keys
│   ├── SourceUnusable        missing, not what it claims to be, unreadable, damaged
│   ├── CertificateNotFound
│   ├── PrivateKeyMissing
│   ├── KeyUnsuitable         a key no applet can hold
│   ├── PasswordNeeded
│   ├── WrongPassword
│   ├── TokenLocked           it looks at no PIN, or may not be asked: that says nothing of the PIN
│   └── TokenGone             pulled, or its module failed
├── KeyOperationError         the private-key operation itself failed
│   └── LoginLost             the token is there and locked again
├── StateError                what is kept on disk cannot be read or written
├── ReaderError               no such reader, it has a card, it has none
│   └── CardRemoved           the card left while a host used it
├── CardBusy                  another host owns a card that has one security state
├── CardMute                  the card does not answer to this
├── NotPermitted              the caller may not ask for this
├── DaemonRunning             a second daemon was started where one runs
├── RunFailed                 `vccid run` could not have what its command needs
└── ProtocolError
    ├── RemoteProtocolError   the peer broke the protocol
    └── LocalProtocolError    we did
"""

from __future__ import annotations


class VccidError(Exception):
    """Something a user or peer must hear about.

    Attributes:
        message: one line that says what is wrong.
        hint: one line that says what to do, or "" where nothing can be done.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(VccidError):
    """A settings file or an option has an unknown key or a wrong value."""


class KeySourceError(VccidError):
    """Certificates or keys could not be had from where they were said to be."""


class SourceUnusable(KeySourceError):
    """The database, token or file is missing, unreadable, damaged or of another kind."""


class CertificateNotFound(KeySourceError):
    """The source holds no such certificate."""


class PrivateKeyMissing(KeySourceError):
    """The certificate is there and its private key is not."""


class KeyUnsuitable(KeySourceError):
    """The key's type or size is none an applet of the card can hold."""


class PasswordNeeded(KeySourceError):
    """The source is locked and no password was given."""


class WrongPassword(KeySourceError):
    """The source refused the password or PIN; it is never tried again by itself.

    Attributes:
        tries_left: what the token says is left, or None where it does not count.
    """

    def __init__(self, message: str, hint: str = "", tries_left: int | None = None) -> None:
        super().__init__(message, hint)
        self.tries_left = tries_left


class TokenLocked(KeySourceError):
    """The token looks at no PIN until it is unblocked, or its last tries are kept.

    Whether a PIN is right stays open.
    """


class TokenGone(KeySourceError):
    """The token was pulled, or its module stopped answering."""


class KeyOperationError(VccidError):
    """The private-key operation failed for this input."""


class LoginLost(KeyOperationError):
    """The token is there, and the login to it is gone: the PIN is to be verified again."""


class StateError(VccidError):
    """A state file cannot be read or written."""


class ReaderError(VccidError):
    """The reader does not exist, exists already, is full, or is empty."""


class CardRemoved(ReaderError):
    """The card was removed (or the session ended) while a host was using it."""


class CardBusy(VccidError):
    """Another host owns this card, which has only one security state."""


class CardMute(VccidError):
    """The card gives no answer: so it refuses what it cannot even decline."""


class NotPermitted(VccidError):
    """The caller may not do this."""


class DaemonRunning(VccidError):
    """Another daemon has this runtime directory."""


class RunFailed(VccidError):
    """The private daemon or pcscd of `vccid run` cannot be had, or did not come up."""


class ProtocolError(VccidError):
    """A wire protocol was broken."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol."""


class LocalProtocolError(ProtocolError):
    """Our own code asked a protocol for something it does not allow."""


def unexpected(error: Exception) -> VccidError:
    """What outermost places tell of an error that nobody foresaw; the traceback is the log's."""
    what = f"{type(error).__name__}: {error}".removesuffix(": ")
    if isinstance(error, MemoryError):
        return VccidError("there is no memory left", "end something else, or allow it more")
    return VccidError(
        f"something unexpected went wrong: {what}",
        "a fault of vccid's; its log has more: journalctl -u vccid, or vccid run --log FILE",
    )
