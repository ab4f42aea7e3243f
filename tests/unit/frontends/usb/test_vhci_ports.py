# SPDX-License-Identifier: LGPL-2.1-or-later
"""vhci_hcd's status files as kernels write them; the real ones are in tests/vm."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vccid.errors import NotPermitted, ReaderError
from vccid.frontends.usb.vhci_ports import Port, Ports, PortState, parse_status
from vccid.usb.descriptors import Speed

STATUS = """\
hub port sta spd dev      sockfd local_busid
hs  0000 006 002 00010001 000003 1-1
hs  0001 004 000 00000000 000000 0-0
ss  0015 004 000 00000000 000000 0-0
"""


def test_a_status_file() -> None:
    assert list(parse_status(STATUS)) == [
        Port("hs", 0, PortState.USED, 0x00010001, "1-1"),
        Port("hs", 1, PortState.FREE, 0, "0-0"),
        Port("ss", 15, PortState.FREE, 0, "0-0"),
    ]


def test_a_controller_that_is_not_ready_has_lines_too() -> None:
    text = "hub port sta spd dev      sockfd local_busid\nhs  0000 000 000 00000000 000000 0-0\n"
    assert list(parse_status(text)) == []
    assert list(parse_status("")) == []


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    for name, content in (("status", STATUS), ("attach", "")):
        (tmp_path / name).write_text(content)
    return tmp_path


def test_attach_takes_the_first_free_port_of_the_right_hub(sysfs: Path) -> None:
    assert Ports(sysfs).attach(7, 65537, Speed.FULL) == 1
    assert (sysfs / "attach").read_text() == "1 7 65537 2"
    (sysfs / "attach").write_text("")
    assert Ports(sysfs).attach(7, 65537, Speed.SUPER) == 15


def test_no_free_port(sysfs: Path) -> None:
    (sysfs / "status").write_text(STATUS.replace(" 004 ", " 006 "))
    with pytest.raises(ReaderError, match="no port of vhci-hcd's hs hubs is free"):
        Ports(sysfs).attach(7, 65537, Speed.FULL)


def test_the_module_is_not_loaded(tmp_path: Path) -> None:
    with pytest.raises(ReaderError, match="not loaded") as caught:
        Ports(tmp_path / "vhci_hcd.0").attach(7, 65537, Speed.FULL)
    assert "modprobe" in caught.value.hint


def test_the_attach_file_is_closed_to_the_daemon(
    sysfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, flags: int) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(NotPermitted, match="attach cannot be written"):
        Ports(sysfs).attach(7, 65537, Speed.FULL)
