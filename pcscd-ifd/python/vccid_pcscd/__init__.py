# SPDX-License-Identifier: LGPL-2.1-or-later
"""pcscd's driver for vccid's readers, libifdvccid.so: where pip put it."""

from pathlib import Path

#: What LIBPATH of reader.conf(5) has to be.
DRIVER = Path(__file__).with_name("libifdvccid.so")
