"""The sweep finds what is due: each message once, a lost one again, a dead worker's create."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from tests.worlds import HandClock, Post, approved, order, settings, stored
from workers import payment, sweep
from workers.errors import BrokerUnreachable
from workers.queues import queue_of
from workers.record.accounts import PROBE_FIRST_S
from workers.record.batches import BatchBook
from workers.record.due import Due
from workers.record.model import Reply
from workers.record.money import Currency, Money
from workers.record.status import Outcome, State, Step
from workers.runtime import Runtime
from workers.simulator.payelata import read_flags, serve

ANNOUNCE_S = 120


class Installation:
    """A runtime on a hand-moved clock, its batches and its post."""

    def __init__(self, runtime: Runtime, clock: HandClock) -> None:
        self.runtime, self.clock = runtime, clock
        self.book = BatchBook(runtime.store)
        self.post = Post()

    def approved(self, count: int, **changes: object) -> list[int]:
        """The ids of so many queued payouts."""
        batch = approved(self.book, [order(**changes) for _ in range(count)], now=self.clock.now())
        return [row.id for row in self.book.each(batch)]

    def sweep(self) -> list[int]:
        """What a sweep announces now."""
        sweep.sweep(self.runtime, self.post)
        return self.post.take()

    def state(self, payout_id: int) -> State:
        with self.runtime.database.read() as connection:
            rows = connection.exec_driver_sql(f"SELECT state FROM payouts WHERE id = {payout_id}")
            return State(rows.scalar_one())


def close(runtime: Runtime) -> None:
    """Close the database, and the connections to the provider."""
    for account in runtime.accounts.values():
        account.provider._transport.close()
    runtime.close()


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with serve(read_flags(["--quiet", "--settle", "0"])) as running:
        clock = HandClock()
        made = settings(tmp_path, base_url=running.base_url, dispatch_window=5)
        runtime = Runtime.open(made, clock)
        yield Installation(runtime, clock)
        close(runtime)


def test_what_is_due_is_announced_once_with_the_time_after_which_it_is_worthless(
    installation: Installation,
) -> None:
    ids = installation.approved(3)
    sweep.sweep(installation.runtime, installation.post)
    until = installation.clock.now() + timedelta(seconds=ANNOUNCE_S)
    assert installation.post.messages == [Due(one, "main", True, until, 120) for one in ids]
    installation.post.take()
    assert installation.sweep() == []


def test_a_message_that_nobody_takes_is_sent_again_when_its_mark_runs_out(
    installation: Installation,
) -> None:
    ids = installation.approved(2)
    post, runtime = installation.post, installation.runtime
    sweep.sweep(runtime, post)
    installation.clock.sleep(ANNOUNCE_S - 1)
    assert sweep.sweep(runtime, post).announced == 0
    installation.clock.sleep(2)
    assert sweep.sweep(runtime, post).announced == 2
    assert post.take() == [*ids, *ids]


def test_messages_that_are_gone_while_none_waits_are_sent_again_soon(
    installation: Installation,
) -> None:
    ids = installation.approved(2)
    assert installation.sweep() == ids
    # Taken from the broker, and nothing came of them: it was flushed, or their worker died.
    installation.clock.sleep(sweep.LOST_S - 1)
    assert installation.sweep() == []
    installation.clock.sleep(2)
    swept = sweep.sweep(installation.runtime, installation.post)
    assert (swept.lost, installation.post.take()) == (2, ids)


def test_messages_that_are_gone_are_sent_again_soon_though_others_wait_all_the_time(
    installation: Installation,
) -> None:
    """A killed worker had fetched them, and the queue behind it never empties."""
    post, runtime, clock = installation.post, installation.runtime, installation.clock
    ids = installation.approved(4)
    sweep.sweep(runtime, post)
    # The first two are taken; a worker has claimed one, and died with the other one.
    for one in post.messages[:2]:
        if one.payout_id != ids[0]:
            assert runtime.store.claim(one.payout_id, runtime.policies, clock.now())
    post.messages = post.messages[2:]
    clock.sleep(sweep.LOST_S - 1)
    assert sweep.sweep(runtime, post).lost == 0
    clock.sleep(2)
    # Whatever else is announced meanwhile comes after them.
    later = installation.approved(1)
    swept = sweep.sweep(runtime, post)
    assert (swept.lost, post.take()) == (1, [ids[2], ids[3], ids[0], *later])


def test_what_was_sent_long_before_the_next_message_is_gone(installation: Installation) -> None:
    post, runtime, clock = installation.post, installation.runtime, installation.clock
    lost = installation.approved(2)
    assert installation.sweep() == lost
    clock.sleep(sweep.LOST_S + 1)
    later = installation.approved(1)
    sweep.announce(runtime, post)
    assert sweep.sweep(runtime, post).lost == 2
    assert post.take() == [*later, *lost]


def test_where_the_broker_does_not_show_the_next_message_its_queue_must_be_empty(
    installation: Installation,
) -> None:
    class Silent(Post):
        def next_of(self, queue: str) -> None:
            return None

    post, runtime = Silent(), installation.runtime
    lost, _ = installation.approved(2)
    sweep.sweep(runtime, post)
    post.messages = [one for one in post.messages if one.payout_id != lost]
    installation.clock.sleep(sweep.LOST_S + 1)
    assert sweep.sweep(runtime, post).lost == 0


def test_what_is_put_off_or_claimed_is_not_taken_for_lost(installation: Installation) -> None:
    runtime, clock = installation.runtime, installation.clock
    off, claimed = installation.approved(2)
    installation.sweep()
    runtime.due.postpone(off, clock.now() + timedelta(seconds=60))
    assert runtime.store.claim(claimed, runtime.policies, clock.now())
    clock.sleep(sweep.LOST_S + 1)
    assert sweep.sweep(runtime, installation.post).lost == 0


def test_while_the_broker_is_away_the_rest_of_a_sweep_goes_on(installation: Installation) -> None:
    waits, dead = installation.approved(2)
    runtime, post = installation.runtime, installation.post
    assert runtime.store.claim(dead, runtime.policies, installation.clock.now())
    installation.clock.sleep(runtime.accounts["main"].settings.claim_s + 1)
    post.away = BrokerUnreachable("gone")
    assert sweep.sweep(runtime, post).expired == 1
    with pytest.raises(BrokerUnreachable):
        sweep.announce(runtime, post)
    post.away = None
    # Nothing counts as announced that was not sent.
    assert set(installation.sweep()) == {waits, dead}


def test_what_is_to_be_asked_about_does_not_wait_behind_what_is_to_be_sent(
    installation: Installation,
) -> None:
    runtime, clock = installation.runtime, installation.clock
    (asked,) = installation.approved(1)
    claim = runtime.store.claim(asked, runtime.policies, clock.now())
    assert claim is not None
    lost = Reply(outcome=Outcome.UNKNOWN)
    policy = runtime.policies["main"]
    runtime.store.record(claim.payout, Step.CREATE, lost, policy, clock.now())
    to_send = installation.approved(12)
    clock.sleep(60)
    assert set(installation.sweep()) == {asked, *to_send[:5]}
    queues = {queue_of("main", to_send=what) for what in (True, False)}
    assert len(queues) == 2


def test_a_full_accounts_payouts_come_back_one_after_the_other(installation: Installation) -> None:
    installation.approved(8)
    runtime, clock = installation.runtime, installation.clock
    slots = runtime.accounts["main"].slots
    # Two places, each kept for about two seconds: one becomes free every second.
    slots.limit(2)
    for _ in range(30):
        slots.take()
        slots.leave(2)
    while slots.take() is None:
        pass
    for payout_id in installation.sweep():
        payment.pay(payout_id, runtime)
    # They fill the window: nothing more is announced that would find no room either.
    assert installation.sweep() == []
    came_back = []
    for _ in range(8):
        clock.sleep(1)
        came_back.append(installation.sweep())
    assert max(len(each) for each in came_back) <= 2
    assert sum(len(each) for each in came_back) == 5


def test_no_more_than_a_window_is_announced_at_a_time(installation: Installation) -> None:
    ids = installation.approved(12)
    assert installation.sweep() == ids[:5]
    assert installation.sweep() == []
    payment.pay(ids[0], installation.runtime)
    assert installation.sweep() == [ids[5]]


def test_drafts_and_settled_payouts_are_not_announced(installation: Installation) -> None:
    stored(installation.book, [order()], now=installation.clock.now())
    [paid] = installation.approved(1)
    assert installation.sweep() == [paid]
    payment.pay(paid, installation.runtime)
    assert installation.state(paid) is State.PAID
    installation.clock.sleep(ANNOUNCE_S + 1)
    assert installation.sweep() == []


def test_only_the_batch_that_is_asked_for_is_announced(installation: Installation) -> None:
    installation.approved(2)
    batch = approved(installation.book, [order()], now=installation.clock.now())
    assert sweep.announce(installation.runtime, installation.post, batch) == 1
    assert installation.post.take() == [row.id for row in installation.book.each(batch)]


def test_sweeps_at_the_same_time_announce_each_payout_once(installation: Installation) -> None:
    ids = installation.approved(5)
    with ThreadPoolExecutor(8) as pool:
        swept = list(
            pool.map(lambda _: sweep.sweep(installation.runtime, installation.post), range(16))
        )
    assert sum(one.announced for one in swept) == 5
    assert sorted(installation.post.take()) == ids


def test_a_dead_workers_create_is_looked_up_and_never_queued(installation: Installation) -> None:
    [payout_id] = installation.approved(1)
    runtime = installation.runtime
    # The worker dies between its intent and the provider's answer.
    claim = runtime.store.claim(payout_id, runtime.policies, installation.clock.now())
    assert claim is not None
    assert installation.sweep() == []
    installation.clock.sleep(runtime.accounts["main"].settings.claim_s + 1)
    swept = sweep.sweep(runtime, installation.post)
    assert swept.expired == 1
    assert installation.state(payout_id) is State.UNKNOWN
    assert sweep.sweep(runtime, installation.post).expired == 0


def test_a_paused_account_is_probed_after_a_while_and_opened_once_it_answers(
    installation: Installation,
) -> None:
    ids = installation.approved(2)
    runtime, clock = installation.runtime, installation.clock
    runtime.book.pause("main", "fault", "the key was refused", clock.now())
    assert installation.sweep() == []
    clock.sleep(PROBE_FIRST_S - 1)
    assert installation.sweep() == []
    clock.sleep(2)
    swept = sweep.sweep(runtime, installation.post)
    assert (swept.probed, installation.post.take()) == (1, ids)
    assert runtime.book.pauses() == []


def test_an_account_that_a_person_paused_stays_paused(installation: Installation) -> None:
    installation.approved(1)
    runtime, clock = installation.runtime, installation.clock
    runtime.book.pause("main", "person", "month's end", clock.now())
    clock.sleep(100 * PROBE_FIRST_S)
    assert installation.sweep() == []
    assert [pause.reason for pause in runtime.book.pauses()] == ["month's end"]


def test_an_account_without_money_stays_paused_until_it_covers_a_payout(tmp_path: Path) -> None:
    with serve(read_flags(["--quiet", "--balance", "USD=50"])) as running:
        clock = HandClock()
        runtime = Runtime.open(settings(tmp_path, base_url=running.base_url), clock)
        installation = Installation(runtime, clock)
        installation.approved(1, amount=Money(50_01, Currency.of("USD")))
        account = runtime.accounts["main"]
        runtime.book.pause("main", "balance", "not enough USD", clock.now())
        assert sweep.probe(account, runtime) is not None
        assert installation.sweep() == []
        installation.approved(1, amount=Money(49_99, Currency.of("USD")))
        assert sweep.probe(account, runtime) is None
        assert len(installation.sweep()) == 2
        close(runtime)


def test_a_provider_that_does_not_answer_a_probe_keeps_its_account_paused(tmp_path: Path) -> None:
    clock = HandClock()
    runtime = Runtime.open(settings(tmp_path), clock)
    runtime.book.pause("main", "outage", "10 calls in a row were not answered", clock.now())
    assert sweep.probe(runtime.accounts["main"], runtime)
    assert len(runtime.book.pauses()) == 1
    close(runtime)
