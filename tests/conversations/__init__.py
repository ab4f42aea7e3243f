# SPDX-License-Identifier: LGPL-2.1-or-later
"""Conversations with a card, as data, and the doors they are held over.

`steps` has what a conversation is made of, `cac` the conversations with a CAC, `doors` the ways a
host can come to a card and what each cannot carry. tests/unit, tests/peers and tests/vm hold every
conversation over every door; a whole run writes the table of both into docs/testing.md.
"""
