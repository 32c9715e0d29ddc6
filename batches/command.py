"""What the commands share: options, settings, and the runtimes that they work with."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from batches import local, screens
from batches.faults import nearest
from batches.people import Duty, operator, permit
from batches.preflight import REFUSED, Options, Plan
from batches.run import announce
from batches.summary import NEEDS_PERSON, Summary
from workers.errors import MoneyError, UsageError
from workers.record.money import Currency, Money
from workers.record.status import State
from workers.runtime import Account, Runtime, settings_of
from workers.settings import SANDBOX, Settings
from workers.words import number_of

_Command = Callable[..., Any]

NO_REASON = "--reason is empty: say why, for the record"


def file_options(command: _Command) -> _Command:
    for option in (
        click.argument("file", type=click.Path(path_type=Path)),
        click.option("--account", help="The account that pays rows which name none."),
        click.option("--valid-rows-only", is_flag=True, help="Leave faulty rows out."),
        click.option("--allow-repeats", is_flag=True, help="Pay the same beneficiary again."),
        click.option(
            "--map",
            "mapping",
            multiple=True,
            metavar="'THEIRS=OURS'",
            help="Rename a column; or NAME for the [mappings.NAME] of the settings.",
        ),
        click.option(
            "--expect-count", type=click.IntRange(min=0), help="Control total: the number of rows."
        ),
        click.option(
            "--expect-total",
            multiple=True,
            metavar="USD=1234.50",
            help="Control total: the sum of a currency.",
        ),
    ):
        command = option(command)
    return command


json_option = click.option("--json", "as_json", is_flag=True, help="Facts as JSON on stdout.")
account_option = click.option("--account", help="An account of the settings.")


def load_settings(account: str | None = None, *, duty: Duty | None = None) -> Settings:
    """The settings, with the sandbox where it is asked for or nothing else is set up.

    Args:
        duty: what the person at the keyboard is about to do; None: anybody may.

    Raises:
        NotAllowed: the settings do not let that person do it.
    """
    settings = Settings.load(settings_of, sandbox=account == SANDBOX)
    if duty is not None:
        permit(settings, operator(), duty)
    return settings


def chosen_account(settings: Settings, named: str | None) -> str:
    """The account that is named, else the usual one.

    Raises:
        UsageError: none is named, and the settings do not tell which of several is meant.
    """
    chosen = named or settings.usual_account
    if chosen is None:
        known = ", ".join(sorted(settings.accounts))
        raise UsageError(
            f"the settings have several accounts ({known}): set default_account, or name one with"
            " --account"
        )
    return chosen


def read_options(settings: Settings, given: Mapping[str, Any]) -> Options:
    totals = tuple(_control_total(text) for text in given["expect_total"])
    currencies = [total.currency for total in totals]
    if again := [one for one in currencies if currencies.count(one) > 1]:
        raise UsageError(f"--expect-total is given twice for {again[0]}; give one total a currency")
    return Options(
        account=chosen_account(settings, given["account"]),
        valid_rows_only=given["valid_rows_only"],
        allow_repeats=given["allow_repeats"],
        mapping=_mapping(settings, given["mapping"]),
        expect_count=given["expect_count"],
        expect_totals=totals,
    )


def _mapping(settings: Settings, given: Sequence[str]) -> Mapping[str, str]:
    """Theirs to ours, from pairs and from names of the settings.

    Raises:
        UsageError: neither, or one column of theirs is led to two of ours.
    """
    mapping: dict[str, str] = {}
    for given_as in given:
        for theirs, ours in _pairs(settings, given_as).items():
            if mapping.setdefault(theirs, ours) != ours:
                raise UsageError(
                    f'--map leads "{theirs}" to {mapping[theirs]} and to {ours}; name one of them'
                )
    return mapping


def _pairs(settings: Settings, given_as: str) -> Mapping[str, str]:
    # Ours has no "=", theirs may have any.
    theirs, equals, ours = given_as.rpartition("=")
    if equals and theirs and ours:
        return {theirs: ours}
    if not equals and ours in settings.mappings:
        return settings.mappings[ours]
    known = ", ".join(sorted(settings.mappings)) or "there are none"
    meant = None if equals else nearest(ours, settings.mappings)
    hint = f"; did you mean {meant}?" if meant else ""
    raise UsageError(
        f"--map {given_as!r}: expected 'THEIR COLUMN=our_column', or a name of [mappings] in the"
        f" settings: {known}{hint}"
    )


def _control_total(text: str) -> Money:
    code, _, amount = text.partition("=")
    try:
        return Money.parse(amount, Currency.of(code))
    except MoneyError as error:
        raise UsageError(f"--expect-total {text!r}: {error}") from None


@contextlib.contextmanager
def record(duty: Duty | None = None) -> Iterator[Runtime]:
    """The record alone: for commands that ask no provider anything.

    Raises:
        NotAllowed: the settings do not let the person at the keyboard do that.
    """
    runtime = Runtime.open(load_settings(duty=duty))
    try:
        yield runtime
    finally:
        runtime.close()


def start_paying(batch_id: str, runtime: Runtime) -> None:
    """Tell the cluster's workers at once; embedded, the command that follows the batch pays it."""
    if not runtime.settings.embedded:
        announce(batch_id, runtime)


