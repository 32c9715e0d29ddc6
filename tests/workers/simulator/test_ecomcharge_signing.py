"""The key of the eComCharge simulator's webhooks."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from workers.errors import SimulatorError
from workers.simulator.ecomcharge_signing import Signer

from .ecomcharge_world import Note, is_signed, shop


def test_key_file_is_made_for_the_owner_alone_and_used_again(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    first, second = Signer.of(path), Signer.of(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert first.public_text() == second.public_text()
    assert Signer.of(None).public_text() != first.public_text()


def test_signature_fits_its_body_and_its_key_only() -> None:
    signer = Signer.of(None)
    header = {"Content-Signature": signer.sign(b'{"a":1}')}
    assert is_signed(Note(header, b'{"a":1}'), signer.public_text())
    assert not is_signed(Note(header, b'{"a":2}'), signer.public_text())


def test_public_key_is_bare_base64_without_a_login() -> None:
    with shop() as driver:
        driver.auth = None
        assert driver.public_key() == Signer.of(None).public_text()
        assert "\n" not in driver.public_key()
        assert "-----" not in driver.public_key()


def test_key_stays_beside_the_ledger(tmp_path: Path) -> None:
    with shop(ledger=tmp_path / "ledger") as driver:
        shown = driver.public_key()
    assert (tmp_path / "ledger.key.pem").exists()
    with shop(ledger=tmp_path / "ledger") as driver:
        assert driver.public_key() == shown


def test_key_of_the_options_comes_first(tmp_path: Path) -> None:
    with shop(ledger=tmp_path / "ledger", private_key=tmp_path / "own.pem") as driver:
        assert driver.public_key() == Signer.of(tmp_path / "own.pem").public_text()
    assert not (tmp_path / "ledger.key.pem").exists()


def test_bad_key_file_is_one_sentence(tmp_path: Path) -> None:
    junk, curve = tmp_path / "junk.pem", tmp_path / "curve.pem"
    junk.write_text("no key")
    curve.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    for path, sentence in (
        (junk, "is no private key in PEM form"),
        (curve, "is not an RSA key"),
        (tmp_path, "cannot be read"),
        (tmp_path / "none" / "key.pem", "cannot be written"),
    ):
        with pytest.raises(SimulatorError, match=sentence):
            Signer.of(path)
