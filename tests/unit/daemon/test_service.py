# SPDX-License-Identifier: LGPL-2.1-or-later
"""What happens at once at one reader: a restore, an attach, a reload, a removal."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from vccid.daemon.attachments import Attachment
from vccid.daemon.config import ReaderSettings, Settings
from vccid.daemon.directories import Directories
from vccid.daemon.frontends import FrontendMaker
from vccid.daemon.inventory import Entry, Inventory
from vccid.daemon.service import Service
from vccid.errors import ReaderError, VccidError

VHCI = Attachment("vhci")
OFFICE = Settings(readers={"office": ReaderSettings(ifd=False)})
NOTHING = Settings(readers={})


class Host:
    """The one place "office" can be attached to.

    Attributes:
        frontends: how many run there.
        asked: one has begun to start.
        open: while it is not set, they wait.
        error: what their start comes to.
    """

    status = "attached"

    def __init__(self) -> None:
        self.frontends = 0
        self.asked = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()
        self.error: OSError | None = None

    async def start(self) -> None:
        self.asked.set()
        await self.open.wait()
        if self.error is not None:
            raise self.error
        self.frontends += 1

    async def stop(self) -> None:
        self.frontends -= 1


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
    async with service.station("office").lock:
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
