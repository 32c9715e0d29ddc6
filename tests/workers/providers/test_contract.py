"""Every adapter keeps the contract that it declares, and one that declares too much is caught."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.workers.kinds import KINDS
from tests.workers.provider_world import provider_world
from tests.workers.providers.contract import SCENARIOS, Scenario, needed_by
from workers.providers.port import load_provider
from workers.record.model import Reply
from workers.record.status import Outcome

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


def declared(name: str) -> Any:
    kind = KINDS[name]
    adapter = load_provider(name)
    account = {**kind.account, "base_url": "http://127.0.0.1:9"}
    if name == "payelata":
        account["public_base_url"] = account["base_url"]
    made: Any = adapter
    return made(made.Config.model_validate(account), None, None).capabilities


@pytest.mark.parametrize(
    ("name", "scenario"),
    [
        pytest.param(name, scenario, id=f"{name}-{scenario.name}")
        for name in KINDS
        for scenario in needed_by(declared(name))
    ],
)
def test_every_adapter_keeps_the_contract(
    tmp_path: Path,
    name: str,
    scenario: Scenario,
    record_property: Callable[[str, object], None],
) -> None:
    with provider_world(tmp_path, KINDS[name], harsh=scenario.harsh) as world:
        scenario.run(world)
    record_property(f"contract scenarios, {name}", 1)


@pytest.mark.parametrize(
    ("name", "claim", "caught_by"),
    [
        ("etpay", {"refuses_duplicates": True}, "a_second_create_does_what_is_declared"),
        ("ecomcharge", {"two_step": True}, "two_steps_are_two_calls_and_one_is_one"),
        ("payelata", {"two_step": False}, "accepted_and_paid_once"),
        ("ecart", {"two_step": False}, "accepted_and_paid_once"),
        ("echelon", {"balances": True}, "balances_are_told_where_they_are_declared"),
        ("payelata", {"balances": False}, "balances_are_told_where_they_are_declared"),
        ("ecart", {"list_payouts": True}, "a_list_by_date_is_told_where_it_is_declared"),
        ("payelata", {"list_payouts": False}, "a_list_by_date_is_told_where_it_is_declared"),
        ("ecart", {"verifies": True}, "optional_abilities_have_their_methods"),
        ("etpay", {"dry_run": True}, "optional_abilities_have_their_methods"),
    ],
)
def test_an_adapter_that_declares_what_it_does_not_do_is_caught(
    tmp_path: Path, name: str, claim: dict[str, Any], caught_by: str
) -> None:
    scenario = BY_NAME[caught_by]
    with provider_world(tmp_path, KINDS[name], harsh=scenario.harsh) as world:
        world.declare(**claim)
        with pytest.raises(AssertionError):
            scenario.run(world)


def test_a_look_up_that_is_declared_and_blind_is_caught(tmp_path: Path) -> None:
    scenario = BY_NAME["a_create_that_was_stored_and_never_answered_is_found"]
    with provider_world(tmp_path, KINDS["echelon"]) as world:
        world.provider.look_up = lambda _: Reply(outcome=Outcome.NOT_FOUND)
        with pytest.raises(AssertionError):
            scenario.run(world)
