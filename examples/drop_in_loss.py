"""An ordinary training loop whose targets are partly unknown: two lines change.

    python examples/drop_in_loss.py

scikit-learn's digits, split between two sources: one labels the threes, the other the eights. With
nn.BCEWithLogitsLoss the first unknown target makes the loss NaN.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

from labelassemble import PartialLabelLoss
from labelassemble.evaluation import auroc

torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
labels = torch.stack([torch.tensor(digits.target) == digit for digit in (3, 8)], dim=1).float()
train, test = slice(0, 600), slice(600, None)

targets = labels[train].clone()
targets[0::2, 1] = torch.nan  # the first source never looked for eights
targets[1::2, 0] = torch.nan  # the second one never for threes

model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 6 * 6, 2))
criterion = PartialLabelLoss()  # was: nn.BCEWithLogitsLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

for step in range(60):
    weak = images[train] + 0.02 * torch.randn_like(images[train])
    strong = images[train] + 0.20 * torch.randn_like(images[train])
    ramp = 0.0 if step < 20 else 1.0  # a warm-up with known labels alone
    criterion.pseudo_weight = criterion.consistency_weight = ramp
    loss = criterion(model(weak), model(strong), targets)  # was: criterion(model(weak), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

with torch.no_grad():
    terms = criterion.terms(model(images[train]), None, targets)
    print(f"{int(terms.known)} labels are known, {int(terms.unknown)} are not")
    scores = model(images[test]).sigmoid().numpy()
for column, name in enumerate(("three", "eight")):
    print(f"AUROC of {name}: {auroc(labels[test, column].numpy(), scores[:, column]):.3f}")
