"""The ledger: what is kept, where, and that it can be read back."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.simulator.ledger import Ledger, LedgerDamaged, LedgerLocked, mask


def invoice(number: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "event": "invoice",
        "at": 100.0,
        "id": f"i-{number}",
        "reference_id": f"r-{number}",
        "service": "card",
        "amount": "10.00",
        "currency": "USD",
        "writeoff": "11.00",
        "test_mode": True,
        "visible_at": 100.0,
        "status": "created",
        "details": {},
        **more,
    }


def release(number: int = 1, **more: Any) -> dict[str, Any]:
    ahead = [[101.0, "processing", "ok"], [105.0, "processed", "ok"]]
    event = {"event": "release", "at": 100.0, "id": f"i-{number}", "committed": True}
    return {**event, "ahead": ahead, **more}


def reached(status: str, held: str, spent: str, *, scripted: bool = False) -> dict[str, Any]:
    return {
        "event": "status",
        "at": 101.0,
        "id": "i-1",
        "status": status,
        "resolution": "ok",
        "processed_amount": None,
        "held": held,
        "spent": spent,
        "scripted": scripted,
    }


EVENTS: list[dict[str, Any]] = [
    {"event": "balances", "active": {"USD": "50.00"}},
    {"event": "script", "reference_id": "r-1", "text": "settle=1"},
    invoice(),
    {"event": "call", "point": "create", "reference_id": "r-1"},
    {
        "event": "call",
        "point": "process",
        "reference_id": "r-1",
        "rule": "row:0:process:drop",
        "effect": "drop",
        "applied": False,
    },
    release(),
    reached("processing", "11.00", "0"),
]


def facts(ledger: Ledger) -> Any:
    return (
        ledger.invoices,
        ledger.balances,
        ledger.calls,
        ledger.calls_of,
        ledger.swallowed_of,
        ledger.fault_uses,
        ledger.scripts,
        ledger.last_at,
    )


def test_reopened_ledger_knows_everything(tmp_path: Path) -> None:
    first = Ledger(tmp_path / "ledger")
    for event in EVENTS:
        first.record(event)
    first.close()
    again = Ledger(tmp_path / "ledger")
    assert facts(again) == facts(first)
    assert [each.id for each in again.due(105.0)] == ["i-1"]
    again.close()


def test_commit_has_written_before_it_returns(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    ledger.record(invoice())
    ledger.commit()
    assert b'"i-1"' in (tmp_path / "ledger").read_bytes()
    ledger.close()


@given(cut=st.integers(min_value=1, max_value=150))
def test_torn_last_line_is_forgotten(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("torn") / "ledger"
    ledger = Ledger(path)
    ledger.record(invoice(1))
    ledger.record(invoice(2))
    ledger.close()
    path.write_bytes(path.read_bytes()[:-cut])
    for serial in (2, 3):  # what is written after a tear must be readable too
        ledger = Ledger(path)
        assert list(ledger.by_id) == ["i-1", *(["i-3"] if serial == 3 else [])]
        if serial == 2:
            ledger.record(invoice(3))
        ledger.close()


def test_damage_before_the_last_line_is_told(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_bytes(b'{"event": "invoice"}\n{"event": "clock", "at": 1}\n')
    with pytest.raises(LedgerDamaged, match="line 1 "):
        Ledger(tmp_path / "ledger")


def test_second_opener_is_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    first = Ledger(tmp_path / "ledger")
    with pytest.raises(LedgerLocked, match="in use"):
        Ledger(tmp_path / "ledger")
    first.close()
    Ledger(tmp_path / "ledger").close()


def test_ledger_file_is_for_its_owner_only(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger").close()
    assert (tmp_path / "ledger").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("events", "active", "pending"),
    [
        ([], "50.00", "0"),
        ([release()], "39.00", "11.00"),
        ([release(committed=False)], "50.00", "0"),
        ([release(), release()], "28.00", "22.00"),
        ([release(), reached("processing", "11.00", "0")], "39.00", "11.00"),
        ([release(), reached("processed", "0", "11.00")], "39.00", "0"),
        ([release(), reached("process_failed", "0", "0")], "50.00", "0"),
    ],
)
def test_balance_follows_the_money(events: list[dict[str, Any]], active: str, pending: str) -> None:
    ledger = Ledger()
    ledger.record({"event": "balances", "active": {"USD": "50.00"}})
    ledger.record(invoice())
    for event in events:
        ledger.record(event)
    balance = ledger.balances["USD"]
    assert (balance.active, balance.pending) == (Decimal(active), Decimal(pending))


def test_every_commitment_is_a_release() -> None:
    ledger = Ledger()
    ledger.record(invoice())
    ledger.record(release())
    ledger.record(release(at=200.0))
    ledger.record(release(at=300.0, committed=False))
    assert ledger.by_id["i-1"].releases == [100.0, 200.0]


def test_steps_fall_due_in_order_of_time() -> None:
    ledger = Ledger()
    for number, at in ((1, 120.0), (2, 110.0), (3, 130.0)):
        ledger.record(invoice(number))
        ledger.record(release(number, ahead=[[at, "processing", "ok"]]))
    assert [each.id for each in ledger.due(109.9)] == []
    assert [each.id for each in ledger.due(125.0)] == ["i-2", "i-1"]


def test_scripted_status_throws_the_plan_away() -> None:
    ledger = Ledger()
    ledger.record(invoice())
    ledger.record(release())
    ledger.record(reached("expired", "0", "0", scripted=True))
    assert list(ledger.due(1e9)) == []
    assert ledger.by_id["i-1"].status == "expired"


@pytest.mark.parametrize(
    ("key", "value", "masked"),
    [
        ("card_number", "4000000000000002", "400000******0002"),
        ("card_number", "4000000000002", "400000***0002"),
        ("card_number", "400000000002", "********0002"),
        ("account_number", "12345678901234567890", "****************7890"),
        ("pix_key", "jane@example.org", "************.org"),
        ("account", "1234", "****"),
        ("account", "12", "**"),
        ("account", "", ""),
        ("account", 123456, "**3456"),
        ("card", {"card_holder": "JANE ROE", "exp_year": "31"}, None),
    ],
)
def test_mask_leaves_what_may_be_shown(key: str, value: Any, masked: Any) -> None:
    if masked is None:
        masked = {"card_holder": "**** ROE", "exp_year": "**"}
    assert mask({key: value}) == {key: masked}


@given(st.text(min_size=1, max_size=60))
def test_mask_shows_four_characters_at_most(value: str) -> None:
    shown = mask({"account_number": value})["account_number"]
    assert len(shown) == len(value)
    assert shown[:-4] == "*" * len(value[:-4])
    if len(value) <= 4:
        assert set(shown) == {"*"}
