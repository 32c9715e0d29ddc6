"""What each answer to each call means for a payout, whole and in any order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.record.conftest import policy
from workers.record.model import Payout, Reply
from workers.record.money import Currency, Money
from workers.record.status import MAYBE_SENT, State, Step, is_allowed
from workers.record.status import Outcome as Out
from workers.record.verdict import (
    EXCUSED_MAX,
    LOOKUPS_MIN,
    WATCH_EVERY_S,
    Verdict,
    judge,
    may_release,
    tries_used_up,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
USD = Currency.of("USD")
FOUND = [Out.CREATED, Out.PROCESSING, Out.PAID, Out.PARTLY_PAID, Out.REFUSED, Out.RETURNED]


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def payout(state: State = State.CREATING, **changes: Any) -> Payout:
    """A payout of 10.00 USD in its first attempt, sent ten seconds ago."""
    values: dict[str, Any] = {
        "id": 1,
        "batch_id": "B",
        "row": 1,
        "reference_id": "R-1",
        "account": "main",
        "provider": "payelata",
        "service": "s",
        "amount": Money(1000, USD),
        "state": state,
        "provider_payout_id": None if state in (State.CREATING, State.UNKNOWN) else "P-1",
        "provider_status": None,
        "confirmed_id": None,
        "attempts": 1,
        "attempts_excused": 0,
        "claim_no": 1,
        "claimed_until": NOW,
        "sent_at": ago(10),
        "last_sent_at": ago(10),
        "lookups": 0,
        "polls": 0,
        "released_at": None,
        "releases": 0,
        "refusal_first": None,
        "refusal_last": None,
        "attempts_base": 0,
        "doubted_at": None,
        "key_no": 0,
        "repeat_until": None,
        "shape": None,
        "doubt": None,
        "settled_at": NOW if state is State.PAID else None,
    }
    return Payout(**{**values, **changes})


def in_doubt(**changes: Any) -> Payout:
    return payout(State.UNKNOWN, **changes)


def states(verdict: Verdict) -> str:
    return " ".join(state.value for state, _ in verdict.moves)


@dataclass(frozen=True)
class Case:
    """An answer to a call about a payout, and what the design demands."""

    name: str
    here: Payout
    step: Step
    reply: Reply
    # The states it goes through; empty: it stays.
    goes: str
    next_step: Step | None = None
    can: Any = None

    def judged(self) -> Verdict:
        return judge(self.here, self.step, self.reply, policy(**(self.can or {})), NOW)


def say(outcome: Out, **more: Any) -> Reply:
    return Reply(outcome=outcome, **more)


ABSENT = say(Out.NOT_FOUND)
CREATING, UNKNOWN = payout(State.CREATING), payout(State.UNKNOWN)
CREATED, PROCESSING, PAID = (
    payout(state) for state in (State.CREATED, State.PROCESSING, State.PAID)
)
C, P, L, R = Step.CREATE, Step.PROCESS, Step.LOOK_UP, Step.POLL
PROVEN = {"lookups": 2, "last_sent_at": ago(600)}
NO_LOOK_UP = {"look_up": False}
ONE_STEP = {"two_step": False}
RELEASED = {"releases": 1, "released_at": ago(5)}
EUR_AMOUNT = Money(1000, Currency.of("EUR"))

AFTER_CREATE = [
    Case("stored", CREATING, C, say(Out.CREATED), "created", P),
    Case("stored-in-one-step", CREATING, C, say(Out.CREATED), "created", None, ONE_STEP),
    Case("under-way", CREATING, C, say(Out.PROCESSING), "processing"),
    Case("paid-at-once", CREATING, C, say(Out.PAID), "paid"),
    Case("refused", CREATING, C, say(Out.REFUSED), "failed"),
    Case("came-back", CREATING, C, say(Out.RETURNED), "paid returned"),
    Case("partly", CREATING, C, say(Out.PARTLY_PAID), "processing held"),
    Case("not-sent", CREATING, C, say(Out.NOT_SENT), "queued"),
    Case("rate-limit", CREATING, C, say(Out.NOT_SENT, retry_after_s=9), "queued"),
    Case("account", CREATING, C, say(Out.ACCOUNT_FAULT), "queued"),
    Case("taken", CREATING, C, say(Out.EXISTS), "unknown", L),
    Case("lost", CREATING, C, say(Out.UNKNOWN), "unknown"),
    Case("odd", CREATING, C, ABSENT, "unknown"),
    Case("unlisted", CREATING, C, say(Out.UNKNOWN, refusal="x"), "unknown"),
    Case("blind", CREATING, C, say(Out.UNKNOWN), "unknown held", None, NO_LOOK_UP),
]
AFTER_LOOK_UP = [
    Case("waits", UNKNOWN, L, say(Out.CREATED), "created", P),
    Case("under-way", UNKNOWN, L, say(Out.PROCESSING), "processing"),
    Case("paid", UNKNOWN, L, say(Out.PAID), "paid"),
    Case("refused", UNKNOWN, L, say(Out.REFUSED), "failed"),
    Case("came-back", UNKNOWN, L, say(Out.RETURNED), "paid returned"),
    Case("partly", UNKNOWN, L, say(Out.PARTLY_PAID), "processing held"),
    Case("two-hits", UNKNOWN, L, say(Out.EXISTS), "held"),
    Case("no-answer", UNKNOWN, L, say(Out.UNKNOWN), ""),
    Case("not-asked", UNKNOWN, L, say(Out.NOT_SENT), ""),
    Case("account", UNKNOWN, L, say(Out.ACCOUNT_FAULT), ""),
    Case("absent-once", payout(State.UNKNOWN), L, ABSENT, ""),
    Case("proven", in_doubt(**PROVEN), L, ABSENT, "queued"),
    Case("too-early", in_doubt(lookups=9, last_sent_at=ago(599)), L, ABSENT, ""),
    Case("too-few-look-ups", in_doubt(lookups=1, last_sent_at=ago(6000)), L, ABSENT, ""),
    Case("no-answer-proves-nothing", in_doubt(**PROVEN), L, say(Out.UNKNOWN), ""),
    Case(
        "duplicates-not-refused",
        in_doubt(**PROVEN),
        L,
        ABSENT,
        "held",
        None,
        {"refuses_duplicates": False},
    ),
    Case(
        "doubt", in_doubt(doubt="amount: 99.00 USD, sent: 10.00 USD", **PROVEN), L, ABSENT, "held"
    ),
    Case(
        "doubt-resolved",
        in_doubt(doubt="amount: 99.00 USD, sent: 10.00 USD"),
        L,
        say(Out.PAID, amount=Money(1000, USD)),
        "paid",
    ),
    Case("refused-once", in_doubt(refusal_first="no", **PROVEN), L, ABSENT, "queued"),
    Case(
        "refused-twice-alike",
        in_doubt(refusal_first="no", refusal_last="no", **PROVEN),
        L,
        ABSENT,
        "failed",
    ),
    Case(
        "refused-twice-otherwise",
        in_doubt(refusal_first="no", refusal_last="never", **PROVEN),
        L,
        ABSENT,
        "held",
    ),
    Case("past-its-limit", in_doubt(last_sent_at=ago(86_400)), L, say(Out.UNKNOWN), "held"),
    Case("repeat-absent", payout(attempts=2), L, ABSENT, "", C),
    Case("repeat-found", payout(attempts=2), L, say(Out.PAID), "paid"),
    Case("repeat-found-waiting", payout(attempts=2), L, say(Out.CREATED), "created", P),
    Case("repeat-two-hits", payout(attempts=2), L, say(Out.EXISTS), "held"),
    Case("repeat-no-answer", payout(attempts=2), L, say(Out.UNKNOWN), "queued"),
]
AFTER_PROCESS = [
    Case("released", CREATED, P, say(Out.PROCESSING), "processing"),
    Case("paid", CREATED, P, say(Out.PAID), "paid"),
    Case("refused", CREATED, P, say(Out.REFUSED), "failed"),
    Case("came-back", CREATED, P, say(Out.RETURNED), "paid returned"),
    Case("partly", CREATED, P, say(Out.PARTLY_PAID), "held"),
    Case("still-created", CREATED, P, say(Out.CREATED), ""),
    Case("lost", CREATED, P, say(Out.UNKNOWN), ""),
    Case("not-found", CREATED, P, ABSENT, ""),
    Case("not-sent", CREATED, P, say(Out.NOT_SENT), ""),
    Case("account", CREATED, P, say(Out.ACCOUNT_FAULT), ""),
    Case("differs", CREATED, P, say(Out.PAID, amount=EUR_AMOUNT), "held"),
]
AFTER_POLL = [
    Case("never-released", CREATED, R, say(Out.CREATED), "", P),
    Case("just-released", payout(State.CREATED, **RELEASED), R, say(Out.CREATED), ""),
    Case(
        "released-in-vain",
        payout(State.CREATED, releases=2, released_at=ago(30)),
        R,
        say(Out.CREATED),
        "",
        P,
    ),
    Case(
        "releases-used-up",
        payout(State.CREATED, releases=3, released_at=ago(30)),
        R,
        say(Out.CREATED),
        "held",
    ),
    Case("by-itself", CREATED, R, say(Out.PROCESSING), "processing"),
    Case("one-step-waits", CREATED, R, say(Out.CREATED), "", None, ONE_STEP),
    Case("still", PROCESSING, R, say(Out.PROCESSING), ""),
    Case("no-answer", PROCESSING, R, say(Out.UNKNOWN), ""),
    Case("not-found", PROCESSING, R, ABSENT, ""),
    Case("account", PROCESSING, R, say(Out.ACCOUNT_FAULT), ""),
    *(
        Case(f"{here.state}-{outcome}", here, R, say(outcome), goes)
        for here in (CREATED, PROCESSING)
        for outcome, goes in (
            (Out.PAID, "paid"),
            (Out.REFUSED, "failed"),
            (Out.RETURNED, "paid returned"),
            (Out.PARTLY_PAID, "held"),
        )
    ),
    *(
        Case(
            f"{state}-past-its-limit-{outcome}",
            payout(state, last_sent_at=ago(259_200)),
            R,
            say(outcome),
            "held",
        )
        for state, outcome in (
            (State.PROCESSING, Out.PROCESSING),
            (State.PROCESSING, Out.UNKNOWN),
            (State.CREATED, Out.NOT_FOUND),
        )
    ),
]
AFTER_PAID = [
    Case("paid", PAID, R, say(Out.PAID), ""),
    Case("came-back", PAID, R, say(Out.RETURNED), "returned"),
    Case("failed-after-paid", PAID, R, say(Out.REFUSED), "returned"),
    Case("partly", PAID, R, say(Out.PARTLY_PAID), ""),
    Case("processing-again", PAID, R, say(Out.PROCESSING), ""),
    Case("no-answer", PAID, R, say(Out.UNKNOWN), ""),
    Case("other-amount", PAID, R, say(Out.RETURNED, amount=EUR_AMOUNT), ""),
]
TABLE = [*AFTER_CREATE, *AFTER_LOOK_UP, *AFTER_PROCESS, *AFTER_POLL, *AFTER_PAID]


@pytest.mark.parametrize("case", TABLE, ids=[f"{c.step}-{c.here.state}-{c.name}" for c in TABLE])
def test_an_answer_leads_where_the_design_says(case: Case) -> None:
    verdict = case.judged()
    assert (states(verdict), verdict.next_step) == (case.goes, case.next_step)


DIFFERENT = [
    {"amount": Money(1001, USD)},
    {"amount": EUR_AMOUNT},
    {"reference_id": "R-2"},
    {"differs": ("service: card, sent: pix",)},
]


@pytest.mark.parametrize("outcome", FOUND)
@pytest.mark.parametrize("other", DIFFERENT)
def test_an_accepted_answer_that_differs_is_read_once_more_then_held(
    outcome: Out, other: Any
) -> None:
    first = judge(CREATING, C, say(outcome, **other), policy(), NOW)
    assert (states(first), first.next_step) == ("unknown", L)
    doubting = replace(UNKNOWN, doubt=first.changes["doubt"])
    assert states(judge(doubting, L, say(outcome, **other), policy(), NOW)) == "held"


@pytest.mark.parametrize("step", [P, R])
@pytest.mark.parametrize("other", [*DIFFERENT, {"provider_payout_id": "P-2"}])
def test_a_known_payout_that_reads_otherwise_is_held(step: Step, other: Any) -> None:
    assert states(judge(CREATED, step, say(Out.PAID, **other), policy(), NOW)) == "held"


def test_what_differs_overwrites_nothing_that_is_known() -> None:
    reply = say(Out.PAID, provider_payout_id="P-2", fee=Money(1, USD), status="done")
    changes = judge(PROCESSING, R, reply, policy(), NOW).changes
    assert changes == {"provider_status": "done"}


def test_the_facts_of_a_matching_answer_are_kept() -> None:
    reply = say(
        Out.PAID,
        provider_payout_id="P-1",
        status="done",
        fee=Money(5, USD),
        processed=EUR_AMOUNT,
        exchange_rate="0.9",
    )
    changes = judge(PROCESSING, R, reply, policy(), NOW).changes
    assert changes["provider_status"] == "done"
    assert (changes["fee_minor"], changes["fee_currency"]) == (5, "USD")
    assert (changes["processed_minor"], changes["processed_currency"]) == (1000, "EUR")
    assert (changes["exchange_rate"], changes["settled_at"]) == ("0.9", NOW)


@pytest.mark.parametrize("reply", [say(Out.NOT_SENT, retry_after_s=9), say(Out.ACCOUNT_FAULT)])
def test_an_attempt_that_was_turned_away_is_excused(reply: Reply) -> None:
    assert judge(CREATING, C, reply, policy(), NOW).changes["attempts_excused"] == 1


def test_an_attempt_that_never_left_counts_and_backs_off() -> None:
    waits = []
    for attempts in range(1, 5):
        verdict = judge(payout(attempts=attempts), C, say(Out.NOT_SENT), policy(), NOW)
        assert "attempts_excused" not in verdict.changes
        waits.append(verdict.wait_s)
    assert waits == [2, 4, 8, 16]


def test_a_retry_after_is_waited_for() -> None:
    reply = say(Out.NOT_SENT, retry_after_s=77)
    assert judge(CREATING, C, reply, policy(), NOW).wait_s == 77


def test_tries_end_at_attempts_max_without_the_excused_ones() -> None:
    settings = policy().settings
    assert tries_used_up(payout(attempts=4), settings) is None
    assert tries_used_up(payout(attempts=5), settings) == "5 creates led to nothing"
    assert tries_used_up(payout(attempts=9, attempts_excused=5), settings) is None
    turned_away = payout(attempts=EXCUSED_MAX, attempts_excused=EXCUSED_MAX)
    assert str(EXCUSED_MAX) in str(tries_used_up(turned_away, settings))


@pytest.mark.parametrize("outcome", [Out.NOT_SENT, Out.ACCOUNT_FAULT])
def test_a_release_that_was_not_taken_does_not_count(outcome: Out) -> None:
    for releases, released_at in ((1, None), (2, ago(5))):
        here = payout(State.CREATED, releases=releases, released_at=ago(5))
        changes = judge(here, P, say(outcome), policy(), NOW).changes
        assert (changes["releases"], changes["released_at"]) == (releases - 1, released_at)


@pytest.mark.parametrize("outcome", [Out.UNKNOWN, Out.NOT_FOUND, Out.EXISTS])
def test_a_lost_answer_to_a_release_counts_and_is_read(outcome: Out) -> None:
    verdict = judge(payout(State.CREATED, **RELEASED), P, say(outcome), policy(), NOW)
    assert "releases" not in verdict.changes
    assert verdict.next_step is None
    assert verdict.wait_s == 2


@pytest.mark.parametrize(
    ("releases", "rested_s", "may"),
    [(0, 0, True), (1, 29, False), (1, 30, True), (2, 30, True), (3, 30, False), (3, 9999, False)],
)
def test_a_payout_is_released_again_after_a_rest_and_so_often(
    releases: int, rested_s: int, may: bool
) -> None:
    released_at = ago(rested_s) if releases else None
    here = payout(State.CREATED, releases=releases, released_at=released_at)
    assert may_release(here, policy().settings, NOW) is may


def test_still_created_after_a_release_is_read_again_before_the_next_release() -> None:
    here = payout(State.CREATED, releases=1, released_at=ago(29), polls=6)
    assert judge(here, R, say(Out.CREATED), policy(), NOW).wait_s == 1


def test_two_different_refusals_are_both_kept() -> None:
    first = judge(CREATING, C, say(Out.UNKNOWN, refusal="a"), policy(), NOW).changes
    assert first["refusal_first"] == "a"
    again = payout(attempts=2, refusal_first="a")
    second = judge(again, C, say(Out.UNKNOWN, refusal="b"), policy(), NOW).changes
    assert second["refusal_last"] == "b"
    assert "refusal_first" not in second


def test_polls_back_off_up_to_their_maximum() -> None:
    waits = [
        judge(payout(State.PROCESSING, polls=n), R, say(Out.PROCESSING), policy(), NOW).wait_s
        for n in (0, 1, 2, 7, 8, 2000)
    ]
    assert waits == [2, 4, 8, 256, 300, 300]


def test_a_paid_payout_is_read_daily_while_it_is_watched_and_then_no_more() -> None:
    def wait_s(days: float, watch: int) -> float | None:
        here = payout(State.PAID, settled_at=ago(days * 86_400))
        return judge(here, R, say(Out.PAID), policy(watch_paid_days=watch), NOW).wait_s

    assert wait_s(0, 7) == wait_s(6, 7) == WATCH_EVERY_S
    assert wait_s(6.5, 7) is None
    assert wait_s(0, 0) is None


def test_money_that_is_partly_back_is_shown_as_a_warning() -> None:
    changes = judge(PAID, R, say(Out.PARTLY_PAID), policy(), NOW).changes
    assert changes["warning"] == "partly paid, after it was paid"
    other = judge(PAID, R, say(Out.PAID, amount=EUR_AMOUNT), policy(), NOW).changes
    assert other["warning"].startswith("after it was paid: amount")


def test_late_news_does_not_overwrite_what_was_paid() -> None:
    reply = say(Out.PAID, provider_payout_id="P-1", fee=Money(9, USD), status="later")
    assert judge(PAID, R, reply, policy(), NOW).changes == {"provider_status": "later"}


# --- any answers in any order ---

REPLIES = st.builds(
    Reply,
    outcome=st.sampled_from(Out),
    amount=st.sampled_from([None, None, Money(1000, USD), Money(999, USD)]),
    reference_id=st.sampled_from([None, "R-1", "R-1", "R-2"]),
    provider_payout_id=st.sampled_from([None, "P-1", "P-1", "P-2"]),
    retry_after_s=st.sampled_from([None, None, 1, 60]),
    refusal=st.sampled_from([None, "a", "b"]),
)
ABLE = st.builds(
    policy,
    two_step=st.booleans(),
    refuses_duplicates=st.booleans(),
    look_up=st.booleans(),
    watch_paid_days=st.integers(0, 7),
)
LEGAL = {
    State.CREATING: [C, L],
    State.UNKNOWN: [L],
    State.CREATED: [P, R],
    State.PROCESSING: [P, R],
    State.PAID: [R],
}


def _applied(here: Payout, verdict: Verdict) -> Payout:
    known = {k: v for k, v in verdict.changes.items() if k in Payout.__dataclass_fields__}
    state = verdict.moves[-1][0] if verdict.moves else here.state
    return replace(here, state=state, **known)


def _may_queue(here: Payout, step: Step, reply: Reply, can: Any, now: datetime) -> bool:
    """Whether the design lets this answer send the payout back to the queue."""
    if here.state is State.CREATING and step is Step.CREATE:
        return reply.outcome in (Out.NOT_SENT, Out.ACCOUNT_FAULT)
    if here.state is State.CREATING:
        # The look-up before a repeated create was not answered: nothing was sent in this attempt.
        return reply.outcome not in (*FOUND, Out.EXISTS, Out.NOT_FOUND)
    assert here.last_sent_at is not None
    waited_s = (now - here.last_sent_at).total_seconds()
    proven = here.lookups + 1 >= LOOKUPS_MIN and waited_s >= can.settings.lookup_grace_s
    absent = reply.outcome is Out.NOT_FOUND
    return here.state is State.UNKNOWN and absent and proven and can.refuses_duplicates


@given(
    can=ABLE,
    answers=st.lists(
        st.tuples(REPLIES, st.integers(0, 1), st.sampled_from([0, 1, 40, 300, 700, 90_000])),
        max_size=25,
    ),
)
def test_no_order_of_answers_breaks_the_table_or_queues_what_may_have_been_sent(
    can: Any, answers: list[tuple[Reply, int, int]]
) -> None:
    here, now = payout(sent_at=NOW, last_sent_at=NOW), NOW
    for reply, which, passed_s in answers:
        now += timedelta(seconds=passed_s)
        if here.state is State.QUEUED:
            here = replace(
                here, state=State.CREATING, attempts=here.attempts + 1, lookups=0, last_sent_at=now
            )
        if here.state not in LEGAL:
            break
        steps = LEGAL[here.state]
        step = steps[which % len(steps)]
        if step is Step.PROCESS:
            here = replace(here, releases=here.releases + 1, released_at=now)
        verdict, source = judge(here, step, reply, can, now), here.state
        for target, cause in verdict.moves:
            assert is_allowed(source, target), f"{source} to {target}: {cause}"
            assert cause
            if target is State.QUEUED and source in MAYBE_SENT:
                assert _may_queue(here, step, reply, can, now)
            source = target
        if verdict.next_step is not None:
            assert verdict.wait_s == 0
        if source in MAYBE_SENT | {State.QUEUED}:
            assert verdict.wait_s is not None, "open, and never due again"
        here = _applied(here, verdict)
