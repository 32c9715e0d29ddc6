"""News is stored once and wakes its payout; it moves nothing, whatever it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, event
from sqlalchemy.exc import IntegrityError, OperationalError

from tests.batches.cli_world import until
from tests.worlds import KEY, order
from workers.record import webhooks
from workers.record.model import Notice
from workers.record.money import Money
from workers.record.status import Outcome, State, Step
from workers.record.vault import Vault
from workers.record.webhooks import (
    AGAIN_S,
    APPLIED_AT_ONCE,
    EARLY_S,
    KEPT_DAYS,
    SETTLED_REST_S,
    UNKNOWN_MAX,
    WebhookBook,
)

from .conftest import Record, together
from .group_world import S_MAX, Forgetful, came_of, in_one_group, keeping, waits_for_a_lock

BODY = b'{"account": "987654321"}'
on_postgresql = pytest.mark.parametrize("record", ["postgresql"], indirect=True)


@pytest.fixture
def book(record: Record) -> WebhookBook:
    return WebhookBook(record.database, Vault.from_text(KEY))


def tell(record: Record, book: WebhookBook, *, key: str = "k", **about: Any) -> int:
    """Have a delivery stored and applied; the number of payouts woken."""
    book.keep("main", [Notice(key=key, **about)], BODY, record.clock.now())
    return book.apply(record.clock.now()).woken


def stored(record: Record) -> list[Any]:
    with record.database.read() as connection:
        return list(connection.exec_driver_sql("SELECT * FROM webhooks ORDER BY id").all())


def is_due(record: Record, payout_id: int) -> bool:
    due_at = record.row(payout_id).due_at
    return due_at is not None and due_at <= record.clock.now()


@pytest.mark.parametrize("by", ["provider_payout_id", "reference_id"])
def test_news_makes_an_open_payout_due_and_moves_nothing(
    record: Record, book: WebhookBook, by: str
) -> None:
    (one,) = record.queue(order())
    row = record.created(one)
    before = record.path(one)
    assert not is_due(record, one)
    assert tell(record, book, **{by: getattr(row, by)}) == 1
    assert is_due(record, one)
    assert record.path(one) == before


def test_a_doubled_delivery_is_stored_once_and_wakes_no_sooner_than_after_a_pause(
    record: Record, book: WebhookBook
) -> None:
    (one,) = record.queue(order())
    record.created(one)
    assert tell(record, book, provider_payout_id=f"p{one}") == 1
    payout = record.take(one)
    record.answer(payout, Step.POLL, Outcome.PROCESSING)
    for _ in range(3):
        tell(record, book, provider_payout_id=f"p{one}")
    (row,) = stored(record)
    assert row.times == 4
    assert not is_due(record, one)
    record.clock.sleep(AGAIN_S)
    assert is_due(record, one)


def test_other_keys_for_one_payout_do_not_have_it_asked_for_more_often(
    record: Record, book: WebhookBook
) -> None:
    (one,) = record.queue(order())
    record.created(one)
    tell(record, book, provider_payout_id=f"p{one}", key="a")
    record.answer(record.take(one), Step.POLL, Outcome.PROCESSING)
    tell(record, book, provider_payout_id=f"p{one}", key="b")
    assert not is_due(record, one)


def test_news_that_comes_before_our_answer_waits_for_it(record: Record, book: WebhookBook) -> None:
    (one,) = record.queue(order())
    payout = record.take(one)
    # We do not even know the provider's id yet.
    assert tell(record, book, provider_payout_id="p-new") == 0
    assert tell(record, book, key="r", reference_id=payout.reference_id) == 0
    record.answer(payout, Step.CREATE, Outcome.PROCESSING, provider_payout_id="p-new")
    assert not is_due(record, one)
    assert book.apply(record.clock.now()).woken == 2
    assert is_due(record, one)
    assert book.apply(record.clock.now()).woken == 0


def test_news_of_nothing_known_is_put_by_after_a_while(record: Record, book: WebhookBook) -> None:
    tell(record, book, provider_payout_id="nobody")
    record.clock.sleep(EARLY_S)
    assert (book.apply(record.clock.now()).idle, stored(record)[0].pending) == (1, False)


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.RETURNED])
def test_news_of_a_final_payout_changes_nothing(
    record: Record, book: WebhookBook, outcome: Outcome
) -> None:
    (one,) = record.queue(order())
    record.answer(record.take(one), Step.CREATE, outcome, provider_payout_id="p")
    before = record.row(one)
    assert tell(record, book, provider_payout_id="p") == 0
    assert record.row(one) == before


def test_news_wakes_no_held_payout(record: Record, book: WebhookBook) -> None:
    (one,) = record.queue(order())
    row = record.held(one)
    assert tell(record, book, reference_id=row.reference_id) == 0
    assert record.state(one) is State.HELD
    assert record.row(one).due_at is None


def test_a_paid_payout_is_asked_for_again_only_by_news_that_comes_later(
    record: Record, book: WebhookBook
) -> None:
    (one,) = record.queue(order())
    record.answer(record.take(one), Step.CREATE, Outcome.PAID, provider_payout_id="p")
    assert tell(record, book, key="paid", provider_payout_id="p") == 0
    record.clock.sleep(SETTLED_REST_S)
    assert tell(record, book, key="returned", provider_payout_id="p") == 1
    assert is_due(record, one)


def test_news_to_another_account_finds_nothing(record: Record, book: WebhookBook) -> None:
    (one,) = record.queue(order())
    record.created(one)
    book.keep("other", [Notice(key="k", provider_payout_id=f"p{one}")], BODY, record.clock.now())
    assert book.apply(record.clock.now()).woken == 0
    assert not is_due(record, one)


def test_news_wakes_an_unknown_payout_for_its_look_up(record: Record, book: WebhookBook) -> None:
    (one,) = record.queue(order())
    row = record.unknown(one)
    assert tell(record, book, reference_id=row.reference_id) == 1
    assert is_due(record, one)
    assert record.state(one) is State.UNKNOWN


def test_a_body_is_nowhere_in_the_clear(record: Record, book: WebhookBook) -> None:
    tell(record, book, provider_payout_id="p")
    (row,) = stored(record)
    assert b"987654321" not in bytes(row.sealed_body)


def test_a_flood_about_nothing_known_does_not_fill_the_table(
    record: Record, book: WebhookBook
) -> None:
    now = record.clock.now()
    flood = [Notice(key=str(n), provider_payout_id=f"x{n}") for n in range(UNKNOWN_MAX + 5)]
    assert len(book.keep("main", flood, b"", now)) == UNKNOWN_MAX
    (one,) = record.queue(order())
    record.created(one)
    known = [Notice(key="known", provider_payout_id=f"p{one}")]
    assert len(book.keep("main", known, b"", now)) == 1


def test_news_of_nothing_known_stands_in_the_way_of_no_other(
    record: Record, book: WebhookBook
) -> None:
    foreign = [Notice(key=f"x{n}", provider_payout_id=f"x{n}") for n in range(APPLIED_AT_ONCE + 5)]
    book.keep("main", foreign, b"", record.clock.now())
    (one,) = record.queue(order())
    record.created(one)
    record.clock.sleep(1)
    assert tell(record, book, provider_payout_id=f"p{one}") == 1


def test_many_that_apply_at_once_do_not_get_in_each_others_way(
    record: Record, book: WebhookBook
) -> None:
    ids = record.queue(*(order() for _ in range(12)))
    for one in ids:
        record.created(one)
    now = record.clock.now()
    for turn, some in enumerate((ids, ids[::-1])):
        for one in some:
            notices = [Notice(key=f"{turn}-{one}", provider_payout_id=f"p{one}")]
            book.keep("main", notices, b"", now)
    books = [WebhookBook(record.again().database, Vault.from_text(KEY)) for _ in range(4)]
    done = together([lambda b=b: b.apply(now).woken for b in books])  # type: ignore[misc]
    assert all(isinstance(count, int) for count in done), done
    book.apply(now)
    assert all(is_due(record, one) for one in ids)
    assert not any(row.pending for row in stored(record))
    for one_book in books:
        one_book.database.close()


def test_applied_news_is_forgotten_after_a_while_and_waiting_news_is_not(
    record: Record, book: WebhookBook
) -> None:
    (one,) = record.queue(order())
    record.created(one)
    tell(record, book, provider_payout_id=f"p{one}")
    record.clock.sleep(KEPT_DAYS * 86_400 + 1)
    book.keep("main", [Notice(key="new", provider_payout_id="p")], b"", record.clock.now())
    assert (book.forget_old(record.clock.now()), book.forget_old(record.clock.now())) == (1, 0)
    assert [row.key for row in stored(record)] == ["new"]


# --- what says no more than we know ---


def processing(record: Record, payout_id: int, **reply: Any) -> None:
    """Have the provider take a queued payout, and tell us that it is under way."""
    answer = {"status": "processing", "provider_payout_id": f"p{payout_id}", **reply}
    record.answer(record.take(payout_id), Step.CREATE, Outcome.PROCESSING, **answer)


def test_news_of_what_we_know_by_asking_has_nobody_asked(record: Record, book: WebhookBook) -> None:
    (one,) = record.queue(order())
    processing(record, one)
    before = record.row(one)
    assert tell(record, book, provider_payout_id=f"p{one}", status="processing") == 0
    assert (record.row(one), stored(record)[0].pending) == (before, False)
    assert tell(record, book, key="new", provider_payout_id=f"p{one}", status="processed") == 1
    assert is_due(record, one)


def test_news_that_came_before_our_answer_is_compared_with_that_answer(
    record: Record, book: WebhookBook
) -> None:
    (one, two) = record.queue(order(), order())
    claimed = [record.take(each) for each in (one, two)]
    for payout in claimed:
        about = {"reference_id": payout.reference_id, "status": "processing"}
        assert tell(record, book, key=f"k{payout.id}", **about) == 0
    for payout, status in zip(claimed, ("processing", "pending"), strict=True):
        record.answer(payout, Step.CREATE, Outcome.PROCESSING, status=status)
    assert book.apply(record.clock.now()).woken == 1
    assert (is_due(record, one), is_due(record, two)) == (False, True)


def test_a_payout_that_may_not_be_there_is_looked_up_whatever_it_is_said_to_be(
    record: Record, book: WebhookBook
) -> None:
    (one,) = record.queue(order())
    record.answer(record.take(one), Step.CREATE, Outcome.UNKNOWN, status="processing")
    reference_id = record.row(one).reference_id
    assert record.row(one).provider_status == "processing"
    assert tell(record, book, reference_id=reference_id, status="processing") == 1
    assert is_due(record, one)


def test_a_paid_payout_is_read_though_it_is_told_of_as_paid_once_more(
    record: Record, book: WebhookBook
) -> None:
    (one,) = record.queue(order())
    paid = {"provider_payout_id": "p", "status": "processed"}
    record.answer(record.take(one), Step.CREATE, Outcome.PAID, **paid)
    record.clock.sleep(SETTLED_REST_S)
    assert tell(record, book, provider_payout_id="p", status="processed") == 1


# --- deliveries that share a transaction ---


def keeps(
    record: Record, book: WebhookBook, *notices: Notice, to: str = "main"
) -> Callable[[], Any]:
    return lambda: book.keep(to, notices, BODY, record.clock.now())


def test_deliveries_that_come_together_are_all_stored(record: Record, book: WebhookBook) -> None:
    some = [Notice(key=f"k{n}", provider_payout_id=f"p{n}") for n in range(5)]
    with in_one_group(book._together, *(keeps(record, book, each) for each in some)) as running:
        assert [call.result(S_MAX) for call in running] == [[each] for each in some]
    assert [(row.key, row.times) for row in stored(record)] == [(each.key, 1) for each in some]


def test_the_same_one_that_comes_twice_at_once_is_stored_once(
    record: Record, book: WebhookBook
) -> None:
    same = Notice(key="k", provider_payout_id="p")
    for number, in_all in ((3, 3), (2, 5)):
        calls = [keeps(record, book, same)] * number
        with in_one_group(book._together, *calls) as running:
            assert [call.result(S_MAX) for call in running] == [[same]] * number
        assert [(row.key, row.times) for row in stored(record)] == [("k", in_all)]


def test_one_that_cannot_be_stored_loses_none_of_those_beside_it(
    record: Record, book: WebhookBook
) -> None:
    some = [Notice(key=f"k{n}", provider_payout_id=f"p{n}") for n in range(3)]
    foreign = keeps(record, book, Notice(key="bad", provider_payout_id="p"), to="no such account")
    calls = [keeps(record, book, some[0]), foreign, *(keeps(record, book, n) for n in some[1:])]
    with in_one_group(book._together, *calls) as running:
        became = [came_of(call) for call in running]
    assert isinstance(became.pop(1), IntegrityError)
    assert became == [[each] for each in some]
    assert {row.key for row in stored(record)} == {each.key for each in some}


def test_where_the_commit_is_not_told_nobody_is_told_that_it_is_kept(record: Record) -> None:
    url = record.database.engine.url.render_as_string(hide_password=False)
    forgetful = Forgetful(url, connections_max=4)
    book = WebhookBook(forgetful, Vault.from_text(KEY))
    calls = [keeps(record, book, Notice(key=key, provider_payout_id="p")) for key in "ab"]
    forgetful.goes = True
    with in_one_group(book._together, *calls) as running:
        assert [type(came_of(call)) for call in running] == [OperationalError] * 2
    # They are told again, as they were not answered, and found.
    assert [len(call()) for call in calls] == [1, 1]
    assert [(row.key, row.times) for row in stored(record)] == [("a", 2), ("b", 2)]
    forgetful.close()


@on_postgresql
def test_one_whose_row_is_kept_by_others_waits_alone(record: Record, book: WebhookBook) -> None:
    book.keep("main", [Notice(key="b", provider_payout_id="p")], BODY, record.clock.now())
    calls = [keeps(record, book, Notice(key=key, provider_payout_id="p")) for key in "abc"]
    with (
        keeping(record, "webhooks WHERE key = 'b'") as let_go,
        in_one_group(book._together, *calls) as (of_a, of_b, of_c),
    ):
        assert len(of_a.result(S_MAX / 3)) == len(of_c.result(S_MAX / 3)) == 1
        assert not of_b.done()
        let_go()
        assert len(of_b.result(S_MAX)) == 1


@on_postgresql
def test_two_receivers_that_are_told_the_same_take_its_rows_in_one_order(
    record: Record, book: WebhookBook
) -> None:
    same = [Notice(key=key, provider_payout_id="p") for key in "ab"]
    book.keep("main", same, BODY, record.clock.now())
    behind = keeps(record, book, *reversed(same))
    with (
        keeping(record, "webhooks WHERE key = 'a'") as let_go,
        in_one_group(book._together, behind, behind) as running,
    ):
        until(lambda: waits_for_a_lock(record), limit_s=S_MAX)
        # Who waits for the first one has not taken the second one before it.
        with record.database.write() as connection:
            rest = "SELECT key FROM webhooks WHERE key = 'b' FOR UPDATE NOWAIT"
            assert connection.exec_driver_sql(rest).scalar_one() == "b"
        let_go()
        assert [len(call.result(S_MAX)) for call in running] == [2, 2]


# --- rounds of applying ---


def all_told_of(record: Record, book: WebhookBook, count: int) -> list[int]:
    """So many payouts that are at the provider, and a delivery that waits about each."""
    ids = record.queue(*(order() for _ in range(count)))
    for one in ids:
        record.created(one)
    for one in ids:
        notice = Notice(key=f"k{one}", provider_payout_id=f"p{one}")
        book.keep("main", [notice], BODY, record.clock.now())
    return ids


def test_a_round_applies_more_than_fits_into_a_transaction(
    record: Record, book: WebhookBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "TOGETHER_MAX", 3)
    ids = all_told_of(record, book, 7)
    assert book.apply(record.clock.now()).woken == 7
    assert all(is_due(record, one) for one in ids)
    assert not any(row.pending for row in stored(record))


def test_much_news_of_one_payout_in_one_round_wakes_it_once(
    record: Record, book: WebhookBook
) -> None:
    (one,) = record.queue(order())
    record.created(one)
    notices = [Notice(key=f"k{n}", provider_payout_id=f"p{one}") for n in range(3)]
    book.keep("main", notices, BODY, record.clock.now())
    assert book.apply(record.clock.now()).woken == 3
    assert record.row(one).woken_at == record.row(one).due_at == record.clock.now()
    assert not any(row.pending for row in stored(record))


def test_news_of_two_payouts_waits_until_both_are_free(record: Record, book: WebhookBook) -> None:
    (one, two) = record.queue(order(), order())
    record.created(one)
    payout = record.take(two)
    about = {"provider_payout_id": f"p{one}", "reference_id": payout.reference_id}
    assert tell(record, book, **about) == 0
    assert (is_due(record, one), stored(record)[0].pending) == (False, True)
    record.answer(payout, Step.CREATE, Outcome.PROCESSING, provider_payout_id=f"p{two}")
    assert book.apply(record.clock.now()).woken == 1
    assert is_due(record, one)
    assert is_due(record, two)


@on_postgresql
def test_news_of_a_payout_that_others_keep_for_a_moment_holds_up_no_other(
    record: Record, book: WebhookBook
) -> None:
    ids = all_told_of(record, book, 3)
    kept = ids[1]
    with keeping(record, f"payouts WHERE id = {kept}"):
        assert book.apply(record.clock.now()).woken == 2
        assert [row.key for row in stored(record) if row.pending] == [f"k{kept}"]
    assert book.apply(record.clock.now()).woken == 1
    assert all(is_due(record, one) for one in ids)


@pytest.mark.parametrize("record", ["sqlite"], indirect=True)
def test_what_was_put_by_long_since_is_never_gone_through(
    record: Record, book: WebhookBook
) -> None:
    plans: list[str] = []

    def explain(connection: Connection, _c: object, sql: str, given: object, *_: object) -> None:
        if sql.startswith("SELECT") and " webhooks" in sql:
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", given)
            plans.extend(row[-1] for row in rows if " webhooks" in row[-1])

    event.listen(record.database.engine, "before_cursor_execute", explain)
    tell(record, book, reference_id="nobody")
    book.forget_old(record.clock.now())
    through = {plan for plan in plans if "PRIMARY KEY" not in plan}
    assert through == {
        "SCAN webhooks USING INDEX webhooks_pending",
        "SEARCH webhooks USING INDEX webhooks_old (received_at<?)",
    }


# --- questions of a provider before it pays ---


def ask(record: Record, book: WebhookBook, reference_id: str, provider_id: str, minor: int) -> bool:
    amount = Money(minor, order().amount.currency)
    return book.confirm("main", reference_id, provider_id, amount)


def test_only_a_payout_being_made_with_that_amount_is_confirmed(
    record: Record, book: WebhookBook
) -> None:
    queued, sent = record.queue(order(), order())
    waiting, made = record.row(queued).reference_id, record.take(sent).reference_id
    assert not ask(record, book, waiting, "u-1", 1000)
    assert not ask(record, book, "nobody", "u-1", 1000)
    assert not ask(record, book, made, "u-1", 1001)
    assert not book.confirm("main", made, "u-1", None)
    assert not book.confirm("other", made, "u-1", Money(1000, order().amount.currency))
    assert ask(record, book, made, "u-1", 1000)


def test_a_second_id_for_the_same_payout_is_declined_for_ever(
    record: Record, book: WebhookBook
) -> None:
    (one,) = record.queue(order())
    reference_id = record.take(one).reference_id
    asked = [f"u-{n}" for n in range(4)]
    books = [WebhookBook(record.again().database, Vault.from_text(KEY)) for _ in asked]
    told = together(
        [
            lambda b=b, u=u: ask(record, b, reference_id, u, 1000)  # type: ignore[misc]
            for b, u in zip(books, asked, strict=True)
        ]
    )
    assert sorted(told) == [False, False, False, True], told
    first = asked[told.index(True)]
    assert ask(record, book, reference_id, first, 1000)
    assert not any(ask(record, book, reference_id, u, 1000) for u in asked if u != first)
    for one_book in books:
        one_book.database.close()


def test_a_payout_that_is_known_under_one_id_is_not_confirmed_under_another(
    record: Record, book: WebhookBook
) -> None:
    (one,) = record.queue(order())
    row = record.created(one)
    assert not ask(record, book, row.reference_id, "u-other", 1000)
    assert ask(record, book, row.reference_id, f"p{one}", 1000)
