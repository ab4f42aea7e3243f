# SPDX-License-Identifier: LGPL-2.1-or-later
"""Settings: what may be set, where it stands in a file, and where the daemon's files are."""
