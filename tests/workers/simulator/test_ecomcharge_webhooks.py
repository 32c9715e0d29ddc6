"""Webhooks of the eComCharge simulator: what is sent, how it is signed, and how often."""

from __future__ import annotations

from typing import Any

import pytest

from workers.simulator.ecomcharge_api import Ecomcharge

from .ecomcharge_world import BASIC, Driver, Mailbox, is_signed, mailbox, shop, until


def tried(driver: Driver) -> list[list[float]]:
    """When each webhook was tried, those with an answer only."""
    told = driver.control("GET", "callbacks").json()
    return [each["tried_at"][: len(each["answers"])] for each in told]


def sent(driver: Driver, box: Mailbox, **asked: Any) -> list[int]:
    """The answers to webhooks that a control call sends."""
    uid = driver.paid("r-forged", notification_url=box.url)["uid"]
    answer = driver.control("POST", "callbacks", {"id": uid, **asked})
    assert answer.status_code == 200, answer.text
    return [each["answer"] for each in answer.json()["sent"]]


def test_every_step_is_told_as_the_read_shows_it_and_signed() -> None:
    with mailbox() as box, shop(settle_s=4) as driver:
        driver.fault("path=incomplete>successful")
        uid = driver.paid(notification_url=box.url)["uid"]
        driver.advance(2)
        until(lambda: box.statuses() == ["incomplete"])
        driver.advance(2)
        until(lambda: box.statuses() == ["incomplete", "successful"])
        assert box.notes[-1].transaction == driver.read(uid)
        for note in box.notes:
            assert is_signed(note, driver.public_key())
            assert note.headers["Authorization"] == BASIC
            assert note.headers["Content-Type"] == "application/json"


def test_card_payout_is_told_in_the_nested_form() -> None:
    with mailbox() as box, shop() as driver:
        uid = driver.pay_card(version="3", notification_url=box.url).json()["uid"]
        driver.advance(1)
        until(lambda: box.statuses() == ["successful"])
        path = f"/transactions/{uid}"
        assert box.notes[0].transaction == driver.cards("GET", path).json()["transaction"]


def test_payout_without_an_address_tells_nobody() -> None:
    with shop() as driver:
        uid = driver.paid()["uid"]
        driver.advance(1)
        assert driver.control("GET", "callbacks").json() == []
        answer = driver.control("POST", "callbacks", {"id": uid})
        assert "no callback address" in answer.json()["error"]


def test_strangers_host_gets_nothing() -> None:
    with shop() as driver:
        uid = driver.paid(notification_url="http://stranger.example/hook")["uid"]
        driver.advance(1)
        assert driver.control("GET", "callbacks").json() == []
        assert driver.control("POST", "callbacks", {"id": uid}).status_code == 400


def test_silent_simulator_sends_only_what_control_calls_ask_for() -> None:
    with mailbox() as box, shop(webhooks=False) as driver:
        driver.paid(notification_url=box.url)
        driver.advance(1)
        assert driver.control("GET", "callbacks").json() == []
        assert sent(driver, box) == [200]


def test_webhook_is_repeated_by_the_ladder_until_it_is_given_up() -> None:
    with mailbox() as box, shop() as driver:
        box.reply = lambda _: (500, b"")
        uid = driver.paid(notification_url=box.url)["uid"]
        driver.advance(0.5)
        now = driver.control("GET", "health").json()["now"]
        moments = [now]
        for wait in Ecomcharge.ladder.waits_s:
            until(lambda: tried(driver) == [moments])
            driver.advance(wait - 1)
            assert tried(driver) == [moments]
            driver.advance(1)
            moments.append(moments[-1] + wait)
        until(lambda: tried(driver) == [moments])
        assert len(moments) == 6
        box.reply = lambda _: (200, b"")
        driver.advance(86_400)
        driver.beyag("POST", f"/transactions/{uid}/renotify")
        until(lambda: len(tried(driver)) == 2 and tried(driver)[1] != [])
        assert len(box.notes) == 7
        assert len({note.body for note in box.notes}) == 1


