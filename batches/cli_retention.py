"""The command that removes beneficiaries' data of batches that are long settled."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import click

from batches import local, screens
from batches.command import json_option, print_json, record
from batches.people import Duty, operator
from workers.errors import UsageError
from workers.record.retention import Limits, Retention, Standing
from workers.runtime import Runtime
from workers.words import number_of

log = logging.getLogger(__name__)

REFUSED = 3


@click.command()
@click.option("--before", metavar="DATE", required=True, help="Settled before that day, UTC.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@click.option("--yes", is_flag=True, help="Remove without asking.")
@json_option
def purge(before: str, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Remove who was paid from batches that were settled before DATE, for good.

    Amounts, states, times, reference ids, decisions and sums stay. Ends with 3 where nothing may be
    removed.
    """
    with record(Duty.PURGE) as runtime:
        local.log_to_file(local.home(runtime.settings))
        limit = _day(before, runtime.clock.now())
        retention = _retention(runtime)
        found = retention.look(limit)
        ready = [one for one in found if one.why_kept is None]
        kept = [one for one in found if one.why_kept is not None]
        if not as_json:
            _show(ready, kept, before)
        if dry_run or not ready:
            if as_json:
                print_json(_facts(ready, kept, {}, journal=True) | {"dry_run": dry_run})
            return 0 if ready or not kept else REFUSED
        _agree(ready, yes=yes, can_ask=sys.stdin.isatty() and not as_json)
        done = _purged(retention, ready, limit)
        journal = runtime.database.forget_journal()
    if as_json:
        print_json(_facts(ready, kept, done, journal=journal) | {"dry_run": False})
    else:
        _tell(ready, done, journal=journal)
    return 0


def _retention(runtime: Runtime) -> Retention:
    settings = runtime.settings
    limits = Limits(
        repeats=settings.duplicate_window, watched=timedelta(days=settings.watch_paid_days)
    )
    return Retention(runtime.database, limits, runtime.clock)


def _purged(retention: Retention, ready: Sequence[Standing], before: datetime) -> dict[str, int]:
    """How many payouts of each batch were purged."""
    done = {}
    actor = operator()
    with screens.working("Removing", sum(one.payouts for one in ready)) as progress:
        show = screens.adding(progress)
        for one in ready:
            number = retention.purge(one.batch_id, before, actor=actor, show=show)
            done[one.batch_id] = number or 0
            log.warning("batch purged", extra={"batch_id": one.batch_id, "actor": actor.name})
    return done


def _day(text: str, now: datetime) -> datetime:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--before {text!r}: expected a day such as 2026-03-31") from None
    at = datetime(day.year, day.month, day.day, tzinfo=UTC)
    if at > now:
        raise UsageError(
            f"--before {text}: that day has not come yet; what is settled later cannot be purged"
        )
    return at


def _agree(ready: Sequence[Standing], *, yes: bool, can_ask: bool) -> None:
    if yes:
        return
    if not can_ask:
        raise UsageError("nobody can be asked here: add --yes to remove without asking")
    rows = sum(one.payouts for one in ready)
    screens.ask(f"Remove the data of {number_of(rows, 'payout')} for good? Type yes: ")
    if input().strip().lower() != "yes":
        raise UsageError("nothing was removed")


def _show(ready: Sequence[Standing], kept: Sequence[Standing], before: str) -> None:
    if ready:
        screens.say(f"Settled before {before}, and not needed any more:")
        rows = [
            (one.batch_id, one.file_name, f"{one.settled_at:%Y-%m-%d}", f"{one.payouts:,}")
            for one in ready
        ]
        screens.table(["batch", "file", "settled", "payouts"], rows, right="payouts")
    if kept:
        screens.say("These keep their data:")
        told = [(one.batch_id, one.file_name, f"{one.payouts:,}", one.why_kept) for one in kept]
        screens.table(["batch", "file", "payouts", "why"], told, right="payouts")
    if not ready:
        screens.say(f"Nothing settled before {before} has data that may be removed.")


def _tell(ready: Sequence[Standing], done: dict[str, int], *, journal: bool) -> None:
    screens.say(f"Removed: the beneficiaries' data of {number_of(sum(done.values()), 'payout')}.")
    late = [one.batch_id for one in ready if done[one.batch_id] < one.payouts]
    if late:
        screens.say(f"Some are being worked on; run this again for: {', '.join(late)}")
    if not journal:
        screens.say(
            "Another command has the database open, whose journal file still has some of it:"
            " it goes when all commands have ended."
        )
    screens.say("Backups made before still have it (docs/operations.md, Retention).")


def _facts(
    ready: Sequence[Standing], kept: Sequence[Standing], done: dict[str, int], *, journal: bool
) -> dict[str, object]:
    return {
        "batches": [
            {
                "batch_id": one.batch_id,
                "payouts": one.payouts,
                "settled_at": one.settled_at.isoformat(),
                "removed": done.get(one.batch_id, 0),
            }
            for one in ready
        ],
        "kept": [
            {"batch_id": one.batch_id, "payouts": one.payouts, "why": one.why_kept} for one in kept
        ],
        "journal_emptied": journal,
    }
