# SPDX-License-Identifier: LGPL-2.1-or-later
"""The OCI image: made twice it is the same, and any user has a card in it."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.fresh.root import missing

from . import container
from .conftest import build

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=missing() or "nothing is missing"),
    pytest.mark.timeout(1200),
]


def blob(archive: tarfile.TarFile, digest: str) -> Any:
    return archive.extractfile("blobs/" + digest.replace(":", "/"))


def unpack(archive: Path, root: Path) -> dict[str, Any]:
    """The image's files; its configuration."""
    with tarfile.open(archive) as image:
        index = image.extractfile("index.json")
        assert index is not None
        (entry,) = json.load(index)["manifests"]
        manifest = json.load(blob(image, entry["digest"]))
        (layer,) = manifest["layers"]
        root.mkdir()
        subprocess.run(
            ["tar", "-x", "-z", "-C", root], input=blob(image, layer["digest"]).read(), check=True
        )
        configuration: dict[str, Any] = json.load(blob(image, manifest["config"]["digest"]))
    return configuration


def test_the_image_is_the_same_each_time_and_any_user_has_a_card(tmp_path: Path) -> None:
    first, second = build("image", tmp_path / "1"), build("image", tmp_path / "2")
    assert (first / "digest").read_text() == (second / "digest").read_text()
    (archive,) = first.glob("*.tar")
    configuration = unpack(archive, tmp_path / "root")["config"]
    assert "Entrypoint" not in configuration and "User" not in configuration
    assert not list((tmp_path / "root/etc/apt").rglob("*main.list")), "what vccid came from"
    done = container.run(
        tmp_path / "root", tmp_path / "1",
        ["vccid", "run", "--generate", "--", "pkcs11-tool", "--test", "--login", "--pin", "123456"],
        timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["No errors"]), done.stdout
    said = container.run(tmp_path / "root", tmp_path / "1", ["pcsc_scan", "-V"], timeout=30)
    assert said.returncode == 0, said.stdout
