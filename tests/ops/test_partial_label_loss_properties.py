"""What holds for all inputs of partial_label_loss, over generated shapes, masks, layouts and options."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelassemble.functional import partial_label_loss, partial_label_loss_terms
from labelassemble.ops.partial_label_loss import reference

shapes = st.lists(st.integers(0, 9), min_size=2, max_size=5).map(tuple)
options = st.fixed_dictionaries(
    {
        "threshold": st.sampled_from([0.3, 0.5, 0.8]),
        "temperature": st.sampled_from([1.0, 2.0, 4.0, float("inf")]),
        "pseudo_weight": st.sampled_from([0.0, 0.5, 1.0]),
        "consistency_weight": st.sampled_from([0.0, 1.0, 3.0]),
        "detach_target": st.booleans(),
        "reduction": st.sampled_from(["mean", "sum", "none"]),
    }
)
settings.register_profile("ops", deadline=None, max_examples=150)
settings.load_profile("ops")


@given(
    shape=shapes,
    options=options,
    seed=st.integers(0, 2**31),
    scale=st.sampled_from([0.1, 3.0, 100.0]),
    unknown=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    strong=st.booleans(),
    weighted=st.booleans(),
    swapped=st.booleans(),
)
def test_agrees_with_the_float64_reference(
    shape, options, seed, scale, unknown, strong, weighted, swapped
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def random() -> torch.Tensor:
        tensor = torch.randn(shape, generator=generator, dtype=torch.float64) * scale
        return (tensor.transpose(0, -1).contiguous().transpose(0, -1) if swapped else tensor).float()

    weak, other = random(), random()
    # Logits whose probability rounds across the threshold would be sharpened the other way: move them off it.
    near = (weak.double().sigmoid() - options["threshold"]).abs() < 1e-5
    weak = torch.where(near, weak + 0.1, weak).requires_grad_()
    other = other.requires_grad_()
    targets = torch.rand(shape, generator=generator)
    targets[torch.rand(shape, generator=generator) < unknown] = float("nan")
    by_class = torch.rand(shape[1], generator=generator) + 0.1 if weighted else None
    inputs = [weak, other] if strong else [weak]
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    loss = partial_label_loss(
        weak, other if strong else None, targets, pos_weight=by_class, class_weight=by_class, **options
    )
    want, _ = reference(
        exact[0],
        exact[1] if strong else None,
        targets.double(),
        pos_weight=by_class,
        class_weight=by_class,
        **options,
    )
    torch.testing.assert_close(loss.double(), want, rtol=1e-5, atol=1e-6)
    gradients = torch.autograd.grad(loss.sum(), inputs, allow_unused=True)
    wanted = torch.autograd.grad(want.sum(), exact, allow_unused=True)
    for gradient, expected in zip(gradients, wanted, strict=True):
        if gradient is None:
            assert expected is None or not expected.any()
        else:
            torch.testing.assert_close(gradient.double(), expected, rtol=1e-4, atol=1e-6)


@given(shape=shapes, seed=st.integers(0, 2**31), probability=st.floats(0, 1))
def test_counts_and_signs(shape, seed, probability) -> None:
    generator = torch.Generator().manual_seed(seed)
    weak, strong = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    targets = torch.randint(0, 2, shape, generator=generator)
    targets[torch.rand(shape, generator=generator) < probability] = -1
    terms = partial_label_loss_terms(weak, strong, targets)
    assert terms.known == (targets >= 0).sum()
    assert terms.known + terms.unknown == targets.numel()
    assert terms.bce >= 0
    assert 0 <= terms.pseudo <= 1 / 16  # |a - s(a)| <= 1/t
    assert 0 <= terms.consistency <= 1


@given(seed=st.integers(0, 2**31), rows=st.integers(1, 40))
def test_order_of_the_batch_does_not_matter_but_for_rounding(seed, rows) -> None:
    generator = torch.Generator().manual_seed(seed)
    weak, strong = torch.randn(rows, 3, generator=generator), torch.randn(rows, 3, generator=generator)
    targets = torch.randint(-1, 2, (rows, 3), generator=generator)
    order = torch.randperm(rows, generator=generator)
    torch.testing.assert_close(
        partial_label_loss(weak, strong, targets),
        partial_label_loss(weak[order], strong[order], targets[order]),
    )
