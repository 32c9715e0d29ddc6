"""The options that several commands share, and where settings come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.batches.cli_world import World, provided, usd_row


def test_columns_of_another_name_are_refused_by_name_and_taken_when_mapped(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        rows = [usd_row(1), usd_row(2)]
        for row in rows:
            row["Employee ID"] = row.pop("reference_id")
            row["Pay, net"] = row.pop("amount")
        world.write(rows)
        refused = world.paybatch("check", "p.csv", code=3)
        assert "Employee ID" in refused.err + refused.out
        mapped = ("--map", "Employee ID=reference_id", "--map", "Pay, net=amount")
        assert world.paybatch("run", "p.csv", "--yes", *mapped, "--json").json["rows"] == 2
        assert world.states() == {"T-0001": "paid", "T-0002": "paid"}


def test_settings_are_taken_from_the_file_that_is_named(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        elsewhere = tmp_path / "elsewhere.toml"
        (world.folder / "paybatch.toml").rename(elsewhere)
        assert "main" in world.paybatch("balance", "--json", PAYBATCH_CONFIG=str(elsewhere)).out
        missing = world.paybatch("balance", code=2, PAYBATCH_CONFIG=str(tmp_path / "none.toml"))
        assert "none.toml" in missing.err


def test_the_environment_goes_on_top_of_the_file(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        ended = world.paybatch("check", "p.csv", code=2, PAYBATCH_ACCOUNTS__MAIN__CLAIM_S="0.5")
        assert "claim_s (0.5)" in ended.err


def test_one_key_of_the_sandbox_can_be_set_by_itself(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.env.clear()
    world.paybatch("balance", PAYBATCH_ACCOUNTS__SANDBOX__POLL_FIRST_S="0.1")
    wrong = world.paybatch("balance", code=2, PAYBATCH_ACCOUNTS__SANDBOX__CLAIM_S="0.1")
    assert "claim_s (0.1)" in wrong.err


@pytest.mark.parametrize("pair", ["reference_id", "=amount", "Employee ID="])
def test_half_a_mapping_is_bad_usage(tmp_path: Path, pair: str) -> None:
    world = World(tmp_path)
    world.write([usd_row(1)])
    assert "expected" in world.paybatch("check", "p.csv", "--map", pair, code=2).err
