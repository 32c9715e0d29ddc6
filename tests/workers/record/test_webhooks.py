"""News is stored once and wakes its payout; it moves nothing, whatever it says."""

from __future__ import annotations

from typing import Any

import pytest

from tests.worlds import KEY, order
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

BODY = b'{"account": "987654321"}'


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
