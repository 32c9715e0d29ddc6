"""What a provider can do decides what a lost create leads to; no name is ever looked at."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from workers.record.model import Payout, Reply
from workers.record.status import Outcome, State, Step
from workers.record.verdict import Policy, Verdict, backoff_s, judge, not_again

from .conftest import policy
from .test_verdict import NOW, ago, in_doubt, payout

DAY_S = 72_000
ABSENT = Reply(outcome=Outcome.NOT_FOUND)
PROVEN: dict[str, Any] = {"lookups": 2, "last_sent_at": ago(600)}
KEYED: dict[str, Any] = {
    "refuses_duplicates": False,
    "repeatable_for_s": DAY_S,
    "shape": "as it was",
}


def looked_up(payout: Payout, **can: Any) -> Verdict:
    return judge(payout, Step.LOOK_UP, ABSENT, policy(**can), NOW)


def targets(verdict: Verdict) -> list[State]:
    return [state for state, _ in verdict.moves]


def test_absence_at_a_provider_with_a_key_is_sent_again_while_the_key_is_known() -> None:
    sent = in_doubt(sent_at=ago(DAY_S - 1), shape="as it was", **PROVEN)
    verdict = looked_up(sent, **KEYED)
    assert targets(verdict) == [State.QUEUED]
    assert verdict.changes["repeat_until"] == NOW + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"sent_at": ago(DAY_S), "shape": "as it was"}, "too late"),
        ({"sent_at": ago(700), "shape": "another"}, "settings have changed"),
    ],
)
def test_past_the_keys_time_or_in_another_shape_a_person_decides(
    changes: dict[str, Any], why: str
) -> None:
    verdict = looked_up(in_doubt(**{**PROVEN, **changes}), **KEYED)
    assert targets(verdict) == [State.HELD]
    assert why in verdict.moves[0][1]


def test_too_early_or_seen_too_seldom_is_no_proof_with_a_key_either() -> None:
    early = in_doubt(lookups=9, last_sent_at=ago(599), sent_at=ago(599), shape="as it was")
    seldom = in_doubt(lookups=1, last_sent_at=ago(700), sent_at=ago(700), shape="as it was")
    assert [targets(looked_up(one, **KEYED)) for one in (early, seldom)] == [[], []]


def test_without_a_key_and_without_refusal_of_duplicates_absence_is_a_persons() -> None:
    verdict = looked_up(in_doubt(**PROVEN), refuses_duplicates=False)
    assert targets(verdict) == [State.HELD]


@pytest.mark.parametrize(
    ("left_s", "shape", "why"),
    [
        (1, "as it was", None),
        (0, "as it was", "too late"),
        (1, "another", "settings have changed"),
    ],
)
def test_a_queued_payout_that_was_sent_before_is_looked_at_once_more_by_its_claim(
    left_s: int, shape: str, why: str | None
) -> None:
    until = NOW + timedelta(seconds=left_s)
    waiting = replace(payout(State.QUEUED), repeat_until=until, shape=shape, doubted_at=NOW)
    found = not_again(waiting, policy(**KEYED), NOW)
    assert found is None if why is None else why in str(found)


def test_a_queued_payout_that_was_never_in_doubt_has_no_such_limit() -> None:
    waiting = replace(payout(State.QUEUED), sent_at=ago(10 * DAY_S), shape="another")
    assert not_again(waiting, policy(**KEYED), NOW) is None


def test_one_absence_ends_an_unlisted_refusal_where_the_provider_is_known_for_it() -> None:
    refused = in_doubt(refusal_first="422: no such bank", last_sent_at=ago(1))
    verdict = looked_up(refused, refused_when_absent=True)
    assert targets(verdict) == [State.FAILED]
    assert verdict.changes["failure_reason"] == "422: no such bank"
    assert targets(looked_up(refused)) == []


def test_a_lost_create_is_not_ended_by_one_absence() -> None:
    verdict = looked_up(in_doubt(last_sent_at=ago(1)), refused_when_absent=True)
    assert targets(verdict) == []


def test_an_answer_that_only_a_person_can_judge_holds_the_payout() -> None:
    reply = Reply(outcome=Outcome.UNKNOWN, needs_person="the beneficiary is unknown there")
    verdict = judge(payout(State.CREATING), Step.CREATE, reply, policy(), NOW)
    assert verdict.moves == ((State.HELD, "the beneficiary is unknown there"),)


@pytest.mark.parametrize(("webhooks", "wait_s"), [(False, 2), (True, 30)])
def test_where_the_provider_tells_us_the_first_poll_waits_for_it(
    webhooks: bool, wait_s: int
) -> None:
    reply = Reply(outcome=Outcome.PROCESSING)
    used: Policy = policy(webhooks=webhooks)
    verdict = judge(payout(State.CREATING), Step.CREATE, reply, used, NOW)
    assert verdict.wait_s == wait_s


def test_an_unclear_answer_about_something_else_is_a_doubt_that_absence_does_not_end() -> None:
    reply = Reply(outcome=Outcome.UNKNOWN, reference_id="another")
    verdict = judge(payout(State.CREATING), Step.CREATE, reply, policy(), NOW)
    assert (targets(verdict), verdict.next_step) == ([State.UNKNOWN], Step.LOOK_UP)
    doubted = in_doubt(doubt=verdict.changes["doubt"], **PROVEN)
    assert targets(looked_up(doubted)) == [State.HELD]


def test_a_look_up_that_proves_nothing_ends_no_doubt_and_stops_no_create() -> None:
    empty = Reply(outcome=Outcome.NOT_FOUND, proves_absence=False)
    doubted = judge(in_doubt(**PROVEN), Step.LOOK_UP, empty, policy(), NOW)
    assert (targets(doubted), doubted.changes["lookups"]) == ([], 2)
    # It was turned away before: nothing can be there, and nothing speaks against it.
    turned_away = replace(payout(State.CREATING), attempts=2, attempts_excused=1)
    assert judge(turned_away, Step.LOOK_UP, empty, policy(), NOW).next_step is Step.CREATE


# --- what was once in doubt ---

DOUBTED: dict[str, Any] = {"doubted_at": ago(900)}


def created(reply: Reply, before: Payout, **can: Any) -> Verdict:
    return judge(before, Step.CREATE, reply, policy(**can), NOW)


@pytest.mark.parametrize("reply", [Reply(outcome=Outcome.UNKNOWN), Reply(outcome=Outcome.EXISTS)])
def test_a_create_that_may_be_there_is_marked_for_life(reply: Reply) -> None:
    assert created(reply, payout(State.CREATING)).changes["doubted_at"] == NOW
    before = payout(State.CREATING, **DOUBTED)
    assert created(reply, before).changes["doubted_at"] == before.doubted_at


@pytest.mark.parametrize(
    "reply",
    [
        Reply(outcome=Outcome.NOT_SENT),
        Reply(outcome=Outcome.ACCOUNT_FAULT),
        Reply(outcome=Outcome.UNKNOWN, refusal="422: odd"),
        Reply(outcome=Outcome.REFUSED),
    ],
)
def test_a_create_that_was_turned_away_is_no_doubt(reply: Reply) -> None:
    assert "doubted_at" not in created(reply, payout(State.CREATING)).changes


def test_a_refusal_after_a_doubt_is_looked_up_and_held_if_nothing_is_there() -> None:
    """It may be what the provider says to a repeat of what it has."""
    refused = Reply(outcome=Outcome.REFUSED, reason="in use")
    verdict = created(refused, payout(State.CREATING, **DOUBTED))
    assert targets(verdict) == [State.UNKNOWN]
    after = in_doubt(doubt=verdict.changes["doubt"], **DOUBTED, **PROVEN)
    assert targets(looked_up(after)) == [State.HELD]
    named = replace(refused, provider_payout_id="P-1")
    assert targets(created(named, payout(State.CREATING, **DOUBTED))) == [State.FAILED]


@pytest.mark.parametrize("can", [{}, {"refused_when_absent": True}])
def test_unlisted_refusals_after_a_doubt_are_a_persons(can: dict[str, Any]) -> None:
    again = in_doubt(refusal_first="400: 9001", refusal_last="400: 9001", **DOUBTED, **PROVEN)
    assert targets(looked_up(again, **can)) == [State.HELD]
    alone = in_doubt(refusal_first="400: 9001", refusal_last="400: 9001", **PROVEN)
    assert targets(looked_up(alone, **can)) == [State.FAILED]


def test_a_rate_limit_to_a_repeat_under_a_key_says_nothing_of_the_first() -> None:
    limited = Reply(outcome=Outcome.NOT_SENT, code="429", retry_after_s=5)
    before = payout(State.CREATING, **DOUBTED)
    assert targets(created(limited, before, **KEYED)) == [State.UNKNOWN]
    assert targets(created(limited, before)) == [State.QUEUED]
    assert targets(created(limited, payout(State.CREATING), **KEYED)) == [State.QUEUED]


def test_the_key_goes_on_after_a_lack_of_money_alone_and_stands_from_the_first_doubt() -> None:
    poor = Reply(outcome=Outcome.ACCOUNT_FAULT, low_balance=True)
    assert created(poor, payout(State.CREATING, key_no=2)).changes["key_no"] == 3
    assert "key_no" not in created(poor, payout(State.CREATING, key_no=2, **DOUBTED)).changes
    for unsure in (Reply(outcome=Outcome.ACCOUNT_FAULT), Reply(outcome=Outcome.NOT_SENT)):
        assert "key_no" not in created(unsure, payout(State.CREATING)).changes
    for before in (in_doubt(refusal_first="422: odd", **PROVEN), in_doubt(**DOUBTED, **PROVEN)):
        assert "key_no" not in looked_up(before, **KEYED).changes


def test_what_may_have_been_sent_is_not_sent_through_another_account() -> None:
    elsewhere = in_doubt(shape="old merchant", **DOUBTED, **PROVEN)
    assert targets(looked_up(elsewhere, shape="new merchant")) == [State.HELD]
    same = in_doubt(shape="old merchant", **DOUBTED, **PROVEN)
    assert targets(looked_up(same, shape="old merchant")) == [State.QUEUED]
    waiting = payout(State.QUEUED, shape="old merchant", **DOUBTED)
    assert not_again(waiting, policy(shape="new merchant"), NOW) is not None
    never_sent = payout(State.QUEUED, shape="old merchant")
    assert not_again(never_sent, policy(shape="new merchant"), NOW) is None


def test_a_look_up_without_proof_lets_nothing_be_repeated_that_would_pay_twice() -> None:
    empty = Reply(outcome=Outcome.NOT_FOUND, proves_absence=False)
    before = payout(State.CREATING, attempts=2, **DOUBTED)
    blind = judge(before, Step.LOOK_UP, empty, policy(refuses_duplicates=False), NOW)
    assert targets(blind) == [State.HELD]
    assert judge(before, Step.LOOK_UP, empty, policy(), NOW).next_step is Step.CREATE


def test_look_ups_before_a_create_that_are_not_answered_back_off() -> None:
    lost = Reply(outcome=Outcome.UNKNOWN)
    waits = [
        judge(
            payout(State.CREATING, attempts=9, attempts_excused=tries),
            Step.LOOK_UP,
            lost,
            policy(),
            NOW,
        ).wait_s
        for tries in (0, 1, 2, 20)
    ]
    assert waits == [5, 10, 20, 300]


def test_what_a_provider_was_told_to_pay_is_never_sent_again_and_known_by_that_id() -> None:
    told = in_doubt(confirmed_id="U-1", shape="as it was", **DOUBTED, **PROVEN)
    assert targets(looked_up(told, **KEYED)) == [State.HELD]
    assert not_again(payout(State.QUEUED, confirmed_id="U-1"), policy(**KEYED), NOW) is not None
    other = Reply(outcome=Outcome.REFUSED, provider_payout_id="U-2")
    found = judge(told, Step.LOOK_UP, other, policy(**KEYED), NOW)
    assert targets(found) == [State.HELD]
    same = Reply(outcome=Outcome.PAID, provider_payout_id="U-1")
    assert targets(judge(told, Step.LOOK_UP, same, policy(**KEYED), NOW)) == [State.PAID]


def test_backoff_doubles_and_never_overflows() -> None:
    delays = [backoff_s(n, first_s=5, max_s=300) for n in (0, 1, 5, 6, 10**9)]
    assert delays == [5, 10, 160, 300, 300]


@pytest.mark.parametrize(
    ("state", "step"),
    [
        (State.CREATING, Step.CREATE),
        (State.CREATED, Step.PROCESS),
        (State.PROCESSING, Step.POLL),
    ],
)
def test_what_was_turned_away_goes_behind_what_only_waited(state: State, step: Step) -> None:
    def wait_s(**says: Any) -> float:
        reply = Reply(outcome=Outcome.NOT_SENT, retry_after_s=77, **says)
        waits: float | None = judge(payout(state), step, reply, policy(), NOW).wait_s
        assert waits is not None
        return waits

    assert wait_s() < wait_s(code="429")
