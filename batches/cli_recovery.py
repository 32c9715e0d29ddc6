"""The commands after something went wrong: freeze accounts, compare them."""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import click

from batches import local, screens
from batches.command import (
    NO_REASON,
    account_of,
    account_option,
    json_option,
    print_json,
    record,
)
from batches.people import Duty, operator
from batches.reconciliation import Break, Comparison, Kind, Reconciliation
from batches.reports import check_target, write_table
from workers.errors import UsageError
from workers.words import number_of

log = logging.getLogger(__name__)

# Breaks of each kind that `--json` holds, and a screen shows; a file that -o writes has all.
JSON_MAX = 1_000
SHOWN_MAX = 20
WORDS: dict[Kind, str] = {
    Kind.NOT_HERE: "at the provider, not known here",
    Kind.NOT_SENT_HERE: "at the provider, not sent here yet",
    Kind.NOT_THERE: "sent, not at the provider",
    Kind.DIFFERS: "not the same on both sides",
    Kind.CONTRADICTS: "states contradict each other",
    Kind.SEVERAL: "several at the provider",
}


@click.command()
@account_option
@click.option("--reason", required=True, help="Why, for the record.")
@json_option
def freeze(account: str | None, reason: str, as_json: bool) -> int:
    """Stop sending for all accounts, or one, because the record was put back to an earlier state.

    To be run after a backup was restored, before anything else. What is open is still asked about;
    nothing is created or released until `paybatch reconcile` and `paybatch resume`.
    """
    if not reason.strip():
        raise UsageError(NO_REASON)
    with record(Duty.FREEZE) as runtime:
        if account is not None and account not in runtime.accounts:
            known = ", ".join(sorted(runtime.accounts))
            raise UsageError(f"no account {account!r} in the settings; there are: {known}")
        actor = operator()
        why = f"{reason} (frozen by {actor})"
        local.log_to_file(local.home(runtime.settings))
        names = runtime.restores.freeze(why, runtime.clock.now(), account)
        log.warning("accounts frozen", extra={"account": ",".join(names), "actor": actor.name})
        pauses = [pause for pause in runtime.book.pauses() if pause.account in names]
    if as_json:
        print_json({"frozen": list(names), "reason": why})
    else:
        screens.pauses(pauses, retried=False, then="")
    return 0


def _time(text: str, *, ends: bool = False) -> datetime:
    """`2026-03-31`, or `2026-03-31T18:00` with or without a zone: without one it is UTC.

    Args:
        ends: a day is meant to its end.

    Raises:
        UsageError: it is neither.
    """
    try:
        if len(text) == len("2026-03-31"):
            day = date.fromisoformat(text) + timedelta(days=ends)
            return datetime(day.year, day.month, day.day, tzinfo=UTC)
        at = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{text!r}: expected a day such as 2026-03-31, or a time such as 2026-03-31T18:00"
        ) from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


@click.command()
@account_option
@click.option("--from", "first", metavar="D", required=True, help="The first day, or a time.")
@click.option("--to", "last", metavar="D", required=True, help="The last day, or a time.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write all breaks there.")
@json_option
def reconcile(account: str | None, first: str, last: str, out: Path | None, as_json: bool) -> int:
    """Compare our payouts with the provider's list: matches and breaks. Times are UTC.

    Payouts that should move are asked about again; nothing else is changed. Ends with 5 where there
    are breaks.
    """
    since, until = _time(first), _time(last, ends=True)
    if since >= until:
        raise UsageError("--from must be before --to")
    if out is not None:
        check_target(out, other_than=Path())
    with (
        account_of(account, Duty.RECONCILE) as (one, runtime),
        Comparison(one, runtime) as comparison,
    ):
        found = comparison.run(since, until)
        if out is not None:
            write_table(out, Break._fields, comparison.breaks())
        if as_json:
            told = [each._asdict() for each in comparison.breaks(JSON_MAX)]
            print_json({**found.as_json(), "differences": told})
        else:
            _show(found, comparison)
            if out is not None:
                screens.say(f"All breaks: {out}")
    return found.exit_code


def _show(found: Reconciliation, comparison: Comparison) -> None:
    screens.say(
        f"Account {found.account}, from {screens.clock_time(found.since)} to"
        f" {screens.clock_time(found.until)}: the provider lists"
        f" {number_of(found.listed, 'payout')}"
    )
    counts = [("the same on both sides", f"{found.matches:,}")]
    if found.still_open:
        counts.append(("  of these still open", f"{found.still_open:,}"))
    counts += [(WORDS[kind], f"{number:,}") for kind, number in found.counts.items()]
    screens.table(["", "payouts"], counts, right="payouts")
    breaks = [
        (WORDS[each.kind], each.reference_id, each.here or "nothing", each.there or "nothing")
        for each in comparison.breaks(SHOWN_MAX)
    ]
    if breaks:
        screens.say("These need a person:")
        screens.table(["break", "reference id", "here", "there"], breaks)
        if sum(found.counts.values()) > len(breaks):
            screens.say(f"The first {SHOWN_MAX} of each kind; -o OUT.csv writes all.")
    if found.woken:
        screens.say(f"Asked about again, as soon as a worker runs: {found.woken:,}.")
    if found.looked_up:
        screens.say(
            "Creates of this account are still looked up at the provider first, because the record"
            f" was put back: {found.looked_up}."
        )
    elif found.looked_up is not None:
        screens.say(
            "All that the provider has is known here again: creates need no look-up first any more."
        )
