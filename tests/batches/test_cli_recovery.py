"""After a restore, as a person goes through it: freeze, reconcile, resume, and run on."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from tests.batches.cli_world import Ended, Provider, World, check_money, provided, until, usd_row
from tests.batches.example_world import Examples

RECONCILE = ("reconcile", "--account", "main", "--from", "2020-01-01", "--to", "2099-12-31")
PAUSED = "Account main is paused (restore): back from last night (frozen by "
COMPARE = (
    "  compare it with its provider: paybatch reconcile --account main --from D --to D, with times"
    " before the backup and after the restore; then: paybatch resume --account main"
)


def backed_up_and_lost(world: World) -> None:
    """A batch that waits for approval is backed up, then paid with another; then the backup is
    put back.
    """
    world.write([usd_row(1), usd_row(2)], "first.csv")
    world.write([usd_row(3)], "second.csv")
    world.paybatch("submit", "first.csv")
    shutil.copy(world.folder / "paybatch.db", world.screens / "backup")
    for name in ("first.csv", "second.csv"):
        world.paybatch("run", name, "--yes")
    shutil.copy(world.screens / "backup", world.folder / "paybatch.db")


def test_a_restored_record_is_frozen_compared_opened_and_pays_nothing_twice(
    tmp_path: Path,
) -> None:
    with provided(tmp_path, "--allow-duplicates") as (world, provider):
        backed_up_and_lost(world)
        creates = provider.control("GET", "calls")["create"]
        shown = world.paybatch("freeze", "--reason", "back from last night").out
        assert shown.startswith(PAUSED)
        assert COMPARE in shown

        # Whoever looks is told the same; nothing is paid.
        assert COMPARE in world.paybatch("status").out
        assert "PROBLEM  account main: paused (restore)" in world.paybatch("doctor", code=6).out
        assert PAUSED in world.paybatch("run", "first.csv", "--yes", code=6).out
        told = world.paybatch("resume", "--account", "main", code=6).err
        assert "it has not been compared with its provider since the record was put back" in told

        ended = world.paybatch(*RECONCILE, "-o", "breaks.csv", code=5)
        _check_breaks(world, ended.out)
        until(lambda: _opened(world))
        assert "; creates are looked up first, since a restore at" in world.paybatch("doctor").out
        for name in ("first.csv", "second.csv"):
            world.paybatch("run", name, "--yes")
        assert provider.control("GET", "calls")["create"] == creates
        results = world.read("first.results.csv") + world.read("second.results.csv")
        assert {row["state"] for row in results} == {"paid"}
        check_money(results, provider.ledger())
        _check_all_known(world, provider)


def _opened(world: World) -> bool:
    """Whether it can be opened by now: not before a look-up can see what was sent last."""
    with world.start("resume") as command:
        ended = command.wait()
    assert (ended.code, "stays frozen until 20" in ended.err) in ((0, False), (6, True)), ended
    return ended.code == 0


def _check_breaks(world: World, shown: str) -> None:
    assert "the provider lists 3 payouts" in shown
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "at the provider, not known here 1" in lines
    assert "at the provider, not sent here yet 2" in lines
    assert any(
        line.startswith("at the provider, not sent here yet T-0001 queued, 11.25 USD paid (")
        for line in lines
    )
    assert "still looked up at the provider first, because the record was put back: 3 that" in shown
    with (world.folder / "breaks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["kind"], row["reference_id"]) for row in rows] == [
        ("not_here", "T-0003"),
        ("not_sent_here", "T-0001"),
        ("not_sent_here", "T-0002"),
    ]
    assert (rows[0]["here"], rows[1]["here"]) == ("", "queued, 11.25 USD")


def _check_all_known(world: World, provider: Provider) -> None:
    """All is known again: no look-ups any more."""
    facts = world.paybatch(*RECONCILE, "--json").json
    assert (facts["matches"], facts["breaks"], facts["differences"]) == (3, {}, [])
    assert (facts["looked_up_first"], facts["why"]) == (False, None)
    finds = provider.control("GET", "calls")["find"]
    world.write([usd_row(4)], "third.csv")
    world.paybatch("run", "third.csv", "--yes")
    assert provider.control("GET", "calls")["find"] == finds
    assert world.paybatch("resume", "--json").json == {
        "account": "main",
        "was_paused": None,
        "looked_up_first": False,
    }


def test_a_paused_account_is_opened_when_it_is_mended(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, provider):
        world.write([usd_row(1)])
        provider.fault("create:403*0")
        shown = world.paybatch("run", "p.csv", "--yes", code=6).out
        assert "  when that is mended: paybatch resume --account main\n" in shown
        provider.fault("balances:401*0")
        told = world.paybatch("resume", code=6).err
        assert told.startswith("paybatch: account main stays paused: Payelata")
        provider.mend()
        assert world.paybatch("resume", "--reason", "a new key").out == (
            "Account main is open again; it was paused (fault).\n"
        )
        kept = world.one("SELECT paused_reason FROM accounts WHERE name = 'main'")
        assert kept.startswith("opened at 20")
        assert kept.endswith(": a new key")
        assert world.paybatch("resume").out == "Account main is not paused.\n"
        world.paybatch("run", "p.csv", "--yes")


def test_a_person_s_pause_says_how_it_is_ended(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.paybatch("status")
        world.execute(
            "UPDATE accounts SET paused_kind='person', paused_reason='month end',"
            " paused_at='2026-03-01 00:00:00', probe_at='2026-03-01 00:00:00'"
        )
        shown = world.paybatch("status").out
        assert "  open it with: paybatch resume --account main\n" in shown
        assert "tries it again" not in shown
        world.paybatch("resume")
        assert "paused" not in world.paybatch("status").out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("reconcile", "--from", "2026-03-02", "--to", "2026-03-01"), "--from must be before --to"),
        (("reconcile", "--from", "March", "--to", "2026-03-01"), "'March': expected a day"),
        (("reconcile", "--from", "2026-02-30", "--to", "2026-03-01"), "'2026-02-30': expected"),
        (("reconcile", *RECONCILE[3:], "-o", "x.pdf"), "does not end in .csv"),
        (("freeze", "--account", "nobody", "--reason", "x"), "no account 'nobody'"),
        (("freeze",), "Missing option '--reason'"),
        (("resume", "--account", "nobody"), "no account 'nobody'"),
    ],
)
def test_what_cannot_be_done_as_typed_is_told_in_a_sentence(
    tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    with provided(tmp_path) as (world, _):
        assert told in world.paybatch(*arguments, code=2).err


def test_a_day_counts_to_its_end_and_a_time_without_a_zone_is_utc(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        for first, last, told in (
            (
                "2026-03-01",
                "2026-03-01",
                ("2026-03-01T00:00:00+00:00", "2026-03-02T00:00:00+00:00"),
            ),
            (
                "2026-03-01T08:00",
                "2026-03-01T12:00+02:00",
                ("2026-03-01T08:00:00+00:00", "2026-03-01T10:00:00+00:00"),
            ),
        ):
            facts = world.paybatch("reconcile", "--from", first, "--to", last, "--json").json
            assert (facts["from"], facts["to"]) == told
            assert facts["looked_up_first"] is None


def test_where_there_is_no_list_it_is_said_and_a_person_answers_for_opening(
    tmp_path: Path,
) -> None:
    world = Examples(tmp_path)
    world.env["PAYBATCH_ACCOUNTS__ECHELON__CALL_DEADLINE_S"] = "0.1"
    for name, value in {"CLAIM_S": "0.2", "ANNOUNCE_S": "0.3", "LOOKUP_GRACE_S": "0.4"}.items():
        world.env[f"PAYBATCH_ACCOUNTS__ECHELON__{name}"] = value
    chosen = ("--account", "echelon")
    told = world.paybatch("reconcile", *chosen, *RECONCILE[3:], code=2).err
    assert "echelon has no list of payouts, so nothing can be compared" in told
    world.paybatch("freeze", *chosen, "--reason", "restored")
    assert "--unreconciled" in world.paybatch("resume", *chosen, code=6).err
    assert "--reason" in world.paybatch("resume", *chosen, "--unreconciled", code=2).err
    opening = ("resume", *chosen, "--unreconciled", "--reason", "compared by hand")
    answered: list[Ended] = []

    def opened() -> bool:
        # Not before the last call of another process could be seen by a look-up.
        with world.start(*opening) as command:
            answered.append(command.wait())
        return answered[-1].code == 0

    until(opened)
    assert all("stays frozen until" in one.err for one in answered[:-1])
    assert answered[-1].out == (
        "Account echelon is open again; it was paused (restore).\n"
        "Its creates are looked up at the provider first, because it was put back.\n"
    )
