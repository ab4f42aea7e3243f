# SPDX-License-Identifier: LGPL-2.1-or-later
"""Certificates and private-key operations from NSS databases, PKCS#11 tokens and files."""

from vccid.openssl_legacy import do_without

# Before anything here imports `cryptography`.
do_without()
