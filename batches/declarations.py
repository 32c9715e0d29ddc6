"""What the installed adapters declare of their providers, as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workers.errors import SettingsError
from workers.providers.port import (
    DryRunner,
    Fact,
    Provider,
    Verifier,
    installed_providers,
    load_provider,
)


def adapters() -> Sequence[type[Provider]]:
    """The installed adapters that can be used, by name."""
    unusable = broken()
    return [load_provider(name) for name in installed_providers() if name not in unusable]


def broken() -> Mapping[str, str]:
    """The installed adapters that cannot be used: by name, what is wrong."""
    problems = {}
    for name in installed_providers():
        try:
            load_provider(name)
        except SettingsError as error:
            problems[name] = str(error)
    return problems


def abilities(adapter: type[Provider]) -> Sequence[tuple[str, str]]:
    """What a provider can do, with the default settings, in words: (question, answer)."""
    can = adapter.capabilities
    currencies = "as its services say" if can.currencies is None else ", ".join(can.currencies)
    repeat = "no"
    if can.refuses_duplicates:
        repeat = "yes: it refuses duplicates"
    elif can.repeatable_for_s is not None:
        repeat = f"with the same key, for {_duration(can.repeatable_for_s)}"
    reference = f"{can.reference_id_chars_max} of `{can.reference_id_char}`"
    return [
        ("currencies", currencies or "those of the settings"),
        ("characters of a reference id", reference),
        ("steps", "create, then release" if can.two_step else "one"),
        ("look-up by reference id", _yes(can.look_up)),
        ("absence proven after", _duration(can.absence_conclusive_after_s)),
        ("sent again after proven absence", repeat),
        ("an unlisted refusal is final when absent", _yes(can.refused_when_absent)),
        ("balance", _yes(can.balances, by_settings=balance_by_settings(adapter))),
        ("list of services", _yes(can.services)),
        ("webhooks", _yes(can.webhooks)),
        ("asks us before it pays", _yes(can.verifies, by_settings=issubclass(adapter, Verifier))),
        ("can be asked beforehand", _yes(can.dry_run, by_settings=issubclass(adapter, DryRunner))),
        ("list by date", _yes(can.list_payouts)),
    ]


def balance_by_settings(adapter: type[Provider]) -> bool:
    """Whether settings decide if the balance can be asked for: a fact of its calls names them."""
    return any("balance call" in fact.claim and fact.settings for fact in adapter.facts)


def as_json() -> list[dict[str, Any]]:
    """The facts of `providers --json`: of those that can be used."""
    return [
        {
            "provider": adapter.name,
            "capabilities": dict(abilities(adapter)),
            "defaults": dict(adapter.account_defaults),
            "facts": [
                {
                    "claim": fact.claim,
                    "support": fact.support,
                    "source": fact.source,
                    "settings": list(fact.settings),
                }
                for fact in adapter.facts
            ],
        }
        for adapter in adapters()
    ]


def as_markdown(names: Sequence[str] | None = None) -> str:
    """Two kinds of tables: what all providers can do, and of each what is known and assumed.

    Args:
        names: only these providers; all that are installed by default.
    """
    chosen = [one for one in adapters() if names is None or one.name in names]
    columns = [dict(abilities(one)) for one in chosen]
    lines = _table(
        ["", *(one.name for one in chosen)],
        [[question, *(column[question] for column in columns)] for question in columns[0]],
    )
    for one in chosen:
        lines += ["", f"### {one.name}", ""]
        if one.account_defaults:
            told = ", ".join(
                f"`{key} = {_toml(value)}`" for key, value in one.account_defaults.items()
            )
            lines += [f"Its own defaults: {told}.", ""]
        lines += _table(
            ["what", "support", "section", "settings that change it"],
            [_row(fact) for fact in one.facts],
        )
    return "\n".join(lines) + "\n"


def _row(fact: Fact) -> list[str]:
    return [fact.claim, fact.support, fact.source, ", ".join(f"`{key}`" for key in fact.settings)]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines]


def _yes(value: bool, *, by_settings: bool = False) -> str:
    if value:
        return "yes"
    return "not by default" if by_settings else "no"


def _toml(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def _duration(seconds: float) -> str:
    for unit, name in ((3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= unit and seconds % unit == 0:
            count = int(seconds // unit)
            return f"{count} {name}{'s' if count > 1 else ''}"
    return f"{seconds:g} seconds"
