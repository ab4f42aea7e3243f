# SPDX-License-Identifier: LGPL-2.1-or-later
"""T=0 and T=1 around any session, for a reader that passes on TPDUs (ISO/IEC 7816-3)."""
