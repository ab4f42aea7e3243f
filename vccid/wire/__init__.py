# SPDX-License-Identifier: LGPL-2.1-or-later
"""Peers' protocols: bytes to messages and back, without I/O."""
