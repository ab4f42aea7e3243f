# SPDX-License-Identifier: LGPL-2.1-or-later
"""A running guest: what it is made of, and what a test can do with it."""

import compileall
import inspect
import json
import pathlib
import re
import shlex
import shutil
import socket
import subprocess
import textwrap
import time
import uuid
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from .channel import GRACE_SECONDS, Channel, GuestError, GuestProcess, Result
from .image import Image, ensure
from .qmp import Qmp
from .recipe import STOCK, Recipe

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
BOOT_TIMEOUT_SECONDS = 120.0
CLOCK_SLACK_SECONDS = 1.0
MOST_BOOTS = 8
# Behind tests that are timed. But beside one for each processor, at 10 a guest gets a twentieth of
# one (measured), and its programs take devices that answer in 100 ms for broken ones.
NICENESS = 5
QMP_TIMEOUT_SECONDS = 20.0
END_TIMEOUT_SECONDS = 10.0
CONSOLE_TAIL_CHARS = 6000
LOG_TAIL_BYTES = 12000
LOGS_TIMEOUT_SECONDS = 30.0

# Measured: what is off here costs boot time and is not used; emulated AVX makes OpenSSL's
# RSA three times slower than doing without it; for ERMS kernel and libc copy with "rep movsb",
# which takes a step for each byte here, a quarter of all time; SMAP, SMEP, huge pages (below) and
# a second processor together make programs a third slower where two guests share two real
# processors. Without ERMS, FSRM (QEMU of Debian 13) has the kernel of Debian 12 hang at boot.
MACHINE = (
    *("-M", "q35,usb=off,vmport=off,hpet=off", "-cpu", "max,-avx,-avx2,-smap,-smep,-erms,-fsrm"),
    *("-accel", "tcg,thread=multi,tb-size=512"),
    *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
)
KERNEL_LINE = (
    "console=ttyS0 quiet mitigations=off nopti tsc=reliable no_timer_check nokaslr panic=-1"
    " cryptomgr.notests net.ifnames=0 systemd.show_status=0 transparent_hugepage=never"
)
# Levels 0 to 4 of printk: emergency, alert, critical, error, warning.
WARNING_LEVEL = 4
REFUSAL_PATTERN = re.compile("DENIED|type=1326")
KERNEL_LINE_PATTERN = re.compile(r"^<(\d+)>(.*)$")


@dataclass(frozen=True)
class GuestOptions:
    """How a guest is made; a test module sets its own as `GUEST`."""

    systemd: bool = False  # a whole systemd, else udevd and the agent alone
    memory: int = 1024  # MiB
    network: bool = False  # eth0 behind QEMU's user network; the host is 10.0.2.2
    qemu: Sequence[str] = ()  # further arguments of QEMU: see devices.py
    kernel: str = ""  # further words of the kernel's command line
    recipe: Recipe = STOCK  # what is on its disk
    refusals: bool = False  # the kernel's log tells what AppArmor and seccomp refuse
    name: str = field(default="guest")


