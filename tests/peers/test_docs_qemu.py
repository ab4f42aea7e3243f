# SPDX-License-Identifier: LGPL-2.1-or-later
"""docs/qemu.md as its readers use it: each command line by QEMU, each piece of XML by libvirt."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.daemon import Daemon
from tests.peers.test_guests_tls import Pki
from tests.peers.vpcd import free_port

PAGE = (Path(__file__).parents[2] / "docs" / "qemu.md").read_text()
#: Indented lines, a backslash at the end joins two.
COMMANDS = [
    line.strip()
    for line in PAGE.replace("\\\n", "").splitlines()
    if line.startswith(("    qemu-system-x86_64", "    vccidctl"))
]
QEMU = [command for command in COMMANDS if command.startswith("qemu-system") and "…" in command]
XML = re.findall(r"^```xml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
#: The option as the page has it, and as QEMU has it from 9.2 on, which libvirt asks.
RECONNECT = re.findall(r"`(reconnect\S+)` in place of `(reconnect\S+)`", PAGE)[0][::-1]
#: What "…" stands for here: a machine with nothing to boot. It runs: a stopped one reads no link.
MACHINE = "-M q35,usb=off -m 64 -nodefaults -no-user-config -display none"
DOMAIN = """<domain type='qemu'><name>guest</name><memory unit='MiB'>64</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>
<emulator>/usr/bin/qemu-system-x86_64</emulator>{}</devices></domain>
"""
#: libvirt's QEMU driver within virsh; as a user, it wants no user of its own.
NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")


def place(command: str) -> str:
    """The socket, or host and port, that both ends of a route name."""
    found = re.search(r"path=([^,\s]+)", command)
    if found is not None:
        return found[1]
    found = re.search(r"host=([^,\s]+),port=([0-9]+)", command)
    assert found is not None, command
    return f"{found[1]}:{found[2]}"


@contextlib.contextmanager
def running(command: str) -> Iterator[None]:
    words = ["setpriv", "--pdeathsig", "KILL", *shlex.split(command.replace("…", MACHINE))]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield
            assert process.poll() is None, command
        finally:
            process.kill()
            process.wait()


def is_attached(daemon: Daemon) -> bool:
    return any("attached (" in frontend["status"] for frontend in daemon.reader()["frontends"])


@pytest.mark.parametrize(
    "command",
    [command for command in QEMU if "tls-creds" not in command],
    ids=["usbredir", "usbredir, listening", "vsc", "vsc, TCP"],
)
def test_a_command_line_and_what_attaches_to_it(command: str, tmp_path: Path) -> None:
    attach = next(line for line in COMMANDS if re.search(rf"attach .*{place(command)}$", line))
    if "path=" in command:
        here = str(tmp_path / "link.sock")
        command = command.replace(place(command), here)
    else:
        port = free_port()
        here = f"127.0.0.1:{port}"
        command = command.replace("port=2001", f"port={port}")
    words = [*attach.split()[1:-1], here]
    with Daemon(tmp_path / "d") as daemon, contextlib.ExitStack() as stack:
        if "--listen" in words:
            daemon.ctl(*words)
        stack.enter_context(running(command))
        if "--listen" not in words:
            daemon.ctl(*words)
        daemon.wait_for(lambda: is_attached(daemon))


def test_the_command_line_with_tls(tmp_path: Path) -> None:
    (command,) = [command for command in QEMU if "tls-creds" in command]
    (settings,) = re.findall(r"^(\[guests\]\n(?:tls_.*\n)+)", PAGE, re.MULTILINE)
    for name, file in (("vccid.pem", "friend-cert.pem"), ("vccid.key", "friend-key.pem"),
                       ("guests-ca.pem", "ca-cert.pem")):  # fmt: skip
        settings = settings.replace(f"/etc/vccid/{name}", str(tmp_path / file))
    pki, port = Pki(tmp_path), free_port()
    host, _, told = place(command).partition(":")
    command = command.replace(f"host={host},port={told}", f"host=127.0.0.1,port={port}")
    command = command.replace("/etc/pki/qemu", str(pki.directory))
    # The page's machine has a controller of its own.
    command = command.replace("…", "… -device qemu-xhci")
    with Daemon(tmp_path / "d", settings=settings) as daemon, running(command):
        daemon.ctl("attach", "vsc", f"127.0.0.1:{port}")
        daemon.wait_for(lambda: is_attached(daemon))


@pytest.fixture(scope="module")
def libvirt() -> Iterator[Path]:
    """A directory in which nobody's libvirt may work."""
    directory = Path(tempfile.mkdtemp(prefix="vccid-libvirt-"))
    shutil.chown(directory, 65534, 65534)
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.mark.parametrize("piece", XML, ids=range(len(XML)))
def test_xml_that_libvirt_takes(piece: str, libvirt: Path) -> None:
    """Valid by its schema; and libvirt makes of it the chardevs and devices the page has."""
    domain = libvirt / "domain.xml"
    domain.write_text(DOMAIN.format(piece))
    subprocess.run(["virt-xml-validate", domain], check=True, timeout=30, capture_output=True)
    made = subprocess.run(
        [
            *(*NOBODY, "env", f"HOME={libvirt}/home", f"XDG_RUNTIME_DIR={libvirt}/run"),
            *("virsh", "-q", "-c", f"qemu:///embed?root={libvirt}/root"),
            *("domxml-to-native", "qemu-argv", "--xml", domain),
        ],
        check=True, timeout=60, capture_output=True, text=True,
    ).stdout  # fmt: skip
    devices = set(re.findall(r'"driver":"(usb-redir|ccid-card-passthru)"', made))
    assert devices
    chardevs = {
        re.sub(r"(socket),id=[^,]+", r"\1", word)
        for word in made.split()
        if word.startswith("socket,id=") and "monitor" not in word
    }
    said = {
        re.sub(r"(socket),id=[^,]+", r"\1", word)
        for command in QEMU + [command.replace(*RECONNECT) for command in QEMU]
        for word in command.split()
        if word.startswith("socket,id=")
    }
    assert chardevs <= said, (chardevs, said)
