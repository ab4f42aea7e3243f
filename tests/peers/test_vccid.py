# SPDX-License-Identifier: LGPL-2.1-or-later
"""The real daemon's life: start, signals, what outlives it, and disks and files that fail it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.daemon import BIN, PATIENCE, Daemon, make_nss_database

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts, and becomes other users")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_nss_database(tmp_path_factory.mktemp("nss") / "db")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path / "v")
    yield daemon
    daemon.stop()


def insert(daemon: Daemon, database: str, *more: str | Path) -> str:
    """Insert three certificates; returns the card's serial number."""
    reply = daemon.ctl_json("insert", *more, "--certs", "cert1,cert2,cert3", "--db", database)
    return str(reply["card"]["serial"])


# -- start and end -------------------------------------------------------------------------------


def test_it_says_when_it_is_ready_and_how_it_stands(daemon: Daemon, database: str) -> None:
    daemon.start()
    assert daemon.notified[-1] == "READY=1\nSTATUS=1 reader, 0 cards"
    insert(daemon, database)
    daemon.wait_for(lambda: "STATUS=1 reader, 1 card" in daemon.new_notifications())
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert "stopping" in daemon.printed()
    assert sorted(path.name for path in daemon.runtime.iterdir()) == ["lock"], "its sockets went"
    assert "Traceback" not in daemon.printed()


def test_it_ends_on_an_interrupt_too(daemon: Daemon) -> None:
    daemon.start()
    assert daemon.stop(signal.SIGINT) == 0


def test_it_ends_though_it_was_started_with_signals_blocked(daemon: Daemon) -> None:
    daemon.start(["env", "--block-signal=TERM", "--block-signal=HUP"])
    daemon.signal(signal.SIGHUP)
    daemon.wait_for(lambda: "settings read again" in daemon.printed())
    assert daemon.stop() == 0


