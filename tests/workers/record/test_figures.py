"""What monitoring is told is what the record holds, and asking for it reads no table through."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.workers.record.conftest import Record
from tests.worlds import order
from workers.record import figures
from workers.record.calls import CallBook, Count, Kind
from workers.record.figures import AccountFigures, FigureBook
from workers.record.model import Notice
from workers.record.status import Outcome, State, Step
from workers.record.webhooks import WebhookBook


def _seen(record: Record) -> dict[str, AccountFigures]:
    found = FigureBook(record.database).figures(record.clock.now())
    assert found.at == record.clock.now()
    return {one.name: one for one in found.accounts}


def _main(record: Record) -> AccountFigures:
    return _seen(record)["main"]


def test_an_empty_record_has_nothing_to_tell_of_each_account(record: Record) -> None:
    nothing = {"counts": {}, "open_since": {}, "claims_expired": 0, "messages_out": 0}
    for name, one in _seen(record).items():
        assert {key: getattr(one, key) for key in nothing} == nothing, name
        assert (one.send_due_since, one.ask_due_since, one.paused_kind) == (None, None, None)
    assert set(_seen(record)) == {"main", "other"}
    found = FigureBook(record.database).figures(record.clock.now())
    assert (found.swept_at, list(found.calls)) == (None, [])


def test_payouts_are_counted_by_account_and_state(record: Record) -> None:
    ids = record.queue(order(), order(), order(), order(account="other"))
    record.held(ids[0])
    record.unknown(ids[1])
    seen = _seen(record)
    assert seen["main"].counts == {State.HELD: 1, State.UNKNOWN: 1, State.QUEUED: 1}
    assert seen["other"].counts == {State.QUEUED: 1}


def test_an_age_begins_when_a_payout_was_sent_or_else_stored(record: Record) -> None:
    stored = record.clock.now()
    early, late, queued = record.queue(order(), order(), order())
    record.clock.sleep(100)
    # The one that is stored first is sent last.
    record.unknown(late)
    sent = record.clock.now()
    record.clock.sleep(100)
    record.unknown(early)
    assert _main(record).open_since == {State.QUEUED: stored, State.UNKNOWN: sent}
    taken = record.take(queued)
    record.answer(taken, Step.CREATE, Outcome.PAID, provider_payout_id="p1")
    assert _main(record).open_since == {State.UNKNOWN: sent}


def _due(record: Record) -> tuple[datetime | None, datetime | None]:
    one = _main(record)
    return one.send_due_since, one.ask_due_since


def test_what_is_due_waits_since_it_is_due_and_until_it_is_claimed(record: Record) -> None:
    first = record.clock.now()
    one, two = record.queue(order(), order())
    record.clock.sleep(7)
    assert _due(record) == (first, None)
    due_at = record.unknown(one).due_at
    record.due.postpone(two, record.clock.now() + timedelta(hours=1))
    assert _due(record) == (None, None)
    record.clock.move_to(due_at)
    assert _due(record) == (None, due_at)
    claimed = record.take(one)
    assert _due(record) == (None, None)
    record.clock.sleep(3600)
    # A claim that ran out is due since then.
    assert _due(record)[1] == record.row(claimed.id).claimed_until


@pytest.mark.parametrize(
    ("kind", "send", "ask"),
    [
        *(("fault", False, False), ("outage", False, False)),
        *(("balance", False, True), ("person", False, True), ("restore", False, True)),
    ],
)
def test_the_work_of_a_paused_account_is_no_backlog(
    record: Record, kind: str, send: bool, ask: bool
) -> None:
    one, _ = record.queue(order(), order())
    record.clock.move_to(record.unknown(one).due_at)
    assert [since is not None for since in _due(record)] == [True, True]
    record.book.pause("main", kind, "why", record.clock.now())
    assert [since is not None for since in _due(record)] == [send, ask]
    assert (_main(record).paused_kind, _main(record).paused_at) == (kind, record.clock.now())
    record.sql("UPDATE accounts SET paused_kind = NULL")
    assert [since is not None for since in _due(record)] == [True, True]


def test_the_work_of_a_blocked_account_is_no_backlog_until_it_may_call_again(
    record: Record,
) -> None:
    record.queue(order())
    until = record.clock.now() + timedelta(seconds=30)
    record.sql("UPDATE accounts SET blocked_until = :until", until=_stored(record, until))
    assert _due(record) == (None, None)
    assert _main(record).blocked_until == until
    record.clock.move_to(until)
    assert _due(record)[0] is not None


def _stored(record: Record, at: datetime) -> Any:
    """A time as the database has it."""
    return at.strftime("%Y-%m-%d %H:%M:%S.%f") if record.database.is_sqlite else at


def test_what_a_paused_batch_has_to_send_is_no_backlog(record: Record) -> None:
    record.queue(order())
    record.sql("UPDATE batches SET decision = 'paused'")
    record.clock.sleep(5)
    assert _due(record) == (None, None)
    later = record.clock.now()
    record.queue(order())
    assert _due(record) == (later, None)


def test_claims_and_messages_are_counted_until_they_run_out_and_after(record: Record) -> None:
    one, *_ = record.queue(order(), order(), order(account="other"))
    record.take(one)
    record.due.announce(record.clock.now(), window=9, announce_s={"main": 120, "other": 600})
    seen = _seen(record)
    assert (seen["main"].claims_expired, seen["main"].messages_out) == (0, 1)
    record.clock.sleep(121)
    seen = _seen(record)
    assert (seen["main"].claims_expired, seen["other"].claims_expired) == (1, 0)
    assert (seen["main"].messages_out, seen["main"].messages_overdue) == (0, 1)
    assert (seen["other"].messages_out, seen["other"].messages_overdue) == (1, 0)


def test_deliveries_are_pending_until_they_are_applied(record: Record) -> None:
    book = WebhookBook(record.database, record.store.vault)
    first = record.clock.now()
    for key in ("a", "b"):
        notice = Notice(key=key, provider_payout_id="p1", reference_id=None)
        assert book.keep("main", [notice], b"{}", record.clock.now())
        record.clock.sleep(10)
    one = _main(record)
    assert (one.deliveries_pending, one.delivery_pending_since) == (2, first)
    assert _seen(record)["other"].deliveries_pending == 0
    record.sql("UPDATE webhooks SET pending = (1 = 0)")
    assert (_main(record).deliveries_pending, _main(record).delivery_pending_since) == (0, None)


def test_the_last_sweep_and_the_counts_of_calls_are_told(record: Record) -> None:
    CallBook(record.database).add("main", {Kind("poll", "2xx", 25): Count(3, 9)})
    at = record.clock.now() - timedelta(seconds=5)
    insert = "INSERT INTO installation (id, key_id, swept_at) VALUES (1, 'k', :at)"
    record.sql(insert, at=_stored(record, at))
    found = FigureBook(record.database).figures(record.clock.now())
    assert found.swept_at == at
    assert [(one.account, one.count) for one in found.calls] == [("main", Count(3, 9))]


@pytest.mark.parametrize("name", ["_ACCOUNTS", "_COUNTS", "_CLAIMS", "_MESSAGES", "_DELIVERIES"])
def test_every_question_is_answered_from_an_index(record: Record, name: str) -> None:
    record.queue(order())
    question = getattr(figures, name).params(now=record.clock.now())
    with record.database.read() as connection:
        if record.database.is_sqlite:
            explain = "EXPLAIN QUERY PLAN "
        else:
            # With so few rows reading through them would be cheaper.
            connection.exec_driver_sql("SET enable_seqscan = off")
            explain = "EXPLAIN "
        words = str(question.compile(connection.engine, compile_kwargs={"literal_binds": True}))
        lines = [row[-1] for row in connection.exec_driver_sql(explain + words)]
    tables = ("payouts", "webhooks")
    through = [
        line
        for line in lines
        if any(f"Seq Scan on {table}" in line for table in tables)
        or (any(f"SCAN {table}" in line for table in tables) and "INDEX" not in line)
    ]
    assert through == [], lines
