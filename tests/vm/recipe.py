# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is on a guest's disk: the stock guest of most tests, and two clean machines."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """A disk to build; names of Debian packages are separated by spaces."""

    suite: str
    packages: str
    excluded: tuple[str, ...]  # paths that dpkg leaves out
    clean: bool = False  # has nothing of the checkout: vccid is yet to be installed
    size: str = "1400M"


KERNEL_AND_INIT = "linux-image-amd64 busybox-static systemd systemd-sysv udev kmod iproute2 procps"
UNUSED_PATHS = (
    # No initramfs of Debian's: ours is a hundredth of it.
    "/etc/kernel/postinst.d/initramfs-tools",
    # Half of the kernel package, for hardware QEMU does not show. In Debian 13 below /usr.
    *(
        f"{root}/lib/modules/*/kernel/{tree}/*"
        for root in ("", "/usr")
        for tree in (
            "sound",
            "drivers/gpu",
            "drivers/media",
            "drivers/infiniband",
            "drivers/net/wireless",
            "drivers/net/ethernet",
        )
    ),
)
DOCUMENTS = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*")

STOCK = Recipe(
    suite="bookworm",
    packages=" ".join(
        (
            KERNEL_AND_INIT,
            # smart cards and USB
            "pcscd libccid opensc pcsc-tools usbutils usbip libnss3 libnss3-tools openssl",
            # what vccid imports
            "python3 python3-cryptography python3-click python3-rich python3-sdnotify",
            "python3-uvloop python3-pyscard python3-pyfuse3 fuse3",
            # what guards the daemon, and a token it uses
            "apparmor softhsm2",
            # to look inside, and to connect things
            "strace tcpdump socat",
        )
    ),
    excluded=(*DOCUMENTS, *UNUSED_PATHS),
)

# What debian/control depends on and recommends. To install it within an emulated machine takes
# minutes; apt still refuses vccid there if it depends on anything else.
DEPENDENCIES = (
    "python3 python3-click python3-cryptography python3-rich python3-sdnotify python3-uvloop"
    " libnss3 libnss3-tools opensc pcsc-tools pcscd"
)
USERS = "apparmor openssl curl libengine-pkcs11-openssl openssh-client openssh-server sssd-common"
USERS += " python3-pyscard"
CLEAN = f"{KERNEL_AND_INIT} {DEPENDENCIES} {USERS}"

BOOKWORM = Recipe("bookworm", CLEAN, UNUSED_PATHS, clean=True)
TRIXIE = Recipe("trixie", f"{CLEAN} polkitd", UNUSED_PATHS, clean=True, size="1800M")
RECIPES = {"stock": STOCK, "bookworm": BOOKWORM, "trixie": TRIXIE}