def qemu_command(
    image: Image, options: GuestOptions, share: pathlib.Path, mode: str, console: str
) -> list[str]:
    """The command that boots a guest, still without the agent's and the monitor's line.

    `mode` is what inside/init knows; `console` is the chardev of the serial console.
    """
    command = ["nice", "-n", str(NICENESS), "setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"]
    command += [*MACHINE, "-name", options.name, "-m", str(options.memory)]
    command += ["-kernel", str(image.kernel), "-initrd", str(image.initramfs)]
    words = f"{KERNEL_LINE} VM_MODE={mode} {options.kernel}"
    if options.recipe.clean:
        words += " VM_CLEAN=yes"
    if not options.refusals:
        words += " audit=0"
    # Writes go to an unlinked temporary file: every guest starts clean.
    command += ["-drive", f"file={image.disk},format=raw,if=none,id=disk,snapshot=on,cache=unsafe"]
    command += ["-device", "virtio-blk-pci,drive=disk", "-device", "virtio-rng-pci"]
    for tag, path, extra in (("src", CHECKOUT, ",readonly=on"), ("share", share, "")):
        command += [
            "-virtfs",
            f"local,path={path},mount_tag={tag},security_model=none,multidevs=remap{extra}",
        ]
    command += ["-chardev", f"{console},id=console", "-serial", "chardev:console"]
    if options.network:
        words += " VM_NETWORK=yes"
        command += ["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]
    command += ["-append", words]
    return [*command, *options.qemu]


class Guest:
    """One virtual machine; a context manager. Its methods may be used from several threads."""

    def __init__(self, options: GuestOptions, directory: pathlib.Path) -> None:
        """`directory` is this guest's own, on the host; its `share` is /share in the guest."""
        self.options = options
        self.directory = directory
        self.share = directory / "share"
        self._console = directory / "console.log"
        self._mark = ""
        self._qemu: subprocess.Popen[bytes] | None = None
        self._channel: Channel
        self.qmp: Qmp

    def __enter__(self) -> "Guest":
        try:
            self._launch()
            self._wait_boot(1)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _launch(self) -> None:
        image = ensure(self.options.recipe)
        # Debian's Python is the same on both sides; there, compiling takes ten times as long.
        compileall.compile_dir(CHECKOUT / "vccid", quiet=2)
        self.share.mkdir(parents=True)
        mode = "systemd" if self.options.systemd else "plain"
        console = f"file,path={self._console}"
        command = qemu_command(image, self.options, self.share, mode, console)
        agent, agent_qemu = socket.socketpair()
        qmp, qmp_qemu = socket.socketpair()
        with agent_qemu, qmp_qemu:
            command += ["-chardev", f"socket,id=agent,fd={agent_qemu.fileno()}"]
            command += ["-device", "virtio-serial-pci"]
            command += ["-device", "virtserialport,chardev=agent,name=vccid.agent"]
            command += ["-chardev", f"socket,id=qmp,fd={qmp_qemu.fileno()}"]
            command += ["-mon", "chardev=qmp,mode=control"]
            with (self.directory / "qemu.log").open("wb") as log:
                self._qemu = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(agent_qemu.fileno(), qmp_qemu.fileno()),
                )
        self._channel = Channel(agent)
        try:
            self.qmp = Qmp(qmp, QMP_TIMEOUT_SECONDS)
        except Exception as error:
            raise GuestError(f"QEMU did not start:\n{self.console()}") from error

    def _wait_boot(self, number: int) -> None:
        began = time.monotonic()
        try:
            self._channel.wait_boot(number, BOOT_TIMEOUT_SECONDS)
        except GuestError as error:
            raise GuestError(f"{error}\n{self.console()}") from error
        up = float(self.run("cut -d ' ' -f 1 /proc/uptime").text)
        here = time.monotonic() - began
        if up > here + CLOCK_SLACK_SECONDS:
            self._boot_again(f"a guest was up for {up:.0f} s of its own in {here:.0f} of ours")

    def _boot_again(self, why: str) -> None:
        """With a clock that runs fast, all that waits in the guest gives up too soon.

        Its kernel measures the clock at boot, beside whatever else has the processors then.
        """
        if self._channel.boots > MOST_BOOTS:
            raise GuestError(why)
        warnings.warn(f"{why}: it boots again", stacklevel=2)
        self.reset()

    def close(self) -> None:
        """End QEMU, as pulling the plug would."""
        if self._qemu is None:
            return
        self._qemu.kill()
        self._qemu.wait(END_TIMEOUT_SECONDS)
        self._qemu = None
        if hasattr(self, "qmp"):
            self.qmp.close()
        self._channel.close()

    @property
    def qemu_pid(self) -> int:
        """QEMU's process id on the host."""
        assert self._qemu is not None
        return self._qemu.pid

    def console(self) -> str:
        """The ends of what QEMU, the serial console and programs that log to /share have said."""
        logs = (self.directory / "qemu.log", self._console, *sorted(self.share.glob("*.log")))
        said = [path.read_text(errors="replace") for path in logs if path.exists()]
        return "\n".join(text[-CONSOLE_TAIL_CHARS:] for text in said)

    # Commands

    def start(
        self, command: str, *, stdin: bytes = b"", timeout: float | None = None
    ) -> GuestProcess:
        """Start a shell command as root; it is killed after `timeout` seconds, if given."""
        return self._channel.start(command, stdin, timeout)

    def run(
        self, command: str, *, stdin: bytes = b"", timeout: float = 150.0, check: bool = True
    ) -> Result:
        """Run a shell command as root, to its end.

        Raises:
            CommandFailed: its exit code is not 0 (unless `check` is off).
            GuestTimeout: it took longer than `timeout` seconds.
            GuestError: the guest is gone or rebooted meanwhile.
        """
        result = self.start(command, stdin=stdin, timeout=timeout).wait(timeout + GRACE_SECONDS)
        return result.check() if check else result

    def call(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        timeout: float = 150.0,
        user: str = "root",
    ) -> Any:
        """Run a Python function in the guest; arguments and result go as JSON.

        Only the function's own source goes over: it imports what it needs itself. Give it a
        `def` of its own at module level or in the test, without decorators or closures.
        """
        source = textwrap.dedent(inspect.getsource(function))
        script = (
            f"{source}\nimport json, sys\n"
            f"result = {function.__name__}(*json.loads({json.dumps(arguments)!r}))\n"
            "print('\\n' + json.dumps(result))\n"
        )
        command = "python3 -" if user == "root" else f"runuser -u {user} -- python3 -"
        text = self.run(command, stdin=script.encode(), timeout=timeout).text
        return json.loads(text.splitlines()[-1])

    # Files

    def write(self, path: str, data: bytes | str, mode: int = 0o644) -> None:
        """Make a file in the guest, and the directories above it."""
        raw = data.encode() if isinstance(data, str) else data
        name = shlex.quote(path)
        self.run(f"install -D -m {mode:o} /dev/null {name} && cat >{name}", stdin=raw)

    def read(self, path: str) -> bytes:
        """The contents of a file in the guest."""
        return self.run(f"cat {shlex.quote(path)}").stdout

    def push(self, source: pathlib.Path, path: str) -> None:
        """Copy a file or a directory of the host to `path` in the guest, owned by root."""
        passage = self.share / uuid.uuid4().hex
        if source.is_dir():
            shutil.copytree(source, passage)
        else:
            shutil.copy2(source, passage)
        name = shlex.quote(path)
        self.run(
            f"mkdir -p $(dirname {name}) && cp -rT /share/{passage.name} {name}"
            f" && rm -rf /share/{passage.name}"
        )

    def pull(self, path: str, target: pathlib.Path) -> None:
        """Copy a file or a directory of the guest to `target` on the host."""
        passage = self.share / uuid.uuid4().hex
        self.run(f"cp -rT {shlex.quote(path)} /share/{passage.name}")
        shutil.move(passage, target)

    # The kernel

    def kernel_log(self, since: str = "") -> str:
        """The kernel's messages, each with its <level>, from a mark on if one is given."""
        log = self.run("dmesg --raw").text
        return log[log.index(since) :] if since else log

    def mark_kernel_log(self) -> str:
        """Write a mark into the kernel's log, for `kernel_log` and `kernel_warnings`.

        `reset` writes the last one again, behind what the kernel says of a boot.
        """
        self._mark = f"vccid test mark {uuid.uuid4().hex}"
        self._write_mark()
        return self._mark

    def _write_mark(self) -> None:
        self.run(f"echo '<6>{self._mark}' >/dev/kmsg")

    def kernel_warnings(self, since: str, ignoring: Sequence[str] = ()) -> list[str]:
        """What the kernel warned of since a mark, without what matches a regex of `ignoring`."""
        return find_warnings(self.kernel_log(since), ignoring)

    # The machine

    def reset(self) -> None:
        """Press the reset button and wait until the guest is up again; its disk stays."""
        boots = self._channel.boots
        self.qmp.execute("set-action", reboot="reset")
        self.qmp.execute("system_reset")
        self._wait_boot(boots + 1)
        self.qmp.execute("set-action", reboot="shutdown")
        self._write_mark()


