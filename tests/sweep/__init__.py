# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every write of the daemon's state fails once, or is the daemon's last: `./dev sweep`."""
