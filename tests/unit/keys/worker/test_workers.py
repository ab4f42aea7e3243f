# SPDX-License-Identifier: LGPL-2.1-or-later
"""Workers that crash, hang, are killed or lie, at each verb: one error each, and the next works."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.key_material import certificate, der, rsa_key
from tests.unit.keys.pretend_token import PIN, module_path
from vccid.errors import RemoteProtocolError, TokenGone, WrongPassword
from vccid.keys.rsa import Modulus
from vccid.keys.token_nouns import TokenPlace
from vccid.keys.worker.messages import Reply, State, Verb
from vccid.keys.worker.remote import WorkerRsaKey, WorkerToken
from vccid.keys.worker.workers import Worker, Workers

CERTIFICATE = der(certificate("pretend", rsa_key().public_key()))
MODULUS = Modulus.of(rsa_key().public_key().public_numbers().n)
IDENTITY: Final = (b"pretend", b"vccid tests", b"1", b"one")

#: At which function of the module each verb meets it.
MEETS: Final = {
    Verb.LOAD: "C_Initialize",
    Verb.LIST: "C_GetSlotList",
    Verb.OPEN: "C_OpenSession",
    Verb.CERTIFICATES: "C_FindObjectsInit",
    Verb.LOGIN: "C_Login",
    Verb.STATE: "C_GetSessionInfo",
    Verb.CHANGE_PIN: "C_SetPIN",
    Verb.FIND: "C_FindObjects",
    Verb.RAW: "C_Sign",
}


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    workers = Workers()
    yield workers
    workers.end()


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / "pretend").write_bytes(CERTIFICATE)
    (tmp_path / "modulus").write_bytes(MODULUS.encoded)
    return f"PRETEND_CERTIFICATE={tmp_path}/pretend", f"PRETEND_MODULUS={tmp_path}/modulus"


def walk(worker: Worker, until: Verb | None, token: WorkerToken) -> None:
    """Every verb in the order of a card's life, or as far as one."""
    key = WorkerRsaKey(token, "pretend", b"\1", MODULUS)
    steps: dict[Verb, Callable[[], object]] = {
        Verb.LIST: worker.places,
        Verb.OPEN: lambda: token.open(worker, b"token pretend", *IDENTITY),
        Verb.CERTIFICATES: token.certificates,
        Verb.CHANGE_PIN: lambda: token.change_pin(PIN, b"111111"),
        Verb.LOGIN: lambda: token.login(PIN),
        Verb.STATE: token.fewest_tries,
        Verb.FIND: key.require,
        Verb.RAW: lambda: key.raw(bytes(256)),
    }
    for verb, step in steps.items():
        step()
        if verb is until:
            return


def test_a_life(workers: Workers, pair: tuple[str, ...]) -> None:
    worker, token = workers.load(str(module_path()), pair), WorkerToken("token pretend", "pretend")
    walk(worker, None, token)
    assert [one.der for one in token.certificates()] == [CERTIFICATE]
    assert token.logged_in and token.raw_rsa and token.tries_left is None
    with pytest.raises(WrongPassword, match="wrong password for token pretend"):
        token.change_pin(b"999999", b"111111")
    token.close()
    assert not token.logged_in
    with pytest.raises(TokenGone, match="token pretend was closed, for its card was removed"):
        token.certificates()
    worker._told.wait(20)
    assert not Path(f"/proc/{worker.pid}").exists()


def lost_reason(token: WorkerToken) -> Callable[[], str]:
    reasons: list[str] = []
    told = threading.Event()

    def note(error: TokenGone) -> None:
        reasons.append(error.message)
        told.set()

    token.watch(note)

    def reason() -> str:
        assert told.wait(20)
        (reason,) = reasons
        return reason

    return reason


def expect(
    workers: Workers, environment: tuple[str, ...], says: str, kill: bool, verb: Verb
) -> None:
    token = WorkerToken("token pretend", "pretend")
    with pytest.raises(TokenGone, match=says):
        worker = workers.load(str(module_path()), environment)
        if kill:
            threading.Timer(0.1, os.kill, (worker.pid, signal.SIGKILL)).start()
        walk(worker, None, token)
    if verb not in (Verb.LOAD, Verb.LIST, Verb.OPEN):
        assert not token.there and not token.logged_in
        assert says.replace(r"\.", ".") in lost_reason(token)()
    # whoever has it open does not see another's
    healthy = workers.load(str(module_path()))
    assert len(healthy.places()[1]) == 1
    healthy.end()


@pytest.mark.parametrize("verb", MEETS, ids=lambda verb: verb.name)
def test_a_crash(workers: Workers, pair: tuple[str, ...], verb: Verb) -> None:
    crash = (*pair, f"PRETEND_CRASH={MEETS[verb]}")
    expect(workers, crash, "its process was ended by SIGSEGV", False, verb)