def until(condition: str, seconds: int = 90) -> str:
    """A shell command that waits for a condition (a command too), and fails when it stays false.

    It looks seldom: here a look takes as much of the processor as what is waited for.
    """
    return (
        f"( for n in $(seq {seconds * 3}); do if {condition}; then exit 0; fi; sleep 0.3; done;"
        f" echo >&2 'after {seconds} s still not:' {shlex.quote(condition)}; exit 1 )"
    )


def read_logs(guest: Guest) -> str:
    """The ends of the guest's /tmp/*.log, or why there are none.

    Without what pcscd says of its programs' requests: a test that waits makes many.
    """
    command = (
        'for log in /tmp/*.log; do echo "==> $log <==";'
        f""" grep -av '^[0-9]* winscard' "$log" | tail -c {LOG_TAIL_BYTES}; done"""
    )
    try:
        return guest.run(command, timeout=LOGS_TIMEOUT_SECONDS, check=False).text
    except GuestError as error:
        return f"no logs: {error}"


def find_warnings(log: str, ignoring: Sequence[str] = ()) -> list[str]:
    """Lines of `dmesg --raw` of level warning and graver, but for those that match `ignoring`."""
    found = []
    for line in log.splitlines():
        match = KERNEL_LINE_PATTERN.match(line)
        # The facility is in the upper bits (syslog(3)): 8 and more comes from a program.
        if match is None or int(match[1]) > WARNING_LEVEL:
            continue
        if not any(re.search(pattern, match[2]) for pattern in ignoring):
            found.append(match[2])
    return found


def refusals(guest: Guest) -> list[str]:
    """What AppArmor and seccomp (type 1326) refused since the guest booted, as the kernel says it.

    The guest's options have `refusals`.
    """
    return [line for line in guest.kernel_log().splitlines() if REFUSAL_PATTERN.search(line)]
