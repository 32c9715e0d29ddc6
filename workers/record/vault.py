"""Beneficiary data under lock: encryption at rest, masks for everything that is shown, row seals.

The data of one payout is encrypted with AES-256-GCM, bound to its account and reference id, so a
ciphertext moved to another row does not open. Nothing here ever logs or returns a key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from workers.errors import SettingsError, VaultError
from workers.record.canonical import plain_object, quoted_ascii, sorted_ascii_object
from workers.record.model import Order

KEY_BYTES = 32
# Source: NIST SP 800-38D, 8.2: a 96-bit nonce; random ones are safe far beyond 2^32 payouts a key.
NONCE_BYTES = 12
_VERSION = b"\x01"
_KEY_ID_BYTES = 4
KEY_FILE_NAME = "paybatch.key"


class Vault:
    """Opens and closes beneficiary data with one key."""

    def __init__(self, key: bytes) -> None:
        """
        Args:
            key: 32 random bytes, from which one key a purpose is derived.
        """
        self.key_id = hashlib.sha256(b"paybatch key id" + key).digest()[:_KEY_ID_BYTES]
        self._data = AESGCM(_derived(key, b"beneficiary data"))
        self._seal = _hasher(_derived(key, b"row seal"))
        self._fingerprint = _hasher(_derived(key, b"beneficiary fingerprint"))
        self._other = AESGCM(_derived(key, b"tokens and deliveries"))

    @classmethod
    def from_text(cls, text: str) -> Vault:
        """The vault of a key written as base64.

        Raises:
            SettingsError: not base64 of 32 bytes.
        """
        try:
            key = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            raise SettingsError(
                [
                    "encryption_key: expected base64 of 32 random bytes;"
                    " `head -c 32 /dev/urandom | base64` makes one"
                ]
            )
        return cls(key)

    @classmethod
    def beside(cls, database: Path) -> Vault:
        """The embedded vault: its key lies beside the database, and is made on first use.

        Raises:
            VaultError: there is a database, but its key is gone or cannot be read.
        """
        path = database.with_name(KEY_FILE_NAME)
        if not path.exists() and not _has_content(database):
            _make_key_file(path)
        try:
            return cls.from_text(path.read_text(encoding="ascii").strip())
        except FileNotFoundError:
            raise VaultError(
                f"{database} is there but its key {path} is not: put the key back, or set"
                " encryption_key; without it the stored payouts cannot be opened"
            ) from None
        except (OSError, UnicodeDecodeError, SettingsError) as error:
            raise VaultError(f"the key file {path} cannot be read: {error}") from error

    def encrypt(self, order: Order) -> bytes:
        """The order's beneficiary data, as bytes that only this key opens for this order."""
        plain = (
            f'{{"fields":{plain_object(order.fields)}'
            f',"context":{plain_object(order.context)}'
            f',"customer":{plain_object(order.customer)}}}'
        ).encode()
        return self._closed(self._data, plain, _bound(order.account, order.reference_id))

    def decrypt(self, data: bytes, *, account: str, reference_id: str) -> Mapping[str, Any]:
        """The `fields`, `context` and `customer` that `encrypt` closed.

        Raises:
            VaultError: another key closed it, it belongs to another payout, or it was changed.
        """
        bound = _bound(account, reference_id)
        plain = self._opened(self._data, data, bound, f"payout {reference_id}")
        opened: Mapping[str, Any] = json.loads(plain)
        return opened

    def close_secret(self, plain: bytes, place: str) -> bytes:
        """A token or a delivery, as bytes that only this key opens for that place."""
        return self._closed(self._other, plain, place.encode())

    def open_secret(self, data: bytes, place: str) -> bytes:
        """What `close_secret` closed.

        Raises:
            VaultError: another key closed it, it belongs to another place, or it was changed.
        """
        return self._opened(self._other, data, place.encode(), place)

    def _closed(self, cipher: AESGCM, plain: bytes, bound: bytes) -> bytes:
        nonce = secrets.token_bytes(NONCE_BYTES)
        return _VERSION + self.key_id + nonce + cipher.encrypt(nonce, plain, bound)

    def _opened(self, cipher: AESGCM, data: bytes, bound: bytes, what: str) -> bytes:
        head = len(_VERSION) + _KEY_ID_BYTES
        version, key_id = data[: len(_VERSION)], data[len(_VERSION) : head]
        if version != _VERSION or key_id != self.key_id:
            raise VaultError(f"{what}: its data was closed with another key")
        nonce, body = data[head : head + NONCE_BYTES], data[head + NONCE_BYTES :]
        try:
            return cipher.decrypt(nonce, body, bound)
        except (InvalidTag, ValueError):
            raise VaultError(f"{what}: its stored data was changed") from None

    def seal(self, order: Order) -> str:
        """The keyed hash that approval puts on a row; any later edit of the row breaks it."""
        return self.seal_of(order.canonical())

    def seal_of(self, canonical: bytes) -> str:
        """The seal of the order whose `canonical` that is."""
        return _keyed_hash(self._seal, canonical)

    def seal_holds(self, order: Order, seal: str | None) -> bool:
        """Whether the row is still what was approved."""
        return seal is not None and hmac.compare_digest(self.seal(order), seal)

    def fingerprint(self, order: Order) -> str:
        """The same for the same beneficiary and amount, and telling nothing without the key."""
        same = (
            f"[{quoted_ascii(order.account)},{quoted_ascii(order.service)}"
            f",{order.amount.minor},{quoted_ascii(order.amount.currency.code)}"
            f",{sorted_ascii_object(order.fields)}]"
        ).encode()
        return _keyed_hash(self._fingerprint, same)[:32]


def mask(value: str) -> str:
    """A value as it may be shown: its last four characters, and only of a long one."""
    if len(value) < 9:
        return "*" * len(value)
    return "****" + value[-4:]


def masked_beneficiary(order: Order) -> str:
    """Who is paid, as results and screens may show it: `card_number ****0002`."""
    fields = order.fields
    return ", ".join([f"{name} {mask(str(fields[name]))}" for name in sorted(fields)])


def _bound(account: str, reference_id: str) -> bytes:
    return f"{account}\0{reference_id}".encode()


def _derived(key: bytes, purpose: bytes) -> bytes:
    # Source: RFC 5869 (HKDF): one key a purpose, so that none can stand in for another.
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=b"paybatch " + purpose).derive(key)


def _hasher(key: bytes) -> hmac.HMAC:
    """HMAC-SHA-256 that has taken its key: copying it is much cheaper than taking the key anew."""
    return hmac.new(key, digestmod=hashlib.sha256)


def _keyed_hash(hasher: hmac.HMAC, data: bytes) -> str:
    mine = hasher.copy()
    mine.update(data)
    return mine.hexdigest()


def _has_content(database: Path) -> bool:
    """Whether there is a database: a file of nothing has just been made for one."""
    return database.exists() and database.stat().st_size > 0


def _make_key_file(path: Path) -> None:
    """Write a new key, readable by its owner alone; if another process was first, leave its key.

    The whole file appears at once: a reader never sees an empty one.
    """
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
        os.fsync(handle)
    finally:
        os.close(handle)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
