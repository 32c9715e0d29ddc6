"""Pause, resume, cancel and retry with a run going on, counted by the provider's own ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.batches.cli_world import (
    Provider,
    World,
    check_money,
    provided,
    released,
    until,
    usd_row,
)
from tests.workers.cluster_world import clustered

# Each call takes so long, so that a run can be caught in its middle.
SLOW = ("--latency", "0.03")


def submitted(world: World, name: str = "p.csv") -> str:
    return str(world.paybatch("submit", name, "--json").json["batch_id"])


def actions(world: World, batch: str) -> list[str]:
    history = world.paybatch("status", batch, "--json").json["history"]
    return [deed["action"] for deed in history]


def in_the_middle(world: World, paid: int = 5) -> bool:
    return world.count("paid") >= paid


def paid_there(provider: Provider) -> dict[str, int]:
    """How often the provider paid each reference id that it paid at all."""
    return {each: times for each, times in released(provider.ledger()).items() if times}


def creates(provider: Provider) -> int:
    return int(provider.control("GET", "calls").get("create", 0))


# --- embedded ---


def test_a_paused_run_ends_with_6_sends_nothing_and_goes_on_when_resumed(tmp_path: Path) -> None:
    with provided(tmp_path, *SLOW) as (world, provider):
        world.write([usd_row(number) for number in range(1, 301)])
        with world.start("run", "p.csv", "--yes") as run:
            run.until(lambda: in_the_middle(world))
            batch = world.batch_id()
            told = world.paybatch("pause", batch, "--reason", "the bank called").out
            assert f"Batch {batch} is paused" in told
            ended = run.wait()
        assert ended.code == 6, ended.err
        assert f"paybatch resume {batch}" in ended.out
        assert 0 < world.count("queued") < 300
        # What was under way came to its end, or waits unreleased; the rest was not sent.
        assert world.count("paid", "queued", "created") == 300
        due = "SELECT count(*) FROM payouts WHERE state = 'queued' AND due_at IS NOT NULL"
        stopped = creates(provider)
        assert "is paused already" in world.paybatch("pause", batch).out
        refused = world.paybatch("run", "p.csv", "--yes", code=6).err
        assert f"batch {batch} is paused by " in refused
        followed = world.paybatch("watch", batch, code=6).out
        assert "nothing of it is sent" in followed
        assert creates(provider) == stopped
        # A row that came back to the queue after the pause may be due still: few are.
        assert world.one(due) <= 32

        assert f"Batch {batch} goes on" in world.paybatch("resume", batch).out
        world.paybatch("run", "p.csv", "--yes")
        check_money(world.read(), provider.ledger())
        assert {row["state"] for row in world.read()} == {"paid"}
        assert actions(world, batch) == ["stored", "approved", "paused", "resumed"]
        assert "is finished" in world.paybatch("pause", batch, code=3).err


def test_a_cancelled_run_ends_with_every_line_accounted_for(tmp_path: Path) -> None:
    with provided(tmp_path, *SLOW) as (world, provider):
        world.write([usd_row(number) for number in range(1, 301)])
        with world.start("run", "p.csv", "--yes") as run:
            run.until(lambda: in_the_middle(world))
            batch = world.batch_id()
            told = world.paybatch("cancel", batch, "--reason", "wrong month", "--json").json
            assert told["state"] == "cancelled"
            assert told["counts"]["cancelled"] > 0
            ended = run.wait()
        held = world.count("held")
        assert ended.code == (5 if held else 4), ended.err
        assert "nothing more of it is sent" in ended.out
        assert world.count("paid") + world.count("cancelled") + held == 300
        check_money(world.read(), provider.ledger())
        withdrawn = {r for r, state in world.states().items() if state == "cancelled"}
        assert withdrawn.isdisjoint(provider.ledger())
        # Twice is as good as once; and for good.
        assert world.paybatch("cancel", batch, "--json").json["counts"]["paid"] == world.count(
            "paid"
        )
        assert "that is for good" in world.paybatch("resume", batch, code=3).err
        refused = world.paybatch("run", "p.csv", "--yes", code=3).err
        assert f"batch {batch}, which was cancelled by " in refused
        assert creates(provider) == len(provider.ledger())


def test_created_payouts_of_a_cancelled_batch_wait_for_a_person(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, provider):
        provider.fault("process:503*0")
        world.write([usd_row(number) for number in range(1, 6)])
        with world.start("run", "p.csv", "--yes") as run:
            run.until(lambda: world.count("created") == 5)
            batch = world.batch_id()
            world.paybatch("cancel", batch)
            ended = run.wait()
        assert ended.code == 5
        assert world.count("held") == 5
        assert sum(released(provider.ledger()).values()) == 0
        refused = world.paybatch(
            "resolve", "T-0001", "--as", "requeue", "--reason", "x", code=3
        ).err
        assert "not sent any more" in refused
        for number in range(1, 6):
            given = ("--as", "failed", "--reason", "withdrawn at the provider")
            world.paybatch("resolve", f"T-{number:04}", *given)
        assert actions(world, batch)[-6:] == ["cancelled", *(["resolved"] * 5)]


def test_a_draft_is_withdrawn_and_its_file_can_be_submitted_anew(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, provider):
        world.write([usd_row(1), usd_row(2)])
        batch = submitted(world)
        assert "2 payouts withdrawn" in world.paybatch("cancel", batch).out
        assert "decided already" in world.paybatch("approve", batch, code=3).err
        assert "cancelled" in world.paybatch("run", "p.csv", "--yes", code=3).err
        again = submitted(world)
        assert again != batch
        world.paybatch("approve", again)
        world.paybatch("run", "p.csv", "--yes")
        check_money(world.read(), provider.ledger())


# --- a cluster ---


def test_a_cluster_obeys_pause_resume_and_cancel_with_its_workers_running(
    tmp_path: Path,
) -> None:
    with clustered(tmp_path, *SLOW) as cluster:
        world, provider = cluster.world, cluster.provider
        world.write([usd_row(number) for number in range(1, 401)])
        cluster.start_worker()
        cluster.start_beat()
        batch = cluster.submit("p.csv", "--approve")
        until(lambda: in_the_middle(world))
        world.paybatch("pause", batch)
        until(lambda: set(cluster.states(batch)) <= {"paid", "queued", "created"})
        stopped = creates(provider)
        paid = world.count("paid")
        assert 0 < paid < 400
        # A beat has swept since, and found nothing to send.
        swept = world.one("SELECT swept_at FROM installation")
        until(lambda: world.one("SELECT swept_at FROM installation") != swept)
        assert creates(provider) == stopped
        world.paybatch("resume", batch)
        until(lambda: in_the_middle(world, paid + 5))
        world.paybatch("cancel", batch)
        until(lambda: set(cluster.states(batch)) <= {"paid", "cancelled", "held"})
        assert world.count("cancelled") > 0
        ended = world.paybatch("watch", batch, code=5 if world.count("held") else 4)
        assert "nothing more of it is sent" in ended.out
        world.paybatch("results", batch, "-o", "p.results.csv")
        check_money(world.read(), provider.ledger())
        assert len(world.read()) == 400


# --- paid again ---


def test_retry_pays_what_failed_again_and_the_parent_shows_it(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, provider):
        rows = [usd_row(1), usd_row(2), usd_row(3)]
        world.write(rows)
        provider.fault("create:422", "T-0001")
        provider.fault("create:422", "T-0003")
        world.paybatch("run", "p.csv", "--yes", code=4)
        parent = world.batch_id()
        provider.mend()
        told = world.paybatch("retry", parent, "--json").json
        child = told["batch_id"]
        assert told == {
            "batch_id": child,
            "child_of": parent,
            "rows": 2,
            "state": "draft",
            "left_out": 0,
        }
        # Stored is not sent; and nobody stores it twice.
        assert paid_there(provider) == {"T-0002": 1}
        again = world.paybatch("retry", parent, code=3).err
        assert f"all that failed of it (2) is paid again already (as batch {child})" in again
        assert (
            world.paybatch("results", parent, "--failed", "-o", "f.csv", "--json").json["rows"] == 0
        )

        world.paybatch("approve", child)
        world.paybatch("watch", child)
        world.paybatch("results", parent, "-o", "parent.csv")
        shown = [
            (row["batch_id"], row["row"], row["reference_id"], row["state"], row["replaces"])
            for row in world.read("parent.csv")
        ]
        assert shown == [
            (parent, "1", "T-0001-r2", "paid", "T-0001"),
            (parent, "2", "T-0002", "paid", ""),
            (parent, "3", "T-0003-r2", "paid", "T-0003"),
        ]
        check_money([*world.read(), *world.read("parent.csv")], provider.ledger())
        assert actions(world, parent) == ["stored", "approved", "retried"]
        assert world.paybatch("status", child, "--json").json["child_of"] == parent
        assert "nothing to pay again" in world.paybatch("retry", child, code=3).err


def test_a_retry_that_fails_is_retried_from_either_batch_but_once(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, provider):
        world.write([usd_row(1)])
        provider.fault("create:422*0")
        world.paybatch("run", "p.csv", "--yes", code=4)
        parent = world.batch_id()
        child = str(world.paybatch("retry", parent, "--json").json["batch_id"])
        world.paybatch("approve", child)
        world.paybatch("watch", child, code=4)
        provider.mend()
        third = str(world.paybatch("retry", parent, "--json").json["batch_id"])
        # The failed one of the child is paid again by that, too.
        assert "paid again already" in world.paybatch("retry", child, code=3).err
        world.paybatch("approve", third)
        world.paybatch("watch", third)
        for batch in (parent, child):
            world.paybatch("results", batch, "-o", f"{batch}.csv")
            assert world.states(f"{batch}.csv") == {"T-0001-r3": "paid"}
        assert paid_there(provider) == {"T-0001-r3": 1}


def test_a_corrected_file_shows_in_the_results_of_its_parent(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, provider):
        world.write([usd_row(1, "create:422"), usd_row(2)])
        world.paybatch("run", "p.csv", "--yes", code=4)
        parent = world.batch_id()
        world.paybatch("results", parent, "--failed", "-o", "failed.csv")
        world.write([row | {"metadata.simulate": ""} for row in world.read("failed.csv")], "c.csv")
        world.paybatch("run", "c.csv", "--yes")
        world.paybatch("results", parent, "-o", "parent.csv")
        assert world.states("parent.csv") == {"T-0001-r2": "paid", "T-0002": "paid"}
        check_money([*world.read(), *world.read("parent.csv")], provider.ledger())


def test_the_money_of_a_retry_is_checked_at_its_approval(tmp_path: Path) -> None:
    with provided(tmp_path, "--balance", "USD=1000.00") as (world, provider):
        world.write([usd_row(1, amount="60")])
        provider.fault("create:422")
        world.paybatch("run", "p.csv", "--yes", code=4)
        provider.mend()
        child = str(world.paybatch("retry", world.batch_id(), "--json").json["batch_id"])
        provider.control("POST", "balances", USD="59.99")
        assert "can be spent" in world.paybatch("approve", child, code=6).err
        provider.control("POST", "balances", USD="100")
        world.paybatch("approve", child)
        world.paybatch("watch", child)
        assert paid_there(provider) == {"T-0001-r2": 1}


# --- two people ---


def as_somebody_else(world: World) -> None:
    """Have all that was done so far be another person's."""
    world.execute("UPDATE batch_events SET actor = 'somebody-else'")
    world.execute("UPDATE proposals SET actor = 'somebody-else'")


