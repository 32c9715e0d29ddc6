"""Which key a rotation goes to, and what it leaves behind: files of an embedded key, or settings.

With `encryption_key` in the settings people bring the new key; an embedded key is made here, and
every step can be the last: whoever begins again carries on.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from workers.errors import UsageError
from workers.record.keybook import RecordKeys, keys_of
from workers.record.keys import KeyFiles
from workers.record.rotation import Rotated, Rotation
from workers.runtime import Runtime

Follow = Callable[[int], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True, slots=True)
class Changed:
    """How a rotation ended."""

    old: str
    new: str
    done: Rotated
    # Where an embedded key lies that only old backups need; None: the settings have it.
    retired: Path | None

    @property
    def is_whole(self) -> bool:
        """Whether all was as it should be."""
        return not (self.done.damaged or self.done.broken or self.done.deliveries_damaged)


class KeyChange:
    """The change of an installation's key."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        path = runtime.database.path
        embedded = runtime.settings.encryption_key is None and path is not None
        self._files = KeyFiles(path) if embedded and path is not None else None

    @property
    def keys(self) -> RecordKeys:
        """Which key the record has, and which it is on its way to."""
        with self._runtime.database.read() as connection:
            found = keys_of(connection)
        assert found is not None  # noqa: S101 - the runtime has seen to it
        return found

    def wanted(self) -> bytes:
        """The id of the key that is to follow.

        Raises:
            UsageError: nobody brought one.
            VaultError: its file cannot be written.
        """
        known = self.keys
        if self._files is not None:
            # One that ended just before its files were put in place only lacks that.
            if self._files.settle(known.current) is not None:
                return known.current
            return self._files.make_new().id
        newest = self._runtime.store.vault.known_ids[0]
        if newest == known.current and not self._runtime.settings.encryption_keys_old:
            raise UsageError(
                f"there is no new key: encryption_key ({newest.hex()}) is the one that the database"
                " has. Make one with `paybatch keys new`, set encryption_key to it and"
                " encryption_keys_old to the old one, for every worker, beat and receiver too,"
                " start them anew, and run this again"
            )
        return newest

    def run(self, follow: Follow) -> Changed:
        """Change the key; it may be cut off anywhere, and begun again.

        Args:
            follow: given how many rows there are; gives what is told how many more are done.

        Raises:
            UsageError: there is no new key.
            VaultError: a change to another key is under way, or a key cannot be used.
        """
        old, new = self.keys.current, self.wanted()
        runtime = self._runtime
        rotation = Rotation(runtime.database, runtime.store.vault, new, runtime.clock)
        rotation.begin()
        with follow(rotation.left()) as show:
            done = rotation.run(show)
        retired = None if self._files is None else self._files.settle(new)
        return Changed(old.hex(), new.hex(), done, retired)
