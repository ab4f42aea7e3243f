# SPDX-License-Identifier: LGPL-2.1-or-later
"""Peers of the control socket that misbehave, and those that may not be there at all."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.peers.daemon import BIN, PATIENCE, Daemon
from vccid.wire.varlink import MAX_MESSAGE_BYTES

STATUS = b'{"method":"io.vccid.Status"}\0'
NOBODY = 65534

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes other users")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("faults") / "vccid") as daemon:
        yield daemon


@contextlib.contextmanager
def peer(daemon: Daemon) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as connection:
        # Blocking: where the backlog is full, connect() waits for its turn.
        connection.connect(str(daemon.control))
        connection.settimeout(PATIENCE)
        yield connection


def read_reply(connection: socket.socket) -> dict[str, Any]:
    data = b""
    while not data.endswith(b"\0"):
        more = connection.recv(65536)
        assert more, f"closed after {data!r}"
        data += more
    reply: dict[str, Any] = json.loads(data[:-1])
    return reply


def is_dropped(connection: socket.socket) -> bool:
    """Whether the daemon ends the connection without another word."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def still_serves(daemon: Daemon) -> bool:
    with peer(daemon) as other:
        other.sendall(STATUS)
        return bool(read_reply(other)["parameters"]["pid"] == daemon.pid)


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"\0", "no JSON"),
        (b"GET / HTTP/1.1\r\n\r\n\0", "no JSON"),
        (os.urandom(64).replace(b"\0", b"x") + b"\0", "no JSON"),
        (b"[" * 100_000 + b"\0", "no JSON"),
        (b'{"method":1}\0', "names no interface"),
        (b'{"method":"io.vccid.Status","upgrade":true}\0', "upgrade"),
        (b"x" * (MAX_MESSAGE_BYTES + 1), "longer than"),
        (b'{"method":"io.vccid.Monitor","more":true}\0' + STATUS, "while events are sent"),
    ],
    ids=["nothing", "http", "noise", "depth", "no-method", "upgrade", "length", "after-monitor"],
)
def test_garbage_is_dropped_with_one_line(daemon: Daemon, sent: bytes, why: str) -> None:
    before = len(daemon.printed())
    with peer(daemon) as bad, peer(daemon) as bystander:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            bad.sendall(sent)
        while not is_dropped(bad):
            continue
        bystander.sendall(STATUS)
        assert read_reply(bystander)["parameters"]["version"]
    daemon.wait_for(lambda: why in daemon.printed()[before:])
    lines = daemon.printed()[before:].strip().splitlines()
    assert len(lines) == 1, lines
    assert f"PEER=pid {os.getpid()}" in lines[0]


def test_one_byte_at_a_time(daemon: Daemon) -> None:
    with peer(daemon) as slow:
        for byte in STATUS:
            slow.send(bytes([byte]))
        assert read_reply(slow)["parameters"]["pid"] == daemon.pid


def test_many_calls_in_one_go_are_answered_in_order(daemon: Daemon) -> None:
    calls = [b'{"method":"io.vccid.Remove","parameters":{"reader":"r%d"}}\0' % i for i in range(50)]
    with peer(daemon) as eager:
        eager.sendall(b"".join(calls))
        data = b""
        while data.count(b"\0") < len(calls):
            data += eager.recv(65536)
    messages = [json.loads(reply)["parameters"]["message"] for reply in data.split(b"\0")[:-1]]
    assert messages == [f"there is no reader r{i}" for i in range(50)]


def test_a_peer_that_ends_its_half_still_gets_its_answer(daemon: Daemon) -> None:
    with peer(daemon) as half:
        half.sendall(STATUS)
        half.shutdown(socket.SHUT_WR)
        assert read_reply(half)["parameters"]["pid"] == daemon.pid
        assert is_dropped(half)


def test_a_connection_that_ends_within_a_call(daemon: Daemon) -> None:
    before = len(daemon.printed())
    with peer(daemon) as bad:
        bad.sendall(STATUS[:10])
    daemon.wait_for(lambda: "ended within a call" in daemon.printed()[before:])


