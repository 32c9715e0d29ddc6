"""What came by before is found, however long ago, and in little memory."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Hashable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches import seen
from batches.seen import Seen

Chunk = Sequence[Hashable | None]
keys = st.lists(st.none() | st.text("abcd", min_size=1, max_size=3), max_size=25)


def check_against_a_dictionary(chunks: Sequence[Chunk], *, first_line: int = 1) -> Seen:
    ours, known, line = Seen(), dict[object, int](), first_line
    for chunk in chunks:
        # Some rows have several lines.
        lines = [line + at + at // 3 for at in range(len(chunk))]
        line += 2 * len(chunk)
        expected = [
            (at, known[key])
            for at, key in enumerate(chunk)
            if key is not None and known.setdefault(key, lines[at]) != lines[at]
        ]
        assert list(ours.repeats(chunk, lines)) == expected
    return ours


@given(st.lists(keys, max_size=20), st.sampled_from([1, 8, 64]), st.integers(0, 2))
def test_it_finds_what_a_dictionary_finds(chunks: list[Chunk], marks: int, first: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seen, "BLOCK_MAX", 30)
        # Many keys share a mark: one that is set proves nothing.
        patch.setattr(seen, "_MARKS", marks)
        check_against_a_dictionary(chunks, first_line=first)


@pytest.mark.parametrize("seed", range(6))
def test_it_finds_what_a_dictionary_finds_in_hundreds_of_chunks(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(seen, "BLOCK_MAX", chance.choice([50, 2_000, 100_000]))
    monkeypatch.setattr(seen, "_MARKS", chance.choice([1 << 6, 1 << 12, 1 << 23]))
    most = chance.choice([3_000, 50_000, 1_000_000])
    share_of_nones = chance.choice([0, 0, 0.02, 0.5])
    # Short keys and long ones, texts and what is none.
    kinds = [str, "SAL-{:010}".format, lambda n: (n, "other"), lambda n: b"B-%d" % n, lambda n: n]
    chunks: list[Chunk] = []
    for _ in range(400):
        size = chance.choice([1, 2, 3, 10, 100, 500]) if chance.random() < 0.95 else 4_000
        kind = chance.choice(kinds[:2] if seed % 2 else kinds)
        chunks.append(
            [
                None if chance.random() < share_of_nones else kind(chance.randrange(most))
                for _ in range(size)
            ]
        )
    check_against_a_dictionary(chunks)


def test_none_is_told_from_a_key_of_the_same_hash() -> None:
    like_none = hash(None)
    check_against_a_dictionary([[None, like_none, None], [like_none, None], [None]])


@pytest.mark.parametrize("sizes", [[1] * 3_000, [100] * 300, range(400, 0, -1)])
def test_small_chunks_become_few_blocks(sizes: Sequence[int]) -> None:
    numbers = iter(range(10**6))
    ours = check_against_a_dictionary([[f"R-{next(numbers)}" for _ in range(n)] for n in sizes])
    lengths = [len(hashes) for hashes, _ in ours._blocks]
    assert sum(lengths) == sum(sizes)
    assert all(long >= 2 * short for long, short in pairwise(lengths))


def test_hundreds_of_thousands_take_a_few_megabytes() -> None:
    ours, lines = Seen(), range(2_000)
    tracemalloc.start()
    try:
        for first in range(0, 400_000, 2_000):
            chunk = [f"SAL-{first + at}" for at in range(2_000)]
            assert list(ours.repeats(chunk, [first + at for at in lines])) == []
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # 12 bytes each and the marks; for a moment, two blocks as one besides.
    assert kept < 400_000 * 12 + 500_000 + seen._MARKS
    assert most < kept + seen.BLOCK_MAX * 40
    assert all(len(hashes) <= seen.BLOCK_MAX for hashes, _ in ours._blocks)
