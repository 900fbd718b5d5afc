"""Tables and figures of the paper's experiments, from the runs that are committed.

python benchmarks/paper/derive.py            # all of them
python benchmarks/paper/derive.py table-1

Reads NAME/runs.csv beside this file, draws NAME/figure.svg anew, and writes table.md (all means, intervals and tests),
means.csv, differences.csv, gains.csv and figure.png into runs/paper/NAME. Of experiments on masks it reads
patients.csv.gz and lesions.csv.gz, too.
"""

import argparse
import shutil
from pathlib import Path

from labelassemble.experiments.detection_tables import read_details, write_detection
from labelassemble.experiments.experiment import SHIPPED, load_experiment
from labelassemble.experiments.summary import read_runs
from labelassemble.experiments.tables import write_summary

HERE = Path(__file__).parent


def main() -> None:
    """Derive what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    done = [name for name in SHIPPED if (HERE / name / "runs.csv").exists()]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(done)}; default: all of them")
    parser.add_argument("--output", type=Path, default=Path("runs/paper"), help="folder for the tables")
    given = parser.parse_args()
    for name in given.names or done:
        folder = given.output / name
        folder.mkdir(parents=True, exist_ok=True)
        experiment = load_experiment(name)
        if experiment.volumes is None:
            write_summary(experiment, read_runs(HERE / name / "runs.csv"), folder)
        else:
            write_detection(experiment, *read_details(HERE / name), folder)
        shutil.copyfile(folder / "figure.svg", HERE / name / "figure.svg")
        print(folder / "table.md")


if __name__ == "__main__":
    main()
