"""The ops as functions: what `PartialLabelLoss` and `ClassQueryHead` call."""

from labelassemble.ops.class_query_logits import class_query_logits
from labelassemble.ops.counts import LossCounts, global_counts
from labelassemble.ops.excluded import excluded
from labelassemble.ops.partial_label_loss import (
    LossTerms,
    masked_bce_with_logits,
    partial_label_loss,
    partial_label_loss_terms,
)
from labelassemble.ops.pooled_class_query_logits import pooled_class_query_logits
from labelassemble.ops.sharpen import sharpen

__all__ = [
    "LossCounts",
    "LossTerms",
    "class_query_logits",
    "excluded",
    "global_counts",
    "masked_bce_with_logits",
    "partial_label_loss",
    "partial_label_loss_terms",
    "pooled_class_query_logits",
    "sharpen",
]
