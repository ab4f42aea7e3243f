# SPDX-License-Identifier: LGPL-2.1-or-later
"""The file view's end, however it comes: nothing stays mounted but what is cleared at the next."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.peers.daemon import PATIENCE
from tests.peers.jane import Jane, jane_with, missing
from tests.peers.user import wait_for

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture
def jane() -> Iterator[Jane]:
    with jane_with() as jane:
        jane.mount()
        yield jane


@pytest.fixture
def keeper() -> Iterator[Jane]:
    """Jane, whose daemon mounts by itself."""
    with jane_with('[file_view]\nmount = "HERE"\n') as jane:
        wait_for_files(jane)
        yield jane


def wait_for_files(jane: Jane) -> None:
    def there() -> bool:
        return jane.sh("cat cards/vccid0/state", check=False).stdout == "empty\n"

    wait_for(there, jane.daemon.printed)


def kill_view(jane: Jane) -> None:
    (view,) = jane.view()
    os.kill(view, signal.SIGKILL)


def is_dead(jane: Jane) -> bool:
    return "not connected" in jane.sh("ls cards", check=False).stderr


def problems(jane: Jane) -> list[str]:
    found: list[str] = jane.daemon.ctl_json("status")["problems"]
    return found


def test_a_killed_view_is_unmounted(jane: Jane) -> None:
    with jane.cat("vccid0/events") as cat:
        kill_view(jane)
        jane.wait_for_mounts(0)
        cat.wait(PATIENCE)
    jane.mount()


def test_a_dead_mount_is_cleared_at_the_next_start(jane: Jane) -> None:
    jane.kill_guard()
    kill_view(jane)
    wait_for(lambda: is_dead(jane), jane.mounts)
    assert len(jane.mounts()) == 1
    jane.mount()
    assert len(jane.mounts()) == 1


def test_unmounted_while_somebody_reads(jane: Jane) -> None:
    with jane.cat("vccid0/events") as cat:
        assert "busy" in jane.sh("fusermount3 -u cards", check=False).stderr
        (view,) = jane.view()
        os.kill(view, signal.SIGTERM)
        jane.wait_for_mounts(0)
        assert cat.wait(PATIENCE) == 0


def test_who_reads_late_reads_the_end(jane: Jane) -> None:
    with jane.shell_with("vccid0/events", "read -r _ && exec cat <&3") as shell:
        jane.daemon.kill()
        jane.wait_for_mounts(0)
        shell.communicate("\n", PATIENCE)
        assert shell.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_daemon_s_end_unmounts(jane: Jane, number: int) -> None:
    with jane.cat("vccid0/events") as cat:
        jane.daemon.stop(number)
        jane.wait_for_mounts(0)
        assert cat.wait(PATIENCE) == 0
    wait_for(lambda: jane.view() == [], jane.view)
    jane.daemon.start()
    jane.mount()


def test_a_daemon_mounts_again_what_is_killed(keeper: Jane) -> None:
    kill_view(keeper)
    keeper.wait_for_mounts(0)
    wait_for_files(keeper)
    keeper.daemon.kill()
    keeper.wait_for_mounts(0)
    keeper.daemon.start()
    wait_for_files(keeper)


def test_a_daemon_clears_what_it_left_dead(keeper: Jane) -> None:
    keeper.kill_guard()
    # First, or it would mount again.
    keeper.daemon.signal(signal.SIGSTOP)
    kill_view(keeper)
    keeper.daemon.kill()
    wait_for(lambda: is_dead(keeper), keeper.mounts)
    keeper.daemon.start()
    wait_for_files(keeper)
    assert len(keeper.mounts()) == 1
    keeper.daemon.stop()
    assert keeper.mounts() == []


def test_a_daemon_mounts_where_its_settings_say(keeper: Jane) -> None:
    settings = keeper.daemon.settings
    before = settings.read_text()
    settings.write_text("")
    keeper.daemon.signal(signal.SIGHUP)
    keeper.wait_for_mounts(0)
    keeper.sh("mkdir full && touch full/file")
    settings.write_text(before.replace("/cards", "/full"))
    keeper.daemon.signal(signal.SIGHUP)
    wait_for(lambda: problems(keeper) != [], keeper.daemon.printed)
    (problem,) = problems(keeper)
    assert problem.startswith(f"no files at {keeper.home}/full: ")
    assert problem.endswith("hide what is in it — name an empty directory")
    settings.write_text(before)
    keeper.daemon.signal(signal.SIGHUP)
    wait_for_files(keeper)
    assert problems(keeper) == []
