# SPDX-License-Identifier: LGPL-2.1-or-later
"""The virtual card: what lasts (Card) and one host's view of it (Session)."""
