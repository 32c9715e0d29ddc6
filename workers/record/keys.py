"""Keys: what one of them closes, seals and fingerprints, and the files that embedded ones lie in.

A key is never logged, returned or written anywhere but into its file, mode 0600. What may be shown
is its id: the start of a hash, which says which key it is and nothing of what it is.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import secrets
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from workers.errors import SettingsError, VaultError

KEY_BYTES = 32
KEY_ID_BYTES = 4
# Source: NIST SP 800-38D, 8.2: a 96-bit nonce; random ones are safe far beyond 2^32 payouts a key.
NONCE_BYTES = 12
KEY_FILE_NAME = "paybatch.key"
# The key that a rotation is on its way to, and one that only old backups need.
NEW_SUFFIX = ".new"
RETIRED_SUFFIX = ".retired-"
_sha256 = hashlib.sha256
_FIRST_64_BITS = struct.Struct(">q24x")


class Key:
    """32 random bytes, from which one key a purpose is derived."""

    def __init__(self, secret: bytes) -> None:
        self.id = hashlib.sha256(b"paybatch key id" + secret).digest()[:KEY_ID_BYTES]
        self.data = AESGCM(_derived(secret, b"beneficiary data"))
        self.other = AESGCM(_derived(secret, b"tokens and deliveries"))
        self._seal = _padded(_derived(secret, b"row seal"))
        self._fingerprint = _padded(_derived(secret, b"beneficiary fingerprint"))

    @classmethod
    def from_text(cls, text: str, *, named: str = "encryption_key") -> Key:
        """The key written as base64.

        Args:
            named: the setting that it comes from, for the message.

        Raises:
            SettingsError: not base64 of 32 bytes.
        """
        try:
            secret = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            secret = b""
        if len(secret) != KEY_BYTES:
            raise SettingsError(
                [f"{named}: expected base64 of 32 random bytes; `paybatch keys new` makes one"]
            )
        return cls(secret)

    def seal_of(self, canonical: bytes) -> str:
        """A hash over everything that is approved of an order, which is its `canonical`."""
        return _keyed_hash(self._seal, canonical).hex()

    def fingerprint_of(self, payee: bytes) -> int:
        """A hash over who is paid and how much, which is an order's `payee`: 64 bits with a sign.

        That any of 10^6 new payees shares one with another among 10^7 stored has a chance of
        10^13 / 2^64 = 5e-7; a person is then told of a repeat that is none.
        """
        [fingerprint] = self.fingerprints_of([payee])
        return fingerprint

    def fingerprints_of(self, payees: Iterable[bytes]) -> list[int]:
        """The same of many."""
        inner, outer = self._fingerprint
        # As `_keyed_hash` has them, each without a call of its own.
        hashes = [_sha256(outer + _sha256(inner + each).digest()).digest() for each in payees]
        return [number for [number] in _FIRST_64_BITS.iter_unpack(b"".join(hashes))]


class PassingKey:
    """A key that is written nowhere and ends with its process."""

    def __init__(self) -> None:
        self._cipher = AESGCM(secrets.token_bytes(KEY_BYTES))

    def closed(self, plain: bytes, bound: bytes) -> bytes:
        """As bytes that only this key opens, for that place."""
        return closed(self._cipher, plain, bound)

    def opened(self, data: bytes, bound: bytes) -> bytes:
        """What `closed` made.

        Raises:
            VaultError: it was changed, or lies in another place.
        """
        plain = opened(self._cipher, data, bound)
        if plain is None:
            raise VaultError("what was put by was changed meanwhile; nothing was stored")
        return plain


def new_key_text() -> str:
    """A fresh key, as the settings take it."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


