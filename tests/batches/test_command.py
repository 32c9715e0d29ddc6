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


MAPPINGS = """
[mappings.payroll]
"Staff No" = "reference_id"
"Base=Pay" = "amount"

[mappings.wrong]
"Staff No" = "amount"
"""


def test_a_mapping_of_the_settings_is_used_by_its_name(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        settings = world.folder / "paybatch.toml"
        settings.write_text(settings.read_text() + MAPPINGS)
        row = usd_row(1)
        row = {"Staff No": row.pop("reference_id"), "Base=Pay": row.pop("amount"), **row}
        world.write([row])
        assert world.paybatch("check", "p.csv", "--map", "payroll", "--json").json["ok"]
        # A pair may have the sign in their name, and names and pairs go together.
        pairs = ("--map", "Base=Pay=amount", "--map", "Staff No=reference_id")
        assert world.paybatch("check", "p.csv", *pairs, "--map", "payroll", "--json").json["ok"]
        for given, told in (
            ("payrol", "payroll, wrong; did you mean payroll?"),
            ("nothing", "in the settings: payroll, wrong"),
            ("Staff=nowhere", 'leads to "nowhere", which is no column'),
        ):
            assert told in world.paybatch("check", "p.csv", "--map", given, code=2).err
        both = ("--map", "payroll", "--map", "wrong")
        told = world.paybatch("check", "p.csv", *both, code=2).err
        assert '"Staff No" to reference_id and to amount' in told
        assert (
            "there are none"
            in world.paybatch(
                "check", "p.csv", "--map", "payroll", code=2, PAYBATCH_CONFIG=str(_plain(settings))
            ).err
        )


def _plain(settings: Path) -> Path:
    plain = settings.with_name("plain.toml")
    plain.write_text(settings.read_text().replace(MAPPINGS, ""))
    return plain
