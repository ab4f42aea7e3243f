# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every process of ours needs: standard streams, threads, clean-ups, names from users."""
