"""Weights of classes in each of the shapes that torch broadcasts over classes."""

from torch import Tensor


def class_vector(values: Tensor | None, logits: Tensor) -> Tensor | None:
    """Return weights of classes as the op takes them: one floating value a class, [C].

    One value is that of every class; [1, C], and [C, 1, ...] with an axis for each spatial one of the logits, are the
    classes' values as torch broadcasts them; integers become float32. What is none of these comes back as it is, and
    the op refuses it. TorchScript compiles this function.

    Args:
        values: weights, or None.
        logits: [B, C, *spatial], whose classes they are of.
    """
    if values is None:
        return None
    if values.dim() == 1 and values.size(0) == logits.size(1) and values.is_floating_point():
        return values
    if not values.is_floating_point():
        values = values.float()
    classes, spatial = logits.size(1), logits.dim() - 2
    if values.numel() == 1:
        return values.reshape(1).expand(classes)
    by_class = values.dim() == spatial + 1 and values.size(0) == classes
    behind_one = values.dim() == spatial + 2 and values.size(0) == 1 and values.size(1) == classes
    if values.numel() == classes and (by_class or behind_one):
        return values.reshape(classes)
    return values
