# SPDX-License-Identifier: LGPL-2.1-or-later
"""The settings: each declared once, below; file, command line and manual come from here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast, get_args, get_type_hints

from vccid.settings.looks import TOUCHES, check_atr, check_optional_label, check_usb_string

LOG_LEVELS: Final = ("debug", "info", "warning", "error")
CardKind = Literal["cac", "piv", "cac+piv"]
CARD_KINDS: Final[tuple[CardKind, ...]] = get_args(CardKind)
DEFAULT_READER: Final = "vccid0"

#: bMaxSlotIndex 15: what one device's interrupt message is meant to hold.
MOST_SLOTS: Final = 16

_READER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")

#: What a setting can be.
Value = str | bool | int | tuple[str, ...]

#: Returns "" for a good value, else what it must be.
Check = Callable[[Any], str]


def check_reader_name(name: str) -> str:
    """ "" for a good name, else what it must be. It becomes a file name and pcscd's word for it."""
    if _READER_NAME.fullmatch(name):
        return ""
    return "a reader's name is 1 to 32 letters, digits, '_', '-' and '.', a letter or digit first"


def _one_of(*words: str) -> Check:
    return lambda value: "" if value in words else f"one of {', '.join(words)}"


def _usb_id(value: str) -> str:
    return "" if re.fullmatch(r"[0-9A-Fa-f]{4}", value) else 'four hexadecimal digits, as "0e0f"'


def _port(value: int) -> str:
    return "" if 0 < value < 65536 else "1 to 65535"


def _positive(value: int) -> str:
    return "" if value > 0 else "1 or more"


def _slots(value: int) -> str:
    return "" if 0 < value <= MOST_SLOTS else f"1 to {MOST_SLOTS}"


def _pcsc_readers(value: int) -> str:
    return "" if 16 <= value <= 1024 else "16 to 1024"


def _not_negative(value: int) -> str:
    return "" if value >= 0 else "0 or more"


def _directory(value: str) -> str:
    return "" if value == "" or value.startswith("/") else "an absolute path"


def _variables(value: Iterable[str]) -> str:
    fits = all("=" in text[1:] and "\0" not in text for text in value)
    return "" if fits else 'an array of "NAME=VALUE"'


def _octal_mode(value: str) -> str:
    return "" if re.fullmatch(r"0?[0-7]{3}", value) else 'an octal mode such as "0660"'


@dataclass(frozen=True, slots=True)
class Help:
    """What stands in a setting's annotation, beside its type.

    Attributes:
        text: what the setting does, for --help and the manual.
        check: tells what a value must be beyond its type.
    """

    text: str
    check: Check = lambda value: ""


@dataclass(frozen=True, slots=True)
class Declaration:
    """A setting: its key, its default, which also tells its type, and what `Help` says."""

    key: str
    default: Value
    help: str
    check: Check


@dataclass(frozen=True, slots=True)
class Control:
    """The socket that vccidctl speaks to."""

    group: Annotated[
        str, Help("Group whose members may control the daemon, beside root and its own user.")
    ] = "vccid"
    mode: Annotated[
        str,
        Help(
            "Octal mode of the control socket; one made by systemd keeps the mode it has.",
            _octal_mode,
        ),
    ] = "0660"


@dataclass(frozen=True, slots=True)
class Log:
    """What the daemon writes to the journal."""

    level: Annotated[
        str, Help("Least severe messages: debug, info, warning or error.", _one_of(*LOG_LEVELS))
    ] = "info"


@dataclass(frozen=True, slots=True)
class Certificates:
    """How cards are made from certificates where a request leaves it open."""

    database: Annotated[str, Help("NSS database in which certificate nicknames are looked up.")] = (
        "sql:/etc/pki/nssdb"
    )
    card: Annotated[
        CardKind,
        Help("Kind of card: cac; piv, which takes EC keys too; or cac+piv.", _one_of(*CARD_KINDS)),
    ] = "cac"
    atr: Annotated[
        str,
        Help(
            "Answer to reset: of a cac, cac as QEMU's card has it (T=0) or t1; of any card, its "
            "bytes in hexadecimal.",
            check_atr,
        ),
    ] = "cac"


@dataclass(frozen=True, slots=True)
class Usb:
    """How readers look as USB devices, wherever they are attached."""

    # usb.descriptors.Identity says why these.
    vendor_id: Annotated[
        str, Help("idVendor, four hexadecimal digits; libccid takes only ids it lists.", _usb_id)
    ] = "0e0f"
    product_id: Annotated[str, Help("idProduct, four hexadecimal digits.", _usb_id)] = "0004"
    speed: Annotated[
        str,
        Help("Speed of the device: full, high or super.", _one_of("full", "high", "super")),
    ] = "full"


