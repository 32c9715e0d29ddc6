"""Each account has queues of its own, one for each purpose, and every worker finds them by name."""

from __future__ import annotations

from itertools import product

from workers.queues import SWEEP, accounts_in, polls_first, queue_of, queues_of


def test_no_two_accounts_or_purposes_share_a_queue() -> None:
    names = ("main", "pay", "poll", "sweep", "a-b_1")
    queues = [queue_of(name, to_send=what) for name, what in product(names, (True, False))]
    assert sorted([*queues, SWEEP]) == sorted(set(queues_of(names)))
    assert len(queues_of(names)) == 2 * len(names) + 1


def test_the_accounts_are_read_back_from_the_queues() -> None:
    assert accounts_in(queues_of(["main", "other"])) == {"main", "other"}
    assert accounts_in(["poll.main"]) == {"main"}
    assert accounts_in([SWEEP]) == set()


def test_who_is_under_way_comes_before_those_who_begin_and_accounts_take_turns() -> None:
    turns = ["pay.b", "poll.b", "pay.a", SWEEP, "poll.a"]
    assert polls_first(turns) == ["poll.b", SWEEP, "poll.a", "pay.b", "pay.a"]
