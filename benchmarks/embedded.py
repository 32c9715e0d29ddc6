"""Pay a batch that is approved, as `paybatch run` does, with the worker in this process.

    python -m benchmarks.embedded BATCH PUBLISHED

The settings are those of the environment. What is published is noted in the file PUBLISHED.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

from batches import local
from batches.start import GARBAGE
from benchmarks.watched import watch
from workers.runtime import settings_of
from workers.settings import Settings


def main() -> int:
    # As the command does.
    gc.set_threshold(*GARBAGE)
    gc.freeze()
    batch_id, published = sys.argv[1:]
    settings = Settings.load(settings_of)
    local.log_to_file(local.home(settings))
    watch(Path(published))
    with local.open_runtime(settings) as opened:
        worker = local.EmbeddedWorker(opened)
        print("ready", flush=True)
        sys.stdin.readline()
        with worker:
            local.follow(batch_id, opened.runtime, worker, lambda _counts: None, print)
    return 0


if __name__ == "__main__":
    sys.exit(main())
