"""What the vault closes opens only for the same payout with the same key."""

from __future__ import annotations

import base64
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.record.conftest import together
from tests.workers.record.test_model import BASE, CHANGES
from tests.worlds import KEY, order
from workers.errors import SettingsError, VaultError
from workers.record.database import Database
from workers.record.money import Currency, Money
from workers.record.vault import KEY_FILE_NAME, Vault, mask, masked_beneficiary

OTHER_KEY = base64.b64encode(b"another key, 32 bytes long, yes!").decode()
VAULT, OTHER = Vault.from_text(KEY), Vault.from_text(OTHER_KEY)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def _opened(data: bytes, **changes: str) -> Any:
    bound = {"account": BASE.account, "reference_id": BASE.reference_id, **changes}
    return VAULT.decrypt(data, **bound)


@given(personal=st.dictionaries(st.text(), JSON, max_size=4))
def test_what_is_closed_opens_again(personal: dict[str, Any]) -> None:
    closed = VAULT.encrypt(replace(BASE, fields=personal, customer={"c": personal}))
    assert _opened(closed) == {
        "fields": personal,
        "context": dict(BASE.context),
        "customer": {"c": personal},
    }


def test_the_closed_data_shows_nothing_and_differs_each_time() -> None:
    one, two = VAULT.encrypt(BASE), VAULT.encrypt(BASE)
    assert one != two
    assert b"Rome" not in one


@pytest.mark.parametrize(
    "bound",
    [
        {"reference_id": "R-2"},
        {"account": "other"},
        # The two are kept apart: their concatenation alone is not what is bound.
        {"account": "mainR", "reference_id": "-1"},
    ],
)
def test_another_rows_data_does_not_open(bound: dict[str, str]) -> None:
    closed = VAULT.encrypt(BASE)
    with pytest.raises(VaultError):
        _opened(closed, **bound)


def test_another_key_does_not_open() -> None:
    with pytest.raises(VaultError, match="another key"):
        _opened(OTHER.encrypt(BASE))


def test_another_key_that_claims_to_be_ours_does_not_open() -> None:
    forged = VAULT.encrypt(BASE)[:5] + OTHER.encrypt(BASE)[5:]
    with pytest.raises(VaultError, match="was changed"):
        _opened(forged)


@given(data=st.data())
def test_one_flipped_bit_does_not_open(data: st.DataObject) -> None:
    closed = bytearray(VAULT.encrypt(BASE))
    bit = data.draw(st.integers(0, len(closed) * 8 - 1))
    closed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(VaultError):
        _opened(bytes(closed))


@pytest.mark.parametrize(("name", "value"), CHANGES)
def test_the_seal_breaks_on_a_change_of_any_field(name: str, value: Any) -> None:
    seal = VAULT.seal(BASE)
    assert VAULT.seal_holds(BASE, seal)
    assert not VAULT.seal_holds(replace(BASE, **{name: value}), seal)


def test_a_missing_or_foreign_seal_does_not_hold() -> None:
    assert not VAULT.seal_holds(BASE, None)
    assert not VAULT.seal_holds(BASE, "")
    assert not VAULT.seal_holds(BASE, OTHER.seal(BASE))


def test_a_fingerprint_is_no_seal() -> None:
    shown = VAULT.fingerprint(BASE).to_bytes(8, signed=True).hex()
    assert not VAULT.seal_holds(BASE, shown)
    assert not VAULT.seal(BASE).startswith(shown)


@pytest.mark.parametrize(
    "change",
    [
        {"reference_id": "R-9"},
        {"description": "April"},
        {"metadata": {}},
        {"replaces": "R-8"},
        {"fields": {"bank": "A", "account": "111"}},
    ],
)
def test_the_same_beneficiary_and_amount_have_the_same_fingerprint(change: Any) -> None:
    assert VAULT.fingerprint(replace(BASE, **change)) == VAULT.fingerprint(BASE)


@pytest.mark.parametrize(
    "change",
    [
        {"account": "other"},
        {"service": "other"},
        {"amount": Money(1001, BASE.amount.currency)},
        {"amount": Money(1000, Currency.of("EUR"))},
        {"fields": {"account": "112", "bank": "A"}},
    ],
)
def test_another_beneficiary_or_amount_has_another_fingerprint(change: Any) -> None:
    assert VAULT.fingerprint(replace(BASE, **change)) != VAULT.fingerprint(BASE)


def test_a_fingerprint_tells_nothing_without_the_key() -> None:
    assert VAULT.fingerprint(BASE) != OTHER.fingerprint(BASE)


@pytest.mark.parametrize("text", ["", "abc", "not base64!", "QUJD", KEY[:-4], KEY + "QUJD"])
def test_a_key_that_is_not_base64_of_32_bytes_is_refused_unshown(text: str) -> None:
    with pytest.raises(SettingsError, match="base64 of 32 random bytes") as refused:
        Vault.from_text(text)
    assert not text or text not in str(refused.value)


def test_a_key_file_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    database = tmp_path / "paybatch.db"
    first = Vault.beside(database)
    path = tmp_path / KEY_FILE_NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert Vault.beside(database).key_id == first.key_id
    assert path.read_text() == text
    assert [one.name for one in tmp_path.iterdir()] == [KEY_FILE_NAME]


def test_makers_of_a_key_at_the_same_time_agree(tmp_path: Path) -> None:
    database = tmp_path / "paybatch.db"
    vaults = together([lambda: Vault.beside(database)] * 16)
    assert len({vault.key_id for vault in vaults}) == 1
    assert [one.name for one in tmp_path.iterdir()] == [KEY_FILE_NAME]


def test_two_databases_do_not_share_a_made_key(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    one, two = (Vault.beside(tmp_path / name / "paybatch.db") for name in ("a", "b"))
    assert one.key_id != two.key_id


def test_a_database_without_its_key_is_refused_and_gets_no_new_one(tmp_path: Path) -> None:
    path = tmp_path / "paybatch.db"
    database = Database(f"sqlite:///{path}")
    database.prepare()
    database.close()
    with pytest.raises(VaultError, match="put the key back"):
        Vault.beside(path)
    assert not (tmp_path / KEY_FILE_NAME).exists()


@pytest.mark.parametrize("content", [b"", b"short", b"\xff\xfe"])
def test_a_spoilt_key_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / KEY_FILE_NAME
    path.write_bytes(content)
    with pytest.raises(VaultError, match="cannot be read"):
        Vault.beside(tmp_path / "paybatch.db")
    assert path.read_bytes() == content


@given(value=st.text())
def test_a_mask_shows_the_last_four_of_a_long_value_and_nothing_of_a_short_one(value: str) -> None:
    shown = mask(value)
    if len(value) < 9:
        assert set(shown) <= {"*"}
    else:
        assert shown == "****" + value[-4:]


def test_a_masked_beneficiary_names_the_fields_alone() -> None:
    one = order(fields={"iban": "DE89370400440532013000", "name": "Ann", "code": 1234})
    assert masked_beneficiary(one) == "code ****, iban ****3000, name ***"
