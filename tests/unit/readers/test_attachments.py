# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a reader can be attached to, and the terminal it gets where none is named."""

import pytest

from vccid.errors import ReaderError
from vccid.readers.attachments import Attachment, place_for


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        ("vhci", ""),
        ("vsc", "/run/guest"),
        ("pty", ""),
        ("pty", "/run/reader"),
        ("tty", ""),
        ("tty", "/dev/ttyVCCID0"),
        ("tty", "/dev/ttyVCCID255"),
    ],
)
def test_what_can_be(kind: str, address: str) -> None:
    attachment = Attachment.parse(kind, address, False)
    assert (attachment.kind, attachment.address) == (kind, address)


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        ("ifd", ""),
        ("serial", ""),
        ("vhci", "/run/guest"),
        ("vsc", ""),
        ("pty", "reader"),
        ("tty", "7"),
        ("tty", "/dev/ttyS0"),
        ("tty", "/dev/ttyVCCID07"),
        ("tty", "/dev/ttyVCCID0/../null"),
    ],
)
def test_what_cannot_be_is_told(kind: str, address: str) -> None:
    with pytest.raises(ReaderError) as refused:
        Attachment.parse(kind, address, False)
    assert refused.value.hint


@pytest.mark.parametrize(
    ("attachment", "words"),
    [
        (Attachment("vhci"), "vhci"),
        (Attachment("vsc", "/run/guest"), "vsc /run/guest"),
        (Attachment("usbredir", "/run/guest"), "usbredir /run/guest"),
        (Attachment("usbredir", "/run/guest", listen=True), "usbredir --listen /run/guest"),
    ],
)
def test_it_is_shown_as_it_is_typed(attachment: Attachment, words: str) -> None:
    assert str(attachment) == words


@pytest.mark.parametrize(
    ("reader", "taken", "number"),
    [
        ("vccid0", [], 0),
        ("vccid7", [0, 1], 7),
        ("vccid7", [7], 0),
        ("second", [], 0),
        ("second", [0, 1, 3], 2),
        ("vccid0-2", [0], 2),
        ("desk-07", [], 0),
        ("room1234", [], 0),
    ],
)
def test_the_terminal_of_a_reader(reader: str, taken: list[int], number: int) -> None:
    names = [f"/dev/ttyVCCID{other}" for other in taken]
    assert place_for("tty", reader, names) == f"/dev/ttyVCCID{number}"


@pytest.mark.parametrize(
    ("taken", "wanted"), [([], "1-1"), (["1-2"], "1-1"), (["1-1", "1-3"], "1-2")]
)
def test_the_bus_id_of_a_reader(taken: list[str], wanted: str) -> None:
    assert place_for("usbip", "vccid7", taken) == wanted
    assert Attachment.parse("usbip", wanted, False) == Attachment("usbip", wanted)