def next_after(batch_id: str, decision: str, settings: Settings) -> str:
    if decision == "draft":
        whose = " by somebody else" if settings.approvals == 2 else ""
        return f"It waits for approval{whose}: paybatch approve {batch_id}"
    if settings.embedded:
        return f"Pay it with: paybatch watch {batch_id}"
    return f"The workers are paying it: paybatch watch {batch_id}"


def after_pause(batch_id: str, settings: Settings) -> str:
    if settings.embedded:
        return (
            "Only a running command tries it again. When that is mended, run the same file again,"
            f" or: paybatch watch {batch_id}. What is paid stays paid."
        )
    return f"The workers try it again by themselves; follow it with: paybatch watch {batch_id}"


def stored_already(found: Summary) -> str:
    """What a file is that was stored before, and what `run` would do with it."""
    stored = f"Stored already as batch {found.batch.id}"
    if found.missing or not found.is_completed:
        return f"{stored}; `paybatch run` carries on with it."
    if held := found.counts.get(State.HELD):
        return (
            f"{stored}, which is finished but for {held:,} that need a person;"
            f" `paybatch run` would send nothing and end with {NEEDS_PERSON}."
        )
    return f"{stored}, which is finished; `paybatch run` would refuse it with exit code {REFUSED}."


def same_way(mapping: Mapping[str, str]) -> str:
    """How a file of rows to correct is read: its columns are the input's own."""
    return "; read it with the same --map" if mapping else ""


def say_sandbox(account: str, *, quiet: bool) -> None:
    if account == SANDBOX and not quiet:
        screens.say(
            "Account sandbox: a simulator of Payelata on this machine. No real money moves."
        )


def reference_id_chars_max(runtime: Runtime) -> int:
    return min(
        one.provider.capabilities.reference_id_chars_max for one in runtime.accounts.values()
    )


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False))


def plan_json(plan: Plan, exit_code: int) -> dict[str, Any]:
    """The facts of a file's check, with the error that refuses it."""
    facts = {**plan.as_json(), "exit_code": exit_code}
    if plan.contradictions:
        facts["error"] = f"the file is not what was announced: {'; '.join(plan.contradictions)}"
    elif not plan.is_payable:
        facts["error"] = f"the file has {number_of(len(plan.faults), 'fault')}"
    elif exit_code:
        short = ", ".join(f"{funds.account} ({funds.currency.code})" for funds in plan.uncovered)
        facts["error"] = f"not enough money in account {short}"
    return facts


@contextlib.contextmanager
def account_of(name: str | None, duty: Duty = Duty.LOOK) -> Iterator[tuple[Account, Runtime]]:
    """An account of the settings, ready to be asked.

    Raises:
        NotAllowed: the settings do not let the person at the keyboard do that.
        UsageError: there is none of that name.
    """
    settings = load_settings(name, duty=duty)
    wanted = chosen_account(settings, name)
    with local.open_runtime(settings) as opened:
        if wanted not in opened.runtime.accounts:
            known = ", ".join(sorted(opened.runtime.accounts))
            raise UsageError(f"no account {wanted!r} in the settings; there are: {known}")
        yield opened.runtime.accounts[wanted], opened.runtime
