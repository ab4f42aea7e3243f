# SPDX-License-Identifier: LGPL-2.1-or-later
"""The harness itself: a plain guest boots, does as it is told, and tells the truth."""

import contextlib
import os
import pathlib
import select
import signal
import subprocess
import sys
import time

import pytest

from .channel import CommandFailed, GuestError, GuestTimeout
from .devices import USB_BUS, usb_controller
from .guest import CHECKOUT, Guest, GuestOptions, find_warnings, read_logs, until
from .initramfs import load_order
from .kernel import extract_vmlinux
from .qmp import QmpError

GUEST = GuestOptions(qemu=usb_controller())


def test_exit_codes_and_streams(guest: Guest) -> None:
    result = guest.run("cat; echo wrong >&2; exit 3", stdin=b"in\0put", check=False)
    assert (result.code, result.stdout, result.stderr) == (3, b"in\0put", b"wrong\n")
    with pytest.raises(CommandFailed, match="exit code 5"):
        guest.run("exit 5")
    assert guest.run("kill -9 $$", check=False).code == -signal.SIGKILL


def test_big_input_and_output_arrive_whole(guest: Guest) -> None:
    data = bytes(range(256)) * 8192
    guest.write("/tmp/deep/er/big", data, mode=0o600)
    assert guest.read("/tmp/deep/er/big") == data
    assert guest.run("stat -c %a /tmp/deep/er/big").text == "600\n"


def test_files_go_both_ways(guest: Guest, tmp_path: pathlib.Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "file").write_text("there and back")
    guest.push(tree, "/tmp/pushed")
    guest.pull("/tmp/pushed", tmp_path / "pulled")
    assert (tmp_path / "pulled" / "sub" / "file").read_text() == "there and back"


def test_function_runs_in_the_guest(guest: Guest) -> None:
    def facts(greeting: str) -> list[str]:
        import os

        import vccid

        return [greeting, os.uname().nodename, os.path.realpath(vccid.__file__)]

    assert guest.call(facts, "hello") == ["hello", "guest", "/src/vccid/__init__.py"]


def test_a_slow_command_is_killed(guest: Guest) -> None:
    with pytest.raises(GuestTimeout):
        guest.run("echo begun; sleep 1000", timeout=0.5)
    assert guest.run("pgrep -x sleep", check=False).code == 1


def test_background_commands(guest: Guest) -> None:
    process = guest.start("trap 'echo ended; exit 7' TERM; echo up; while :; do sleep 0.1; done")
    process.wait_for("up")
    assert guest.run(f"kill -0 {process.pid}").code == 0
    result = process.stop()
    assert (result.code, result.text) == (7, "up\nended\n")
    # What a command leaves behind neither holds up its end nor dies with it.
    guest.run("sleep 998 & echo $! >/tmp/left")
    guest.run("kill $(cat /tmp/left)")


def test_logs_are_told_without_requests_to_pcscd(guest: Guest) -> None:
    requests = "00000042 winscard_svc.c:340:ContextThread() Received command\n" * 1000
    guest.write("/tmp/pcscd.log", f"00000017 readerfactory.c:1093 startup\n{requests}")
    guest.write("/tmp/stage.log", "ready\n")
    told = read_logs(guest)
    assert "==> /tmp/stage.log <==\nready\n" in told
    assert "readerfactory.c:1093 startup" in told and "winscard_svc" not in told


def test_modules_load_and_devices_appear(guest: Guest, quiet_kernel: None) -> None:
    guest.run("modprobe -a vhci-hcd usbmon cuse fuse && udevadm settle")
    assert "hub_count" not in guest.run("cat /sys/devices/platform/vhci_hcd.0/status").text
    guest.run("test -c /dev/cuse && test -c /dev/fuse && test -c /dev/usbmon0")
    assert "Linux Foundation" in guest.run("lsusb").text
    # udev's database has the virtual root hub: pcscd's hotplug finds readers through it.
    assert "usb_device" in guest.run("udevadm info /dev/bus/usb/001/001").text


def test_kernel_warnings_are_found(guest: Guest) -> None:
    mark = guest.mark_kernel_log()
    assert guest.kernel_warnings(mark) == []
    guest.run("modprobe loop && truncate -s 1M /empty && losetup /dev/loop0 /empty")
    assert guest.run("mount -t ext4 /dev/loop0 /mnt", check=False).code != 0
    (line,) = guest.kernel_warnings(mark)
    assert "Can't find ext4 filesystem" in line
    assert guest.kernel_warnings(mark, ignoring=["find ext4"]) == []


def test_warnings_are_told_from_what_programs_say() -> None:
    log = "<6>[ 1.0] fine\n<4>[ 2.0] usb odd\n<12>[ 3.0] a program\n<2>[ 4.0] BUG\n continued\n"
    assert find_warnings(log) == ["[ 2.0] usb odd", "[ 4.0] BUG"]
    assert find_warnings(log, ["usb odd"]) == ["[ 4.0] BUG"]


def test_monitor_plugs_and_unplugs(guest: Guest, quiet_kernel: None) -> None:
    tablet = "lsusb | grep -q 0627:0001"
    guest.qmp.execute("device_add", driver="usb-tablet", bus=USB_BUS, id="tablet")
    # Pulled while its driver still binds, it would rightly be complained of.
    guest.run(until(f"{tablet} && ls /sys/bus/hid/devices | grep -q :0627:0001"))
    guest.qmp.execute("device_del", id="tablet")
    assert guest.qmp.wait_event("DEVICE_DELETED")["data"]["device"] == "tablet"
    guest.run(until(f"! {tablet}"))
    with pytest.raises(QmpError, match="not found"):
        guest.qmp.execute("device_del", id="tablet")


def test_reset_comes_back_with_its_disk(guest: Guest) -> None:
    guest.run("echo kept >/root/kept && sync")
    process = guest.start("sleep 1000")
    guest.reset()
    with pytest.raises(GuestError, match="rebooted"):
        process.wait(1)
    assert guest.read("/root/kept") == b"kept\n"


def test_load_order_puts_needs_first() -> None:
    dependencies = "k/a-b.ko: k/c.ko k/d.ko\nk/c.ko: k/d.ko\nk/d.ko:\nk/e.ko:\n"
    assert load_order(dependencies, ("a_b", "d")) == ["k/d.ko", "k/c.ko", "k/a-b.ko"]


def test_what_is_no_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="not a Linux bzImage"):
        extract_vmlinux(bytes(4096))


def test_qemu_ends_with_its_parent(tmp_path: pathlib.Path) -> None:
    command = [sys.executable, "-m", "tests.vm", "run", "sleep 1000"]
    # A killed program removes no directory: it is to be where pytest does.
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=CHECKOUT, env=environment) as parent:
        try:
            ended = os.pidfd_open(qemu_below(parent))
        finally:
            parent.kill()
    # A process's descriptor is readable once it has ended.
    assert select.select([ended], [], [], 30)[0] == [ended]
    os.close(ended)


def qemu_below(parent: subprocess.Popen[bytes]) -> int:
    """The process id of a program's QEMU, which may wait for the image to be built."""
    children = pathlib.Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    while parent.poll() is None:
        for child in children.read_text().split():
            with contextlib.suppress(FileNotFoundError):
                if pathlib.Path(f"/proc/{child}/comm").read_text().startswith("qemu"):
                    return int(child)
        time.sleep(0.02)
    raise AssertionError(f"it ended with {parent.returncode}")
