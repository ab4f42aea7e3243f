# SPDX-License-Identifier: LGPL-2.1-or-later
"""A device node that programs write APDUs to."""
