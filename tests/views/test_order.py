import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelassemble.views.order import Order


@given(
    count=st.integers(1, 60),
    batch_size=st.integers(1, 9),
    shards=st.integers(1, 4),
    parts=st.integers(1, 3),
    seed=st.integers(0, 5),
)
def test_processes_divide_the_batches_of_one_and_a_pass_sees_every_image_once(
    count: int, batch_size: int, shards: int, parts: int, seed: int
) -> None:
    alone = Order(count, batch_size=batch_size, seed=seed)
    orders = [
        Order(count, batch_size=batch_size, seed=seed, shard=shard, shards=shards, parts=parts)
        for shard in range(shards)
    ]
    whole, divided = alone.epoch(3), [order.epoch(3) for order in orders]
    assert {order.steps for order in orders} == {alone.steps} == {len(whole)}
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
    whole = Order(32, batch_size=16, seed=0).epoch(0)[1].rows
    shares = [Order(32, batch_size=16, seed=0, shard=s, shards=2, parts=2).epoch(0)[1].rows for s in (0, 1)]
    for part in (0, 1):
        together = np.concatenate([share[4 * part : 4 * part + 4] for share in shares])
        assert np.array_equal(together, whole[8 * part : 8 * part + 8])


def test_epochs_are_shuffled_anew_and_repeat_by_their_number() -> None:
    order = Order(50, batch_size=8, seed=1)
    first, second = order.epoch(0), order.epoch(1)
    assert not np.array_equal(first[0].rows, second[0].rows)
    assert np.array_equal(first[2].rows, Order(50, batch_size=8, seed=1).epoch(0)[2].rows)
    assert not np.array_equal(first[0].rows, Order(50, batch_size=8, seed=2).epoch(0)[0].rows)
    assert {int(one) for chosen in second for one in chosen.passes} == {1}


def test_epochs_of_a_number_of_steps_follow_one_another_over_the_table() -> None:
    order = Order(11, batch_size=4, seed=0, steps_per_epoch=2)
    chosen = [batch for epoch in range(4) for batch in order.epoch(epoch)]
    assert [len(batch.rows) for batch in chosen] == [4] * 8
    seen = [(int(p), int(r)) for batch in chosen for p, r in zip(batch.passes, batch.rows, strict=True)]
    assert sorted(seen[:22]) == [(p, r) for p in (0, 1) for r in range(11)]  # two whole passes, then a part
    assert len(set(seen)) == 32


def test_processes_divide_each_step_of_an_epoch_of_a_number_of_steps() -> None:
    whole = Order(11, batch_size=4, seed=0, steps_per_epoch=3).epoch(1)
    halves = [Order(11, batch_size=4, seed=0, steps_per_epoch=3, shard=s, shards=2).epoch(1) for s in (0, 1)]
    for step in range(3):
        together = np.concatenate([halves[0][step].rows, halves[1][step].rows])
        assert np.array_equal(together, whole[step].rows)


@pytest.mark.parametrize("shard", [-1, 2])
def test_a_shard_that_does_not_exist_is_refused(shard: int) -> None:
    with pytest.raises(ValueError, match=f"shard must be from 0 to shards - 1, got {shard} of 2"):
        Order(5, batch_size=2, seed=0, shard=shard, shards=2)


def test_sources_must_be_as_many_as_images() -> None:
    with pytest.raises(ValueError, match="sources must name one for each image, got 2 for 3"):
        Order(3, batch_size=2, seed=0, sources=["a", "b"])


def test_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="views need at least one image, got 0"):
        Order(0, batch_size=2, seed=0)
