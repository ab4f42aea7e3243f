# SPDX-License-Identifier: LGPL-2.1-or-later
"""The settings: what files say, and where a wrong one is."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vccid.errors import ConfigError
from vccid.settings import config, config_files
from vccid.settings.config import (
    Pcsc,
    ReaderSettings,
    Settings,
    check_reader_name,
    declared,
    from_text,
)
from vccid.settings.config_files import load
from vccid.settings.toml_lines import key_lines, line_of


def write(directory: Path, text: str, name: str = "vccid.toml") -> Path:
    path = directory / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def nobody(tmp_path: Path) -> Iterator[None]:
    """Whom a folder's mode keeps out, as it never does root."""
    tmp_path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)
    tmp_path.chmod(0o700)


def test_no_file_is_one_reader(tmp_path: Path) -> None:
    settings = load(tmp_path / "missing")
    assert settings == Settings()
    assert settings.readers == {"vccid0": ReaderSettings()}


def test_readers_are_added_to_the_default_one(tmp_path: Path) -> None:
    write(tmp_path, "[reader.lab]\n[reader.door]\nifd = false\n")
    assert load(tmp_path).readers == {
        "door": ReaderSettings(ifd=False),
        "lab": ReaderSettings(),
        "vccid0": ReaderSettings(),
    }


def test_even_the_default_reader_can_go(tmp_path: Path) -> None:
    write(tmp_path, "[reader.vccid0]\nenabled = false\n")
    assert load(tmp_path).readers == {}


def test_further_slots_are_readers_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "vccid.toml").write_text(
        "[reader.vccid0]\nslots = 3\npin_pad = true\n[reader.vccid0-3]\nifd = false\n"
    )
    readers = config_files.load(tmp_path).readers
    assert {name: (r.slots, r.pin_pad, r.ifd) for name, r in readers.items()} == {
        "vccid0": (3, True, True),
        "vccid0-2": (1, True, True),
        "vccid0-3": (1, False, False),
    }


@pytest.mark.parametrize(
    "text", ["[reader.a]\nslots = 0", "[reader.a]\nslots = 17", f"[reader.{'a' * 31}]\nslots = 2"]
)
def test_slots_there_cannot_be(tmp_path: Path, text: str) -> None:
    (tmp_path / "vccid.toml").write_text(text)
    with pytest.raises(ConfigError):
        config_files.load(tmp_path)


def test_a_later_file_replaces_key_by_key(tmp_path: Path) -> None:
    main = write(tmp_path, "[control]\nmode = '0600'\ngroup = 'a'\n[reader.lab]\nifd = false\n")
    late = write(tmp_path, "[control]\ngroup = 'c'\n", "vccid.toml.d/20-late.toml")
    early = write(tmp_path, "[control]\ngroup = 'b'\n[reader.lab]\n", "vccid.toml.d/10-early.toml")
    write(tmp_path, "not = [toml", "vccid.toml.d/30-editors-backup.toml~")
    settings = load(tmp_path)
    assert (settings.control.group, settings.control.mode) == ("c", "0600")
    assert settings.readers["lab"] == ReaderSettings(ifd=False)
    assert settings.files == (main, early, late)


def test_the_command_line_wins(tmp_path: Path) -> None:
    write(tmp_path, "[log]\nlevel = 'error'\n")
    assert load(tmp_path, {("log", "level"): "debug"}).log.level == "debug"


@pytest.mark.parametrize(
    ("text", "where", "what", "hint"),
    [
        ("\n[contrl]\n", 2, "unknown table [contrl]", "did you mean control?"),
        ("level = 'info'\n", 1, "unknown table [level]", "known are"),
        ("[log]\n# x\nlvl = 'info'\n", 3, "unknown key lvl in [log]", "did you mean level?"),
        ("[log]\nlevel = 3\n", 2, "log.level must be a string", "messages"),
        ("[log]\nlevel = 'loud'\n", 2, "log.level must be one of debug", "messages"),
        ("log = 3\n", 1, "log is a table", "[log]"),
        ("[control]\nmode = '999'\n", 2, "control.mode must be an octal mode", "mode"),
        ("[reader.a]\nifd = true\nenabled = 1\n", 3, "reader.a.enabled must be true", "Whether"),
        ("[reader.a]\n[reader.b]\nx = 1\n", 3, "unknown key x in [reader.b]", "known are"),
        ("reader = {a = {\nifd = 3}}", 1, "no valid TOML", "vccid.toml(5)"),
        ("reader = {a = {ifd = 3}}", 1, "reader.a.ifd must be true or false", "driver"),
        ("[reader]\n'../a'.ifd = true", 2, "bad reader name", "letters"),
        ("reader = 1", 1, "reader is a table of readers", "[reader.NAME]"),
        ("[reader]\na = 1", 2, "reader.a is a table", "[reader.a]"),
        ("[log]\nlevel = info\n", 2, "no valid TOML", "quotes"),
        ("[log\n", 1, "no valid TOML", "quotes"),
        ('[log]\nlevel = """\ninfo\n', 3, "no valid TOML", "quotes"),
        ('[log]\nlevel = """\n[log]\nlevel = 3\n"""\nx = 1', 2, "log.level must be one of", ""),
    ],
)
def test_what_is_wrong_is_told_with_file_and_line(
    tmp_path: Path, text: str, where: int, what: str, hint: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    assert caught.value.message.startswith(f"{path}:{where}: {what}")
    assert hint in caught.value.hint


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "vccid.toml").write_bytes(b"[log]\n\xff\n")
    with pytest.raises(ConfigError, match=r"vccid\.toml:2: not UTF-8"):
        load(tmp_path)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "vccid.toml").mkdir()
    with pytest.raises(ConfigError, match=r"vccid\.toml cannot be read: Is a directory"):
        load(tmp_path)


