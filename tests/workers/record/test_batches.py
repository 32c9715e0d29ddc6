"""Batches: stored whole or not at all, and approved only as they were checked and covered."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, func, select
from sqlalchemy.exc import DBAPIError, IntegrityError

from tests.workers.record.conftest import Record, together
from tests.worlds import CHECKER, MAKER, USD, order, stored
from workers.errors import AccountFault, ApprovalRefused, FileRefused, VaultError
from workers.record.answers import is_completed
from workers.record.batches import Batch, NewRow
from workers.record.fingerprints import repeats
from workers.record.model import Order
from workers.record.money import Currency, Money
from workers.record.status import Outcome, State, Step
from workers.record.tables import accounts, batches, payout_events, payouts

EUR = Currency.of("EUR")


def draft(record: Record, *orders: Order) -> Batch:
    batch = record.batches.get(stored(record.batches, orders, now=record.clock.now()))
    assert batch is not None
    return batch


def approve(record: Record, batch: Batch, **more: Any) -> bool:
    values: dict[str, Any] = {"spendable": {}, "approvals_seen": {}, "actor": CHECKER, **more}
    return record.batches.approve(batch, now=record.clock.now(), **values)


def reject(record: Record, batch: Batch) -> None:
    record.decisions.reject(batch.id, CHECKER, record.clock.now())
    while record.decisions.carry(batch.id, record.clock.now()):
        pass


def number_of(record: Record, table: Any) -> int:
    with record.database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def untouched(record: Record, batch: Batch) -> bool:
    """Whether the batch is still a draft, with drafts that were not sealed."""
    found = record.batches.get(batch.id)
    rows = list(record.batches.each(batch.id))
    assert found is not None
    drafts = all(row.state == State.DRAFT and row.seal is None for row in rows)
    return found.decision == "draft" and drafts and not number_of(record, payout_events)


# --- storing ---


def save(record: Record, rows: Iterator[NewRow], content: str = "c") -> str:
    return record.batches.save(
        rows,
        file_name="f.csv",
        content_hash=content,
        file_hash=content,
        columns=["b", "a"],
        count=2,
        actor=MAKER,
        note="by hand",
        now=record.clock.now(),
        mapping={"Theirs": "b"},
    )


def test_an_error_at_the_last_row_leaves_nothing(record: Record) -> None:
    def rows() -> Iterator[NewRow]:
        for row in range(1, 2101):
            yield NewRow(row=row, order=order(), provider="payelata", fee=Money(0, USD))
        raise ValueError("the file ended here")

    with pytest.raises(ValueError, match="ended here"):
        save(record, rows())
    assert (number_of(record, batches), number_of(record, payouts)) == (0, 0)


def test_a_row_that_the_database_refuses_leaves_nothing(record: Record) -> None:
    bad = order(amount=Money(0, USD))
    rows = [NewRow(row=1, order=one, provider="p", fee=Money(0, USD)) for one in (order(), bad)]
    with pytest.raises(IntegrityError):
        save(record, iter(rows))
    assert (number_of(record, batches), number_of(record, payouts)) == (0, 0)


def test_a_batch_is_read_back_as_it_was_stored(record: Record) -> None:
    rows = [NewRow(row=n, order=order(), provider="p", fee=Money(3, USD)) for n in (1, 2)]
    batch_id = save(record, iter(rows))
    batch = record.batches.get(batch_id.lower())
    assert batch is not None
    assert (batch.columns, batch.rows, batch.decision) == (("b", "a"), 2, "draft")
    assert (batch.made_by, batch.made_at, batch.note) == ("maker", record.clock.now(), "by hand")
    assert (batch.mapping, batch.child_of) == ({"Theirs": "b"}, None)
    by_mark = record.batches.by_file_mark(batch.file_hash[:16])
    assert by_mark is not None
    assert by_mark.id == batch_id
    assert record.batches.by_file_mark("%") is None
    read = [record.store.order_of(row) for row in record.batches.each(batch_id)]
    assert read == [row.order for row in rows]
    assert [row.fee_expected_minor for row in record.batches.each(batch_id)] == [3, 3]


def test_beneficiary_data_is_stored_closed_and_masked(record: Record) -> None:
    batch = draft(record, order(fields={"iban": "DE89370400440532013000"}))
    (row,) = record.batches.each(batch.id)
    assert row.beneficiary == "iban ****3000"
    assert "370400440532" not in str(row)


def test_the_same_content_twice_is_refused_by_the_database(record: Record) -> None:
    one = order()
    draft(record, one)
    with pytest.raises(IntegrityError):
        draft(record, one)
    assert number_of(record, payouts) == 1


def test_the_same_content_from_many_threads_is_stored_once(record: Record) -> None:
    one = order()
    told = together([lambda: draft(record, one)] * 8)
    assert sorted(type(one).__name__ for one in told) == ["Batch"] + ["IntegrityError"] * 7
    assert (number_of(record, batches), number_of(record, payouts)) == (1, 1)


def test_a_reference_id_is_refused_twice_in_an_account_by_the_database(record: Record) -> None:
    draft(record, order(reference_id="R"))
    with pytest.raises(IntegrityError):
        draft(record, order(reference_id="R", amount=Money(7, USD)))
    draft(record, order(reference_id="R", account="other"))


def test_a_reference_id_is_refused_twice_in_a_file_by_the_database(record: Record) -> None:
    with pytest.raises(IntegrityError):
        draft(record, order(reference_id="R"), order(reference_id="R"))
    assert number_of(record, batches) == 0


def test_a_rejected_batch_frees_its_reference_ids_and_content(record: Record) -> None:
    one = order(reference_id="R")
    batch = draft(record, one)
    reject(record, batch)
    assert record.batches.counts(batch.id) == {State.CANCELLED: 1}
    assert record.batches.by_content(batch.content_hash) is None
    assert record.batches.known("main", ["R"]) == {}
    again = draft(record, one)
    assert again.id != batch.id
    assert record.batches.by_content(batch.content_hash) == again


def test_a_reference_id_that_was_sent_is_never_free_again(record: Record) -> None:
    (one,) = record.queue(order(reference_id="R"))
    record.held(one)
    record.settle(one, State.CANCELLED, actor="a", reason="")
    assert set(record.batches.known("main", ["R"])) == {"R"}
    with pytest.raises(IntegrityError):
        draft(record, order(reference_id="R", amount=Money(7, USD)))


def test_a_failed_payout_is_replaced_by_one_at_a_time(record: Record) -> None:
    (again,) = record.queue(order(replaces="R-0"))
    with pytest.raises(IntegrityError):
        draft(record, order(replaces="R-0"))
    draft(record, order(replaces="R-0", account="other"))
    record.answer(record.take(again), Step.CREATE, Outcome.REFUSED)
    draft(record, order(replaces=record.row(again).reference_id))
    # Its replacement failed too and is paid again: by way of the first it may not be once more.
    with pytest.raises(FileRefused):
        draft(record, order(replaces="R-0"))
    assert number_of(record, batches) == 3


def test_a_replacement_that_was_withdrawn_leaves_the_failed_payout_to_others(
    record: Record,
) -> None:
    first = draft(record, order(replaces="R-0"))
    reject(record, first)
    draft(record, order(replaces="R-0"))


# --- decisions ---


def test_approval_seals_and_queues_every_row_with_one_event_each(record: Record) -> None:
    batch = draft(record, order(), order())
    assert approve(record, batch)
    for row in record.batches.each(batch.id):
        assert record.store.vault.seal_holds(record.store.order_of(row), row.seal)
        assert (row.state, row.due_at) == ("queued", record.clock.now())
        assert record.path(row.id) == [("draft", "queued")]
        assert record.events(row.id)[0].actor == "checker"
    found = record.batches.get(batch.id)
    assert found is not None
    assert (found.decision, found.decided_by) == ("approved", "checker")


def test_a_batch_is_decided_once(record: Record) -> None:
    approved, rejected = draft(record, order()), draft(record, order())
    approve(record, approved)
    reject(record, rejected)
    for batch in (approved, rejected):
        with pytest.raises(ApprovalRefused, match="decided already"):
            approve(record, batch)
        with pytest.raises(ApprovalRefused, match="decided already"):
            reject(record, batch)


def test_two_checkers_of_one_batch_approve_it_once(record: Record) -> None:
    batch = draft(record, order())
    told = together([lambda: approve(record, batch)] * 8)
    assert sorted(type(one).__name__ for one in told) == ["ApprovalRefused"] * 7 + ["bool"]
    assert number_of(record, payout_events) == 1


CHANGES = {
    "amount_minor": "1001",
    "currency": "'EUR'",
    "currency_exponent": "3",
    "reference_id": "'T-EDITED'",
    "account": "'other'",
    "service": "'other'",
    "description": "'other'",
    "metadata": """'{"a": "b"}'""",
    "replaces": "'T-0'",
    "sealed_data": "(SELECT p.sealed_data FROM payouts p WHERE p.id <> payouts.id)",
    "batch_id": "'ELSE'",
    "row": "9",
}


@pytest.mark.parametrize(("column", "value"), CHANGES.items())
def test_a_batch_whose_rows_were_changed_is_not_approved(
    record: Record, column: str, value: str
) -> None:
    batch = draft(record, order(), order(fields={"account": "1"}))
    record.sql(
        "INSERT INTO batches (id, file_name, content_hash, file_hash, columns, rows, decision,"
        " made_by, made_at) SELECT 'ELSE', file_name, 'x', 'x', columns, rows, decision, made_by,"
        " made_at FROM batches"
    )
    assert record.sql(f"UPDATE payouts SET {column} = {value} WHERE row = 1") == 1
    with pytest.raises((ApprovalRefused, VaultError)):
        approve(record, batch)
    assert untouched(record, batch)


def test_a_batch_that_lost_a_row_is_not_approved(record: Record) -> None:
    batch = draft(record, order(), order())
    record.sql("DELETE FROM payouts WHERE row = 2")
    with pytest.raises(ApprovalRefused, match="not what was checked"):
        approve(record, batch)
    assert untouched(record, batch)


def test_a_batch_of_which_a_row_is_no_draft_any_more_is_not_approved(record: Record) -> None:
    batch = draft(record, order(reference_id="P-1"), order(reference_id="P-2"))
    record.sql("UPDATE payouts SET state = 'paid' WHERE reference_id = 'P-2'")
    with pytest.raises(ApprovalRefused, match="not what was checked"):
        approve(record, batch)
    states = {row.reference_id: (row.state, row.seal) for row in record.batches.each(batch.id)}
    assert states == {"P-1": (State.DRAFT, None), "P-2": (State.PAID, None)}


def test_a_batch_that_the_money_does_not_cover_is_not_approved(record: Record) -> None:
    batch = draft(record, order(amount=Money(60, USD)), order(amount=Money(40, USD)))
    record.sql("UPDATE payouts SET fee_expected_minor = 1 WHERE row = 1")
    with pytest.raises(AccountFault, match=r"needs 1\.01 USD with fees, and 1\.00 USD can be"):
        approve(record, batch, spendable={"main": {USD: Money(100, USD)}})
    with pytest.raises(AccountFault, match=r"and 0\.00 USD can be spent"):
        approve(record, batch, spendable={"main": {EUR: Money(10**9, EUR)}})
    assert untouched(record, batch)
    assert approve(record, batch, spendable={"main": {USD: Money(101, USD)}})


def test_an_approval_that_came_between_undoes_ours_whole(record: Record) -> None:
    batch = draft(record, order())
    seen = {"main": record.book.approvals("main")}
    approve(record, draft(record, order()), approvals_seen=seen)
    events = number_of(record, payout_events)
    assert approve(record, batch, approvals_seen=seen) is False
    assert number_of(record, payout_events) == events
    assert approve(record, batch, approvals_seen={"main": record.book.approvals("main")})


@pytest.mark.parametrize("patient", [True, False])
def test_who_is_not_patient_lets_no_approval_come_between(record: Record, patient: bool) -> None:
    batch = draft(record, order())
    seen = {"main": record.book.approvals("main")}
    locked = []

    def while_sealing(_rows: int) -> None:
        asked = select(accounts.c.name).where(accounts.c.name == "main")
        with record.database.read() as connection:
            free = connection.execute(asked.with_for_update(skip_locked=True)).first()
        locked.append(free is None)

    given: dict[str, Any] = {"approvals_seen": seen, "patient": patient}
    assert approve(record, batch, progress=while_sealing, **given)
    # SQLite has one writer: there nobody can come between.
    assert locked == [not patient and not record.database.is_sqlite]
    late = draft(record, order())
    assert approve(record, late, approvals_seen=seen, patient=patient) is False
    assert record.book.approvals("main") == seen["main"] + 1


def test_two_batches_cannot_both_spend_the_last_coin(record: Record) -> None:
    """As `batches.approval` does it: what is promised is read, then the balance, then approved."""
    balance = Money(100, USD)
    drafts = [draft(record, order(amount=Money(60, USD))) for _ in range(2)]
    others = [record.again() for _ in drafts]

    def check_and_approve(mine: Record, batch: Batch) -> bool:
        for _ in range(10):
            seen = {"main": mine.book.approvals("main")}
            left = balance - mine.book.promised("main").get(USD, Money(0, USD))
            if approve(mine, batch, spendable={"main": {USD: left}}, approvals_seen=seen):
                return True
        return False

    told = together(
        [lambda m=m, b=b: check_and_approve(m, b) for m, b in zip(others, drafts, strict=True)]
    )
    for other in others:
        other.close()
    assert sorted(type(one).__name__ for one in told) == ["AccountFault", "bool"]
    assert True in told
    assert record.book.promised("main") == {USD: Money(60, USD)}


# --- what SQL itself forbids ---


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE payouts SET state = 'sent'",
        "UPDATE payouts SET amount_minor = 0",
        "UPDATE payouts SET amount_minor = -1000",
        "UPDATE payouts SET currency_exponent = 5",
        "UPDATE payouts SET reference_id = ''",
        "UPDATE payouts SET reference_id = 'SAME'",
        "UPDATE payouts SET row = 1",
        "UPDATE payouts SET account = 'nobody'",
        "UPDATE payouts SET batch_id = 'NOBODY'",
        "UPDATE batches SET decision = 'maybe'",
        "UPDATE batches SET rows = 0",
        "DELETE FROM batches",
        "DELETE FROM accounts",
        "INSERT INTO payout_events (payout_id, at, from_state, to_state, cause, actor)"
        " VALUES (999, '2026-01-01', 'draft', 'queued', 'x', 'y')",
    ],
)
def test_what_must_never_be_stored_is_impossible_in_sql(record: Record, statement: str) -> None:
    draft(record, order(), order())
    with pytest.raises(DBAPIError):
        record.sql(statement)


# --- answers ---


def test_tallies_add_up_by_state_account_and_currency(record: Record) -> None:
    one, *_ = record.queue(
        order(amount=Money(100, USD)),
        order(amount=Money(20, USD)),
        order(amount=Money(3, USD)),
        order(amount=Money(7, EUR)),
        order(amount=Money(9, USD), account="other"),
    )
    record.answer(record.take(one), Step.CREATE, Outcome.PAID, fee=Money(2, USD))
    found = record.batches.tallies(record.row(one).batch_id)
    assert {(t.state, t.account, t.amount): (t.count, dict(t.fees)) for t in found} == {
        (State.PAID, "main", Money(100, USD)): (1, {"USD": 2}),
        (State.QUEUED, "main", Money(23, USD)): (2, {}),
        (State.QUEUED, "main", Money(7, EUR)): (1, {}),
        (State.QUEUED, "other", Money(9, USD)): (1, {}),
    }


def test_a_batch_is_completed_when_nothing_goes_on_by_itself(record: Record) -> None:
    one, two = record.queue(order(), order())
    batch_id = record.row(one).batch_id
    record.answer(record.take(one), Step.CREATE, Outcome.PAID)
    assert not is_completed(record.batches.counts(batch_id))
    record.held(two)
    assert is_completed(record.batches.counts(batch_id))
    assert list(record.batches.held(batch_id)) == [
        (record.row(two).reference_id, "looked up, but several payouts carry the reference id")
    ]


def test_a_repeat_is_the_same_beneficiary_and_amount_unless_that_was_not_paid(
    record: Record,
) -> None:
    paid, failed = record.queue(order(), order(amount=Money(5, USD)))
    record.answer(record.take(failed), Step.CREATE, Outcome.REFUSED)
    prints = [record.row(one).fingerprint for one in (paid, failed)]
    since = record.clock.now()
    assert repeats(record.database, prints, since) == {prints[0]: record.row(paid).reference_id}
    record.clock.sleep(1)
    assert repeats(record.database, prints, record.clock.now()) == {}


def test_a_replaced_payout_is_known_with_what_replaces_it(record: Record) -> None:
    (one,) = record.queue(order(replaces="R-0"))
    [(replaced, row)] = record.batches.replaced("main", ["R-0", "R-1", ""]).items()
    assert (replaced, row.reference_id) == ("R-0", record.row(one).reference_id)
    assert record.batches.replaced("other", ["R-0"]) == {}
    record.answer(record.take(one), Step.CREATE, Outcome.REFUSED)
    assert record.batches.replaced("main", ["R-0"])["R-0"].state == "failed"


def test_what_is_due_next_leaves_out_accounts_that_do_not_go_on(record: Record) -> None:
    queued, created, other = record.queue(order(), order(), order(account="other"))
    batch_id = record.row(queued).batch_id
    released = record.created(created).due_at
    later = record.clock.now() + timedelta(hours=1)
    record.due.postpone(other, later)
    assert record.batches.next_due(batch_id) == record.row(queued).due_at < released < later
    # Only sending waits: what was sent is still read.
    record.book.pause("main", "balance", "no money", record.clock.now())
    assert record.batches.next_due(batch_id) == released
    record.book.resume("main")
    record.book.pause("main", "fault", "a wrong key", record.clock.now())
    assert record.batches.next_due(batch_id) == later
    record.book.pause("other", "outage", "no answer", record.clock.now())
    assert record.batches.next_due(batch_id) is None


def test_a_fee_is_told_of_what_was_paid_or_came_back_and_of_nothing_else(record: Record) -> None:
    outcomes = (Outcome.PAID, Outcome.REFUSED, Outcome.RETURNED)
    for one, outcome in zip(record.queue(*(order() for _ in outcomes)), outcomes, strict=True):
        record.answer(record.take(one), Step.CREATE, outcome, fee=Money(150, USD))
    tallies = record.batches.tallies(record.row(one).batch_id)
    assert {tally.state: tally.fees for tally in tallies} == {
        State.PAID: {"USD": 150},
        State.FAILED: {},
        State.RETURNED: {"USD": 150},
    }


def test_what_replaces_a_payout_is_found_by_an_index_in_sqlite_too(record: Record) -> None:
    if not record.database.is_sqlite:
        return  # PostgreSQL knows the values when it plans.
    asked: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        if "payouts" in statement and statement.startswith("SELECT"):
            asked.append((statement, parameters))

    event.listen(record.database.engine, "before_cursor_execute", note)
    draft(record, order(replaces="R-0"))
    record.batches.replaced("main", ["R-0"])
    event.remove(record.database.engine, "before_cursor_execute", note)
    assert len(asked) >= 2
    with record.database.read() as connection:
        for statement, parameters in asked:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            assert "USING INDEX" in str(plan) or "COVERING INDEX" in str(plan)
            assert "SCAN payouts" not in str(plan)


def test_a_question_about_many_rows_is_made_once_and_keeps_none_of_them(record: Record) -> None:
    record.batches.known("main", ["R-0"])
    made = record.database.engine._compiled_cache
    assert made is not None
    before = len(made)
    for number in range(5):
        record.batches.known("main", [f"R-{number}-{at}" for at in range(100)])
    assert len(made) == before