@pytest.mark.parametrize("verb", MEETS, ids=lambda verb: verb.name)
def test_a_hang(
    workers: Workers, pair: tuple[str, ...], verb: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_alive = workers.load(str(module_path()))
    monkeypatch.setattr(workers, "timeout", 0.3)
    hang = (*pair, f"PRETEND_HANG={MEETS[verb]}")
    token = WorkerToken("token pretend", "pretend")
    with pytest.raises(TokenGone, match=r"it did not answer for 0\.3 s, and was ended"):
        walk(workers.load(str(module_path()), hang), None, token)
    assert len(expect_alive.places()[1]) == 1
    expect_alive.end()


@pytest.mark.parametrize(
    "verb", [verb for verb in MEETS if verb is not Verb.LOAD], ids=lambda verb: verb.name
)
def test_kill_nine(workers: Workers, pair: tuple[str, ...], verb: Verb) -> None:
    hang = (*pair, f"PRETEND_HANG={MEETS[verb]}")
    expect(workers, hang, "its process was ended by SIGKILL", True, verb)


def test_one_that_is_idle_is_missed_as_well(workers: Workers, pair: tuple[str, ...]) -> None:
    worker, token = workers.load(str(module_path()), pair), WorkerToken("token pretend", "pretend")
    walk(worker, None, token)
    reason = lost_reason(token)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    assert reason() == "token pretend is gone: its process was ended by SIGKILL"
    assert lost_reason(token)() == reason(), "who comes late hears of it too"


def test_a_close_that_hangs_is_cut_short(workers: Workers, pair: tuple[str, ...]) -> None:
    worker = workers.load(str(module_path()), (*pair, "PRETEND_HANG=C_Finalize"))
    worker.timeout = 0.2
    worker.end()
    assert worker._told.wait(20)


def test_the_nursery_is_killed(pair: tuple[str, ...]) -> None:
    workers = Workers()
    worker, token = workers.load(str(module_path()), pair), WorkerToken("token pretend", "pretend")
    walk(worker, None, token)
    reason = lost_reason(token)
    nursery = int(Path(f"/proc/{worker.pid}/stat").read_text().split()[3])
    os.kill(nursery, signal.SIGKILL)
    assert reason() == "token pretend is gone: the process that looks after it was ended"
    again = workers.load(str(module_path()), pair)
    assert len(again.places()[1]) == 1
    again.end()
    workers.end()


def test_what_it_may_do(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    """No core dump, no tracing, no new privilege, no descriptor of ours; the daemon's own secrets
    are not in its environment."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/nowhere")
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    worker = workers.load(str(module_path()), ("PRETEND_X=1",))
    place = Path(f"/proc/{worker.pid}")
    status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
    assert status["NoNewPrivs"].strip() == "1"
    limits = (place / "limits").read_text()
    (core,) = (line.split() for line in limits.splitlines() if line.startswith("Max core file"))
    assert core[4:6] == ["0", "0"]
    command = (place / "cmdline").read_bytes().split(b"\0")
    assert command[1:4] == [b"-P", b"-m", b"vccid.keys.worker"]
    os.close(writing)
    os.set_blocking(reading, False)
    assert os.read(reading, 1) == b"", "nobody else has its other end"
    os.close(reading)
    worker.end()


def test_texts_that_are_none(workers: Workers) -> None:
    worker = workers.load(str(module_path()), ("PRETEND_NOISE=1",))
    ((place,), token) = worker.places()[1], WorkerToken("token pretend", "pretend")
    assert place == TokenPlace(
        0, "pretend slot", "vccid tests", "pretend", "\ufffd" * 32, "1", "two\nlines\0\x1b[2J.."
    )
    token.open(worker, b"token\npretend", *(text.encode() for text in place.identity))
    with pytest.raises(WrongPassword) as caught:
        token.login(b"wrong")
    assert "\n" not in caught.value.message
    token.close()


class Liar:
    """A worker that answers something else."""

    name = ""

    def __init__(self, *fields: bytes) -> None:
        self.fields = fields

    def ask(self, verb: Verb, *fields: bytes) -> Reply:
        return Reply(State(logged_in=True), self.fields, None)

    def when_lost(self, told: Callable[[str], None]) -> None:
        """It stays."""

    def end(self) -> None:
        """It stays."""


@pytest.mark.parametrize("fields", [(), (b"",), (bytes(255),), (bytes(256), b"")])
def test_an_answer_of_another_size(fields: tuple[bytes, ...]) -> None:
    token = WorkerToken("token pretend", "pretend")
    token.open(Liar(*fields), b"token pretend")
    with pytest.raises(Exception, match="token pretend"):
        WorkerRsaKey(token, "pretend", b"\1", MODULUS).raw(bytes(256))
    try:
        token.fewest_tries()
    except (RemoteProtocolError, TokenGone) as error:
        assert error.message
    except Exception as error:
        assert type(error).__name__ == "KeyOperationError"
    assert token.certificates() == []
