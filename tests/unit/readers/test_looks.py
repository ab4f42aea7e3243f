# SPDX-License-Identifier: LGPL-2.1-or-later
"""A reader looks as settings and requests say."""

from __future__ import annotations

from pathlib import Path

from vccid.reader import Reader
from vccid.readers.manager import ReaderManager
from vccid.readers.readers_json import Entry, ReadersFile
from vccid.readers.usb_exports import usb_reader
from vccid.settings.config import ReaderSettings, Settings, Usb
from vccid.settings.directories import Directories
from vccid.usb.descriptors import PRODUCT


def settings(**own: str) -> Settings:
    return Settings(readers={"office": ReaderSettings(ifd=False, **own)})  # type: ignore[arg-type]


def directories(tmp_path: Path) -> Directories:
    made = Directories(tmp_path / "run", tmp_path / "state", tmp_path / "etc", None)
    made.create()
    return made


async def test_the_settings_name_it_and_a_request_has_the_last_word(tmp_path: Path) -> None:
    manager = ReaderManager(directories(tmp_path), settings(reader_name="From the settings"))
    await manager.start()
    managed = manager.readers.find("office")
    assert managed.reader.label == "From the settings"
    await managed.relabel("Virtual PCD", "")
    assert managed.reader.label == "Virtual PCD"
    await manager.apply(settings(reader_name="Other settings"))
    assert managed.reader.label == "Virtual PCD"
    await managed.relabel("", "")
    assert managed.reader.label == "Other settings"
    await manager.apply(settings())
    assert managed.reader.label == "vccid office"
    await manager.stop()


async def test_the_name_is_kept_over_a_restart(tmp_path: Path) -> None:
    places = directories(tmp_path)
    await ReadersFile(places.state).save({"office": Entry(False, None, label="Virtual PCD")})
    manager = ReaderManager(places, settings())
    await manager.start()
    managed = manager.readers.find("office")
    assert managed.reader.label == "Virtual PCD"
    assert managed.entry == Entry(False, None, label="Virtual PCD")
    await manager.stop()


def test_strings_of_usb() -> None:
    reader = Reader("office")
    usual = usb_reader([(reader, None)], "1", Usb(), ReaderSettings()).identity
    assert (usual.product, usual.serial, usual.label) == (PRODUCT, "1", "vccid office")
    reader.label = "Virtual PCD"
    own = usb_reader([(reader, None)], "2", Usb(), ReaderSettings(usb_product="Reader 2")).identity
    assert (own.product, own.serial, own.label) == ("Reader 2", "2", "Virtual PCD")
