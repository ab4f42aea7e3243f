# SPDX-License-Identifier: LGPL-2.1-or-later
"""A Debian guest under QEMU, for what the build machine's kernel cannot show. See README.md."""
