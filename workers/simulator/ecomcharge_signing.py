"""The key that signs the eComCharge simulator's webhooks.

The platform holds a shop's private key and shows the public one as bare base64 of its DER form.
Source: eComCharge payout API facts, section 9, read 2026-11-21.
"""

from __future__ import annotations

import base64
import os
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from workers.errors import SimulatorError

# The size of the platform's own keys is not known; this is the usual one.
_BITS = 2048


class Signer:
    """An RSA key, and its `Content-Signature`."""

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        self._key = key

    @classmethod
    def of(cls, path: Path | None) -> Signer:
        """The key in that file, which is made if missing; without one, this process's own.

        Raises:
            SimulatorError: the file cannot be read or written, or holds no RSA key.
        """
        if path is None:
            return cls(_made())
        return cls(_read(path) if path.exists() else _written(path))

    def public_text(self) -> str:
        """What the shop copies from the back office."""
        der = self._key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return base64.b64encode(der).decode()

    def sign(self, body: bytes) -> str:
        """The header that goes with that very body."""
        signature = self._key.sign(body, padding.PKCS1v15(), hashes.SHA256())
        return base64.b64encode(signature).decode()


@cache
def _made() -> rsa.RSAPrivateKey:
    # One for all simulators of a process: making it takes longer than starting one.
    return rsa.generate_private_key(public_exponent=65_537, key_size=_BITS)


def _read(path: Path) -> rsa.RSAPrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise SimulatorError(f"the key {path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise SimulatorError(f"the key {path} is no private key in PEM form") from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise SimulatorError(f"the key {path} is not an RSA key")
    return key


def _written(path: Path) -> rsa.RSAPrivateKey:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=_BITS)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "wb") as opened:
            opened.write(pem)
    except OSError as error:
        raise SimulatorError(f"the key {path} cannot be written: {error.strerror}") from error
    return key
