"""What all adapters read and write alike: exact or nothing, and never a beneficiary."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import AccountFault, ProviderUnreachable
from workers.providers import wire
from workers.providers.port import Order
from workers.providers.transport import Answer, Lost
from workers.record.money import Currency, Money
from workers.record.status import Outcome

USD = Currency.of("USD")
ORDER = Order(
    reference_id="r-1",
    account="main",
    amount=Money(2550, USD),
    service="card",
    fields={"card_number": "4000000000000002", "name": "Jane Roe", "country": "USA"},
    customer={"address": {"city": "Denver"}},
)


@pytest.mark.parametrize(
    ("value", "exact"),
    [
        (1, Decimal(1)), ("1.50", Decimal("1.5")), (Decimal("-1.5"), Decimal("-1.5")),
        (True, None), (None, None), ("1e3", None), (" 1", None), ("", None), ([], None),
        (float("inf"), None), (Decimal("NaN"), None), ("9" * 29, None), (10**28, None),
        (Decimal("1E+40"), None), ("1." + "0" * 40 + "1", None),
    ],
)  # fmt: skip
def test_numbers_are_exact_or_none(value: Any, exact: Decimal | None) -> None:
    assert wire.number(value) == exact


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("This value should be greater than 0.", "This value should be greater than 0."),
        ("card 4000000000000002 wrong", "card *** wrong"),
        ("card 4000 0000-0000.0002 wrong", "card *** wrong"),
        ("12345 is five", "12345 is five"),
        ("JANE\nROE is unknown", "*** is unknown"),
        ("USA is wrong, USABLE is not", "*** is wrong, USABLE is not"),
        ("lives in denver", "lives in ***"),
    ],
)
def test_masking(told: str, shown: str) -> None:
    assert wire.masked(told, ORDER) == shown


def test_long_texts_are_cut() -> None:
    assert len(wire.masked("word " * 1000)) == wire.TEXT_CHARS_MAX


@given(st.integers(1, 10**17), st.sampled_from(["USD", "JPY", "KWD", "CLF"]))
def test_the_shortest_number_is_the_same_amount_in_plain_digits(minor: int, code: str) -> None:
    amount = Money(minor, Currency.of(code))
    written = wire.write_json({"amount": wire.shortest(amount)})
    assert b"e" not in written.lower().replace(b'"amount"', b"")
    assert not written.endswith((b".0}", b"0}")) or b"." not in written
    read = wire.read_json(written)["amount"]
    assert wire.money(read, amount.currency) == amount


@pytest.mark.parametrize(
    "body", [b"", b"[", b"\xff", b'{"a": NaN}', b'{"a": 1e99999999999999999999}', b"[" * 100_000]
)
def test_a_body_that_is_no_exact_json_is_none(body: bytes) -> None:
    assert wire.read_json(body) is None


FAULTS = {401: "the key is wrong"}


def expect(answer: Answer | Lost) -> Answer:
    return wire.expect_200(answer, "its balances", "Acme", faults=FAULTS, said=lambda _: "words")


def test_a_question_is_answered_by_200_alone() -> None:
    assert expect(Answer(200, {}, b"x")).body == b"x"
    with pytest.raises(AccountFault, match="Acme answered 401: the key is wrong"):
        expect(Answer(401, {}, b""))
    with pytest.raises(ProviderUnreachable, match="asked for its balances and answered 201: words"):
        expect(Answer(201, {}, b""))
    with pytest.raises(ProviderUnreachable, match="no answer"):
        expect(Lost(Outcome.UNKNOWN, "ReadTimeout", "no answer"))


def test_an_errors_words_are_told_without_our_secrets() -> None:
    told = wire.without(Answer(422, {}, b"key k-123 and k-123"), "k-123")
    assert isinstance(told, Answer)
    assert told.body == b"key *** and ***"


AWKWARD = ('s3"cret-ñ/x', "a\\b", "a/b", "nuñez", "p&ss<w>", "tab\there", "k€y", "key🔑", "a.b*c+")


@pytest.mark.parametrize("secret", AWKWARD)
def test_a_secret_does_not_come_back_through_the_escapes_of_json(secret: str) -> None:
    written = [json.dumps(secret, ensure_ascii=narrow)[1:-1] for narrow in (True, False)]
    written += [form.replace("/", "\\/") for form in written]
    written += [re.sub(r"\\u[0-9a-f]{4}", lambda m: f"\\u{m[0][2:].upper()}", w) for w in written]
    written += ["".join(f"\\u{ord(c):04x}" if c in "&<>/" else c for c in secret), secret]
    for form in written:
        told = wire.without(Answer(422, {}, f'{{"message": "not {form}!"}}'.encode()), secret)
        assert isinstance(told, Answer)
        assert told.body == b'{"message": "not ***!"}', form


@given(st.text(min_size=1, max_size=20).filter(lambda text: not {*"<>"} & {*text}))
def test_no_secret_survives_in_a_body_that_json_wrote(secret: str) -> None:
    for narrow in (True, False):
        body = json.dumps({"m": f"<{secret}>"}, ensure_ascii=narrow).encode(errors="surrogatepass")
        told = wire.without(Answer(500, {}, body), secret)
        assert isinstance(told, Answer)
        assert b"<***>" in told.body


def test_what_is_no_error_or_has_no_secret_is_left_alone() -> None:
    assert wire.without(Answer(200, {}, b"k-123"), "k-123") == Answer(200, {}, b"k-123")
    assert wire.without(Answer(422, {}, b"axb"), "a.b", "") == Answer(422, {}, b"axb")
    lost = Lost(Outcome.UNKNOWN, "ReadTimeout", "no answer")
    assert wire.without(lost, "k-123") is lost


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7), ("0", 1), ("99999", 3600), ("soon", 5), ("-3", 5)]
)
def test_a_retry_after_is_bounded(header: str, seconds: int) -> None:
    assert wire.retry_after_s(Answer(429, {"retry-after": header}, b"")) == seconds
