# SPDX-License-Identifier: LGPL-2.1-or-later
"""Test suites that nobody here wrote, on our cards: `./dev peers`, since they take long."""
