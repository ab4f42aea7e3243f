# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon: wiring, settings, the control socket, systemd."""
