"""Tokens are kept closed, one worker fetches at a time, and old ones go."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.worlds import KEY
from workers.record.tokens import OLD_S, TokenBook
from workers.record.vault import Vault

from .conftest import Record, together

OTHER_KEY = "YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk="
TOKEN = "eyJhbGciOiJIUzUxMiJ9.demo-token.signature"


@pytest.fixture
def book(record: Record) -> TokenBook:
    return TokenBook(record.database, Vault.from_text(KEY))


def keep(book: TokenBook, record: Record, *, s: float = 60, name: str = "access") -> None:
    now = record.clock.now()
    assert book.lease("main", name, now + timedelta(seconds=30), now)
    book.keep("main", name, TOKEN, now + timedelta(seconds=s))


def test_a_kept_token_is_read_back_by_its_account_and_name_alone(
    record: Record, book: TokenBook
) -> None:
    keep(book, record)
    assert book.read("main", "access") == (TOKEN, record.clock.now() + timedelta(seconds=60))
    assert book.read("other", "access") is None
    assert book.read("main", "another") is None


def test_a_token_is_nowhere_in_the_clear(record: Record, book: TokenBook) -> None:
    keep(book, record)
    with record.database.read() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM tokens").all()
    assert len(rows) == 1
    for cell in rows[0]:
        raw = bytes(cell) if isinstance(cell, bytes | memoryview) else str(cell).encode()
        assert TOKEN.encode() not in raw
        assert b"demo-token" not in raw


def test_a_token_closed_with_another_key_or_moved_to_another_row_is_as_none(
    record: Record, book: TokenBook
) -> None:
    keep(book, record)
    assert TokenBook(record.database, Vault.from_text(OTHER_KEY)).read("main", "access") is None
    record.sql("UPDATE tokens SET account = 'other'")
    assert book.read("other", "access") is None


def test_of_many_that_want_to_fetch_one_may(record: Record, book: TokenBook) -> None:
    now = record.clock.now()
    until = now + timedelta(seconds=30)
    books = [TokenBook(record.again().database, Vault.from_text(KEY)) for _ in range(4)]
    got = together([lambda b=b: b.lease("main", "access", until, now) for b in books])  # type: ignore[misc]
    assert sorted(map(bool, got)) == [False, False, False, True], got
    for one in books:
        one.database.close()


def test_a_dead_fetcher_is_waited_for_until_its_lease_ends(record: Record, book: TokenBook) -> None:
    now = record.clock.now()
    until = now + timedelta(seconds=30)
    assert book.lease("main", "access", until, now)
    assert not book.lease("main", "access", until, until - timedelta(seconds=1))
    assert book.lease("main", "access", until + timedelta(seconds=30), until)


def test_giving_up_lets_the_next_one_fetch(record: Record, book: TokenBook) -> None:
    now = record.clock.now()
    until = now + timedelta(seconds=30)
    assert book.lease("main", "access", until, now)
    book.give_up("main", "access")
    assert book.lease("main", "access", until, now)


def test_only_tokens_that_ended_long_ago_are_forgotten(record: Record, book: TokenBook) -> None:
    keep(book, record, s=60, name="old")
    keep(book, record, s=OLD_S, name="new")
    record.clock.sleep(OLD_S + 61)
    assert book.forget_old(record.clock.now()) == 1
    assert book.forget_old(record.clock.now()) == 0
    assert book.read("main", "new") is not None
