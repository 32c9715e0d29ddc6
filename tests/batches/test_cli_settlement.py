"""`settle`, `schedules` and `report` as a person or a cron job uses them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.batches.cli_world import Provider, World, provided, until, usd_row

EVERY_DAY = '["mon", "tue", "wed", "thu", "fri", "sat", "sun"]'


def today() -> date:
    return datetime.now(UTC).date()


def schedule(world: World, **changes: Any) -> Path:
    """Add a schedule that is due at midnight of every day; its inbox."""
    values = {
        "name": '"nightly"',
        "time": '"00:00"',
        "time_zone": '"UTC"',
        "business_days": EVERY_DAY,
        "inbox": '"inbox"',
        "approval": '"automatic"',
        "quiet_s": "0",
        **changes,
    }
    lines = ["[[schedules]]", *(f"{name} = {value}" for name, value in values.items()), ""]
    path = world.folder / "paybatch.toml"
    path.write_text(path.read_text() + "\n".join(lines))
    inbox = world.folder / values["inbox"].strip('"')
    inbox.mkdir(parents=True)
    return inbox


@pytest.fixture
def at_provider(tmp_path: Path) -> Iterator[tuple[World, Provider, Path]]:
    with provided(tmp_path) as (world, provider):
        yield world, provider, schedule(world)


def settle(world: World, *more: str, code: int = 0) -> Any:
    return world.paybatch("settle", "--schedule", "nightly", "--date", today(), *more, code=code)


def deliver(world: World, name: str, first: int, last: int, **changes: str) -> None:
    world.write([usd_row(number, **changes) for number in range(first, last + 1)], f"inbox/{name}")


def paid_once(provider: Provider) -> bool:
    ledger = provider.ledger().values()
    return all(sum(len(one["releases"]) for one in each["invoices"]) == 1 for each in ledger)


def test_one_command_takes_pays_moves_and_reports(
    at_provider: tuple[World, Provider, Path],
) -> None:
    world, provider, inbox = at_provider
    deliver(world, "a.csv", 1, 3)
    shown = settle(world).out
    batch_id = world.batch_id()
    assert shown.splitlines() == [
        f"Schedule nightly, {today()}: finished",
        f"  a.csv: approved (batch {batch_id}): approved by schedule nightly",
        f"  batch {batch_id}: 3 paid",
        "Reports: reports",
    ]
    assert world.count("paid") == 3
    assert paid_once(provider)
    assert [each.name for each in inbox.iterdir()] == ["done"]
    page = (world.folder / "reports" / f"nightly.{today()}.html").read_text()
    assert "36.75 (3)" in page
    # Again there is nothing to do, and the file again is refused.
    assert settle(world).out == "Schedule nightly: nothing is due.\n"


def test_its_facts_are_told_as_json(at_provider: tuple[World, Provider, Path]) -> None:
    world, _, _ = at_provider
    deliver(world, "a.csv", 1, 1)
    facts = settle(world, "--json").json
    assert facts["exit_code"] == 0
    [one] = facts["schedules"]
    assert (one["schedule"], one["busy"], one["unripe"]) == ("nightly", False, 0)
    [run] = one["runs"]
    assert (run["business_date"], run["outcome"]) == (str(today()), "finished")
    [file] = one["files"]
    assert (file["name"], file["fate"], file["place"]) == ("a.csv", "approved", "done")


def test_rows_that_are_left_out_are_told_on_the_screen_and_as_json(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        inbox = schedule(world, valid_rows_only="true")
        given = [usd_row(1), usd_row(2, amount="x"), usd_row(3)]
        world.write(given, "inbox/a.csv")
        errors = f"inbox/done/a.{today()}-1.csv.errors.csv"
        [line] = [each for each in settle(world).out.splitlines() if "a.csv" in each]
        assert line == (
            f"  a.csv: approved (batch {world.batch_id()}): approved by schedule nightly;"
            f" left out, with faults: 1 row, in {errors}"
        )
        assert (world.folder / errors).is_file()
        world.execute("UPDATE schedule_runs SET outcome = 'failed'")
        world.write([usd_row(4), usd_row(5, amount="x")], "inbox/b.csv")
        deliver(world, "c.csv", 7, 8)
        [one] = settle(world, "--json").json["schedules"]
        told = {file["name"]: (file["left_out"], file["errors"]) for file in one["files"]}
        assert told == {
            "b.csv": (1, f"inbox/done/b.{today()}-2.csv.errors.csv"),
            "c.csv": (0, None),
        }
        assert len(list((inbox / "done").glob("*.errors.csv"))) == 2
        facts = world.paybatch("report", "nightly", today(), "--json").json
        assert [(each["file"], each["count"]) for each in facts["left_out"]] == [
            ("a.csv", 1),
            ("b.csv", 1),
        ]


WITH_A_TERMINAL = """
import sys
from rich.console import Console
from batches import screens
screens.err = Console(stderr=True, force_terminal=True)
screens.BAR_AFTER_S = 0
from batches.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("as_json", [False, True])
def test_long_work_has_a_bar_on_a_terminal(tmp_path: Path, as_json: bool) -> None:
    with provided(tmp_path) as (world, _):
        schedule(world, approval='"person"')
        deliver(world, "a.csv", 1, 3)
        arguments = ["--schedule", "nightly", "--date", str(today())]
        if as_json:
            arguments.append("--json")
        ended = subprocess.run(
            [sys.executable, "-c", WITH_A_TERMINAL, "settle", *arguments],
            cwd=world.folder,
            env={"PATH": os.environ["PATH"], **world.env},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        assert "waiting" in ended.stdout
        for what in ("Fetching", " bytes", "Checking", "Storing", " rows"):
            assert (what in ended.stderr) is not as_json


def test_a_refused_file_ends_with_3_and_missing_money_with_6(
    at_provider: tuple[World, Provider, Path],
) -> None:
    world, provider, inbox = at_provider
    deliver(world, "a.csv", 1, 1, amount="x")
    refused = settle(world, code=3)
    assert "  a.csv: refused: a.csv has faults in 1 of 1 row: 1 x amount: not a" in refused.out
    assert (inbox / "refused").is_dir()
    world.execute("UPDATE schedule_runs SET outcome = 'failed'")
    provider.control("POST", "balances", USD="5")
    deliver(world, "b.csv", 2, 3)
    short = settle(world, code=6)
    assert "b.csv: waiting (batch " in short.out
    assert "the batch needs 25.50 USD with fees, and 5.00 USD can be spent" in short.out
    assert world.count("draft") == 2


def test_payouts_that_fail_end_with_4(at_provider: tuple[World, Provider, Path]) -> None:
    world, _, _ = at_provider
    deliver(world, "a.csv", 1, 1, simulate="status=process_failed resolution=declined_error")
    settle(world, code=4)
    assert "declined" in (world.folder / "reports" / f"nightly.{today()}.csv").read_text()


def test_a_file_that_is_a_little_too_young_is_waited_for(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        schedule(world, quiet_s="1")
        deliver(world, "a.csv", 1, 1)
        settle(world)
        assert world.count("paid") == 1


def test_killed_in_the_middle_it_is_carried_on_by_the_next_command(
    at_provider: tuple[World, Provider, Path],
) -> None:
    world, provider, inbox = at_provider
    deliver(world, "a.csv", 1, 40)
    arguments = ("settle", "--schedule", "nightly", "--date", today())
    with world.start(*arguments) as command:
        command.until(lambda: world.count("paid") > 3)
        command.send(signal.SIGKILL)
        command.wait()
    deliver(world, "b.csv", 1, 40)
    world.execute("UPDATE schedule_runs SET outcome = 'failed'")
    settle(world, code=3)
    assert world.count("paid") == 40
    assert paid_once(provider)
    assert [len(list((inbox / place).iterdir())) for place in ("done", "refused")] == [1, 2]


@pytest.mark.parametrize("as_json", [False, True])
def test_what_a_killed_command_left_half_paid_is_named_when_it_is_taken_up_again(
    at_provider: tuple[World, Provider, Path], as_json: bool
) -> None:
    world, provider, _ = at_provider
    deliver(world, "a.csv", 1, 40)
    with world.start("settle", "--schedule", "nightly", "--date", today()) as command:
        command.until(lambda: world.count("paid") > 3)
        command.send(signal.SIGKILL)
        command.wait()
    batch = world.batch_id()
    if as_json:
        [one] = world.paybatch("settle", "--json").json["schedules"]
        [paid] = one["paid"]
        assert (paid["batch_id"], paid["file"], paid["exit_code"]) == (batch, "a.csv", 0)
        assert (paid["taken_up_again"], paid["counts"]) == (True, {"paid": 40})
        assert paid["business_date"] == str(today())
    else:
        assert world.paybatch("settle").out.splitlines() == [
            "Schedule nightly: nothing new is due.",
            f"  taken up again: batch {batch} (a.csv, {today()}): 40 paid",
        ]
    assert paid_once(provider)
    # Once it is done, nobody names it any more.
    assert world.paybatch("settle").out == "Schedule nightly: nothing is due.\n"


def test_why_nothing_is_sent_is_told(at_provider: tuple[World, Provider, Path]) -> None:
    world, _, _ = at_provider
    deliver(world, "a.csv", 1, 2)
    world.paybatch("freeze", "--reason", "a copy was put back")
    told = settle(world, code=6).out
    assert f"  batch {world.batch_id()}: 2 queued\n" in told
    assert "Account main is paused (restore): a copy was put back" in told
    [one] = world.paybatch("settle", "--json", code=6).json["schedules"]
    assert one["paid"][0]["paused"].startswith("a copy was put back")


def test_two_commands_at_once_make_one_run(at_provider: tuple[World, Provider, Path]) -> None:
    world, provider, inbox = at_provider
    for number in range(4):
        deliver(world, f"{number}.csv", 10 * number + 1, 10 * number + 5)
    arguments = ("settle", "--schedule", "nightly", "--date", today())
    with world.start(*arguments) as first, world.start(*arguments) as second:
        ended = [first.wait(), second.wait()]
    assert [one.code for one in ended] == [0, 0], ended
    assert world.one("SELECT count(*) FROM schedule_runs") == 1
    assert world.one("SELECT count(*) FROM batches") == 4
    assert world.count("paid") == 20
    assert paid_once(provider)
    assert len(list((inbox / "done").iterdir())) == 4


def test_a_dead_workers_schedule_is_waited_for(at_provider: tuple[World, Provider, Path]) -> None:
    world, _, _ = at_provider
    world.paybatch("settle")
    world.execute(
        "UPDATE schedules SET claim_no = claim_no + 1,"
        " claimed_until = strftime('%Y-%m-%d %H:%M:%f', 'now', '+3 seconds')"
    )
    deliver(world, "a.csv", 1, 1)
    settle(world)
    assert world.count("paid") == 1


def test_what_is_asked_wrongly_is_answered_with_a_sentence(
    at_provider: tuple[World, Provider, Path],
) -> None:
    world, _, _ = at_provider
    for arguments, told in (
        (("settle", "--date", "2026-03-02"), "--date needs --schedule"),
        (
            ("settle", "--schedule", "x"),
            "no schedule 'x' in [[schedules]] of the settings: nightly",
        ),
        (
            ("settle", "--schedule", "nightly", "--date", "1.3."),
            "'1.3.': expected a date such as 2026-03-31",
        ),
        (
            ("settle", "--schedule", "nightly", "--date", "2999-01-01"),
            "the run of 2999-01-01 of schedule nightly is due at 2999-01-01 00:00 UTC",
        ),
        (
            ("report", "nightly", "2026-03-02", "-o", "r.html"),
            "schedule 'nightly' has no run of 2026-03-02",
        ),
    ):
        assert told in world.paybatch(*arguments, code=2).err
    assert world.query("SELECT * FROM schedule_runs") == []


def test_without_schedules_the_commands_say_so(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        assert "docs/settlement.md tells of them" in world.paybatch("schedules").out
        assert world.paybatch("schedules", "--json").json == {"schedules": []}
        told = "there are no [[schedules]] in the settings"
        assert told in world.paybatch("settle", "--schedule", "x", code=2).err
        assert told in world.paybatch("settle", code=2).err


def test_schedules_lists_the_next_the_last_and_the_missed_runs(
    at_provider: tuple[World, Provider, Path],
) -> None:
    world, _, _ = at_provider
    assert "none yet" in world.paybatch("schedules").out
    settle(world)
    facts = world.paybatch("schedules", "--json").json["schedules"]
    [one] = facts
    assert (one["schedule"], one["waiting"], one["missed"]) == ("nightly", 0, [])
    assert one["last"]["outcome"] == "finished"
    assert date.fromisoformat(one["next"]["business_date"]) > today()
    assert (one["overdue_since"], one["trouble"]) == (None, None)
    world.execute("UPDATE schedule_runs SET outcome = 'missed', problem = 'nobody was there'")
    shown = world.paybatch("schedules").out
    assert f"{today()}: missed" in shown
    assert f"paybatch settle --schedule nightly --date {today()}" in shown
    checks = {c["check"]: c for c in world.paybatch("doctor", "--json", code=1).json["checks"]}
    assert checks["schedule nightly"]["ok"] is False
    assert "was missed: nobody was there" in checks["schedule nightly"]["detail"]


def test_an_inbox_that_is_not_there_is_what_is_told(
    at_provider: tuple[World, Provider, Path],
) -> None:
    world, _, inbox = at_provider
    inbox.rename(inbox.with_name("away"))
    told = f"Schedule nightly, {today()}: not finished yet: inbox cannot be used: No such file or"
    assert told in settle(world, code=6).out
    # It is late by now.
    world.execute("UPDATE schedule_runs SET due_at = datetime(due_at, '-2 days')")
    for shown in (world.paybatch("schedules").out, world.paybatch("doctor", code=1).out):
        assert "UTC: inbox cannot be used: No such file or directory; check that its" in shown
        assert "When that is mended, make it with: paybatch settle --schedule nightly" in shown
        assert "is a worker running" not in shown
    inbox.with_name("away").rename(inbox)
    deliver(world, "a.csv", 1, 1)
    world.paybatch("settle", "--schedule", "nightly")
    assert world.count("paid") == 1


def test_doctor_tells_when_the_next_run_is_due(at_provider: tuple[World, Provider, Path]) -> None:
    world, _, _ = at_provider
    assert "schedule nightly: the next run is due 2" in world.paybatch("doctor").out


def test_a_report_is_written_anew(at_provider: tuple[World, Provider, Path]) -> None:
    world, _, _ = at_provider
    deliver(world, "a.csv", 1, 2)
    settle(world)
    world.paybatch("report", "nightly", today(), "-o", "r.html")
    world.paybatch("report", "nightly", today(), "-o", "r.csv")
    assert "23.50 (2)" in (world.folder / "r.html").read_text()
    sections = [row["section"] for row in world.read("r.csv")]
    assert sections == ["run", "in", "out", "file", "approval", "approval"]
    facts = world.paybatch("report", "nightly", today(), "--json").json
    assert (facts["schedule"], facts["outcome"], facts["report"]) == ("nightly", "finished", None)
    [paid] = facts["out"]
    assert (paid["state"], paid["count"], paid["amount"]) == ("paid", 2, "23.50")
    # All that the table has is there.
    assert sorted(sections) == sorted(
        name for name, rows in facts.items() if isinstance(rows, list) for _ in rows
    )
    both = world.paybatch("report", "nightly", today(), "-o", "s.csv", "--json").json
    assert both == facts | {"report": "s.csv"}
    assert world.read("s.csv") == world.read("r.csv")
    told = world.paybatch("report", "nightly", today(), code=2).err
    assert "name a file for the report with -o, or have its facts with --json" in told
    assert (
        "does not end in .html"
        in world.paybatch("report", "nightly", today(), "-o", "r.pdf", code=2).err
    )


def test_a_schedule_may_be_in_the_environment_alone(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        one = {"name": "n", "time": "00:00", "time_zone": "UTC", "inbox": "inbox"}
        listed = world.paybatch("schedules", "--json", PAYBATCH_SCHEDULES=json.dumps([one])).json
        assert [each["schedule"] for each in listed["schedules"]] == ["n"]


def test_wrong_settings_are_told_before_anything_is_done(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        schedule(world, time='"25:00"', account='"eu"')
        told = world.paybatch("settle", code=2).err
        assert "schedules.0.time: expected a time of day" in told
        assert "schedules.0.account: 'eu' is none of [accounts]: main" in told
        assert until(lambda: not (world.folder / "paybatch.db").exists())


def test_settle_without_any_schedule_says_so(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        assert "there are no [[schedules]]" in world.paybatch("settle", code=2).err
