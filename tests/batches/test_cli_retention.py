"""`purge` asks, removes what may go, and says why the rest stays; what is gone is told as gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.batches.cli_world import World, provided, usd_row

ACCOUNT = "550000027731"
NAME = "Featherstonehaugh"
FAILS = "status=process_failed resolution=declined_error"


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A paid batch and one that waits; everything is 40 days old."""
    with provided(tmp_path_factory.mktemp("settled")) as (world, _):
        made = [usd_row(1), usd_row(2), usd_row(3, FAILS)]
        theirs = {"description": NAME, "customer.name": NAME, "customer.reference_id": "P-1"}
        world.write([{**row, **theirs} for row in made])
        world.write([usd_row(9)], "open.csv")
        world.paybatch("run", "p.csv", "--yes", code=4)
        world.paybatch("submit", "open.csv")
        for table, columns in {
            "payouts": ("created_at", "sent_at", "last_sent_at", "settled_at"),
            "batches": ("made_at",),
        }.items():
            for column in columns:
                world.execute(f"UPDATE {table} SET {column} = datetime({column}, '-40 days')")
        yield world


@pytest.fixture
def world(settled: World, tmp_path: Path) -> World:
    """The same, for a test of its own."""
    made = World(tmp_path)
    for path in settled.folder.iterdir():
        (made.folder / path.name).write_bytes(path.read_bytes())
    made.env = settled.env
    return made


def ids(world: World) -> tuple[str, str]:
    """The settled batch and the one that waits."""
    (paid,), (draft,) = world.query("SELECT id FROM batches ORDER BY decision")
    return paid, draft


def yesterday(world: World) -> str:
    return str(world.one("SELECT date('now', '-1 day')"))


def test_a_dry_run_shows_what_would_go_and_stays_and_removes_nothing(world: World) -> None:
    paid, draft = ids(world)
    told = world.paybatch("purge", "--before", yesterday(world), "--dry-run").out
    assert f"{paid}  p.csv" in told
    assert "it waits for approval" in told
    facts = world.paybatch("purge", "--before", yesterday(world), "--dry-run", "--json").json
    assert [(one["batch_id"], one["payouts"]) for one in facts["batches"]] == [(paid, 3)]
    assert facts["kept"] == [{"batch_id": draft, "payouts": 1, "why": "it waits for approval"}]
    assert world.query("SELECT 1 FROM payouts WHERE purged_at IS NOT NULL") == []
    assert world.query("SELECT 1 FROM batch_events WHERE action LIKE 'purg%'") == []


def test_nobody_to_ask_and_no_yes_removes_nothing(world: World) -> None:
    refused = world.paybatch("purge", "--before", yesterday(world), code=2)
    assert "add --yes" in refused.err
    assert world.query("SELECT 1 FROM payouts WHERE purged_at IS NOT NULL") == []


@pytest.mark.parametrize(
    ("day", "why"),
    [("2999-01-01", "has not come yet"), ("soon", "expected a day"), ("2026-02-30", "expected")],
)
def test_a_day_that_is_none_or_has_not_come_is_refused(world: World, day: str, why: str) -> None:
    assert why in world.paybatch("purge", "--before", day, "--yes", code=2).err


def test_a_day_before_everything_has_nothing_to_do(world: World) -> None:
    told = world.paybatch("purge", "--before", "2001-01-01", "--yes").out
    assert "Nothing settled before 2001-01-01" in told


def test_where_everything_is_still_needed_it_ends_with_3(world: World) -> None:
    env = {"PAYBATCH_DUPLICATE_WINDOW_DAYS": "60"}
    ended = world.paybatch("purge", "--before", yesterday(world), "--yes", code=3, **env)
    assert "the same payments are looked for until" in ended.out


def test_what_was_purged_is_told_as_gone_and_its_sums_stay(world: World) -> None:
    paid, draft = ids(world)
    before = world.paybatch("status", paid, "--json").json
    world.paybatch("results", paid, "-o", "before.csv")

    told = world.paybatch("purge", "--before", yesterday(world), "--yes").out

    assert "Removed: the beneficiaries' data of 3 payouts." in told
    world.paybatch("results", paid, "-o", "after.csv")
    gone = {"beneficiary": "", "failure_reason": ""}
    assert world.read("after.csv") == [row | gone for row in world.read("before.csv")]
    assert all(row["beneficiary"] for row in world.read("before.csv"))
    after = world.paybatch("status", paid, "--json").json
    assert {name: after[name] for name in ("counts", "sums", "fees", "state", "rows")} == {
        name: before[name] for name in ("counts", "sums", "fees", "state", "rows")
    }
    refused = world.paybatch("results", paid, "--failed", "-o", "failed.csv", code=2)
    told = f"batch {paid}: the beneficiaries' data of 1 failed line was removed (paybatch purge): "
    assert f"{told}T-0003. " in refused.err
    assert "p.csv may have them" in refused.err
    assert f"{told}T-0003. " in world.paybatch("retry", paid, code=2).err
    assert not (world.folder / "failed.csv").exists()
    [[actor, origin]] = world.query(
        "SELECT actor, origin FROM batch_events WHERE action = 'purged' AND batch_id = ?", paid
    )
    assert actor
    assert origin.startswith("cli ")
    # The same file is still known, and so are its reference ids.
    assert paid in world.paybatch("check", "p.csv").out
    world.write([{**usd_row(1), "amount": "77.00"}], "used.csv")
    assert "T-0001" in world.paybatch("check", "used.csv", "--json", code=3).out
    # And what waits is as it was.
    world.paybatch("approve", draft)


def test_nothing_of_the_beneficiary_is_left_in_the_files_of_the_database(world: World) -> None:
    assert any(NAME.encode() in path.read_bytes() for path in world.folder.glob("paybatch.db*"))
    world.paybatch("purge", "--before", yesterday(world), "--yes", "--json")
    for path in world.folder.glob("paybatch.db*"):
        assert NAME.encode() not in path.read_bytes(), path
        assert b"account ****7731" not in path.read_bytes() or path.name == "paybatch.db"
    [[kept]] = world.query("SELECT count(*) FROM payouts WHERE beneficiary <> ''")
    assert kept == 1


def test_a_change_of_keys_passes_over_what_was_purged(world: World) -> None:
    world.paybatch("purge", "--before", yesterday(world), "--yes")
    facts = world.paybatch("keys", "rotate", "--json").json
    assert facts["rows"] == 1
    assert facts["damaged"] == []
