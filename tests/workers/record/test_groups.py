"""Threads that share a transaction: each gets its own answer, whatever becomes of others."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.batches.cli_world import until
from tests.conftest_servers import PostgresServer
from workers.errors import DeveloperError
from workers.record import groups
from workers.record.database import Database
from workers.record.groups import GROUP_MAX, Groups

S_MAX = 60


class Storing:
    """What carries groups out: the first waits until it may go on."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.may_go_on = threading.Event()
        self.together = Groups(self.carry_out)

    def carry_out(self, asked: Sequence[int]) -> Sequence[Any]:
        self.groups.append(list(asked))
        if len(self.groups) == 1:
            assert self.may_go_on.wait(S_MAX)
        if 13 in asked:
            raise LookupError("all of them")
        return [ValueError(one) if one == 7 else one * 2 for one in asked]

    @property
    def waiting(self) -> int:
        return len(self.together._waiting)


@pytest.fixture
def storing() -> Storing:
    return Storing()


def begun(storing: Storing, pool: ThreadPoolExecutor, *others: int) -> list[Future[Any]]:
    """The first is being carried out, and the others wait."""
    first = pool.submit(storing.together.take_part, 1)
    until(lambda: storing.groups == [[1]], limit_s=S_MAX)
    rest = [pool.submit(storing.together.take_part, one) for one in others]
    until(lambda: storing.waiting == len(others), limit_s=S_MAX)
    storing.may_go_on.set()
    return [first, *rest]


def test_what_came_meanwhile_is_carried_out_as_one(storing: Storing) -> None:
    with ThreadPoolExecutor(10) as pool:
        given = [each.result(S_MAX) for each in begun(storing, pool, *range(20, 29))]
    assert given == [2, *(2 * one for one in range(20, 29))]
    assert [sorted(group) for group in storing.groups] == [[1], list(range(20, 29))]


def test_an_error_of_one_is_its_own(storing: Storing) -> None:
    with ThreadPoolExecutor(4) as pool:
        first, good, bad = begun(storing, pool, 5, 7)
        assert (first.result(S_MAX), good.result(S_MAX)) == (2, 10)
        with pytest.raises(ValueError, match="7"):
            bad.result(S_MAX)


def test_an_error_of_the_group_is_everyones_and_the_next_group_goes_on(storing: Storing) -> None:
    with ThreadPoolExecutor(4) as pool:
        first, *failed = begun(storing, pool, 12, 13, 14)
        assert first.result(S_MAX) == 2
        for each in failed:
            with pytest.raises(LookupError):
                each.result(S_MAX)
        assert pool.submit(storing.together.take_part, 3).result(S_MAX) == 6


def test_one_alone_is_carried_out_at_once_and_alone() -> None:
    storing = Storing()
    storing.may_go_on.set()
    assert [storing.together.take_part(one) for one in (1, 2, 3)] == [2, 4, 6]
    assert storing.groups == [[1], [2], [3]]


def test_a_group_has_its_limit(storing: Storing) -> None:
    many = range(100, 100 + GROUP_MAX + 5)
    with ThreadPoolExecutor(len(many) + 1) as pool:
        given = {each.result(S_MAX) for each in begun(storing, pool, *many)}
    assert given == {2, *(2 * one for one in many)}
    assert [len(group) for group in storing.groups] == [1, GROUP_MAX, 5]


def test_whoever_dies_leading_does_not_take_the_others_along() -> None:
    class Died(BaseException):
        pass

    dying = [Died()]

    def carry_out(asked: Sequence[int]) -> Sequence[int]:
        if dying:
            raise dying.pop()
        return asked

    together = Groups(carry_out)
    with pytest.raises(Died):
        together.take_part(1)
    assert together.take_part(2) == 2


def test_one_that_gets_no_result_is_told_so_and_does_not_wait_for_ever(storing: Storing) -> None:
    carried_out = storing.carry_out
    storing.together._carry_out = lambda asked: carried_out(asked)[:1]
    with ThreadPoolExecutor(3) as pool:
        first, *others = begun(storing, pool, 2, 3)
        assert first.result(S_MAX) == 2
        for each in others:
            with pytest.raises(DeveloperError, match="1 results of 2"):
                each.result(S_MAX)


class Interrupted(BaseException):
    """What a signal raises in the main thread, whatever that waits for."""


@pytest.fixture
def interrupt() -> Iterator[Callable[[], None]]:
    """Raises `Interrupted` in the main thread."""

    def raised(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, raised)
    yield lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


def test_whoever_is_interrupted_while_waiting_leaves_nobody_without_a_leader(
    storing: Storing, interrupt: Callable[[], None]
) -> None:
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(storing.together.take_part, 1)
        until(lambda: storing.groups == [[1]], limit_s=S_MAX)

        def disturbed() -> list[int]:
            """The main thread waits, would lead next, and is disturbed; then another one comes."""
            until(lambda: storing.waiting == 1, limit_s=S_MAX)
            interrupt()
            until(lambda: storing.waiting == 0, limit_s=S_MAX)
            then = pool.submit(storing.together.take_part, 3)
            until(lambda: storing.waiting == 1, limit_s=S_MAX)
            storing.may_go_on.set()
            return [first.result(S_MAX), then.result(S_MAX)]

        others = pool.submit(disturbed)
        with pytest.raises(Interrupted):
            storing.together.take_part(2)
        assert others.result(S_MAX) == [2, 6]
    assert storing.groups == [[1], [3]]


def test_whoever_is_interrupted_before_it_leads_hands_over(
    storing: Storing, interrupt: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadPoolExecutor(3) as pool:
        for each in begun(storing, pool, 20, 21):
            each.result(S_MAX)
        # The last group had several, so the main thread waits for more before it leads the next.
        monkeypatch.setattr(groups, "LINGER_S", S_MAX)

        def disturbed() -> int:
            until(lambda: storing.waiting == 1, limit_s=S_MAX)
            then = pool.submit(storing.together.take_part, 3)
            until(lambda: storing.waiting == 2, limit_s=S_MAX)
            monkeypatch.setattr(groups, "LINGER_S", 0)
            interrupt()
            given: int = then.result(S_MAX)
            return given

        other = pool.submit(disturbed)
        with pytest.raises(Interrupted):
            storing.together.take_part(2)
        assert other.result(S_MAX) == 6
    assert storing.groups[-1] == [3]


@pytest.fixture
def lent(postgres_server: PostgresServer) -> Iterator[Database]:
    url = postgres_server.borrow()
    database = Database(url, connections_max=1)
    yield database
    database.close()
    postgres_server.give_back(url)


@pytest.mark.parametrize(
    ("statement", "given"),
    [
        ("SELECT :given", "a text with \0 in it"),
        ("SELECT :given", object()),
        ("SELECT * FROM payouts WHERE id = :given", "no number"),
        ("SELECT * FROM no_table_of_ours WHERE id = :given", 1),
        ("DO $$ BEGIN PERFORM :given; END $$", 1),
    ],
)
def test_what_is_asked_wrongly_is_not_a_server_that_is_away(
    lent: Database, statement: str, given: object
) -> None:
    with pytest.raises(DBAPIError) as refused, lent.read() as connection:
        connection.execute(text(statement), {"given": given})
    assert not groups.is_away(refused.value)


def test_a_server_that_cannot_be_reached_or_ends_the_connection_is_away(lent: Database) -> None:
    with pytest.raises(DBAPIError) as ended, lent.read() as connection:
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert groups.is_away(ended.value)
    with pytest.raises(DBAPIError) as refused:
        Database("postgresql+psycopg://127.0.0.1:1/none").now()
    assert groups.is_away(refused.value)