def test_with_two_people_the_second_approves_and_the_first_may_retry_only(
    tmp_path: Path,
) -> None:
    with provided(tmp_path) as (world, provider):
        world.env["PAYBATCH_APPROVALS"] = "2"
        world.write([usd_row(1), usd_row(2)])
        refused = world.paybatch("submit", "p.csv", "--approve", code=3).err
        assert "somebody else has to approve" in refused
        assert world.nothing_is_stored()
        batch = submitted(world)
        assert "somebody else approves it" in world.paybatch("approve", batch, code=3).err
        as_somebody_else(world)
        provider.fault("create:422", "T-0001")
        world.paybatch("approve", batch)
        world.paybatch("watch", batch, code=4)
        # Who stores the lines again has made them.
        child = str(world.paybatch("retry", batch, "--json").json["batch_id"])
        assert "somebody else approves it" in world.paybatch("approve", child, code=3).err
        assert paid_there(provider) == {"T-0002": 1}


def test_with_two_people_a_held_payout_is_settled_by_the_second(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1, "status=partially_processed")])
        world.paybatch("run", "p.csv", "--yes", code=5)
        world.env["PAYBATCH_APPROVALS"] = "2"
        paid = ("resolve", "T-0001", "--as", "paid", "--reason", "seen at the bank")
        for _ in range(2):
            assert "somebody else" in world.paybatch(*paid).out
        told = world.paybatch(*paid, "--json").json
        assert (told["state"], told["proposed"]) == ("held", "paid")
        as_somebody_else(world)
        differs = world.paybatch("resolve", "T-0001", "--as", "failed", "--reason", "no").out
        batch = world.batch_id()
        [waits] = world.paybatch("status", batch, "--json").json["proposals"]
        assert (waits["reference_id"], waits["account"]) == ("T-0001", "main")
        assert (waits["decision"], waits["reason"]) == ("failed", "no")
        confirm = 'paybatch resolve T-0001 --as failed --reason "..."'
        assert waits["confirm"] == confirm
        shown = world.paybatch("status", batch).out
        assert f"  T-0001: failed, by {waits['by']} at " in shown
        assert f" UTC: no\n    to confirm: {confirm}\n" in shown
        listed = world.paybatch("status").out
        assert f"Batch {batch} has proposals that wait" in listed
        assert "differs from what somebody-else proposed (paid)" in differs
        as_somebody_else(world)
        assert (
            "failed now"
            in world.paybatch("resolve", "T-0001", "--as", "failed", "--reason", "agreed").out
        )
        assert world.paybatch("status", batch, "--json").json["proposals"] == []
        assert "wait for somebody else" not in world.paybatch("status").out
        assert world.count("failed") == 1


