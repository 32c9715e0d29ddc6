"""Everything that can be known of a file before money moves is told, and nothing moves for it."""

from __future__ import annotations

import stat
from pathlib import Path

from batches.faultbook import LISTED_MAX
from tests.batches.cli_world import Row, check_money, pix_row, provided, usd_row

CHECK_KEYS = {
    "ok",
    "rows",
    "payable",
    "faults",
    "fault_counts",
    "faults_not_listed",
    "corrects",
    "warnings",
    "totals",
    "repeats",
    "estimated_s",
    "batch_id",
}


def faulty() -> list[Row]:
    return [
        usd_row(1),
        usd_row(2, amount="10.123"),
        {**pix_row(3, "20"), "fields.document_type": "DRIVERS LICENCE"},
        usd_row(4, reference_id="T-0001"),
        usd_row(5, currency="XQQ"),
    ]


def test_check_tells_every_fault_with_its_line_and_masks_what_is_personal(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, provider):
        world.write(faulty())
        facts = world.paybatch("check", "p.csv", "--json", code=3).json
        assert set(facts) >= CHECK_KEYS
        assert (facts["ok"], facts["rows"], facts["payable"]) == (False, 5, 0)
        assert all(
            set(fault) == {"line", "column", "kind", "value", "expected"}
            for fault in facts["faults"]
        )
        assert [(fault["line"], fault["column"], fault["kind"]) for fault in facts["faults"]] == [
            (3, "amount", "too_many_decimals"),
            (4, "fields.document_type", "pattern_mismatch"),
            (5, "reference_id", "duplicate_reference"),
            (6, "currency", "currency_unknown"),
        ]
        text = world.paybatch("check", "p.csv", code=3)
        assert "10.123" in text.out
        assert "LICENCE" not in text.out.replace(facts["faults"][1]["value"], "")
        assert world.nothing_is_stored()
        assert provider.ledger() == {}


