"""The command line: arguments in, text and exit code out; no rules of its own."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from sqlalchemy.exc import OperationalError

from batches import approval, cli_people, local, results, screens
from batches.cli_account import (
    balance,
    doctor,
    providers,
    services,
    simulator,
    template,
    webhooks,
)
from batches.cli_cluster import migrate
from batches.cli_health import health_, tell_json
from batches.cli_keys import keys
from batches.cli_recovery import freeze, reconcile
from batches.cli_retention import purge
from batches.cli_settlement import report_, schedules_, settle_
from batches.command import (
    after_pause,
    file_options,
    json_option,
    load_settings,
    next_after,
    plan_json,
    print_json,
    read_options,
    record,
    reference_id_chars_max,
    same_way,
    say_sandbox,
    start_paying,
    stored_already,
)
from batches.formats import Limits
from batches.people import Duty, operator, permit
from batches.preflight import REFUSED, Preflight
from batches.references import Gone
from batches.reports import check_target
from batches.run import Choices, pay, run_file
from batches.summary import summarise
from workers.errors import NothingLeft, PaybatchError, UsageError
from workers.record.batches import BatchBook
from workers.record.status import State
from workers.words import number_of

INTERRUPTED = 130
LATEST_SHOWN = 10
log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    try:
        return cli.main(argv, prog_name="paybatch", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        tell_json(argv, {"error": error.format_message()}, 2)
        return 2
    except (click.Abort, KeyboardInterrupt):
        told = "Interrupted; nothing is lost: run the same command again to carry on."
        return _ended(argv, INTERRUPTED, told)
    except PaybatchError as error:
        return _ended(argv, error.exit_code, f"paybatch: {error}", error.facts)
    except OperationalError as error:
        told = (
            f"paybatch: the database did not answer: {error.orig}; is another command storing or"
            " approving a large batch, or stopped in the middle of its work? Nothing is lost: run"
            " the same command again"
        )
        return _ended(argv, 1, told)
    except BrokenPipeError:
        # Whoever read our output went away; there is nobody left to tell.
        sys.stderr.close()
        return 1
    except Exception as error:
        if not logging.getLogger().handlers:
            local.log_to_file(Path())
        log.exception("internal error")
        told = (
            f"paybatch: internal error: {type(error).__name__}; nothing is lost, details are in"
            " paybatch.log"
        )
        return _ended(argv, 1, told)


def _ended(
    argv: Sequence[str] | None,
    code: int,
    sentence: str,
    facts: Mapping[str, Any] | None = None,
) -> int:
    """Tell people, and programs where they asked, why the command ends; its exit code."""
    screens.warn(sentence)
    tell_json(argv, facts or {"error": sentence.removeprefix("paybatch: ")}, code)
    return code


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="paybatch", message="paybatch %(version)s")
def cli() -> None:
    """Pay every line of a file exactly once.

    Without any settings, money is never real: the account "sandbox" is a simulator on this machine.

    Exit codes: 0 all paid; 1 our error; 2 usage or settings; 3 file refused or nothing left to do,
    nothing stored or sent; 4 some rows failed; 5 some rows need a person; 6 stopped by the account;
    130 interrupted.
    """


# --- a file ---


@cli.command()
@file_options
@click.option("--yes", is_flag=True, help="Pay without asking.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Where the results go.")
@json_option
def run(file: Path, yes: bool, out: Path | None, as_json: bool, **given: Any) -> int:
    """Check FILE, show the plan, ask, pay every line once, and write the results.

    Run it again after any interruption: it carries on, and nobody is paid twice.
    """
    settings = load_settings(given["account"], duty=Duty.PREPARE)
    options = read_options(settings, given)
    choices = Choices(
        out=out or Path(f"{file.stem}.results.csv"),
        agreed=yes,
        can_ask=sys.stdin.isatty() and not as_json,
        quiet=as_json,
    )
    local.log_to_file(local.home(settings), settings.log_format)
    say_sandbox(options.account, quiet=as_json)
    with local.open_runtime(settings) as opened:
        ran = run_file(file, options, choices, opened)
        now = opened.runtime.clock.now()
    if as_json:
        facts = ran.summary.as_json() if ran.summary else {}
        if ran.plan is not None:
            facts = plan_json(ran.plan, ran.exit_code)
        facts |= {"exit_code": ran.exit_code, "results": str(ran.out) if ran.out else None}
        facts["paused"] = ran.pause.reason if ran.pause else None
        print_json(facts)
        return ran.exit_code
    if ran.plan is not None:
        screens.faults(ran.plan.faults, hint=f"paybatch check {file} --errors OUT.csv has all.")
        screens.warn("The file was refused: nothing was stored and nothing was sent.")
    if ran.summary is not None:
        screens.summary(ran.summary, now=now)
    if ran.pause is not None:
        batch_id = ran.summary.batch.id if ran.summary else "BATCH"
        screens.pauses(
            [ran.pause],
            retried=not settings.embedded,
            then=after_pause(batch_id, settings),
        )
    if ran.out is not None:
        screens.say(f"Results: {ran.out}")
    return ran.exit_code


@cli.command()
@file_options
@click.option("--errors", type=click.Path(path_type=Path), help="Write the faulty rows there.")
@json_option
def check(file: Path, errors: Path | None, as_json: bool, **given: Any) -> int:
    """Say everything about FILE that can be known before money moves."""
    settings = load_settings(given["account"], duty=Duty.PREPARE)
    options = read_options(settings, given)
    if errors is not None:
        check_target(errors, other_than=file)
    say_sandbox(options.account, quiet=as_json)
    with local.open_runtime(settings) as opened:
        preflight = Preflight(opened.runtime, options, opened.runtime.clock.now())
        with screens.working("Checking", quiet=as_json) as progress:
            plan = preflight.examine(file, progress, to_store=False)
        known = summarise(plan.known_as, preflight.book) if plan.known_as else None
    written = 0
    if errors is not None and plan.faults:
        mark = preflight.mark(file)
        with screens.working("Writing", plan.rows, quiet=as_json) as progress:
            written = results.write_faulty(plan, Limits.of(settings), mark, errors, progress)
    code = plan.exit_code
    if as_json:
        print_json(plan_json(plan, code))
        return code
    screens.plan(plan)
    if known is not None:
        screens.say(stored_already(known))
    if plan.faults:
        screens.faults(plan.faults, hint="--errors OUT.csv writes all faulty rows with reasons.")
        screens.warn(f"The file has faults: {len(plan.faults):,}. Nothing was stored or sent.")
    if plan.contradictions:
        screens.warn("The file is not what was announced. Nothing was stored or sent.")
    elif not plan.faults:
        screens.say("No faults." if not plan.uncovered else "No faults, but not enough money.")
    if written:
        screens.say(
            f"Faulty rows to correct: {errors} ({number_of(written, 'row')})"
            f"{same_way(options.mapping)}"
        )
    return code


@cli.command()
@file_options
@click.option("--approve", "approve_now", is_flag=True, help="Approve it too.")
@json_option
def submit(file: Path, approve_now: bool, as_json: bool, **given: Any) -> int:
    """Check FILE and store it as a batch that waits for approval."""
    settings = load_settings(given["account"], duty=Duty.PREPARE)
    options = read_options(settings, given)
    actor = operator()
    if approve_now:
        approval.check_alone(settings, actor)
    with local.open_runtime(settings) as opened:
        runtime = opened.runtime
        preflight = Preflight(runtime, options, runtime.clock.now())
        with screens.working("Checking", quiet=as_json) as progress:
            plan = preflight.examine(file, progress)
        if not as_json:
            screens.plan(plan)
        if not plan.is_payable:
            if as_json:
                print_json(plan_json(plan, REFUSED))
            else:
                screens.faults(plan.faults, hint=f"paybatch check {file} --errors OUT.csv has all.")
                screens.warn("The file was refused: nothing was stored and nothing was sent.")
            return REFUSED
        plan.refuse_uncovered()
        with screens.working("Storing", plan.valid, quiet=as_json) as progress:
            batch_id = approval.store(plan, preflight, actor, progress)
        batch = approval.find(batch_id, preflight.book)
        if approve_now:
            with screens.working("Approving", batch.rows, quiet=as_json) as progress:
                batch = approval.approve(batch.id, runtime, actor, progress)
            start_paying(batch.id, runtime)
    if as_json:
        print_json({"batch_id": batch.id, "rows": batch.rows, "state": batch.decision})
    else:
        screens.say(f"Stored as batch {batch.id}: {batch.decision}.")
        screens.say(next_after(batch.id, batch.decision, settings))
    return 0


# --- a batch ---


@cli.command()
@click.argument("batch", required=False)
@json_option
def status(batch: str | None, as_json: bool) -> int:
    """Show BATCH with counts, sums, ages and history; without one, the latest batches."""
    with record(Duty.LOOK) as runtime:
        book = BatchBook(runtime.store)
        wanted = [approval.find(batch, book)] if batch else book.latest(LATEST_SHOWN)
        found = [summarise(one, book) for one in wanted]
        paused, now = runtime.book.pauses(), runtime.clock.now()
    if as_json:
        shown: Any = [one.as_json() for one in found]
        print_json(shown[0] if batch else {"batches": shown})
        return 0
    if batch:
        screens.summary(found[0], now=now)
        screens.history(found[0])
    elif found:
        screens.batches(found)
    else:
        screens.say("No batches yet. `paybatch run FILE` pays a file.")
    settings = runtime.settings
    screens.pauses(
        paused,
        retried=not settings.embedded,
        then=after_pause(found[0].batch.id if batch else "BATCH", settings),
    )
    return 0


@cli.command()
@click.argument("batch")
@json_option
def watch(batch: str, as_json: bool) -> int:
    """Follow BATCH live until nothing of it moves; embedded, this is what pays it."""
    settings = load_settings(duty=Duty.LOOK)
    if settings.embedded:
        permit(settings, operator(), Duty.PAY)
    local.log_to_file(local.home(settings), settings.log_format)
    with local.open_runtime(settings) as opened:
        found = approval.find(batch, BatchBook(opened.runtime.store))
        if found.decision in ("draft", "rejected"):
            then = ""
            if found.decision == "draft":
                then = f"; once it is approved there is: paybatch approve {found.id}"
            raise NothingLeft(
                f"batch {found.id} is {found.decision}: there is nothing to follow{then}"
            )
        ran = pay(found, opened, None)
        now = opened.runtime.clock.now()
    if as_json:
        print_json(ran.summary.as_json() | {"exit_code": ran.exit_code})
        return ran.exit_code
    screens.summary(ran.summary, now=now)
    if ran.pause is not None:
        screens.pauses(
            [ran.pause],
            retried=not settings.embedded,
            then=after_pause(found.id, settings),
        )
    return ran.exit_code


@cli.command("results")
@click.argument("batch")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path))
@click.option("--failed", is_flag=True, help="Failed lines only, to correct and submit again.")
@json_option
def results_(batch: str, out: Path, failed: bool, as_json: bool) -> int:
    """Write one row per input row of BATCH to OUT (.csv, .parquet or .xlsx)."""
    # The file to correct carries beneficiaries' own data; the results are masked.
    with record(Duty.PREPARE if failed else Duty.LOOK) as runtime:
        book = BatchBook(runtime.store)
        found = approval.find(batch, book)
        if out.name == found.file_name and out.exists():
            # It is the input itself, or looks like it: the only copy of what was to be paid.
            raise UsageError(f"{out} has the name of the batch's input; name another file")
        gone = Gone()
        if failed:
            chars_max = reference_id_chars_max(runtime)
            lines = book.counts(found.id).get(State.FAILED, 0)
            with screens.working("Writing", lines, quiet=as_json) as progress:
                count = results.write_failed(found, book, out, chars_max, gone, progress=progress)
        else:
            with screens.working("Writing", found.rows, quiet=as_json) as progress:
                count = results.write_results(found.id, book, out, progress)
    if as_json:
        facts = {"batch_id": found.id, "rows": count, "results": str(out)}
        print_json(facts | ({"left_out": gone.number} if failed else {}))
    else:
        screens.say(f"{number_of(count, 'row')} in {out}")
        if failed and count:
            screens.say(
                "Correct what is wrong and submit the file; each line names the payout that it"
                f" replaces{same_way(found.mapping)}."
            )
        elif failed:
            screens.say("No failed line is left to correct; what is paid again is left out.")
        if gone.number:
            screens.say(f"Left out: {gone}.")
    return 0


for _command in (
    *(balance, services, template, providers, simulator, webhooks, doctor),
    *(freeze, reconcile, migrate, health_),
    *(settle_, schedules_, report_),
    *(keys, purge),
    *cli_people.COMMANDS,
):
    cli.add_command(_command)