# --- what is told ---


def test_the_history_is_shown_with_who_when_and_from_where(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1), usd_row(1, reference_id="T-0002")])
        world.paybatch("submit", "p.csv", "--allow-repeats")
        batch = world.batch_id()
        world.paybatch("reject", batch, "--reason", "twice the same")
        shown = world.paybatch("status", batch).out
        assert "History:" in shown
        for told in (
            "stored by",
            "allowed by",
            "1 repeated payment allowed",
            "rejected by",
            "(cli ",
        ):
            assert told in shown
        assert shown.count(" UTC  ") == 3
        last = world.paybatch("status", batch, "--json").json["history"][-1]
        assert (last["action"], last["note"]) == ("rejected", "twice the same")
        assert " pid " in last["origin"]


@pytest.mark.parametrize("command", ["approve", "reject", "pause", "resume", "cancel", "retry"])
def test_a_batch_that_is_not_there_is_told_in_a_sentence(tmp_path: Path, command: str) -> None:
    with provided(tmp_path) as (world, _):
        assert "no batch 'NOSUCH'" in world.paybatch(command, "NOSUCH", code=2).err


def test_resume_takes_a_batch_or_an_account(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        told = world.paybatch("resume", "BATCH", "--account", "main", code=2).err
        assert "either a BATCH or an --account" in told
        assert "Account main is not paused" in world.paybatch("resume", "--account", "main").out


@pytest.mark.parametrize(
    "command", [("resolve", "SAL-1", "--as", "paid"), ("freeze",)], ids=["resolve", "freeze"]
)
def test_a_decision_without_a_reason_is_not_taken(tmp_path: Path, command: tuple[str, ...]) -> None:
    world = World(tmp_path)
    assert "--reason is empty" in world.paybatch(*command, "--reason", " ", code=2).err


def test_what_is_done_already_ends_with_3_and_changes_nothing(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, provider):
        world.write([usd_row(1, "create:422"), usd_row(2, "status=partially_processed")])
        batch = submitted(world)
        assert "is draft: there is nothing to follow" in world.paybatch("watch", batch, code=3).err
        world.paybatch("approve", batch)
        told = world.paybatch("approve", batch, code=3).err
        assert "decided already: it is approved by " in told
        world.paybatch("watch", batch, code=5)
        resolve = ("--as", "paid", "--reason", "seen at the bank")
        told = world.paybatch("resolve", "T-0001", *resolve, code=3).err
        assert f"T-0001 waits for no decision: it is failed, in batch {batch}" in told
        world.paybatch("resolve", "T-0002", *resolve)
        assert "it is paid" in world.paybatch("resolve", "T-0002", *resolve, code=3).err
        # What nobody has ever heard of is a slip of the pen.
        told = world.paybatch("resolve", "T-0003", *resolve, code=2).err
        assert "no payout has the reference id 'T-0003'" in told
        before = world.query("SELECT count(*) FROM batch_events")
        for command in ("pause", "cancel", "approve", "reject"):
            told = world.paybatch(command, batch, code=3).err
            assert "is finished" in told or "decided already" in told
        world.paybatch("run", "p.csv", "--yes", code=3)
        assert world.query("SELECT count(*) FROM batch_events") == before
        world.paybatch("retry", batch)
        world.paybatch("retry", batch, code=3)
        assert creates(provider) == 2
