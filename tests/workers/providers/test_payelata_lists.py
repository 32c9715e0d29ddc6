"""The Payelata adapter's lists and webhooks: look-ups, reconciliation, signatures."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.workers.providers.payelata_world import (
    HTML,
    LISTED_404,
    REFERENCE,
    Answering,
    adapter,
    ask,
    invoice,
    listed,
    order,
)
from workers.errors import AccountFault, ProviderUnreachable
from workers.providers.port import Delivery, News
from workers.record.status import Outcome

# Look-ups.


def test_look_up_finds_nothing_only_in_an_empty_list() -> None:
    assert ask("look_up", listed()).outcome is Outcome.NOT_FOUND


def test_several_hits_are_for_a_person() -> None:
    reply = ask("look_up", listed(invoice("cpoi_A"), invoice("cpoi_B")))
    assert reply.outcome is Outcome.EXISTS
    assert reply.differs == ("2 payouts carry this reference id",)
    twice = ask("look_up", listed(invoice("cpoi_A"), invoice("cpoi_A")))
    assert twice.outcome is Outcome.CREATED


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"data": {}},
        {"data": invoice()},
        {"data": None},
        {"data": [None]},
        {"data": [{"type": "payout-invoices", "id": "cpoi_A"}]},
        {"data": [invoice("cpoi_A", reference_id="another"), 7]},
        {"data": [], "errors": [{"code": "500"}]},
        {"data": [], "meta": {"count": 3, "size": 20}},
    ],
)
def test_a_body_that_is_no_list_is_never_absence(document: Any) -> None:
    assert ask("look_up", httpx.Response(200, json=document)).outcome is Outcome.UNKNOWN


def others(*names: str, **rest: Any) -> httpx.Response:
    return listed(*(invoice(f"cpoi_{n}", reference_id=f"other-{n}") for n in names), **rest)


def link(query: str) -> dict[str, Any]:
    return {"links": {"next": f"/api/payout-invoices?{query}"}}


def test_a_server_that_ignores_the_filter_is_read_on_to_its_end() -> None:
    hit = listed(invoice())
    payelata, server = adapter(others("a", "b", **link("page%5Bafter%5D=cpoi_b")), hit)
    assert payelata.look_up(order()).outcome is Outcome.CREATED
    assert server.asked[1].url.params["page[after]"] == "cpoi_b"
    assert server.asked[1].url.path == "/api/payout-invoices"

    payelata, _ = adapter(others("a", **link("page=2")), others("b"))
    assert payelata.look_up(order()).outcome is Outcome.NOT_FOUND


def test_a_reference_that_only_resembles_ours_is_no_hit() -> None:
    for reference in (REFERENCE.upper(), f"{REFERENCE}0", None):
        answer = listed(invoice("cpoi_a", reference_id=reference, status="processed"))
        assert ask("look_up", answer).outcome is Outcome.NOT_FOUND


@pytest.mark.parametrize(
    "later",
    [
        httpx.Response(500),
        httpx.Response(404, json=LISTED_404),
        httpx.Response(200, content=HTML),
        others("a", **link("page=2")),
        listed(**link("page=3")),
    ],
)
def test_a_list_that_breaks_off_proves_nothing(later: httpx.Response) -> None:
    payelata, _ = adapter(others("a", **link("page=2")), later)
    assert payelata.look_up(order()).outcome is Outcome.UNKNOWN


def test_a_full_page_without_a_link_is_read_on_by_the_cursor() -> None:
    names = [str(number) for number in range(20)]
    payelata, server = adapter(others(*names), listed())
    assert payelata.look_up(order()).outcome is Outcome.NOT_FOUND
    assert dict(server.asked[1].url.params) == {
        "filter[reference_id]": REFERENCE, "page[after]": "cpoi_19"
    }  # fmt: skip
    # The cursor is ignored too: the end was never seen.
    assert ask("look_up", others(*names)).outcome is Outcome.UNKNOWN


def test_look_up_gives_up_after_its_pages() -> None:
    pages = iter(range(100))

    def endless(_: httpx.Request) -> httpx.Response:
        return others(str(next(pages)), **link("page=next"))

    payelata, server = adapter(endless, find_pages_max=3)
    reply = payelata.look_up(order())
    assert (reply.outcome, reply.retry_after_s) == (Outcome.UNKNOWN, 300)
    assert len(server.asked) == 3


def test_links_are_never_followed_to_another_host() -> None:
    elsewhere = {"links": {"next": "https://evil.example/steal?page=2"}}
    payelata, server = adapter(others("a", **elsewhere), listed())
    payelata.look_up(order())
    assert {request.url.host for request in server.asked} == {"api.example.test"}


# Webhooks.


def signed(body: bytes, key: bytes = b"sk_test_demo") -> str:
    return base64.b64encode(hashlib.sha1(key + body + key).digest()).decode()


VECTOR = b'{"data":{"type":"payout-invoices","id":"cpoi_Demo0000Demo0001"}}'


def delivery(signature: str, body: bytes) -> Delivery:
    headers = {"x-signature": signature} if signature else {}
    return Delivery(headers=headers, body=body, received_at=datetime(2026, 3, 1, tzinfo=UTC))


def test_webhook_of_the_pages_test_vector() -> None:
    payelata, server = adapter()
    found = payelata.read_webhook(delivery("NzPvg8FNNOPAzW0Twu4OrTTLziI=", VECTOR))
    assert found == [News(provider_payout_id="cpoi_Demo0000Demo0001")]
    assert server.asked == []


@pytest.mark.parametrize(
    ("signature", "body"),
    [
        ("", VECTOR),
        ("é\udcff", VECTOR),
        (signed(VECTOR, b"sk_live_demo"), VECTOR),
        (signed(VECTOR), VECTOR + b" "),
        (hashlib.sha1(b"sk_test_demo" + VECTOR).hexdigest(), VECTOR),
    ],
)
def test_a_webhook_with_another_signature_does_not_verify(signature: str, body: bytes) -> None:
    assert adapter()[0].read_webhook(delivery(signature, body)) is None


@pytest.mark.parametrize(
    "body",
    [b"no json", b'{"data":{"type":"payment-invoices","id":"x"}}', b'{"data":[]}'],
)
def test_a_verified_webhook_about_no_payout_wakes_nothing(body: bytes) -> None:
    assert adapter()[0].read_webhook(delivery(signed(body), body)) == []


def test_without_a_signing_key_no_webhook_counts() -> None:
    payelata, _ = adapter(signing_key=None)
    assert payelata.read_webhook(delivery(signed(VECTOR, b""), VECTOR)) is None
    assert not payelata.capabilities.webhooks


# The provider's list.


def test_list_payouts_reads_the_window_newest_first() -> None:
    def at(name: str, created: int) -> dict[str, Any]:
        return invoice(f"cpoi_{name}", reference_id=name, created=created)

    payelata, server = adapter(
        listed(at("e", 500), at("d", 400), **link("page%5Bafter%5D=cpoi_d")),
        listed(at("c", 300), at("b", 200), at("a", 100), **link("page=3")),
    )
    window = (datetime.fromtimestamp(second, UTC) for second in (200, 500))
    assert [reply.reference_id for reply in payelata.list_payouts(*window)] == ["d", "c", "b"]
    assert len(server.asked) == 2


def test_list_payouts_ends_where_a_page_brings_nothing_new() -> None:
    window = (datetime.fromtimestamp(0, UTC), datetime.fromtimestamp(2**33, UTC))
    payelata, server = adapter(others("a", **link("page=2")))
    assert len(list(payelata.list_payouts(*window))) == 1
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("answer", "raised"),
    [
        (httpx.Response(401), AccountFault),
        (httpx.Response(500), ProviderUnreachable),
        (httpx.Response(200, content=HTML), ProviderUnreachable),
        (listed({"type": "payout-invoices"}), ProviderUnreachable),
        (httpx.ReadTimeout("x"), ProviderUnreachable),
    ],
)
def test_list_payouts_is_never_cut_short_in_silence(
    answer: Answering, raised: type[Exception]
) -> None:
    window = (datetime.fromtimestamp(0, UTC), datetime.fromtimestamp(2**33, UTC))
    payelata, _ = adapter(others("a", **link("page=2")), answer)
    with pytest.raises(raised):
        list(payelata.list_payouts(*window))
    pages = iter(range(100))

    def endless(_: httpx.Request) -> httpx.Response:
        return others(str(next(pages)), **link("page=n"))

    with pytest.raises(ProviderUnreachable):
        list(adapter(endless, list_pages_max=3)[0].list_payouts(*window))
