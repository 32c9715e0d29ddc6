"""Signs of life: a file that a worker or a beat touches whenever it has got something done.

A health check reads them from a process of its own. A worker that still answers but finishes
nothing leaves no signs, and that is what matters. Only a file's age means anything, and paying
never depends on it.
"""

from __future__ import annotations

import logging
import math
import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

WORKER = "worker"
BEAT = "beat"
# A sign a second is enough; a busy worker would leave hundreds.
SIGN_S = 1


def path_of(who: str, folder: Path) -> Path:
    """The file that `WORKER` or `BEAT` touches."""
    return folder / f"paybatch-{who}.heartbeat"


def keep(who: str, folder: Path, done: Any) -> None:
    """Leave a sign now, and once a second while the Celery signal `done` is sent here."""
    path = path_of(who, folder)
    try:
        leave(path)
    except OSError as error:
        log.warning("no signs of life", extra={"reason": f"{path}: {error.strerror}"})
        return
    left_at = -math.inf

    def sign(**_: object) -> None:
        nonlocal left_at
        if time.monotonic() - left_at >= SIGN_S:
            left_at = time.monotonic()
            leave(path)

    done.connect(sign, weak=False)


def leave(path: Path) -> None:
    """Make the file if it is not there, and its age zero.

    Raises:
        OSError: it cannot be written; also where it is a link, which somebody else has made.
    """
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        os.utime(file)
    finally:
        os.close(file)


def age_s(who: str, folder: Path, now: datetime) -> float | None:
    """Seconds since the last sign; None: there has been none."""
    try:
        return max(0.0, now.timestamp() - path_of(who, folder).stat().st_mtime)
    except FileNotFoundError:
        return None
