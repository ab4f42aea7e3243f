# SPDX-License-Identifier: LGPL-2.1-or-later
"""vccid.toml(5) and the declared settings say the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from vccid.settings.config import READER_TABLE, TABLES, ReaderSettings, declared

MANUAL = (Path(__file__).parents[3] / "docs" / "man" / "vccid.toml.5").read_text()
PLAIN = re.sub(r"\\f.", "", MANUAL).replace("\\-", "-")


def documented(table: str) -> dict[str, str]:
    """The settings of a table in the manual, with their text."""
    section = PLAIN.partition(f"\n.SH [{table}]\n")[2].partition("\n.SH ")[0]
    return {
        name: text.replace("\n", " ") for name, text in re.findall(
            r"^\.TP\n\.B (\w+)\n((?:[^.].*\n?|\.\w+ .*\n?)*)", section + "\n", re.MULTILINE
        )
    }  # fmt: skip


def in_toml(value: object) -> object:
    """As TOML has it."""
    return list(value) if isinstance(value, tuple) else value


def test_every_table_is_in_the_manual_and_the_other_way_round() -> None:
    tables = re.findall(r"^\.SH \[([\w.]+)\]$", PLAIN, re.MULTILINE)
    assert tables == [*TABLES, f"{READER_TABLE}.NAME"]


def test_every_setting_is_there_with_its_default() -> None:
    for name, table in {**TABLES, f"{READER_TABLE}.NAME": ReaderSettings}.items():
        texts = documented(name)
        assert list(texts) == list(declared(table))
        for setting, declaration in declared(table).items():
            default = re.search(r"Default: (.+?)\.\s*$", texts[setting])
            assert default is not None, setting
            assert tomllib.loads(f"value = {default[1]}")["value"] == in_toml(declaration.default)
