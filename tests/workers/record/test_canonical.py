"""The fast JSON text is that of `json.dumps`, byte for byte: what is sealed depends on it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worlds import KEY, order
from workers.record.canonical import plain_object, sorted_ascii_object, sorted_object
from workers.record.vault import Vault

names = st.text(max_size=6) | st.sampled_from(["a%s", "%", 'q"', "fields", "é"])
# Made by `json.dumps` and `hmac.new` when the first payouts were stored.
SEAL = "3d826ed47988275e7694ecdad6747db07270fc804427277cd53ca65516f51c1b"
FINGERPRINT = 0x5C9938739EC09E1C
texts = st.text(max_size=20) | st.sampled_from(["", '"', "\\", "\x7f", "\x00", "%s", "€", "𝄞"])
flat = st.dictionaries(names, texts, max_size=6)
nested = st.dictionaries(names, texts | flat | st.integers() | st.none(), max_size=4)


def dumps(value: Any, **how: Any) -> str:
    return json.dumps(value, separators=(",", ":"), **how)


@given(flat | nested)
def test_an_object_is_written_as_json_dumps_writes_it(value: dict[str, Any]) -> None:
    assert sorted_object(value) == dumps(value, sort_keys=True, ensure_ascii=False)
    assert sorted_ascii_object(value) == dumps(value, sort_keys=True)
    assert plain_object(value) == dumps(value, ensure_ascii=False)


@given(flat, nested, nested, texts)
def test_the_canonical_bytes_of_an_order_are_for_ever(
    fields: dict[str, Any], customer: dict[str, Any], metadata: dict[str, Any], text: str
) -> None:
    given_ = order(
        reference_id="R" + text,
        fields=fields,
        customer=customer,
        metadata=metadata,
        context=customer,
        description=text,
        replaces=text,
    )
    expected = {
        "reference_id": given_.reference_id,
        "account": "main",
        "amount_minor": 1000,
        "currency": "USD",
        "currency_exponent": 2,
        "service": "test_usd",
        "fields": fields,
        "context": customer,
        "customer": customer,
        "metadata": metadata,
        "description": text,
        "replaces": text,
    }
    assert given_.canonical() == dumps(expected, sort_keys=True, ensure_ascii=False).encode()


def test_seals_and_fingerprints_are_those_of_stored_payouts() -> None:
    one = order(reference_id="S-1", fields={"name": "Zoë", "account": "1"}, metadata={"a": "b"})
    vault = Vault.from_text(KEY)
    assert vault.seal(one) == SEAL
    assert vault.fingerprint(one) == FINGERPRINT


@pytest.mark.parametrize("name", ["fields", "context", "customer"])
def test_what_is_closed_opens_in_its_own_order(name: str) -> None:
    value = {"z": "1", "a": "2", "m": {"x": "3"}}
    one = order(**{name: value})
    vault = Vault.from_text(KEY)
    opened = vault.decrypt(vault.encrypt(one), account=one.account, reference_id=one.reference_id)
    assert opened[name] == value
    assert list(opened[name]) == list(value)
