# SPDX-License-Identifier: LGPL-2.1-or-later
"""The PIV card application (NIST SP 800-73-5 and 800-78-5), and what personalises it."""
