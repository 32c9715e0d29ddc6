"""Whatever dies or sleeps while a file is paid: nothing twice, nothing lost."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import sqlite3
from pathlib import Path

from tests.batches.cli_world import (
    WORDS,
    Row,
    World,
    card_row,
    check_money,
    pix_row,
    until,
    usd_row,
)

KILLS = 4
ROWS = 120
# A row may be met by every kill; its tries must not run out for that.
PATIENT = {"attempts_max": 50, "process_tries_max": 50}


def mixed(count: int) -> tuple[list[Row], dict[str, str]]:
    """Rows of which one in four has trouble, and the state that each must end in."""
    words = list(WORDS)
    rows, expected = [], {}
    for number in range(count):
        word = words[number // 4 % len(words)] if number % 4 == 0 else ""
        makers = (usd_row, usd_row, card_row, pix_row)
        maker = makers[number // 4 % 4] if number % 4 else usd_row
        if maker is card_row:
            row = card_row(number, "EUR", f"{20 + number}.10", word)
        elif maker is pix_row:
            row = pix_row(number, f"{20 + number}.20", word)
        else:
            row = usd_row(number, word)
        rows.append(row)
        expected[row["reference_id"]] = WORDS.get(word, "paid")
    return rows, expected


def test_a_run_killed_at_any_moment_is_finished_by_the_next(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    rng = random.Random(seed)
    world = World(tmp_path, **PATIENT)
    rows, expected = mixed(ROWS)
    world.write(rows)

    def events() -> int:
        found = world.query("SELECT count(*) FROM payout_events")
        return int(found[0][0]) if found else 0

    for _ in range(KILLS):
        reached = events() + rng.randrange(1, ROWS)
        with world.start("run", "p.csv", "--yes") as run:
            until(lambda run=run, reached=reached: run.has_ended or events() >= reached)
            run.send(signal.SIGKILL)
            assert run.wait().code == -signal.SIGKILL, "it ended before it could be killed"
    world.paybatch("run", "p.csv", "--yes", code=5)

    assert world.states() == expected
    check_money(world.read(), world.ledger())
    # Every move of every payout is on record, without a gap.
    moves = world.query("SELECT payout_id, from_state, to_state FROM payout_events ORDER BY id")
    last = {}
    for payout, source, target in moves:
        assert last.get(payout, "draft") == source
        last[payout] = target


def test_two_runs_of_one_file_pay_each_line_once_and_both_answer(tmp_path: Path) -> None:
    world = World(tmp_path)
    rows, expected = mixed(40)
    rows[-1]["metadata.simulate"] = "settle=2"
    world.write(rows)
    with (
        world.start("run", "p.csv", "--yes", "-o", "a.csv") as first,
        world.start("run", "p.csv", "--yes", "-o", "b.csv") as second,
    ):
        ended = [first.wait(), second.wait()]
    assert [one.code for one in ended] == [5, 5], [one.err for one in ended]
    assert not any("Traceback" in one.err for one in ended)
    assert world.one("SELECT count(*) FROM batches") == 1
    assert world.states("a.csv") == world.states("b.csv") == expected
    check_money(world.read("a.csv"), world.ledger())


def test_a_run_that_sleeps_beyond_its_claims_sends_nothing_twice(tmp_path: Path) -> None:
    # Claims that last until the second run has looked, on a slow machine too.
    lasting = {"claim_s": 8, "announce_s": 9, "lookup_grace_s": 10}
    world = World(tmp_path, in_flight_max=8, **lasting)
    rows, expected = mixed(40)
    for row in rows:
        row["metadata.simulate"] = row["metadata.simulate"] or "create:slow=0.3"
    world.write(rows)
    with world.start("run", "p.csv", "--yes", "-o", "a.csv") as sleeper:
        sleeper.until(lambda: world.count("creating") >= 4 and put_to_sleep(world, sleeper.pid))
        # Longer than any claim: the second run waits for those to run out.
        second = world.paybatch("run", "p.csv", "--yes", "-o", "b.csv", code=5)
        assert "Carrying on" in second.out
        # It says how long that wait may be.
        assert re.search(
            r"Another run has begun \d+ payouts? of it; if that run was killed, what it left is"
            r" looked up at the provider in \d+ seconds? at most",
            second.out,
        )
        sleeper.send(signal.SIGCONT)
        woken = sleeper.wait()
    assert woken.code == 5, woken.err
    assert world.states("a.csv") == world.states("b.csv") == expected
    check_money(world.read("b.csv"), world.ledger())


def put_to_sleep(world: World, pid: int) -> bool:
    """Stop the process, unless it is just writing: then the other could not write either."""
    os.kill(pid, signal.SIGSTOP)
    # Each of its threads stops by itself; until then it may still begin to write.
    tasks = Path(f"/proc/{pid}/task")
    until(lambda: all(") T " in (one / "stat").read_text() for one in tasks.iterdir()))
    path = world.folder / "paybatch.db"
    with contextlib.closing(sqlite3.connect(path, timeout=0.1)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
        except sqlite3.OperationalError:
            os.kill(pid, signal.SIGCONT)
            return False
    return world.count("creating") >= 1
