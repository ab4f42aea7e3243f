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
from tests.unit.frontends.usb.usb_client import usb_reader
from tests.unit.frontends.usb.usbip_client import UsbIpClient
from vccid.errors import ConfigError, ReaderError
from vccid.frontends.usb.usb_host import UsbReader
from vccid.reader import Reader
from vccid.readers.usb_exports import Exports
from vccid.settings.config import UsbIp


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
    await exports.add("1-1", office)
    yield exports
    for busid in ("1-1", "1-2"):
        await exports.remove(busid)


async def listed(port: int, address: str = "127.0.0.1") -> list[str]:
    """The bus ids a server has; none where nobody listens."""
    try:
        client = await UsbIpClient.connect((address, port))
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
    assert exports.place == f"127.0.0.1 port {settings.port}"


async def test_a_port_that_cannot_be_had_leaves_them_theirs_too(
    exports: Exports, settings: UsbIp, taken: int
) -> None:
    async with await UsbIpClient.connect(("127.0.0.1", settings.port)) as importer:
        assert await importer.import_device("1-1") == 0
        with pytest.raises(ConfigError, match=f"port {taken}"):
            await exports.apply(replace(settings, port=taken))
        await importer.ccid.configure()
    other = replace(settings, port=free_port())
    await exports.apply(other)
    assert (await listed(settings.port), await listed(other.port)) == ([], ["1-1"])


async def test_another_address_at_the_same_port(exports: Exports, settings: UsbIp) -> None:
    assert await listed(settings.port, "127.0.0.2") == [], "loopback's own address alone"
    everywhere = replace(settings, address="0.0.0.0", allow=("127.0.0.0/8",))
    await exports.apply(everywhere)
    assert await listed(settings.port, "127.0.0.2") == ["1-1"]


async def test_an_address_that_no_interface_has_yet(
    exports: Exports, settings: UsbIp, caplog: pytest.LogCaptureFixture
) -> None:
    """Of TEST-NET-1 (RFC 5737)."""
    await exports.apply(replace(settings, address="192.0.2.1", allow=("192.0.2.0/24",)))
    assert exports.place == f"192.0.2.1 port {settings.port}, an address that no interface had"
    assert "no interface has the address 192.0.2.1 yet" in caplog.text


async def test_a_server_that_could_not_come_back_comes_with_the_next_reload(
    exports: Exports, settings: UsbIp, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*place: object, **options: object) -> socket.socket:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched, pytest.raises(ConfigError):
        patched.setattr(socket, "create_server", none_left)
        await exports.apply(replace(settings, connections=7))
    assert exports.place == "not listening"
    await exports.apply(settings)
    assert await listed(settings.port) == ["1-1"]


async def test_changes_at_the_same_time(exports: Exports, settings: UsbIp, lab: UsbReader) -> None:
    """Each wants the port for itself."""
    for _ in range(5):
        await asyncio.gather(
            exports.remove("1-1"),
            exports.add("1-2", lab),
            exports.apply(replace(settings, connections=7)),
            exports.apply(settings),
        )
        assert await listed(settings.port) == ["1-2"]
        await asyncio.gather(exports.remove("1-2"), exports.add("1-1", lab))


async def test_a_bus_id_is_one_reader_s(exports: Exports, settings: UsbIp, lab: UsbReader) -> None:
    with pytest.raises(ReaderError, match="bus id 1-1 is reader office's"):
        await exports.add("1-1", lab)
    assert await listed(settings.port) == ["1-1"]


async def test_without_a_reader_nobody_listens(exports: Exports, settings: UsbIp) -> None:
    await exports.remove("1-1")
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
    await exports.add("1-1", office)
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
        await exports.remove("1-1")
