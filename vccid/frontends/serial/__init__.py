# SPDX-License-Identifier: LGPL-2.1-or-later
"""A serial reader: at a terminal of the kernel's making, or at a pseudo-terminal."""
