"""Beat asks, workers settle: a real Redis, two beats, two workers, and one run."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.batches.cli_world import ROOT, until, usd_row
from tests.workers.cluster_world import clustered

SCHEDULE = """
[[schedules]]
name = "nightly"
time = "{time}"
time_zone = "UTC"
business_days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
inbox = "inbox"
approval = "automatic"
quiet_s = 0
"""


@pytest.mark.timeout(240)
def test_two_beats_and_two_workers_settle_a_schedule_once(tmp_path: Path) -> None:
    with clustered(tmp_path) as cluster:
        world = cluster.world
        # A minute ago: in time for a schedule that is new.
        then = datetime.now(UTC) - timedelta(minutes=1)
        path = world.folder / "paybatch.toml"
        path.write_text(path.read_text() + SCHEDULE.format(time=f"{then:%H:%M}"))
        (world.folder / "inbox").mkdir()
        for number in range(3):
            rows = [usd_row(10 * number + each) for each in range(1, 5)]
            world.write(rows, f"inbox/{number}.csv")
        for _ in range(2):
            cluster.start_worker()
            cluster.start_beat()
        until(lambda: world.count("paid") == 12, limit_s=120)
        runs = world.query("SELECT outcome FROM schedule_runs")
        assert runs == [("finished",)]
        until(lambda: world.one("SELECT settled_at FROM schedule_runs"), limit_s=60)
        assert world.one("SELECT count(*) FROM batches") == 3
        ledger = cluster.provider.ledger().values()
        assert all(sum(len(one["releases"]) for one in each["invoices"]) == 1 for each in ledger)
        assert len(list((world.folder / "inbox" / "done").iterdir())) == 3
        assert len(list((world.folder / "reports").iterdir())) == 2


@pytest.mark.parametrize("there", [True, False])
def test_only_a_worker_with_schedules_loads_what_settles(tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "paybatch.toml").write_text(SCHEDULE.format(time="02:30"))
    asked = (
        "import sys; from workers.app import app; app.loader.import_default_modules();"
        " print('paybatch.settle' in app.tasks, 'batches.settlement' in sys.modules,"
        " 'settle' in app.conf.beat_schedule)"
    )
    plain = {name: text for name, text in os.environ.items() if "PAYBATCH" not in name}
    told = subprocess.run(
        [sys.executable, "-c", asked],
        cwd=tmp_path,
        env={**plain, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == [str(there)] * 3
