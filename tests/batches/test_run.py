"""`run FILE` pays every line once, answers for every line, and ends with the promised code."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.batches.cli_world import (
    COLUMNS,
    ROOT,
    TIMEOUT_S,
    World,
    bank_row,
    card_row,
    check_money,
    pix_row,
    provided,
    until,
    usd_row,
)

# What a row asks of the simulator, and the state that its payout must end in.
WORDS = {
    "create:drop-after": "paid",
    "create:504": "paid",
    "create:hang-after": "paid",
    "create:409-after": "paid",
    "create:drop": "paid",
    "create:422": "failed",
    "create:429=0.3": "paid",
    "create:html-after": "paid",
    "create:302": "paid",
    "create:400": "paid",
    "process:drop-after": "paid",
    "process:drop": "paid",
    "process:500-after": "paid",
    "create:drop-after find:404": "paid",
    "create:drop-after hide=1": "paid",
    "read:500*2": "paid",
    "auto": "paid",
    "release-ignored": "paid",
    "path=process_pending>processed settle=1": "paid",
    "status=process_failed resolution=invalid_details": "failed",
    "status=partially_processed": "held",
    "amount=1.00": "held",
    "currency=EUR": "held",
    "mode-flipped": "held",
    "returned=0": "returned",
}


def test_a_file_with_every_kind_of_trouble_is_answered_line_by_line(tmp_path: Path) -> None:
    world = World(tmp_path)
    rows = [usd_row(number, words) for number, words in enumerate(WORDS)]
    rows += [bank_row(number, "USD", f"{100 + number}.50") for number in range(5)]
    rows += [bank_row(10, "MXN", "2500.75", "create:504-after"), bank_row(11, "MXN", "10.00")]
    rows += [bank_row(20, "CLP", "250000"), bank_row(21, "CLP", "1000", "process:drop-after")]
    rows += [card_row(1, "EUR", "75.10", "create:cut-after"), card_row(2, "EUR", "75.11")]
    rows += [card_row(3, "USD", "5000"), pix_row(1, "20.01"), pix_row(2, "99", "create:503-after")]
    rows += [pix_row(3, "1")]
    world.write(rows)

    ended = world.paybatch("run", "p.csv", "--yes", code=5)

    results, ledger = world.read(), world.ledger()
    assert list(results[0]) == COLUMNS
    asked = [(row["reference_id"], row["service"], row["amount"]) for row in rows]
    assert [row["row"] for row in results] == [str(at) for at in range(1, len(rows) + 1)]
    assert [(row["reference_id"], row["service"]) for row in results] == [one[:2] for one in asked]
    expected = {row["reference_id"]: WORDS.get(row["metadata.simulate"], "paid") for row in rows}
    assert {row["reference_id"]: row["state"] for row in results} == expected
    check_money(results, ledger)
    # Every reason is told, on the screen and in the file.
    reasons = {row["reference_id"]: row["failure_code"] for row in results}
    refused = next(row["reference_id"] for row in rows if "invalid" in row["metadata.simulate"])
    assert reasons[refused] == "invalid_details"
    assert all(row["settled_at"] for row in results if row["state"] in ("paid", "failed"))
    assert "Traceback" not in ended.out
    assert world.batch_id() in ended.out


def test_a_file_that_is_paid_in_full_ends_with_0_and_a_second_run_sends_nothing(
    tmp_path: Path,
) -> None:
    with provided(tmp_path) as (world, provider):
        world.write([usd_row(number) for number in range(8)])
        facts = world.paybatch("run", "p.csv", "--yes", "--json").json
        assert facts["counts"] == {"paid": 8}
        assert (facts["state"], facts["rows"], facts["settled"]) == ("completed", 8, 8)
        assert (facts["exit_code"], facts["results"]) == (0, "p.results.csv")
        assert facts["batch_id"] == world.batch_id()
        first = (world.folder / "p.results.csv").read_bytes()
        (world.folder / "p.results.csv").unlink()
        calls = provider.control("GET", "calls")

        again = world.paybatch("run", "p.csv", "--yes", code=3)

        assert world.batch_id() in again.err
        # The answer is written again where it is missing, and nobody was called for it.
        assert (world.folder / "p.results.csv").read_bytes() == first
        assert provider.control("GET", "calls") == calls
        # The same lines under another name are the same payments.
        world.write([usd_row(number) for number in range(8)], "renamed.csv")
        (world.folder / "renamed.csv").write_bytes(
            (world.folder / "p.csv").read_bytes().replace(b"\r\n", b"\n") + b"\n"
        )
        renamed = world.paybatch("run", "renamed.csv", "--yes", code=3)
        assert world.batch_id() in renamed.err
        check_money(world.read(), provider.ledger())


def test_failed_rows_end_a_run_with_4_and_say_why(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, provider):
        world.write([usd_row(1), usd_row(2, "create:422"), usd_row(3)])
        ended = world.paybatch("run", "p.csv", "--yes", "-o", "out.csv", code=4)
        assert world.states("out.csv") == {"T-0001": "paid", "T-0002": "failed", "T-0003": "paid"}
        assert "1 x amount" in ended.out
        assert not (world.folder / "p.results.csv").exists()
        check_money(world.read("out.csv"), provider.ledger())


def test_a_held_row_ends_each_run_with_5_and_nothing_more_is_sent(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, provider):
        world.write([usd_row(1, "amount=1.00"), usd_row(2, "create:422"), usd_row(3)])
        first = world.paybatch("run", "p.csv", "--yes", "--json", code=5).json
        assert [each["reference_id"] for each in first["held"]] == ["T-0001"]
        assert "1.00 USD" in first["held"][0]["reason"]
        calls = provider.control("GET", "calls")
        again = world.paybatch("run", "p.csv", "--yes", code=5)
        assert "T-0001" in again.out
        assert provider.control("GET", "calls")["create"] == calls["create"]
        assert provider.control("GET", "calls")["process"] == calls["process"]


def test_a_faulty_file_is_refused_with_3_and_leaves_no_trace(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, provider):
        world.write([usd_row(1), usd_row(2, amount="1e3"), usd_row(3, currency="usd")])
        ended = world.paybatch("run", "p.csv", "--yes", code=3)
        assert "nothing was stored" in ended.err
        for told in ("amount", "currency"):
            assert told in ended.out
        assert world.nothing_is_stored()
        assert provider.ledger() == {}
        assert not (world.folder / "p.results.csv").exists()
        for name, content in (("empty.csv", b""), ("binary.csv", os.urandom(500))):
            (world.folder / name).write_bytes(content)
            assert world.paybatch("run", name, "--yes", code=3).err
        assert "no-such.csv" in world.paybatch("run", "no-such.csv", "--yes", code=3).err


def test_without_a_terminal_nobody_is_asked_and_nothing_is_paid(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, provider):
        world.write([usd_row(1)])
        assert "--yes" in world.paybatch("run", "p.csv", code=2).err
        assert world.nothing_is_stored()
        assert provider.ledger() == {}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("run", "p.csv", "--sideways"), "--sideways"),
        (("run",), "FILE"),
        (("run", "p.csv", "--yes", "--account", "nobody"), "nobody"),
        (("run", "p.csv", "--yes", "--map", "nonsense"), "nonsense"),
        (("pay", "p.csv"), "pay"),
        (("status", "ZZZZZZZ"), "ZZZZZZZ"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_command_that_cannot_be_carried_out_as_typed_ends_with_2(
    tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1)])
        assert told in world.paybatch(*arguments, code=2).err


def test_all_bad_settings_are_told_at_once_and_no_secret_with_them(tmp_path: Path) -> None:
    world = World(tmp_path)
    (world.folder / "paybatch.toml").write_text(
        'approvals = 3\ncolour = "red"\n[accounts.main]\nprovider = "payelata"\n'
        'base_url = "http://pay.example.com/api"\napi_key = "sk-very-secret-1"\nclaim_s = 1\n'
    )
    world.env.clear()
    world.write([usd_row(1)])
    ended = world.paybatch("run", "p.csv", "--yes", code=2)
    for wrong in ("approvals", "colour", "base_url", "https", "account_id", "call_deadline_s"):
        assert wrong in ended.err
    assert "sk-very-secret-1" not in ended.err + ended.out
    assert not (world.folder / "paybatch.db").exists()


def test_the_installed_command_asks_on_a_terminal_and_takes_no_for_an_answer(
    tmp_path: Path,
) -> None:
    with provided(tmp_path) as (world, provider):
        world.write([usd_row(1)])
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [Path(sys.executable).with_name("paybatch"), "run", "p.csv"],
            cwd=world.folder,
            env={"PATH": os.environ["PATH"], **world.env},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        shown = b""

        def asked() -> bool:
            nonlocal shown
            shown += os.read(ours, 65536)
            return b"[y/N]" in shown

        try:
            until(asked)
            os.write(ours, b"n\n")
            assert process.wait(TIMEOUT_S) == 130
        finally:
            process.kill()
            process.wait(TIMEOUT_S)
            os.close(ours)
        assert b"1 payout" in shown
        assert world.nothing_is_stored()
        assert provider.ledger() == {}


def test_the_example_payroll_is_a_file_that_check_accepts(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        facts = world.paybatch("check", ROOT / "examples" / "payroll.csv", "--json").json
        assert facts["ok"], json.dumps(facts["faults"][:5])
        assert facts["rows"] == facts["payable"] > 0
