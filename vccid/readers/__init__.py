# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon's readers: what each is attached to, what is in it, what a restart brings back."""
