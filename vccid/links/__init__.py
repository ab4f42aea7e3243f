# SPDX-License-Identifier: LGPL-2.1-or-later
"""How connections come about: where a peer is, TLS, who may connect, and how many at a time."""
