"""What came by before in a file, and on which line, at 12 bytes each.

So that a duplicate is found among a million rows in memory that hardly grows with the file. A key
is known by a 64-bit hash. Among a million the chance that any two share one is (10^6)^2 / 2^65 =
3e-8; the file would then be refused, not paid, and a second run hashes anew.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

# Longer blocks are not made: while several become one, all are there twice.
BLOCK_MAX = 200_000
# One byte for each of so many ends of hashes: of a million rows, one in nine then looks as if it
# might have come by before, and only those are searched for.
_MARKS = 1 << 23
_NONE = hash(None)

_Hashes = npt.NDArray[np.int64]
_Lines = npt.NDArray[np.int32]


class Seen:
    """The keys so far, and the line that had each first."""

    def __init__(self) -> None:
        self._marks = np.zeros(_MARKS, np.uint8)
        # Sorted hashes, and the line of each; no hash is in two of them.
        self._blocks: list[tuple[_Hashes, _Lines]] = []

    def repeats(
        self, keys: Sequence[Hashable | None], lines: Sequence[int]
    ) -> Sequence[tuple[int, int]]:
        """Where a key was seen before, and the line that had it first; None is no key."""
        hashes = np.array(list(map(hash, keys)), np.int64)
        # Stable, so that of equal ones the first stays the first.
        order = np.argsort(hashes, kind="stable")
        if (hashes == _NONE).any():
            is_key = np.array([key is not None for key in keys], np.bool_)
            order = order[is_key[order]]
        if not len(order):
            return []
        known, of = hashes[order], np.fromiter(lines, np.int32, len(keys))[order]
        fresh = np.append(True, known[1:] != known[:-1])
        earlier = self._earlier(known)
        if fresh.all() and earlier.max() < 0:
            self._put_by(known, of)
            return []
        # Equal ones stand together, the first of them first.
        starts = np.maximum.accumulate(np.where(fresh, np.arange(len(known)), 0))
        first = np.where(earlier < 0, of[starts], earlier)
        fresh &= earlier < 0
        self._put_by(known[fresh], of[fresh])
        return sorted(zip(order[~fresh].tolist(), first[~fresh].tolist(), strict=True))

    def _earlier(self, known: _Hashes) -> _Lines:
        """For each of those hashes the line that had it in an earlier chunk, or -1; from now on
        all of them are marked.
        """
        found = np.full(len(known), -1, np.int32)
        ends = known & (_MARKS - 1)
        maybe = np.flatnonzero(self._marks[ends])
        self._marks[ends] = 1
        asked = known[maybe]
        for hashes, lines in self._blocks if len(maybe) else ():
            places = np.searchsorted(hashes, asked)
            hits = np.flatnonzero(hashes.take(places, mode="clip") == asked)
            found[maybe[hits]] = lines[places[hits]]
        return found

    def _put_by(self, hashes: _Hashes, lines: _Lines) -> None:
        """A block becomes one with those before it that are not twice as long, so there are few."""
        if not len(hashes):
            return
        size = len(hashes)
        merged = [(hashes, lines)]
        while self._blocks and len(self._blocks[-1][0]) < min(2 * size, BLOCK_MAX - size + 1):
            merged.insert(0, self._blocks.pop())
            size += len(merged[0][0])
        if len(merged) > 1:
            hashes = np.concatenate([known for known, _ in merged])
            lines = np.concatenate([of for _, of in merged])
            order = np.argsort(hashes, kind="stable")
            hashes, lines = hashes[order], lines[order]
        self._blocks.append((hashes, lines))
