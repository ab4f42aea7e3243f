# SPDX-License-Identifier: LGPL-2.1-or-later
"""The control socket, by a stock Varlink client: PyPI's `varlink`.

It checks every reply's fields and types against the interface's own description.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import varlink

from tests.peers.daemon import Daemon, make_nss_database
from vccid.control import methods


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("varlink")


@pytest.fixture(scope="module")
def database(directory: Path) -> str:
    return make_nss_database(directory / "nss")


@pytest.fixture(scope="module")
def daemon(directory: Path) -> Iterator[Daemon]:
    with Daemon(directory / "vccid") as daemon:
        yield daemon


@pytest.fixture
def client(daemon: Daemon) -> Iterator[varlink.Client]:
    with varlink.Client(f"unix:{daemon.control}") as client:
        yield client


@pytest.fixture
def vccid(client: varlink.Client) -> Iterator[Any]:
    with client.open("io.vccid") as vccid:
        yield vccid


def described(client: varlink.Client, what: str) -> set[str]:
    """The names of a kind of member in io.vccid."""
    text = client.get_interface("io.vccid").get_description()
    return set(re.findall(rf"^{what} (\w+)", text, re.MULTILINE))


def test_it_introduces_itself(client: varlink.Client) -> None:
    with client.open("org.varlink.service") as service:
        info = service.GetInfo()
        assert info["product"] == "vccid"
        assert info["interfaces"] == ["org.varlink.service", "io.vccid"]
        with pytest.raises(varlink.InterfaceNotFound):
            service.GetInterfaceDescription("io.other")


def test_both_interfaces_are_described_as_the_client_reads_them(client: varlink.Client) -> None:
    for name in ("org.varlink.service", "io.vccid"):
        assert client.get_interface(name).name == name
    assert {"Insert", "Remove", "Status", "Monitor", "CardInfo"} <= described(client, "method")


def test_every_method_described_is_there(client: varlink.Client, vccid: Any) -> None:
    for method in described(client, "method") - {"Monitor"}:
        # A parameter that no method has tells one that is there from one that is not.
        vccid._send_message(f'{{"method":"io.vccid.{method}","parameters":{{"?":1}}}}'.encode())
        with pytest.raises(varlink.VarlinkError) as caught:
            vccid._next_varlink_message()
        kind = caught.value.error()
        assert not kind.endswith("MethodNotFound"), method


def test_errors_of_the_service_itself(vccid: Any) -> None:
    for sent, error in {
        '{"method":"io.vccid.Nonsense"}': "MethodNotFound",
        '{"method":"io.other.Status"}': "InterfaceNotFound",
        '{"method":"org.varlink.service.Nonsense"}': "MethodNotFound",
        '{"method":"org.varlink.service.GetInfo","parameters":{"a":1}}': "InvalidParameter",
        '{"method":"io.vccid.Status","parameters":{"a":1}}': "InvalidParameter",
        '{"method":"io.vccid.Remove","parameters":{"reader":7}}': "InvalidParameter",
        '{"method":"io.vccid.AddReader"}': "InvalidParameter",
        '{"method":"io.vccid.Monitor"}': "ExpectedMore",
    }.items():
        vccid._send_message(sent.encode())
        with pytest.raises(varlink.VarlinkError) as caught:
            vccid._next_varlink_message()
        assert caught.value.error() == f"org.varlink.service.{error}", sent


def test_a_card_from_insert_to_remove(vccid: Any, database: str) -> None:
    inserted = vccid.Insert(certificates=["cert1", "cert2", "cert3"], database=database, wait=5.0)
    assert inserted["reader"] == "vccid0"
    assert inserted["seen"] is True and inserted["unseen"] == []
    assert inserted["card"]["tries"] == 3
    assert any("123456" in warning for warning in inserted["warnings"])

    status = vccid.Status()
    assert status["problems"] == []
    (reader,) = status["readers"]
    assert reader["card"] == inserted["card"]
    assert reader["wanted"] == ["cert1", "cert2", "cert3"]

    info = vccid.CardInfo()
    assert base64.b64decode(info["atr"]).hex() == "3b7a18000073667465206364313434"
    assert [item["subject"] for item in info["certificates"]] == [
        "CN=cert1",
        "CN=cert2",
        "CN=cert3",
    ]

    reset = vccid.ResetPin(pin=base64.b64encode(b"654321").decode())
    assert reset["card"]["tries"] == 3

    removed = vccid.Remove(wait=5.0)
    assert removed["generation"] == inserted["generation"] + 1
    again = vccid.Insert()
    assert again["card"]["serial"] == inserted["card"]["serial"], "the same card comes back"
    vccid.Remove("vccid0")


def test_errors_have_a_message_and_a_hint(vccid: Any, database: str) -> None:
    for call, kind, message in [
        (lambda: vccid.Remove(), "ReaderError", "vccid0 holds no card"),
        (lambda: vccid.Remove("other"), "ReaderError", "no reader other"),
        (lambda: vccid.AddReader("../x"), "ReaderError", "no name for a reader"),
        (lambda: vccid.RemoveReader("vccid0"), "ReaderError", "belongs to the settings"),
        (lambda: vccid.Insert(certificates=["cert9"], database=database),
         "CertificateNotFound", "cert9"),
        (lambda: vccid.Insert(certificates=["a"], database="sql:/missing"),
         "SourceUnusable", "/missing does not exist"),
        (lambda: vccid.CardInfo(), "ReaderError", "holds no card"),
    ]:  # fmt: skip
        with pytest.raises(varlink.VarlinkError) as caught:
            call()
        assert caught.value.error() == f"io.vccid.{kind}"
        assert message in caught.value.parameters()["message"]
        assert isinstance(caught.value.parameters()["hint"], str)


def test_monitor_streams_what_happens(client: varlink.Client, vccid: Any) -> None:
    with client.open("io.vccid") as watching:
        replies = watching.Monitor(_more=True)
        first = next(replies)
        assert [reader["name"] for reader in first["readers"]] == ["vccid0"]
        vccid.AddReader("lab")
        vccid.RemoveReader("lab")
        events = [next(replies)["event"] for _ in range(2)]
    assert [(event["kind"], event["reader"]) for event in events] == [
        ("reader-added", "lab"),
        ("reader-removed", "lab"),
    ]


def test_oneway_is_not_answered(vccid: Any) -> None:
    assert vccid.AddReader("quiet", _oneway=True) is None
    # The next answer is the next call's: the calls of one connection are done in order.
    assert {reader["name"] for reader in vccid.ListReaders()["readers"]} == {"vccid0", "quiet"}
    vccid.RemoveReader("quiet")


def test_every_method_that_is_there_is_described(client: varlink.Client) -> None:
    source = Path(methods.__file__).read_text()
    there = set(re.findall(r'^ +"([A-Z]\w+)": (?:self|cards)\.\w+,$', source, re.MULTILINE))
    assert there | {"Monitor"} == described(client, "method")


def test_the_generation_grows_as_readers_and_cards_come_and_go(vccid: Any, database: str) -> None:
    def state() -> tuple[int, float]:
        (reader,) = vccid.ListReaders()["readers"]
        return vccid.Generation()["generation"], reader["changed"]

    first, came = state()
    vccid.Insert(certificates=["cert1"], database=database)
    second, inserted = state()
    assert state() == (second, inserted)
    vccid.Remove()
    third, removed = state()
    assert first < second < third and came <= inserted <= removed
    vccid.AddReader("brief")
    vccid.RemoveReader("brief")
    assert state() == (third + 2, removed)
