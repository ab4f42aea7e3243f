# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Debian packages on clean machines, Debian 12 and 13, from installing to purging.

The tests share one machine of each, and each brings it to where it begins. The last purges it.
"""

import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.debian_packages import make_older
from tests.peers.libcacard import make_database

from . import tree
from .conftest import SLOW_HOST
from .guest import CHECKOUT, Guest, GuestOptions, until
from .installation import SHARE_DATABASE
from .recipe import BOOKWORM, TRIXIE, Recipe

PIN = "123456"
USAGES = "clientAuth,emailProtection"
MODULE = "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so"
APT = "DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0"
APT_SECONDS = 400.0
CAC = "test \"$(opensc-tool --name)\" = 'Common Access Card (CAC)'"
EMPTY = "opensc-tool --list-readers | grep '^0 *No.*vccid vccid0'"
DOORS = "/sys/devices/platform/vhci_hcd.0/attach /dev/cuse"
POLKIT_RULE = "/etc/polkit-1/rules.d/50-vccid-pcscd.rules"
NO_READER = "opensc-tool --list-readers | grep 'No smart card readers found'"
#: Until it is removed.
confined = pytest.mark.usefixtures("nothing_refused")
# What stays when the packages are purged, and why.
STAYS = (
    r"/etc/(passwd|group|shadow|gshadow)-?",  # user and group: files of theirs may be anywhere
    r"/etc/\.pwd\.lock",
    r"/run/pcscd/.*",
    r"/etc/apparmor\.d/disable",  # empty, which dh_apparmor removes
    r"/run/(motd\.dynamic|sshd)",  # of the ssh login
)


@pytest.fixture(scope="module")
def versions(
    debian_packages: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, pathlib.Path]:
    """Directories of packages: the version before this one, and this one."""
    older = tmp_path_factory.mktemp("older")
    make_older(debian_packages, older)
    return {"older": older, "newer": debian_packages}


@pytest.fixture(scope="module", params=[BOOKWORM, TRIXIE], ids=lambda recipe: recipe.suite)
def guest(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    versions: dict[str, pathlib.Path],
) -> Iterator[Guest]:
    """A clean machine, and the packages in /root/older and /root/newer."""
    recipe: Recipe = request.param
    options = GuestOptions(
        systemd=True, memory=1536, refusals=True, recipe=recipe, name=recipe.suite
    )
    with Guest(options, tmp_path_factory.mktemp(recipe.suite)) as guest:
        for name, directory in versions.items():
            for package in directory.glob("*.deb"):
                guest.push(package, f"/root/{name}/{package.name}")
        # Here, since there its keys take half a minute.
        database = make_database(tmp_path_factory.mktemp("nss") / "db", PIN, USAGES)
        guest.push(database.directory, "/root/nssdb")
        guest.write("/root/password", PIN + "\n", mode=0o600)
        guest.write("/root/pin", PIN, mode=0o600)
        yield guest


@pytest.fixture(scope="module")
def before(guest: Guest) -> tree.Tree:
    """The file system as it was."""
    return tree.take(guest)


@pytest.fixture(scope="module")
def installed(guest: Guest, before: tree.Tree) -> None:
    """Installed by apt, on a machine that has the modules loaded already: it is let in."""
    assert not [path for path in before if "vccid" in path]
    guest.run("modprobe -a vhci-hcd cuse && udevadm settle")
    install(guest, "older" if guest.options.recipe is BOOKWORM else "newer")
    assert guest.run(f"stat -c '%a %U' {DOORS}").text == "200 vccid\n600 vccid\n"
    guest.run("rmmod vhci-hcd cuse")


@pytest.fixture(scope="module")
def inserted(guest: Guest, installed: None) -> None:
    """A card, by four lines."""
    mark = guest.mark_kernel_log()
    guest.run("mkdir -p /etc/pki && mv /root/nssdb /etc/pki")
    guest.run(SHARE_DATABASE)
    guest.run("certutil -d sql:/etc/pki/nssdb -L -n cert1 -a >/root/cert1.pem")
    guest.run("systemctl start vccid")
    guest.run("vccidctl insert --certs cert1,cert2,cert3")
    assert guest.kernel_warnings(mark, [SLOW_HOST]) == []


def install(guest: Guest, which: str) -> None:
    packages = f"/root/{which}/vccid_*.deb /root/{which}/libifdvccid_*.deb"
    guest.run(f"{APT} install {packages} 2>&1", timeout=APT_SECONDS)


def card(guest: Guest) -> dict[str, Any]:
    info: dict[str, Any] = json.loads(guest.run("vccidctl card info --json").text)
    return info


def finds_no_errors(guest: Guest) -> None:
    tested = guest.run(f"pkcs11-tool --login --pin {PIN} --test")
    assert tested.text.splitlines()[-1] == "No errors"


@confined
def test_apt_installs_it(guest: Guest, installed: None) -> None:
    units = "vccid.socket vccid.service vccid-sleep.service"
    assert guest.run(f"systemctl is-enabled {units}").text == "enabled\n" * 3
    print(guest.run("systemd-analyze security --no-pager vccid.service").text)


@confined
def test_four_lines_make_a_card(guest: Guest, inserted: None, quiet_kernel: None) -> None:
    scan = guest.start("pcsc_scan -r && exec pcsc_scan")
    assert "vccid vccid0" in scan.wait_for("Card inserted")
    scan.stop()
    guest.run(CAC)
    finds_no_errors(guest)


@confined
def test_installed_again_it_keeps_the_card_and_its_tries(
    guest: Guest, inserted: None, quiet_kernel: None
) -> None:
    """An upgrade on Debian 12, after a removal on Debian 13: each takes minutes of emulation."""
    guest.run("! pkcs11-tool --login --pin 654321 --list-objects")
    before = card(guest)
    assert before["card"]["tries"] == 2
    if guest.options.recipe is TRIXIE:
        guest.run(f"{APT} remove vccid libifdvccid 2>&1", timeout=APT_SECONDS)
    install(guest, "newer")
    guest.run("test ! -e /usr/lib/python3/dist-packages/vccid/of_yore.py")
    guest.run(until(CAC))
    assert card(guest) == before
    finds_no_errors(guest)


@confined
def test_p11_child_of_sssd_logs_in(guest: Guest, inserted: None, quiet_kernel: None) -> None:
    child = "/usr/libexec/sssd/p11_child --ca_db=/root/cert1.pem"
    status, token, module, key_id, *_ = guest.run(f"{child} --pre").text.splitlines()
    assert (status, token, key_id) == ("0", "cert1", "0001")
    chosen = f"--token_name={token} --module_name={module} --key_id={key_id}"
    assert guest.run(f"{child} --auth --pin {chosen} </root/pin").text.splitlines()[0] == "0"


@confined
def test_ssh_logs_in(guest: Guest, inserted: None, quiet_kernel: None) -> None:
    guest.write("/root/askpass", "#!/bin/sh\ncat /root/pin\n", mode=0o700)
    guest.run(f"mkdir -p -m 700 /root/.ssh && ssh-keygen -D {MODULE} >/root/.ssh/authorized_keys")
    guest.run("mkdir -p /run/sshd && /usr/sbin/sshd -o ListenAddress=127.0.0.1")
    said = guest.run(
        "SSH_ASKPASS=/root/askpass SSH_ASKPASS_REQUIRE=force ssh -o StrictHostKeyChecking=no"
        f" -o PKCS11Provider={MODULE} -o IdentityFile=none root@127.0.0.1 echo logged in"
    )
    assert said.text == "logged in\n"
    guest.run("kill $(cat /run/sshd.pid) && rm -r /run/sshd /root/.ssh")


@confined
def test_curl_shows_its_certificate(guest: Guest, inserted: None, quiet_kernel: None) -> None:
    guest.run(
        "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost"
        " -addext subjectAltName=DNS:localhost -keyout /root/server.key -out /root/server.pem"
    )
    server = guest.start(
        "openssl s_server -accept 4433 -cert /root/server.pem -key /root/server.key"
        " -CAfile /root/cert1.pem -Verify 1 -verify_return_error -www"
    )
    server.wait_for("ACCEPT")
    uri = "pkcs11:id=%00%01;pin-source=file:/root/pin;type="
    page = guest.run(
        f"PKCS11_MODULE_PATH={MODULE} curl -sS --cacert /root/server.pem --engine pkcs11"
        f" --cert-type ENG --cert '{uri}cert' --key-type ENG --key '{uri}private'"
        " https://localhost:4433/"
    )
    assert "Client certificate" in page.text
    server.stop()


@confined
def test_the_nss_of_browsers_signs(guest: Guest, inserted: None, quiet_kernel: None) -> None:
    guest.run(
        f"""set -e
        mkdir /root/profile && cd /root/profile
        certutil -N -d sql:. --empty-password
        modutil -dbdir sql:. -add OpenSC -libfile {MODULE} -force
        certutil -A -d sql:. -n card -t P,P,P -i /root/cert1.pem
        echo message >message
        cmsutil -S -d sql:. -f /root/password -N 'cert1:CAC ID Certificate' -i message -o cms
        openssl cms -verify -binary -inform DER -in cms -certfile /root/cert1.pem -noverify"""
    )


@confined
def test_polkit_decides_whether_it_may_use_pcscd(
    guest: Guest, inserted: None, quiet_kernel: None
) -> None:
    """Debian 13's pcscd asks, Debian 12's does not."""
    guest.run("vccidctl reader add second")
    ask = "vccidctl insert second --hardware 2>&1"
    if guest.options.recipe is TRIXIE:
        assert "no polkit rule allows it" in guest.run(ask, check=False).text
        guest.write(POLKIT_RULE, (CHECKOUT / "docs/examples/50-vccid-pcscd.rules").read_bytes())
    guest.run(until(f'{ask} | grep "none but vccid\'s own"'))
    guest.run(f"vccidctl reader remove second && rm -f {POLKIT_RULE}")


@pytest.mark.timeout(1200)
def test_removed_it_leaves_an_empty_reader_then_none_then_nothing(
    guest: Guest, before: tree.Tree, inserted: None, quiet_kernel: None
) -> None:
    """The daemon alone, then its driver, then what is kept of both."""
    guest.run(f"{APT} remove vccid 2>&1", timeout=APT_SECONDS)
    guest.run(until(EMPTY))
    assert guest.run("find /run -name '*vccid*'").text == ""
    guest.run(f"{APT} remove libifdvccid 2>&1", timeout=APT_SECONDS)
    guest.run(until(NO_READER))
    guest.run(f"{APT} purge vccid libifdvccid 2>&1", timeout=APT_SECONDS)
    guest.run("rm -r /etc/pki")
    unexplained = {
        path: change
        for path, change in tree.compare(before, tree.take(guest)).items()
        if not any(re.fullmatch(pattern, path) for pattern in STAYS)
    }
    assert unexplained == {}