class KeyFiles:
    """The files of an embedded database's keys, which lie beside it.

    `paybatch.key` is the key. While a rotation is under way `paybatch.key.new` is the one that it
    goes to; when it has ended, that one takes the first one's place. The old key stays as
    `paybatch.key.retired-ID`, for backups alone: nothing here reads it again.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self.path = database.with_name(KEY_FILE_NAME)
        self.new_path = self.path.with_name(self.path.name + NEW_SUFFIX)

    def load(self) -> Sequence[Key]:
        """The key, and the new one if a rotation has made it. The first is made on first use.

        Raises:
            VaultError: there is a database, but its key is gone or cannot be read.
        """
        if not self.path.exists() and not _has_content(self._database):
            _make(self.path)
        # In this order: what takes the place of the first meanwhile was read before.
        new = _read(self.new_path)
        key = _read(self.path)
        if key is None:
            raise VaultError(
                f"{self._database} is there but its key {self.path} is not: put the key back, or"
                " set encryption_key; without it the stored payouts cannot be opened"
            )
        return [key] if new is None or new.id == key.id else [key, new]

    def make_new(self) -> Key:
        """The key that a rotation goes to: a fresh one, or the one that an earlier call made.

        Raises:
            VaultError: it cannot be written, or read.
        """
        try:
            if not self.new_path.exists():
                _make(self.new_path)
        except OSError as error:
            raise VaultError(
                f"the new key {self.new_path} cannot be written: {error.strerror}"
            ) from error
        made = _read(self.new_path)
        if made is None:
            raise VaultError(f"the new key {self.new_path} is gone; nothing was changed")
        return made

    def settle(self, current: bytes) -> Path | None:
        """Give the new key the place of the old one, once the database has the new one's id.

        Every step may be the last one of this process: whoever calls this next does the rest.

        Returns:
            Where the old key lies now; None: there was nothing to do.
        """
        new, key = _read(self.new_path), _read(self.path)
        if new is None or key is None or new.id != current:
            return None
        retired = self.path.with_name(f"{self.path.name}{RETIRED_SUFFIX}{key.id.hex()}")
        if key.id != new.id:
            with contextlib.suppress(FileExistsError):
                os.link(self.path, retired)
        with contextlib.suppress(FileNotFoundError):
            self.new_path.replace(self.path)
        _to_disk(self.path.parent)
        return retired


def _read(path: Path) -> Key | None:
    """The key of a file; None: there is no such file.

    Raises:
        VaultError: it cannot be read, or is no key.
    """
    try:
        return Key.from_text(path.read_text(encoding="ascii").strip())
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, SettingsError) as error:
        raise VaultError(f"the key file {path} cannot be read: {error}") from error


def _make(path: Path) -> None:
    """Write a new key, readable by its owner alone; if another process was first, leave its key.

    The whole file appears at once: a reader never sees an empty one.
    """
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, new_key_text().encode() + b"\n")
        os.fsync(handle)
    finally:
        os.close(handle)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    _to_disk(path.parent)


def _to_disk(folder: Path) -> None:
    """Have the names in a folder survive a power cut, like what they name."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _has_content(database: Path) -> bool:
    """Whether there is a database: a file of nothing has just been made for one."""
    return database.exists() and database.stat().st_size > 0


def opened(cipher: AESGCM, data: bytes, bound: bytes) -> bytes | None:
    """A nonce and what was closed with it, opened; None: it was changed."""
    nonce, body = data[:NONCE_BYTES], data[NONCE_BYTES:]
    try:
        return cipher.decrypt(nonce, body, bound)
    except (InvalidTag, ValueError):
        return None


def closed(cipher: AESGCM, plain: bytes, bound: bytes) -> bytes:
    """A nonce and what is closed with it."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, plain, bound)


def closed_all(cipher: AESGCM, plains: Sequence[bytes], bounds: Sequence[bytes]) -> list[bytes]:
    """The same of many, whose random bytes are asked for together."""
    some = secrets.token_bytes(NONCE_BYTES * len(plains))
    nonces = [some[at : at + NONCE_BYTES] for at in range(0, len(some), NONCE_BYTES)]
    encrypt = cipher.encrypt
    return [
        nonce + encrypt(nonce, plain, bound)
        for nonce, plain, bound in zip(nonces, plains, bounds, strict=True)
    ]


def _derived(key: bytes, purpose: bytes) -> bytes:
    # Source: RFC 5869 (HKDF): one key a purpose, so that none can stand in for another.
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=b"paybatch " + purpose).derive(key)


# The block of SHA-256, and what RFC 2104 (HMAC) mixes into the key for its two hashes.
_BLOCK_BYTES, _INNER, _OUTER = 64, 0x36, 0x5C


def _padded(key: bytes) -> tuple[bytes, bytes]:
    """What the two hashes of HMAC-SHA-256 with that key begin with."""
    filled = key.ljust(_BLOCK_BYTES, b"\0")
    return bytes(byte ^ _INNER for byte in filled), bytes(byte ^ _OUTER for byte in filled)


def _keyed_hash(pads: tuple[bytes, bytes], data: bytes) -> bytes:
    """HMAC-SHA-256: two hashes made in one go each take half the time of an `hmac` object."""
    inner, outer = pads
    return _sha256(outer + _sha256(inner + data).digest()).digest()
