"""The store: one claim at a time, one writer of states, and nothing that a crash could hide."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select

from tests.workers.record.conftest import Record, opened, policy, together
from tests.worlds import USD, order
from workers.errors import IllegalMove, StaleState
from workers.record.model import Payout, Reply
from workers.record.money import Money
from workers.record.restores import RestoreBook
from workers.record.status import Outcome, State, Step, is_allowed, is_final, sources_of
from workers.record.tables import payout_events, payouts


def test_a_claim_is_won_by_exactly_one_of_sixteen_threads(record: Record) -> None:
    (one,) = record.queue(order())
    others = [record.again() for _ in range(3)]
    claims = together([lambda r=r: r.claim(one) for r in [record, *others] * 4])
    for other in others:
        other.close()
    won = [claim for claim in claims if claim is not None]
    assert [type(claim).__name__ for claim in won] == ["Claim"]
    assert record.row(one).attempts == record.row(one).claim_no == 1
    assert record.path(one)[1:] == [("queued", "creating")]


def test_a_claim_commits_the_intent_with_the_attempts_number(record: Record) -> None:
    (one,) = record.queue(order(reference_id="R-7"))
    now = record.clock.now()
    claim = record.claim(one)
    assert claim is not None
    row = record.row(one)
    assert (row.state, row.attempts, row.claim_no) == ("creating", 1, 1)
    assert row.claimed_until == row.due_at == now + timedelta(seconds=90)
    assert row.sent_at == row.last_sent_at == now
    assert record.events(one)[-1].cause == "intent to create, attempt 1"
    assert claim.order.reference_id == "R-7"
    assert claim.order.fields == {"account": "987654321"}


@pytest.mark.parametrize("decision", ["paused", "cancelled", "draft", "rejected"])
def test_a_queued_payout_of_a_batch_that_is_not_approved_is_not_claimed(
    record: Record, decision: str
) -> None:
    (one,) = record.queue(order())
    record.sql("UPDATE batches SET decision = :d", d=decision)
    assert record.claim(one) is None
    assert record.state(one) is State.QUEUED


@pytest.mark.parametrize("kind", ["fault", "balance", "outage", "person"])
def test_a_queued_payout_of_a_paused_account_is_not_claimed(record: Record, kind: str) -> None:
    (one,) = record.queue(order())
    record.book.pause("main", kind, "why", record.clock.now())
    assert record.claim(one) is None
    restores = RestoreBook(record.database)
    restores.open(restores.standing("main"), "opened by ann")
    assert record.claim(one) is not None


def test_what_is_not_due_claimed_drafted_or_unknown_is_not_claimed(record: Record) -> None:
    (one,) = record.queue(order())
    record.due.postpone(one, record.clock.now() + timedelta(seconds=1))
    assert record.claim(one) is None
    record.clock.sleep(1)
    record.take(one)
    assert record.claim(one) is None
    assert record.claim(one + 999) is None
    record.policies.pop("main")
    (two,) = record.queue(order())
    assert record.claim(two) is None
    assert record.state(two) is State.QUEUED


def test_an_expired_create_is_not_claimed_but_looked_up_after_the_sweep(record: Record) -> None:
    (one,) = record.queue(order())
    record.take(one)
    record.clock.sleep(91)
    assert record.claim(one) is None
    assert record.store.expire_creates(record.clock.now()) == 1
    assert record.take(one).state is State.UNKNOWN
    assert record.row(one).attempts == 1


def test_a_create_that_still_has_its_claim_is_not_expired(record: Record) -> None:
    (one,) = record.queue(order())
    record.take(one)
    record.clock.sleep(90)
    assert record.store.expire_creates(record.clock.now()) == 0
    assert record.state(one) is State.CREATING


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.EXISTS])
def test_a_final_or_held_payout_is_never_claimed(record: Record, outcome: Outcome) -> None:
    (one,) = record.queue(order())
    if outcome is Outcome.REFUSED:
        record.answer(record.take(one), Step.CREATE, outcome)
    else:
        record.held(one)
    record.clock.sleep(10**7)
    record.sql("UPDATE payouts SET due_at = NULL WHERE id = :i", i=one)
    assert record.claim(one) is None


# Each column that was approved, edited behind the record's back.
EDITS = {
    "amount_minor": "1001",
    "currency": "'EUR'",
    "currency_exponent": "3",
    "reference_id": "'T-EDITED'",
    "account": "'other'",
    "service": "'other'",
    "description": "'other'",
    "metadata": """'{"a": "b"}'""",
    "replaces": "'T-0'",
    "seal": "'0000'",
    "sealed_data": "(SELECT p.sealed_data FROM payouts p WHERE p.id <> payouts.id)",
}


@pytest.mark.parametrize(("column", "value"), EDITS.items())
def test_an_edited_row_is_held_and_never_claimed(record: Record, column: str, value: str) -> None:
    one, _ = record.queue(order(), order(fields={"account": "1"}))
    assert record.sql(f"UPDATE payouts SET {column} = {value} WHERE id = :i", i=one) == 1
    assert record.claim(one) is None
    assert record.row(one).attempts == 0
    assert record.row(one).due_at is None
    assert record.path(one)[1:] == [("queued", "held")]
    assert record.claim(one) is None


def test_a_row_whose_seal_was_taken_off_is_held(record: Record) -> None:
    (one,) = record.queue(order())
    record.sql("UPDATE payouts SET seal = NULL")
    assert record.claim(one) is None
    assert "seal is broken" in record.events(one)[-1].cause


def test_another_rows_seal_does_not_hold(record: Record) -> None:
    one, two = record.queue(order(), order())
    record.sql("UPDATE payouts SET seal = :s WHERE id = :i", s=record.row(two).seal, i=one)
    assert record.claim(one) is None
    assert record.state(one) is State.HELD


def test_a_draft_that_was_queued_by_hand_is_held(record: Record) -> None:
    (one,) = record.queue(order())
    record.sql("UPDATE payouts SET seal = NULL, state = 'draft'")
    record.sql("UPDATE payouts SET state = 'queued'")
    assert record.claim(one) is None
    assert record.state(one) is State.HELD


def test_used_up_tries_are_held(record: Record) -> None:
    record.policies["main"] = policy(changes={"attempts_max": 2})
    (one,) = record.queue(order())
    for _ in range(2):
        record.answer(record.take(one), Step.CREATE, Outcome.NOT_SENT)
        record.clock.sleep(300)
    assert record.claim(one) is None
    assert record.path(one)[-1] == ("queued", "held")
    assert record.events(one)[-1].cause == "2 creates led to nothing"


# --- answers ---


def test_every_move_appends_exactly_one_event(record: Record) -> None:
    (one,) = record.queue(order())
    recorded = record.answer(
        record.take(one), Step.CREATE, Outcome.CREATED, provider_payout_id="p", code="201"
    )
    assert recorded.next_step is Step.PROCESS
    record.answer(recorded.payout, Step.PROCESS, Outcome.PROCESSING)
    record.clock.sleep(5)
    record.answer(record.take(one), Step.POLL, Outcome.RETURNED)
    assert record.path(one) == [
        ("draft", "queued"),
        ("queued", "creating"),
        ("creating", "created"),
        ("created", "processing"),
        ("processing", "paid"),
        ("paid", "returned"),
    ]
    notes = [e.cause for e in record.events(one) if e.from_state == e.to_state]
    assert notes == ["intent to release, number 1"]
    assert [e.provider_code for e in record.events(one) if e.from_state == "creating"] == ["201"]


def test_the_intent_to_release_is_committed_before_the_release(record: Record) -> None:
    (one,) = record.queue(order())
    record.answer(record.take(one), Step.CREATE, Outcome.CREATED, provider_payout_id="p")
    row = record.row(one)
    assert (row.state, row.releases, row.released_at) == ("created", 1, record.clock.now())
    assert row.claimed_until is not None


@pytest.mark.parametrize("stop", ["batch", "account"])
def test_nothing_is_released_while_a_person_or_the_account_stopped_sending(
    record: Record, stop: str
) -> None:
    (one,) = record.queue(order())
    claimed = record.take(one)
    if stop == "batch":
        record.sql("UPDATE batches SET decision = 'paused'")
    else:
        record.book.pause("main", "person", "lunch", record.clock.now())
    recorded = record.answer(claimed, Step.CREATE, Outcome.CREATED, provider_payout_id="p")
    assert recorded.next_step is None
    row = record.row(one)
    assert (row.state, row.releases, row.claimed_until) == ("created", 0, None)
    assert row.due_at == record.clock.now() + timedelta(seconds=300)


def test_a_zombies_create_answer_changes_nothing(record: Record) -> None:
    (one,) = record.queue(order())
    zombie = record.take(one)
    record.clock.sleep(91)
    record.store.expire_creates(record.clock.now())
    before, events = record.row(one), record.events(one)
    with pytest.raises(StaleState, match="was lost"):
        record.answer(zombie, Step.CREATE, Outcome.PAID)
    assert (record.row(one), record.events(one)) == (before, events)


def test_a_zombies_read_changes_nothing_once_another_has_the_payout(record: Record) -> None:
    (one,) = record.queue(order())
    record.clock.move_to(record.created(one).due_at)
    zombie = record.take(one)
    record.clock.sleep(91)
    owner = record.take(one)
    before, events = record.row(one), record.events(one)
    with pytest.raises(StaleState):
        record.answer(zombie, Step.POLL, Outcome.REFUSED)
    assert (record.row(one), record.events(one)) == (before, events)
    assert record.answer(owner, Step.POLL, Outcome.PAID).payout.state is State.PAID


def test_an_answer_is_recorded_once(record: Record) -> None:
    (one,) = record.queue(order())
    claimed = record.take(one)
    record.answer(claimed, Step.CREATE, Outcome.PAID)
    with pytest.raises(StaleState):
        record.answer(claimed, Step.CREATE, Outcome.PAID)
    assert record.path(one)[-1] == ("creating", "paid")


def test_the_same_answer_from_many_threads_is_recorded_once(record: Record) -> None:
    (one,) = record.queue(order())
    claimed = record.take(one)
    told = together([lambda: record.answer(claimed, Step.CREATE, Outcome.PAID)] * 8)
    assert sorted(type(one).__name__ for one in told) == ["Recorded"] + ["StaleState"] * 7
    assert record.path(one)[2:] == [("creating", "paid")]


def test_an_account_fault_pauses_the_account_and_the_row_stays_queued(record: Record) -> None:
    (one,) = record.queue(order())
    record.answer(record.take(one), Step.CREATE, Outcome.ACCOUNT_FAULT, account_fault="bad key")
    assert record.state(one) is State.QUEUED
    assert [(p.account, p.kind, p.reason) for p in record.book.pauses()] == [
        ("main", "fault", "bad key")
    ]


def test_a_low_balance_pauses_for_the_balance(record: Record) -> None:
    (one,) = record.queue(order())
    low = {"account_fault": "low", "low_balance": True}
    record.answer(record.take(one), Step.CREATE, Outcome.ACCOUNT_FAULT, **low)
    assert [pause.kind for pause in record.book.pauses()] == ["balance"]


def test_a_rate_limit_blocks_the_whole_account_for_so_long(record: Record) -> None:
    one, two = record.queue(order(), order())
    record.answer(record.take(one), Step.CREATE, Outcome.NOT_SENT, code="429", retry_after_s=30)
    assert record.claim(two) is None
    record.clock.sleep(30)
    assert record.claim(two) is not None


def test_a_near_poll_keeps_the_claim_and_stores_nothing(record: Record) -> None:
    (one,) = record.queue(order())
    claimed = record.take(one)
    first = record.answer(claimed, Step.CREATE, Outcome.PROCESSING, keep_s=2)
    assert first.next_step is Step.POLL
    before = record.row(one)
    again = record.answer(first.payout, Step.POLL, Outcome.PROCESSING, keep_s=4)
    assert (again.next_step, record.row(one)) == (Step.POLL, before)
    record.answer(again.payout, Step.POLL, Outcome.PROCESSING, keep_s=1)
    row = record.row(one)
    assert row.claimed_until is None
    assert row.due_at > record.clock.now()


def test_a_warning_is_journalled_even_if_nothing_moves(record: Record) -> None:
    (one,) = record.queue(order())
    first = record.answer(record.take(one), Step.CREATE, Outcome.PROCESSING, keep_s=2)
    record.answer(first.payout, Step.POLL, Outcome.PROCESSING, keep_s=9, warning="partial")
    last = record.events(one)[-1]
    assert (last.from_state, last.to_state) == ("processing", "processing")
    assert last.cause == "warning: partial"
    assert record.row(one).warning == "partial"


# --- people ---


@pytest.mark.parametrize("target", [s for s in State if State.HELD in sources_of(s)])
def test_a_person_may_settle_a_held_payout(record: Record, target: State) -> None:
    (one,) = record.queue(order())
    record.held(one)
    settled = record.settle(one, target, actor="ann", reason="called them")
    last = record.events(one)[-1]
    assert settled.state is target
    assert (last.from_state, last.to_state) == ("held", target)
    assert (last.actor, last.cause) == ("ann", "decided: called them")
    assert (record.row(one).due_at is None) is is_final(target)


@pytest.mark.parametrize("target", [s for s in State if State.HELD not in sources_of(s)])
def test_nobody_may_decide_what_the_table_does_not_have(record: Record, target: State) -> None:
    (one,) = record.queue(order())
    record.held(one)
    with pytest.raises(IllegalMove):
        record.settle(one, target, actor="ann", reason="")
    assert record.state(one) is State.HELD


@pytest.mark.parametrize("target", [State.PAID, State.QUEUED, State.FAILED])
def test_only_a_held_payout_is_settled(record: Record, target: State) -> None:
    (one,) = record.queue(order())
    record.unknown(one)
    events = record.events(one)
    with pytest.raises(StaleState, match="not held"):
        record.settle(one, target, actor="ann", reason="")
    assert record.events(one) == events


def test_two_people_do_not_both_decide(record: Record) -> None:
    (one,) = record.queue(order())
    record.held(one)

    def decide(target: State) -> Payout:
        return record.settle(one, target, actor="a", reason="")

    told = together([lambda t=t: decide(t) for t in (State.PAID, State.QUEUED) * 4])
    assert sum(isinstance(one, Payout) for one in told) == 1
    assert len([move for move in record.path(one) if move[0] == "held"]) == 1


# --- sums are conserved ---


class AnyLife(RuleBasedStateMachine):
    """Payouts whose workers answer, die, come back late and are doubled, in any order."""

    template: ClassVar[Path]

    @initialize(amounts=st.lists(st.integers(1, 10**12), min_size=1, max_size=4))
    def submit(self, amounts: list[int]) -> None:
        self.folder = TemporaryDirectory()
        copy(self.template, f"{self.folder.name}/paybatch.db")
        self.record = opened(f"sqlite:///{self.folder.name}/paybatch.db")
        self.ids = self.record.queue(*(order(amount=Money(minor, USD)) for minor in amounts))
        self.total = sum(amounts)
        # Workers with a claim, alive or not: what they know, and the call they are in.
        self.workers: list[tuple[Payout, Step]] = []
        self.finals: dict[int, State] = {}

    @rule(data=st.data())
    def pay(self, data: st.DataObject) -> None:
        """A message for a payout comes, or comes again."""
        claim = self.record.claim(data.draw(st.sampled_from(self.ids)))
        if claim is None:
            return
        first = {State.CREATING: Step.CREATE, State.UNKNOWN: Step.LOOK_UP}
        step = first.get(claim.payout.state, Step.POLL)
        if step is Step.CREATE and claim.payout.attempts > 1:
            step = Step.LOOK_UP
        self.workers.append((claim.payout, step))

    @precondition(lambda self: self.workers)
    @rule(
        data=st.data(),
        outcome=st.sampled_from(Outcome),
        differs=st.sampled_from([(), (), (), ("amount",)]),
        keep_s=st.sampled_from([0, 10]),
        stays=st.booleans(),
    )
    def answer(
        self, data: st.DataObject, outcome: Outcome, differs: Any, keep_s: float, stays: bool
    ) -> None:
        """A worker gets an answer, maybe long after its claim ran out, maybe twice."""
        worker = data.draw(st.sampled_from(self.workers))
        payout, step = worker
        if not stays:
            self.workers.remove(worker)
        reply = Reply(outcome=outcome, differs=differs, provider_payout_id=f"p{payout.id}")
        now, can = self.record.clock.now(), self.record.policies["main"]
        try:
            done = self.record.store.record(payout, step, reply, can, now, keep_s=keep_s)
        except StaleState:
            return
        if done.next_step is not None:
            self.workers.append((done.payout, done.next_step))

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        self.workers.remove(data.draw(st.sampled_from(self.workers)))

    @rule(seconds=st.sampled_from([1, 5, 91, 300, 700, 90_000, 300_000]))
    def time_passes(self, seconds: float) -> None:
        self.record.clock.sleep(seconds)

    @rule()
    def sweep(self) -> None:
        self.record.store.expire_creates(self.record.clock.now())
        self.record.due.announce(self.record.clock.now(), window=2, announce_s={"main": 120})

    @rule(data=st.data(), decided=st.sampled_from(State))
    def decide(self, data: st.DataObject, decided: State) -> None:
        one = data.draw(st.sampled_from(self.ids))
        with suppress(StaleState, IllegalMove):
            self.record.settle(one, decided, actor="ann", reason="")

    @invariant()
    def nothing_is_lost_or_made_up(self) -> None:
        with self.record.database.read() as connection:
            rows = connection.execute(select(payouts)).all()
            events = connection.execute(select(payout_events).order_by(payout_events.c.id)).all()
        assert [row.id for row in rows] == self.ids
        assert sum(row.amount_minor for row in rows) == self.total
        tallies = self.record.batches.tallies(rows[0].batch_id)
        assert sum(tally.amount.minor for tally in tallies) == self.total
        for row in rows:
            self._chain_is_unbroken(row, [e for e in events if e.payout_id == row.id])

    def _chain_is_unbroken(self, row: Any, events: Any) -> None:
        here = State.DRAFT
        for event in events:
            assert event.from_state == here
            target = State(event.to_state)
            assert target is here or is_allowed(here, target)
            here = target
        assert row.state == here
        was = self.finals.get(row.id, here)
        assert here is was or (was, here) == (State.PAID, State.RETURNED)
        if is_final(here):
            self.finals[row.id] = here

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.record.close()
            self.folder.cleanup()


def test_whatever_happens_no_payout_is_lost_made_up_or_moved_unseen(
    sqlite_template: Path,
) -> None:
    AnyLife.template = sqlite_template
    limits = settings(
        max_examples=25,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(AnyLife, settings=limits)
