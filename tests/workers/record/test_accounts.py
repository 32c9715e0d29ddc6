"""Accounts: paused with the first reason, probed by one, paced over all processes."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.workers.record.conftest import Record, together
from tests.worlds import USD, order
from workers.record.accounts import PROBE_FIRST_S, PROBE_MAX_S
from workers.record.money import Currency, Money
from workers.record.status import Outcome, State, Step

EUR = Currency.of("EUR")
SECOND_US = 1_000_000


def test_registering_again_changes_only_the_provider(record: Record) -> None:
    record.book.pause("main", "fault", "why", record.clock.now())
    record.book.register({"main": "payelata", "other": "echelon", "third": "ecart"})
    assert [pause.account for pause in record.book.pauses()] == ["main"]
    assert record.book.approvals("third") == 0


def test_an_account_registered_by_many_at_once_is_there_once(record: Record) -> None:
    told = together([lambda: record.book.register({"new": "payelata"})] * 8)
    assert told == [None] * 8
    assert record.book.approvals("new") == 0


def test_a_pause_keeps_its_first_reason(record: Record) -> None:
    since = record.clock.now()
    record.book.pause("main", "fault", "bad key", since)
    record.clock.sleep(5)
    record.book.pause("main", "outage", "no answer", record.clock.now())
    (pause,) = record.book.pauses()
    assert (pause.account, pause.kind, pause.reason, pause.since) == (
        "main",
        "fault",
        "bad key",
        since,
    )


def test_a_resumed_account_is_open_and_can_be_paused_anew(record: Record) -> None:
    record.book.pause("main", "fault", "bad key", record.clock.now())
    assert record.book.resume("main") is True
    assert record.book.resume("main") is False
    assert record.book.pauses() == []
    record.book.pause("main", "outage", "no answer", record.clock.now())
    assert [pause.kind for pause in record.book.pauses()] == ["outage"]


# --- probes ---


def test_a_probe_is_taken_by_one_only(record: Record) -> None:
    record.book.pause("main", "fault", "why", record.clock.now())
    record.clock.sleep(PROBE_FIRST_S)
    others = [record.again() for _ in range(3)]
    books = [one.book for one in [record, *others] * 4]
    taken = together([lambda b=b: b.take_probe("main", record.clock.now()) for b in books])
    for other in others:
        other.close()
    assert taken.count(True) == 1
    assert taken.count(False) == 15


def test_probes_come_after_delays_that_double_to_ten_minutes(record: Record) -> None:
    record.book.pause("main", "outage", "why", record.clock.now())
    delays = []
    for _ in range(7):
        paused_at = record.clock.now()
        (pause,) = record.book.pauses()
        delays.append((pause.probe_at - paused_at).total_seconds())
        record.clock.move_to(pause.probe_at - timedelta(seconds=1))
        assert not record.book.take_probe("main", record.clock.now())
        record.clock.sleep(1)
        assert record.book.take_probe("main", record.clock.now())
    assert delays == [30, 60, 120, 240, 480, PROBE_MAX_S, PROBE_MAX_S]


def test_an_account_that_a_person_stopped_or_that_is_open_is_not_probed(record: Record) -> None:
    record.book.pause("main", "person", "lunch", record.clock.now())
    record.clock.sleep(10**6)
    assert not record.book.take_probe("main", record.clock.now())
    assert not record.book.take_probe("other", record.clock.now())
    assert not record.book.take_probe("nobody", record.clock.now())


def test_probing_begins_anew_with_a_new_pause(record: Record) -> None:
    for _ in range(2):
        record.book.pause("main", "fault", "why", record.clock.now())
        record.clock.sleep(PROBE_FIRST_S)
        assert record.book.take_probe("main", record.clock.now())
        record.book.resume("main")


# --- pace ---


def take(record: Record, rate: int, *, burst: int, wait_us_max: int = 0) -> int | None:
    interval_us = SECOND_US // rate
    return record.book.take_slot(
        "main",
        record.clock.now(),
        interval_us=interval_us,
        burst_us=burst * interval_us,
        wait_us_max=wait_us_max,
    )


@pytest.mark.parametrize(("rate", "burst"), [(5, 5), (1, 1), (10, 3)])
def test_a_burst_passes_at_once_and_then_the_rate_holds(
    record: Record, rate: int, burst: int
) -> None:
    assert [take(record, rate, burst=burst) for _ in range(burst)] == [0] * burst
    assert take(record, rate, burst=burst) is None
    record.clock.sleep(1 / rate)
    assert take(record, rate, burst=burst) == 0
    assert take(record, rate, burst=burst) is None


def test_no_second_sees_more_calls_than_the_rate_once_the_burst_is_used(record: Record) -> None:
    passed = 0
    for _ in range(100):
        passed += take(record, 5, burst=5) is not None
        record.clock.sleep(0.05)
    # Five seconds: the burst of five, and five a second.
    assert 29 <= passed <= 30


def test_a_rest_gives_back_no_more_than_the_burst(record: Record) -> None:
    take(record, 5, burst=5)
    record.clock.sleep(3600)
    assert [take(record, 5, burst=5) for _ in range(6)] == [0] * 5 + [None]


def test_slots_within_the_wait_are_taken_in_order_and_a_refused_one_is_not(record: Record) -> None:
    waits = [take(record, 1, burst=1, wait_us_max=3 * SECOND_US) for _ in range(6)]
    assert waits == [0, SECOND_US, 2 * SECOND_US, 3 * SECOND_US, None, None]
    record.clock.sleep(1)
    assert take(record, 1, burst=1, wait_us_max=3 * SECOND_US) == 3 * SECOND_US


def test_threads_share_the_rate(record: Record) -> None:
    others = [record.again() for _ in range(3)]
    sharing = [record, *others] * 4
    waits = together([lambda r=r: take(r, 5, burst=5) for r in sharing])
    for other in others:
        other.close()
    assert sorted(waits, key=lambda wait: wait is None) == [0] * 5 + [None] * 11


def test_looking_at_the_wait_takes_nothing(record: Record) -> None:
    def wait_us() -> int:
        return record.book.slot_wait_us("main", record.clock.now(), burst_us=0)

    assert wait_us() == 0
    take(record, 1, burst=1)
    assert wait_us() == wait_us() == SECOND_US
    record.clock.sleep(1)
    assert wait_us() == 0


def test_accounts_have_a_pace_each(record: Record) -> None:
    take(record, 1, burst=1)
    wait = record.book.take_slot(
        "other", record.clock.now(), interval_us=SECOND_US, burst_us=SECOND_US, wait_us_max=0
    )
    assert wait == 0


# --- money promised ---


def test_approved_payouts_that_are_not_final_are_promised_with_their_fees(record: Record) -> None:
    one, two, three, _ = record.queue(
        order(amount=Money(100, USD)),
        order(amount=Money(20, USD)),
        order(amount=Money(3, USD)),
        order(amount=Money(7, EUR), account="other"),
    )
    record.sql("UPDATE payouts SET fee_expected_minor = 1000 WHERE id = :i", i=two)
    assert record.book.promised("main") == {USD: Money(1123, USD)}
    assert record.book.promised("other") == {EUR: Money(7, EUR)}
    record.answer(record.take(one), Step.CREATE, Outcome.PAID)
    record.held(three)
    assert record.book.promised("main") == {USD: Money(1023, USD)}


def test_drafts_are_not_promised(record: Record) -> None:
    (one,) = record.queue(order())
    record.sql("UPDATE payouts SET state = 'draft' WHERE id = :i", i=one)
    assert record.book.promised("main") == {}


@pytest.mark.parametrize("state", list(State))
def test_each_state_is_promised_or_not(record: Record, state: State) -> None:
    (one,) = record.queue(order(amount=Money(5, USD)))
    record.sql("UPDATE payouts SET state = :s WHERE id = :i", s=state.value, i=one)
    expected = state not in ("draft", "paid", "failed", "cancelled", "returned")
    assert bool(record.book.promised("main")) is expected


@pytest.mark.parametrize("state", list(State))
def test_a_batch_needs_what_nobody_is_paying_yet_and_others_need_what_was_promised(
    record: Record, state: State
) -> None:
    (one,) = record.queue(order(amount=Money(5, USD)))
    record.queue(order(amount=Money(70, USD)))
    record.sql("UPDATE payouts SET state = :s, fee_expected_minor = 1", s=state.value)
    batch_id = record.row(one).batch_id
    needed = {"draft", "queued", "creating", "unknown", "created", "held"}
    assert record.book.unspent("main", batch_id) == (
        {USD: Money(6, USD)} if state in needed else {}
    )
    promised = state in needed - {"draft"} | {"processing"}
    others = record.book.promised("main", besides=batch_id)
    assert others == ({USD: Money(71, USD)} if promised else {})


def test_a_promise_beyond_64_bits_is_exact(record: Record) -> None:
    amount = Money(10**18 - 1, USD)
    record.queue(*(order(amount=amount) for _ in range(9)))
    assert record.book.promised("main") == {USD: Money(9 * (10**18 - 1), USD)}


def test_the_smallest_queued_amount_is_what_a_balance_must_allow(record: Record) -> None:
    _, small, sent = record.queue(*(order(amount=Money(minor, USD)) for minor in (30, 20, 10)))
    record.take(sent)
    assert record.book.smallest_queued("main") == {USD: Money(20, USD)}
    record.take(small)
    assert record.book.smallest_queued("main") == {USD: Money(30, USD)}
