"""A round of applying keeps no payout from the worker that is told to take it."""

from __future__ import annotations

import pytest
from sqlalchemy import event

from tests.worlds import KEY, order
from workers.record.model import Notice
from workers.record.status import State
from workers.record.store import Claim
from workers.record.vault import Vault
from workers.record.webhooks import WebhookBook

from .conftest import Record
from .group_world import keeping

on_postgresql = pytest.mark.parametrize("record", ["postgresql"], indirect=True)


@pytest.fixture
def book(record: Record) -> WebhookBook:
    return WebhookBook(record.database, Vault.from_text(KEY))


def tell_of(record: Record, book: WebhookBook, *ids: int) -> None:
    notices = [Notice(key=f"k{one}", provider_payout_id=f"p{one}") for one in ids]
    book.keep("main", notices, b"", record.clock.now())


@on_postgresql
def test_a_due_payout_can_be_taken_while_news_of_it_is_applied(
    record: Record, book: WebhookBook
) -> None:
    due, asleep = record.queue(order(), order())
    record.clock.move_to(record.created(due).due_at)
    record.created(asleep)
    tell_of(record, book, due, asleep)
    other, took = record.again(), list[Claim | None]()

    def take(_connection: object, _cursor: object, sql: str, *_: object) -> None:
        # Right before the round ends, with all its locks.
        if sql.startswith("UPDATE webhooks"):
            took.append(other.claim(due))

    event.listen(record.database.engine, "before_cursor_execute", take)
    assert book.apply(record.clock.now()).woken == 2
    # Its message is used up: who does not find it now would wait until the message is missed.
    assert [claim and claim.payout.id for claim in took] == [due]
    other.close()


@on_postgresql
def test_a_payout_that_is_asleep_and_kept_by_others_waits_for_the_next_round(
    record: Record, book: WebhookBook
) -> None:
    (one,) = record.queue(order())
    record.created(one)
    tell_of(record, book, one)
    with keeping(record, f"payouts WHERE id = {one}"):
        assert book.apply(record.clock.now()).woken == 0
    assert book.apply(record.clock.now()).woken == 1
    assert record.state(one) is State.CREATED
