# SPDX-License-Identifier: LGPL-2.1-or-later
"""Children of the keeper, which ignores what would end it."""

from __future__ import annotations

import json
import subprocess
import sys

_SCRIPT = """
import os, signal
from vccid.run.process import spawn_server

signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(5):
    pid = spawn_server(["/bin/sleep", "5"], {})
    os.kill(pid, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_a_server_that_was_just_begun_hears_that_it_shall_end() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == ["-15"] * 5, done.stderr


_FORKED = """
import ctypes, json, os, signal, sys
from vccid.run.process import fork_server

def serve():
    name = ctypes.create_string_buffer(16)
    ctypes.CDLL(None).prctl(16, name)  # PR_GET_NAME
    print(json.dumps({
        "name": name.value.decode(),
        "files": [number for number in files if is_open(number)],
        "term": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
        "pipe": signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN,
    }), flush=True)
    signal.pause()

def is_open(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True

signal.signal(signal.SIGTERM, signal.SIG_IGN)
files = [*os.pipe(), os.dup(1), 0, 1, 2]
os.set_inheritable(files[2], True)
print(files[2])
fork_server("one that serves", serve)
sys.stdout.close()
os.close(1)
sys.stdin.read()
"""


def test_a_forked_server_has_what_a_program_would_and_ends_with_its_parent() -> None:
    with subprocess.Popen(
        [sys.executable, "-u", "-c", _FORKED], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdin is not None and parent.stdout is not None
        inherited = int(parent.stdout.readline())
        assert json.loads(parent.stdout.readline()) == {
            "name": "one that serves",
            "files": [inherited, 0, 1, 2],
            "term": True,
            "pipe": True,
        }
        parent.stdin.close()
        assert parent.stdout.read() == b"", "the server has ended, too"
