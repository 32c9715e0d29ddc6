"""Decisions about a batch count at once, whatever its payouts are doing, and lose none of them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select, text

from tests.workers.record.conftest import Record, together
from tests.worlds import CHECKER, MAKER, order, stored
from workers.errors import ApprovalRefused, StaleState
from workers.record import decisions
from workers.record.decisions import Resolution
from workers.record.history import Action, History
from workers.record.model import Actor
from workers.record.status import Outcome, State, Step
from workers.record.tables import batches

ANN, BOB = Actor("ann", "here"), Actor("bob", "there")


def batch_of(record: Record, payout_id: int) -> str:
    return str(record.row(payout_id).batch_id)


def carry(record: Record, batch_id: str) -> int:
    """Have the rows follow, as far as they can now; the steps."""
    steps = 0
    while record.decisions.carry(batch_id, record.clock.now()):
        steps += 1
    return steps


def cancel(record: Record, payout_id: int) -> None:
    batch_id = batch_of(record, payout_id)
    record.decisions.cancel(batch_id, ANN, record.clock.now(), "wrong month")
    carry(record, batch_id)


def pause(record: Record, payout_id: int) -> str:
    batch_id = batch_of(record, payout_id)
    assert record.decisions.pause(batch_id, ANN, record.clock.now())
    return batch_id


def carried_to(record: Record, batch_id: str) -> int | None:
    with record.database.read() as connection:
        which = select(batches.c.carried_to).where(batches.c.id == batch_id)
        return connection.execute(which).scalar_one()


def announced(record: Record, window: int = 100) -> set[int]:
    found = record.due.announce(
        record.clock.now(), window=window, announce_s={"main": 120, "other": 120}
    )
    return {one.payout_id for one in found}


# --- paused ---


def test_a_pause_counts_at_once_before_any_row_has_followed(record: Record) -> None:
    one, two = record.queue(order(), order())
    created = record.answer(record.take(one), Step.CREATE, Outcome.CREATED, provider_payout_id="p")
    assert created.next_step is Step.PROCESS
    pause(record, one)
    # Nothing is claimed or announced; what was released is polled, and not released again.
    assert record.claim(two) is None
    assert announced(record) == set()
    waits = record.answer(created.payout, Step.PROCESS, Outcome.CREATED)
    assert waits.next_step is not Step.PROCESS


def test_a_create_that_waits_for_its_look_up_is_not_sent_when_its_batch_is_stopped(
    record: Record,
) -> None:
    (one,) = record.queue(order())
    # Its first create was turned away, so the next is preceded by a look-up.
    record.answer(record.take(one), Step.CREATE, Outcome.NOT_SENT)
    record.clock.move_to(record.row(one).due_at)
    again = record.take(one)
    batch_id = pause(record, one)
    stopped = record.answer(again, Step.LOOK_UP, Outcome.NOT_FOUND)
    assert (stopped.next_step, stopped.payout.state) == (None, State.QUEUED)
    assert record.events(one)[-1].cause == "not sent: its batch or account was stopped"
    assert record.row(one).attempts_excused == 1
    record.decisions.resume(batch_id, ANN, record.clock.now())
    found = record.answer(record.take(one), Step.LOOK_UP, Outcome.NOT_FOUND)
    assert found.next_step is Step.CREATE


def test_the_rows_of_a_paused_batch_leave_the_index_of_due_work_and_come_back(
    record: Record,
) -> None:
    ids = record.queue(*(order() for _ in range(5)))
    (other,) = record.queue(order())
    batch_id = pause(record, ids[0])
    assert announced(record) == {other}
    carry(record, batch_id)
    assert [record.row(one).due_at for one in ids] == [None] * 5
    assert carried_to(record, batch_id) is None
    assert record.decisions.resume(batch_id, ANN, record.clock.now())
    carry(record, batch_id)
    assert [record.row(one).due_at for one in ids] == [record.clock.now()] * 5
    assert announced(record) == set(ids)


@pytest.mark.parametrize("steps", range(4))
@pytest.mark.parametrize("then", ["sweep", "resume", "cancel"])
def test_a_crash_between_two_chunks_leaves_the_rest_to_the_next_sweep(
    record: Record, monkeypatch: pytest.MonkeyPatch, steps: int, then: str
) -> None:
    monkeypatch.setattr(decisions, "CHUNK_ROWS", 2)
    ids = record.queue(*(order() for _ in range(5)))
    batch_id = pause(record, ids[0])
    for _ in range(steps):
        assert record.decisions.carry(batch_id, record.clock.now()) is (steps <= 3)
    # Whoever was at it is gone; somebody decides once more before all rows have followed.
    if then == "resume":
        record.decisions.resume(batch_id, ANN, record.clock.now())
        record.decisions.carry(batch_id, record.clock.now())
    elif then == "cancel":
        record.decisions.cancel(batch_id, ANN, record.clock.now())
    again = record.again()
    assert again.decisions.carry_on(again.clock.now(), chunks=2) <= 2
    while again.decisions.carry_on(again.clock.now()):
        pass
    again.close()
    assert carried_to(record, batch_id) is None
    due = {"sweep": None, "resume": record.clock.now(), "cancel": None}[then]
    assert [record.row(one).due_at for one in ids] == [due] * 5
    state = State.CANCELLED if then == "cancel" else State.QUEUED
    assert [record.state(one) for one in ids] == [state] * 5
    assert announced(record) == (set(ids) if then == "resume" else set())


def test_one_sweep_does_a_limited_number_of_chunks(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "CHUNK_ROWS", 1)
    for _ in range(2):
        ids = record.queue(*(order() for _ in range(4)))
        pause(record, ids[0])
    assert record.decisions.carry_on(record.clock.now(), chunks=3) == 3
    assert record.decisions.carry_on(record.clock.now(), chunks=50) == 5
    assert record.decisions.carry_on(record.clock.now()) == 0


# --- cancelled ---


def test_a_draft_is_withdrawn_and_its_reference_ids_are_free(record: Record) -> None:
    one = order()
    batch_id = stored(record.batches, [one], now=record.clock.now())
    assert record.decisions.cancel(batch_id, MAKER, record.clock.now())
    carry(record, batch_id)
    assert record.batches.counts(batch_id) == {State.CANCELLED: 1}
    assert record.batches.known("main", [one.reference_id]) == {}
    stored(record.batches, [one], now=record.clock.now())


def test_what_was_never_sent_is_cancelled_with_who_and_why(record: Record) -> None:
    one, two = record.queue(order(), order())
    # Turned away unread: proved not sent.
    record.answer(record.take(two), Step.CREATE, Outcome.NOT_SENT)
    cancel(record, one)
    assert [record.state(each) for each in (one, two)] == [State.CANCELLED] * 2
    last = record.events(one)[-1]
    assert (last.actor, last.cause) == ("ann", "cancelled: wrong month")
    row = record.row(one)
    assert (row.due_at, row.announced_until, row.settled_at) == (None, None, record.clock.now())
    assert carried_to(record, row.batch_id) is None


def test_what_is_proven_absent_is_cancelled_and_its_reference_id_stays_taken(
    record: Record,
) -> None:
    one = order()
    (payout_id,) = record.queue(one)
    record.unknown(payout_id)
    while record.state(payout_id) is State.UNKNOWN:
        record.clock.move_to(record.row(payout_id).due_at)
        record.answer(record.take(payout_id), Step.LOOK_UP, Outcome.NOT_FOUND, proves_absence=True)
    assert record.state(payout_id) is State.QUEUED
    cancel(record, payout_id)
    assert record.state(payout_id) is State.CANCELLED
    assert set(record.batches.known("main", [one.reference_id])) == {one.reference_id}


def test_what_a_person_had_tried_again_may_be_there_and_is_held(record: Record) -> None:
    (one,) = record.queue(order())
    record.held(one)
    record.settle(one, State.QUEUED)
    cancel(record, one)
    assert record.state(one) is State.HELD
    assert "look it up at the provider" in record.events(one)[-1].cause


def test_in_a_record_that_was_put_back_nothing_queued_is_called_unsent(record: Record) -> None:
    (one,) = record.queue(order())
    record.sql("UPDATE accounts SET restored_at = '2026-02-01 00:00:00'")
    cancel(record, one)
    assert record.state(one) is State.HELD
    assert record.row(one).doubted_at == record.clock.now()


def test_what_was_never_released_is_held_and_said_to_be(record: Record) -> None:
    (one,) = record.queue(order())
    payout = record.answer(
        record.take(one), Step.CREATE, Outcome.CREATED, provider_payout_id="p"
    ).payout
    record.answer(payout, Step.PROCESS, Outcome.NOT_SENT)
    cancel(record, one)
    assert record.state(one) is State.HELD
    assert "nothing releases it any more" in record.events(one)[-1].cause


def test_what_the_provider_has_is_held_but_not_under_a_worker_that_has_it(record: Record) -> None:
    one, two = record.queue(order(), order())
    record.created(one)
    claimed = record.answer(
        record.take(two), Step.CREATE, Outcome.CREATED, provider_payout_id="p"
    ).payout
    cancel(record, one)
    assert record.state(one) is State.HELD
    assert "may have been taken: look it up at the provider" in record.events(one)[-1].cause
    # Its release was asked for before; the worker comes back with the answer.
    assert record.state(two) is State.CREATED
    record.answer(claimed, Step.PROCESS, Outcome.PROCESSING)
    record.decisions.carry_on(record.clock.now())
    assert record.state(two) is State.PROCESSING
    assert carried_to(record, batch_of(record, two)) is not None
    record.clock.move_to(record.row(two).due_at)
    record.answer(record.take(two), Step.POLL, Outcome.PAID)
    record.decisions.carry_on(record.clock.now())
    assert carried_to(record, batch_of(record, two)) is None


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Outcome.CREATED, State.HELD),
        (Outcome.NOT_SENT, State.CANCELLED),
        (Outcome.PROCESSING, State.PROCESSING),
        (Outcome.UNKNOWN, State.UNKNOWN),
        (Outcome.REFUSED, State.FAILED),
        (Outcome.PAID, State.PAID),
    ],
)
def test_a_create_that_was_under_way_is_followed_to_where_it_can_stop(
    record: Record, outcome: Outcome, state: State
) -> None:
    (one,) = record.queue(order())
    payout = record.take(one)
    cancel(record, one)
    assert record.state(one) is State.CREATING
    recorded = record.answer(payout, Step.CREATE, outcome, provider_payout_id="p")
    assert recorded.next_step is not Step.PROCESS
    record.decisions.carry_on(record.clock.now())
    assert record.state(one) is state


def test_a_dead_workers_create_in_a_cancelled_batch_is_looked_up_and_then_withdrawn(
    record: Record,
) -> None:
    (one,) = record.queue(order())
    record.take(one)
    cancel(record, one)
    record.clock.sleep(91)
    record.store.expire_creates(record.clock.now())
    while record.state(one) is State.UNKNOWN:
        record.decisions.carry_on(record.clock.now())
        record.clock.move_to(record.row(one).due_at)
        record.answer(record.take(one), Step.LOOK_UP, Outcome.NOT_FOUND, proves_absence=True)
    assert record.claim(one) is None
    record.decisions.carry_on(record.clock.now())
    assert record.state(one) is State.CANCELLED


def test_a_cancelled_batch_is_neither_paused_resumed_nor_approved(record: Record) -> None:
    (one,) = record.queue(order())
    cancel(record, one)
    batch_id, now = batch_of(record, one), record.clock.now()
    for decide in (record.decisions.pause, record.decisions.resume, record.decisions.reject):
        with pytest.raises(ApprovalRefused, match="it is cancelled"):
            decide(batch_id, ANN, now)
    assert record.decisions.cancel(batch_id, ANN, now) is False


@pytest.mark.parametrize("decide", ["pause", "cancel"])
def test_a_finished_batch_cannot_be_stopped(record: Record, decide: str) -> None:
    (one,) = record.queue(order())
    record.answer(record.take(one), Step.CREATE, Outcome.PAID, provider_payout_id="p")
    with pytest.raises(ApprovalRefused, match="is finished"):
        getattr(record.decisions, decide)(batch_of(record, one), ANN, record.clock.now())
    found = record.batches.get(batch_of(record, one))
    assert found is not None
    assert found.decision == "approved"


@pytest.mark.parametrize("decide", ["pause", "resume"])
def test_a_draft_is_not_paused_nor_resumed(record: Record, decide: str) -> None:
    batch_id = stored(record.batches, [order()], now=record.clock.now())
    with pytest.raises(ApprovalRefused, match="waits for approval"):
        getattr(record.decisions, decide)(batch_id, ANN, record.clock.now())
    with pytest.raises(ApprovalRefused, match="no batch NONE"):
        getattr(record.decisions, decide)("NONE", ANN, record.clock.now())


def test_only_a_draft_is_cancelled_by_who_may_cancel_no_other(record: Record) -> None:
    (one,) = record.queue(order())
    with pytest.raises(ApprovalRefused, match="it is being paid"):
        record.decisions.cancel(batch_of(record, one), ANN, record.clock.now(), drafts_only=True)
    assert record.claim(one) is not None


# --- with workers at it ---


def test_each_payout_is_either_claimed_or_cancelled_whoever_is_first(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "CHUNK_ROWS", 5)
    ids = record.queue(*(order() for _ in range(60)))
    others = [record.again() for _ in range(3)]

    def claim(which: Record, some: list[int]) -> int:
        return sum(which.claim(one) is not None for one in some)

    def stop() -> None:
        record.decisions.cancel(batch_of(record, ids[0]), ANN, record.clock.now())
        carry(record, batch_of(record, ids[0]))

    claims = [lambda o=other, n=n: claim(o, ids[n::3]) for n, other in enumerate(others)]
    *taken, ended = together([*claims, stop])
    assert ended is None, ended
    counts = record.batches.counts(batch_of(record, ids[0]))
    assert counts.get(State.CREATING, 0) == sum(taken)
    assert counts.get(State.CANCELLED, 0) == 60 - sum(taken)
    for one in ids:
        (approved, last) = record.path(one)
        assert approved == ("draft", "queued")
        assert last == ("queued", str(record.state(one)))
    for other in others:
        other.close()


def test_two_who_carry_one_decision_out_move_each_row_once(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "CHUNK_ROWS", 3)
    ids = record.queue(*(order() for _ in range(40)))
    batch_id = batch_of(record, ids[0])
    record.decisions.cancel(batch_id, ANN, record.clock.now())
    others = [record, record.again(), record.again()]
    told = together([lambda o=other: carry(o, batch_id) for other in others])
    assert sum(told) == 14, told
    assert [record.path(one)[1:] for one in ids] == [[("queued", "cancelled")]] * 40
    for other in others[1:]:
        other.close()


# --- held payouts ---


def resolve(
    record: Record, payout_id: int, target: State, actor: Actor, people: int = 2
) -> Resolution:
    return record.decisions.resolve(
        payout_id, target, actor=actor, reason="asked", now=record.clock.now(), people=people
    )


def test_one_person_settles_where_one_is_enough(record: Record) -> None:
    (one,) = record.queue(order())
    record.held(one)
    assert resolve(record, one, State.PAID, ANN, people=1) == Resolution(State.PAID, None)
    deeds = History(record.database).of(batch_of(record, one))
    assert (deeds[-1].action, deeds[-1].actor) == (Action.RESOLVED, ANN)
    assert deeds[-1].note == f"{record.row(one).reference_id} as paid: asked"


def test_with_two_people_the_second_who_says_the_same_settles(record: Record) -> None:
    (one,) = record.queue(order())
    record.held(one)
    for _ in range(2):
        # The same person twice is one person.
        assert resolve(record, one, State.FAILED, ANN).state is State.HELD
        assert record.state(one) is State.HELD
    found = resolve(record, one, State.FAILED, BOB)
    assert found.state is State.FAILED
    assert found.before is not None
    assert found.before.actor == "ann"
    assert record.events(one)[-1].actor == "bob"
    actions = [deed.action for deed in History(record.database).of(batch_of(record, one))]
    assert actions[-3:] == [Action.PROPOSED, Action.PROPOSED, Action.RESOLVED]
    with pytest.raises(StaleState):
        resolve(record, one, State.FAILED, BOB)


def test_another_opinion_takes_the_place_of_the_first(record: Record) -> None:
    (one,) = record.queue(order())
    record.held(one)
    resolve(record, one, State.PAID, ANN)
    differs = resolve(record, one, State.FAILED, BOB)
    assert differs.state is State.HELD
    assert differs.before is not None
    assert (differs.before.target, differs.before.actor) == (State.PAID, "ann")
    # Ann's word stands no more, so Bob's own cannot be confirmed by Bob.
    assert resolve(record, one, State.FAILED, BOB).state is State.HELD
    assert resolve(record, one, State.FAILED, ANN).state is State.FAILED


def test_a_proposal_counts_for_no_later_time_that_the_payout_is_held(record: Record) -> None:
    (one,) = record.queue(order())
    record.held(one)
    resolve(record, one, State.PAID, ANN)
    batch_id = record.row(one).batch_id
    assert len(record.batches.proposals(batch_id)) == 1
    record.settle(one, State.UNKNOWN)
    assert record.batches.proposals(batch_id) == []
    record.answer(record.take(one), Step.LOOK_UP, Outcome.EXISTS)
    assert record.state(one) is State.HELD
    assert record.batches.proposals(batch_id) == []
    assert resolve(record, one, State.PAID, BOB) == Resolution(State.HELD, None)


def test_two_who_propose_the_same_at_once_settle_it_once(record: Record) -> None:
    (one,) = record.queue(order())
    record.held(one)
    told = together([lambda a=each: resolve(record, one, State.PAID, a) for each in (ANN, BOB)])
    assert sorted(str(each.state) for each in told) == ["held", "paid"], told
    assert [move for move in record.path(one) if move[0] == "held"] == [("held", "paid")]


def test_nothing_of_a_cancelled_batch_is_tried_again(record: Record) -> None:
    (one,) = record.queue(order())
    record.created(one)
    cancel(record, one)
    with pytest.raises(ApprovalRefused, match="not sent any more"):
        resolve(record, one, State.QUEUED, ANN, people=1)
    assert resolve(record, one, State.FAILED, ANN, people=1).state is State.FAILED


# --- the history ---


def test_each_decision_is_in_the_history_and_a_refused_one_is_not(record: Record) -> None:
    (one,) = record.queue(order())
    batch_id, now = batch_of(record, one), record.clock.now()
    record.decisions.pause(batch_id, ANN, now, "asked by the bank")
    record.decisions.pause(batch_id, BOB, now)
    record.decisions.resume(batch_id, BOB, now + timedelta(seconds=5))
    record.decisions.cancel(batch_id, ANN, now)
    with pytest.raises(ApprovalRefused):
        record.decisions.resume(batch_id, BOB, now)
    told = [(d.action, d.actor, d.note) for d in History(record.database).of(batch_id)]
    assert told == [
        ("stored", MAKER, None),
        ("approved", CHECKER, None),
        ("paused", ANN, "asked by the bank"),
        ("resumed", BOB, None),
        ("cancelled", ANN, None),
    ]


def test_a_decision_whose_history_cannot_be_written_is_not_made(record: Record) -> None:
    (one,) = record.queue(order())
    batch_id = batch_of(record, one)
    with record.database.write() as connection:
        connection.execute(text("ALTER TABLE batch_events RENAME TO gone"))
    with pytest.raises(Exception, match="batch_events"):
        record.decisions.pause(batch_id, ANN, record.clock.now())
    found = record.batches.get(batch_id)
    assert found is not None
    assert found.decision == "approved"
    with record.database.write() as connection:
        connection.execute(text("ALTER TABLE gone RENAME TO batch_events"))