def test_a_reset_harms_nobody(daemon: Daemon) -> None:
    for _ in range(20):
        with peer(daemon) as rude:
            rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            rude.sendall(STATUS * 10)
    assert still_serves(daemon)


def test_a_flood_nobody_reads_costs_the_daemon_nothing(daemon: Daemon) -> None:
    def resident() -> int:
        text = Path(f"/proc/{daemon.pid}/status").read_text()
        return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1])

    before = resident()
    with peer(daemon) as flood:
        flood.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                flood.send(STATUS * 1000)
        assert still_serves(daemon)
        assert resident() - before < 4096, "kB"


def test_many_clients_at_once(daemon: Daemon) -> None:
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(peer(daemon)) for _ in range(100)]
        for one in peers:
            one.sendall(STATUS)
        assert {read_reply(one)["parameters"]["pid"] for one in peers} == {daemon.pid}
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: daemon.run_ctl("status").returncode, range(8)))
    assert done == [0] * 8


def test_too_many_connections_are_refused_and_then_taken_again(daemon: Daemon) -> None:
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(peer(daemon)) for _ in range(300)]
        daemon.wait_for(lambda: "too many are open" in daemon.printed())
        assert is_dropped(peers[-1])
        peers[0].sendall(STATUS)
        assert read_reply(peers[0])["parameters"]["pid"] == daemon.pid
    daemon.wait_for(lambda: daemon.run_ctl("status").returncode == 0)


def test_a_secret_is_in_no_line_at_any_level(tmp_path: Path) -> None:
    secret = "c2VjcmV0LXNlY3JldA=="
    with Daemon(tmp_path / "v", options=["--log-level", "debug"]) as daemon:
        for parameters in (
            {"password": secret, "pin": secret, "certificates": ["a"], "database": "sql:/x"},
            {"password": secret + "!"},
            {"password": [secret]},
            {"pin": secret, "wait": secret},
        ):
            with peer(daemon) as caller:
                call = {"method": "io.vccid.Insert", "parameters": parameters}
                caller.sendall(json.dumps(call).encode() + b"\0")
                assert secret not in json.dumps(read_reply(caller))
        with peer(daemon) as bad:
            bad.sendall(b'{"parameters":{"pin":"%s"},}\0' % secret.encode())
            assert is_dropped(bad)
        with (tmp_path / "pin").open("w") as file:
            file.write("secret-secret")
        daemon.run_ctl("insert", "--certs", "a", "--pin-file", tmp_path / "pin")
        daemon.stop()
        assert secret not in daemon.printed() and "secret-secret" not in daemon.printed()


#: More connections than strangers may have, until its standard input ends.
CROWD = """
import socket, sys
connections = [socket.socket(socket.AF_UNIX) for _ in range(80)]
for connection in connections:
    connection.connect(sys.argv[1])
sys.stdin.read()
"""


# -- other users ---------------------------------------------------------------------------------


def ctl_as(daemon: Daemon, *arguments: str, groups: list[int]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / "python"), "-m", "vccid.ctl.main", "--socket", str(daemon.control), *arguments],
        user=NOBODY, group=NOBODY, extra_groups=groups, cwd="/",
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A place that other users reach; pytest's own is closed to them."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="vccid-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def some_group() -> str:
    """A group of this machine that is not nobody's own."""
    return next(group.gr_name for group in grp.getgrall() if group.gr_gid not in (0, NOBODY))


@as_root
def test_a_stranger_who_can_connect_is_told_which_group_is_missing(open_directory: Path) -> None:
    group = some_group()
    settings = f"[control]\nmode = '0666'\ngroup = '{group}'\n"
    with Daemon(open_directory / "v", settings=settings) as daemon:
        refused = ctl_as(daemon, "status", groups=[])
        assert refused.returncode == 4, refused
        assert f"not a member of group {group}" in refused.stderr
        assert "usermod -aG" in refused.stderr
        refused = ctl_as(daemon, "--json", "status", groups=[])
        assert json.loads(refused.stderr)["error"] == "NotPermitted"
        refused = ctl_as(daemon, "monitor", groups=[])
        assert refused.returncode == 4, refused

        member = ctl_as(daemon, "status", groups=[grp.getgrnam(group).gr_gid])
        assert member.returncode == 0, member
        # Access in one supplementary group among many, more than the kernel hands over at once.
        many = [*range(70000, 70400), grp.getgrnam(group).gr_gid]
        assert ctl_as(daemon, "status", groups=many[-250:]).returncode == 0


