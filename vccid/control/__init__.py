# SPDX-License-Identifier: LGPL-2.1-or-later
"""The control socket: who may call, the methods of io.vccid, and how errors are told."""
