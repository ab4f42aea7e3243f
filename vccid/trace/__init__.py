# SPDX-License-Identifier: LGPL-2.1-or-later
"""The vocabulary of commands and status words, and lines that speak it and tell no secret."""
