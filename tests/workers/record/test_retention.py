"""A purge removes who was paid, of what is settled long enough, and keeps all that is evidence."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from tests.worlds import KEY, order, stored
from workers.errors import VaultError
from workers.record import retention
from workers.record.history import Action, Deed, History, write
from workers.record.model import Actor, Notice
from workers.record.orders import order_of
from workers.record.retention import Limits, Retention, Standing
from workers.record.status import Outcome, State, Step
from workers.record.tables import batch_events, payouts, webhooks
from workers.record.vault import Vault
from workers.record.webhooks import WebhookBook

from .conftest import Record
from .test_fingerprints import found_by

DAY = timedelta(days=1)
LIMITS = Limits(repeats=30 * DAY, watched=7 * DAY)
PERSONAL = {
    "sealed_data": b"",
    "seal": None,
    "beneficiary": "",
    "fingerprint": None,
    "description": "",
    "metadata": {},
    "failure_reason": None,
    "warning": None,
    "refusal_first": None,
    "refusal_last": None,
    "doubt": None,
}
SHOWN = {"due_at", "announced_until", "purged_at"}
NAME = "Featherstonehaugh"


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PAGE_ROWS", 3)


def paid(record: Record, payout_id: int) -> None:
    record.answer(
        record.take(payout_id), Step.CREATE, Outcome.PAID, provider_payout_id=f"p-{payout_id}"
    )


def refused(record: Record, payout_id: int) -> None:
    reply = {"code": "c-1", "reason": f"{NAME} is not known"}
    record.answer(record.take(payout_id), Step.CREATE, Outcome.REFUSED, **reply)


def batch_of(record: Record, payout_id: int) -> str:
    return str(record.row(payout_id).batch_id)


def settled(record: Record, count: int = 4) -> tuple[str, list[int]]:
    """A batch that is settled, its first payout failed, and old."""
    orders = [
        order(description=NAME, metadata={"note": NAME}, customer={"name": NAME})
        for _ in range(count)
    ]
    ids = record.queue(*orders)
    record.clock.sleep(DAY.total_seconds())
    refused(record, ids[0])
    for payout_id in ids[1:]:
        paid(record, payout_id)
    record.clock.sleep(31 * DAY.total_seconds())
    return batch_of(record, ids[0]), ids


def look(record: Record, days: int = 0) -> list[Standing]:
    before = record.clock.now() - timedelta(days=days)
    return list(Retention(record.database, LIMITS, record.clock).look(before))


def purge(record: Record, batch_id: str, show: Any = lambda _: None) -> int | None:
    made = Retention(record.database, LIMITS, record.clock)
    now = record.clock.now()
    return made.purge(batch_id, now, actor=Actor("keeper", "here"), show=show)


def test_a_purge_removes_the_beneficiary_and_keeps_everything_else(record: Record) -> None:
    batch_id, ids = settled(record)
    before = {each: record.row(each)._mapping for each in ids}
    [standing] = look(record)
    assert (standing.batch_id, standing.payouts, standing.why_kept) == (batch_id, len(ids), None)
    shown: list[int] = []

    assert purge(record, batch_id, shown.append) == len(ids)

    assert shown == [3, 1]
    assert found_by(record) == []
    for payout_id in ids:
        row = record.row(payout_id)._mapping
        assert {name: row[name] for name in PERSONAL} == PERSONAL
        kept = set(row) - set(PERSONAL) - SHOWN
        assert {name: row[name] for name in kept} == {
            name: before[payout_id][name] for name in kept
        }
        assert row["purged_at"] == record.clock.now()
        with pytest.raises(VaultError, match="beneficiary data was removed"):
            order_of(record.row(payout_id), record.store.vault)
    batch = record.batches.get(batch_id)
    assert batch is not None
    assert batch.purged_at == record.clock.now()
    assert record.batches.by_content(batch.content_hash) == batch
    assert record.batches.counts(batch_id) == {State.FAILED: 1, State.PAID: len(ids) - 1}
    assert look(record) == []
    assert purge(record, batch_id) is None


def test_it_is_recorded_who_purged_what_and_when(record: Record) -> None:
    batch_id, _ = settled(record)
    purge(record, batch_id)
    with record.database.read() as connection:
        events = connection.execute(_PURGES.order_by(batch_events.c.id)).all()
    assert [(one.batch_id, one.action, one.actor, one.origin) for one in events] == [
        (batch_id, "purging", "keeper", "here"),
        (batch_id, "purged", "keeper", "here"),
    ]
    assert {one.at for one in events} == {record.clock.now()}


def test_events_keep_what_happened_and_lose_the_words_behind_it(record: Record) -> None:
    batch_id, ids = settled(record)
    before = record.events(ids[0])
    assert any(NAME in one.cause for one in before)
    purge(record, batch_id)
    after = record.events(ids[0])
    assert not any(NAME in f"{one.cause} {one.note}" for one in after)
    kept = [(e.at, e.from_state, e.to_state, e.actor, e.provider_code) for e in before]
    assert [(e.at, e.from_state, e.to_state, e.actor, e.provider_code) for e in after] == kept
    assert all(
        one.cause == old.cause.partition(":")[0] for one, old in zip(after, before, strict=True)
    )


def test_the_history_keeps_what_was_decided_and_loses_the_words_behind_it(record: Record) -> None:
    batch_id, ids = settled(record)
    reference_id = record.row(ids[0]).reference_id
    deeds = [
        (Action.ALLOWED, "2 repeated payments allowed by ann"),
        (Action.PAUSED, NAME),
        (Action.RESUMED, f"{NAME} as paid: {NAME}"),
        (Action.PROPOSED, f"{reference_id} as paid: {NAME}: called"),
        (Action.RESOLVED, f"{reference_id} as paid, as bob proposed ({NAME}): {NAME}"),
        (Action.RETRIED, "as batch 2345678"),
    ]
    with record.database.write() as connection:
        for action, note in deeds:
            deed = Deed(record.clock.now(), action, Actor("ann", "here"), note)
            write(connection, batch_id, deed)
    before = History(record.database).of(batch_id)
    purge(record, batch_id)
    after = History(record.database).of(batch_id)
    kept = {deed.action: deed.note for deed in after if deed.action in dict(deeds)}
    assert kept == {
        Action.ALLOWED: "2 repeated payments allowed by ann",
        Action.PAUSED: None,
        Action.RESUMED: None,
        Action.PROPOSED: f"{reference_id} as paid",
        Action.RESOLVED: f"{reference_id} as paid",
        Action.RETRIED: "as batch 2345678",
    }
    assert [(one.at, one.action, one.actor) for one in after[: len(before)]] == [
        (one.at, one.action, one.actor) for one in before
    ]


def test_a_reference_id_of_what_was_purged_is_never_used_again(record: Record) -> None:
    batch_id, ids = settled(record)
    reference_id = record.row(ids[0]).reference_id
    purge(record, batch_id)
    assert reference_id in record.batches.known("main", [reference_id])
    with pytest.raises(Exception, match=r"UNIQUE|unique"):
        stored(record.batches, [order(reference_id=reference_id)], now=record.clock.now())


def test_deliveries_about_purged_payouts_go_and_others_stay(record: Record) -> None:
    batch_id, ids = settled(record)
    other = record.queue(order())
    now = record.clock.now()
    book = WebhookBook(record.database, Vault.from_text(KEY))
    mine = [
        Notice(key="a", reference_id=record.row(ids[0]).reference_id),
        Notice(key="b", provider_payout_id=record.row(ids[1]).provider_payout_id),
    ]
    theirs = Notice(key="c", reference_id=record.row(other[0]).reference_id)
    book.keep("main", [*mine, theirs], b"body", now)
    purge(record, batch_id)
    with record.database.read() as connection:
        assert connection.execute(select(webhooks.c.key)).scalars().all() == ["c"]


def draft(record: Record, ids: list[int]) -> None:
    record.sql("UPDATE payouts SET state = 'draft' WHERE id = :id", id=ids[0])


def state(name: str) -> Any:
    def change(record: Record, ids: list[int]) -> None:
        record.sql("UPDATE payouts SET state = :name WHERE id = :id", name=name, id=ids[-1])

    return change


def young(record: Record, ids: list[int]) -> None:
    record.sql("UPDATE payouts SET created_at = :at", at=_bound(record, 29))


def watched(record: Record, ids: list[int]) -> None:
    record.sql("UPDATE payouts SET settled_at = :at", at=_bound(record, 6))


def put_back(record: Record, ids: list[int]) -> None:
    record.sql("UPDATE accounts SET restored_at = :at WHERE name = 'main'", at=_bound(record, 1))


def corrected(record: Record, ids: list[int]) -> None:
    child = stored(record.batches, [order()], now=record.clock.now())
    parent = batch_of(record, ids[0])
    record.sql("UPDATE batches SET child_of = :parent WHERE id = :id", parent=parent, id=child)


def corrected_with_others(record: Record, ids: list[int]) -> None:
    """A file that corrects lines of several batches is the child of none."""
    again = order(replaces=record.row(ids[0]).reference_id)
    stored(record.batches, [again], now=record.clock.now())


def _bound(record: Record, days: int) -> Any:
    at = record.clock.now() - timedelta(days=days)
    return at if not record.database.is_sqlite else at.replace(tzinfo=None).isoformat(" ")


_PURGES = select(batch_events).where(batch_events.c.action.in_(["purging", "purged"]))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (draft, "it waits for approval"),
        *((state(name), "1 payout still open") for name in ("queued", "unknown", "creating")),
        *((state(name), "1 payout still open") for name in ("created", "processing")),
        (state("held"), "1 payout held, for a person to decide"),
        (young, "the same payments are looked for until"),
        (watched, "money that comes back is looked for until"),
        (put_back, "account main was put back"),
        (corrected, "which corrects it, is not finished"),
        (corrected_with_others, "which corrects it, is not finished"),
    ],
)
def test_what_is_still_needed_is_kept_and_told_why(record: Record, change: Any, why: str) -> None:
    batch_id, ids = settled(record)
    change(record, ids)
    [standing] = [one for one in look(record) if one.batch_id == batch_id]
    assert why in (standing.why_kept or "")
    before = [record.row(each) for each in ids]
    assert purge(record, batch_id) is None
    assert [record.row(each) for each in ids] == before
    with record.database.read() as connection:
        assert connection.execute(_PURGES).all() == []


def test_what_was_settled_on_the_day_or_later_is_kept(record: Record) -> None:
    settled(record)
    [standing] = look(record, days=31)
    assert (standing.why_kept or "").startswith("its last payout was settled on 2026-03-02")
    assert look(record, days=32) == []
    [standing] = look(record, days=30)
    assert standing.why_kept is None


def test_a_purge_that_was_cut_off_is_carried_on(record: Record) -> None:
    batch_id, _ = settled(record, count=8)

    class CutOff(Exception):
        pass

    def cut(_: int) -> None:
        raise CutOff

    with pytest.raises(CutOff):
        purge(record, batch_id, cut)
    [standing] = look(record)
    assert (standing.payouts, standing.why_kept) == (5, None)
    assert purge(record, batch_id) == 5
    with record.database.read() as connection:
        left = connection.execute(select(payouts.c.id).where(payouts.c.purged_at.is_(None))).all()
    assert left == []


def test_a_payout_that_a_worker_has_is_left_to_the_next_purge(record: Record) -> None:
    batch_id, ids = settled(record)
    until = record.clock.now() + timedelta(hours=1)
    at = until if not record.database.is_sqlite else until.replace(tzinfo=None).isoformat(" ")
    record.sql("UPDATE payouts SET claimed_until = :at WHERE id = :id", at=at, id=ids[1])
    assert purge(record, batch_id) == len(ids) - 1
    assert record.row(ids[1]).purged_at is None
    batch = record.batches.get(batch_id)
    assert batch is not None
    assert batch.purged_at is None
    record.clock.sleep(3601)
    assert purge(record, batch_id) == 1


def test_news_of_a_purged_payout_changes_nothing(record: Record) -> None:
    batch_id, ids = settled(record)
    purge(record, batch_id)
    before = record.row(ids[1])
    now = record.clock.now()
    book = WebhookBook(record.database, Vault.from_text(KEY))
    book.keep("main", [Notice(key="a", provider_payout_id=f"p-{ids[1]}")], b"body", now)
    book.apply(now)
    record.clock.sleep(100)
    assert record.claim(ids[1]) is None
    row = record.row(ids[1])
    assert (row.state, row.settled_at, row.due_at) == (State.PAID, before.settled_at, None)


def test_sqlite_overwrites_what_is_removed(record: Record) -> None:
    if not record.database.is_sqlite:
        pytest.skip("where PostgreSQL keeps its pages is its keeper's concern")
    batch_id, ids = settled(record, count=12)
    sealed = [bytes(record.row(each).sealed_data) for each in ids]
    path = record.database.path
    assert path is not None
    assert record.database.forget_journal()
    assert all(each in path.read_bytes() for each in sealed)
    purge(record, batch_id)
    assert record.database.forget_journal()
    files = [each.read_bytes() for each in path.parent.glob(f"{path.name}*")]
    assert len(files) > 1
    for content in files:
        assert NAME.encode() not in content
        assert not any(each in content or each[-40:] in content for each in sealed)
