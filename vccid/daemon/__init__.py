# SPDX-License-Identifier: LGPL-2.1-or-later
"""A daemon's life: start, signals, systemd, log, end."""
