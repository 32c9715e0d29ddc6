"""Where the workers' time goes, from the stacks that py-spy has noted.

    python -m benchmarks.profiles DIR

`throughput --profile DIR` prints the same. A stack counts where it was seen while it had the
interpreter (`--gil`): what waits for a socket or a lock is in none. The files can also be opened
with https://www.speedscope.app.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

LINES = 40
# `function (file.py:12)`; the line is left out, so that a function is one.
_FRAME = re.compile(r"(?P<function>.+) \((?P<file>.+?)(:\d+)?\)$")


def summary(folder: Path) -> Iterator[str]:
    """The functions with the most time, in themselves and with all that they call."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for path in sorted(folder.glob("*.stacks")):
        for line in path.read_text().splitlines():
            stack, _, count = line.rpartition(" ")
            frames = [_named(frame) for frame in stack.split(";")]
            own[frames[-1]] += int(count)
            for each in set(frames):
                total[each] += int(count)
    seen = sum(own.values()) or 1
    yield f"{seen} stacks. The share of time in a function itself:"
    yield from (f"  {count / seen:6.1%}  {name}" for name, count in own.most_common(LINES))
    yield "With all that it calls:"
    yield from (f"  {count / seen:6.1%}  {name}" for name, count in total.most_common(2 * LINES))


def _named(frame: str) -> str:
    found = _FRAME.match(frame)
    if found is None:
        return frame
    path = found["file"].rpartition("site-packages/")[2]
    return f"{found['function']} ({path})"


if __name__ == "__main__":
    print("\n".join(summary(Path(sys.argv[1]))))
