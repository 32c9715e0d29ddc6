"""An inbox at a real server: files are taken from it, and moved to where they belong."""

from __future__ import annotations

import contextlib
import ftplib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from batches.folders import open_folder
from tests.batches.cli_world import until
from tests.batches.ftp_server import ftp_served
from tests.batches.settlement_world import SettlementWorld, rows, settlement_world
from workers.errors import InboxUnreachable


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    with ftp_served(tmp_path) as address:
        yield address


@contextlib.contextmanager
def connected(address: str) -> Iterator[ftplib.FTP]:
    """Whoever delivers the files."""
    parts = urlsplit(address)
    with ftplib.FTP(timeout=30) as ftp:
        ftp.connect(str(parts.hostname), parts.port or 0)
        ftp.login(str(parts.username), str(parts.password))
        yield ftp


def test_files_are_taken_paid_and_moved_to_done_and_refused(tmp_path: Path, served: str) -> None:
    with settlement_world(tmp_path, inbox=f"{served}/inbox") as world:
        world.deliver("a.csv", rows(1, 2))
        world.deliver("b.csv", rows(3, 3, amount="x"))
        world.deliver("c.csv", rows(1, 2))
        world.deliver("d.csv.part", rows(4, 4))
        world.at("02T02:30")
        world.settle()
        world.pay()
        world.settle()
        assert world.fates() == {
            "a.csv": "approved",
            "b.csv": "refused",
            "c.csv": "delivered_twice",
        }
        assert {file.place for file in world.files()} == {"done", "refused"}
        assert set(world.paid().values()) == {1}
        assert world.lying("done") == ["a.2026-03-02-1.csv"]
        assert world.lying("refused") == [
            "b.2026-03-02-2.csv",
            "b.2026-03-02-2.csv.errors.csv",
            "b.2026-03-02-2.csv.reason.txt",
            "c.2026-03-02-3.csv",
            "c.2026-03-02-3.csv.reason.txt",
        ]
        # Nothing is left that is half written, and no file in the inbox but the unfinished one.
        assert sorted(each.name for each in world.inbox.iterdir()) == [
            "d.csv.part",
            "done",
            "refused",
        ]
        assert sorted(each.name for each in (tmp_path / "reports").iterdir()) == [
            "nightly.2026-03-02.csv",
            "nightly.2026-03-02.html",
        ]
        # The next night there is nothing left to take.
        world.at("03T02:30")
        world.settle()
        assert world.fates(datetime(2026, 3, 3, tzinfo=UTC).date()) == {}


def aged(world: SettlementWorld, name: str) -> None:
    """Have the server's clock be the test's: the file was changed just now."""
    now = world.clock.now().timestamp()
    os.utime(world.inbox / name, (now, now))


def test_a_file_that_is_still_being_uploaded_waits_for_its_end(tmp_path: Path, served: str) -> None:
    with (
        settlement_world(tmp_path, inbox=f"{served}/inbox", cut_off="06:00") as world,
        connected(served) as ftp,
    ):
        # More than the server keeps in its hands.
        whole = world.deliver("whole.csv", rows(1, 600)).read_bytes()
        (world.inbox / "whole.csv").unlink()
        path, half = world.inbox / "a.csv", whole.index(b"T-0500")
        world.at("02T02:30")
        with ftp.transfercmd("STOR inbox/a.csv") as upload:
            upload.sendall(whole[:half])
            until(lambda: path.exists() and path.stat().st_size > 0)
            # What is there by now may be read, and would be paid as a file of fewer payouts.
            aged(world, "a.csv")
            assert world.settle().unripe == 1
            upload.sendall(whole[half:])
        ftp.voidresp()
        aged(world, "a.csv")
        assert world.settle().unripe == 1
        assert world.made() == []
        world.clock.sleep(61)
        settled = world.settle()
        assert (settled.unripe, world.fates()) == (0, {"a.csv": "approved"})
        assert world.batch("a.csv").rows == 600
        assert world.lying("done") == ["a.2026-03-02-1.csv"]


def test_a_file_that_grows_while_it_is_fetched_is_not_taken(tmp_path: Path, served: str) -> None:
    (tmp_path / "inbox").mkdir()
    path = tmp_path / "inbox" / "a.csv"
    path.write_bytes(b"x" * 3_000_000)
    folder = open_folder(f"{served}/inbox")
    [entry] = folder.entries()
    with path.open("ab") as more:
        more.write(b"y")
    assert folder.fetch(entry, tmp_path / "1", lambda _: None) is None
    [entry] = folder.entries()
    assert folder.fetch(entry, tmp_path / "2", lambda _: None) is not None
    assert (tmp_path / "2").stat().st_size == 3_000_001


def test_a_file_that_took_the_others_name_goes_back(
    tmp_path: Path, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "a.csv").write_text("one")
    folder = open_folder(f"{served}/inbox")
    [entry] = folder.entries()
    system = folder._system  # type: ignore[attr-defined]
    rename = system.mv

    def late(source: str, target: str) -> None:
        """Somebody delivers another file under that name between our look and our move."""
        if target.endswith("done/a.1.csv"):
            (inbox / "a.csv").write_text("another")
        rename(source, target)

    monkeypatch.setattr(system, "mv", late)
    assert folder.move("a.csv", "done/a.1.csv", entry.stamp) == "replaced"
    assert (inbox / "a.csv").read_text() == "another"
    assert list((inbox / "done").iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("ftp://bank:falsch@127.0.0.1:{port}/inbox", "error_perm: 530 Authentication failed."),
        ("ftp://bank:geheim@127.0.0.1:{port}/none", "FileNotFoundError: /none"),
        ("ftp://bank:geheim@127.0.0.1:9/inbox", "Connection refused"),
    ],
)
def test_a_server_that_does_not_let_us_in_is_told_without_the_password(
    served: str, wrong: str, told: str
) -> None:
    with pytest.raises(InboxUnreachable) as refused:
        open_folder(wrong.format(port=urlsplit(served).port)).entries()
    assert told in str(refused.value)
    assert "geheim" not in str(refused.value)
    assert "falsch" not in str(refused.value)
    assert "127.0.0.1" in str(refused.value)


def test_an_inbox_that_is_away_fails_no_run_before_its_time_is_over(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        first = contextlib.ExitStack()
        address = first.enter_context(ftp_served(tmp_path))
        made = settlement_world(tmp_path, inbox=f"{address}/inbox", cut_off="06:00")
        world = stack.enter_context(made)
        world.deliver("a.csv", rows(1, 1))
        first.close()
        world.at("02T02:30")
        world.settle()
        assert "cannot be used" in (world.run().problem or "")
        assert "geheim" not in (world.run().problem or "")
        assert world.run().outcome == "open"