@as_root
def test_a_stranger_before_a_closed_socket_is_told_the_same(open_directory: Path) -> None:
    group = some_group()
    with Daemon(open_directory / "v", settings=f"[control]\ngroup = '{group}'\n") as daemon:
        assert daemon.control.stat().st_mode & 0o777 == 0o660
        assert daemon.control.stat().st_gid == grp.getgrnam(group).gr_gid
        refused = ctl_as(daemon, "status", groups=[])
        assert refused.returncode == 4, refused
        assert f"member of group {group}" in refused.stderr
        member = ctl_as(daemon, "status", groups=[grp.getgrnam(group).gr_gid])
        assert member.returncode == 0, member


@as_root
def test_strangers_do_not_keep_out_those_who_may(open_directory: Path) -> None:
    group = some_group()
    settings = f"[control]\nmode = '0666'\ngroup = '{group}'\n"
    with Daemon(open_directory / "v", settings=settings) as daemon:
        crowd = subprocess.Popen(
            [str(BIN / "python"), "-c", CROWD, str(daemon.control)],
            user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", stdin=subprocess.PIPE,
        )  # fmt: skip
        try:
            daemon.wait_for(lambda: "too many are open" in daemon.printed())
            member = ctl_as(daemon, "status", groups=[grp.getgrnam(group).gr_gid])
            assert member.returncode == 0, member
            assert daemon.run_ctl("status").returncode == 0
        finally:
            crowd.communicate(timeout=PATIENCE)


@as_root
def test_a_group_that_does_not_exist_is_said_to_be_missing(open_directory: Path) -> None:
    settings = "[control]\nmode = '0666'\ngroup = 'no-such-group'\n"
    with Daemon(open_directory / "v", settings=settings) as daemon:
        refused = ctl_as(daemon, "status", groups=[])
        assert refused.returncode == 4
        assert "no-such-group, which does not exist" in refused.stderr
        assert "groupadd" in refused.stderr


@as_root
def test_a_daemon_of_an_ordinary_user_serves_that_user(open_directory: Path) -> None:
    with Daemon(open_directory / "v", user=NOBODY) as daemon:
        assert ctl_as(daemon, "status", groups=[]).returncode == 0
        assert daemon.run_ctl("status").returncode == 0, "and root"


CONNECTS = """
import contextlib, socket, sys
for number in range(1500):
    with socket.socket(socket.AF_UNIX) as peer, contextlib.suppress(OSError):
        peer.connect(sys.argv[1 + number % 2])
        peer.sendall(b"noise" + bytes(1))
"""


@as_root
def test_strangers_who_come_and_go_without_end() -> None:
    """At the control socket, open as systemd's is, and at pcscd's driver's."""
    with tempfile.TemporaryDirectory(prefix="vccid-") as name:
        os.chmod(name, 0o755)
        with Daemon(Path(name) / "v", settings='[control]\nmode = "0666"\n') as daemon:
            strangers = [
                subprocess.Popen(
                    [sys.executable, "-c", CONNECTS, str(daemon.control), str(daemon.ifd())],
                    user=NOBODY, group=NOBODY, extra_groups=[], stderr=subprocess.DEVNULL,
                )
                for _ in range(4)
            ]  # fmt: skip
            try:
                while any(stranger.poll() is None for stranger in strangers):
                    assert still_serves(daemon)
            finally:
                for stranger in strangers:
                    stranger.kill()
                    stranger.wait()
            assert len(daemon.printed().splitlines()) < 60
