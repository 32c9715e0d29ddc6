"""Where a provider can be asked beforehand, and is to be, its answer is a fault of the row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.batches.cli_world import World
from workers.simulator.ecomcharge import EcomchargeOptions, serve
from workers.simulator.server import Running

HEADER = "reference_id,amount,currency,service,fields.account_number"
TOML = """
[accounts.main]
provider = "ecomcharge"
base_url = "{url}"
shop_id = "4242"
secret_key = "demo-secret"
currency_decimals = {{ USD = 2 }}
methods = {{ bank_transfer = {{ required = ["account_number"] }} }}
test_mode = true
rate_per_s = 0
precheck = {precheck}
"""


@contextmanager
def shop(folder: Path, *, precheck: bool) -> Iterator[tuple[World, Running]]:
    """A world whose account is a shop; amounts that end in 999 are refused there."""
    world = World(folder)
    world.env = {}
    with serve(EcomchargeOptions(quiet=True)) as running:
        settings = TOML.format(url=running.base_url, precheck=str(precheck).lower())
        (world.folder / "paybatch.toml").write_text(settings)
        rows = ["R-1,10.00,USD,bank_transfer,987654321", "R-2,19.99,USD,bank_transfer,987654322"]
        (world.folder / "p.csv").write_text("\n".join([HEADER, *rows, ""]))
        yield world, running


def calls(running: Running) -> dict[str, int]:
    counted: dict[str, int] = httpx.get(f"{running.control_url}/calls").json()
    return counted


def test_a_payout_that_the_provider_would_refuse_is_a_fault_before_any_money_moves(
    tmp_path: Path,
) -> None:
    with shop(tmp_path, precheck=True) as (world, running):
        told = json.loads(world.paybatch("check", "p.csv", "--json", code=3).out)
        assert [(f["line"], f["kind"]) for f in told["faults"]] == [(3, "would_be_refused")]
        world.paybatch("run", "p.csv", "--yes", code=3)
        assert (calls(running)["precheck"], calls(running)["create"]) == (4, 0)
        assert world.nothing_is_stored()


def test_a_provider_that_is_not_to_be_asked_is_not(tmp_path: Path) -> None:
    with shop(tmp_path, precheck=False) as (world, running):
        assert json.loads(world.paybatch("check", "p.csv", "--json").out)["faults"] == []
        assert calls(running)["precheck"] == 0
