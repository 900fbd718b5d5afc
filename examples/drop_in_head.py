"""A classifier whose classes are learnable queries: one is asked for by name, one is added later.

python examples/drop_in_head.py
"""

import torch

from labelassemble import ClassQueryHead

torch.manual_seed(0)
features = torch.randn(8, 1024)  # of 8 images, from any backbone

head = ClassQueryHead(1024, ["Nodule", "Edema", "COVID-19"])  # was: nn.Linear(1024, 3)
logits = head(features)
print("all classes:", tuple(logits.shape))
print("one class:", tuple(head(features, classes=["Edema"]).shape))

head.add_classes(["Hernia"])  # a finding that somebody labels later
after = head(features)
print("with Hernia:", tuple(after.shape))
print("the others answer as before:", torch.allclose(after[:, :3], logits, atol=1e-5))

linear = head.to_linear()  # for inference: queries and shared layer become one matrix
print("as nn.Linear:", tuple(linear.weight.shape), torch.allclose(linear(features), after, atol=1e-4))
print("similarity of the queries of Nodule and Edema:", round(float(head.similarity()[0, 1]), 3))