def test_interrupted_before_it_serves_it_ends_as_any_program(tmp_path: Path) -> None:
    fifo = tmp_path / "vccid.toml"
    os.mkfifo(fifo)
    process = subprocess.Popen(
        [BIN / "vccid", f"--configuration-directory={tmp_path}", "--check"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with fifo.open("w"):  # it reads the settings now
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=PATIENCE) == (b"", b"")
    assert process.returncode == -signal.SIGINT


def test_it_tells_its_watchdog(daemon: Daemon) -> None:
    daemon.start(["env", "WATCHDOG_USEC=200000"])
    daemon.wait_for(lambda: "WATCHDOG=1" in daemon.new_notifications())


def test_a_second_one_is_sent_away(daemon: Daemon) -> None:
    daemon.start()
    second = subprocess.run(
        [*daemon.command, "--state-directory", str(daemon.directory / "other")],
        env=daemon.env, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert second.returncode == 75
    assert f"another vccid (pid {daemon.pid})" in second.stderr
    assert "directories of its own" in second.stderr
    assert daemon.run_ctl("status").returncode == 0, "the first one goes on"


def test_one_directory_for_everything(daemon: Daemon) -> None:
    """As README has it; no second one gets in."""
    one = {f"{what}_DIRECTORY": str(daemon.runtime) for what in ("STATE", "CONFIGURATION")}
    daemon.start(["env", *(f"{name}={value}" for name, value in one.items())])
    assert daemon.reader()["card"] is None
    second = subprocess.run(
        daemon.command, env={**daemon.env, **one},
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert second.returncode == 75


def test_two_side_by_side(daemon: Daemon, tmp_path: Path, database: str) -> None:
    daemon.start()
    with Daemon(tmp_path / "w") as other:
        assert insert(daemon, database) == insert(other, database)
        other.ctl("remove")
        assert daemon.reader()["card"] is not None


def test_it_keeps_its_memory_to_itself(daemon: Daemon) -> None:
    daemon.start()
    limits = Path(f"/proc/{daemon.pid}/limits").read_text()
    assert re.search(r"^Max core file size\s+0\s+0\s", limits, re.MULTILINE)
    # proc(5): what is not dumpable belongs to root, whoever runs it.
    assert Path(f"/proc/{daemon.pid}/mem").stat().st_uid == 0


@as_root
def test_an_ordinary_user_runs_one(tmp_path_factory: pytest.TempPathFactory) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="vccid-") as name:
        os.chmod(name, 0o755)
        with Daemon(Path(name) / "v", user=65534) as daemon:
            assert daemon.reader()["card"] is None
            assert Path(f"/proc/{daemon.pid}/mem").stat().st_uid == 0
            assert daemon.control.stat().st_uid == 65534


def socket_activate(daemon: Daemon) -> list[str]:
    """systemd's own tool, which hands on what it is told to of the environment."""
    kept = [f"--setenv={name}" for name in daemon.env if name.endswith(("_DIRECTORY", "_SOCKET"))]
    return ["systemd-socket-activate", f"--listen={daemon.control}", "--fdname=control", *kept]


def test_systemd_hands_it_the_control_socket(daemon: Daemon, tmp_path: Path) -> None:
    """By systemd's own tool; the socket is not the daemon's to remove or to change."""
    daemon.launch(socket_activate(daemon))
    daemon.wait_for(lambda: "Listening on" in daemon.printed())
    daemon.control.chmod(0o640)
    assert daemon.ctl_json("status")["pid"] == daemon.pid
    assert daemon.control.stat().st_mode & 0o777 == 0o640
    daemon.signal(signal.SIGHUP)
    daemon.wait_for(lambda: "settings read again" in daemon.printed())
    assert daemon.control.stat().st_mode & 0o777 == 0o640
    assert daemon.stop() == 0
    assert daemon.control.exists()


def test_those_who_wait_hear_why_there_is_no_daemon(daemon: Daemon) -> None:
    """A connection left in the queue would have systemd start it again and again."""
    daemon.settings.write_text("[log]\nlevel = 3\n")
    daemon.launch(socket_activate(daemon))
    daemon.wait_for(lambda: "Listening on" in daemon.printed())
    told = daemon.run_ctl("status")
    assert told.returncode == 1
    assert "vccid.toml:2: log.level must be a string" in told.stderr
    assert daemon.wait() == 78


def test_settings_may_be_checked_without_starting(daemon: Daemon) -> None:
    daemon.settings.write_text("[reader.lab]\nifd = false\n")

    def check() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*daemon.command, "--check", "--log-level", "debug"],
            env=daemon.env, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip

    good = check()
    assert good.returncode == 0, good
    assert f"# read: {daemon.settings}" in good.stdout
    assert '[log]\nlevel = "debug"' in good.stdout
    assert "[reader.lab]\nenabled = true\nifd = false" in good.stdout
    daemon.settings.write_text("[reader.lab]\nidf = false\n")
    bad = check()
    assert bad.returncode == 78
    assert bad.stderr == (
        f"vccid: {daemon.settings}:2: unknown key idf in [reader.lab]\n  did you mean ifd?\n"
    )


def test_unfit_settings_keep_it_from_starting(daemon: Daemon) -> None:
    daemon.settings.write_text("[log]\nlevel = 3\n")
    daemon.launch()
    assert daemon.wait() == 78
    assert "vccid.toml:2: log.level must be a string" in daemon.printed()


@pytest.mark.parametrize("options", [["--log-level", "loud"], ["--nonsense"], ["word"]])
def test_a_wrong_command_line(daemon: Daemon, options: list[str]) -> None:
    done = subprocess.run(
        [*daemon.command, *options],
        env=daemon.env, capture_output=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 2


# -- reload --------------------------------------------------------------------------------------


def reload(daemon: Daemon, settings: str, outcome: str) -> str:
    """Change the settings and have them read; returns what was then printed."""
    before = len(daemon.printed())
    daemon.settings.write_text(settings)
    daemon.new_notifications()
    daemon.signal(signal.SIGHUP)
    daemon.wait_for(lambda: outcome in daemon.printed()[before:])
    daemon.wait_for(lambda: any("READY=1" in text for text in daemon.new_notifications()))
    return daemon.printed()[before:]


def test_a_reload_adds_removes_and_changes_readers(daemon: Daemon, database: str) -> None:
    daemon.settings.write_text("[reader.old]\n")
    daemon.start()
    daemon.ctl("reader", "add", "mine")
    insert(daemon, database, "old")
    insert(daemon, database, "vccid0")
    reload(daemon, "[reader.new]\n[reader.vccid0]\nifd = false\n", "settings read again")
    readers = {reader["name"]: reader for reader in daemon.ctl_json("reader", "list")["readers"]}
    assert set(readers) == {"mine", "new", "vccid0"}
    assert readers["vccid0"]["card"] is not None, "its card stays in"
    assert not daemon.ifd("vccid0").exists() and not daemon.ifd("old").exists()
    assert daemon.ifd("new").exists() and daemon.ifd("mine").exists()
    assert any(text.startswith("RELOADING=1\nMONOTONIC_USEC=") for text in daemon.notified)


def test_a_reload_changes_level_mode_and_defaults(daemon: Daemon, database: str) -> None:
    daemon.start()
    assert daemon.control.stat().st_mode & 0o777 == 0o660
    settings = (
        f"[log]\nlevel='debug'\n[control]\nmode='0600'\n[certificates]\ndatabase='{database}'"
    )
    reload(daemon, settings, "settings read again")
    assert daemon.control.stat().st_mode & 0o777 == 0o600
    daemon.ctl("insert", "--certs", "cert2")
    assert daemon.reader()["card"]["label"] == "cert2"


def test_a_bad_file_changes_nothing_and_is_told(daemon: Daemon, database: str) -> None:
    daemon.start()
    insert(daemon, database)
    said = reload(daemon, "[reader.new]\n[reader.vccid0]\nenabled = 'no'\n", "stay as they were")
    assert "vccid.toml:3: reader.vccid0.enabled must be true or false" in said
    assert [reader["name"] for reader in daemon.ctl_json("reader", "list")["readers"]] == ["vccid0"]
    assert daemon.reader()["card"] is not None


# -- what outlives it ----------------------------------------------------------------------------


def test_killed_and_restarted_it_has_its_cards_again(daemon: Daemon, database: str) -> None:
    daemon.start()
    daemon.ctl("reader", "add", "lab")
    serial = insert(daemon, database, "lab")
    assert serial == insert(daemon, database, "vccid0")
    daemon.kill()
    assert daemon.control.exists(), "a killed daemon leaves its socket behind"
    daemon.start()
    daemon.wait_for(lambda: "STATUS=2 readers, 2 cards" in daemon.new_notifications())
    assert daemon.reader("lab")["card"]["serial"] == serial
    daemon.ctl("remove", "lab")
    daemon.ctl("reader", "remove", "lab")
    daemon.kill()
    daemon.start()
    daemon.wait_for(lambda: "STATUS=1 reader, 1 card" in daemon.new_notifications())


def test_a_card_that_cannot_come_back_says_why_and_is_tried_again(
    daemon: Daemon, database: str
) -> None:
    daemon.start()
    insert(daemon, database)
    daemon.stop()
    folder = Path(database.removeprefix("sql:"))
    folder.rename(folder.with_name("away"))
    try:
        daemon.start()
        daemon.wait_for(lambda: "could not be put back" in daemon.printed())
        reader = daemon.reader()
        assert reader["card"] is None
        assert "does not exist" in reader["problem"]
        assert reader["wanted"] == ["cert1", "cert2", "cert3"]
        assert "does not exist" in daemon.ctl("status") + daemon.run_ctl("status").stderr
        assert daemon.run_ctl("insert").returncode == 1
    finally:
        folder.with_name("away").rename(folder)
    daemon.ctl("insert")
    assert daemon.reader()["problem"] is None
    assert daemon.reader()["card"]["label"] == "cert1"


def test_a_card_that_cannot_come_back_can_be_given_up(daemon: Daemon, tmp_path: Path) -> None:
    (daemon.state / "readers.json").write_text(json.dumps({
        "version": 1,
        "readers": {"vccid0": {
            "added": False, "attachments": [],
            "wanted": {"certificates": ["a"], "database": "sql:/missing", "atr": "cac"},
        }},
    }))  # fmt: skip
    daemon.start()
    daemon.wait_for(lambda: daemon.reader()["problem"] is not None)
    daemon.ctl("remove")
    assert daemon.reader()["problem"] is None
    assert daemon.run_ctl("remove").returncode == 1


def test_a_truncated_readers_file_is_set_aside(daemon: Daemon, database: str) -> None:
    daemon.start()
    insert(daemon, database)
    daemon.stop()
    file = daemon.state / "readers.json"
    file.write_bytes(file.read_bytes()[:-20])
    daemon.start()
    status = daemon.ctl_json("status")
    assert status["readers"][0]["card"] is None
    (problem,) = status["problems"]
    assert f"{file} is damaged: it was set aside as readers.json.damaged" == problem
    assert (daemon.state / "readers.json.damaged").exists() and not file.exists()
    assert "is damaged" in daemon.printed()
    insert(daemon, database)


@as_root
def test_a_full_disk(tmp_path: Path, database: str) -> None:
    daemon = Daemon(tmp_path / "v")
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", daemon.state], check=True
    )
    try:
        daemon.start()
        serial = insert(daemon, database)
        daemon.ctl("reader", "add", "old")
        daemon.ctl("attach", "pty", "--reader", "old")
        fill(daemon.state / "ballast")
        check_what_is_lost_is_told(daemon)
        assert daemon.run_ctl("reader", "add", "lab").returncode == 1
        refused = daemon.run_ctl("reader", "add", "lab")
        assert "readers.json cannot be written: No space left" in refused.stderr
        assert {reader["name"] for reader in daemon.ctl_json("reader", "list")["readers"]} == {
            "vccid0"
        }, "what cannot be kept is not added"
        removed = daemon.ctl_json("remove")
        assert removed["reader"] == "vccid0", "but a card always comes out"
        assert any("be back after a restart" in warning for warning in removed["warnings"])
        assert "No space left" in daemon.ctl_json("status")["problems"][0]
        again = daemon.ctl_json("insert")
        assert again["card"]["serial"] == serial
        assert any("not be back after a restart" in warning for warning in again["warnings"])
        (daemon.state / "ballast").unlink()
        daemon.ctl("remove")
        insert(daemon, database)
        assert daemon.ctl_json("status")["problems"] == [], "the trouble is over"
    finally:
        daemon.stop()
        subprocess.run(["umount", daemon.state], check=True)


def check_what_is_lost_is_told(daemon: Daemon) -> None:
    """In text; it is done all the same."""
    for verb, lost in (
        (("detach", "pty", "--reader", "old"), "it will be attached after a restart"),
        (("attach", "pty", "--reader", "old"), "it will not be attached after a restart"),
        (("reader", "remove", "old"), "the reader will be back after a restart"),
    ):
        done = daemon.run_ctl(*verb)
        assert done.returncode == 0
        assert done.stderr == (
            f"warning: {lost}: {daemon.state}/readers.json cannot be written: "
            "No space left on device\n"
        )


def fill(path: Path) -> None:
    """Take all the room there is."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 1024)


def test_a_runtime_path_too_long_for_a_socket(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / ("x" * 100))
    done = subprocess.run(
        daemon.command,
        env={k: v for k, v in daemon.env.items() if k != "NOTIFY_SOCKET"},
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 78
    assert "too long" in done.stderr


def test_it_runs_without_a_notification_socket(daemon: Daemon) -> None:
    daemon.launch(["env", "-u", "NOTIFY_SOCKET"])
    daemon.wait_for(lambda: "ready" in daemon.printed())
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(daemon.control))
