"""What a payout does to the balance at the Ecart Pay simulator, and the ends it can come to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from .ecart_driver import Driver, starter

FULL, LESS = 10_000_000, 9_999_749.5


@pytest.fixture
def start() -> Iterator[Callable[..., Driver]]:
    with starter() as begin:
        yield begin


@pytest.fixture
def driver(start: Callable[..., Driver]) -> Driver:
    return start()


def code(answer: Any) -> tuple[int, int]:
    return answer.status_code, answer.json()["code"]


def test_balance_has_a_total_for_each_currency(start: Callable[..., Driver]) -> None:
    driver = start(balances={"MXN": Decimal("10500.25"), "USD": Decimal(7)})
    summary = driver.call("GET", "/api/transactions/summary")
    assert summary.text == (
        '{"MXN":{"available":10500.25,"pending":0},"USD":{"available":7,"pending":0}}'
    )


def test_default_account_holds_the_currencies_of_the_page(driver: Driver) -> None:
    summary = driver.call("GET", "/api/transactions/summary").json()
    assert " ".join(summary) == "ARS BRL CLP COP EUR GTQ INR MXN USD"


def test_paid_leaves_the_balance_at_once(driver: Driver) -> None:
    driver.created()
    assert driver.balance() == (LESS, 0)
    assert driver.balance("USD") == (FULL, 0)


def test_pending_payout_keeps_its_money_until_it_is_confirmed(driver: Driver) -> None:
    payout_id = driver.pending()
    assert driver.balance() == (LESS, 250.5)
    driver.confirm(payout_id, "2031-01-02T12:10:00.000Z")
    assert driver.balance() == (LESS, 250.5)
    driver.advance(600)
    assert driver.balance() == (LESS, 0)


def test_pending_payout_keeps_nothing_where_the_switch_is_off(
    start: Callable[..., Driver],
) -> None:
    driver = start(hold_on_pending=False)
    payout_id = driver.pending()
    assert driver.balance() == (FULL, 0)
    driver.confirm(payout_id)
    assert driver.balance() == (LESS, 0)


@pytest.mark.parametrize("status", ["cancelled", "canceled", "expired", "failed"])
def test_pending_payout_that_ends_lets_its_money_go(driver: Driver, status: str) -> None:
    payout_id = driver.pending()
    driver.control("POST", f"invoices/{payout_id}", {"status": status})
    assert driver.balance() == (FULL, 0)


@pytest.mark.parametrize(
    "status", ["failed", "declined", "error", "cancelled", "canceled", "expired", "refunded"]
)
def test_failed_payout_gives_everything_back(driver: Driver, status: str) -> None:
    driver.fault(f"settle=5 status={status}")
    payout_id = driver.created()["id"]
    assert driver.read(payout_id)["status"] == "pending"
    assert driver.balance() == (LESS, 250.5)
    driver.advance(5)
    assert driver.read(payout_id)["status"] == status
    assert driver.balance() == (FULL, 0)


@pytest.mark.parametrize("status", ["processing", "confirmed", "strange_word", "created"])
def test_open_word_keeps_the_money_on_its_way(driver: Driver, status: str) -> None:
    driver.fault(f"status={status}")
    assert driver.created()["status"] == status
    assert driver.balance() == (LESS, 250.5)


@pytest.mark.parametrize("confirmed", [True, False])
def test_refunded_after_paid_brings_the_money_back(driver: Driver, confirmed: bool) -> None:
    driver.fault("returned=60")
    if confirmed:
        payout_id = driver.pending()
        assert driver.confirm(payout_id).json()["status"] == "paid"
    else:
        payout_id = driver.created()["id"]
    driver.advance(59)
    assert (driver.read(payout_id)["status"], driver.balance()) == ("paid", (LESS, 0))
    paid_at = driver.read(payout_id)["available_at"]
    driver.advance(1)
    assert (driver.read(payout_id)["status"], driver.balance()) == ("refunded", (FULL, 0))
    assert driver.read(payout_id)["available_at"] == paid_at


def test_payout_walks_the_path_it_was_told(driver: Driver) -> None:
    driver.fault("settle=6 path=processing>confirmed>paid")
    payout_id = driver.created()["id"]
    seen = []
    for _ in range(4):
        seen.append((driver.read(payout_id)["status"], driver.balance()))
        driver.advance(2)
    held = (LESS, 250.5)
    assert seen == [
        ("pending", held),
        ("processing", held),
        ("confirmed", held),
        ("paid", (LESS, 0)),
    ]


def test_account_can_be_slow_to_credit(start: Callable[..., Driver]) -> None:
    driver = start(settle_s=4)
    payout_id = driver.created()["id"]
    driver.advance(3)
    assert driver.read(payout_id)["status"] == "pending"
    driver.advance(1)
    assert driver.read(payout_id)["status"] == "paid"


@pytest.mark.parametrize(
    ("email", "status"),
    [
        ("luis+declined@example.com", "declined"),
        ("luis+failed@example.com", "failed"),
        ("luis+expired@example.com", "expired"),
        ("luis+cancelled@example.com", "cancelled"),
        ("luis+processing@example.com", "processing"),
        ("luis+friends@example.com", "paid"),
        ("declined@example.com", "paid"),
    ],
)
def test_word_in_the_address_decides_the_end(driver: Driver, email: str, status: str) -> None:
    assert driver.created(email=email)["status"] == status
    payout_id = driver.pending("r-2", email=email)
    assert driver.confirm(payout_id).json()["status"] == status


def test_fault_comes_before_the_word_in_the_address(driver: Driver) -> None:
    driver.fault("status=paid")
    assert driver.created(email="luis+declined@example.com")["status"] == "paid"


def test_fee_leaves_with_the_amount(start: Callable[..., Driver]) -> None:
    driver = start()
    assert driver.created(email="luis+fee@example.com")["fee"] == 2.5
    assert driver.balance() == (9_999_747, 0)
    driver = start(fee=Decimal("1.25"), exchange=Decimal("17.05"))
    payout = driver.created()
    assert (payout["fee"], payout["exchange"]) == (1.25, 17.05)
    assert driver.balance() == (9_999_748.25, 0)


@pytest.mark.parametrize(
    ("fault", "field", "value"),
    [("amount=250.49", "amount", 250.49), ("currency=USD", "currency", "USD")],
)
def test_payout_can_be_stored_otherwise_than_asked(
    driver: Driver, fault: str, field: str, value: Any
) -> None:
    driver.fault(fault)
    payout = driver.created()
    assert payout[field] == value
    assert driver.read(payout["id"])[field] == value


def test_flipped_mode_is_seen_by_the_ledger_alone(driver: Driver) -> None:
    driver.fault("mode-flipped", "r-2")
    assert driver.created().keys() == driver.created("r-2").keys()
    (first,), (second,) = (driver.ledger(each)["invoices"] for each in ("r-1", "r-2"))
    assert first["test_mode"] is not second["test_mode"]


# Too little.


@pytest.mark.parametrize(("amount", "enough"), [(100, True), (100.01, False)])
def test_more_than_the_balance_is_400_and_nothing_is_stored(
    start: Callable[..., Driver], amount: float, enough: bool
) -> None:
    driver = start(balances={"MXN": Decimal(100)})
    answer = driver.create(amount=amount)
    if enough:
        assert driver.balance() == (0, 0)
    else:
        assert code(answer) == (400, 9002)
        assert driver.ledger()["invoices"] == []
        assert driver.balance() == (100, 0)


def test_currency_that_the_account_does_not_hold_is_too_little(driver: Driver) -> None:
    assert code(driver.create(currency="CAD")) == (400, 9002)


def test_fee_counts_for_what_can_be_spent(start: Callable[..., Driver]) -> None:
    driver = start(balances={"MXN": Decimal(100)}, fee=Decimal("0.01"))
    assert code(driver.create(amount=100)) == (400, 9002)


@pytest.mark.parametrize("hold", [True, False])
def test_held_money_cannot_be_spent_a_second_time(start: Callable[..., Driver], hold: bool) -> None:
    driver = start(balances={"MXN": Decimal(300)}, hold_on_pending=hold)
    first = driver.pending("r-1")
    second = driver.create("r-2", require_confirmation=True)
    if hold:
        assert code(second) == (400, 9002)
        assert driver.confirm(first).json()["status"] == "paid"
    else:
        assert driver.confirm(second.json()["id"]).json()["status"] == "paid"
        assert code(driver.confirm(first)) == (400, 9002)
        assert driver.read(first)["status"] == "pending"
        assert driver.releases("r-1") == 0
    assert driver.balance() == (49.5, 0)


def test_sums_stay_the_same_whatever_happens(driver: Driver) -> None:
    for number, status in enumerate(("paid", "failed", "strange", "refunded", "processing")):
        driver.fault(f"status={status}", f"r-{number}")
        driver.created(f"r-{number}")
    driver.pending("r-9")
    available, pending = driver.balance()
    assert (available, pending) == (FULL - 4 * 250.5, 3 * 250.5)
