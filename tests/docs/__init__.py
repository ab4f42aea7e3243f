# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pages of docs/ that are made from the code."""
