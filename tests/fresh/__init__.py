# SPDX-License-Identifier: LGPL-2.1-or-later
"""A fresh machine of another Debian than this one, in which `./dev` has just been run."""
