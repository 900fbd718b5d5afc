"""CT phantoms with a truth that is known in every voxel, through the whole path for volumes, from NIfTI to C++.

    python benchmarks/phantoms.py --masks DIR/masks.npz --cases DIR/cases.csv -o benchmarks/results/phantoms_cpu.md

There is no CT here: kidneys and tumours have the real shapes of KiTS19's masks (uint8 [z, y, x], 1 kidney, 2 tumour;
the table has `case` and `spacing_z_mm`, ...), and every intensity is made up. Air is -1000 HU, the body an ellipse of
40 HU in which smooth noise of 15 HU stands for its texture, kidneys have 150 HU, tumours 90 HU, and five balls of 90
HU lie elsewhere, so that brightness alone is no tumour; then a Gaussian blur of a voxel and noise of 20 HU. Every
second volume is stored with its axes to other sides. One source draws kidneys alone, the other one tumours alone. The
same network is trained on that, on the same with what is not drawn taken as background, and on full masks. The test
cases are answered by Python and by the C++ program, in the geometry of their files, and compared with the truth
there.

It shows that the path is right, and nothing about patients.
"""

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

import harness
import nibabel
import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

CLASSES = ["kidney", "tumour"]
ARMS = {
    "partial": "one source draws kidneys, the other tumours",
    "background": "the same, not drawn taken as background",
    "full": "both sources draw both",
}


def phantom(mask: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.int16]:
    """Return the intensities in HU of a phantom with these organs, axes as the mask's."""
    axes = np.ogrid[tuple(slice(-1, 1, complex(0, size)) for size in mask.shape)]
    body = (axes[1] / 0.95) ** 2 + (axes[2] / 0.98) ** 2 < 1
    texture = gaussian_filter(rng.standard_normal(mask.shape), 4)
    values = np.where(body, 40 + 15 * texture / texture.std(), -1000.0)
    places = np.argwhere(np.broadcast_to(body, mask.shape) & (mask == 0))
    grids = np.ogrid[tuple(slice(0, size) for size in mask.shape)]
    for centre in places[rng.choice(len(places), 5, replace=False)]:
        distance = sum((grid - at) ** 2 for grid, at in zip(grids, centre, strict=True))
        values[(distance < rng.uniform(2, 6) ** 2) & (mask == 0)] = 90
    values[mask == 1], values[mask == 2] = 150, 90
    return np.round(gaussian_filter(values, 1) + 20 * rng.standard_normal(mask.shape)).astype(np.int16)


def write_cases(masks: Path, cases: Path, folder: Path) -> pd.DataFrame:
    """Write volumes, full masks and masks of one class; return a row a case with its paths, part and split."""
    table, rows = pd.read_csv(cases), []
    rng = np.random.default_rng(0)
    with np.load(masks) as arrays:
        for index, case in enumerate(table.itertuples()):
            drawn = arrays[case.case]
            turned = index % 2 == 1
            spacing = np.array([case.spacing_x_mm, case.spacing_y_mm, case.spacing_z_mm])
            affine = np.diag([*(spacing * ([-1, -1, 1] if turned else [1, 1, 1])), 1.0])
            values = phantom(drawn, rng)
            part = CLASSES[index // 2 % 2]
            kept = {
                "full": drawn,
                "part": np.where(drawn == 1 + CLASSES.index(part), drawn, 0).astype(np.uint8),
            }
            for kind, array in {"image": values, **kept}.items():
                path = folder / kind / f"{case.case}.nii.gz"
                path.parent.mkdir(parents=True, exist_ok=True)
                nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(array.T), affine), path)
            split = "test" if index % 5 == 4 else "val" if index % 5 == 3 else "train"
            rows.append({"name": case.case, "patient": case.case, "split": split, "part": part})
    return pd.DataFrame(rows)


