# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a peer is: a unix socket or HOST:PORT, how to dial it and how to listen there.

Plain TCP reaches anyone on the way, so it is taken to loopback only, unless TLS is given
or a setting allows it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import re
import socket
import ssl
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from vccid.errors import ConfigError, NotPermitted
from vccid.links.paced_accept import BACKLOG, PacedAccept

P = TypeVar("P", bound=asyncio.Protocol)

_TCP = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^:/\[\]]+)):(?P<port>[0-9]{1,5})")

_UCRED = struct.Struct("3i")  # unix(7), SO_PEERCRED: pid, uid, gid


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A unix stream socket."""

    path: str

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host, by name or number, and a port of 1 to 65,535."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether it never leaves this machine. A name other than localhost might."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


Address = UnixAddress | TcpAddress


def parse_address(text: str) -> Address:
    """An absolute path, `unix:PATH`, `HOST:PORT` or `[ADDRESS]:PORT`.

    Raises:
        ConfigError: it is none of them.
    """
    path = text.removeprefix("unix:")
    if path.startswith("/"):
        if len(os.fsencode(path)) > 107:
            raise ConfigError(f"{path} is longer than the 107 bytes a socket's name may have")
        return UnixAddress(path)
    match = _TCP.fullmatch(text)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise ConfigError(
            f"{text!r} is no address", "give a socket's absolute path, HOST:PORT or [ADDRESS]:PORT"
        )
    return TcpAddress(match["six"] or match["host"], int(match["port"]))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address with what guards it.

    Attributes:
        tls: for TCP; None for plain.
        allow_plain: whether plain TCP may leave this machine.
    """

    address: Address
    tls: ssl.SSLContext | None = None
    allow_plain: bool = False

    def check(self) -> None:
        """Refuse what would carry a PIN in the clear to another machine.

        Raises:
            NotPermitted: plain TCP beyond loopback that nobody allowed.
        """
        if isinstance(self.address, UnixAddress) or self.tls is not None or self.allow_plain:
            return
        if not self.address.is_loopback:
            raise NotPermitted(
                f"plain TCP to {self.address} would carry PINs in the clear",
                "use TLS, a unix socket, or a tunnel to loopback; or allow plain TCP",
            )

    async def dial(self, protocol: Callable[[], P]) -> P:
        """Connect.

        Raises:
            OSError: it cannot be reached (TLS failures too: ssl.SSLError).
            NotPermitted: see `check`.
        """
        self.check()
        loop = asyncio.get_running_loop()
        if isinstance(self.address, UnixAddress):
            _, made = await loop.create_unix_connection(protocol, self.address.path)
        else:
            made = await self._dial_tcp(self.address, protocol)
        return made

    async def _dial_tcp(self, address: TcpAddress, protocol: Callable[[], P]) -> P:
        loop = asyncio.get_running_loop()
        name = None if self.tls is None else address.host
        refused: OSError | None = None
        for host in await _numbers(address):
            try:
                _, made = await loop.create_connection(
                    protocol, host, address.port, ssl=self.tls, server_hostname=name
                )
                return made
            except OSError as error:
                refused = error
        raise refused or OSError(f"{address.host} has no address")

    async def listen(
        self, protocol: Callable[[], asyncio.BaseProtocol], mode: int = 0o600
    ) -> Listening:
        """Listen. A unix socket gets `mode`; a socket nobody listens on any more is replaced.

        Raises:
            OSError: the address is taken, or not ours to take.
            NotPermitted: see `check`.
        """
        self.check()
        if isinstance(self.address, UnixAddress):
            sockets = [_bound_unix(self.address.path, mode)]
        else:
            sockets = _bound_tcp(await _numbers(self.address), self.address.port)
        return Listening(
            [PacedAccept(each, lambda connection: protocol, tls=self.tls) for each in sockets]
        )


class Listening:
    """Stands at an address."""

    def __init__(self, doors: list[PacedAccept]) -> None:
        self._doors = doors

    def close(self) -> None:
        """Let nobody in any more. May be repeated."""
        for door in self._doors:
            door.close()


def _bound_unix(path: str, mode: int) -> socket.socket:
    _clear_stale_socket(path)
    listener = socket.socket(socket.AF_UNIX)
    try:
        # The mode is set between bind and listen: nobody gets in before it.
        listener.bind(path)
        os.chmod(path, mode)
    except OSError:
        listener.close()
        raise
    return listener


def _bound_tcp(hosts: list[str], port: int) -> list[socket.socket]:
    """A socket for each address of a host that this system has: localhost may be ::1 too."""
    made: list[socket.socket] = []
    lacking: OSError | None = None
    with contextlib.ExitStack() as failed:
        for host in hosts:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            try:
                listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
            except OSError as error:
                if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    raise
                lacking = error
                continue
            failed.callback(listener.close)
            made.append(listener)
        if lacking is not None and not made:
            raise lacking
        failed.pop_all()
    return made


async def _numbers(address: TcpAddress) -> list[str]:
    """A host's addresses; a name is looked up in one of our threads, which may be refused.

    libuv would look it up in its own, and abort() where the system has none left.

    Raises:
        OSError: there is no such name, or no thread.
    """
    try:
        ipaddress.ip_address(address.host)
    except ValueError:
        pass
    else:
        return [address.host]
    look_up = partial(socket.getaddrinfo, address.host, address.port, type=socket.SOCK_STREAM)
    try:
        found = await asyncio.get_running_loop().run_in_executor(None, look_up)
    except UnicodeError as error:
        raise OSError(f"{address.host} is no host's name") from error
    return list(dict.fromkeys(_number(place) for *_, place in found))


def _number(place: tuple[Any, ...]) -> str:
    """With its interface where it holds at that alone (ipv6(7), sin6_scope_id)."""
    host, scope = str(place[0]), place[3] if len(place) > 3 else 0
    return f"{host}%{scope}" if scope and "%" not in host else host


def _clear_stale_socket(path: str) -> None:
    try:
        is_socket = stat.S_ISSOCK(os.stat(path).st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        return  # bind refuses it, rightly
    probe = socket.socket(socket.AF_UNIX)
    try:
        probe.setblocking(False)
        probe.connect(path)
    except ConnectionRefusedError:
        Path(path).unlink(missing_ok=True)
    except BlockingIOError:
        pass  # somebody listens and is busy
    finally:
        probe.close()


def keep_alive(
    transport: asyncio.BaseTransport, idle: int = 15, interval: int = 5, probes: int = 3
) -> None:
    """Have the kernel notice a TCP peer that vanished, within about 30 seconds.

    Args:
        idle, interval: seconds of silence before the first probe, and between two.
        probes: without an answer, until the peer is taken to be gone.
    """
    connection = transport.get_extra_info("socket")
    if connection is None or connection.family == socket.AF_UNIX:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, probes)
    # Nobody is probed while something sent is not acknowledged; that ends by itself after a
    # quarter of an hour, or after this many milliseconds.
    patience = 1000 * (idle + interval * probes)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience)


def peer_name(transport: asyncio.BaseTransport) -> str:
    """Who is at the other end, for people: `pid 812` or `192.0.2.7:40122`."""
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family == socket.AF_UNIX:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        return f"pid {_UCRED.unpack(credentials)[0]}"
    name = transport.get_extra_info("peername")
    return str(TcpAddress(name[0], name[1])) if name else "unknown"
