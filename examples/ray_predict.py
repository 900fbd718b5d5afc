"""Sets of images answered by Ray Data, into the same files as `labelassemble predict RUN SET... -o FOLDER`.

    python examples/ray_predict.py RUN FOLDER SET...      # SET: train-{000000..000146}.tar, list.parquet

An actor is a process that holds the network; each item is a part, a tar shard or 8192 rows of a Parquet list. The same
command goes on where it was ended, and so does `labelassemble predict`. Needs Ray: pip install 'ray[data]'. Actors on
other machines need the run, the sets and the folder under the same paths.
"""

import argparse
from pathlib import Path

import ray

from labelassemble.run.parts import answer_part, open_parts
from labelassemble.run.sets import SetAnswerer


class Answer:
    """Answers one part after the other; an actor of Ray makes one."""

    def __init__(self, run: Path, sets: list[Path], folder: Path) -> None:
        self.answerer = SetAnswerer(run, sets, folder)

    def __call__(self, row: dict[str, int]) -> dict[str, object]:
        """Answer the part `row["part"]`, write its file, and say what it holds."""
        plan, index = self.answerer.plan, int(row["part"])
        found = answer_part(plan, index, self.answerer.answer)
        return {"file": str(plan.file(index)), "images": len(found.images), "bad": len(found.errors)}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("run", type=Path)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("sets", type=Path, nargs="+")
    arguments.add_argument("--actors", type=int, default=2)
    arguments.add_argument("--gpus", type=float, default=0, help="of an actor")
    given = arguments.parse_args()
    run, folder, sets = given.run.absolute(), given.folder.absolute(), [one.absolute() for one in given.sets]

    plan = SetAnswerer(run, sets, folder).plan
    plan.begin()
    todo = [{"part": index} for index in open_parts(plan)]
    if todo:
        parts = ray.data.from_items(todo, override_num_blocks=len(todo))
        answered = parts.map(
            Answer,
            fn_constructor_args=(run, sets, folder),
            compute=ray.data.ActorPoolStrategy(size=given.actors),
            num_gpus=given.gpus,
        )
        for row in answered.iter_rows():
            print(f"{row['file']}: {row['images']} images, {row['bad']} cannot be read", flush=True)
    print(f"{len(todo)} parts answered, {len(plan.parts) - len(todo)} were there")


if __name__ == "__main__":
    main()
