"""What an embedded run leaves when our own code fails in the middle of it holds no secret."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests import leaks
from tests.batches.cli_world import API_KEY, provided, until
from tests.batches.test_leaks import left_behind, secrets_of
from tests.batches.test_leaks_cluster import (
    DESCRIPTION,
    NOTE,
    SIGNING_KEY,
    Run,
    given_rows,
    install_crashing,
    with_second,
)


@pytest.mark.timeout(600)
def test_no_secret_is_left_by_a_run_whose_adapter_fails_in_the_middle(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        with_second(world, "crashing")
        world.env["PYTHONPATH"] = install_crashing(tmp_path / "plug-ins")
        run, given = Run(world), given_rows()
        world.write(given)
        process, _, _ = run.start("paybatch", "run", "p.csv", "--yes")
        log = world.folder / "paybatch.log"
        until(lambda: log.exists() and "task failed" in log.read_text())
        until(lambda: world.count("paid") and world.count("held"))
        processes = leaks.commands_of_processes()
        process.kill()
        process.wait()
        modes = {
            path.name: stat.S_IMODE(path.stat().st_mode)
            for path in world.folder.glob("paybatch.*")
            if path.name not in ("paybatch.toml", "paybatch.db.lock")
        }
        # As the kill left it: the journal with all that was written last.
        killed = left_behind(world)
        batch = world.batch_id()
        for arguments in (
            ("status", batch),
            ("status", batch, "--json"),
            ("results", batch, "-o", "r.csv"),
            ("results", batch, "-o", "r.parquet"),
            ("results", batch, "--failed", "-o", "failed.csv"),
            ("doctor", "--json"),
            ("keys", "status"),
            ("keys", "rotate"),
            ("purge", "--before", "2020-01-01"),
        ):
            run.paybatch(*arguments)
    key = (world.folder / "paybatch.key").read_text().strip()
    [old] = [path.read_text().strip() for path in world.folder.glob("paybatch.key.retired-*")]
    assert "paybatch.db-wal" in killed
    assert b"withheld" in killed["paybatch.log"]
    assert {*modes.values()} == {0o600}, modes
    secrets = {*secrets_of(given), API_KEY, SIGNING_KEY, key, old}
    left = left_behind(world)
    leaks.check({**killed, **processes}, secrets)
    leaks.check(left, secrets)
    shown = {
        name: content for name, content in left.items() if name.endswith((".log", ".out", ".err"))
    }
    assert len(shown) > 10
    leaks.check(shown, {DESCRIPTION, NOTE})


def test_a_failure_of_our_own_code_tells_its_kind_alone(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        with_second(world, "unbalanced")
        world.env["PYTHONPATH"] = install_crashing(tmp_path / "plug-ins")
        run = Run(world)
        world.write([row for row in given_rows() if row["account"] == "second"])
        for arguments in (
            ("check", "p.csv"),
            ("run", "p.csv", "--yes"),
            ("balance", "--account", "second"),
        ):
            run.paybatch(*arguments, codes=(1,))
            told = sorted(world.screens.glob("*.err"))[-1].read_text()
            assert "internal error: LookupError; nothing is lost" in told
    left = left_behind(world)
    assert b"LookupError: (its words are withheld" in left["paybatch.log"]
    leaks.check(left, {API_KEY})
