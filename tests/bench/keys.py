# SPDX-License-Identifier: LGPL-2.1-or-later
"""Raw RSA-2048 operations a second by where the key lives, beside `openssl speed`.

One thread, a second of processor time each, as `openssl speed` counts it, that of the process with
the PKCS#11 module included: so the figures hold on a busy machine too.
Prints them as JSON (see tests.bench.__main__).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.key_material import NssFolder, certificate, key_pem, pem, rsa_key
from tests.softhsm import MODULE, PIN, configure, make_token, put_pair
from vccid.keys.load import Loading
from vccid.keys.passwords import Passwords

#: Of processor time.
SECONDS = 1.0
#: Operations between two looks at the clocks.
BATCH = 16
PASSWORD = "correct horse"


def openssl() -> float:
    """RSA-2048 private operations a second by `openssl speed`."""
    done = subprocess.run(
        ["openssl", "speed", "-mr", "-seconds", "1", "rsa2048"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    # +F2:<number>:<bits>:<signatures a second>:<verifications a second>
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("+F2:"))
    return float(line.split(":")[3])


def clocks() -> list[int]:
    """Of the processor time of this process, and of those with a PKCS#11 module."""
    found = [time.CLOCK_PROCESS_CPUTIME_ID]
    for task in Path("/proc/self/task").iterdir():
        for nursery in (task / "children").read_text().split():
            workers = Path(f"/proc/{nursery}/task/{nursery}/children").read_text().split()
            # clock_getcpuclockid(3), as the kernel makes it of a process id
            found += [(~int(pid) << 3) | 2 for pid in workers]
    return found


def operations(item: str, database: str, password: str) -> float:
    """Operations a second with one item's key."""
    loading = Loading([item], database, Passwords(password.encode()))
    loading.open()
    try:
        for locked in loading.tokens:
            locked.token.login(password.encode())
        raw = loading.read()[0].key.raw
        block = b"\0" + os.urandom(255)
        raw(block)
        every = clocks()

        def spent() -> float:
            return sum(map(time.clock_gettime, every))

        count, start = 0, spent()
        while (taken := spent() - start) < SECONDS:
            for _ in range(BATCH):
                raw(block)
            count += BATCH
        return count / taken
    finally:
        loading.close()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="vccid-bench-") as scratch:
        folder = Path(scratch)
        os.environ["SOFTHSM2_CONF"] = str(configure(folder / "softhsm"))
        cert = certificate("bench", rsa_key().public_key())
        (folder / "bench.pem").write_bytes(pem(cert) + key_pem(rsa_key()))
        make_token("bench")
        put_pair("bench", "bench", "01", rsa_key(), cert)
        plain = NssFolder(folder / "plain", "", "bench")
        secret = NssFolder(folder / "secret", PASSWORD, "bench")
        cases = (
            ("file key", str(folder / "bench.pem"), "", ""),
            ("SoftHSM", f"pkcs11:token=bench;object=bench?module-path={MODULE}", "", PIN),
            ("NSS, no password", "bench", str(plain.path), ""),
            ("NSS, password", "bench", str(secret.path), PASSWORD),
        )
        figures = []
        for name, item, database, password in cases:
            floor = openssl()
            value = operations(item, database, password)
            figures.append({
                "name": f"raw RSA-2048, {name}", "value": round(value, 1), "unit": "1/s",
                "floor": round(floor, 1), "ratio": round(value / floor, 3),
                "better": "higher",
            })  # fmt: skip
    json.dump(figures, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
