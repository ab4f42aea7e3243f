# SPDX-License-Identifier: LGPL-2.1-or-later
"""The USB/IP server comes, goes and is set anew with the readers it exports."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.unit.frontends.tls_files import make_authority
from tests.unit.frontends.usb_client import usb_reader
from tests.unit.frontends.usbip_client import UsbIpClient
from vccid.daemon.config import UsbIp
from vccid.daemon.usb import Exports
from vccid.errors import ConfigError
from vccid.frontends.usb_host import UsbReader
from vccid.reader import Reader


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def settings() -> UsbIp:
    return UsbIp(port=free_port())


@pytest.fixture
def taken() -> Iterator[int]:
    """A port somebody else listens at."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


@pytest.fixture
def office() -> UsbReader:
    return usb_reader(Reader("office"))


@pytest.fixture
def lab() -> UsbReader:
    return usb_reader(Reader("lab"))


@pytest.fixture
async def exports(settings: UsbIp, office: UsbReader) -> AsyncIterator[Exports]:
    exports = Exports(settings)
    await exports.add(office)
    yield exports
    for name in ("office", "lab"):
        await exports.remove(name)


async def listed(port: int) -> list[str]:
    """The bus ids a server has; none where nobody listens."""
    try:
        client = await UsbIpClient.connect(("127.0.0.1", port))
    except ConnectionRefusedError:
        return []
    async with client:
        return [busid for busid, _, _ in await client.devlist()]


@pytest.mark.parametrize("address", ["here", "0.0.0.0"])
async def test_unfit_settings_leave_the_importers_their_reader(
    exports: Exports, settings: UsbIp, office: UsbReader, address: str
) -> None:
    async with await UsbIpClient.connect(("127.0.0.1", settings.port)) as importer:
        assert await importer.import_device("1-1") == 0
        with pytest.raises(ConfigError):
            await exports.apply(replace(settings, address=address))
        await importer.ccid.configure()
        assert await listed(settings.port) == []
    await exports.apply(settings)
    assert exports.place("office") == f"bus id 1-1 at 127.0.0.1 port {settings.port}"


async def test_an_address_that_cannot_be_had(exports: Exports, settings: UsbIp, taken: int) -> None:
    with pytest.raises(ConfigError, match=f"port {taken}"):
        await exports.apply(replace(settings, port=taken))
    assert await listed(settings.port) == ["1-1"]
    other = replace(settings, port=free_port())
    await exports.apply(other)
    assert (await listed(settings.port), await listed(other.port)) == ([], ["1-1"])


async def test_a_server_that_could_not_come_back_comes_with_the_next_reload(
    exports: Exports, settings: UsbIp, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*place: object, **options: object) -> socket.socket:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched, pytest.raises(ConfigError):
        patched.setattr(socket, "create_server", none_left)
        await exports.apply(replace(settings, port=taken))
    assert exports.place("office") == "not listening"
    await exports.apply(settings)
    assert await listed(settings.port) == ["1-1"]


async def test_changes_at_the_same_time(exports: Exports, settings: UsbIp, lab: UsbReader) -> None:
    """Each wants the port for itself."""
    for _ in range(5):
        await asyncio.gather(
            exports.remove("office"),
            exports.add(lab),
            exports.apply(replace(settings, connections=7)),
            exports.apply(settings),
        )
        assert await listed(settings.port) == ["1-1"]
        assert exports.place("lab").startswith("bus id 1-1 at")
        await asyncio.gather(exports.remove("lab"), exports.add(usb_reader(Reader("office"))))


async def test_without_a_reader_nobody_listens(exports: Exports, settings: UsbIp) -> None:
    await exports.remove("office")
    await exports.apply(replace(settings, connections=7))
    assert await listed(settings.port) == []


async def test_renewed_tls_files_are_taken_at_a_reload(
    settings: UsbIp, office: UsbReader, tmp_path: Path
) -> None:
    authority = make_authority(tmp_path, ec.SECP256R1())
    own = str(tmp_path / "server.pem")
    settings = replace(
        settings, tls_certificate=own, tls_key=own, tls_authorities=str(tmp_path / "ca.pem")
    )
    exports = Exports(settings)
    await exports.add(office)
    address = ("127.0.0.1", settings.port)
    try:
        async with await UsbIpClient.connect(address, authority.client_context()) as early:
            assert await early.import_device("1-1") == 0
            renewed = make_authority(tmp_path, ec.SECP256R1()).client_context()
            with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
                await UsbIpClient.connect(address, renewed)
            await exports.apply(settings)
            async with await UsbIpClient.connect(address, renewed) as late:
                assert await late.devlist() == []
            await early.ccid.configure()
    finally:
        await exports.remove("office")
