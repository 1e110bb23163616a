"""Keys of model providers on disk: encrypted, private, read again when they change, lost without harm."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from runtime.home import Home
from runtime.model_keys import ModelKeys
from terminalpp.types.errors import NotFound
from terminalpp.types.providers import KEYED

KEY = "sk-this-is-never-on-disk"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "secrets").mkdir(mode=0o700)
    return tmp_path


def test_a_key_is_kept_encrypted_and_private(home: Path) -> None:
    keys = ModelKeys(home)
    assert (keys.all(), keys.listed()) == ({}, [])
    keys.add("openai", KEY)
    assert keys.all() == {"openai": KEY}
    assert [(row["provider"], row["usable"]) for row in keys.listed()] == [("openai", True)]
    for file in (home / "secrets").iterdir():
        assert KEY.encode() not in file.read_bytes()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_every_process_sees_a_change_at_its_next_look(home: Path) -> None:
    one, other = ModelKeys(home), ModelKeys(home)
    one.add("openai", KEY)
    assert other.all() == {"openai": KEY}
    other.add("openai", "another")
    assert one.all() == {"openai": "another"}
    one.remove("openai")
    assert other.all() == {}
    with pytest.raises(NotFound):
        other.remove("openai")


def test_writers_at_once_lose_nothing(home: Path) -> None:
    threads = [threading.Thread(target=ModelKeys(home).add, args=(name, f"key-{name}")) for name in KEYED]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ModelKeys(home).all() == {name: f"key-{name}" for name in KEYED}


@pytest.mark.parametrize("harm", ["gone", "other", "damaged"])
def test_without_its_key_file_nothing_else_stops(home: Path, harm: str) -> None:
    keys, secret = ModelKeys(home), home / "secrets" / "keys.key"
    keys.add("openai", KEY)
    secret.unlink()
    if harm == "other":
        Home(home).secret("keys.key")
    elif harm == "damaged":
        secret.write_text("?")
    assert keys.all() == {}
    assert [row["usable"] for row in keys.listed()] == [False]
    if harm != "damaged":  # a damaged secret is named, not replaced
        keys.add("openai", "new")
        assert keys.all() == {"openai": "new"}
    keys.remove("openai")
    assert keys.listed() == []


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"openai": 3}', '{"openai": {"key": 3}}', '{"openai": {"key": "é"}}']
)
def test_a_file_that_is_none_of_ours_gives_no_key(home: Path, text: str) -> None:
    ModelKeys(home).add("openai", KEY)
    (home / "secrets" / "model-keys.json").write_text(text)
    assert ModelKeys(home).all() == {}


def test_a_key_is_taken_out_of_what_a_provider_says(home: Path) -> None:
    keys = ModelKeys(home)
    keys.add("openai", KEY)
    keys.add("xai", "x")
    assert keys.hidden(f"401: {KEY} is wrong, {KEY}!") == "401: [key] is wrong, [key]!"
    assert keys.hidden("exact") == "exact"
