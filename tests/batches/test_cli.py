"""A batch is submitted, approved and followed by the commands, as they are typed."""

from __future__ import annotations

from pathlib import Path

from tests.batches.cli_world import check_money, provided, usd_row


def test_a_stored_batch_is_paid_by_approve_and_watch_and_by_nothing_before(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, provider):
        world.write([usd_row(1), usd_row(2, "create:422"), usd_row(3, "create:drop-after")])
        stored = world.paybatch("submit", "p.csv", "--json").json
        batch = stored["batch_id"]
        assert (stored["rows"], stored["state"]) == (3, "draft")
        assert "is draft: there is nothing to follow" in world.paybatch("watch", batch, code=3).err
        assert world.paybatch("status", batch, "--json").json["counts"] == {"draft": 3}
        assert provider.ledger() == {}
        approved = world.paybatch("approve", batch.lower())
        assert f"watch {batch}" in approved.out
        assert world.paybatch("status", batch, "--json").json["counts"] == {"queued": 3}
        watched = world.paybatch("watch", batch, "--json", code=4).json
        assert watched["counts"] == {"paid": 2, "failed": 1}
        assert (watched["exit_code"], watched["state"]) == (4, "completed")
        world.paybatch("results", batch, "-o", "p.results.csv")
        check_money(world.read(), provider.ledger())


def test_submit_with_approve_stores_and_approves_at_once(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1)])
        stored = world.paybatch("submit", "p.csv", "--approve", "--json").json
        assert stored["state"] == "approved"
        # `run` of the same file carries on with what is stored, without a question.
        ran = world.paybatch("run", "p.csv", "--json").json
        assert (ran["batch_id"], ran["counts"]) == (stored["batch_id"], {"paid": 1})


def test_results_never_take_the_place_of_the_input(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1)])
        before = (world.folder / "p.csv").read_bytes()
        batch = world.paybatch("submit", "p.csv", "--json").json["batch_id"]
        for more in ((), ("--failed",)):
            told = world.paybatch("results", batch, "-o", "p.csv", *more, code=2).err
            assert "p.csv has the name of the batch's input" in told
        assert (world.folder / "p.csv").read_bytes() == before


def test_a_file_that_cannot_be_opened_is_told_as_the_docs_have_it(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        (world.folder / "folder.csv").mkdir()
        for command in ("check", "submit"):
            told = world.paybatch(command, "none.csv", code=3).err
            assert "none.csv does not exist; check its name and folder" in told
            told = world.paybatch(command, "folder.csv", code=3).err
            assert "folder.csv is a folder; name the file in it" in told


def test_a_database_in_a_folder_that_is_not_there_is_told_in_a_sentence(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.env["PAYBATCH_DATABASE_URL"] = f"sqlite:///{tmp_path}/none/p.db"
        told = world.paybatch("status", code=2).err
        assert "none cannot hold the database and its key (No such file or directory)" in told
