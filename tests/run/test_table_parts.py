"""An evaluation on other data in parts: the same as in one piece, by one process or two, and after a kill."""

import csv
import os
import shutil
import socket
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from labelassemble.data.shards import Part
from labelassemble.data.table_io import read_predictions
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.leakage import read_leakage
from labelassemble.run import external, table_parts
from labelassemble.run.parts import PartAnswers, Plan, answer_parts, forget_errors, read_answers

Cli = Callable[..., tuple[int, str, str]]
IMAGES = 30  # of each of two sources
ROWS = 8


@pytest.fixture
def site(made_run: Path, tmp_path: Path) -> Path:
    """A folder with a run, two sources of other images (one of them damaged) and site.yaml over them."""
    shutil.copytree(made_run, tmp_path / "chest")
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for source, shade in (("north", 0), ("south", 100)):
        lines = ["path,patient,Edema"]
        for index in range(IMAGES):
            name = f"images/{source}-{index}.png"
            pixels = rng.integers(shade, shade + 150, (16, 16), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name)
            lines.append(f"{name},{source}-{index},{index % 2}")
        (tmp_path / f"{source}.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "images" / "south-7.png").write_bytes(b"damaged")
    (tmp_path / "images" / "own.png").write_bytes((tmp_path / "images" / "north-0.png").read_bytes()[::-1])
    (tmp_path / "chest" / "table.csv").write_text(
        f"path,name,source,group,split,assumed,Edema\n{tmp_path}/images/own.png,own,own,,train,,1\n"
    )
    (tmp_path / "chest" / "config.yaml").write_text("sources: [{name: own, reader: csv, path: own.csv}]\n")
    (tmp_path / "site.yaml").write_text(
        "sources:\n"
        "  - {name: north, reader: csv, path: north.csv}\n"
        "  - {name: south, reader: csv, path: south.csv}\n"
        "views: {bad_files_limit: 0.1}\n"
    )
    return tmp_path


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external, "PART_ROWS", ROWS)


def check_same(whole: Path, parts: Path) -> None:
    """Check that two evaluations say the same."""
    assert {path.name for path in parts.iterdir()} == {path.name for path in whole.iterdir()}
    one, other = (read_predictions(folder / "predictions.csv") for folder in (whole, parts))
    assert one.paths.tolist() == other.paths.tolist()
    assert len(one) == 2 * IMAGES - 1
    np.testing.assert_allclose(one.probabilities, other.probabilities, rtol=1e-5)
    assert (whole / "unreadable.csv").read_text() == (parts / "unreadable.csv").read_text()
    first, second = read_leakage(whole), read_leakage(parts)
    assert first is not None
    assert second is not None
    assert second.auc == pytest.approx(first.auc, abs=0.01)
    assert (second.images, second.split) == (first.images, first.split)


