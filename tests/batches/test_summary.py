"""What a batch has come to: counts, sums, reasons and ages, the latest batches first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.batches.cli_world import World, pix_row, provided, usd_row

SUMMARY_KEYS = {
    *("batch_id", "file", "state", "rows", "counts", "sums", "fees", "failures", "held"),
    *("warnings", "open_since", "settled"),
}


def test_status_tells_counts_sums_and_the_latest_batches_first(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert "No batches yet" in world.paybatch("status").out
    assert world.paybatch("status", "--json").json == {"batches": []}
    world.write([usd_row(1, amount="2.50"), usd_row(2, amount="3"), pix_row(3, "7")])
    first = world.paybatch("submit", "p.csv", "--json").json["batch_id"]
    world.write([usd_row(4)], "q.csv")
    second = world.paybatch("submit", "q.csv", "--json").json["batch_id"]
    listed = world.paybatch("status", "--json").json["batches"]
    assert [(each["batch_id"], each["file"]) for each in listed] == [
        (second, "q.csv"),
        (first, "p.csv"),
    ]
    one: dict[str, Any] = world.paybatch("status", first, "--json").json
    assert one["sums"] == [
        {"currency": "BRL", "state": "draft", "count": 1, "amount": "7.00"},
        {"currency": "USD", "state": "draft", "count": 2, "amount": "5.50"},
    ]
    shown = world.paybatch("status", first).out
    assert "waiting for approval" in shown
    assert "5.50 USD" in shown
    assert "p.csv" in world.paybatch("status").out


def test_a_finished_batch_tells_why_lines_failed_and_who_waits_for_a_person(
    tmp_path: Path,
) -> None:
    with provided(tmp_path) as (world, _):
        failing = "status=process_failed resolution=invalid_details"
        words = ["", failing, failing, "create:422", "amount=1.00", "status=partially_processed"]
        world.write([usd_row(n, each, amount=f"{n + 1}.00") for n, each in enumerate(words)])
        world.paybatch("run", "p.csv", "--yes", code=5)
        facts = world.paybatch("status", world.batch_id(), "--json").json
        assert set(facts) >= SUMMARY_KEYS
        assert (facts["state"], facts["settled"]) == ("completed", 4)
        assert facts["counts"] == {"paid": 1, "failed": 3, "held": 2}
        assert [each["count"] for each in facts["failures"]] == [2, 1]
        assert [each["reference_id"] for each in facts["held"]] == ["T-0004", "T-0005"]
        sums = {each["state"]: each["amount"] for each in facts["sums"]}
        assert sums == {"paid": "1.00", "failed": "9.00", "held": "11.00"}
        assert list(facts["open_since"]) == ["held"]
