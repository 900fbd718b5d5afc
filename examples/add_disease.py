"""A disease that somebody labels later: one query more, and the other classes answer as before.

    python examples/add_disease.py

scikit-learn's digits stand for radiographs. A network learns nine digits from an archive that never looked for the
eight; then a clinic labels the eight, and nothing else, on 100 images.
"""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from labelassemble import ClassQueryHead, MaskedBCEWithLogitsLoss
from labelassemble.evaluation import auroc

torch.manual_seed(0)
digits = load_digits()
order = torch.randperm(len(digits.target))  # neighbours in the file are by the same hand
images = torch.tensor(digits.images, dtype=torch.float32)[order][:, None] / 16
states = torch.tensor(digits.target)[order]
archive, clinic, test = slice(0, 800), slice(800, 900), slice(900, None)


def labels_of(*wanted: int) -> Tensor:
    """Return 1 where an image shows the digit, else 0, by column."""
    return torch.stack([states == digit for digit in wanted], dim=1).float()


body = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
KNOWN = [digit for digit in range(10) if digit != 8]
head = ClassQueryHead(16 * 3 * 3, [str(digit) for digit in KNOWN])
criterion = MaskedBCEWithLogitsLoss()


def train(parameters: list[nn.Parameter], part: slice, targets: Tensor, steps: int) -> None:
    """Train some parameters on a part of the images."""
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    for _ in range(steps):
        loss = criterion(head(body(images[part])), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


train([*body.parameters(), *head.parameters()], archive, labels_of(*KNOWN)[archive], steps=60)
with torch.no_grad():
    before = head(body(images[test]))

head.add_classes(["8"])
targets = torch.full((100, 10), torch.nan)  # the clinic looks for the eight and for nothing else
targets[:, 9] = labels_of(8)[clinic, 0]

# Only the new query and the new column of the shared layer may move, so that the others answer as before.
new = torch.tensor([0.0] * 9 + [1.0])
head.queries.register_hook(lambda gradient: gradient * new[:, None])
head.weight.register_hook(lambda gradient: gradient * new)
train([head.queries, head.weight], clinic, targets, steps=60)

with torch.no_grad():
    after = head(body(images[test]))
print("the nine old classes answer as before:", torch.equal(before, after[:, :9]))
scores = after.sigmoid().numpy()
areas = [
    auroc(labels_of(int(name))[test, 0].numpy(), scores[:, column])
    for column, name in enumerate(head.classes)
]
print(f"mean AUROC of the old classes: {sum(areas[:9]) / 9:.3f}")
print(f"AUROC of the new one, by {int(labels_of(8)[clinic].sum())} positives: {areas[9]:.3f}")