def test_rows_written_by_errors_are_accepted_once_they_are_corrected(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write(faulty())
        world.paybatch("check", "p.csv", "--errors", "wrong.csv", code=3)
        path = world.folder / "wrong.csv"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        wrong = world.read("wrong.csv")
        assert [row["fault_line"] for row in wrong] == ["3", "4", "5", "6"]
        assert all("expected" in row["fault_reason"] for row in wrong)
        corrections: list[dict[str, str]] = [
            {"amount": "10.12"},
            {"fields.document_type": "CPF"},
            {"reference_id": "T-0004"},
            {"currency": "USD"},
        ]
        world.write(
            [row | fix for row, fix in zip(wrong, corrections, strict=True)], "corrected.csv"
        )
        facts = world.paybatch("check", "corrected.csv", "--json").json
        assert (facts["ok"], facts["payable"], facts["faults"]) == (True, 4, [])


def test_check_adds_up_what_a_file_needs_beside_what_is_there(tmp_path: Path) -> None:
    with provided(tmp_path, "--balance", "USD=100.00") as (world, _):
        world.write([usd_row(1, amount="40.10"), usd_row(2, amount="50"), pix_row(3, "7.07")])
        facts = world.paybatch("check", "p.csv", "--json").json
        totals = {each["currency"]: each for each in facts["totals"]}
        assert (totals["USD"]["count"], totals["USD"]["amount"]) == (2, "90.10")
        assert (totals["USD"]["balance"], totals["USD"]["covered"]) == ("100.00", True)
        assert totals["BRL"]["amount"] == "7.07"
        world.write([usd_row(1, amount="100.01")], "more.csv")
        facts = world.paybatch("check", "more.csv", "--json", code=6).json
        assert (facts["ok"], facts["totals"][0]["covered"]) == (False, False)


def test_a_stored_batch_is_not_counted_against_itself_but_others_are(tmp_path: Path) -> None:
    with provided(tmp_path, "--balance", "USD=100.00") as (world, provider):
        world.write([usd_row(1, amount="60")])
        world.write([usd_row(2, amount="50")], "other.csv")
        world.paybatch("submit", "p.csv", "--approve")
        facts = world.paybatch("check", "p.csv", "--json").json
        assert (facts["ok"], facts["exit_code"], facts["batch_id"]) == (True, 0, world.batch_id())
        assert (facts["totals"][0]["promised"], facts["totals"][0]["covered"]) == ("0.00", True)
        told = world.paybatch("check", "p.csv").out
        assert told.endswith("No faults.\n")
        assert "Not enough" not in told
        told = world.paybatch("check", "other.csv", code=6).out
        assert "needs 50.00 USD with fees, and 40.00 USD can be spent" in told
        # Paid, it needs nothing more; and what it took is the balance's.
        world.paybatch("run", "p.csv", "--yes")
        provider.control("POST", "balances", USD="1.00")
        facts = world.paybatch("check", "p.csv", "--json").json
        assert (facts["ok"], facts["totals"][0]["amount"]) == (True, "60.00")


def test_a_draft_without_its_money_is_told_as_a_fault_of_the_account(tmp_path: Path) -> None:
    with provided(tmp_path, "--balance", "USD=100.00") as (world, provider):
        world.write([usd_row(1, amount="60")])
        world.paybatch("submit", "p.csv")
        provider.control("POST", "balances", USD="59.99")
        facts = world.paybatch("check", "p.csv", "--json", code=6).json
        assert (facts["ok"], facts["error"]) == (False, "not enough money in account main (USD)")
        # Once more it is refused for what does not change.
        assert "stored already" in world.paybatch("submit", "p.csv", code=3).err


def test_only_valid_rows_are_paid_when_that_is_asked_for(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, provider):
        world.write([*faulty(), usd_row(6)])
        world.paybatch("run", "p.csv", "--yes", code=3)
        facts = world.paybatch("run", "p.csv", "--yes", "--valid-rows-only", "--json").json
        assert facts["counts"] == {"paid": 2}
        assert world.states() == {"T-0001": "paid", "T-0006": "paid"}
        # The numbers are those of the input's data rows.
        assert [row["row"] for row in world.read()] == ["1", "6"]
        check_money(world.read(), provider.ledger())


def test_the_same_file_read_with_other_options_is_not_taken_for_the_stored_one(
    tmp_path: Path,
) -> None:
    with provided(tmp_path) as (world, _):
        world.write([*faulty(), usd_row(6)])
        world.paybatch("run", "p.csv", "--yes", "--valid-rows-only")
        facts = world.paybatch("check", "p.csv", "--json", code=3).json
        assert facts["batch_id"] is None
        assert not facts["ok"]


def test_thousands_of_faults_are_counted_on_the_screen_and_all_written(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        rows = [usd_row(number, amount="1.005") for number in range(LISTED_MAX + 20)]
        rows[5]["currency"] = "usd"
        rows[9]["service"] = "nonesuch"
        rows[11] = usd_row(11)
        world.write(rows)
        told = world.paybatch("check", "p.csv", "--errors", "wrong.csv", code=3).out
        assert (
            "  10,018 x amount: more decimals than the currency or the service has, first at line 2"
            in told
        )
        assert "  1 x currency: not a currency code, first at line 7\n" in told
        assert f"... and {10_020 - 20:,} more" in told
        assert len(told.splitlines()) < 40
        wrong = world.read("wrong.csv")
        assert len(wrong) == len(rows) - 1
        # A row with two faults is one row to correct, with both reasons.
        [both] = [row for row in wrong if row["fault_line"] == "11"]
        assert both["fault_reason"].count("expected ") == 2
        facts = world.paybatch("check", "p.csv", "--json", code=3).json
        assert (len(facts["faults"]), facts["faults_not_listed"]) == (LISTED_MAX, 20)
        assert {each["kind"]: each["count"] for each in facts["fault_counts"]} == {
            "too_many_decimals": 10_018,
            "currency_unknown": 1,
            "service_unknown": 1,
        }
        # What is left out of the list is left out of the batch all the same.
        only = ("--valid-rows-only", "--json")
        assert world.paybatch("check", "p.csv", *only).json["payable"] == 1
        stored = world.paybatch("submit", "p.csv", *only).json
        assert world.query("SELECT reference_id FROM payouts") == [("T-0011",)]
        assert stored["rows"] == 1


def test_a_refusal_without_faults_of_rows_shows_no_empty_table(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1)])
        told = world.paybatch("run", "p.csv", "--yes", "--expect-count", "2", code=3)
        assert "2 rows stated, the file has 1" in told.out
        assert "expected\n" not in told.out


def test_what_is_left_out_is_said_and_the_faults_beside_wrong_totals_too(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1), usd_row(2, amount="x")])
        both = world.paybatch("check", "p.csv", "--expect-count", "7", code=3)
        assert "7 rows stated" in both.out
        assert "a plain decimal, such as" in both.out
        assert "not what was announced" in both.err
        assert "left out" not in both.out
        stored = world.paybatch("submit", "p.csv", "--valid-rows-only")
        assert (
            "Rows left out because of faults: 1; paybatch check p.csv --valid-rows-only"
            in stored.out
        )
        # Once the others are stored, the faulty rows can still be written by themselves.
        only = ("--valid-rows-only", "--errors", "w.csv")
        world.paybatch("check", "p.csv", *only)
        assert [row["reference_id"] for row in world.read("w.csv")] == ["T-0002"]


def test_the_input_is_never_overwritten_by_its_faults(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        before = world.write([usd_row(1, amount="x")]).read_bytes()
        assert (
            "is the input itself"
            in world.paybatch("check", "p.csv", "--errors", "p.csv", code=2).err
        )
        assert (
            "name one of these" in world.paybatch("check", "p.csv", "--errors", "w.pdf", code=2).err
        )
        assert (world.folder / "p.csv").read_bytes() == before


def test_rows_beyond_the_list_of_faults_are_left_out_of_the_batch_too(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        # All but the first pay the same again: each is good by itself, and a fault beside the rest.
        same = {"amount": "20.00", "fields.account": "5500999988"}
        world.write([usd_row(number, **same) for number in range(LISTED_MAX + 30)])
        stored = world.paybatch("submit", "p.csv", "--valid-rows-only", "--json").json
        assert stored["rows"] == 1
        assert world.query("SELECT reference_id FROM payouts") == [("T-0000",)]
