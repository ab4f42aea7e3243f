# SPDX-License-Identifier: LGPL-2.1-or-later
"""`python -P -m vccid.keys.worker FD PARENT`: what the daemon starts, see `process`."""

import sys

from vccid.keys.worker.process import nursery

if __name__ == "__main__":
    nursery(int(sys.argv[1]), int(sys.argv[2]))
