# SPDX-License-Identifier: LGPL-2.1-or-later
"""The device node under a real kernel and udev, from the service as it is installed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.cards import PIN
from tests.conversations import cac, piv
from tests.conversations.doors import NODE as NODE_DOOR
from tests.conversations.doors import note
from tests.peers.desk import PIN as PIV_PIN
from tests.peers.libcacard import make_database

from .conftest import MakeGuest
from .conversations import Record, give_piv
from .guest import Guest, GuestOptions, until
from .installation import SHARE_DATABASE, install

ROOT = Path(__file__).parents[2]
NODE = "/dev/vccid/vccid0"
#: A member of the daemon's group, and nobody else.
USER = "setpriv --reuid 1234 --regid vccid --clear-groups"
CLIENT = f"{USER} /usr/local/bin/node_client {NODE}"
INSERT = "vccidctl insert --certs cert1,cert2,cert3 --password-file /root/password"
#: What the kernel says of a name that is there already.
KERNEL_NOISE = ("cuse: .*already",)


@pytest.fixture(scope="module")
def guest(make_guest: MakeGuest, tmp_path_factory: pytest.TempPathFactory) -> Guest:
    """A machine with vccid installed, module cuse not loaded, and three certificates."""
    guest = make_guest(GuestOptions(systemd=True))
    directory = tmp_path_factory.mktemp("node")
    database = make_database(directory / "db", PIN.decode())
    guest.push(database.directory, "/etc/pki/nssdb")
    guest.write("/root/password", PIN + b"\n", mode=0o600)
    client = directory / "node_client"
    source = ROOT / "tests/vm/inside/node_client.c"
    subprocess.run(
        ["cc", "-std=c11", "-D_GNU_SOURCE", "-O1", "-o", client, source, "-pthread"], check=True
    )
    guest.push(client, "/usr/local/bin/node_client")
    install(guest)
    guest.run(SHARE_DATABASE)
    # As it is after a start of the machine: udev has seen the rule and the daemon's user.
    guest.run("systemctl restart systemd-udevd && systemctl start vccid.socket")
    guest.run("vccidctl attach cuse")
    return guest


@pytest.fixture
def card(guest: Guest, quiet_kernel: None) -> None:
    """The node is there and a card is in, whatever the test before came to."""
    guest.run(f"test -e {NODE} || vccidctl attach cuse")
    guest.run(f"sh -c ': 3<>{NODE}' || {INSERT}")


def test_the_daemon_has_no_more_than_the_node(guest: Guest, quiet_kernel: None) -> None:
    assert guest.run("stat -c '%U %G %a' /dev/cuse").text == "vccid root 600\n"
    assert guest.run(f"stat -c '%U %G %a' {NODE}").text == "root vccid 660\n"
    pid = guest.run("systemctl show -P MainPID vccid").text.strip()
    assert "CapEff:\t0000000000000000" in guest.run(f"cat /proc/{pid}/status").text
    assert f"cuse ({NODE})" in guest.run("vccidctl status").text


@pytest.mark.parametrize("check", ["ioctls", "poll", "signals", "two-opens", "threads", "access"])
def test_a_c_program(guest: Guest, card: None, check: str) -> None:
    done = guest.run(f"{CLIENT} {check}", check=False)
    assert done.code == 0, done.errors


def test_the_python_example(guest: Guest, card: None) -> None:
    said = guest.run(
        f"{USER} python3 /src/docs/examples/device_node.py {NODE} 00A4040007A000000116DB00"
    )
    assert said.text.splitlines() == [
        "ATR 3B 7A 18 00 00 73 66 74 65 20 63 64 31 34 34",
        "00A4040007A000000116DB00 -> 61 0D",
    ]


def test_a_shell(guest: Guest, card: None) -> None:
    lines = (ROOT / "docs/device-node.md").read_text().splitlines()
    start = lines.index("    # exec 3<>/dev/vccid/vccid0")
    script = "\n".join(line.removeprefix("    # ") for line in lines[start : start + 3])
    assert guest.run(f"{USER} sh", stdin=script.encode()).text == lines[start + 3][4:] + "\n"


def test_the_same_conversations_as_everywhere(
    guest: Guest, card: None, tmp_path: Path, record_property: Record
) -> None:
    def converse(node: str, kind: str, pin: str, insert: str) -> dict[str, str]:
        import importlib
        import shlex
        import subprocess
        import sys

        sys.path[:0] = ["/src", "/src/docs/examples"]
        from device_node import Card

        conversations = importlib.import_module(f"tests.conversations.{kind}").CONVERSATIONS

        class Driven(Card):
            def power_on(self) -> bytes:
                self.reset()
                return self.atr

            def remove(self) -> None:
                self.close()
                subprocess.run(["vccidctl", "remove"], check=True)

            def insert(self) -> None:
                subprocess.run(shlex.split(insert), check=True)
                self.__init__(node)
                self.pin = pin.encode()

        told = {}
        for conversation in conversations:
            driven = Driven(node)
            driven.pin = pin.encode()
            try:
                conversation.hold(driven)
                told[conversation.name] = ""
            except AssertionError as error:
                told[conversation.name] = str(error)
            driven.close()
        return told

    told = guest.call(converse, NODE, "cac", PIN.decode(), INSERT)
    note(NODE_DOOR, cac.CONVERSATIONS, told, record_property)
    given = give_piv(guest, tmp_path)
    guest.run(f"vccidctl remove && vccidctl insert {given}")
    told = guest.call(converse, NODE, "piv", PIV_PIN, "")
    note(NODE_DOOR, piv.CONVERSATIONS, told, record_property)
    guest.run(f"vccidctl remove && {INSERT}")


def test_a_stranger_is_kept_out(guest: Guest, card: None) -> None:
    refused = guest.run(f"runuser -u nobody -- /usr/local/bin/node_client {NODE} poll", check=False)
    assert "Permission denied" in refused.errors
    assert guest.run("runuser -u nobody -- cat /dev/cuse", check=False).code != 0
    assert guest.run(f"{USER} cat /dev/cuse", check=False).code != 0


def test_the_card_leaves_while_programs_wait(guest: Guest, card: None) -> None:
    reading, polling = guest.start(f"{CLIENT} wait"), guest.start(f"{CLIENT} wait-in-poll")
    reading.wait_for("reading")
    polling.wait_for("polling")
    guest.run(until("vccidctl status | grep -o 'cuse pid' | grep -c . | grep -q 2"))
    guest.run("vccidctl remove --wait=10")
    assert reading.wait(30).text.splitlines()[-1] == "ENXIO, then 18, ENXIO"
    assert polling.wait(30).text.splitlines()[-1] == "18"
    assert guest.run(f"{CLIENT} empty").code == 0
    onlooker = guest.start(f"{CLIENT} presence")
    onlooker.wait_for("present 0")
    guest.run(f"{INSERT} --wait=10")
    onlooker.wait_for("present 1")
    guest.run("vccidctl remove --wait=10")
    assert onlooker.wait(30).code == 0


def test_another_reader(guest: Guest, card: None) -> None:
    guest.run("vccidctl reader add two.x && vccidctl attach cuse two.x")
    guest.run(INSERT.replace("insert", "insert two.x"))
    numbers = guest.run("stat -c %t:%T /dev/vccid/*").text.split()
    assert len(set(numbers)) == 2 and len({number.split(":")[0] for number in numbers}) == 1
    said = guest.run(f"{USER} python3 /src/docs/examples/device_node.py /dev/vccid/two.x 00")
    assert "00 -> 67 00" in said.text
    guest.run("vccidctl reader remove two.x")
    assert guest.run("ls /dev/vccid").text == "vccid0\n"


def test_detached_while_programs_wait(guest: Guest, card: None) -> None:
    reading, polling = guest.start(f"{CLIENT} wait"), guest.start(f"{CLIENT} wait-in-poll")
    reading.wait_for("reading")
    polling.wait_for("polling")
    guest.run("vccidctl detach cuse")
    assert reading.wait(30).text.splitlines()[-1] == "ENODEV, then 8, ENOTCONN"
    assert polling.wait(30).text.splitlines()[-1] == "8"
    assert guest.run("test -e /dev/vccid", check=False).code == 1
    guest.run("vccidctl attach cuse")
    assert guest.run(f"{CLIENT} poll").code == 0


def test_killed_while_programs_wait(guest: Guest, card: None) -> None:
    reading, polling = guest.start(f"{CLIENT} wait"), guest.start(f"{CLIENT} wait-in-poll")
    reading.wait_for("reading")
    polling.wait_for("polling")
    guest.run("kill -9 $(systemctl show -P MainPID vccid)")
    assert reading.wait(30).text.splitlines()[-1] == "ECONNABORTED, then 8, ENOTCONN"
    assert polling.wait(30).text.splitlines()[-1] == "8"
    guest.run(until(f"test -e {NODE} && vccidctl status | grep -q 'cuse ({NODE})'"))
    guest.run(until(f"{CLIENT} poll"))


def test_the_kernel_ends_it(guest: Guest, card: None) -> None:
    guest.run("echo 1 >'/sys/class/cuse/vccid!vccid0/abort'")
    guest.run(until("vccidctl status 2>&1 | grep -q 'not attached to cuse'"))
    guest.run("vccidctl attach cuse vccid0")


def test_why_there_is_no_node(guest: Guest, card: None) -> None:
    guest.run("vccidctl detach cuse && chown root /dev/cuse")
    refused = guest.run("vccidctl attach cuse", check=False)
    assert "closed to the daemon" in refused.errors and "udev rule" in refused.errors
    guest.run("chown vccid /dev/cuse")
    taken = guest.start(
        "cd /src && exec python3 -c '"
        "import asyncio\n"
        "from vccid.frontends.node.device_node import CuseFrontend\n"
        "from vccid.reader import Reader\n"
        "async def main():\n"
        '    await CuseFrontend(Reader("vccid0")).start()\n'
        '    print("taken", flush=True)\n'
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())'"
    )
    taken.wait_for("taken")
    refused = guest.run("vccidctl attach cuse", check=False)
    assert f"does not make {NODE}" in refused.errors and "this name" in refused.errors
    taken.stop()
    guest.run("vccidctl attach cuse")
