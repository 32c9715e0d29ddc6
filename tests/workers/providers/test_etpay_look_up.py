"""ETpay's look-ups and lists: what proves absence, and what only seems to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.workers.providers.etpay_world import (
    DATE,
    DAYS,
    HTML,
    ID,
    NOTHING,
    REFERENCE,
    Answering,
    adapter,
    answer,
    ask,
    error,
    listed,
    one,
    order,
    other,
    payout,
)
from workers.errors import ProviderUnreachable
from workers.record.status import Outcome

OTHERS = listed(other("a"), other("b"))

# Found.


def test_a_payout_is_found_by_our_own_id_in_one_call() -> None:
    for hit in (one(status="completed"), listed(payout(status="completed"))):
        etpay, server = adapter(hit)
        reply = etpay.look_up(order())
        assert (reply.outcome, reply.provider_payout_id) == (Outcome.PAID, ID)
        assert server.paths == [f"/v1/payouts?merchant_order_id={REFERENCE}"]


FIRST_ANSWERS = [NOTHING, listed(), OTHERS, answer(404, {}), answer(200, {}), error(500, "E"),
                 error(400, "E")]  # fmt: skip


@pytest.mark.parametrize("first", FIRST_ANSWERS)
def test_what_our_own_id_does_not_find_the_date_query_may(first: httpx.Response) -> None:
    etpay, server = adapter(first, listed(other("a"), payout(status="paid")))
    assert etpay.look_up(order()).outcome is Outcome.PAID
    asked = server.asked[1].url.params
    assert dict(asked) == {**DAYS, "page": "1", "limit": "100"}


@pytest.mark.parametrize(
    "answers",
    [
        [listed(payout(), payout(payout_id="pyt_two", status="completed"))],
        [NOTHING, listed(payout(), payout(payout_id="pyt_two"))],
        [NOTHING, listed(payout(), pages=2), listed(payout(payout_id="pyt_two"), pages=2)],
    ],
)
def test_two_payouts_with_our_id_are_for_a_person(answers: list[httpx.Response]) -> None:
    reply = ask("look_up", *answers)
    assert reply.outcome is Outcome.EXISTS
    assert reply.differs == ("2 payouts carry this reference id",)
    assert (reply.reference_id, reply.provider_payout_id) == (REFERENCE, None)


def test_one_payout_listed_twice_is_one() -> None:
    assert ask("look_up", listed(payout(), payout())).outcome is Outcome.PROCESSING


def test_a_hit_counts_even_where_the_list_breaks_off_after_it() -> None:
    for broken in (error(500), listed(other("a"), pages=3), httpx.ReadTimeout("x")):
        reply = ask("look_up", NOTHING, listed(payout(), other("a"), pages=3), broken)
        assert reply.outcome is Outcome.PROCESSING


# Not found.


@pytest.mark.parametrize("first", [NOTHING, listed(), listed(other("x")), OTHERS])
def test_absence_is_proved_by_both_queries_together(first: httpx.Response) -> None:
    assert ask("look_up", first, OTHERS).outcome is Outcome.NOT_FOUND


@pytest.mark.parametrize(
    "reference", [REFERENCE.upper(), f"{REFERENCE}0", REFERENCE[:-1], f" {REFERENCE}", None]
)
def test_a_reference_that_only_resembles_ours_is_no_hit(reference: str | None) -> None:
    near = listed(payout(merchant_order_id=reference, status="completed"))
    assert ask("look_up", near, near).outcome is Outcome.NOT_FOUND


def test_a_date_query_that_shows_nothing_at_all_proves_nothing() -> None:
    reply = ask("look_up", NOTHING, listed())
    assert (reply.outcome, reply.proves_absence) == (Outcome.NOT_FOUND, False)
    assert reply.reason == "the date query shows no payouts at all"


def test_a_first_answer_that_says_nothing_keeps_its_reason_beside_an_empty_date_query() -> None:
    reply = ask("look_up", error(500, "E9", "oops"), listed())
    assert (reply.outcome, reply.reason) == (Outcome.UNKNOWN, "E9: oops")


@pytest.mark.parametrize(
    "first",
    [
        httpx.Response(404, content=HTML, headers={"Date": DATE}),
        answer(404, {"message": "Not Found"}),
        error(404, None, "Not Found"),
        answer(200, {"msg": "ok", "payout": None}),
        answer(200, {"payouts": [], "error": {"code": "E"}}),
        answer(200, {"payouts": [7]}),
        error(500),
        error(400, "E"),
        httpx.Response(302, headers={"Date": DATE}),
    ],
)
def test_what_does_not_plainly_say_absent_is_unknown(first: httpx.Response) -> None:
    assert ask("look_up", first, OTHERS).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    "second",
    [
        httpx.Response(200, content=HTML),
        answer(200, {"msg": "ok"}),
        one(),
        listed(other("a"), 7),
        listed(other("a"), payout_without := {"payout_id": "pyt_x", "status": "paid"}),
        listed(other("a"), {**payout_without, "merchant_order_id": "x", "payout_id": None}),
        NOTHING,
        httpx.Response(404, content=HTML),
        error(400, "E"),
        error(500),
        httpx.Response(302),
        httpx.ReadTimeout("x"),
    ],
)
def test_a_date_query_that_cannot_be_read_proves_nothing(second: Answering) -> None:
    for first in (NOTHING, listed()):
        reply = ask("look_up", first, second)
        assert (reply.outcome, reply.proves_absence) == (Outcome.NOT_FOUND, False)
        assert (reply.retry_after_s, bool(reply.reason)) == (300, True)
    for first in (error(500), OTHERS):
        assert ask("look_up", first, second).outcome is Outcome.UNKNOWN


def test_a_date_query_that_is_not_reached_or_needs_time_says_so() -> None:
    assert ask("look_up", NOTHING, httpx.ConnectError("x")).outcome is Outcome.NOT_SENT
    for told, waits in (("8", 300), ("900", 900)):
        reply = ask("look_up", NOTHING, error(503, **{"Retry-After": told}))
        assert (reply.outcome, reply.retry_after_s) == (Outcome.NOT_FOUND, waits)


def test_a_date_query_that_blames_the_account_says_so() -> None:
    for status in (401, 403, 405):
        assert ask("look_up", NOTHING, error(status)).outcome is Outcome.ACCOUNT_FAULT
    reply = ask("look_up", NOTHING, error(429, **{"Retry-After": "8"}))
    assert (reply.outcome, reply.retry_after_s) == (Outcome.NOT_SENT, 8)


def test_a_provider_that_asks_for_time_is_asked_no_more() -> None:
    etpay, server = adapter(error(503, **{"Retry-After": "8"}), OTHERS)
    reply = etpay.look_up(order())
    assert (reply.outcome, reply.retry_after_s) == (Outcome.UNKNOWN, 8)
    assert len(server.asked) == 1


def test_without_the_providers_date_nothing_is_proved() -> None:
    dateless = httpx.Response(404, json={"error": {"code": "PO-NOT-FOUND"}})
    etpay, server = adapter(dateless, OTHERS)
    reply = etpay.look_up(order())
    assert reply.outcome is Outcome.UNKNOWN
    assert reply.reason == "absence cannot be proved: no date to count back from is told"
    assert len(server.asked) == 1


def test_how_far_back_a_look_up_reads_can_be_set() -> None:
    etpay, server = adapter(NOTHING, OTHERS, lookup_days=10, range_timezone="UTC", list_limit=7)
    assert etpay.look_up(order()).outcome is Outcome.NOT_FOUND
    asked = server.asked[1].url.params
    days = ("2030-12-23", "2031-01-03", "7")
    assert (asked["date_from"], asked["date_to"], asked["limit"]) == days


# Pages.


def numbered(pages: Callable[[int], httpx.Response]) -> Answering:
    """Answers by the page asked for; our own id is not known."""

    def serve(request: httpx.Request) -> httpx.Response:
        page = request.url.params.get("page")
        return NOTHING if page is None else pages(int(page))

    return serve


def test_the_pages_are_read_to_the_last_that_is_counted() -> None:
    for count in (1, 2, 5):
        etpay, server = adapter(
            numbered(lambda n, pages=count: listed(other(str(n)), page=n, pages=pages))
        )
        assert etpay.look_up(order()).outcome is Outcome.NOT_FOUND
        assert [r.url.params["page"] for r in server.asked[1:]] == [
            str(n + 1) for n in range(count)
        ]


def test_our_payout_on_the_last_page_is_found() -> None:
    serve = numbered(lambda n: listed(payout() if n == 4 else other(str(n)), pages=4))
    assert ask("look_up", serve).outcome is Outcome.PROCESSING


@pytest.mark.parametrize("pages", [None, "4", 1.5, True])
def test_without_a_count_only_an_empty_page_is_the_end(pages: Any) -> None:
    def serve(number: int) -> httpx.Response:
        items = [other(str(number))] if number < 3 else []
        return listed(*items, pages=pages)

    etpay, server = adapter(numbered(serve))
    assert etpay.look_up(order()).outcome is Outcome.NOT_FOUND
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    "pages",
    [
        lambda n: listed(other("a"), pages=2) if n == 1 else error(500),
        lambda n: listed(other("a"), pages=2) if n == 1 else NOTHING,
        lambda n: listed(other("a"), pages=3) if n == 1 else listed(pages=3),
        lambda n: listed(other("a"), pages=9),
        lambda n: listed(other("a"), pages=None),
        lambda n: listed(other(str(n)), pages=10**6),
        lambda n: listed(pages=2),
    ],
)
def test_a_list_that_is_not_read_to_its_end_proves_nothing(
    pages: Callable[[int], httpx.Response],
) -> None:
    reply = ask("look_up", numbered(pages))
    assert (reply.outcome, reply.proves_absence) == (Outcome.NOT_FOUND, False)
    assert reply.retry_after_s == 300


def test_a_look_up_reads_so_many_pages_and_no_more() -> None:
    etpay, server = adapter(
        numbered(lambda n: listed(other(str(n)), pages=None)), lookup_pages_max=3
    )
    reply = etpay.look_up(order())
    assert (reply.outcome, reply.reason) == (Outcome.NOT_FOUND, "the list has more than 3 pages")
    assert (reply.proves_absence, reply.retry_after_s) == (False, 300)
    assert len(server.asked) == 4


@pytest.mark.parametrize("path", ["", "/v1/payouts?merchant_order_id={merchant_order_id}"])
def test_a_list_that_is_too_long_is_not_asked_for_again_at_once(path: str) -> None:
    def serve(request: httpx.Request) -> httpx.Response:
        page = request.url.params.get("page")
        return error(500) if page is None else listed(other(page), pages=9)

    reply = ask("look_up", serve, status_by_order_path=path, lookup_pages_max=3)
    assert (reply.outcome, reply.retry_after_s) == (Outcome.UNKNOWN, 300)
    assert reply.reason == "the list has more than 3 pages"


def test_a_date_query_that_has_no_pages_is_one_page() -> None:
    path = "/v1/list?from={date_from}&to={date_to}"
    etpay, server = adapter(NOTHING, listed(other("a"), pages=None), list_path=path)
    assert etpay.look_up(order()).outcome is Outcome.NOT_FOUND
    assert server.paths[1] == "/v1/list?from=2030-12-29&to=2031-01-02"
    broken = ask("look_up", NOTHING, listed(other("a"), pages=2), list_path=path)
    assert not broken.proves_absence


# With one of the two queries alone.


def test_the_date_query_alone_finds_but_never_proves_absence() -> None:
    etpay, server = adapter(listed(), listed(payout(status="paid")), status_by_order_path="")
    assert etpay.look_up(order()).outcome is Outcome.PAID
    long_past = {"date_from": "2000-01-01", "date_to": "2000-01-01", "page": "1", "limit": "100"}
    assert dict(server.asked[0].url.params) == long_past
    assert dict(server.asked[1].url.params) == {**long_past, **DAYS}
    for answers in ([listed(), OTHERS], [OTHERS], [error(500), OTHERS], [NOTHING, listed()]):
        reply = ask("look_up", *answers, status_by_order_path="")
        assert (reply.outcome, reply.proves_absence) == (Outcome.NOT_FOUND, False)
    for broken in (error(500), listed(7), httpx.ReadTimeout("x")):
        reply = ask("look_up", OTHERS, broken, status_by_order_path="")
        assert reply.outcome is Outcome.UNKNOWN


def test_our_own_id_alone_finds_but_never_proves_absence() -> None:
    assert ask("look_up", one(), list_path="").outcome is Outcome.PROCESSING
    for first in (NOTHING, listed(), OTHERS):
        reply = ask("look_up", first, list_path="")
        assert reply.outcome is Outcome.UNKNOWN
        assert reply.reason == "absence cannot be proved: no date query is set"
    assert ask("look_up", error(500, "E9", "oops"), list_path="").reason == "E9: oops"


# The list for reconciliation.

SINCE, UNTIL = datetime(2031, 1, 2, 3, tzinfo=UTC), datetime(2031, 1, 3, 3, tzinfo=UTC)


def reconciled(*answers: Answering, **changes: Any) -> list[str | None]:
    etpay, _ = adapter(*answers, **changes)
    return [reply.provider_payout_id for reply in etpay.list_payouts(SINCE, UNTIL)]


def test_the_list_is_asked_for_a_day_more_on_each_side_and_filtered_here() -> None:
    etpay, server = adapter(
        listed(
            other("early", created_at="2031-01-02T02:59:59Z"),
            other("first", created_at="2031-01-02T03:00:00Z"),
            other("local", created_at="2031-01-02T23:59:59"),
            other("last", created_at="2031-01-03T02:59:59Z"),
            other("late", created_at="2031-01-03T03:00:00Z"),
            other("untold", created_at=None),
        )
    )
    replies = list(etpay.list_payouts(SINCE, UNTIL))
    ids = [reply.provider_payout_id for reply in replies]
    assert ids == ["pyt_first", "pyt_local", "pyt_last", "pyt_untold"]
    assert replies[0].reference_id == "other-first"
    asked = server.asked[0].url.params
    assert (asked["date_from"], asked["date_to"]) == ("2031-01-01", "2031-01-04")


def test_each_payout_is_listed_once() -> None:
    first, second = listed(other("a"), other("b"), pages=2), listed(other("b"), other("c"), pages=2)
    assert reconciled(first, second) == ["pyt_a", "pyt_b", "pyt_c"]


def test_a_list_that_breaks_off_raises_after_what_was_read() -> None:
    for broken in (error(500), listed(other("a"), pages=2), httpx.ReadTimeout("x")):
        etpay, _ = adapter(listed(other("a"), pages=2), broken)
        replies = etpay.list_payouts(SINCE, UNTIL)
        assert next(replies).provider_payout_id == "pyt_a"
        with pytest.raises(ProviderUnreachable):
            next(replies)


def test_the_list_ends_somewhere() -> None:
    def endless(request: httpx.Request) -> httpx.Response:
        return listed(other(request.url.params["page"]), pages=None)

    with pytest.raises(ProviderUnreachable, match="more than 4 pages"):
        reconciled(endless, list_pages_max=4)


def test_without_a_date_query_there_is_no_list() -> None:
    etpay, server = adapter(OTHERS, list_path="")
    assert list(etpay.list_payouts(SINCE, UNTIL)) == []
    assert server.asked == server.logged_in == []
