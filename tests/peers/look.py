# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs that look into a file view while its readers change.

python3 -m tests.peers.look FUNCTION JSON: the arguments as a list; the result, printed as JSON.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

from vccid.ctl.client import Client

#: A waiting read(2) of cat's in /proc/PID/syscall: its number on x86, and the size, by coreutils.
CAT_READS = (["0", "0x20000"], ["0", "0x40000"])
#: What a look may meet while a card is exchanged.
GONE = (b"No such file or directory", b"changed during execution")


def come_and_go(control: str, here: str, rounds: int, paths: list[str]) -> list[object]:
    """Each look right behind each change; returns what an open file and directory still have."""
    reader = Path(here, "vccid0")
    with Client(Path(control)) as client:
        for _ in range(rounds):
            client.call("Remove")
            assert not (reader / "card").exists()
            assert sorted(os.listdir(reader)) == ["events", "state"]
            assert (reader / "state").read_text() == "empty\n"
            assert reader.stat().st_nlink == 2
            client.call("Insert", {"certificates": paths})
            assert (reader / "state").read_text() == "inserted\n"
            assert (reader / "card/certs/id.pem").stat().st_size > 0
            assert reader.stat().st_nlink == 3
        inside = os.open(reader / "card", os.O_RDONLY)
        with (reader / "card/certs/id.pem").open("rb") as file:
            before = os.fstat(file.fileno())
            client.call("Remove")
            after = os.fstat(file.fileno())
            kept = [before.st_nlink, after.st_nlink, before.st_size - after.st_size]
            kept += [len(file.read()) - before.st_size, os.listdir(inside)]
            client.call("Insert", {"certificates": paths})
            same = (reader / "card/certs/id.pem").stat().st_ino == before.st_ino
            return [*kept, os.listdir(inside), same]


def read_events(control: str, here: str) -> list[object]:
    """Several readers of events, polls, and every way to end a read that waits."""
    events = Path(here, "other", "events")
    with Client(Path(control)) as client:
        client.call("AddReader", {"name": "other"})
        waiting = [subprocess.Popen(["cat", events], stdout=subprocess.PIPE) for _ in range(5)]
        shared = os.open(events, os.O_RDONLY)
        waiting += [subprocess.Popen(["cat"], stdin=shared) for _ in range(2)]
        poller = select.epoll()
        quiet = os.open(events, os.O_RDONLY | os.O_NONBLOCK)
        poller.register(quiet, select.EPOLLIN)
        try:
            os.read(quiet, 100)
            raise AssertionError("there was something to read")
        except BlockingIOError:
            assert poller.poll(0) == []
        for process in waiting:
            syscall = Path(f"/proc/{process.pid}/syscall")
            while syscall.read_text().split()[::3][:2] not in CAT_READS:
                continue
        ended = []
        for process, number in zip(
            (waiting[0], waiting[1], waiting[5], waiting[6]),
            (signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGKILL),
            strict=True,
        ):
            process.send_signal(number)
            ended.append(process.wait(30))
        waiting[2].send_signal(signal.SIGSTOP)
        os.waitpid(waiting[2].pid, os.WUNTRACED)
        waiting[2].send_signal(signal.SIGCONT)
        client.call("RemoveReader", {"name": "other"})
        lines = [process.communicate(timeout=30)[0].splitlines() for process in waiting[2:5]]
        assert [process.returncode for process in waiting[2:5]] == [0, 0, 0]
        assert poller.poll(30)
        lines.append(os.read(quiet, 4096).splitlines())
        assert os.read(quiet, 4096) == b""
        assert not events.parent.exists()
    told = [[json.loads(line)["event"] for line in each] for each in lines]
    assert all(each == told[0] for each in told)
    return [ended, told[0]]


def crowd(control: str, here: str, paths: list[str]) -> list[int]:
    """Three readers more, three who look at all there is, and cards that come and go meanwhile.

    Their names are those of files, too. Returns how many certificates were seen, how many cards
    were exchanged while somebody looked, and how many readers are left.
    """
    names = ["events", "card", "id.pem"]
    with Client(Path(control)) as client:
        for name in names:
            client.call("AddReader", {"name": name})
            client.call("Insert", {"reader": name, "certificates": paths})
        script = f"find {here} -type f -name '*.pem' -exec cat {{}} + | grep -c BEGIN"
        seen = subprocess.run(["sh", "-c", script], capture_output=True, check=True).stdout
        look = ["find", here, "!", "-name", "events", "-type", "f", "-exec", "cat", "{}", "+"]
        lookers = [
            subprocess.Popen(look, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            for _ in range(3)
        ]
        changes = 0
        while any(process.poll() is None for process in lookers) and changes < len(names):
            client.call("Remove", {"reader": names[changes]})
            client.call("Insert", {"reader": names[changes], "certificates": paths[:1]})
            changes += 1
        said = b"".join(process.communicate(timeout=60)[1] for process in lookers).splitlines()
        assert [line for line in said if not line.endswith(GONE)] == []
        for name in names:
            client.call("RemoveReader", {"name": name})
    return [int(seen), changes, len(list(Path(here).iterdir()))]


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*json.loads(sys.argv[2]))))