@pytest.mark.parametrize("status", [0, 201, 204, 302, 400, 404, 410])
def test_anything_but_200_is_repeated(status: int) -> None:
    with mailbox() as box, shop() as driver:
        box.reply = lambda _: (status, b"")
        driver.paid(notification_url=box.url)
        driver.advance(1)
        until(lambda: [len(each) for each in tried(driver)] == [1])
        box.reply = lambda _: (200, b"")
        driver.advance(60)
        until(lambda: [len(each) for each in tried(driver)] == [2])
        assert driver.control("GET", "callbacks").json()[0]["answers"] == [status, 200]
        assert driver.control("GET", "callbacks").json()[0]["delivered"] is True


def test_taken_webhook_is_not_repeated() -> None:
    with mailbox() as box, shop() as driver:
        uid = driver.paid(notification_url=box.url)["uid"]
        driver.advance(1)
        until(lambda: [len(each) for each in tried(driver)] == [1])
        driver.advance(86_400)
        driver.beyag("POST", f"/transactions/{uid}/renotify")
        until(lambda: [len(each) for each in tried(driver)] == [1, 1])
        assert len(box.notes) == 2


def test_renotify_sends_the_present_status_again() -> None:
    with mailbox() as box, shop() as driver:
        uid = driver.paid(notification_url=box.url)["uid"]
        answer = driver.beyag("POST", f"/transactions/{uid}/renotify")
        assert answer.json() == {"response": {"message": "Notification has been sent"}}
        until(lambda: box.statuses() == ["pending"])
        assert is_signed(box.notes[0], driver.public_key())
        assert driver.releases() == 1


@pytest.mark.parametrize(
    ("signature", "has_header", "is_good"),
    [("good", True, True), ("wrong", True, False), ("absent", False, False)],
)
def test_forged_webhook_differs_in_its_signature_only(
    signature: str, has_header: bool, is_good: bool
) -> None:
    with mailbox() as box, shop() as driver:
        assert sent(driver, box, signature=signature) == [200]
        (note,) = box.notes
        assert ("Content-Signature" in note.headers) == has_header
        assert is_signed(note, driver.public_key()) == is_good
        assert note.headers["Authorization"] == BASIC


def test_forged_webhook_can_have_a_wrong_login_too() -> None:
    with mailbox() as box, shop(forged_basic=True) as driver:
        for signature in ("good", "wrong", "absent"):
            sent(driver, box, signature=signature)
        assert [note.headers["Authorization"] == BASIC for note in box.notes] == [
            True,
            False,
            False,
        ]


def test_doubles_and_disorder_are_sent_as_asked() -> None:
    with mailbox() as box, shop(webhooks=False) as driver:
        uid = driver.paid(notification_url=box.url)["uid"]
        driver.advance(60)
        asked = {"id": uid, "statuses": ["successful", "pending", "failed"], "times": 2}
        assert driver.control("POST", "callbacks", asked).status_code == 200
        claimed = ["successful", "pending", "failed"]
        assert box.statuses() == [each for each in claimed for _ in range(2)]
        shown = [note.transaction["updated_at"] for note in box.notes[::2]]
        assert shown == ["2023-11-14T22:13:20.500Z", "2023-11-14T22:13:20Z", shown[0]]
        assert [note.transaction["paid_at"] is None for note in box.notes[::2]] == [
            False,
            True,
            True,
        ]
        assert all(is_signed(note, driver.public_key()) for note in box.notes)
        assert driver.read(uid)["status"] == "successful"


def test_webhook_of_an_earlier_status_knows_nothing_of_its_correction() -> None:
    with mailbox() as box, shop(webhooks=False) as driver:
        uid = driver.pay_card(notification_url=box.url).json()["transaction"]["uid"]
        driver.advance(60)
        driver.move(uid, "failed")
        asked = {"id": uid, "statuses": ["successful", "failed"]}
        assert driver.control("POST", "callbacks", asked).status_code == 200
        assert [note.transaction["manually_corrected_at"] for note in box.notes] == [
            None,
            "2023-11-14T22:14:20Z",
        ]
