"""The eComCharge simulator asks the merchant before it pays, and obeys."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .ecomcharge_world import BASIC, Driver, Mailbox, Note, mailbox, shop, until

FULL = 1_000_000_000


def agree(note: Note, **changes: Any) -> tuple[int, bytes]:
    """A merchant's consent, with something different in it where a test says so."""
    asked = note.transaction
    told = {"code": 0, "uid": asked["uid"], "amount": asked["amount"], **changes}
    return 200, json.dumps(told).encode()


def asked_for(driver: Driver, box: Mailbox, **more: Any) -> str:
    uid: str = driver.paid(verification_url=box.url, **more)["uid"]
    return uid


def test_merchant_is_asked_before_any_money_is_committed() -> None:
    with mailbox() as box, shop() as driver:
        seen: list[tuple[int, int]] = []

        def reply(note: Note) -> tuple[int, bytes]:
            seen.append((driver.releases(), driver.balance()))
            return agree(note)

        box.reply = reply
        uid = asked_for(driver, box)
        until(lambda: driver.releases() == 1)
        assert seen == [(0, FULL)]
        (note,) = box.notes
        assert note.headers["Authorization"] == BASIC
        assert note.headers["Content-Type"] == "application/json"
        assert (note.transaction["uid"], note.transaction["status"]) == (uid, "pending")
        assert (note.transaction["amount"], note.transaction["tracking_id"]) == (2550, "r-1")
        driver.advance(1)
        assert driver.read(uid)["status"] == "successful"
        assert driver.balance() == FULL - 2550


def test_card_payout_is_asked_for_too() -> None:
    with mailbox() as box, shop() as driver:
        box.reply = agree
        driver.pay_card(verification_url=box.url)
        until(lambda: driver.releases() == 1)
        assert box.notes[0].transaction["payment_method_type"] == "credit_card"


@pytest.mark.parametrize(
    "reply",
    [
        lambda note: agree(note, code=1, message="no"),
        lambda note: agree(note, code=False),
        lambda note: agree(note, code="0"),
        lambda note: agree(note, uid="2-other"),
        lambda note: agree(note, amount=2549),
        lambda note: agree(note, amount=None),
        lambda note: (201, agree(note)[1]),
        lambda note: (404, agree(note)[1]),
        lambda _: (200, b""),
        lambda _: (200, b"[0]"),
    ],
)
def test_any_other_answer_declines(reply: Callable[[Note], tuple[int, bytes]]) -> None:
    with mailbox() as box, shop(codes=True) as driver:
        box.reply = reply
        uid = asked_for(driver, box)
        until(lambda: driver.read(uid)["status"] == "failed")
        read = driver.read(uid)
        assert (read["code"], read["message"]) == ("F.0132", "Verification refused")
        driver.advance(3600)
        assert driver.read(uid)["status"] == "failed"
        assert (driver.releases(), driver.balance()) == (0, FULL)
        assert len(box.notes) == 1


@pytest.mark.parametrize("status", [0, 500, 503])
@pytest.mark.parametrize(
    ("silence", "end", "releases"),
    [("decline", "failed", 0), ("release", "successful", 1)],
)
def test_silence_does_what_the_account_says(
    status: int, silence: str, end: str, releases: int
) -> None:
    with mailbox() as box, shop(verification_silence=silence) as driver:
        box.reply = lambda note: (status, agree(note, code=1)[1])
        uid = asked_for(driver, box)
        until(lambda: driver.invoices()[0]["history"][1:] or driver.releases())
        driver.advance(1)
        assert driver.read(uid)["status"] == end
        assert driver.releases() == releases


def test_held_payout_waits_is_moved_by_hand_and_asked_for_again_after_a_restart(
    tmp_path: Path,
) -> None:
    options = {
        "ledger": tmp_path / "ledger",
        "private_key": tmp_path / "key.pem",
        "verification_silence": "hold",
    }
    with mailbox() as box:
        box.reply = lambda _: (500, b"")
        with shop(**options) as driver:
            held = asked_for(driver, box)
            moved = asked_for(driver, box, reference="r-2")
            until(lambda: len(box.notes) == 2)
            driver.advance(3600)
            assert driver.read(held)["status"] == "pending"
            assert driver.releases() == 0
            driver.move(moved, "failed")
        box.reply = agree
        with shop(**options) as driver:
            until(lambda: driver.releases() == 1)
            driver.advance(1)
            assert driver.read(held)["status"] == "successful"
            assert driver.read(moved)["status"] == "failed"
        assert [note.transaction["uid"] for note in box.notes[2:]] == [held]


def test_answer_comes_too_late_for_a_payout_that_was_moved() -> None:
    with mailbox() as box, shop() as driver:

        def reply(note: Note) -> tuple[int, bytes]:
            driver.move(note.transaction["uid"], "failed")
            return agree(note)

        box.reply = reply
        asked_for(driver, box)
        until(lambda: driver.invoices()[0]["status"] == "failed")
        # A later payout's verification comes after the answer that is to be ignored.
        box.reply = agree
        asked_for(driver, box, reference="r-2")
        until(lambda: driver.releases("r-2") == 1)
        assert driver.releases() == 0


def test_second_payout_of_a_double_send_can_be_declined() -> None:
    with mailbox() as box, shop() as driver:
        allowed: list[str] = []

        def once(note: Note) -> tuple[int, bytes]:
            allowed.append(note.transaction["uid"])
            return agree(note, code=0 if note.transaction["uid"] == allowed[0] else 1)

        box.reply = once
        uids = [asked_for(driver, box) for _ in range(2)]
        until(lambda: len(box.notes) == 2 and driver.releases() == 1)
        until(lambda: sorted(driver.read(each)["status"] for each in uids) == ["failed", "pending"])


def test_verification_can_be_ignored() -> None:
    with mailbox() as box, shop(verification="ignore") as driver:
        asked_for(driver, box)
        assert driver.releases() == 1
        driver.advance(1)
        assert box.notes == []


def test_strangers_host_is_not_asked_and_counts_as_silent() -> None:
    with shop() as driver:
        paid = driver.paid(verification_url="http://stranger.example/verify")
        assert paid["status"] == "failed"
        assert driver.releases() == 0


def test_amount_asked_about_is_the_one_that_is_stored() -> None:
    with mailbox() as box, shop() as driver:
        box.reply = agree
        driver.fault("amount=99.99")
        asked_for(driver, box)
        until(lambda: driver.releases() == 1)
        assert box.notes[0].transaction["amount"] == 9999
