# SPDX-License-Identifier: LGPL-2.1-or-later
"""A QEMU guest that takes the card itself, by VSC."""
