"""What came by before in a file, and on which line, at 12 bytes each.

So that a duplicate is found among a million rows in memory that hardly grows with the file. A key
is known by a 64-bit hash. Among a million the chance that any two share one is (10^6)^2 / 2^65 =
3e-8; the file would then be refused, not paid, and a second run hashes anew.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

RECENT_MAX = 50_000
# Longer blocks are not made: while two become one, both are there twice.
BLOCK_MAX = 200_000
# One byte for each of so many ends of hashes: of a million rows, one in nine then looks as if it
# might have come by before, and only those are searched for.
_MARKS = 1 << 23


class Seen:
    """The keys so far, and the line that had each first."""

    def __init__(self) -> None:
        self._marks = np.zeros(_MARKS, np.uint8)
        self._recent: dict[int, int] = {}
        # Blocks of older ones: sorted hashes, and the line of each.
        self._older: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]] = []

    def repeats(
        self, keys: Sequence[Hashable | None], lines: Sequence[int]
    ) -> Iterator[tuple[int, int]]:
        """Where a key was seen before, and the line that had it first; None is no key."""
        hashes = [None if key is None else hash(key) for key in keys]
        there = [at for at, key in enumerate(hashes) if key is not None]
        known = np.array([hashes[at] for at in there], np.int64)
        ends = known & (_MARKS - 1)
        maybe = np.flatnonzero(self._marks[ends])
        self._marks[ends] = 1
        recent = self._recent
        earlier = self._earlier(known[maybe], [there[at] for at in maybe.tolist()])
        fresh = dict(zip(hashes, lines, strict=True))
        fresh.pop(None, None)
        if (
            not earlier
            and len(fresh) == len(there)
            and not any(key in recent for key in known[maybe].tolist())
        ):
            recent.update(fresh)  # type: ignore[arg-type]  # None is not among them
            self._put_by()
            return
        for at, (key, line) in enumerate(zip(hashes, lines, strict=True)):
            if key is None:
                continue
            first = earlier.get(at) or recent.setdefault(key, line)
            if first != line:
                yield at, first
        self._put_by()

    def _earlier(self, asked: npt.NDArray[np.int64], at: Sequence[int]) -> dict[int, int]:
        """The lines of those hashes among the older ones, by the places that they are asked for."""
        found: dict[int, int] = {}
        for known, lines in self._older:
            places = np.searchsorted(known, asked)
            places[places == len(known)] = 0
            hits = np.flatnonzero(known[places] == asked)
            found.update((at[hit], int(lines[places[hit]])) for hit in hits.tolist())
        return found

    def _put_by(self) -> None:
        if len(self._recent) <= RECENT_MAX:
            return
        hashes = np.fromiter(self._recent.keys(), np.int64, len(self._recent))
        lines = np.fromiter(self._recent.values(), np.int32, len(self._recent))
        self._recent = {}
        while self._older and len(self._older[-1][0]) + len(hashes) <= BLOCK_MAX:
            known, of = self._older.pop()
            hashes, lines = np.concatenate([known, hashes]), np.concatenate([of, lines])
        order = np.argsort(hashes, kind="stable")
        self._older.append((hashes[order], lines[order]))
