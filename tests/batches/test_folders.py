"""Inboxes here and elsewhere: listed, fetched, moved and written, and nothing of them ever lost."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import pytest

from batches.folders import Folder, LocalFolder, RemoteFolder, is_wanted, open_folder
from tests.batches.ftp_server import ftp_served
from workers.errors import InboxUnreachable

NOW = datetime(2026, 3, 2, 2, 30, tzinfo=UTC)


class Inbox:
    """A folder and hands to put files into it, as whoever delivers them does."""

    def __init__(self, folder: Folder, system: Any, path: str) -> None:
        self.folder, self._system, self._path = folder, system, path

    def put(self, name: str, content: str) -> None:
        self._system.makedirs(f"{self._path}/{name}".rpartition("/")[0], exist_ok=True)
        self._system.pipe_file(f"{self._path}/{name}", content.encode())

    def text(self, name: str) -> str | None:
        try:
            return str(self._system.cat_file(f"{self._path}/{name}").decode())
        except FileNotFoundError:
            return None

    def stamp(self, name: str) -> str:
        [entry] = [each for each in self.folder.entries() if each.name == name]
        return entry.stamp


@pytest.fixture(params=["local", "ftp", "memory"])
def inbox(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inbox]:
    system: Any = fsspec.filesystem("file")
    if request.param != "memory":
        (tmp_path / "inbox").mkdir()
    if request.param == "local":
        yield Inbox(open_folder(str(tmp_path / "inbox")), system, str(tmp_path / "inbox"))
        return
    if request.param == "ftp":
        # A server that renames, and cannot copy: put there by others, reached through it by us.
        with ftp_served(tmp_path) as address:
            yield Inbox(open_folder(f"{address}/inbox"), system, str(tmp_path / "inbox"))
        return
    path = f"/{secrets.token_hex(8)}"
    system = fsspec.filesystem("memory")
    system.makedirs(path)
    yield Inbox(open_folder(f"memory:/{path}"), system, path)
    system.rm(path, recursive=True)


def unseen(done: int) -> None:
    """For copying that nobody looks at."""


def test_the_kind_of_folder_follows_from_its_address(tmp_path: Path) -> None:
    assert isinstance(open_folder(str(tmp_path)), LocalFolder)
    assert isinstance(open_folder(f"file://{tmp_path}"), LocalFolder)
    assert isinstance(open_folder("memory://inbox"), RemoteFolder)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("ftpx://u:geheim@bank/in", "ftpx://bank/in cannot be used: ValueError: Protocol not"),
        ("s3://bucket/in", "s3://bucket/in cannot be used: ImportError: Install s3fs"),
    ],
)
def test_an_address_that_nothing_here_reaches_is_told_without_its_password(
    address: str, told: str
) -> None:
    with pytest.raises(InboxUnreachable) as refused:
        open_folder(address)
    assert str(refused.value).startswith(told)
    assert "geheim" not in str(refused.value)


def test_what_is_delivered_is_listed_and_what_is_being_written_is_not(inbox: Inbox) -> None:
    for name in ("a.csv", "b.csv.part", ".c.csv", "d.tmp"):
        inbox.put(name, "x")
    inbox.put("done/e.csv", "x")
    [entry] = inbox.folder.entries()
    assert (entry.name, entry.bytes) == ("a.csv", 1)
    assert entry.modified_at is not None
    assert is_wanted("A.CSV")
    assert not is_wanted("A.CSV.PART")


def test_a_file_is_fetched_into_a_private_copy_with_its_hash(inbox: Inbox, tmp_path: Path) -> None:
    inbox.put("a.csv", "content")
    [entry] = inbox.folder.entries()
    copy = tmp_path / "copy"
    assert inbox.folder.fetch(entry, copy, unseen) == hashlib.sha256(b"content").hexdigest()
    assert copy.read_text() == "content"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600


def test_a_file_that_was_changed_or_is_gone_is_not_fetched(inbox: Inbox, tmp_path: Path) -> None:
    inbox.put("a.csv", "content")
    [entry] = inbox.folder.entries()
    inbox.put("a.csv", "content and more")
    assert inbox.folder.fetch(entry, tmp_path / "1", unseen) is None
    inbox.folder.move("a.csv", "done/a.csv", None)
    assert inbox.folder.fetch(entry, tmp_path / "2", unseen) is None


def test_what_has_come_of_a_file_is_told_and_may_end_it(inbox: Inbox, tmp_path: Path) -> None:
    inbox.put("a.csv", "x" * 3_000_000)
    [entry] = inbox.folder.entries()
    told: list[int] = []
    assert inbox.folder.fetch(entry, tmp_path / "1", told.append) is not None
    assert told == sorted(set(told))
    assert (len(told) > 1, told[-1]) == (True, 3_000_000)

    def enough(done: int) -> None:
        raise InboxUnreachable(f"after {done} bytes")

    with pytest.raises(InboxUnreachable, match=f"^after {told[0]} bytes$"):
        inbox.folder.fetch(entry, tmp_path / "2", enough)


def test_a_move_is_made_once_and_again_changes_nothing(inbox: Inbox) -> None:
    inbox.put("a.csv", "content")
    stamp = inbox.stamp("a.csv")
    assert inbox.folder.move("a.csv", "done/a.1.csv", stamp) == "moved"
    assert (inbox.text("a.csv"), inbox.text("done/a.1.csv")) == (None, "content")
    assert inbox.folder.move("a.csv", "done/a.1.csv", stamp) == "moved"
    # Another file of that name came meanwhile: it is not touched.
    inbox.put("a.csv", "something else")
    assert inbox.folder.move("a.csv", "done/a.1.csv", stamp) == "moved"
    assert (inbox.text("a.csv"), inbox.text("done/a.1.csv")) == ("something else", "content")


def test_a_file_that_is_gone_or_replaced_is_not_moved(inbox: Inbox) -> None:
    assert inbox.folder.move("a.csv", "done/a.1.csv", "stamp") == "absent"
    inbox.put("a.csv", "content")
    stamp = inbox.stamp("a.csv")
    inbox.put("new.csv", "another content")
    inbox.folder.move("a.csv", "aside/a.csv", None)
    inbox.folder.move("new.csv", "a.csv", None)
    assert inbox.folder.move("a.csv", "done/a.1.csv", stamp) == "replaced"
    assert (inbox.text("a.csv"), inbox.text("done/a.1.csv")) == ("another content", None)


def test_a_remote_move_that_was_cut_off_is_finished() -> None:
    system = fsspec.filesystem("memory")
    path = f"/{secrets.token_hex(8)}"
    system.makedirs(f"{path}/done")
    inbox = Inbox(open_folder(f"memory:/{path}"), system, path)
    # Copied, and not deleted yet.
    inbox.put("a.csv", "content")
    stamp = inbox.stamp("a.csv")
    inbox.put("done/a.1.csv", "content")
    assert inbox.folder.move("a.csv", "done/a.1.csv", stamp) == "moved"
    assert (inbox.text("a.csv"), inbox.text("done/a.1.csv")) == (None, "content")
    # Half copied.
    inbox.put("b.csv", "content")
    stamp = inbox.stamp("b.csv")
    inbox.put("done/b.1.csv", "cont")
    assert inbox.folder.move("b.csv", "done/b.1.csv", stamp) == "moved"
    assert (inbox.text("b.csv"), inbox.text("done/b.1.csv")) == (None, "content")
    system.rm(path, recursive=True)


def test_what_is_put_there_takes_the_place_of_what_was(inbox: Inbox, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for content in ("first", "second"):
        source.write_text(content)
        inbox.folder.put(source, "refused/a.reason.txt", private=True)
    assert inbox.text("refused/a.reason.txt") == "second"


def test_a_private_file_is_its_owners_alone_and_a_report_is_not(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("x")
    folder = open_folder(str(tmp_path / "reports"))
    previous = os.umask(0o027)
    try:
        folder.put(source, "private", private=True)
        folder.put(source, "shared", private=False)
    finally:
        os.umask(previous)
    modes = [stat.S_IMODE((tmp_path / "reports" / n).stat().st_mode) for n in ("private", "shared")]
    assert modes == [0o600, 0o640]
    assert sorted(each.name for each in (tmp_path / "reports").iterdir()) == ["private", "shared"]


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    # It may be a mount that is away: its files must not go into the folder beneath.
    folder = open_folder(str(tmp_path / "mount" / "inbox"))
    with pytest.raises(InboxUnreachable, match="inbox cannot be used: No such file or directory"):
        folder.entries()
    with pytest.raises(InboxUnreachable):
        folder.move("a.csv", "done/a.csv", None)
    assert not (tmp_path / "mount").exists()


def test_a_link_is_neither_listed_nor_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "a.csv").write_text("x")
    folder = open_folder(str(inbox))
    [entry] = folder.entries()
    (inbox / "a.csv").unlink()
    (inbox / "a.csv").symlink_to(tmp_path / "secret")
    assert list(folder.entries()) == []
    with pytest.raises(InboxUnreachable):
        folder.fetch(entry, tmp_path / "copy", unseen)
