"""Keys lie in files of their owner alone, and a new one takes the old one's place in safe steps."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest

from tests.workers.record.conftest import together
from tests.worlds import KEY, order
from workers.errors import SettingsError, VaultError
from workers.record.database import Database
from workers.record.keys import Key, KeyFiles, new_key_text


@pytest.fixture
def files(tmp_path: Path) -> KeyFiles:
    """The files of a database that is there."""
    database = tmp_path / "paybatch.db"
    made = KeyFiles(database)
    made.load()
    opened = Database(f"sqlite:///{database}")
    opened.prepare()
    opened.close()
    return made


def named(files: KeyFiles) -> set[str]:
    return {path.name for path in files.path.parent.iterdir() if "key" in path.name}


def test_fresh_keys_differ_and_are_32_bytes() -> None:
    texts = {new_key_text() for _ in range(50)}
    assert len(texts) == 50
    assert {len(base64.b64decode(text, validate=True)) for text in texts} == {32}


def test_a_key_shows_nothing_of_itself() -> None:
    key = Key.from_text(KEY)
    assert KEY not in repr(key)
    assert key.id.hex() not in base64.b64decode(KEY).hex()


def test_a_bad_old_key_is_named_as_such() -> None:
    with pytest.raises(SettingsError, match=r"^encryption_keys_old: expected base64"):
        Key.from_text("abc", named="encryption_keys_old")


def test_keys_of_one_purpose_seal_and_fingerprint_differently() -> None:
    one, two = Key.from_text(KEY), Key.from_text(new_key_text())
    told = order()
    assert len({key.seal_of(told.canonical()) for key in (one, two)}) == 2
    assert len({key.fingerprint_of(told.payee()) for key in (one, two)}) == 2


def test_a_new_key_is_made_once_beside_the_old_one_which_stays_the_first(files: KeyFiles) -> None:
    [old] = files.load()
    made = {key.id for key in together([files.make_new] * 8)}
    assert len(made) == 1
    assert made != {old.id}
    assert [key.id for key in files.load()] == [old.id, *made]
    assert named(files) == {"paybatch.key", "paybatch.key.new"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (files.path, files.new_path)} == {0o600}


def test_the_new_key_takes_its_place_only_once_the_database_has_it(files: KeyFiles) -> None:
    [old] = files.load()
    new = files.make_new()
    assert files.settle(old.id) is None
    assert [key.id for key in files.load()] == [old.id, new.id]
    retired = files.settle(new.id)
    assert retired == files.path.with_name(f"paybatch.key.retired-{old.id.hex()}")
    assert [key.id for key in files.load()] == [new.id]
    assert Key.from_text(retired.read_text().strip()).id == old.id
    assert stat.S_IMODE(retired.stat().st_mode) == 0o600
    assert files.settle(new.id) is None
    assert named(files) == {"paybatch.key", retired.name}


def test_a_settling_that_was_cut_off_is_carried_on(files: KeyFiles) -> None:
    [old] = files.load()
    new = files.make_new()
    # As far as it was: the old key has its other name, the new one not yet its place.
    files.path.with_name(f"paybatch.key.retired-{old.id.hex()}").hardlink_to(files.path)
    assert [key.id for key in files.load()] == [old.id, new.id]
    assert files.settle(new.id) is not None
    assert [key.id for key in files.load()] == [new.id]


def test_several_that_settle_at_once_lose_no_key(files: KeyFiles) -> None:
    [old] = files.load()
    new = files.make_new()
    for outcome in together([lambda: files.settle(new.id)] * 8):
        assert outcome is None or isinstance(outcome, Path)
    retired = files.path.with_name(f"paybatch.key.retired-{old.id.hex()}")
    assert Key.from_text(retired.read_text().strip()).id == old.id
    assert [key.id for key in files.load()] == [new.id]


def test_a_new_key_that_cannot_be_written_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(VaultError, match=r"the new key .* cannot be written"):
        KeyFiles(tmp_path / "gone" / "paybatch.db").make_new()


def test_a_spoilt_new_key_is_refused_and_left_alone(files: KeyFiles) -> None:
    files.new_path.write_text("short")
    with pytest.raises(VaultError, match=r"paybatch\.key\.new cannot be read"):
        files.load()
    assert files.new_path.read_text() == "short"
