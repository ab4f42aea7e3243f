# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Common Access Card: its applets, by GSC-IS 2.1."""
