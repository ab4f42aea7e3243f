# SPDX-License-Identifier: LGPL-2.1-or-later
"""The readers as files: a client of the daemon that serves a FUSE file system."""
