# SPDX-License-Identifier: LGPL-2.1-or-later
"""pcscd and programs of PC/SC on this host."""
