# SPDX-License-Identifier: LGPL-2.1-or-later
"""What happens at once at one reader: a restore, an attach, a reload, a removal."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.unit.fakes import FakeCard
from vccid.errors import ReaderError, StateError, VccidError
from vccid.readers.attachments import Attachment
from vccid.readers.card_maker import CardMaker
from vccid.readers.frontend_maker import FrontendMaker
from vccid.readers.manager import ReaderManager
from vccid.readers.reader_attachments import AttachmentStatus
from vccid.readers.readers_json import Entry, MadeCard, ReadersFile
from vccid.settings.config import FarCards, ReaderSettings, Settings
from vccid.settings.directories import Directories

VHCI = Attachment("vhci")
OFFICE = Settings(readers={"office": ReaderSettings(ifd=False)})
NOTHING = Settings(readers={})
CARD = MadeCard(("cert1",), "sql:/nowhere", "libcacard")


class Host:
    """The one place "office" can be attached to.

    Attributes:
        frontends: how many run there.
        asked: one has begun to start.
        open: while it is not set, they wait.
        error: what their start comes to.
        stuck: what their stop comes to.
    """

    status = "attached"

    def __init__(self) -> None:
        self.frontends = 0
        self.asked = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()
        self.error: OSError | None = None
        self.stuck: Exception | None = None

    async def start(self) -> None:
        self.asked.set()
        await self.open.wait()
        if self.error is not None:
            raise self.error
        self.frontends += 1

    async def stop(self) -> None:
        if self.stuck is not None:
            raise self.stuck
        self.frontends -= 1


class ClosedCard(FakeCard):
    closed = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host()
    monkeypatch.setattr(FrontendMaker, "make", lambda *how: host)
    return host


@pytest.fixture
def readers_file(tmp_path: Path) -> ReadersFile:
    return ReadersFile(tmp_path)


@pytest.fixture
async def manager(tmp_path: Path, host: Host, readers_file: ReadersFile) -> ReaderManager:
    """Its reader was attached before, and is not yet again."""
    await readers_file.save({"office": Entry(False, None, (VHCI,))})
    manager = ReaderManager(Directories(tmp_path, tmp_path, tmp_path, None), OFFICE)
    await manager.start()
    return manager


async def test_an_attach_may_come_before_the_restore(manager: ReaderManager, host: Host) -> None:
    await manager.attach("office", VHCI)
    await manager.restore()
    assert host.frontends == 1
    await manager.detach("office", VHCI)
    assert host.frontends == 0


async def test_so_may_a_detach(
    manager: ReaderManager, host: Host, readers_file: ReadersFile
) -> None:
    await manager.detach("office", VHCI)
    await manager.restore()
    assert (host.frontends, readers_file.load()) == (0, {})
    with pytest.raises(ReaderError, match="is not attached to vhci"):
        await manager.detach("office", VHCI)


async def test_a_reload_waits_for_what_is_being_attached(
    manager: ReaderManager, host: Host
) -> None:
    host.open.clear()
    restore = asyncio.create_task(manager.restore())
    await host.asked.wait()
    reload = asyncio.create_task(manager.apply(NOTHING))
    await asyncio.sleep(0.01)
    host.open.set()
    await asyncio.gather(restore, reload)
    assert (host.frontends, manager.readers.by_name) == (0, {})


async def test_a_reader_may_go_while_its_lock_is_waited_for(
    manager: ReaderManager, host: Host
) -> None:
    async with manager.readers.find("office").attachments.lock:
        reload = asyncio.create_task(manager.apply(NOTHING))
        await asyncio.sleep(0)
        waiting = [
            asyncio.create_task(manager.attach("office", VHCI)),
            asyncio.create_task(manager.detach("office", VHCI)),
        ]
        await asyncio.sleep(0)
    await reload
    for task in waiting:
        with pytest.raises(ReaderError, match="reader office was removed"):
            await task
    assert host.frontends == 0


async def test_no_card_however_slow_keeps_a_reader(
    manager: ReaderManager, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: asyncio.Future[tuple[FakeCard, list[str]]] = asyncio.get_running_loop().create_future()

    async def slowly(*wish: object) -> tuple[FakeCard, list[str]]:
        return await made

    monkeypatch.setattr(CardMaker, "make", slowly)
    insert = asyncio.create_task(manager.insert("office", CARD, None, None))
    await asyncio.sleep(0)
    await manager.attach("office", VHCI)
    await manager.detach("office", VHCI)
    await manager.apply(NOTHING)
    card = ClosedCard()
    made.set_result((card, []))
    with pytest.raises(ReaderError, match="reader office was removed"):
        await insert
    assert card.closed


async def test_a_card_the_system_refuses_keeps_back_no_host(
    manager: ReaderManager, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none_left(*wish: object) -> tuple[FakeCard, list[str]]:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(CardMaker, "make", none_left)
    managed = manager.readers.find("office")
    managed.content.recall(CARD)
    await manager.restore()
    assert host.frontends == 1
    problem = managed.content.problem
    assert problem is not None and "Too many open files" in problem.message


async def test_a_reader_that_cannot_be_opened_keeps_back_no_other(
    manager: ReaderManager, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.error = OSError(17, "File exists")
    wanted = {name: ReaderSettings(ifd=name == "bad") for name in ("office", "bad", "good")}
    await manager.apply(Settings(readers=wanted))
    assert set(manager.readers.by_name) == {"office", "good"}
    assert "reader bad cannot be attached to ifd: File exists" in caplog.text


async def test_servers_that_cannot_be_as_wanted_change_nothing(
    manager: ReaderManager, tmp_path: Path
) -> None:
    wanted = Settings(readers={}, far_cards=FarCards(listen=str(tmp_path / "no" / "where")))
    with pytest.raises(VccidError):
        await manager.apply(wanted)
    assert set(manager.readers.by_name) == {"office"}


async def test_a_bus_id_stays_with_its_reader(
    manager: ReaderManager, host: Host, readers_file: ReadersFile
) -> None:
    usbip = Attachment("usbip")
    await manager.add_reader("second")
    await manager.attach("second", usbip)
    await manager.attach("office", usbip)
    kept = {name: entry.attachments for name, entry in readers_file.load().items()}
    assert kept["second"] == (Attachment("usbip", "1-1"),)
    assert Attachment("usbip", "1-2") in kept["office"]
    await manager.detach("second", usbip)
    await manager.add_reader("third")
    await manager.attach("third", usbip)
    assert manager.readers.find("third").attachments.kept == {Attachment("usbip", "1-1")}


async def test_readers_that_are_attached_at_once_get_a_bus_id_each(
    manager: ReaderManager, host: Host
) -> None:
    for name in ("second", "third"):
        await manager.add_reader(name)
    host.open.clear()
    names = ("office", "second", "third")
    usbip = Attachment("usbip")
    attaching = [asyncio.create_task(manager.attach(name, usbip)) for name in names]
    await asyncio.sleep(0.01)
    host.open.set()
    await asyncio.gather(*attaching)
    given = {to for name in names for to in manager.readers.find(name).attachments.kept} - {VHCI}
    assert given == {Attachment("usbip", f"1-{number}") for number in (1, 2, 3)}


async def test_a_pad_that_is_no_longer_offered_is_still_typed_on(
    manager: ReaderManager, host: Host
) -> None:
    """Hosts that are attached were shown it."""
    padded = Settings(readers={"office": ReaderSettings(ifd=False, pin_pad=True)})
    await manager.apply(padded)
    managed = manager.readers.find("office")
    pad = managed.pin_pad
    assert pad is not None
    for settings in (OFFICE, padded):
        await manager.apply(settings)
        assert managed.pin_pad is pad


async def test_what_the_system_refuses_is_told_and_tried_again(
    manager: ReaderManager, host: Host, readers_file: ReadersFile
) -> None:
    host.error = OSError(24, "Too many open files")
    await manager.restore()
    (attached,) = manager.readers.find("office").attachments.statuses
    assert not attached.up and "Too many open files" in attached.status
    with pytest.raises(VccidError, match="cannot be attached to vhci: Too many open files"):
        await manager.attach("office", VHCI)
    assert readers_file.load()["office"].attachments == (VHCI,)
    host.error = None
    await manager.attach("office", VHCI)
    assert host.frontends == 1


@pytest.mark.parametrize("how", ["detach", "remove", "end"])
async def test_a_frontend_that_cannot_end_keeps_nothing_back(
    manager: ReaderManager, host: Host, how: str
) -> None:
    await manager.restore()
    await manager.add_reader("lab")
    await manager.attach("lab", VHCI)
    lab = manager.readers.find("lab").reader
    lab.insert(FakeCard())
    host.stuck = AttributeError("_transport")
    if how == "detach":
        await manager.detach("lab", VHCI)
        assert manager.readers.find("lab").attachments.statuses == [
            AttachmentStatus(Attachment("ifd"), True, "attached")
        ]
    elif how == "remove":
        await manager.remove_reader("lab")
        await manager.add_reader("lab")  # its name is free again
        assert lab.card is None
    else:
        await manager.stop()
        assert lab.card is None


class Full(ReadersFile):
    """Its disk is full."""

    async def save(self, entries: Mapping[str, Entry]) -> None:
        raise StateError("readers.json cannot be written: No space left on device")


async def test_what_a_restart_undoes_is_told(
    manager: ReaderManager, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    await manager.restore()
    await manager.add_reader("lab")
    manager.readers.find("office").reader.insert(FakeCard())
    monkeypatch.setattr(ReadersFile, "save", Full.save)
    full = "readers.json cannot be written: No space left on device"
    _, _, warnings = await manager.remove("office")
    assert warnings == [f"the card will be back after a restart: {full}"]
    _, warnings = await manager.detach("office", VHCI)
    assert warnings == [f"it will be attached after a restart: {full}"]
    _, _, warnings = await manager.attach("office", VHCI)
    assert warnings == [f"it will not be attached after a restart: {full}"]
    warnings = await manager.remove_reader("lab")
    assert warnings == [f"the reader will be back after a restart: {full}"]
    with pytest.raises(StateError):
        await manager.add_reader("new")
    assert "new" not in manager.readers.by_name
    assert manager.problems == [full]
    await manager.stop()
