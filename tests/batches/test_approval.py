"""Who may decide, once, about what was checked; and what may be paid again."""

from __future__ import annotations

from pathlib import Path

from tests.batches.cli_world import World, check_money, provided, usd_row


def submitted(world: World, name: str = "p.csv", *options: str) -> str:
    return str(world.paybatch("submit", name, *options, "--json").json["batch_id"])


def test_a_batch_is_approved_once(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1)])
        batch = submitted(world)
        world.paybatch("approve", batch)
        for command in ("approve", "reject"):
            assert "decided already" in world.paybatch(command, batch, code=3).err
        assert world.count("queued") == 1


def test_a_rejected_batch_sends_nothing_and_frees_its_reference_ids(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, provider):
        world.write([usd_row(1), usd_row(2)])
        batch = submitted(world)
        rejected = world.paybatch("reject", batch, "--reason", "wrong month", "--json").json
        assert (rejected["state"], rejected["withdrawn"]) == ("rejected", 2)
        assert "decided already" in world.paybatch("approve", batch, code=3).err
        assert provider.ledger() == {}
        # The same file, and other amounts under the same reference ids, are free again.
        world.write([usd_row(1, amount="99.99")], "other.csv")
        world.paybatch("run", "other.csv", "--yes", "-o", "p.results.csv")
        assert world.states() == {"T-0001": "paid"}
        check_money(world.read(), provider.ledger())


def test_with_two_approvals_the_maker_cannot_approve_nor_run(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, provider):
        world.env["PAYBATCH_APPROVALS"] = "2"
        world.write([usd_row(1)])
        batch = submitted(world)
        assert "somebody else" in world.paybatch("approve", batch, code=3).err
        assert "somebody else" in world.paybatch("run", "p.csv", "--yes", code=6).err
        assert world.count("draft") == 1
        assert provider.ledger() == {}


def test_the_same_content_is_stored_once_and_the_refusal_names_its_batch(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1), usd_row(2)])
        batch = submitted(world)
        assert batch in world.paybatch("submit", "p.csv", code=3).err
        # Other bytes, the same rows.
        (world.folder / "same.csv").write_bytes(
            (world.folder / "p.csv").read_bytes().replace(b",", b";")
        )
        assert batch in world.paybatch("submit", "same.csv", code=3).err
        assert world.one("SELECT count(*) FROM payouts") == 2


def test_a_reference_id_is_for_life(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, provider):
        world.write([usd_row(1), usd_row(2, "create:422")])
        world.paybatch("run", "p.csv", "--yes", code=4)
        batch = world.batch_id()
        # Neither the paid nor the failed one is free, whatever else the row says.
        world.write([usd_row(1, amount="77"), usd_row(2, amount="78"), usd_row(3)], "q.csv")
        facts = world.paybatch("check", "q.csv", "--json", code=3).json
        assert [(each["line"], each["kind"]) for each in facts["faults"]] == [
            (2, "reference_used"),
            (3, "reference_used"),
        ]
        assert batch in facts["faults"][0]["expected"]
        world.paybatch("run", "q.csv", "--yes", code=3)
        check_money(world.read(), provider.ledger())


def test_a_repeated_payment_needs_consent_and_the_consent_is_recorded(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, provider):
        world.write([usd_row(1)])
        world.paybatch("run", "p.csv", "--yes")
        # The same account and amount as a payout of another file, and as a line of the same one.
        again = usd_row(1, reference_id="T-9001")
        world.write([again, usd_row(2), usd_row(2, reference_id="T-9002")], "q.csv")
        facts = world.paybatch("check", "q.csv", "--json", code=3).json
        assert [(each["line"], each["kind"]) for each in facts["faults"]] == [
            (2, "repeated"),
            (4, "repeated"),
        ]
        assert "T-0001" in facts["faults"][0]["expected"]
        assert "line 3" in facts["faults"][1]["expected"]
        world.paybatch("run", "q.csv", "--yes", code=3)
        assert set(provider.ledger()) == {"T-0001"}

        batch = submitted(world, "q.csv", "--allow-repeats")
        note = world.one("SELECT note FROM batches WHERE id = ?", batch)
        assert "2 repeated payments allowed by" in note
        world.paybatch("approve", batch)
        world.paybatch("watch", batch)
        world.paybatch("results", batch, "-o", "q.results.csv")
        check_money([*world.read(), *world.read("q.results.csv")], provider.ledger())


def test_two_batches_cannot_both_spend_the_last_coin(tmp_path: Path) -> None:
    with provided(tmp_path, "--balance", "USD=100.00") as (world, provider):
        world.write([usd_row(1, amount="60")])
        world.write([usd_row(2, amount="60")], "q.csv")
        first, second = submitted(world), submitted(world, "q.csv")
        world.paybatch("approve", first)
        assert "can be spent" in world.paybatch("approve", second, code=6).err
        assert world.paybatch("balance", "--json").json["balances"]
        world.paybatch("watch", first)
        assert "can be spent" in world.paybatch("approve", second, code=6).err
        assert set(provider.ledger()) == {"T-0001"}


def test_rows_edited_in_the_database_are_not_paid(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, provider):
        world.write([usd_row(1), usd_row(2)])
        batch = submitted(world)
        world.execute("UPDATE payouts SET amount_minor = 999900 WHERE row = 1")
        assert "not what was checked" in world.paybatch("approve", batch, code=3).err
        assert world.count("draft") == 2
        world.execute("UPDATE payouts SET amount_minor = 1125 WHERE row = 1")
        world.paybatch("approve", batch)
        world.execute("UPDATE payouts SET amount_minor = 999900 WHERE row = 1")
        assert "T-0001" in world.paybatch("watch", batch, code=5).out
        assert set(provider.ledger()) == {"T-0002"}


def test_a_held_payout_is_settled_by_a_person_with_a_reason(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        words = ["amount=1.00", "status=partially_processed", ""]
        world.write([usd_row(number, each) for number, each in enumerate(words)])
        world.paybatch("run", "p.csv", "--yes", code=5)
        assert world.paybatch("resolve", "T-0000", "--as", "failed", code=2).err
        world.paybatch("resolve", "T-0000", "--as", "failed", "--reason", "cancelled by phone")
        told = world.paybatch(
            "resolve", "T-0001", "--as", "paid", "--reason", "topped up", "--json"
        )
        assert told.json == {"reference_id": "T-0001", "state": "paid"}
        assert (
            "T-0002"
            in world.paybatch("resolve", "T-0002", "--as", "paid", "--reason", "x", code=3).err
        )
        world.paybatch("run", "p.csv", "--yes", "-o", "after.csv", code=3)
        assert list(world.states("after.csv").values()) == ["failed", "paid", "paid"]
        notes = world.query(
            "SELECT actor, cause, note FROM payout_events WHERE from_state = 'held'"
        )
        assert any("cancelled by phone" in " ".join(map(str, note)) for note in notes)