def test_parts_say_what_the_whole_does_and_are_not_answered_again(
    site: Path, no_pages: None, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config = site / "chest", site / "site.yaml"
    status, _, err = cli("evaluate", run, "--data", config, "-o", site / "whole")
    assert status == 0, err
    monkeypatch.setattr(external, "PART_ROWS", ROWS)
    answered: list[int] = []
    real = table_parts.answer_readable

    def fails_at_the_third(trained: object, images: list[str]) -> object:
        if len(answered) == 2:
            raise LabelAssembleError("the power is gone")
        answered.append(len(images))
        return real(trained, images)

    monkeypatch.setattr(table_parts, "answer_readable", fails_at_the_third)
    status, _, err = cli("evaluate", run, "--data", config, "-o", site / "parts")
    assert (status, answered) == (2, [8, 8])
    assert "the power is gone" in err
    assert len(list((site / "parts" / ".answers").glob("part-*.parquet"))) == 2
    answered.clear()
    monkeypatch.setattr(
        table_parts, "answer_readable", lambda *given: answered.append(len(given[1])) or real(*given)
    )
    assert cli("evaluate", run, "--data", config, "-o", site / "parts")[0] == 0
    assert answered == [8, 8, 8, 8, 8, 4]
    check_same(site / "whole", site / "parts")


def test_answers_of_other_images_are_given_up_and_too_many_bad_files_end_it(
    site: Path, no_pages: None, cli: Cli, small_parts: None
) -> None:
    run, config = site / "chest", site / "site.yaml"
    words = ("evaluate", run, "--data", config, "-o", site / "parts")
    status, _, err = cli(*words, "views.bad_files_limit=0.01")
    assert status == 2
    assert "1 of 60 images cannot be read, more than views.bad_files_limit = 0.01 allows" in err
    assert (site / "parts" / ".answers" / "_plan.json").exists()
    assert cli(*words, "sources.0.limit=20")[0] == 0  # other rows than before
    assert len(read_predictions(site / "parts" / "predictions.csv")) == 49
    assert not (site / "parts" / ".answers").exists()


def _as_torchrun_does(rank: int, port: int, site: Path, *, stop: bool) -> None:
    """Be one of two processes; with `stop`, stop for ever in the middle of the second part."""
    import signal

    from labelassemble.cli import main

    write, answer = pq.write_table, table_parts.answer_readable

    def begin_and_stop(table: object, path: Path, **_: object) -> None:
        if stop and "part-00003" in str(path):
            (site / "stopped").touch()
            signal.pause()
        write(table, path)

    def tell(trained: object, images: list[str]) -> object:
        with (site / f"answered-{rank}.txt").open("a") as file:
            file.writelines(f"{image}\n" for image in images)
        return answer(trained, images)

    pq.write_table, table_parts.answer_readable = begin_and_stop, tell  # type: ignore[assignment]
    external.PART_ROWS = ROWS  # type: ignore[misc]
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.dup2(os.open(site / f"stderr-{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    os.dup2(os.open(site / f"stdout-{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    sys.argv = ["labelassemble", "evaluate", str(site / "chest"), "--data", str(site / "site.yaml")]
    sys.argv += ["-o", str(site / "parts")]
    main()


def test_two_processes_of_which_one_is_killed(site: Path, cli: Cli, forking: ForkServerContext) -> None:
    def begin(stop: bool) -> list[ForkServerProcess]:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        begun = [
            forking.Process(target=_as_torchrun_does, args=(rank, port, site), kwargs={"stop": stop})
            for rank in (0, 1)
        ]
        for process in begun:
            process.start()
        return begun

    first, second = begin(stop=True)
    while not (site / "stopped").exists():
        second.join(0.05)
        assert second.is_alive(), (site / "stderr-1.txt").read_text()
    second.kill()
    first.join()
    assert first.exitcode == 2
    assert "another process is gone" in (site / "stderr-0.txt").read_text()
    again = begin(stop=False)
    for rank, process in enumerate(again):
        process.join()
        assert process.exitcode == 0, (site / f"stderr-{rank}.txt").read_text()
    assert "chest on other data" in (site / "stdout-0.txt").read_text()
    assert (site / "stdout-1.txt").read_text() == ""

    with (site / "parts" / "table.csv").open(newline="") as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    answered = Counter(
        line for rank in (0, 1) for line in (site / f"answered-{rank}.txt").read_text().split("\n")
    )
    del answered[""]
    lost = set(paths[3 * ROWS : 4 * ROWS])  # in the middle of which it was killed
    assert answered == {path: 2 if path in lost else 1 for path in paths}
    assert cli("evaluate", site / "chest", "--data", site / "site.yaml", "-o", site / "whole")[0] == 0
    check_same(site / "whole", site / "parts")


def test_several_processes_are_for_other_data(
    made_run: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, said in (("0", "several processes evaluate runs on images with --data CONFIG"), ("1", "")):
        monkeypatch.setenv("RANK", rank)
        status, _, err = cli("evaluate", made_run)
        assert status == 2
        assert said in err
        assert bool(err) == bool(said)


def test_parts_with_images_that_could_not_be_read_are_answered_again(tmp_path: Path) -> None:
    parts = [Part(name, lambda: ["a.png", "b.png"]) for name in ("one", "two", "three")]
    plan = Plan(tmp_path / "answers", parts, ("Edema",), {})
    plan.begin()
    bad = {"a.png"}

    def answer(images: Sequence[str]) -> PartAnswers:
        errors = {row: "damaged" for row, image in enumerate(images) if image in bad}
        values = np.full((len(images), 1), 0.5)
        values[list(errors)] = np.nan
        return PartAnswers(images, values, errors)

    answer_parts(plan, answer, rank=0, count=1, wrote=lambda index, found: bad.clear())
    assert [bool(found.errors) for found in read_answers(plan)] == [True, False, False]
    forget_errors(plan, rank=1, count=2)  # of another process
    assert plan.file(0).exists()
    forget_errors(plan, rank=0, count=2)
    assert [plan.file(index).exists() for index in range(3)] == [False, True, True]
