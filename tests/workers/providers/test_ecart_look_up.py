"""Looking a payout up at Ecart Pay: absence is claimed only where every way proves it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.workers.providers.ecart_world import (
    ID,
    MXN,
    REFERENCE,
    Answering,
    adapter,
    ask,
    error,
    one,
    order,
    payout,
)
from workers.providers.port import Reply
from workers.record.money import Money
from workers.record.status import Outcome

OTHER = "68a1c0d3f6ea776ee3b30000"
NONE = httpx.Response(200, json={"data": []})
UNREAD = "the reference id is taken, but its payout cannot be read"


def listed(*items: Any, name: str = "data", **rest: Any) -> httpx.Response:
    return httpx.Response(200, json={name: list(items), **rest})


def entry(number: int, **changes: Any) -> dict[str, Any]:
    return {"id": f"tx-{number}", "reference_id": f"po-{number}", "type": "payout", **changes}


def page(number: int, **rest: Any) -> httpx.Response:
    return listed(entry(2 * number), entry(2 * number + 1), **rest)


def by(mode: str, *answers: Answering, **changes: Any) -> Reply:
    return ask("look_up", *answers, lookup_mode=mode, **changes)


# By our reference id.


@pytest.mark.parametrize(
    "answer",
    [listed(payout()), listed(payout(), name="payouts"), httpx.Response(200, json=[payout()]),
     listed(payout(OTHER, reference_id="po-2031-00001"), payout(), payout())],
)  # fmt: skip
def test_a_payout_is_found_by_its_exact_reference_id(answer: httpx.Response) -> None:
    reply = by("get_by_ref", answer)
    assert (reply.outcome, reply.provider_payout_id) == (Outcome.CREATED, ID)
    assert (reply.reference_id, reply.amount) == (REFERENCE, Money(25050, MXN))


def test_several_payouts_under_one_reference_id_are_a_persons_matter() -> None:
    reply = by("get_by_ref", listed(payout(), payout(OTHER)))
    assert (reply.outcome, reply.differs) == (
        Outcome.EXISTS, ("2 payouts carry this reference id",)
    )  # fmt: skip


@pytest.mark.parametrize("change", [{"id": None}, {"id": "../x"}, {"status": None}])
def test_a_hit_that_cannot_be_read_is_no_absence(change: dict[str, Any]) -> None:
    for items in ([{**payout(), **change}], [payout(), {**payout(OTHER), **change}]):
        reply = by("get_by_ref", listed(*items))
        assert (reply.outcome, reply.differs) == (Outcome.EXISTS, (UNREAD,))


@pytest.mark.parametrize("answer", [NONE, listed(name="payouts"), httpx.Response(200, json=[])])
def test_an_empty_list_is_absence(answer: httpx.Response) -> None:
    assert by("get_by_ref", answer).outcome is Outcome.NOT_FOUND


INCONCLUSIVE = [
    (listed(payout(OTHER, reference_id="other")), "the list is not filtered by the reference id"),
    (httpx.Response(200, json={"items": []}), "the answer is not a list of payouts"),
    (httpx.Response(200, json={"data": {}, "payouts": []}), "the answer is not a list of payouts"),
    (httpx.Response(200, json=[None]), "the answer is not a list of payouts"),
    (httpx.Response(200, json=payout()), "the answer is not a list of payouts"),
    (error(404, 12), "answered 404"),
    (error(404), "answered 404"),
    (error(405), "answered 405"),
    (error(400, 9), "answered 400"),
    (error(500), "answered 500"),
    (httpx.Response(302, headers={"location": "/x"}), "answered 302"),
    (httpx.Response(204), "answered 204"),
]


@pytest.mark.parametrize(("answer", "why"), INCONCLUSIVE)
def test_what_is_no_answer_to_the_question_is_never_absence(
    answer: httpx.Response, why: str
) -> None:
    for rest in ([], [NONE]):
        mode = "get_by_ref,ledger" if rest else "get_by_ref"
        reply = by(mode, answer, *rest)
        assert (reply.outcome, reply.reason) == (Outcome.UNKNOWN, f"get_by_ref: {why}")


@pytest.mark.parametrize(("answer", "why"), INCONCLUSIVE)
def test_the_ledger_is_asked_where_the_first_way_cannot_tell(
    answer: httpx.Response, why: str
) -> None:
    found = listed(entry(1, reference_id=REFERENCE, payout_id=ID))
    reply = by("get_by_ref,ledger", answer, found, one(status="paid"))
    assert (reply.outcome, reply.provider_payout_id) == (Outcome.PAID, ID)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (httpx.ReadTimeout("x"), Outcome.UNKNOWN),
        (httpx.ConnectError("x"), Outcome.NOT_SENT),
        (error(429), Outcome.NOT_SENT),
        (error(401, 114), Outcome.ACCOUNT_FAULT),
        (error(403), Outcome.ACCOUNT_FAULT),
    ],
)
@pytest.mark.parametrize("mode", ["get_by_ref,ledger", "ledger,get_by_ref"])
def test_what_stops_every_way_ends_the_look_up(
    mode: str, answer: Answering, outcome: Outcome
) -> None:
    ecart, server = adapter(answer, lookup_mode=mode)
    assert ecart.look_up(order()).outcome is outcome
    assert len({r.url.path for r in server.asked}) == 1


# In the ledger.


def test_absence_needs_every_way_and_the_ways_keep_their_order() -> None:
    ecart, server = adapter(NONE)
    assert ecart.look_up(order()).outcome is Outcome.NOT_FOUND
    assert server.paths == [
        f"GET /api/payouts?reference_id={REFERENCE}",
        "GET /api/transactions?page=1&limit=50",
    ]
    ecart, server = adapter(listed(entry(1)), NONE, NONE, lookup_mode="ledger,get_by_ref")
    assert ecart.look_up(order()).outcome is Outcome.NOT_FOUND
    assert server.paths[-1].startswith("GET /api/payouts?")


def test_no_way_to_look_up_is_unknown_and_said_beforehand() -> None:
    ecart, server = adapter(NONE, lookup_mode="")
    assert (ecart.capabilities.look_up, ecart.look_up(order()).outcome) == (False, Outcome.UNKNOWN)
    assert server.asked == []


def test_pages_have_numbers_up_to_ten_and_tokens_after() -> None:
    pages = [page(n, next_token=f"next-{n}") for n in range(1, 13)]
    ecart, server = adapter(*pages, listed(), lookup_mode="ledger", ledger_page_size=2)
    assert ecart.look_up(order()).outcome is Outcome.NOT_FOUND
    numbered = [f"GET /api/transactions?page={n}&limit=2" for n in range(1, 11)]
    tokens = [f"GET /api/transactions?next=next-{n}&limit=2" for n in (10, 11, 12)]
    assert server.paths == numbered + tokens


def test_a_short_page_is_not_the_end_but_a_hit_after_it_counts() -> None:
    hit = listed(entry(3, reference_id=REFERENCE, payout_id=ID))
    reply = by("ledger", listed(entry(1), next_token=None), listed(entry(2)), hit, one())
    assert reply.outcome is Outcome.CREATED


@pytest.mark.parametrize("last", [None, ""])
def test_a_page_with_tokens_may_say_that_it_is_the_last(last: Any) -> None:
    pages = [page(n) for n in range(1, 10)]
    assert by("ledger", *pages, page(10, next_token=last)).outcome is Outcome.NOT_FOUND


@pytest.mark.parametrize(
    ("pages", "why"),
    [
        ([page(n) for n in range(1, 11)], "page 10 does not tell where the ledger goes on"),
        ([page(1), page(1)], "the ledger repeats itself: it has no end"),
        ([page(1), error(400, 9)], "answered 400"),
        ([page(1), error(500)], "answered 500"),
        ([page(1), httpx.Response(200, json={"x": 1})], "the answer is not a list of transactions"),
        ([page(1), listed({"id": "d"}), NONE], "some of its entries tell no reference id"),
        ([page(n) for n in range(1, 9)], "the ledger is longer than ledger_pages_max allows"),
    ],
)
def test_a_ledger_that_is_not_read_to_its_end_proves_nothing(
    pages: list[httpx.Response], why: str
) -> None:
    changes = {"ledger_pages_max": 8} if "pages_max" in why else {}
    long = any(words in why for words in ("pages_max", "goes on", "no end"))
    reply = by("ledger", *pages, **changes)
    assert (reply.outcome, reply.reason) == (Outcome.UNKNOWN, f"ledger: {why}")
    assert reply.retry_after_s == (300 if long else None)
    # Where the other way has plainly said that there is none, that is known, but not proved.
    reply = by("get_by_ref,ledger", NONE, *pages, **changes)
    assert (reply.outcome, reply.proves_absence) == (Outcome.NOT_FOUND, False)
    assert (reply.reason, reply.retry_after_s) == (f"ledger: {why}", 300 if long else None)
    unclear = by("get_by_ref,ledger", error(500), *pages, **changes)
    assert unclear.outcome is Outcome.UNKNOWN


def test_an_entry_may_tell_that_it_has_no_reference_id() -> None:
    deposit = {"id": "tx-d", "type": "deposit", "reference_id": None}
    assert by("ledger", listed(deposit), NONE).outcome is Outcome.NOT_FOUND


def test_the_providers_own_reference_makes_no_entry_ours() -> None:
    other = {"id": "tx-1", "reference_id": "x", "reference": REFERENCE, "payout_id": ID}
    assert by("ledger", listed(other), NONE).outcome is Outcome.NOT_FOUND
    unmarked = {"id": "tx-1", "reference": "y"}
    assert by("ledger", listed(unmarked), NONE).outcome is Outcome.UNKNOWN


def test_where_entries_tell_reference_and_payout_are_settings() -> None:
    hit = {"id": "tx-1", "reference_id": "x", "own": REFERENCE, "source": ID}
    changes = {"ledger_reference_fields": ["own"], "ledger_payout_id_fields": ["source"]}
    ecart, server = adapter(listed(hit), one(), lookup_mode="ledger", **changes)
    assert ecart.look_up(order()).provider_payout_id == ID
    assert server.paths[-1] == f"GET /api/payouts/{ID}"


def test_two_entries_of_one_payout_are_one_payout() -> None:
    entries = [entry(n, reference_id=REFERENCE, payout_id=ID) for n in (1, 2)]
    ecart, server = adapter(listed(*entries), one(status="paid"), lookup_mode="ledger")
    assert ecart.look_up(order()).outcome is Outcome.PAID
    assert len(server.asked) == 2
    entries = [entry(1, reference_id=REFERENCE), entry(2, reference_id=REFERENCE, id=ID)]
    assert by("ledger", listed(*entries), error(404, 9), one()).provider_payout_id == ID
    reply = by("ledger", listed(*entries), one(), one(payout_id=OTHER))
    assert reply.differs == ("2 payouts carry this reference id",)


@pytest.mark.parametrize(
    "answers",
    [
        [listed(entry(1, reference_id=REFERENCE, id=None))],
        [listed(entry(1, reference_id=REFERENCE, id="../x"))],
        [listed(entry(1, reference_id=REFERENCE)), error(404)],
        [listed(entry(1, reference_id=REFERENCE)), error(404, 9)],
        [listed(entry(1, reference_id=REFERENCE)), httpx.Response(200, json={})],
        [listed(entry(1, reference_id=REFERENCE)), one(reference_id="another")],
    ],
)
def test_a_hit_whose_payout_cannot_be_read_is_a_persons_matter(answers: list[Any]) -> None:
    reply = by("ledger", *answers)
    assert (reply.outcome, reply.reference_id, reply.differs) == (
        Outcome.EXISTS, REFERENCE, (UNREAD,)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (httpx.ReadTimeout("x"), Outcome.UNKNOWN),
        (error(503), Outcome.UNKNOWN),
        (error(429), Outcome.NOT_SENT),
        (error(403), Outcome.ACCOUNT_FAULT),
    ],
)
def test_a_hit_whose_payout_may_be_read_later_is_looked_up_again(
    answer: Answering, outcome: Outcome
) -> None:
    reply = by("ledger", listed(entry(1, reference_id=REFERENCE)), answer)
    assert (reply.outcome, reply.differs) == (outcome, ())


# By creating it again.

PROBE = "the identical create is the probe: it is refused if the payout is there"


@pytest.mark.parametrize("mode", ["probe", "get_by_ref,ledger,probe", "probe,get_by_ref"])
def test_with_a_probe_what_is_not_found_is_absent_and_nothing_is_created(mode: str) -> None:
    ecart, server = adapter(NONE, lookup_mode=mode)
    reply = ecart.look_up(order())
    assert (reply.outcome, reply.proves_absence) == (Outcome.NOT_FOUND, True)
    assert (reply.reason, ecart.capabilities.look_up) == (PROBE, True)
    assert {r.method for r in server.asked} <= {"GET"}
    assert len(server.asked) == len(mode.split(",")) - 1


@pytest.mark.parametrize(("answer", "why"), INCONCLUSIVE)
def test_with_a_probe_what_cannot_be_told_is_left_to_the_create(
    answer: httpx.Response, why: str
) -> None:
    reply = by("get_by_ref,probe", answer)
    assert (reply.outcome, reply.proves_absence) == (Outcome.NOT_FOUND, True)
    assert reply.reason == f"get_by_ref: {why}; {PROBE}"


def test_with_a_probe_what_is_found_is_found_and_what_stops_every_way_ends_the_look_up() -> None:
    assert by("get_by_ref,probe", listed(payout())).outcome is Outcome.CREATED
    for mode in ("get_by_ref,probe", "probe,get_by_ref"):
        assert by(mode, httpx.ReadTimeout("x")).outcome is Outcome.UNKNOWN
        assert by(mode, error(403)).outcome is Outcome.ACCOUNT_FAULT
