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
from vccid.readers.managed_reader import Standing
from vccid.readers.manager import Service
from vccid.readers.readers_json import Entry, Inventory, Wanted
from vccid.settings.config import FarCards, ReaderSettings, Settings
from vccid.settings.directories import Directories

VHCI = Attachment("vhci")
OFFICE = Settings(readers={"office": ReaderSettings(ifd=False)})
NOTHING = Settings(readers={})
CARD = Wanted(("cert1",), "sql:/nowhere", "libcacard")


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
def inventory(tmp_path: Path) -> Inventory:
    return Inventory(tmp_path)


@pytest.fixture
async def service(tmp_path: Path, host: Host, inventory: Inventory) -> Service:
    """Its reader was attached before, and is not yet again."""
    await inventory.save({"office": Entry(False, None, (VHCI,))})
    service = Service(Directories(tmp_path, tmp_path, tmp_path, None), OFFICE)
    await service.start()
    return service


async def test_an_attach_may_come_before_the_restore(service: Service, host: Host) -> None:
    await service.attach("office", VHCI)
    await service.restore()
    assert host.frontends == 1
    await service.detach("office", VHCI)
    assert host.frontends == 0


async def test_so_may_a_detach(service: Service, host: Host, inventory: Inventory) -> None:
    await service.detach("office", VHCI)
    await service.restore()
    assert (host.frontends, inventory.load()) == (0, {})
    with pytest.raises(ReaderError, match="is not attached to vhci"):
        await service.detach("office", VHCI)


async def test_a_reload_waits_for_what_is_being_attached(service: Service, host: Host) -> None:
    host.open.clear()
    restore = asyncio.create_task(service.restore())
    await host.asked.wait()
    reload = asyncio.create_task(service.apply(NOTHING))
    await asyncio.sleep(0.01)
    host.open.set()
    await asyncio.gather(restore, reload)
    assert (host.frontends, service.stations) == (0, {})


async def test_a_reader_may_go_while_its_lock_is_waited_for(service: Service, host: Host) -> None:
    async with service.station("office").frontends_lock:
        reload = asyncio.create_task(service.apply(NOTHING))
        await asyncio.sleep(0)
        waiting = [
            asyncio.create_task(service.attach("office", VHCI)),
            asyncio.create_task(service.detach("office", VHCI)),
        ]
        await asyncio.sleep(0)
    await reload
    for task in waiting:
        with pytest.raises(ReaderError, match="reader office was removed"):
            await task
    assert host.frontends == 0


