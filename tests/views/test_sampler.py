import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelassemble.views.sampler import Sampler


@given(
    count=st.integers(1, 60),
    batch_size=st.integers(1, 9),
    world_size=st.integers(1, 4),
    parts=st.integers(1, 3),
    seed=st.integers(0, 5),
)
def test_processes_divide_the_batches_of_one_and_a_pass_sees_every_image_once(
    count: int, batch_size: int, world_size: int, parts: int, seed: int
) -> None:
    alone = Sampler(count, batch_size=batch_size, seed=seed)
    samplers = [
        Sampler(count, batch_size=batch_size, seed=seed, rank=rank, world_size=world_size, parts=parts)
        for rank in range(world_size)
    ]
    whole, divided = alone.epoch(3), [sampler.epoch(3) for sampler in samplers]
    assert {sampler.steps for sampler in samplers} == {alone.steps} == {len(whole)}
    assert sorted(row for chosen in whole for row in chosen.rows.tolist()) == list(range(count))
    for step, chosen in enumerate(whole):
        together = [row for part in divided for row in part[step].rows.tolist()]
        assert sorted(together) == sorted(chosen.rows.tolist())
        sizes = [len(part[step].rows) for part in divided]
        assert max(sizes) - min(sizes) <= parts  # an image more for each part, at most
    sizes = [len(chosen.rows) for chosen in whole]
    assert min(sizes) >= 1
    assert max(sizes) <= min(batch_size, min(sizes) + 1)


def test_a_part_of_a_batch_is_made_of_the_same_images_whatever_the_number_of_processes() -> None:
    whole = Sampler(32, batch_size=16, seed=0).epoch(0)[1].rows
    shares = [
        Sampler(32, batch_size=16, seed=0, rank=s, world_size=2, parts=2).epoch(0)[1].rows for s in (0, 1)
    ]
    for part in (0, 1):
        together = np.concatenate([share[4 * part : 4 * part + 4] for share in shares])
        assert np.array_equal(together, whole[8 * part : 8 * part + 8])


def test_epochs_are_shuffled_anew_and_repeat_by_their_number() -> None:
    sampler = Sampler(50, batch_size=8, seed=1)
    first, second = sampler.epoch(0), sampler.epoch(1)
    assert not np.array_equal(first[0].rows, second[0].rows)
    assert np.array_equal(first[2].rows, Sampler(50, batch_size=8, seed=1).epoch(0)[2].rows)
    assert not np.array_equal(first[0].rows, Sampler(50, batch_size=8, seed=2).epoch(0)[0].rows)
    assert {int(one) for chosen in second for one in chosen.passes} == {1}


def test_epochs_of_a_number_of_steps_follow_one_another_over_the_table() -> None:
    sampler = Sampler(11, batch_size=4, seed=0, steps_per_epoch=2)
    chosen = [batch for epoch in range(4) for batch in sampler.epoch(epoch)]
    assert [len(batch.rows) for batch in chosen] == [4] * 8
    seen = [(int(p), int(r)) for batch in chosen for p, r in zip(batch.passes, batch.rows, strict=True)]
    assert sorted(seen[:22]) == [(p, r) for p in (0, 1) for r in range(11)]  # two whole passes, then a part
    assert len(set(seen)) == 32


def test_processes_divide_each_step_of_an_epoch_of_a_number_of_steps() -> None:
    whole = Sampler(11, batch_size=4, seed=0, steps_per_epoch=3).epoch(1)
    halves = [
        Sampler(11, batch_size=4, seed=0, steps_per_epoch=3, rank=s, world_size=2).epoch(1) for s in (0, 1)
    ]
    for step in range(3):
        together = np.concatenate([halves[0][step].rows, halves[1][step].rows])
        assert np.array_equal(together, whole[step].rows)


@pytest.mark.parametrize("rank", [-1, 2])
def test_a_shard_that_does_not_exist_is_refused(rank: int) -> None:
    with pytest.raises(ValueError, match=f"rank must be from 0 to world_size - 1, got {rank} of 2"):
        Sampler(5, batch_size=2, seed=0, rank=rank, world_size=2)


def test_sources_must_be_as_many_as_images() -> None:
    with pytest.raises(ValueError, match="sources must name one for each image, got 2 for 3"):
        Sampler(3, batch_size=2, seed=0, sources=["a", "b"])


def test_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="views need at least one image, got 0"):
        Sampler(0, batch_size=2, seed=0)
