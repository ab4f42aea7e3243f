# SPDX-License-Identifier: LGPL-2.1-or-later
"""The commands in README and docs/, howto aside: those in blocks, fenced or indented."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_SHELL = re.compile(r"^```(?:sh|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^ {4,6}\S.*\n)+", re.MULTILINE)
#: How a line begins that is typed and not printed; in indented blocks there are drawings and
#: settings as well.
_TYPED = re.compile(
    r"(?:[A-Z_]+=\S+ )*(?:vccid|vccidctl|vscclient|vicc|\./dev|\.venv/bin/\S+|apt|certutil|chgrp"
    r"|chmod|dd|exec|fusermount3|mkdir|modprobe|openssl|opensc-tool|pcsc_scan|pkcs11-tool|printf"
    r"|python3?|qemu-system-x86_64|socat|softhsm2-util|ssh-copy-id|systemctl|systemd-creds|usbip"
    r"|until|usermod)(?![\w./])"
)


def commands(page: Path) -> list[str]:
    """Each as it is typed, without prompt, remark, and the ends of lines within it."""
    text = page.read_text()
    fenced = "".join(_SHELL.findall(text))
    rest = _FENCED.sub("", text)
    blocks = [fenced, *_INDENTED.findall(rest)]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    typed = (re.sub(r"^\s*(?:[$#] )?", "", line) for line in lines)
    return [_plain(line) for line in typed if _TYPED.match(line)]


def _plain(line: str) -> str:
    without_remark = re.split(r"\s{2,}(?=[#a-z])(?!.*\s-\w)|\s+# ", line)[0]
    return " ".join(without_remark.split())
