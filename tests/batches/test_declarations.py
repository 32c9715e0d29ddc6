"""The tables of docs/providers.md are the adapters' own declarations, and these hold together."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from batches import declarations
from batches.cli import cli
from workers.providers.port import Provider
from workers.settings import AccountSettings

PAGE = Path(__file__).parent.parent.parent / "docs" / "providers.md"
OURS = ("ecart", "echelon", "ecomcharge", "etpay", "payelata")
every_adapter = pytest.mark.parametrize(
    "adapter", declarations.adapters(), ids=lambda adapter: adapter.name
)


def test_the_page_shows_what_the_adapters_declare() -> None:
    script = runpy.run_path(str(PAGE.parent / "write.py"))
    assert PAGE.read_text(encoding="utf-8") == script["written"](), "run: make docs"
    assert "| ecart | echelon | ecomcharge | etpay | payelata |" in script["written"]()


@every_adapter
def test_what_is_assumed_can_be_set(adapter: type[Provider]) -> None:
    keys = {*adapter.Config.model_fields, *AccountSettings.model_fields}
    for fact in adapter.facts:
        assert set(fact.settings) <= keys, fact
        assert fact.settings or fact.support != "assumed", fact
        assert fact.source, fact


@every_adapter
def test_a_providers_defaults_are_settings_that_every_account_has(adapter: type[Provider]) -> None:
    assert adapter.account_defaults.keys() <= AccountSettings.model_fields.keys()
    assert "lookup_grace_s" not in adapter.account_defaults
    assert AccountSettings(
        provider=adapter.name,
        **{"lookup_grace_s": adapter.capabilities.absence_conclusive_after_s},
        **adapter.account_defaults,
    )


def test_the_command_tells_the_same_in_each_form(capsys: pytest.CaptureFixture[str]) -> None:
    told: Any = json.loads(_run("providers", "--json"))
    names = [one["provider"] for one in told["providers"]]
    assert set(OURS) <= set(names)
    assert _run("providers", "--markdown") == declarations.as_markdown()
    screen = _run("providers")
    assert all(name in screen for name in OURS)
    # The page of this repository says nothing of others' adapters, and there are none here.
    assert "plug-in" not in screen


def test_what_settings_can_switch_on_is_not_called_impossible() -> None:
    told = {one.name: dict(declarations.abilities(one)) for one in declarations.adapters()}
    assert {name: each["balance"] for name, each in told.items() if name in OURS} == {
        "ecart": "yes",
        "echelon": "no",
        "ecomcharge": "not by default",
        "etpay": "yes",
        "payelata": "yes",
    }
    for question in ("asks us before it pays", "can be asked beforehand"):
        assert told["ecomcharge"][question] == "not by default"
        assert told["etpay"][question] == "no"


def _run(*words: str) -> str:
    done = CliRunner().invoke(cli, list(words), standalone_mode=False)
    assert done.return_value in (0, None), done.output
    return done.output
