"""Assembling large tables: seconds, bytes a row and peak memory.

    python benchmarks/assemble.py                 ChestX-ray14's and CheXpert's full tables (112,120 + 224,316 rows)
    python benchmarks/assemble.py --rows 5000000  one CSV of so many rows and 20 classes

The tables are generated in the publishers' formats with the published numbers of rows, patients and labels per class;
no image is touched. Each case runs in a fresh process on one core, so that the peak is its own. `pandas_read_csv_s` is
what pandas takes to read the same files without checking, aligning or splitting anything: the bound to hold this
against.
"""

import argparse
import csv
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas

from labelassemble.data import ChestXray14Source, CheXpertSource, CsvSource, Source, Table, assemble
from labelassemble.data.readers.chestxray14 import CHESTXRAY14_CLASSES
from labelassemble.data.readers.chexpert import CHEXPERT_CLASSES

# positives of each class among 112,120 images (Wang et al. 2017, as published with the data)
CHESTXRAY14_POSITIVES = (11559, 2776, 13317, 19894, 5782, 6331, 1431, 5302, 4667, 2303, 2516, 1686, 3385, 227)
# positive, uncertain and negative per class among CheXpert's 223,414 training images
CHEXPERT_COUNTS = (
    (22381, 0, 0),
    (10798, 12403, 21638),
    (27000, 8087, 11116),
    (105581, 5598, 6599),
    (9186, 1488, 1270),
    (52246, 12984, 20726),
    (14783, 27742, 28097),
    (6039, 18770, 2799),
    (33376, 33739, 1328),
    (19448, 3145, 56341),
    (86187, 11628, 35396),
    (3523, 2653, 316),
    (9040, 642, 2512),
    (116001, 1079, 6137),
)
random = np.random.default_rng(0)


def write_chestxray14(root: Path, rows: int = 112_120, patients: int = 30_805, test: int = 25_596) -> None:
    """Write ChestX-ray14's table and lists."""
    patient = np.sort(random.integers(1, patients + 1, rows))
    positive = random.random((rows, 14)) < np.array(CHESTXRAY14_POSITIVES) / rows
    names = [f"{number:08}_{index:06}.png" for index, number in enumerate(patient)]
    with (root / "Data_Entry_2017.csv").open("w") as file:
        file.write(
            "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
            "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n"
        )
        for name, number, row in zip(names, patient, positive, strict=True):
            words = "|".join(CHESTXRAY14_CLASSES[index] for index in np.flatnonzero(row)) or "No Finding"
            file.write(f"{name},{words},0,{number},058Y,M,PA,2682,2749,0.143,0.143,\n")
    (root / "train_val_list.txt").write_text("\n".join(names[:-test]) + "\n")
    (root / "test_list.txt").write_text("\n".join(names[-test:]) + "\n")


def write_chexpert(root: Path, rows: int = 224_316, patients: int = 64_740, valid: int = 234) -> None:
    """Write CheXpert's two tables, `rows` in all."""
    shares = np.cumsum(np.array(CHEXPERT_COUNTS), axis=1) / 223_414
    patient = np.sort(random.integers(1, patients + 1, rows))
    draw = random.random((rows, 14, 1))
    cells = np.array(["1.0", "-1.0", "0.0", ""])[(draw >= shares).sum(axis=2)]
    for part, chosen in (("train", slice(0, rows - valid)), ("valid", slice(rows - valid, rows))):
        with (root / f"{part}.csv").open("w") as file:
            file.write("Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(CHEXPERT_CLASSES) + "\n")
            for index, (number, row) in enumerate(zip(patient[chosen], cells[chosen], strict=True)):
                path = f"CheXpert-v1.0-small/{part}/patient{number:05}/study{index}/view1_frontal.jpg"
                file.write(f"{path},Female,68,Frontal,AP,{','.join(row)}\n")


def write_csv(path: Path, rows: int, classes: int = 20) -> None:
    """Write a user's CSV: path, patient and `classes` columns, a fifth of the cells known."""
    states = np.array(["1", "0", "", "", "", "", "", "-2", "", ""], dtype=object)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "patient", *(f"class {index}" for index in range(classes))])
        for first in range(0, rows, 100_000):
            numbers = range(first, min(rows, first + 100_000))
            cells = states[random.integers(0, 10, (len(numbers), classes))].tolist()
            writer.writerows(
                [f"images/{number % 1000:03}/{number:08}.png", f"p{number // 4:07}", *row]
                for number, row in zip(numbers, cells, strict=True)
            )


def table_bytes(table: Table) -> int:
    """Return how much memory the table's arrays take."""
    arrays = (
        table.paths,
        table.names,
        table.groups,
        table.splits,
        table.sources,
        table.labels,
        table.origins,
    )
    return int(sum(array.nbytes for array in arrays))


def measure(folder: Path, case: str) -> None:
    """Assemble what lies in `folder`, write it as CSV, and print one line of figures."""
    if case == "thorax":
        files = ["Data_Entry_2017.csv", "train.csv", "valid.csv"]
        sources: list[Source] = [
            ChestXray14Source(name="nih", root=folder),
            CheXpertSource(name="chexpert", root=folder),
        ]
    else:
        files = ["labels.csv"]
        sources = [CsvSource(name="local", path=folder / "labels.csv")]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, start_cpu = time.perf_counter(), time.process_time()
    assembly = assemble(sources)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    assembly.table.to_csv(folder / "table.csv")
    written = time.perf_counter() - start
    start = time.perf_counter()
    for file in files:
        pandas.read_csv(folder / file)
    read = time.perf_counter() - start
    rows = len(assembly.table)
    figures = (
        f"{seconds:.2f}",
        f"{cpu_seconds:.2f}",
        f"{table_bytes(assembly.table) / rows:.0f}",
        f"{peak / 1024:.0f}",
        f"{before / 1024:.0f}",
        f"{written:.2f}",
        f"{read:.2f}",
    )
    print(case, rows, len(assembly.table.classes), *figures, sep=",", flush=True)


def main() -> None:
    """Generate the tables and measure each case in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--rows", type=int, help="measure one CSV of so many rows instead of the thorax tables"
    )
    parser.add_argument("--measure", nargs=2, metavar=("FOLDER", "CASE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(Path(options.measure[0]), options.measure[1])
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.rows is None:
            case = "thorax"
            write_chestxray14(folder)
            write_chexpert(folder)
        else:
            case = "csv"
            write_csv(folder / "labels.csv", options.rows)
        print(
            "case,rows,classes,assemble_s,assemble_cpu_s,table_bytes_per_row,peak_mib,peak_before_mib,write_csv_s,pandas_read_csv_s",
            flush=True,
        )
        command = [sys.executable, __file__, "--measure", name, case]
        subprocess.run(["taskset", "-c", "0", *command], check=True)


if __name__ == "__main__":
    main()
