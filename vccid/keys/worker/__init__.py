# SPDX-License-Identifier: LGPL-2.1-or-later
"""PKCS#11 modules in processes of their own: what is asked of them, and who asks.

`messages` has the bytes, `verbs` what a module does for each, `process` the processes they run in.
The daemon has `workers` for those processes, and `remote` for a token and its keys in one.
"""