def test_a_folder_that_cannot_be_entered(tmp_path: Path, nobody: None) -> None:
    with pytest.raises(ConfigError, match=r"vccid\.toml cannot be read: Permission denied"):
        load(tmp_path)


def test_drop_ins_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "vccid.toml.d").write_text("")
    with pytest.raises(ConfigError, match=r"vccid\.toml\.d cannot be read: Not a directory"):
        load(tmp_path)
    with pytest.raises(ConfigError, match=r"vccid\.toml cannot be read: Not a directory"):
        load(tmp_path / "vccid.toml.d")


def test_a_link_to_nothing_is_no_missing_file(tmp_path: Path) -> None:
    (tmp_path / "vccid.toml").symlink_to("gone")
    with pytest.raises(ConfigError, match=r"vccid\.toml cannot be read: No such file"):
        load(tmp_path)


def test_what_is_read_of_the_drop_ins(tmp_path: Path) -> None:
    write(tmp_path, "log.level = 'error'", "vccid.toml.d/b.toml")
    write(tmp_path, "log.level = 'debug'", "vccid.toml.d/a.toml")
    for unread in (".hidden.toml", ".toml", "c.toml.bak", "toml"):
        write(tmp_path, "no TOML", f"vccid.toml.d/{unread}")
    settings = load(tmp_path)
    assert settings.log.level == "error"
    assert [path.name for path in settings.files] == ["a.toml", "b.toml"]


def test_every_declared_default_suits_its_own_setting() -> None:
    for table in (*config.TABLES.values(), ReaderSettings):
        declarations = config.declared(table)
        assert list(declarations) == [entry.name for entry in dataclasses.fields(table)]
        for declaration in declarations.values():
            assert declaration.help.endswith("."), declaration.key


@pytest.mark.parametrize("name", ["vccid0", "a", "A.b-c_d", "0", "x" * 32])
def test_names_for_readers(name: str) -> None:
    assert check_reader_name(name) == ""


@pytest.mark.parametrize("name", ["", ".", "..", "-a", "a/b", "a b", "a\n", "ä", "x" * 33])
def test_no_names_for_readers(name: str) -> None:
    assert check_reader_name(name) != ""


_keys = st.sampled_from(["a", "b-c", '"d e"', "'f.g'"])
_values = st.sampled_from(["1", '"x = 1"', "'[t]'", '"""\n[no]\nno = 1\n"""', "'''\nno = 2\n'''",
                           "[\n1,\n2\n]", '"\\"#"  # [c]'])  # fmt: skip


@given(st.lists(st.tuples(_keys, _values), unique_by=lambda pair: pair[0], max_size=4))
def test_a_keys_line_is_where_it_stands(pairs: list[tuple[str, str]]) -> None:
    text, expected = "# first\n[t.u]\n", {}
    for key, value in pairs:
        expected["t", "u", key.strip("\"'")] = text.count("\n") + 1
        text += f"{key} = {value}\n"
    lines = key_lines(text)
    assert {path: line for path, line in lines.items() if len(path) == 3} == expected
    assert lines["t",] == lines["t", "u"] == 2
    assert line_of(lines, ("t", "u", "other")) == 2
    assert line_of(lines, ("other",)) == 1


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("false", False), ("True", "True"), ("1", "1")]
)
def test_a_switch_of_the_command_line(text: str, value: object) -> None:
    assert from_text(declared(Pcsc)["all"], text) == value


def test_a_number_of_the_command_line(tmp_path: Path) -> None:
    assert from_text(declared(Pcsc)["readers"], "64x") == "64x"
    assert load(tmp_path, {("pcsc", "readers"): "80"}).pcsc.readers == 80


def test_all_readers_are_shown_to_programs_where_the_settings_say_so(tmp_path: Path) -> None:
    (tmp_path / "vccid.toml").write_text("[pcsc]\nall = true\n[reader.second]\n")
    readers = load(tmp_path).readers
    assert {name: reader.pcsc for name, reader in readers.items()} == {
        "second": True,
        "vccid0": True,
    }
