"""What bfloat16 costs: AUROC of an export in float32 and in bfloat16 on the same held-out radiographs.

    python benchmarks/export_precision.py pneumoniamnist.npz

The file has MedMNIST's layout (train_images, train_labels, test_images, test_labels). A densenet_small is trained for
a few epochs, exported twice, and both exports answer the test images. Another number of threads trains another network,
since last digits differ.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from labelassemble import AssembleNet, MaskedBCEWithLogitsLoss
from labelassemble.export.parts import take_apart
from labelassemble.export.torchscript import write_torchscript
from labelassemble.views.preprocess import Preprocess


def main() -> None:
    """Train, export twice, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    data = np.load(given.file)
    names = sorted({int(label) for label in data["train_labels"].reshape(-1)})
    positive = names[1:] if len(names) == 2 else names  # two classes are one finding
    classes = [f"label {name}" for name in positive]
    size = data["train_images"].shape[1]
    preprocess = Preprocess(1, size)

    def tensors(part: str) -> tuple[torch.Tensor, torch.Tensor]:
        labels = data[f"{part}_labels"].reshape(-1)
        targets = np.stack([labels == name for name in positive], 1).astype(np.float32)
        return torch.from_numpy(data[f"{part}_images"])[:, None], torch.from_numpy(targets)

    images, targets = tensors("train")
    net = AssembleNet("densenet_small", classes=classes, in_channels=1)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    loss = MaskedBCEWithLogitsLoss()
    for _ in range(given.epochs):
        for rows in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            loss(net(preprocess(images[rows])), targets[rows]).backward()
            optimizer.step()
    net.eval()

    images, targets = tensors("test")
    answers = {}
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("float32", "bfloat16"):
            parts = take_apart(
                net,
                classes=classes,
                preprocess=preprocess,
                images=[image.numpy() for image in images[:16]],
                precision=precision,
            )
            path = Path(folder) / f"{precision}.pt"
            print(write_torchscript(parts, path))
            model = torch.jit.load(path)
            with torch.inference_mode(), torch.jit.optimized_execution(False):
                answers[precision] = torch.cat([model(part) for part in images.split(64)]).numpy()
    worst = np.abs(answers["bfloat16"] - answers["float32"]).max()
    aurocs = {
        precision: np.mean([roc_auc_score(targets[:, c], answer[:, c]) for c in range(len(classes))])
        for precision, answer in answers.items()
    }
    print(
        f"seed {given.seed}: {len(images)} test images, {len(classes)} classes; AUROC float32 "
        f"{aurocs['float32']:.5f}, bfloat16 {aurocs['bfloat16']:.5f}, difference "
        f"{aurocs['bfloat16'] - aurocs['float32']:+.5f}; largest difference of a probability {worst:.4f}"
    )


if __name__ == "__main__":
    main()
