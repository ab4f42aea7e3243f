# SPDX-License-Identifier: LGPL-2.1-or-later
"""vccid: a virtual smart card reader and CAC card."""

__version__ = "0.2.0"