async def test_no_card_however_slow_keeps_a_reader(
    service: Service, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: asyncio.Future[tuple[FakeCard, list[str]]] = asyncio.get_running_loop().create_future()

    async def slowly(*wish: object) -> tuple[FakeCard, list[str]]:
        return await made

    monkeypatch.setattr(CardMaker, "make", slowly)
    insert = asyncio.create_task(service.insert("office", CARD, None, None))
    await asyncio.sleep(0)
    await service.attach("office", VHCI)
    await service.detach("office", VHCI)
    await service.apply(NOTHING)
    card = ClosedCard()
    made.set_result((card, []))
    with pytest.raises(ReaderError, match="reader office was removed"):
        await insert
    assert card.closed


async def test_a_card_the_system_refuses_keeps_back_no_host(
    service: Service, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none_left(*wish: object) -> tuple[FakeCard, list[str]]:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(CardMaker, "make", none_left)
    station = service.station("office")
    station.wanted = CARD
    await service.restore()
    assert host.frontends == 1
    assert station.problem is not None and "Too many open files" in station.problem.message


async def test_a_reader_that_cannot_be_opened_keeps_back_no_other(
    service: Service, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.error = OSError(17, "File exists")
    wanted = {name: ReaderSettings(ifd=name == "bad") for name in ("office", "bad", "good")}
    await service.apply(Settings(readers=wanted))
    assert set(service.stations) == {"office", "good"}
    assert "reader bad cannot be attached to ifd: File exists" in caplog.text


async def test_servers_that_cannot_be_as_wanted_change_nothing(
    service: Service, tmp_path: Path
) -> None:
    wanted = Settings(readers={}, far_cards=FarCards(listen=str(tmp_path / "no" / "where")))
    with pytest.raises(VccidError):
        await service.apply(wanted)
    assert set(service.stations) == {"office"}


async def test_a_bus_id_stays_with_its_reader(
    service: Service, host: Host, inventory: Inventory
) -> None:
    usbip = Attachment("usbip")
    await service.add_reader("second")
    await service.attach("second", usbip)
    await service.attach("office", usbip)
    kept = {name: entry.attachments for name, entry in inventory.load().items()}
    assert kept["second"] == (Attachment("usbip", "1-1"),)
    assert Attachment("usbip", "1-2") in kept["office"]
    await service.detach("second", usbip)
    await service.add_reader("third")
    await service.attach("third", usbip)
    assert service.station("third").attachments == {Attachment("usbip", "1-1")}


async def test_readers_that_are_attached_at_once_get_a_bus_id_each(
    service: Service, host: Host
) -> None:
    for name in ("second", "third"):
        await service.add_reader(name)
    host.open.clear()
    names = ("office", "second", "third")
    usbip = Attachment("usbip")
    attaching = [asyncio.create_task(service.attach(name, usbip)) for name in names]
    await asyncio.sleep(0.01)
    host.open.set()
    await asyncio.gather(*attaching)
    given = {to for name in names for to in service.station(name).attachments} - {VHCI}
    assert given == {Attachment("usbip", f"1-{number}") for number in (1, 2, 3)}


async def test_a_pad_that_is_no_longer_offered_is_still_typed_on(
    service: Service, host: Host
) -> None:
    """Hosts that are attached were shown it."""
    padded = Settings(readers={"office": ReaderSettings(ifd=False, pin_pad=True)})
    await service.apply(padded)
    station = service.station("office")
    pad = station.pin_pad
    assert pad is not None
    for settings in (OFFICE, padded):
        await service.apply(settings)
        assert station.pin_pad is pad


async def test_what_the_system_refuses_is_told_and_tried_again(
    service: Service, host: Host, inventory: Inventory
) -> None:
    host.error = OSError(24, "Too many open files")
    await service.restore()
    (standing,) = service.station("office").standings
    assert not standing.up and "Too many open files" in standing.status
    with pytest.raises(VccidError, match="cannot be attached to vhci: Too many open files"):
        await service.attach("office", VHCI)
    assert inventory.load()["office"].attachments == (VHCI,)
    host.error = None
    await service.attach("office", VHCI)
    assert host.frontends == 1


@pytest.mark.parametrize("how", ["detach", "remove", "end"])
async def test_a_frontend_that_cannot_end_keeps_nothing_back(
    service: Service, host: Host, how: str
) -> None:
    await service.restore()
    await service.add_reader("lab")
    await service.attach("lab", VHCI)
    lab = service.station("lab").reader
    lab.insert(FakeCard())
    host.stuck = AttributeError("_transport")
    if how == "detach":
        await service.detach("lab", VHCI)
        assert service.station("lab").standings == [Standing(Attachment("ifd"), True, "attached")]
    elif how == "remove":
        await service.remove_reader("lab")
        await service.add_reader("lab")  # its name is free again
        assert lab.card is None
    else:
        await service.stop()
        assert lab.card is None


class Full(Inventory):
    """Its disk is full."""

    async def save(self, entries: Mapping[str, Entry]) -> None:
        raise StateError("readers.json cannot be written: No space left on device")


async def test_what_a_restart_undoes_is_told(
    service: Service, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.restore()
    await service.add_reader("lab")
    service.station("office").reader.insert(FakeCard())
    monkeypatch.setattr(Inventory, "save", Full.save)
    full = "readers.json cannot be written: No space left on device"
    _, _, warnings = await service.remove("office")
    assert warnings == [f"the card will be back after a restart: {full}"]
    _, warnings = await service.detach("office", VHCI)
    assert warnings == [f"it will be attached after a restart: {full}"]
    _, _, warnings = await service.attach("office", VHCI)
    assert warnings == [f"it will not be attached after a restart: {full}"]
    warnings = await service.remove_reader("lab")
    assert warnings == [f"the reader will be back after a restart: {full}"]
    with pytest.raises(StateError):
        await service.add_reader("new")
    assert "new" not in service.stations
    assert service.problems == [full]
    await service.stop()