def configuration(arm: str, table: pd.DataFrame, folder: Path, steps: int) -> Path:
    """Write the tables and the configuration of an arm, and return the latter."""
    sources = []
    for part in CLASSES:
        # Partial masks are trained on; what the arms are compared by is drawn in full.
        own, whole = table["part"] == part, (table["split"] != "train") | (arm == "full")
        for kind, chosen in (("full", table[own & whole]), ("part", table[own & ~whole])):
            if chosen.empty:
                continue
            path = folder / f"{arm}-{part}-{kind}.csv"
            files = {
                "image": [f"image/{name}.nii.gz" for name in chosen["name"]],
                "mask": [f"{kind}/{name}.nii.gz" for name in chosen["name"]],
            }
            chosen.assign(**files).drop(columns="part").to_csv(path, index=False)
            values = dict(enumerate(CLASSES, start=1))
            if kind == "part" and arm == "partial":
                values = {1 + CLASSES.index(part): part}
            sources.append(
                {
                    "name": f"{part}-{kind}",
                    "reader": "volumes",
                    "path": path.name,
                    "masks": {"labels": values},
                }
            )
    config = {
        "sources": sources,
        "classes": CLASSES,
        "volumes": {"spacing": [4.0, 4.0, 4.0], "window": [-100, 240], "patch": [32, 32, 32]},
        "model": {"backbone": "dynunet_small"},
        "loss": {"warmup_epochs": 1},
        "train": {
            "epochs": 4,
            "steps_per_epoch": steps // 4,
            "batch_size": 2,
            "lr": 1e-3,
            "early_stop": None,
        },
    }
    path = folder / f"{arm}.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def labelassemble(*arguments: str | Path, folder: Path) -> float:
    """Run a command in a folder; return its seconds."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "labelassemble", *map(str, arguments)], cwd=folder, check=True)
    return time.perf_counter() - began


def dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Return the Dice coefficient."""
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


def answers(arm: str, names: list[str], folder: Path) -> dict[str, float]:
    """Return Dice of each class over all test cases, and by how much C++ and Python differ."""
    run = folder / "runs" / arm
    labelassemble("export", run, folder=folder)
    predict = (
        shutil.which("labelassemble-predict", path=str(Path(sys.executable).parent))
        or "labelassemble-predict"
    )
    masks: list[tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]] = []
    apart, seconds = 0.0, {"python": 0.0, "cpp": 0.0}
    for name in names:
        image = folder / "image" / f"{name}.nii.gz"
        ours, theirs, chances = (folder / f"{arm}-{kind}.nii.gz" for kind in ("python", "cpp", "chances"))
        for old in (ours, theirs, chances):
            old.unlink(missing_ok=True)
        seconds["python"] += labelassemble("predict", run, image, "-o", ours, folder=folder)
        began = time.perf_counter()
        subprocess.run(
            [
                predict,
                str(run / "model.pt"),
                str(image),
                "--mask",
                str(theirs),
                "--probabilities",
                str(chances),
            ],
            check=True,
        )
        seconds["cpp"] += time.perf_counter() - began
        maps = [nibabel.load(path) for path in (folder / f"{arm}-python_probabilities.nii.gz", chances)]
        for each in maps:
            assert np.allclose(each.affine, nibabel.load(image).affine)
        apart = max(apart, float(np.abs(maps[0].get_fdata() - maps[1].get_fdata()).max()))
        masks.append(
            tuple(
                np.asarray(nibabel.load(path).dataobj)
                for path in (ours, theirs, folder / "full" / f"{name}.nii.gz")
            )
        )
    result = {"probabilities differ by": apart} | {f"{key}, s": value for key, value in seconds.items()}
    result["voxels of masks that differ"] = sum(int((a != b).sum()) for a, b, _ in masks)
    for value, name in enumerate(CLASSES, start=1):
        joined = [np.concatenate([(each[i] == value).ravel() for each in masks]) for i in (0, 2)]
        result[f"dice {name}"] = dice(*joined)
    return result


def main() -> None:
    """Make the phantoms, train, answer, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--masks", type=Path, required=True)
    parser.add_argument("--cases", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/phantoms"))
    parser.add_argument("--steps", type=int, default=400, help="of each training")
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    folder = given.work.resolve()
    table = write_cases(given.masks, given.cases, folder)
    names = table.loc[table["split"] == "test", "name"].tolist()
    lines = [
        f"{harness.machine()}; {len(table)} phantoms, {len(names)} of them for the test; {given.steps} steps of "
        "two crops of 32x32x32 voxels of 4 mm",
        "",
        "| training masks | Dice kidney | Dice tumour | C++ - Python, probabilities | voxels of masks that differ "
        "| Python, s | C++, s |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for arm, title in ARMS.items():
        run = folder / "runs" / arm
        shutil.rmtree(run, ignore_errors=True)
        labelassemble("train", configuration(arm, table, folder, given.steps), "-o", run, folder=folder)
        found = answers(arm, names, folder)
        lines.append(
            f"| {title} | {found['dice kidney']:.3f} | {found['dice tumour']:.3f} "
            f"| {found['probabilities differ by']:.1e} | {found['voxels of masks that differ']} "
            f"| {found['python, s']:.1f} | {found['cpp, s']:.1f} |"
        )
        print("\n".join(lines), flush=True)
    if given.output:
        given.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