@dataclass(frozen=True, slots=True)
class UsbIp:
    """The server from which other hosts import readers; USB/IP itself has no authentication."""

    address: Annotated[str, Help("IP address to listen at.")] = "127.0.0.1"
    port: Annotated[int, Help("TCP port to listen at.", _port)] = 3240
    allow: Annotated[
        tuple[str, ...],
        Help("Networks that may connect; needed where the address is not loopback."),
    ] = ()
    connections: Annotated[int, Help("Most connections at once.", _positive)] = 32
    tls_certificate: Annotated[
        str, Help("PEM file of the server's certificate; with it, peers must speak TLS.")
    ] = ""
    tls_key: Annotated[str, Help("PEM file of that certificate's private key.")] = ""
    tls_authorities: Annotated[
        str, Help("PEM file of the authorities whose certificates clients must show.")
    ] = ""


@dataclass(frozen=True, slots=True)
class Guests:
    """The links to guests and far cards: vsc, usbredir, vpicc and vpcd."""

    tls_certificate: Annotated[
        str, Help("PEM file of our certificate; with it, TCP links to guests use TLS.")
    ] = ""
    tls_key: Annotated[str, Help("PEM file of that certificate's private key.")] = ""
    tls_authorities: Annotated[
        str, Help("PEM file of the authorities whose certificates the other side must show.")
    ] = ""
    allow_plain: Annotated[
        bool, Help("Allow plain TCP beyond this machine, where PINs can be read on the way.")
    ] = False


@dataclass(frozen=True, slots=True)
class Pty:
    """Pseudo-terminals of vccidctl attach pty, which pcscd opens."""

    group: Annotated[
        str, Help("Group of the terminals, one of the daemon's user; empty: its own.")
    ] = ""
    mode: Annotated[str, Help("Octal mode of the terminals.", _octal_mode)] = "0660"


@dataclass(frozen=True, slots=True)
class Pcsc:
    """libpcsclite's own protocol, by which programs use the readers without pcscd."""

    group: Annotated[
        str,
        Help(
            "Group whose members may use the readers, beside root and the daemon's own user; "
            "empty: control.group."
        ),
    ] = ""
    everyone: Annotated[bool, Help("Let every user of this host use the readers.")] = False
    all: Annotated[bool, Help("Show every reader, those added at run time too.")] = False
    connections: Annotated[
        int, Help("Most contexts of programs at once, at each socket.", _positive)
    ] = 1200
    readers: Annotated[
        int,
        Help(
            "Readers that libpcsclite 2.5 and later can see; restart programs when it is lowered.",
            _pcsc_readers,
        ),
    ] = 64
    old_readers: Annotated[
        int,
        Help(
            "Readers that older libraries can see: a number compiled into them, which some "
            "distribution may have raised.",
            _pcsc_readers,
        ),
    ] = 16


@dataclass(frozen=True, slots=True)
class FarCards:
    """Cards that come in over the network; each gets a reader far0, far1 ..."""

    listen: Annotated[
        str, Help("Socket path or HOST:PORT to listen at; empty: far cards are not taken.")
    ] = ""
    vpcd: Annotated[
        str,
        Help("The same for cards of vsmartcard's kind, which dial a vpcd; empty: none are taken."),
    ] = ""
    readers: Annotated[
        int, Help("Most readers of far cards at once, at each of the two.", _positive)
    ] = 16


@dataclass(frozen=True, slots=True)
class RealCards:
    """Real cards of this host's PC/SC readers, for vccidctl insert --reader and --hardware."""

    exclusive: Annotated[
        bool, Help("Keep this host's programs from a card while a guest has it.")
    ] = False
    idle: Annotated[
        int,
        Help(
            "Seconds after which another guest may have a card its owner leaves alone.", _positive
        ),
    ] = 10
    # Held back from one left on: no guest can spend the last and block the card.
    tries_kept: Annotated[
        int,
        Help("PIN tries a guest cannot use up; 0 lets it block the card.", _not_negative),
    ] = 2
    module: Annotated[
        str, Help("PKCS#11 module that reads the cards of --hardware: a name or a path.")
    ] = "opensc-pkcs11"


@dataclass(frozen=True, slots=True)
class Pkcs11:
    """PKCS#11 modules, NSS's included; each card's runs in a process of its own."""

    timeout: Annotated[
        int,
        Help(
            "Seconds a module may take to answer; then it is ended and its card leaves.", _positive
        ),
    ] = 60
    environment: Annotated[
        tuple[str, ...], Help("Variables of every module's process, NAME=VALUE each.", _variables)
    ] = ()
    variables: Annotated[
        tuple[str, ...],
        Help("Variables that vccidctl insert --set may set for one card; none may choose code."),
    ] = ("SOFTHSM2_CONF", "KRYOPTIC_CONF", "TPM2_PKCS11_STORE")


@dataclass(frozen=True, slots=True)
class FileView:
    """The readers as files, as vccidctl mount shows them, for a daemon without systemd."""

    mount: Annotated[
        str,
        Help("Empty directory where the readers are mounted; empty: nowhere.", _directory),
    ] = ""
    allow_other: Annotated[bool, Help("Let every user look in, not only the daemon's own.")] = False


