# SPDX-License-Identifier: LGPL-2.1-or-later
"""USB CCID rev 1.1: messages and the slot's state machine, without I/O."""
