# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hosts of a USB device: this kernel's vhci, USB/IP, usbredir."""