@dataclass(frozen=True, slots=True)
class ReaderSettings:
    """A reader; NAME is what vccidctl calls it."""

    enabled: Annotated[bool, Help("Whether there is such a reader.")] = True
    ifd: Annotated[
        bool, Help("Show it to pcscd's driver, at NAME.ifd in the runtime directory.")
    ] = True
    pcsc: Annotated[
        bool,
        Help("Show it to programs without pcscd, at pcscd.comm in the runtime directory."),
    ] = False
    pin_pad: Annotated[
        bool, Help("Whether it has a PIN pad, typed on with vccidctl pin enter.")
    ] = False
    reader_name: Annotated[
        str,
        Help(
            "What programs see it by; empty: vccid NAME. pcscd has it of its reader.conf.",
            check_optional_label,
        ),
    ] = ""
    usb_product: Annotated[
        str, Help("Its USB product string; empty: vccid's own.", check_usb_string)
    ] = ""
    usb_serial: Annotated[
        str, Help("Its serial number, at USB and elsewhere; empty: its own.", check_usb_string)
    ] = ""
    contactless: Annotated[
        bool, Help("Whether hosts come to its PIV cards by the contactless interface.")
    ] = False
    touch: Annotated[
        str,
        Help(
            "Who touches a PIV card whose keys want it: always somebody, never anybody, or ask: "
            "vccidctl touch.",
            _one_of(*TOUCHES),
        ),
    ] = "always"
    slots: Annotated[
        int,
        Help("Slots of its USB device; the further ones are readers NAME-2, NAME-3 ...", _slots),
    ] = 1


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, checked.

    Attributes:
        readers: by name, only those enabled.
        files: the files that were read, in order.
    """

    control: Control = field(default_factory=Control)
    log: Log = field(default_factory=Log)
    certificates: Certificates = field(default_factory=Certificates)
    usb: Usb = field(default_factory=Usb)
    usbip: UsbIp = field(default_factory=UsbIp)
    guests: Guests = field(default_factory=Guests)
    pty: Pty = field(default_factory=Pty)
    pcsc: Pcsc = field(default_factory=Pcsc)
    far_cards: FarCards = field(default_factory=FarCards)
    real_cards: RealCards = field(default_factory=RealCards)
    pkcs11: Pkcs11 = field(default_factory=Pkcs11)
    file_view: FileView = field(default_factory=FileView)
    readers: Mapping[str, ReaderSettings] = field(
        default_factory=lambda: {DEFAULT_READER: ReaderSettings()}
    )
    files: tuple[Path, ...] = ()


#: The file's tables but [reader.NAME].
TABLES: Final[dict[str, type]] = {
    "control": Control,
    "log": Log,
    "certificates": Certificates,
    "usb": Usb,
    "usbip": UsbIp,
    "guests": Guests,
    "pty": Pty,
    "pcsc": Pcsc,
    "far_cards": FarCards,
    "real_cards": RealCards,
    "pkcs11": Pkcs11,
    "file_view": FileView,
}
#: Tables whose settings are options of the command line too.
ON_COMMAND_LINE: Final = ("control", "log", "certificates", "pcsc")
READER_TABLE: Final = "reader"

_TYPE_NAMES: Final[dict[type, str]] = {
    str: "a string",
    bool: "true or false",
    int: "an integer",
    tuple: "an array of strings",
}


@cache
def declared(table: type) -> Mapping[str, Declaration]:
    """The settings of a table by key, in order."""
    hints = get_type_hints(table, include_extras=True)
    declarations = {}
    for entry in fields(table):
        help = get_args(hints[entry.name])[1]
        default = cast(Value, entry.default)
        declarations[entry.name] = Declaration(entry.name, default, help.text, help.check)
    return declarations


def check_value(declaration: Declaration, value: object) -> str:
    """ "" where `value` suits the setting, else what it must be."""
    wanted = type(declaration.default)
    if wanted is tuple:
        fits = isinstance(value, list) and all(isinstance(item, str) for item in value)
    else:
        fits = type(value) is wanted  # exactly: TOML's booleans are no integers
    if not fits:
        return _TYPE_NAMES[wanted]
    return declaration.check(value)


def option(table: str, key: str) -> str:
    """A setting's option of the command line."""
    return f"--{table}-{key}".replace("_", "-")


def from_text(declaration: Declaration, text: str) -> Value:
    """A setting's value as the command line has it; to be checked as a file's is."""
    if isinstance(declaration.default, bool):
        return {"true": True, "false": False}.get(text, text)
    if isinstance(declaration.default, int) and re.fullmatch(r"-?[0-9]{1,9}", text):
        return int(text)
    return text


def slot_names(name: str, slots: int) -> tuple[str, ...]:
    """The readers that are the slots of one USB device, in the order of bSlot."""
    return (name, *(f"{name}-{number}" for number in range(2, slots + 1)))
