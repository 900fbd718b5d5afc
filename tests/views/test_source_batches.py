"""Batches that mix sources evenly."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelassemble.errors import LabelAssembleError
from labelassemble.views.sampler import Sampler, SourceBatches


def _sources(counts: list[int]) -> list[str]:
    names = [f"source {index}" for index, count in enumerate(counts) for _ in range(count)]
    return np.random.default_rng(0).permutation(names).tolist()


@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    weights=st.lists(st.integers(1, 50), min_size=6, max_size=6),
    even=st.booleans(),
    batch_size=st.integers(1, 20),
    start=st.integers(0, 10_000),
)
def test_every_source_has_its_share(
    counts: list[int], weights: list[int], even: bool, batch_size: int, start: int
) -> None:
    sources = _sources(counts)
    names = [f"source {index}" for index in range(len(counts))]
    own = [1.0] * len(counts) if even else weights[: len(counts)]
    shares = {name: weight / sum(own) for name, weight in zip(names, own, strict=True)}
    sampler = SourceBatches(sources, batch_size=batch_size, seed=0, shares=None if even else shares)
    images: Counter[str] = Counter()
    for step in range(start, start + 12):
        rows, passes = sampler.batch(step)
        assert len(rows) == len(passes) == batch_size
        images += Counter(sources[row] for row in rows)
    for name in names:  # from any batch on; within two of it, since the first may begin within a turn
        assert abs(images[name] - 12 * batch_size * shares[name]) < 2 + 1e-6


def test_a_half_is_exactly_half_of_every_batch_however_small_the_source() -> None:
    sources = _sources([9, 400, 300])
    sampler = SourceBatches(sources, batch_size=32, seed=0, shares={"source 0": 0.5})
    for step in range(40):
        rows, passes = sampler.batch(step)
        assert Counter(sources[row] for row in rows) == {"source 0": 16, "source 1": 8, "source 2": 8}
        # the same image twice is of two passes, so its views differ
        assert len(set(zip(rows.tolist(), passes.tolist(), strict=True))) == 32


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"clinc": 0.5}, "train.sampling: no source 'clinc' has training images, did you mean 'clinic'"),
        ({"clinic": 0.6, "archive": 0.6}, "must add up to 1 at most, got 1.2"),
        ({"clinic": 1.0}, "the shares add up to 1, which leaves nothing for archive"),
        ({"clinic": 0.5, "archive": 0.4}, "the shares of all sources must add up to 1, got 0.9"),
    ],
)
def test_wrong_shares_are_one_sentence(shares: dict[str, float], message: str) -> None:
    with pytest.raises(LabelAssembleError) as caught:
        SourceBatches(["clinic", "archive"], batch_size=4, seed=0, shares=shares)
    assert message in str(caught.value)


def test_spare_places_go_round_the_sources() -> None:
    sources = _sources([40, 50, 60])
    sampler = SourceBatches(sources, batch_size=8, seed=0)
    seen = Counter(sources[row] for step in range(30) for row in sampler.batch(step)[0])
    assert set(seen.values()) == {80}


def test_a_source_is_seen_pass_after_pass_each_shuffled_anew() -> None:
    sources = _sources([6, 90])
    small = [row for row, name in enumerate(sources) if name == "source 0"]
    sampler = SourceBatches(sources, batch_size=8, seed=0)
    seen = [
        (int(one_pass), int(row))
        for step in range(6)
        for row, one_pass in zip(*sampler.batch(step), strict=True)
        if row in small
    ]
    assert len(seen) == 24
    passes = [[row for one, row in seen if one == number] for number in range(4)]
    assert all(sorted(one) == small for one in passes)
    assert len({tuple(one) for one in passes}) > 1


def test_it_is_a_function_of_seed_epoch_and_step_and_divided_among_processes() -> None:
    sources = _sources([5, 40, 15])

    def epoch(number: int, seed: int = 0, rank: int = 0, world_size: int = 1) -> list[list[int]]:
        sampler = Sampler(60, batch_size=12, seed=seed, rank=rank, world_size=world_size, sources=sources)
        assert sampler.steps == 5  # as many as a pass over the table
        return [chosen.rows.tolist() for chosen in sampler.epoch(number)]

    assert epoch(2) == epoch(2)
    assert epoch(2) != epoch(3)
    assert epoch(2) != epoch(2, seed=1)
    halves = [epoch(2, rank=rank, world_size=2) for rank in (0, 1)]
    assert [a + b for a, b in zip(*halves, strict=True)] == epoch(2)
    for half in halves:  # each process's part is mixed as well
        for rows in half:
            assert Counter(sources[row] for row in rows) == {f"source {index}": 2 for index in range(3)}


def test_a_batch_larger_than_the_table_goes_through_it_again() -> None:
    rows, passes = SourceBatches(_sources([2, 3]), batch_size=50, seed=0).batch(7)
    assert len(set(zip(rows.tolist(), passes.tolist(), strict=True))) == 50


@pytest.mark.parametrize("steps", [None, 7])
def test_an_epoch_goes_on_where_the_last_one_ended(steps: int | None) -> None:
    sources = _sources([10, 30])
    sampler = Sampler(40, batch_size=8, seed=0, steps_per_epoch=steps, sources=sources)
    large = [
        row
        for epoch in range(3)
        for chosen in sampler.epoch(epoch)
        for row in chosen.rows.tolist()
        if sources[row] == "source 1"
    ]
    assert len(set(large[:30])) == 30


def test_steps_may_be_asked_for_in_any_order() -> None:
    sources = _sources([7, 40, 15])
    whole = SourceBatches(sources, batch_size=12, seed=3)
    want = [whole.batch(step) for step in range(12)]
    for step in (11, 0, 5, 4, 11):
        rows, passes = SourceBatches(sources, batch_size=12, seed=3).batch(step)
        again_rows, again_passes = whole.batch(step)
        for got in ((rows, passes), (again_rows, again_passes)):
            assert got[0].tolist() == want[step][0].tolist()
            assert got[1].tolist() == want[step][1].tolist()


def test_an_order_is_made_once_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    original = np.random.default_rng

    def noting(seed: list[int]) -> np.random.Generator:
        made.append(tuple(seed))
        return original(seed)

    sources = ["a"] * 500 + ["b"] * 500
    sampler = Sampler(1000, batch_size=10, seed=0, sources=sources)
    monkeypatch.setattr(np.random, "default_rng", noting)
    sampler.epoch(0)
    assert len(made) == 2
