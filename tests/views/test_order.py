import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelassemble.views.order import Order


@given(
    count=st.integers(1, 60), batch_size=st.integers(1, 9), shards=st.integers(1, 4), seed=st.integers(0, 5)
)
def test_a_pass_sees_every_image_and_every_process_takes_as_many_steps(
    count: int, batch_size: int, shards: int, seed: int
) -> None:
    orders = [
        Order(count, batch_size=batch_size, seed=seed, shard=shard, shards=shards) for shard in range(shards)
    ]
    batches = [order.epoch(3) for order in orders]
    assert {len(part) for part in batches} == {orders[0].steps}
    rows = np.concatenate([chosen.rows for part in batches for chosen in part])
    assert sorted(rows.tolist()) == list(range(count))  # once each
    sizes = [len(chosen.rows) for part in batches for chosen in part]
    assert max(sizes) <= min(batch_size, min(sizes) + 1)


@given(
    count=st.integers(1, 60),
    batch_size=st.integers(1, 9),
    shards=st.integers(1, 4),
    steps_per_epoch=st.one_of(st.none(), st.integers(1, 5)),
)
def test_the_parts_of_a_step_are_the_batch_of_one_process(
    count: int, batch_size: int, shards: int, steps_per_epoch: int | None
) -> None:
    alone = Order(count, batch_size=batch_size * shards, seed=0, steps_per_epoch=steps_per_epoch)
    parts = [
        Order(
            count, batch_size=batch_size, seed=0, steps_per_epoch=steps_per_epoch, shard=shard, shards=shards
        )
        for shard in range(shards)
    ]
    assert {order.steps for order in parts} == {alone.steps}
    for step, whole in enumerate(alone.epoch(2)):
        chosen = [order.epoch(2)[step] for order in parts]
        assert np.array_equal(np.concatenate([part.rows for part in chosen]), whole.rows)
        assert np.array_equal(np.concatenate([part.passes for part in chosen]), whole.passes)


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


@pytest.mark.parametrize("shard", [-1, 2])
def test_a_shard_that_does_not_exist_is_refused(shard: int) -> None:
    with pytest.raises(ValueError, match=f"shard must be from 0 to shards - 1, got {shard} of 2"):
        Order(5, batch_size=2, seed=0, shard=shard, shards=2)


def test_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="views need at least one image, got 0"):
        Order(0, batch_size=2, seed=0)
