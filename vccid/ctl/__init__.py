# SPDX-License-Identifier: LGPL-2.1-or-later
"""vccidctl: the command that drives the daemon."""
