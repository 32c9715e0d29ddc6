"""Signs of life: left when something is done, as old as they are, and never in anybody's way."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from celery.utils.dispatch import Signal

from tests.batches.cli_world import until
from workers import heartbeat


def age(path: Path, seconds: float) -> None:
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime - seconds))


def test_a_sign_is_left_at_the_start_and_while_something_is_done(tmp_path: Path) -> None:
    done = Signal()
    path = heartbeat.path_of(heartbeat.WORKER, tmp_path)
    assert heartbeat.age_s(heartbeat.WORKER, tmp_path, datetime.now(UTC)) is None
    heartbeat.keep(heartbeat.WORKER, tmp_path, done)
    assert path.stat().st_mode & 0o777 == 0o600
    for _ in range(2):
        age(path, 100)
        told = heartbeat.age_s(heartbeat.WORKER, tmp_path, datetime.now(UTC))
        assert told == pytest.approx(100, abs=10)

        def is_left() -> bool:
            done.send(sender=None)
            told = heartbeat.age_s(heartbeat.WORKER, tmp_path, datetime.now(UTC))
            return told == pytest.approx(0, abs=10)

        # Within the second in which one is enough, none is left.
        until(is_left)


def test_a_sign_that_somebody_cleared_away_is_left_again(tmp_path: Path) -> None:
    done = Signal()
    heartbeat.keep(heartbeat.BEAT, tmp_path, done)
    heartbeat.path_of(heartbeat.BEAT, tmp_path).unlink()
    done.send(sender=None)
    assert heartbeat.path_of(heartbeat.BEAT, tmp_path).exists()


def test_a_worker_and_a_beat_do_not_speak_for_each_other(tmp_path: Path) -> None:
    heartbeat.keep(heartbeat.BEAT, tmp_path, Signal())
    assert heartbeat.age_s(heartbeat.WORKER, tmp_path, datetime.now(UTC)) is None


def test_a_folder_that_is_not_there_keeps_nobody_from_working(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    done = Signal()
    heartbeat.keep(heartbeat.WORKER, tmp_path / "gone", done)
    assert "no signs of life" in caplog.text
    assert done.send(sender=None) == []


def test_a_link_that_somebody_else_made_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    heartbeat.path_of(heartbeat.WORKER, tmp_path).symlink_to(other)
    heartbeat.keep(heartbeat.WORKER, tmp_path, Signal())
    assert not other.exists()


def test_a_clock_that_was_set_back_makes_no_sign_younger_than_new(tmp_path: Path) -> None:
    heartbeat.leave(heartbeat.path_of(heartbeat.WORKER, tmp_path))
    before = datetime.now(UTC) - timedelta(hours=1)
    assert heartbeat.age_s(heartbeat.WORKER, tmp_path, before) == 0
