"""Money is promised once and kept when it runs out; decisions carry on where they were ended."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from batches import control
from batches.people import operator
from tests.batches.cli_world import (
    Provider,
    World,
    bank_row,
    check_money,
    provided,
    released,
    usd_row,
)
from tests.conftest_servers import PostgresServer, postgres_server
from tests.worlds import CHECKER, KEY, Post, order, settings, stored
from workers import sweep
from workers.errors import ApprovalRefused, NotAllowed, UsageError
from workers.record import decisions
from workers.record.batches import BatchBook
from workers.record.status import State
from workers.runtime import Runtime

__all__ = ["postgres_server"]

# Of a bank transfer in US dollars, at the simulator.
FEE_MINOR = 150
BATCHES, COVERED = 6, 3


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_approvals_at_the_same_moment_do_not_spend_one_balance_twice(
    tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    """Each batch needs 50.00 with its fee, and there are 160.00."""
    with contextlib.ExitStack() as stack:
        world, provider = stack.enter_context(provided(tmp_path, "--balance", "USD=160.00"))
        if database == "postgresql":
            server: PostgresServer = request.getfixturevalue("postgres_server")
            url = server.create()
            stack.callback(server.drop, url)
            world.env |= {"PAYBATCH_DATABASE_URL": url, "PAYBATCH_ENCRYPTION_KEY": KEY}
        ids = []
        for number in range(BATCHES):
            world.write([bank_row(number, "USD", "48.50")], f"{number}.csv")
            told = world.paybatch("submit", f"{number}.csv", "--json").json
            ids.append(str(told["batch_id"]))
        commands = [stack.enter_context(world.start("approve", batch)) for batch in ids]
        ended = [command.wait() for command in commands]
        codes = sorted(each.code for each in ended)
        assert codes == [0] * COVERED + [6] * (BATCHES - COVERED), [each.err for each in ended]
        promised = world.paybatch("balance", "--json").json["balances"]
        assert {each["promised"] for each in promised if each["currency"] == "USD"} == {"150.00"}
        for batch, each in zip(ids, ended, strict=True):
            if each.code == 0:
                world.paybatch("watch", batch)
            else:
                assert "50.00 USD with fees" in each.err
        assert sum(released(provider.ledger()).values()) == COVERED


def run_dry(world: World, provider: Provider) -> str:
    """A run of 40 rows that is stopped in its middle because the money is gone; its batch."""
    world.write([usd_row(number, amount="10") for number in range(40)])
    with world.start("run", "p.csv", "--yes", PAYBATCH_ACCOUNTS__MAIN__IN_FLIGHT_MAX="2") as run:
        run.until(lambda: world.count("paid"))
        provider.control("POST", "balances", USD="15")
        ended = run.wait()
    assert ended.code == 6, ended.err
    assert world.count("queued") > 10
    return world.batch_id()


def test_money_that_ran_out_keeps_the_rows_until_the_account_is_resumed(tmp_path: Path) -> None:
    with provided(tmp_path, "--settle", "0.3") as (world, provider):
        batch = run_dry(world, provider)
        provider.control("POST", "balances", USD="5")
        queued = world.count("queued")
        told = world.paybatch("resume", "--account", "main", code=6).err
        assert "the balance does not cover any of the queued payouts" in told
        assert world.count("queued") == queued
        provider.control("POST", "balances", USD="1000")
        opened = world.paybatch("resume", "--account", "main").out
        assert "was paused (balance)" in opened
        # What was created while there was money, and released without it, has failed.
        failed = world.count("failed")
        world.paybatch("watch", batch, code=4 if failed else 0)
        assert world.count("paid") + failed == 40
        world.paybatch("results", batch, "-o", "p.results.csv")
        check_money(world.read(), provider.ledger())


# --- decisions that were not carried out to the end ---


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime.open(settings(tmp_path))


def draft(runtime: Runtime, rows: int) -> str:
    book = BatchBook(runtime.store)
    return stored(book, [order() for _ in range(rows)], now=runtime.clock.now())


def approve(runtime: Runtime, batch_id: str) -> None:
    book = BatchBook(runtime.store)
    batch = book.get(batch_id)
    assert batch is not None
    assert book.approve(
        batch, actor=operator(), now=runtime.clock.now(), spendable={}, approvals_seen={}
    )


class Killed(BaseException):
    """The end of a process."""


@pytest.mark.parametrize("command", ["pause", "cancel", "reject"])
@pytest.mark.parametrize("chunks", [1, 2])
def test_a_command_that_is_killed_is_finished_by_a_sweep_or_by_itself_again(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, command: str, chunks: int
) -> None:
    monkeypatch.setattr(decisions, "CHUNK_ROWS", 2)
    batch_id = draft(runtime, 7)
    if command != "reject":
        approve(runtime, batch_id)
    told: list[int] = []

    def dies(rows: int) -> None:
        told.append(rows)
        if len(told) == chunks:
            raise Killed

    with pytest.raises(Killed):
        getattr(control, command)(batch_id, runtime, operator(), "why", dies)
    book = BatchBook(runtime.store)
    due = [row.due_at for row in book.each(batch_id)]
    states = [row.state for row in book.each(batch_id)]
    assert states.count(State.CANCELLED) == (0 if command == "pause" else 2 * chunks)
    if command == "pause":
        assert due.count(None) == 2 * chunks
    post = Post()
    sweep.sweep(runtime, post)
    assert post.take() == []
    rows = list(book.each(batch_id))
    assert [row.due_at for row in rows] == [None] * 7
    assert {row.state for row in rows} == {"queued" if command == "pause" else "cancelled"}
    runtime.close()


def test_a_sweep_tells_what_it_carried_out_and_then_finds_nothing(runtime: Runtime) -> None:
    batch_id = draft(runtime, 3)
    approve(runtime, batch_id)
    runtime.decisions.pause(batch_id, operator(), runtime.clock.now())
    assert [sweep.sweep(runtime, Post()).carried for _ in range(2)] == [1, 0]
    runtime.close()


def test_who_may_cancel_drafts_only_does_not_cancel_what_was_approved(tmp_path: Path) -> None:
    users = {operator().name: {"roles": ["maker"]}}
    runtime = Runtime.open(settings(tmp_path, users=users))
    first, second = draft(runtime, 1), draft(runtime, 1)
    approve(runtime, second)
    control.cancel(first, runtime, operator(), "")
    with pytest.raises(NotAllowed, match="cancel an approved batch"):
        control.cancel(second, runtime, operator(), "")
    assert BatchBook(runtime.store).counts(second) == {State.QUEUED: 1}
    runtime.close()


def test_a_payout_that_somebody_has_just_settled_is_told_in_a_sentence(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = draft(runtime, 1)
    approve(runtime, batch_id)
    (row,) = BatchBook(runtime.store).each(batch_id)
    # As it was read a moment before.
    monkeypatch.setattr(BatchBook, "held_payouts", lambda *_: {"main": row.id})
    with pytest.raises(UsageError, match="decided about a moment ago"):
        control.resolve(
            row.reference_id, "paid", runtime, actor=operator(), reason="x", account=None
        )
    runtime.close()


def test_a_rejection_that_was_interrupted_is_carried_on_when_it_is_made_again(
    tmp_path: Path,
) -> None:
    runtime = Runtime.open(settings(tmp_path))
    book = BatchBook(runtime.store)
    batch = stored(book, [order()], now=runtime.clock.now())
    # It ended before a row followed, and where nobody pays there is no sweep.
    runtime.decisions.reject(batch, CHECKER, runtime.clock.now())
    assert book.counts(batch) == {State.DRAFT: 1}
    with pytest.raises(ApprovalRefused, match="decided already"):
        control.reject(batch, runtime, CHECKER, "")
    assert book.counts(batch) == {State.CANCELLED: 1}
    runtime.close()
