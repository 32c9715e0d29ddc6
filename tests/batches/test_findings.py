"""Ways in which a run once went wrong, each found by someone who tried to break it."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

from tests.batches.cli_world import World, bank_row, card_row, provided, usd_row


def test_expected_fees_cover_what_the_provider_takes(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        amounts = ["50", "51.01", "75.55", "999.99", "1000.01"]
        world.write([card_row(number, "EUR", amount) for number, amount in enumerate(amounts)])
        [funds] = world.paybatch("check", "p.csv", "--json").json["totals"]
        world.paybatch("run", "p.csv", "--yes")
        taken = sum(Decimal(row["fee"]) for row in world.read())
        assert Decimal(funds["fees"]) >= taken > 0


def test_a_refused_run_prints_json_and_nothing_else(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1, amount="1e3")])
        facts = world.paybatch("run", "p.csv", "--yes", "--json", code=3).json
        assert [fault["column"] for fault in facts["faults"]] == ["amount"]


def test_a_second_command_beside_a_running_sandbox_says_nothing_alarming(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.write([usd_row(1, "settle=2")])
    with world.start("run", "p.csv", "--yes") as running:
        running.until(lambda: world.count("processing"))
        assert world.paybatch("balance").err == ""
        running.wait()


def test_check_of_a_stored_file_names_its_batch_with_every_option(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1), usd_row(2, amount="x")])
        world.paybatch("run", "p.csv", "--yes", "--valid-rows-only")
        ended = world.paybatch("check", "p.csv", "--valid-rows-only")
        assert world.batch_id() in ended.out


def test_a_failed_payout_is_replaced_by_one_row_only(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1, "status=process_failed")])
        world.paybatch("run", "p.csv", "--yes", code=4)
        old = world.read()[0]["reference_id"]
        again = [{**usd_row(number), "replaces": old} for number in (2, 3)]
        world.write(again, "again.csv")
        facts = world.paybatch("check", "again.csv", "--json", code=3).json
        assert [(one["line"], one["kind"]) for one in facts["faults"]] == [(3, "not_replaceable")]


def test_another_payout_under_our_reference_id_is_held_not_adopted(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, provider):
        world.write([usd_row(1)])
        world.paybatch("run", "p.csv", "--yes")
        for left in world.folder.glob("paybatch.db*"):
            left.unlink()
        other = {**usd_row(1), "fields.account": "5550001111", "description": "another month"}
        world.write([other])
        world.paybatch("run", "p.csv", "--yes", code=5)
        assert [row["state"] for row in world.read()] == ["held"]
        assert len(provider.ledger()) == 1


def test_a_release_that_is_always_turned_away_ends_with_a_person(tmp_path: Path) -> None:
    with provided(tmp_path, open_max_s=12) as (world, _):
        world.write([usd_row(1, "process:429*0"), usd_row(2)])
        world.paybatch("run", "p.csv", "--yes", code=5)
        assert sorted(row["state"] for row in world.read()) == ["held", "paid"]


def test_one_invoice_whose_release_is_not_found_does_not_stop_the_account(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1, "process:404*0"), usd_row(2), usd_row(3)])
        world.paybatch("run", "p.csv", "--yes", code=5)
        assert sorted(row["state"] for row in world.read()) == ["held", "paid", "paid"]


def test_low_balance_with_unreleased_payouts_ends_the_run(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, provider):
        # Fewer failures in a row than open the breaker: that would be waited for, and is not meant.
        world.write(
            [usd_row(1, "process:drop*6"), *(usd_row(row, "process:drop*2") for row in (2, 3))]
        )
        with world.start("run", "p.csv", "--yes") as running:
            running.until(lambda: world.count("created") == 3)
            provider.control("POST", "balances", USD="1.00")
            assert running.wait().code == 6
        assert [row["state"] for row in world.read()] == ["created", "failed", "failed"]


def test_a_damaged_row_is_held_and_the_run_ends(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1), usd_row(2)])
        batch_id = world.paybatch("submit", "p.csv", "--approve", "--json").json["batch_id"]
        world.execute("UPDATE payouts SET sealed_data = x'0102' WHERE row = 1")
        world.paybatch("watch", batch_id, code=5)
        assert world.one("SELECT state FROM payouts WHERE row = 1") == "held"


def test_a_batch_of_an_account_that_is_gone_is_refused_not_waited_for(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1)])
        batch_id = world.paybatch("submit", "p.csv", "--approve", "--json").json["batch_id"]
        world.execute("INSERT INTO accounts (name, provider) VALUES ('gone', 'payelata')")
        world.execute("UPDATE payouts SET account = 'gone'")
        assert "'gone'" in world.paybatch("watch", batch_id, code=2).err


def test_where_results_cannot_go_is_said_before_money_moves(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, provider):
        before = world.write([usd_row(1)]).read_bytes()
        for out in ("p.csv", "nowhere/out.csv", "out.doc"):
            world.paybatch("run", "p.csv", "--yes", "-o", out, code=2)
        assert (world.folder / "p.csv").read_bytes() == before
        assert world.nothing_is_stored()
        assert not provider.ledger()


def test_lines_that_were_deleted_are_missed(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1), usd_row(2)])
        batch_id = world.paybatch("submit", "p.csv", "--approve", "--json").json["batch_id"]
        world.execute("DELETE FROM payout_events")
        world.execute("DELETE FROM payouts WHERE row = 2")
        ended = world.paybatch("watch", batch_id, code=1)
        assert "cannot be found in the database" in ended.out


def test_a_person_settles_what_is_held(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1, "status=partially_processed"), usd_row(2)])
        world.paybatch("run", "p.csv", "--yes", code=5)
        held = next(row["reference_id"] for row in world.read() if row["state"] == "held")
        world.paybatch("resolve", held, "--as", "paid", "--reason", "the rest went by hand")
        facts = json.loads(world.paybatch("status", world.batch_id(), "--json").out)
        assert facts["counts"] == {"paid": 2}
        world.paybatch("resolve", held, "--as", "failed", "--reason", "again", code=3)


def test_control_totals_that_do_not_hold_refuse_the_file(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1), usd_row(2)])
        total = sum(Decimal(usd_row(number)["amount"]) for number in (1, 2))
        good = ("--expect-count", 2, "--expect-total", f"USD={total}")
        world.paybatch("check", "p.csv", *good)
        world.paybatch("run", "p.csv", "--yes", "--expect-count", 3, code=3)
        world.paybatch("run", "p.csv", "--yes", "--expect-total", "USD=1.00", code=3)
        assert world.nothing_is_stored()


def test_check_of_a_finished_file_says_that_run_would_refuse_it(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1), usd_row(2)])
        batch_id = world.paybatch("submit", "p.csv", "--approve", "--json").json["batch_id"]
        shown = world.paybatch("check", "p.csv").out
        assert f"Stored already as batch {batch_id}; `paybatch run` carries on with it." in shown
        world.paybatch("run", "p.csv")
        shown = world.paybatch("check", "p.csv").out
        assert f"batch {batch_id}, which is finished; `paybatch run` would refuse it" in shown
        assert "carries on" not in shown
        world.paybatch("run", "p.csv", code=3)
        world.write([usd_row(3, "amount=1.00"), usd_row(4)], "held.csv")
        world.paybatch("run", "held.csv", "--yes", code=5)
        shown = world.paybatch("check", "held.csv").out
        assert "finished but for 1 that need a person" in shown
        assert "end with 5" in shown


def test_fees_of_payouts_that_failed_are_not_called_taken(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        failing = "status=process_failed resolution=invalid_details"
        rows = [bank_row(1, "USD", "100.00"), bank_row(2, "USD", "200.00", failing)]
        world.write(rows)
        ended = world.paybatch("run", "p.csv", "--yes", code=4)
        # The provider tells a fee of the failed one too.
        assert [row["fee"] for row in world.read()] == ["1.50", "1.50"]
        assert "Fees taken: 1.50 USD\n" in ended.out
        facts = world.paybatch("status", world.batch_id(), "--json").json
        assert facts["fees"] == [{"currency": "USD", "amount": "1.50"}]
