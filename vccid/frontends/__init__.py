# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who sees a reader: sockets and file descriptors, nothing else."""
