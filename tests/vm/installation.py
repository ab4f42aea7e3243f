# SPDX-License-Identifier: LGPL-2.1-or-later
"""vccid in a guest with systemd, as the Debian packages lay it out, without building them."""

from .guest import Guest

_PACKAGES = "/usr/lib/python3/dist-packages/vccid"
_INSTALL = f"""set -e
rm {_PACKAGES} /usr/local/bin/vccid /usr/local/bin/vccidctl
cp -a /src/vccid {_PACKAGES}
install -m 755 /src/tests/vm/inside/vccid /src/tests/vm/inside/vccidctl /usr/bin
install -m 644 /src/systemd/*.service /src/systemd/*.socket /usr/lib/systemd/system
install -m 644 /src/systemd/vccid.sysusers /usr/lib/sysusers.d/vccid.conf
install -D -m 755 -t /usr/lib/vccid /src/systemd/vccid-sleep
install -m 644 /src/systemd/60-vccid.rules /usr/lib/udev/rules.d
install -m 644 /src/systemd/vccid.apparmor /etc/apparmor.d/vccid
install -m 644 /src/build/libifdvccid.so /usr/lib/pcsc/drivers/serial
install -D -m 644 /src/debian/reader.conf.d/vccid /etc/reader.conf.d/vccid
systemd-sysusers
apparmor_parser --replace /etc/apparmor.d/vccid
udevadm control --reload
systemctl daemon-reload
"""
#: What its user may read, in the folder `certificates.database` names.
SHARE_DATABASE = """set -e
chown -R root:vccid /etc/pki/nssdb
chmod -R u=rwX,g=rX,o= /etc/pki/nssdb
"""


def install(guest: Guest) -> None:
    """Install it; nothing is started."""
    guest.run(_INSTALL)
