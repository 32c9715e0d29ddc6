"""An account's token is fetched once for all its workers, and again when it ends or is refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.worlds import KEY, HandClock
from workers.clock import SystemClock
from workers.providers.tokens import NoToken, OwnTokens, Token
from workers.providers.transport import Lost
from workers.record.accounts import AccountBook
from workers.record.database import Database
from workers.record.status import Outcome
from workers.record.tokens import TokenBook
from workers.record.vault import Vault
from workers.tokens import WAIT_S_MAX, SharedTokens


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path}/paybatch.db")
    made.prepare()
    AccountBook(made).register({"main": "ecart", "other": "ecart"})
    yield made
    made.close()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


class Desk:
    """A token call: counts, and gives tokens that last a minute."""

    def __init__(self) -> None:
        self.calls = 0
        self._lock = threading.Lock()

    def __call__(self, now: datetime) -> Token:
        with self._lock:
            self.calls += 1
            return Token(f"token-{self.calls}", now + timedelta(seconds=60))


def worker(database: Database, clock: HandClock, account: str = "main") -> SharedTokens:
    """The tokens as another process of the account sees them."""
    book = TokenBook(database, Vault.from_text(KEY))
    return SharedTokens(account, book, clock, lease_s=30)


def test_one_token_call_serves_all_workers_of_an_account(
    database: Database, clock: HandClock
) -> None:
    desk = Desk()
    got = [worker(database, clock).get("access", desk) for _ in range(3)]
    assert (got, desk.calls) == (["token-1"] * 3, 1)
    assert worker(database, clock, "other").get("access", desk) == "token-2"


def test_many_that_need_it_at_once_make_one_call(database: Database) -> None:
    desk, clock = Desk(), SystemClock()
    tokens = [
        SharedTokens("main", TokenBook(database, Vault.from_text(KEY)), clock, lease_s=30)
        for _ in range(8)
    ]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda one: one.get("access", desk), tokens))
    assert (set(got), desk.calls) == ({"token-1"}, 1)


def test_a_token_is_fetched_anew_when_it_ends(database: Database, clock: HandClock) -> None:
    desk, mine = Desk(), worker(database, clock)
    mine.get("access", desk)
    clock.sleep(59)
    assert mine.get("access", desk) == "token-1"
    clock.sleep(1)
    assert mine.get("access", desk) == "token-2"


def test_a_refused_token_is_replaced_once_for_all(database: Database, clock: HandClock) -> None:
    desk, first, second = Desk(), worker(database, clock), worker(database, clock)
    old = first.get("access", desk)
    second.get("access", desk)
    assert first.get("access", desk, refused=old) == "token-2"
    # The other one has the old token in memory; it takes the new one without a call.
    assert second.get("access", desk, refused=old) == "token-2"
    assert desk.calls == 2


def test_a_failed_call_leaves_the_way_free(database: Database, clock: HandClock) -> None:
    def fails(_: datetime) -> Token:
        raise NoToken(Lost(Outcome.UNKNOWN, "ReadTimeout", "no answer"))

    with pytest.raises(NoToken):
        worker(database, clock).get("access", fails)
    assert worker(database, clock).get("access", Desk()) == "token-1"


def test_a_worker_that_dies_while_fetching_is_waited_for_and_then_replaced(
    database: Database, clock: HandClock
) -> None:
    def dies(_: datetime) -> Token:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        worker(database, clock).get("access", dies)
    began = clock.monotonic()
    with pytest.raises(NoToken) as busy:
        worker(database, clock).get("access", Desk())
    assert isinstance(busy.value.cause, Lost)
    assert busy.value.cause.outcome is Outcome.NOT_SENT
    assert clock.monotonic() - began == pytest.approx(WAIT_S_MAX, abs=0.1)
    clock.sleep(30)
    assert worker(database, clock).get("access", Desk()) == "token-1"


def test_a_token_has_a_masked_repr() -> None:
    assert "secret" not in repr(Token("secret", HandClock().now()))


def test_tokens_of_one_process_are_kept_and_replaced_alike() -> None:
    def ended(now: datetime) -> Token:
        return Token("ended", now)

    desk, own = Desk(), OwnTokens()
    assert own.get("access", ended) == "ended"
    assert [own.get("access", desk) for _ in range(2)] == ["token-1"] * 2
    assert own.get("access", desk, refused="token-1") == "token-2"
