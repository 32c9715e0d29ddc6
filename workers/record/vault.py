"""Beneficiary data under lock: encryption at rest, masks for everything that is shown, row seals.

The data of one payout is encrypted with AES-256-GCM, bound to its account and reference id, so a
ciphertext moved to another row does not open. It names the key that closed it, so that keys can be
changed under running workers: whatever a known key closed opens, and one of them closes. Nothing
here ever logs or returns a key.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from workers.errors import VaultError
from workers.record import keys
from workers.record.canonical import plain_object
from workers.record.keys import KEY_FILE_NAME, Key, KeyFiles
from workers.record.model import Order

__all__ = ["KEY_FILE_NAME", "Vault", "key_id_of", "mask", "masked_beneficiary"]

_VERSION = b"\x01"
# Where the id of its key stands in what was closed: from this byte on, counted from 1 as SQL does.
KEY_ID_AT = len(_VERSION) + 1
_HEAD = len(_VERSION) + keys.KEY_ID_BYTES


class _Ring:
    """The keys that this process knows, shared by all views of one vault."""

    def __init__(self, known: Sequence[Key], more: Callable[[], Sequence[Key]] | None) -> None:
        self.keys = {key.id: key for key in known}
        self._more = more

    def find(self, key_id: bytes) -> Key | None:
        """The key of that id, looked for anew where keys lie that it may have joined."""
        if key_id not in self.keys:
            self.refresh()
        return self.keys.get(key_id)

    def refresh(self) -> bool:
        """Whether there are keys that were not known before; one that is known stays so."""
        before = len(self.keys)
        if self._more is not None:
            self.keys |= {key.id: key for key in self._more()}
        return len(self.keys) > before


class Vault:
    """Opens what any of its keys closed, and closes with one of them."""

    def __init__(self, ring: _Ring, writes: Key) -> None:
        self._ring = ring
        self._writes = writes

    @classmethod
    def from_text(cls, text: str, *old: str) -> Vault:
        """The vault of a key written as base64, which closes, and of older ones, which only open.

        Raises:
            SettingsError: one of them is not base64 of 32 bytes.
        """
        key = Key.from_text(text)
        older = [Key.from_text(each, named="encryption_keys_old") for each in old]
        return cls(_Ring([key, *older], None), key)

    @classmethod
    def beside(cls, database: Path) -> Vault:
        """The embedded vault: its keys lie beside the database, the first made on first use.

        Raises:
            VaultError: there is a database, but its key is gone or cannot be read.
        """
        files = KeyFiles(database)
        known = files.load()
        return cls(_Ring(known, files.load), known[0])

    @property
    def key_id(self) -> bytes:
        """Which key closes."""
        return self._writes.id

    @property
    def known_ids(self) -> Sequence[bytes]:
        """Which keys open."""
        return list(self._ring.keys)

    def knows(self, key_id: bytes) -> bool:
        """Whether it has that key, now that it is asked for."""
        return self._ring.find(key_id) is not None

    def refresh(self) -> bool:
        """Whether a key has come that was not known before."""
        return self._ring.refresh()

    def closing_with(self, key_id: bytes) -> Vault:
        """The same keys, of which that one closes.

        Raises:
            VaultError: it is not known here.
        """
        key = self._ring.find(key_id)
        if key is None:
            raise VaultError(f"key {key_id.hex()} is not known here")
        return self if key is self._writes else Vault(self._ring, key)

    # --- data ---

    def encrypt(self, order: Order) -> bytes:
        """The order's beneficiary data, as bytes that only its key opens for this order."""
        bound = bound_to(order.account, order.reference_id)
        return self._closed(self._writes.data, plain_of(order), bound)

    def closed_all(self, plains: Sequence[bytes], bounds: Sequence[bytes]) -> list[bytes]:
        """What `encrypt` gives for each order, by its `plain_of` and what it is bound to."""
        head = _VERSION + self._writes.id
        return [head + data for data in keys.closed_all(self._writes.data, plains, bounds)]

    def decrypt(self, data: bytes, *, account: str, reference_id: str) -> Mapping[str, Any]:
        """The `fields`, `context` and `customer` that `encrypt` closed.

        Raises:
            VaultError: another key closed it, it belongs to another payout, or it was changed.
        """
        what = f"payout {reference_id}"
        key = self._key_of(data, what)
        plain = self._opened(key.data, data, bound_to(account, reference_id), what)
        opened: Mapping[str, Any] = json.loads(plain)
        return opened

    def opened_all(
        self, datas: Sequence[bytes], owners: Sequence[tuple[str, str]]
    ) -> Sequence[bytes]:
        """The `plain_of` of each order, as `decrypt` opens it.

        Args:
            owners: account and reference id of each.

        Raises:
            VaultError: as `decrypt`.
        """
        plains = []
        head, cipher = b"", None
        for data, owner in zip(datas, owners, strict=True):
            if cipher is None or data[:_HEAD] != head:
                # One key closed most of them.
                head, cipher = data[:_HEAD], self._key_of(data, f"payout {owner[1]}").data
            plain = keys.opened(cipher, data[_HEAD:], bound_to(*owner))
            if plain is None:
                raise _changed(f"payout {owner[1]}")
            plains.append(plain)
        return plains

    def close_secret(self, plain: bytes, place: str) -> bytes:
        """A token or a delivery, as bytes that only its key opens for that place."""
        return self._closed(self._writes.other, plain, place.encode())

    def open_secret(self, data: bytes, place: str) -> bytes:
        """What `close_secret` closed.

        Raises:
            VaultError: another key closed it, it belongs to another place, or it was changed.
        """
        return self._opened(self._key_of(data, place).other, data, place.encode(), place)

    def _closed(self, cipher: AESGCM, plain: bytes, bound: bytes) -> bytes:
        return _VERSION + self._writes.id + keys.closed(cipher, plain, bound)

    def _key_of(self, data: bytes, what: str) -> Key:
        key_id = key_id_of(data)
        key = None if key_id is None else self._ring.find(key_id)
        if key is None:
            named = "" if key_id is None else f" ({key_id.hex()})"
            raise VaultError(f"{what}: its data was closed with another key{named}")
        return key

    def _opened(self, cipher: AESGCM, data: bytes, bound: bytes, what: str) -> bytes:
        plain = keys.opened(cipher, data[_HEAD:], bound)
        if plain is None:
            raise _changed(what)
        return plain

    # --- seals and fingerprints ---

    def seal(self, order: Order) -> str:
        """The keyed hash that approval puts on a row; any later edit of the row breaks it."""
        return self._writes.seal_of(order.canonical())

    def seals_of(self, canonicals: Sequence[bytes]) -> list[str]:
        """The seal of each order, by its `canonical`."""
        return list(map(self._writes.seal_of, canonicals))

    def seal_holds(self, order: Order, seal: str | None) -> bool:
        """Whether the row is still what was approved, under whichever key that was."""
        canonical = order.canonical()
        return seal is not None and any(
            hmac.compare_digest(key.seal_of(canonical), seal) for key in self._keys()
        )

    def fingerprint(self, order: Order) -> int:
        """The same for the same beneficiary and amount, and telling nothing without the key."""
        return self._writes.fingerprint_of(order.payee())

    def fingerprints_all(self, payees: Sequence[bytes]) -> list[int]:
        """The fingerprint of each order, by its `payee`."""
        return self._writes.fingerprints_of(payees)

    def fingerprints_of(self, payees: Sequence[bytes]) -> Sequence[Sequence[int]]:
        """For each order, by its `payee`, all that a payout of the same beneficiary and amount may
        be stored under.
        """
        return list(zip(*[key.fingerprints_of(payees) for key in self._keys()], strict=True))

    def _keys(self) -> Sequence[Key]:
        """The one that closes first: most rows are its own."""
        known = tuple(self._ring.keys.values())
        if len(known) == 1:
            return known
        return [self._writes, *(key for key in known if key is not self._writes)]


def _changed(what: str) -> VaultError:
    return VaultError(f"{what}: its stored data was changed")


def key_id_of(data: bytes) -> bytes | None:
    """Which key closed something; None: that cannot be told."""
    if len(data) < _HEAD or data[: len(_VERSION)] != _VERSION:
        return None
    return data[len(_VERSION) : _HEAD]


def mask(value: str) -> str:
    """A value as it may be shown: its last four characters, and only of a long one."""
    if len(value) < 9:
        return "*" * len(value)
    return "****" + value[-4:]


def masked_beneficiary(order: Order) -> str:
    """Who is paid, as results and screens may show it: `card_number ****0002`."""
    fields = order.fields
    return ", ".join([f"{name} {mask(str(fields[name]))}" for name in sorted(fields)])


def plain_of(order: Order) -> bytes:
    """The beneficiary data of an order, before it is closed."""
    return (
        f'{{"fields":{plain_object(order.fields)}'
        f',"context":{plain_object(order.context)}'
        f',"customer":{plain_object(order.customer)}}}'
    ).encode()


def bound_to(account: str, reference_id: str) -> bytes:
    """What the closed data of a payout is bound to: it opens for no other."""
    return f"{account}\0{reference_id}".encode()
