# SPDX-License-Identifier: LGPL-2.1-or-later
"""curl shows the card's certificate to a loopback nginx that asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.desk import OPENSC_MODULE, PIN, Desk
from tests.peers.servers import free_port, serving

NGINX = """daemon off;
master_process off;
pid {0}/pid;
error_log {0}/error.log;
events {{ worker_connections 16; }}
http {{
  access_log off;
  client_body_temp_path {0}; proxy_temp_path {0}; fastcgi_temp_path {0};
  uwsgi_temp_path {0}; scgi_temp_path {0};
  server {{
    listen 127.0.0.1:{1} ssl;
    ssl_certificate {0}/server.pem;
    ssl_certificate_key {0}/server.key;
    ssl_client_certificate {0}/clients.pem;
    ssl_verify_client on;
    location / {{ return 200 "$ssl_client_verify $ssl_client_s_dn\\n"; }}
  }}
}}
"""


@pytest.fixture(scope="module")
def url(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("nginx")
    desk.say(
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
        "-keyout", directory / "server.key", "-out", directory / "server.pem",
    )  # fmt: skip
    desk.say("pkcs15-tool", "--read-certificate", "0001", "--output", directory / "clients.pem")
    port = free_port()
    (directory / "nginx.conf").write_text(NGINX.format(directory, port))
    desk.write("server.pem", (directory / "server.pem").read_bytes())
    argv = ["nginx", "-p", str(directory), "-e", str(directory / "log"), "-c"]
    with serving([*argv, str(directory / "nginx.conf")], port, directory / "output"):
        yield f"https://localhost:{port}/"


def fetch(desk: Desk, url: str, *options: str) -> str:
    """What nginx answers. OpenSSL's engine reads the PIN from a file (RFC 7512, 2.4)."""
    return desk.say(
        "curl", "--silent", "--show-error", "--max-time", "30",
        "--cacert", desk.directory / "server.pem", *options, url,
        env={"PKCS11_MODULE_PATH": OPENSC_MODULE},
    ).strip()  # fmt: skip


def test_nginx_accepts_the_card(desk: Desk, url: str) -> None:
    pin: Path = desk.write("pin", PIN.encode())
    uri = f"pkcs11:id=%00%01;pin-source=file:{pin};type="
    said = fetch(
        desk, url, "--engine", "pkcs11", "--cert-type", "ENG", "--cert", f"{uri}cert",
        "--key-type", "ENG", "--key", f"{uri}private",
    )  # fmt: skip
    assert said == "SUCCESS CN=cert1"


def test_nginx_turns_away_who_has_no_card(desk: Desk, url: str) -> None:
    assert "No required SSL certificate was sent" in fetch(desk, url)
