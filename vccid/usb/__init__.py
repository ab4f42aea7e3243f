# SPDX-License-Identifier: LGPL-2.1-or-later
"""USB chapter 9: descriptors, transfers, stalls and cancels, without I/O."""
