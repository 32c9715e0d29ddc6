"""The commands by which people decide: about a stored batch, and about what is held."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import click

from batches import approval, control, local, screens
from batches.command import (
    NO_REASON,
    account_of,
    account_option,
    json_option,
    load_settings,
    next_after,
    print_json,
    record,
    start_paying,
)
from batches.people import DECISIONS, Duty, operator
from batches.recovery import open_account
from batches.references import Gone
from batches.retry import retry as retry_batch
from workers.errors import UsageError
from workers.record.batches import BatchBook
from workers.record.status import State
from workers.words import number_of

reason_option = click.option("--reason", default="", help="Why, for the record.")


@contextlib.contextmanager
def _progress(batch_id: str) -> Iterator[control.Progress]:
    """Tell now and then how many rows of a large batch have followed a decision."""
    with screens.working(f"Batch {batch_id.upper()}") as show:
        yield show


@click.command()
@click.argument("batch")
@json_option
def approve(batch: str, as_json: bool) -> int:
    """Approve a stored BATCH: seal its rows and let the workers pay it."""
    settings = load_settings(duty=Duty.DECIDE)
    with local.open_runtime(settings) as opened:
        rows = approval.find(batch, BatchBook(opened.runtime.store)).rows
        with screens.working("Approving", rows, quiet=as_json) as progress:
            decided = approval.approve(batch, opened.runtime, operator(), progress)
        start_paying(decided.id, opened.runtime)
    if as_json:
        print_json({"batch_id": decided.id, "state": decided.decision, "by": decided.decided_by})
    else:
        screens.say(f"Batch {decided.id} is approved by {decided.decided_by}.")
        screens.say(next_after(decided.id, decided.decision, settings))
    return 0


@click.command()
@click.argument("batch")
@reason_option
@json_option
def reject(batch: str, reason: str, as_json: bool) -> int:
    """Turn down a stored BATCH; its reference ids are free again."""
    with record(Duty.DECIDE) as runtime, _progress(batch) as progress:
        count = control.reject(batch, runtime, operator(), reason, progress)
    if as_json:
        print_json({"batch_id": batch.upper(), "state": "rejected", "withdrawn": count})
    else:
        screens.say(
            f"Batch {batch.upper()} is rejected; {number_of(count, 'payout')} withdrawn, none sent."
        )
    return 0


@click.command()
@click.argument("batch")
@reason_option
@json_option
def pause(batch: str, reason: str, as_json: bool) -> int:
    """Stop sending BATCH; what was sent already is followed to its end."""
    with record(Duty.PAUSE) as runtime, _progress(batch) as progress:
        anew = control.pause(batch, runtime, operator(), reason, progress)
    if as_json:
        print_json({"batch_id": batch.upper(), "state": "paused", "changed": anew})
        return 0
    said = "is paused" if anew else "is paused already"
    screens.say(f"Batch {batch.upper()} {said}: nothing of it is sent or released.")
    screens.say(f"Go on with: paybatch resume {batch.upper()}")
    return 0


@click.command()
@click.argument("batch", required=False)
@account_option
@click.option("--reason", help="Why, for the record.")
@click.option(
    "--unreconciled",
    is_flag=True,
    help="Open a frozen account whose provider has no list to compare with; needs --reason.",
)
@json_option
def resume(
    batch: str | None, account: str | None, reason: str | None, unreconciled: bool, as_json: bool
) -> int:
    """Go on with a paused BATCH; or open a paused account, if what stopped it is over (else 6)."""
    if batch is None:
        return _resume_account(account, reason, unreconciled=unreconciled, as_json=as_json)
    if account is not None or unreconciled:
        raise UsageError("resume either a BATCH or an --account, one after the other")
    settings = load_settings(duty=Duty.RESUME)
    with local.open_runtime(settings) as opened, _progress(batch) as progress:
        anew = control.resume(batch, opened.runtime, operator(), reason or "", progress)
        start_paying(batch.upper(), opened.runtime)
    if as_json:
        print_json({"batch_id": batch.upper(), "state": "approved", "changed": anew})
        return 0
    screens.say(f"Batch {batch.upper()} {'goes on' if anew else 'is not paused'}.")
    screens.say(next_after(batch.upper(), "approved", settings))
    return 0


def _resume_account(
    account: str | None, reason: str | None, *, unreconciled: bool, as_json: bool
) -> int:
    with account_of(account, Duty.RESUME) as (one, runtime):
        local.log_to_file(local.home(runtime.settings))
        kind = open_account(
            one, runtime, actor=operator(), reason=reason, unreconciled=unreconciled
        )
        looked_up = runtime.restores.standing(one.name).restored_at is not None
    if as_json:
        print_json({"account": one.name, "was_paused": kind, "looked_up_first": looked_up})
        return 0
    if kind is None:
        screens.say(f"Account {one.name} is not paused.")
    else:
        screens.say(f"Account {one.name} is open again; it was paused ({kind}).")
    if looked_up:
        screens.say("Its creates are looked up at the provider first, because it was put back.")
    return 0


@click.command()
@click.argument("batch")
@reason_option
@json_option
def cancel(batch: str, reason: str, as_json: bool) -> int:
    """Withdraw what is not sent of BATCH, for good. What the provider has waits for a person; what
    may be on its way is followed to its end.
    """
    with record(Duty.WITHDRAW) as runtime, _progress(batch) as progress:
        counts = control.cancel(batch, runtime, operator(), reason, progress)
    if as_json:
        found = {str(state): number for state, number in counts.items()}
        print_json({"batch_id": batch.upper(), "state": "cancelled", "counts": found})
        return 0
    withdrawn = counts.get(State.CANCELLED, 0)
    screens.say(f"Batch {batch.upper()} is cancelled; {number_of(withdrawn, 'payout')} withdrawn.")
    rest: Mapping[State, int] = {
        state: n for state, n in counts.items() if n and state is not State.CANCELLED
    }
    if rest:
        others = screens.counts_of(rest)
        screens.say(f"The others: {others}. See: paybatch status {batch.upper()}")
    return 0


@click.command()
@click.argument("batch")
@click.option("--allow-repeats", is_flag=True, help="Pay the same beneficiary again.")
@json_option
def retry(batch: str, allow_repeats: bool, as_json: bool) -> int:
    """Pay the failed lines of BATCH again: new payouts, in a batch of their own that waits for
    approval.
    """
    settings = load_settings(duty=Duty.PREPARE)
    with local.open_runtime(settings) as opened:
        gone = Gone()
        book = BatchBook(opened.runtime.store)
        failed = book.counts(approval.find(batch, book).id).get(State.FAILED, 0)
        with screens.working("Storing", failed, quiet=as_json) as progress:
            child = retry_batch(
                batch,
                opened.runtime,
                operator(),
                gone,
                progress,
                allow_repeats=allow_repeats,
            )
    if as_json:
        facts = {"batch_id": child.id, "child_of": child.child_of, "rows": child.rows}
        print_json(facts | {"state": child.decision, "left_out": gone.number})
        return 0
    screens.say(
        f"Stored as batch {child.id}: {number_of(child.rows, 'failed line')} of batch"
        f" {child.child_of}, each"
        " with a new reference id."
    )
    if gone.number:
        screens.say(f"Left out: {gone}.")
    screens.say(next_after(child.id, child.decision, settings))
    return 0


@click.command()
@click.argument("reference_id")
@click.option("--as", "decision", type=click.Choice(sorted(DECISIONS)), required=True)
@click.option("--reason", required=True, help="Why, for the record.")
@account_option
@json_option
def resolve(
    reference_id: str, decision: str, reason: str, account: str | None, as_json: bool
) -> int:
    """Settle a held payout: it was paid, it failed, or it is to be looked up and tried again.

    With approvals = 2 the first person proposes, and a second one who decides the same settles it.
    """
    if not reason.strip():
        raise UsageError(NO_REASON)
    with record(Duty.DECIDE) as runtime:
        actor = operator()
        found = control.resolve(
            reference_id, decision, runtime, actor=actor, reason=reason, account=account
        )
    waits = found.state is State.HELD
    before = found.before
    if as_json:
        facts = {"reference_id": reference_id, "state": str(found.state)}
        if waits:
            facts |= {"proposed": decision, "by": actor.name}
        print_json(facts)
        return 0
    if not waits:
        screens.say(f"{reference_id} is {screens.WORDS[found.state]} now, by decision: {reason}")
        return 0
    if before is not None and before.target is not DECISIONS[decision]:
        screens.say(
            f"That differs from what {before.actor} proposed ({before.target}), and takes its place"
        )
    screens.say(
        f"Proposed, and not done yet: with approvals = 2 somebody else than {actor} has to confirm"
        f' it: paybatch resolve {reference_id} --as {decision} --reason "..."'
    )
    return 0


COMMANDS = (approve, reject, pause, resume, cancel, retry, resolve)
