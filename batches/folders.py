"""The folders of nightly settlement: inboxes and reports, here or wherever fsspec reaches.

A file is only ever moved, never changed and never overwritten; what is new appears whole. What a
file means is for `batches.intake`. Addresses are shown without users and passwords.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal, Protocol
from urllib.parse import unquote, urlsplit

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractFileSystem

from workers.errors import InboxUnreachable
from workers.schedules import shown

# What programs call a file that they are still writing, and what nobody means to deliver.
_UNFINISHED = (".part", ".partial", ".filepart", ".tmp", ".temp", ".crdownload", ".swp", "~")
_HIDDEN = (".", "~", "#")
_PART_BYTES = 1 << 20
# Under these names file systems tell when a file was last changed, or else when it was made.
_MODIFIED = ("mtime", "modify", "modified", "LastModified", "last_modified", "updated", "created")

Moved = Literal["moved", "absent", "replaced"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in a folder."""

    name: str
    bytes: int
    # When it was last changed; None: the file system does not tell.
    modified_at: datetime | None
    # Another one when the file is changed or replaced.
    stamp: str


class Folder(Protocol):
    """A folder and the ones in it."""

    address: str

    def entries(self) -> Sequence[Entry]:
        """The files that are meant to be taken, the oldest first.

        Raises:
            InboxUnreachable: it cannot be read. As of every other method.
        """
        ...

    def find(self, name: str) -> Entry | None:
        """The file of that name; None: there is none."""
        ...

    def fetch(self, entry: Entry, to: Path, came: Callable[[int], None]) -> str | None:
        """Copy a file of the folder to a private file; the SHA-256 of its bytes.

        Args:
            came: told how many bytes have come so far; what it raises ends the copying.

        Returns:
            None when it is gone, or was changed meanwhile.
        """
        ...

    def move(self, source: str, target: str, stamp: str | None) -> Moved:
        """Move a file within the folder: done already, or done now, or nothing is done.

        Args:
            stamp: the file must still have this one; None: it is where nobody else writes.
        """
        ...

    def put(self, file: Path, target: str, *, private: bool) -> None:
        """Have a copy of `file` there, whole or not at all, in place of any other.

        Args:
            private: on this machine, only its owner may read it.
        """
        ...


def open_folder(address: str) -> Folder:
    """The folder of that address.

    Raises:
        InboxUnreachable: no such kind of address, what reaches it is not installed, or it lets
            nobody in.
    """
    if "://" not in address:
        return LocalFolder(Path(address))
    try:
        system, path = url_to_fs(address, use_listings_cache=False)
    # Some connect and log in at once, and raise what their libraries do.
    except Exception as error:  # noqa: BLE001 - told to whoever runs the schedule
        raise InboxUnreachable(
            f"{shown(address)} cannot be used: {_told(error, address)}"
        ) from None
    if isinstance(system, LocalFileSystem):
        return LocalFolder(Path(path))
    return RemoteFolder(address, system, path)


def is_wanted(name: str) -> bool:
    """Whether a file of that name is meant to be taken, and not one that is still being written."""
    return not (name.startswith(_HIDDEN) or name.lower().endswith(_UNFINISHED))


