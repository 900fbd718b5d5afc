"""A search for hyperparameters with Optuna: each trial is a run with a folder of its own.

    python examples/optuna_search.py                      # on squares that it draws, seconds a trial
    python examples/optuna_search.py run.yaml --trials 30 # on your own configuration

A trial is judged by the validation images (`val_auc_interest` of metrics.csv); the test images have no say.
Needs `pip install optuna`.
"""

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np
import optuna
from PIL import Image
from rich.console import Console

from labelassemble.config import load_config
from labelassemble.run import train_run


def objective(trial: optuna.Trial, config: Path, folder: Path) -> float:
    """Train with the values of a trial, and return the AUROC of its best epoch on the validation images."""
    overrides = [
        f"train.lr={trial.suggest_float('train.lr', 1e-4, 1e-2, log=True)}",
        f"loss.pseudo_weight={trial.suggest_float('loss.pseudo_weight', 0.0, 2.0)}",
        f"loss.warmup_epochs={trial.suggest_int('loss.warmup_epochs', 0, 2)}",
    ]
    run = folder / f"trial-{trial.number}"
    train_run(load_config(config, overrides), run, resume=False, console=Console(quiet=True))
    with (run / "metrics.csv").open(newline="") as file:
        areas = [float(row["val_auc_interest"]) for row in csv.DictReader(file) if row["val_auc_interest"]]
    return max(areas, default=0.5)


def make_squares(folder: Path) -> Path:
    """Write 60 images from two sources, of which one labels squares and the other stripes, and a configuration."""
    rng = np.random.default_rng(0)
    for source, finding in (("north", "square"), ("south", "stripe")):
        lines = [f"path,patient,split,{finding}"]
        for index in range(30):
            pixels = rng.integers(0, 120, (16, 16), dtype=np.uint8)
            if index % 2:
                pixels[
                    (slice(4, 12), slice(4, 12)) if finding == "square" else (slice(None), slice(7, 9))
                ] += 60
            Image.fromarray(pixels).save(folder / f"{source}-{index}.png")
            split = ("train", "val", "test")[index // 2 % 3]
            lines.append(f"{source}-{index}.png,{source}-{index},{split},{index % 2}")
        (folder / f"{source}.csv").write_text("\n".join(lines) + "\n")
    config = folder / "run.yaml"
    config.write_text(
        "sources:\n"
        "  - {name: north, reader: csv, path: north.csv}\n"
        "  - {name: south, reader: csv, path: south.csv}\n"
        "views: {size: 16}\n"
        "model: {backbone: densenet_small}\n"
        "train: {epochs: 2, batch_size: 10}\n"
    )
    return config


def main() -> None:
    """Search, and print the best values."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path, nargs="?", help="configuration; default: squares that are drawn")
    parser.add_argument("--trials", type=int, default=2)
    parser.add_argument("--output", type=Path, help="folder of the trials' runs; default: a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.output or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        config = arguments.config or make_squares(folder)
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
        study.optimize(lambda trial: objective(trial, config, folder), n_trials=arguments.trials)
    print(f"best of {len(study.trials)} trials: AUROC {study.best_value:.3f} on the validation images, by")
    for name, value in study.best_params.items():
        print(f"  {name}={value:.4g}")


if __name__ == "__main__":
    main()
