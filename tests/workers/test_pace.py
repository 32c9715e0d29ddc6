"""An account's pace is kept over all processes, its breaker opens only for lost answers, and its
calls are counted without standing in anybody's way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event

from tests.worlds import HandClock
from workers.clock import SystemClock
from workers.pace import (
    BREAKER_FAILURES,
    COUNTS_S,
    THREADS_MAX,
    TURN_S_MAX,
    TURN_S_MIN,
    WAIT_S_MAX,
    AccountGate,
    Slots,
    room_for,
    shares,
    threads_for,
    window_at,
)
from workers.providers.transport import Paced
from workers.record.accounts import AccountBook
from workers.record.calls import CallBook
from workers.record.database import Database

# More calls at a time than any test of something else makes.
MANY = 1000


@pytest.fixture
def book(tmp_path: Path) -> Iterator[AccountBook]:
    database = Database(f"sqlite:///{tmp_path}/paybatch.db")
    database.prepare()
    made = AccountBook(database)
    made.register({"main": "payelata", "other": "payelata"})
    yield made
    database.close()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def test_a_gate_without_a_rate_never_waits(book: AccountBook, clock: HandClock) -> None:
    gate, started = AccountGate("main", 0, book, clock, calls_max=MANY), clock.monotonic()
    for _ in range(100):
        gate.enter()
    assert gate.wait_s() == 0
    assert clock.monotonic() == started


@pytest.mark.parametrize(("rate", "burst"), [(5, 5), (1, 1), (0.5, 1), (20, 20)])
def test_one_seconds_calls_pass_at_once_and_then_one_every_interval(
    book: AccountBook, clock: HandClock, rate: float, burst: int
) -> None:
    gate, started = AccountGate("main", rate, book, clock, calls_max=MANY), clock.monotonic()
    for _ in range(burst):
        gate.enter()
    assert clock.monotonic() == started
    for number in range(1, 6):
        gate.enter()
        assert clock.monotonic() - started == pytest.approx(number / rate)


def test_gates_of_one_account_share_its_rate(book: AccountBook, clock: HandClock) -> None:
    one, two = (AccountGate("main", 2, book, clock, calls_max=MANY) for _ in range(2))
    started = clock.monotonic()
    one.enter()
    two.enter()
    assert clock.monotonic() == started
    two.enter()
    assert clock.monotonic() - started == pytest.approx(0.5)


def test_gates_of_two_accounts_do_not(book: AccountBook, clock: HandClock) -> None:
    started = clock.monotonic()
    for name in ("main", "other"):
        AccountGate(name, 1, book, clock, calls_max=MANY).enter()
    assert clock.monotonic() == started


class _Jammed(HandClock):
    """A clock of callers that all come at the same moment."""

    def sleep(self, seconds: float) -> None:
        assert seconds <= WAIT_S_MAX


def test_a_call_whose_turn_is_too_far_off_is_not_made(book: AccountBook) -> None:
    gate = AccountGate("main", 1, book, _Jammed(), calls_max=MANY)
    for _ in range(1 + WAIT_S_MAX):
        gate.enter()
    for _ in range(3):
        with pytest.raises(Paced):
            gate.enter()


def test_a_refused_call_takes_nobodys_turn(book: AccountBook) -> None:
    clock = _Jammed()
    gate = AccountGate("main", 1, book, clock, calls_max=MANY)
    for _ in range(1 + WAIT_S_MAX):
        gate.enter()
    with pytest.raises(Paced):
        gate.enter()
    HandClock.sleep(clock, 1)
    gate.enter()
    with pytest.raises(Paced):
        gate.enter()


def test_the_wait_is_told_in_whole_seconds_and_takes_nothing(book: AccountBook) -> None:
    clock = _Jammed()
    gate = AccountGate("main", 1, book, clock, calls_max=MANY)
    assert gate.wait_s() == 0
    for waited in range(1, 4):
        gate.enter()
        assert gate.wait_s() == gate.wait_s() == waited
    HandClock.sleep(clock, 2.5)
    assert gate.wait_s() == 0


def answer(gate: AccountGate, word: str = "2xx", took_us: int = 1_000) -> None:
    gate.enter()
    gate.leave(answered=True, answer=word, took_us=took_us)


def lose(gate: AccountGate) -> None:
    gate.enter()
    gate.leave(answered=False, answer="ReadTimeout", took_us=1_000)


def _pauses(book: AccountBook) -> list[tuple[str, str]]:
    return [(pause.account, pause.kind) for pause in book.pauses()]


def test_the_breaker_opens_after_so_many_lost_answers_in_a_row(
    book: AccountBook, clock: HandClock
) -> None:
    gate = AccountGate("main", 0, book, clock, calls_max=MANY)
    for _ in range(9):
        lose(gate)
    assert _pauses(book) == []
    lose(gate)
    assert _pauses(book) == [("main", "outage")]
    assert BREAKER_FAILURES == 10


def test_one_answer_starts_the_count_anew(book: AccountBook, clock: HandClock) -> None:
    gate = AccountGate("main", 0, book, clock, calls_max=MANY)
    for _ in range(5):
        for _ in range(9):
            lose(gate)
        answer(gate)
    assert _pauses(book) == []


def test_answered_calls_never_open_the_breaker(book: AccountBook, clock: HandClock) -> None:
    gate = AccountGate("main", 0, book, clock, calls_max=MANY)
    for _ in range(50):
        answer(gate)
    assert _pauses(book) == []


def test_the_breaker_can_open_again_after_the_account_was_resumed(
    book: AccountBook, clock: HandClock
) -> None:
    gate = AccountGate("main", 0, book, clock, calls_max=MANY)
    for _ in range(2):
        for _ in range(10):
            lose(gate)
        assert _pauses(book) == [("main", "outage")]
        book.resume("main")


def test_a_provider_that_asks_for_a_rest_gets_it_from_every_call(
    book: AccountBook, clock: HandClock
) -> None:
    gate = AccountGate("main", 0, book, clock, calls_max=MANY)
    gate.block(30)
    gate.block(5)
    with pytest.raises(Paced) as paced:
        gate.enter()
    assert paced.value.wait_s == 30
    clock.sleep(30)
    gate.enter()


def test_a_call_that_waits_for_its_turn_when_the_process_is_to_stop_is_not_made(
    book: AccountBook, clock: HandClock
) -> None:
    gate = AccountGate("main", 1, book, clock, calls_max=MANY)
    gate.enter()
    clock.stop()
    with pytest.raises(Paced):
        gate.enter()


def end(gate: AccountGate) -> None:
    """One of the calls that are under way."""
    gate.leave(answered=True, answer="2xx", took_us=1_000)


def test_no_more_calls_at_a_time_than_allowed_however_many_threads_there_are(
    book: AccountBook,
) -> None:
    gate = AccountGate("main", 0, book, SystemClock(), calls_max=3)
    under_way: list[int] = []
    most: list[int] = []
    full, let_go = threading.Event(), threading.Event()

    def call() -> None:
        gate.enter()
        under_way.append(1)
        most.append(len(under_way))
        if len(most) == 3:
            full.set()
        let_go.wait(10)
        under_way.pop()
        end(gate)

    threads = [threading.Thread(target=call) for _ in range(12)]
    for thread in threads:
        thread.start()
    assert full.wait(10)
    let_go.set()
    for thread in threads:
        thread.join(10)
    assert (len(most), max(most)) == (12, 3)


def test_who_waits_for_a_place_until_the_call_is_too_late_makes_none(book: AccountBook) -> None:
    clock = SystemClock()
    gate = AccountGate("main", 0, book, clock, calls_max=1)
    gate.enter()
    with gate.no_later_than(clock.monotonic() + 0.01), pytest.raises(Paced):
        gate.enter()
    # It has taken nobody's place, and left none: there is one, as before.
    end(gate)
    gate.enter()


class _StopsMeanwhile(HandClock):
    """A clock at which, while somebody waits, the worker is told to stop and a call ends."""

    gate: AccountGate | None = None

    def monotonic(self) -> float:
        gate, self.gate = self.gate, None
        if gate is not None:
            self.stop()
            end(gate)
        return super().monotonic()


def test_who_waits_for_a_place_when_the_worker_stops_makes_no_call(book: AccountBook) -> None:
    clock = _StopsMeanwhile()
    gate = AccountGate("main", 0, book, clock, calls_max=1)
    gate.enter()
    clock.gate = gate
    with pytest.raises(Paced):
        gate.enter()
    # It has kept no place: what is under way may still need one.
    gate.enter()


def test_a_call_that_is_held_back_leaves_its_place_to_others(book: AccountBook) -> None:
    clock = HandClock()
    gate = AccountGate("main", 0, book, clock, calls_max=1)
    gate.block(5)
    with pytest.raises(Paced):
        gate.enter()
    clock.sleep(6)
    gate.enter()


def test_there_are_threads_for_more_payouts_than_calls() -> None:
    assert threads_for([10, 3]) == room_for(10) + room_for(3) > 13
    assert threads_for([1000]) == THREADS_MAX


def test_who_finds_no_place_is_told_a_time_of_his_own(clock: HandClock) -> None:
    slots = Slots(2, clock)
    assert [slots.take(), slots.take()] == [None, None]
    # Two places that are kept for a tenth of a second each: one becomes free every twentieth.
    told = [slots.take() for _ in range(8)]
    assert told[4:] == pytest.approx([0.25, 0.3, 0.35, 0.4])
    assert told[:4] == [TURN_S_MIN] * 4
    clock.sleep(0.1)
    assert slots.take() == pytest.approx(0.35)
    slots.leave(0.1)
    assert slots.take() is None


def test_the_times_told_follow_how_long_places_are_kept(clock: HandClock) -> None:
    slots = Slots(1, clock)
    for _ in range(50):
        assert slots.take() is None
        slots.leave(8.0)
    slots.take()
    assert slots.take() == pytest.approx(8, rel=0.01)
    assert [slots.take() for _ in range(5)][-1] == TURN_S_MAX


def test_who_waits_for_a_call_comes_back_no_sooner_than_there_may_be_one(
    clock: HandClock, book: AccountBook
) -> None:
    """Else all that waits would be told to come back again and again, and be written each time."""
    gate = AccountGate("main", 1, book, clock, calls_max=MANY)
    slots = Slots(8, clock)
    assert gate.apart_s == 1
    assert [slots.turn_s(gate.apart_s) for _ in range(4)] == [1, 2, 3, 4]
    assert window_at(5) == 5 * TURN_S_MAX
    assert window_at(0.01) == 1


@pytest.mark.parametrize(
    ("threads", "shared"),
    [
        (40, {"a": 10, "b": 20, "c": 2}),
        (32, {"a": 10, "b": 20, "c": 2}),
        (16, {"a": 5, "b": 10, "c": 1}),
        (4, {"a": 1, "b": 2, "c": 1}),
        (1, {"a": 1, "b": 1, "c": 1}),
    ],
)
def test_threads_are_shared_out_so_that_no_account_can_take_anothers(
    threads: int, shared: dict[str, int]
) -> None:
    found = shares({"a": 10, "b": 20, "c": 2}, threads)
    assert found == shared
    assert sum(found.values()) <= max(threads, len(shared))


Counts = dict[tuple[str, str, int], tuple[int, int]]


def _counts(book: AccountBook) -> Counts:
    """Step, answer and range to number and time."""
    counted = CallBook(book.database).all()
    assert {one.account for one in counted} <= {"main"}
    return {tuple(one.kind): tuple(one.count) for one in counted}  # type: ignore[misc]


def test_calls_are_counted_by_step_answer_and_time(book: AccountBook, clock: HandClock) -> None:
    gate = AccountGate("main", 0, book, clock, calls_max=MANY)
    with gate.no_later_than(clock.monotonic() + 60, step="create"):
        answer(gate, took_us=30_000)
        answer(gate, took_us=40_000)
        answer(gate, "429", took_us=30_000)
        lose(gate)
    with gate.no_later_than(clock.monotonic() + 60, step="poll"):
        answer(gate, took_us=40_000_000)
    answer(gate, took_us=25_000)
    gate.close()
    assert _counts(book) == {
        ("create", "2xx", 50): (2, 70_000),
        ("create", "429", 50): (1, 30_000),
        ("create", "ReadTimeout", 25): (1, 1_000),
        ("poll", "2xx", 0): (1, 40_000_000),
        ("ask", "2xx", 25): (1, 25_000),
    }


def test_a_payouts_call_tells_the_record_nothing_before_its_answer_is_stored(
    book: AccountBook, clock: HandClock
) -> None:
    gate = AccountGate("main", 0, book, clock, calls_max=MANY)
    clock.sleep(COUNTS_S)
    with gate.no_later_than(clock.monotonic() + 60, step="create"):
        answer(gate)
        clock.sleep(COUNTS_S)
        answer(gate)
    assert _counts(book) == {}
    gate.tell_counts()
    assert _counts(book) == {("create", "2xx", 25): (2, 2_000)}


def test_the_record_is_told_of_many_calls_in_one_write_every_few_seconds(
    book: AccountBook, clock: HandClock
) -> None:
    gate = AccountGate("main", 0, book, clock, calls_max=MANY)
    commits = []
    event.listen(book.database.engine, "commit", commits.append)
    for _ in range(100):
        answer(gate)
        gate.tell_counts()
    assert commits == []
    for _ in range(3):
        clock.sleep(COUNTS_S)
        for _ in range(100):
            answer(gate)
            gate.tell_counts()
    assert len(commits) == 3
    gate.close()
    gate.close()
    assert _counts(book) == {("ask", "2xx", 25): (400, 400_000)}


def test_counts_that_the_record_does_not_take_are_kept_and_trouble_nobody(
    book: AccountBook, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    gate = AccountGate("main", 0, book, clock, calls_max=MANY)
    with book.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE calls RENAME TO gone")
    clock.sleep(COUNTS_S)
    answer(gate)
    answer(gate)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    gate.close()
    with book.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE gone RENAME TO calls")
    gate.close()
    assert _counts(book) == {("ask", "2xx", 25): (2, 2_000)}
