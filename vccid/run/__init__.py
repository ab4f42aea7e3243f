# SPDX-License-Identifier: LGPL-2.1-or-later
"""`vccid run`: a private daemon and a private pcscd for one command."""

from vccid.openssl_legacy import do_without

# Before `cryptography` is imported for --generate.
do_without()
