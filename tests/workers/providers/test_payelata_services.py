"""Payelata's services, field rules and balances as questions before money moves."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.carriers import answered_by
from workers.errors import AccountFault, ProviderUnreachable
from workers.providers.payelata import Payelata, PayelataConfig
from workers.providers.payelata_services import amounts_to_ask, usable_pattern
from workers.providers.port import Service
from workers.record.money import Currency, Money

USD, JPY = Currency.of("USD"), Currency.of("JPY")


def adapter(handler: Callable[[httpx.Request], httpx.Response], **changes: Any) -> Payelata:
    config = PayelataConfig(
        **{
            "base_url": "https://api.example.test/api",
            "public_base_url": "https://public.example.test",
            "account_id": "coma_1",
            "api_key": "demo-api-key",
            "public_key": "pk_test_demo",
            "test_mode": True,
            **changes,
        }
    )
    return Payelata(config, answered_by(handler, config.base_url))


def listed(code: str, **attributes: Any) -> dict[str, Any]:
    facts = {
        "service": code, "service_currency": "USD", "currency": "USD", "available": True,
        "active": True, "enabled": True, "amount_min": 1, "amount_max": 5000, "fee_rate": 0,
        "fee_fix": 0, "fee_min": 0, "fee_max": 0, "test_mode": True, **attributes,
    }  # fmt: skip
    return {"type": "payout-services", "id": f"comcpos_{code}", "attributes": facts}


class Site:
    """Answers the list of services page by page, and the prerequest."""

    def __init__(self, *pages: list[Any], fields: Any = None, links: bool = True) -> None:
        self.pages, self.fields, self.links = pages, fields or {}, links
        self.amounts: list[Decimal] = []
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if request.url.path == "/public-api/payout-prerequest":
            asked = json.loads(request.content, parse_float=Decimal)
            self.amounts.append(asked["amount"])
            return httpx.Response(200, json=self.prerequest(asked["amount"]))
        number = int(request.url.params["page[number]"])
        more = self.links and number < len(self.pages)
        query = f"page%5Bnumber%5D={number + 1}&page%5Bsize%5D=20"
        document = {
            "data": self.pages[number - 1],
            "meta": {"total": 9, "pages": len(self.pages), "page": number},
            "links": {"next": f"/api/payout-services?{query}" if more else ""},
        }
        return httpx.Response(200, json=document)

    def prerequest(self, _: Any) -> Any:
        return {"data": {"services": {c: {"code": c, "fields": f} for c, f in self.fields.items()}}}


def card(**changes: Any) -> dict[str, Any]:
    return {
        "key": "card_number", "type": "string", "label": {"en": "Card number"}, "example": None,
        "regexp": "^\\\\d{12,19}$", "required": True, "position": 0, **changes,
    }  # fmt: skip


@pytest.mark.parametrize("links", [True, False])
def test_all_pages_are_read_and_sorted_and_only_the_currency_kept(links: bool) -> None:
    site = Site([listed("b")], [listed("c", currency="EUR"), listed("a")], links=links)
    assert [service.code for service in adapter(site).services(USD)] == ["a", "b"]
    assert site.requests[0].url.params["page[size]"] == "20"
    assert {r.url.host for r in site.requests} == {"api.example.test", "public.example.test"}


def test_limits_and_fees_are_exact() -> None:
    told = listed("a", amount_min="0.50", amount_max=99.99, fee_rate=2.5, fee_fix="0.30", fee_max=9)
    service = adapter(Site([told]), service_decimals={"a": 0}).services(USD)[0]
    assert (service.amount_min, service.amount_max) == (Money(50, USD), Money(9999, USD))
    assert (service.fee_rate, service.fee_fix) == (Decimal("0.025"), Money(30, USD))
    assert (service.fee_min, service.fee_max, service.decimals) == (None, Money(900, USD), 0)
    assert service.fee(Money(10000, USD)) == Money(280, USD)
    fraction = adapter(Site([listed("a", fee_rate=0.025)]), fee_rate_unit="fraction")
    assert fraction.services(USD)[0].fee_rate == Decimal("0.025")


def test_limits_in_another_currency_are_left_out_and_told() -> None:
    told = listed("a", service_currency="JPY", amount_min=100)
    service = adapter(Site([told]), public_key=None).services(USD)[0]
    assert (service.amount_min, service.amount_max) == (None, None)
    assert service.beneficiary_currency == JPY
    assert any("JPY" in warning for warning in service.warnings)
    own = adapter(Site([told]), limits_currency="account").services(USD)[0]
    assert own.amount_min == Money(10000, USD)


@pytest.mark.parametrize("switch", ["available", "active", "enabled"])
def test_a_service_that_is_switched_off_is_not_usable(switch: str) -> None:
    assert not adapter(Site([listed("a", **{switch: False})])).services(USD)[0].usable


def test_a_service_of_the_other_mode_gives_way_to_ours() -> None:
    site = Site([listed("a", amount_max=7), listed("a", test_mode=False), listed("b", test_mode=0)])
    ours, other = adapter(site).services(USD)
    assert (ours.usable, ours.amount_max) == (True, Money(700, USD))
    assert not other.usable
    assert other.warnings


def test_without_a_public_key_the_rules_are_unknown_and_it_says_so() -> None:
    site = Site([listed("a")])
    service = adapter(site, public_key=None).services(USD)[0]
    assert service.fields is None
    assert "public_key" in service.warnings[0]
    assert len(site.requests) == 1


def test_field_rules_are_read_in_their_order() -> None:
    fields = [card(position=2), card(key="name", required=False, position="1", regexp=None,
                                     label="Name", example=7)]  # fmt: skip
    first, second = adapter(Site([listed("a")], fields={"a": fields})).services(USD)[0].fields or ()
    assert (first.name, first.required, first.pattern, first.label, first.example) == (
        "name", False, None, "Name", "7"
    )  # fmt: skip
    assert (second.name, second.required, second.label) == ("card_number", True, "Card number")
    assert second.pattern == r"^\d{12,19}$"


def test_older_answers_are_wrapped_and_weigh() -> None:
    site = Site([listed("a")])
    rules = [card(weight=2), card(key="first", weight=1)]
    for wrapped in (rules, {"x": rules[0], "y": rules[1]}):
        document = {"data": {"attributes": {"services": [{"code": "a", "fields": wrapped}]}}}
        for rule in rules:
            rule.pop("position", None)
        site.prerequest = lambda _, document=document: document
        fields = adapter(site).services(USD)[0].fields or ()
        assert [rule.name for rule in fields] == ["first", "card_number"]


def test_rules_that_cannot_be_used_are_told() -> None:
    site = Site(
        [listed("a"), listed("b"), listed("c"), listed("d")],
        fields={"a": [card(regexp="([")], "b": [{"label": "x"}], "d": []},
    )
    a, b, c, d = adapter(site).services(USD)
    assert a.fields is not None
    assert a.fields[0].pattern is None
    assert "card_number" in a.warnings[0]
    assert (b.fields, c.fields, d.fields) == (None, None, ())
    assert b.warnings
    assert c.warnings


@pytest.mark.parametrize(
    ("regexp", "taken", "refused"),
    [
        (r"^\\d{12,19}$", "4000000000000002", "4000"),
        (r"^\d{2}$", "12", "12\n"),
        (r"/^[a-z]+$/i", "ABC", "A1"),
        (r"/^[a-z]+$/u", "abc", "ABC"),
        (r"\d{3}", "ab123cd", "ab12cd"),
        (r"^ab", "abc", "cab"),
        (r"^a$|^b$", "b", "ab"),
        (r"^(?<year>\d{4})$", "2024", "24"),
        (r"^\(?<x$", "(<x", "<y"),
        (r"^US\$", "US$5", "US5"),
    ],
)
def test_patterns_judge_as_the_provider_does(regexp: str, taken: str, refused: str) -> None:
    pattern = usable_pattern(regexp)
    assert pattern is not None
    assert re.fullmatch(pattern, taken)
    assert not re.fullmatch(pattern, refused)


@pytest.mark.parametrize("regexp", ["([", r"^\p{L}+$", "^a{99999999999}$", "^[[a]b]$", "^a**$"])
def test_patterns_that_python_cannot_read_are_left_out(regexp: str) -> None:
    assert usable_pattern(regexp) is None


def service(low: int | None, high: int | None) -> Service:
    return Service(
        code=f"{low}-{high}",
        currency=USD,
        beneficiary_currency=USD,
        amount_min=None if low is None else Money(low, USD),
        amount_max=None if high is None else Money(high, USD),
    )


@pytest.mark.parametrize(
    ("limits", "asked"),
    [
        ([], []),
        ([(100, 500)], [100]),
        ([(100, 500), (200, 900), (300, None)], [300]),
        ([(100, 200), (150, 300), (250, 400), (500, 600)], [150, 250, 500]),
        ([(None, None), (None, None)], [10000]),
        ([(None, 700)], [700]),
        ([(None, None), (20000, None)], [20000]),
        ([(900, 100)], [100]),
    ],
)
def test_few_amounts_touch_all_limits(limits: list[Any], asked: list[int]) -> None:
    found = amounts_to_ask([service(*pair) for pair in limits], Money(10000, USD))
    assert [amount.minor for amount in found] == asked


def test_the_number_of_calls_depends_on_the_services_alone() -> None:
    names = [f"s{number}" for number in range(40)]
    site = Site([listed(name) for name in names], fields={name: [card()] for name in names})
    found = adapter(site).services(USD)
    assert all(service.fields for service in found)
    assert site.amounts == [1]
    assert b"authorization" not in [key.lower() for key, _ in site.requests[-1].headers.raw]


# Answers that are none.

BROKEN: list[tuple[Any, type[Exception]]] = [
    *((httpx.Response(status), AccountFault) for status in (401, 403, 404, 405)),
    *((httpx.Response(s), ProviderUnreachable) for s in (204, 302, 400, 422, 429, 500, 503)),
    (httpx.Response(200, content=b"<html>"), ProviderUnreachable),
    (httpx.Response(200, json={"data": 7}), ProviderUnreachable),
    (httpx.ConnectError("x"), ProviderUnreachable),
    (httpx.ReadTimeout("x"), ProviderUnreachable),
]


def always(answer: Any) -> Callable[[httpx.Request], httpx.Response]:
    def handler(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, httpx.Response)
        return answer

    return handler


@pytest.mark.parametrize(("answer", "raised"), BROKEN)
def test_a_question_without_an_answer_raises(answer: Any, raised: type[Exception]) -> None:
    with pytest.raises(raised):
        adapter(always(answer)).balances()
    with pytest.raises(raised):
        adapter(always(answer)).services(USD)


def test_services_without_end_are_not_taken_for_all() -> None:
    site = Site([listed("a")], [listed("b")], [listed("c")])
    with pytest.raises(ProviderUnreachable):
        adapter(site, services_pages_max=2).services(USD)


# Balances.


def bank(accounts: Any, status: Any = "active", ledger: str = "simple") -> Any:
    def handler(request: httpx.Request) -> httpx.Response:
        facts: Any = {"status": status, "ledger_scheme": ledger}
        if request.url.path == "/api/account/balances":
            facts = {"currency_accounts": accounts}
        return httpx.Response(200, json={"data": {"type": "account", "attributes": facts}})

    return handler


def test_balances_are_what_can_be_spent() -> None:
    accounts = {
        "USD": {"active_balance": "1250.40", "overdraft_limit": "10.00",
                "balance_lower_limit": "0.40"},
        "JPY": {"active_balance": "5000"},
        "KWD": {"active_balance": "1.234"},
        "DOGE": {"active_balance": "1"},
    }  # fmt: skip
    assert adapter(bank(accounts)).balances() == {
        USD: Money(126000, USD),
        JPY: Money(5000, JPY),
        Currency.of("KWD"): Money(1234, Currency.of("KWD")),
    }
    assert adapter(bank(accounts), count_overdraft=False).balances()[USD] == Money(125000, USD)
    assert adapter(bank([])).balances() == {}


@pytest.mark.parametrize("status", ["new", "inactive", "moderation_pending", "archived"])
def test_an_account_that_is_not_active_is_at_fault(status: str) -> None:
    with pytest.raises(AccountFault, match=status):
        adapter(bank({}, status)).balances()


def test_an_account_without_a_ledger_has_no_balance_to_tell() -> None:
    assert adapter(bank(None, ledger="none")).balances() == {}


@pytest.mark.parametrize("accounts", [None, 7, {"USD": []}, {"USD": {"active_balance": None}}])
def test_a_balance_that_cannot_be_read_is_not_zero(accounts: Any) -> None:
    with pytest.raises(ProviderUnreachable):
        adapter(bank(accounts)).balances()


def test_a_profile_without_a_status_is_unreadable() -> None:
    with pytest.raises(ProviderUnreachable):
        adapter(bank({}, None)).balances()