class LocalFolder:
    """A folder of this machine; moves are renames."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.address = str(path)

    def entries(self) -> Sequence[Entry]:
        found = []
        with self._using(), os.scandir(self.path) as listed:
            for each in listed:
                # Links would lead to files that nobody delivered.
                if is_wanted(each.name) and (entry := self._entry(each.name)) is not None:
                    found.append(entry)
        return sorted(found, key=lambda entry: (entry.modified_at or _NEVER, entry.name))

    def find(self, name: str) -> Entry | None:
        with self._using():
            return self._entry(name)

    def fetch(self, entry: Entry, to: Path, came: Callable[[int], None]) -> str | None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        with self._using():
            try:
                source = open(os.open(self.path / entry.name, flags), "rb")  # noqa: SIM115 - below
            except FileNotFoundError:
                return None
            with source:
                digest = _copied(source, to, entry.bytes, came)
            return digest if self._entry(entry.name) == entry else None

    def move(self, source: str, target: str, stamp: str | None) -> Moved:
        with self._using():
            _make(self.path / target)
            # Its name is its own: what is there is what a crash let us move and not note.
            if (self.path / target).exists():
                return "moved"
            found = self._entry(source)
            if found is None:
                return "absent"
            if stamp is not None and found.stamp != stamp:
                return "replaced"
            os.rename(self.path / source, self.path / target)
            _sync((self.path / target).parent)
            moved = self._entry(target)
            if stamp is not None and (moved is None or moved.stamp != stamp):
                # Another one took its name in this very moment, and was moved: it goes back.
                os.link(self.path / target, self.path / source)
                os.unlink(self.path / target)
                return "replaced"
        return "moved"

    def put(self, file: Path, target: str, *, private: bool) -> None:
        with self._using():
            place = self.path / target
            _make(place)
            new = place.with_name(f".{secrets.token_hex(8)}.tmp")
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
            try:
                with (
                    file.open("rb") as source,
                    open(os.open(new, flags, 0o600 if private else 0o666), "wb") as copy,
                ):
                    shutil.copyfileobj(source, copy)
                    copy.flush()
                    os.fsync(copy.fileno())
                os.replace(new, place)
                _sync(place.parent)
            finally:
                with contextlib.suppress(OSError):
                    new.unlink()

    def _entry(self, name: str) -> Entry | None:
        """The file as it is now; None: there is none, or it is no ordinary one."""
        try:
            found = os.lstat(self.path / name)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(found.st_mode):
            return None
        at = datetime.fromtimestamp(found.st_mtime_ns // 1_000_000_000, UTC)
        stamp = f"{found.st_ino}-{found.st_size}-{found.st_mtime_ns}"
        return Entry(name, found.st_size, at, stamp)

    @contextlib.contextmanager
    def _using(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = Path(os.fsdecode(error.filename2 or error.filename or self.path))
            raise InboxUnreachable(
                f"{where} cannot be used: {error.strerror or error}; check that its folder is"
                " there and may be written to"
            ) from error


_NEVER = datetime.max.replace(tzinfo=UTC)


class RemoteFolder:
    """A folder that fsspec reaches: moves are what its file system makes of them."""

    def __init__(self, address: str, system: Any, path: str) -> None:
        self.address = shown(address)
        self._whole = address
        self._system = system
        self._path = path.rstrip("/")
        # Servers of files (FTP, SFTP) rename, and cannot copy; stores of objects only copy.
        self._renames = type(system).mv is not AbstractFileSystem.mv

    def entries(self) -> Sequence[Entry]:
        with self._using():
            self._system.invalidate_cache()
            listed: list[Mapping[str, Any]] = self._system.ls(self._path, detail=True)
            found = [_entry(each) for each in listed if each.get("type") == "file"]
        wanted = [each for each in found if is_wanted(each.name)]
        return sorted(wanted, key=lambda entry: (entry.modified_at or _NEVER, entry.name))

    def find(self, name: str) -> Entry | None:
        with self._using():
            return self._find(name)

    def fetch(self, entry: Entry, to: Path, came: Callable[[int], None]) -> str | None:
        with self._using():
            if self._find(entry.name) != entry:
                return None
            with self._system.open(self._at(entry.name), "rb") as source:
                digest = _copied(source, to, entry.bytes, came)
            return digest if self._find(entry.name) == entry else None

    def move(self, source: str, target: str, stamp: str | None) -> Moved:
        with self._using():
            there, here = self._find(target), self._find(source)
            if here is None or (stamp is not None and here.stamp != stamp):
                # What lies there was moved before; what lies here by now is another file.
                if there is not None:
                    return "moved"
                return "absent" if here is None else "replaced"
            if self._renames:
                return self._rename(source, target, stamp) if there is None else "moved"
            if there is not None and there.bytes != here.bytes:
                # A copy that was cut off.
                self._system.rm_file(self._at(target))
                there = None
            if there is None:
                self._make(target)
                self._system.cp_file(self._at(source), self._at(target))
            self._system.rm_file(self._at(source))
        return "moved"

    def _rename(self, source: str, target: str, stamp: str | None) -> Moved:
        self._make(target)
        self._system.mv(self._at(source), self._at(target))
        moved = self._find(target)
        if stamp is None or (moved is not None and moved.stamp == stamp):
            return "moved"
        if self._find(source) is None:
            # Another one took its name in this very moment, and was moved: it goes back.
            self._system.mv(self._at(target), self._at(source))
        return "replaced"

    def put(self, file: Path, target: str, *, private: bool) -> None:  # noqa: ARG002 - local only
        with self._using():
            self._make(target)
            if not self._renames:
                # What is put into a store of objects appears whole.
                self._system.put_file(str(file), self._at(target))
                return
            new = self._at(f"{target.rpartition('/')[0]}/.{secrets.token_hex(8)}.tmp".lstrip("/"))
            self._system.put_file(str(file), new)
            if self._find(target) is not None:
                self._system.rm_file(self._at(target))
            self._system.mv(new, self._at(target))

    def _make(self, target: str) -> None:
        self._system.makedirs(self._at(target).rpartition("/")[0], exist_ok=True)

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}"

    def _find(self, name: str) -> Entry | None:
        self._system.invalidate_cache()
        try:
            return _entry(self._system.info(self._at(name)))
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def _using(self) -> Iterator[None]:
        try:
            yield
        except InboxUnreachable:
            raise
        # File systems raise what their libraries do: of HTTP, of SSH, of a cloud.
        except Exception as error:  # noqa: BLE001 - told to whoever runs the schedule
            raise InboxUnreachable(
                f"{self.address} cannot be used: {_told(error, self._whole)}"
            ) from None


def _entry(info: Mapping[str, Any]) -> Entry:
    at = next((found for key in _MODIFIED if (found := _moment(info.get(key)))), None)
    size = int(info.get("size") or 0)
    name = str(info["name"]).rstrip("/").rpartition("/")[2]
    return Entry(name, size, at, f"{size}-{info.get('ETag') or at or ''}")


def _moment(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if isinstance(value, int | float) and value > 0:
        return datetime.fromtimestamp(value, UTC)
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return _moment(_read_moment(value))
    return None


def _read_moment(text: str) -> datetime:
    if text[:14].isdecimal() and len(text) >= 14:
        # RFC 3659, 2.3: FTP tells UTC as YYYYMMDDHHMMSS, and perhaps fractions of the second.
        return datetime.strptime(f"{text[:14]}+0000", "%Y%m%d%H%M%S%z")
    return datetime.fromisoformat(text)


def _copied(source: IO[bytes], to: Path, bytes_max: int, came: Callable[[int], None]) -> str:
    """Copy a stream to a new private file; the SHA-256 of what it had."""
    digest, done = hashlib.sha256(), 0
    with open(os.open(to, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as copy:
        while part := source.read(_PART_BYTES):
            done += len(part)
            if done > bytes_max:
                # It grows while it is read: `fetch` sees that it was changed.
                break
            came(done)
            digest.update(part)
            copy.write(part)
    return digest.hexdigest()


def _make(target: Path) -> None:
    """Have the folder of a file; not the inbox itself, which may be a mount that is not there."""
    if not target.parent.exists():
        target.parent.mkdir(mode=0o750)


def _sync(folder: Path) -> None:
    # Without this a power cut may forget the new name.
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _told(error: BaseException, address: str) -> str:
    """What a library said, without the secrets of the address."""
    parts = urlsplit(address)
    text = f"{type(error).__name__}: {error}".replace(address, shown(address))
    for secret in (parts.password, parts.query):
        for each in {secret, unquote(secret)} if secret else ():
            text = text.replace(each, "***")
    return text.splitlines()[0][:300]
