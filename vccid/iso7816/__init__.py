# SPDX-License-Identifier: LGPL-2.1-or-later
"""ISO/IEC 7816: the standard's own nouns, without I/O."""
