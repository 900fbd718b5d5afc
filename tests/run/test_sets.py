"""Sets of images answered by several processes, of which one is killed."""

import io
import json
import os
import sys
import tarfile
from collections import Counter
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from labelassemble.data import containers
from labelassemble.data.shards import Part
from labelassemble.errors import LabelAssembleError
from labelassemble.run.parts import PartAnswers, Plan, answer_parts, read_answers
from labelassemble.run.sets import SetAnswerer

Cli = Callable[..., tuple[int, str, str]]
SHARDS, IMAGES = 6, 5


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with shards s-0.tar to s-5.tar, and their images beside them; one image is damaged."""
    folder = tmp_path_factory.mktemp("shards")
    rng = np.random.default_rng(0)
    for shard in range(SHARDS):
        with tarfile.open(folder / f"s-{shard}.tar", "w") as tar:
            for number in range(IMAGES):
                buffer = io.BytesIO()
                Image.fromarray(rng.integers(0, 255, (18, 20), dtype=np.uint8)).save(buffer, "PNG")
                content = buffer.getvalue() if (shard, number) != (2, 3) else b"damaged"
                name = f"{shard}-{number}.png"
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
                (folder / name).write_bytes(content)
    return folder


def check_answers(answers: Path, shards: Path, run: Path, cli: Cli) -> None:
    """Check that each image is answered once, and as `predict` answers it by itself."""
    table = pd.read_parquet(answers)
    expected = [f"{shards}/s-{s}.tar::{s}-{n}.png" for s in range(SHARDS) for n in range(IMAGES)]
    assert Counter(table["path"]) == Counter(expected)
    bad = table["error"].notna()
    assert table.loc[bad, "path"].tolist() == [f"{shards}/s-2.tar::2-3.png"]
    assert table.loc[bad].filter(like="probability:").isna().all(axis=None)
    files = [shards / path.rpartition("::")[2] for path in table.loc[~bad, "path"]]
    status, out, err = cli("predict", run, *files)
    assert status == 0, err
    alone = pd.read_csv(io.StringIO(out))
    assert list(alone.columns) == [name for name in table.columns if name != "error"]
    found = table.loc[~bad].filter(like="probability:").to_numpy()
    np.testing.assert_allclose(found, alone.drop(columns="path").to_numpy(), rtol=1e-5)


def _as_torchrun_does(rank: int, run: Path, shards: Path, answers: Path) -> None:
    """Be one of two processes; stop for ever in the middle of the second part, when it has begun to be written."""
    import signal

    from labelassemble.cli import main

    def begin_and_stop(table: object, path: Path, **_: object) -> None:
        if "part-00003" in str(path):
            Path(path).write_bytes(b"half a part")
            (answers / "stopped").touch()
            signal.pause()
        write(table, path)

    write, pq.write_table = pq.write_table, begin_and_stop
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    sys.argv = ["labelassemble", "predict", str(run), str(shards / "s-*.tar"), "-o", str(answers)]
    main()


def test_one_of_two_is_killed_and_nothing_is_lost_or_done_twice(
    made_run: Path,
    shards: Path,
    tmp_path: Path,
    cli: Cli,
    forking: ForkServerContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = tmp_path / "answers"
    process = forking.Process(target=_as_torchrun_does, args=(1, made_run, shards, answers))
    process.start()
    while not (answers / "stopped").exists():
        process.join(0.05)
        assert process.is_alive(), process.exitcode
    process.kill()
    process.join()
    (answers / "stopped").unlink()
    written = answers / "part-00001.parquet"
    assert [path.name for path in answers.glob("part*")] == [written.name]
    assert len(list(answers.glob(".part-00003.parquet.*.part"))) == 1
    before = (written.stat().st_ino, written.stat().st_mtime_ns)

    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, said in (("0", "3 parts answered, 0 were there"), ("1", "2 parts answered, 1 were there")):
        monkeypatch.setenv("RANK", rank)
        status, out, err = cli("predict", made_run, shards / "s-{0..5}.tar", "-o", answers)
        assert status == 0, err
        assert f"process {int(rank) + 1} of 2: {said}, of 6 in all" in out
    assert (written.stat().st_ino, written.stat().st_mtime_ns) == before
    assert sorted(path.name for path in answers.iterdir()) == [
        "_plan.json",
        *(f"part-{index:05}.parquet" for index in range(SHARDS)),
    ]
    monkeypatch.delenv("RANK")
    monkeypatch.delenv("WORLD_SIZE")
    check_answers(answers, shards, made_run, cli)
    about = pq.read_schema(written).metadata
    assert about[b"labelassemble:thresholds"] == b"specificity=0.95"
    assert about[b"labelassemble:model"] == b"chest"

    status, out, _ = cli("predict", made_run, shards / "s-*.tar", "-o", answers)  # now by one process
    assert (status, out) == (0, "process 1 of 1: 0 parts answered, 6 were there, of 6 in all\n")
    for words, sentence in (
        ((shards / "s-{0..4}.tar",), "other images, or parts as another version"),
        (
            (shards / "s-*.tar", "--uncalibrated"),
            "probabilities: calibrated and now as the network gives them",
        ),
        ((shards / "s-*.tar", "--bits", "12"), "decoded: as the files say and now ::bits=12"),
    ):
        status, _, err = cli("predict", made_run, *words, "-o", answers)
        assert status == 2
        assert f"holds other answers ({sentence}" in err


def test_a_list_is_answered_as_its_images_are(made_run: Path, shards: Path, tmp_path: Path) -> None:
    names = [f"{s}-{n}.png" for s in range(2) for n in range(IMAGES)]
    pd.DataFrame({"path": names}).to_parquet(shards / "list.parquet")
    answerer = SetAnswerer(made_run, [shards / "list.parquet"], tmp_path / "a", rows=4)
    answerer.plan.begin()
    counts: list[int] = []
    failed = answer_parts(
        answerer.plan,
        answerer.answer,
        rank=0,
        count=1,
        wrote=lambda _, found: counts.append(len(found.images)),
    )
    assert (failed, counts) == ([], [4, 4, 2])
    found = [image for part in read_answers(answerer.plan) for image in part.images]
    assert found == [f"{shards}/{name}" for name in names]


def replaced(path: Path, content: bytes) -> None:
    """Give a file other bytes of the same number, a microsecond later by its clock."""
    before = path.stat()
    assert len(content) == before.st_size
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1000))


def test_what_was_replaced_since_is_answered_again(
    made_run: Path, tmp_path: Path, cli: Cli, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(1)
    pixels = [rng.integers(0, 255, (16, 16), dtype=np.uint8) for _ in range(4)]
    pgm = [b"P5 16 16 255\n" + image.tobytes() for image in pixels]  # all of one size
    for number in range(3):
        (tmp_path / f"{number}.pgm").write_bytes(pgm[number])
    for shard in range(2):
        with tarfile.open(tmp_path / f"s-{shard}.tar", "w") as tar:
            tar.add(tmp_path / f"{shard}.pgm", "x.pgm")
    listed = ["0.pgm", "1.pgm", "2.pgm", "s-0.tar::x.pgm", "absent.pgm"]
    pd.DataFrame({"path": listed}).to_parquet(tmp_path / "list.parquet", row_group_size=2)
    words = ("predict", made_run, tmp_path / "list.parquet", tmp_path / "s-{0..1}.tar", "-o", tmp_path / "a")

    def answers() -> dict[str, float]:
        table = pd.read_parquet(tmp_path / "a")
        names = [path.removeprefix(f"{tmp_path}/") for path in table["path"]]
        return dict(zip(names, table["probability:Edema"], strict=True))

    status, out, err = cli(*words)
    assert (status, "5 parts answered, 0 were there" in out) == (0, True), err
    before = answers()
    assert np.isnan(before["absent.pgm"])
    status, out, err = cli(*words)
    assert (status, out, err) == (0, "process 1 of 1: 0 parts answered, 5 were there, of 5 in all\n", "")

    replaced(tmp_path / "1.pgm", pgm[3])
    replaced(
        tmp_path / "s-0.tar",
        (tmp_path / "s-0.tar").read_bytes().replace(pixels[0].tobytes(), pixels[3].tobytes()),
    )
    (tmp_path / "absent.pgm").write_bytes(pgm[3])
    status, out, err = cli(*words)
    assert status == 0, err
    assert "4 parts answered, 1 were there" in out
    assert "files of 4 parts were changed since: answered again" in caplog.text
    after = answers()
    changed = {name for name in after if not np.isclose(after[name], before[name], rtol=1e-5)}
    assert changed == {"1.pgm", "s-0.tar::x.pgm", "absent.pgm"}
    same = [after[name] for name in changed]  # all three hold the same image now
    np.testing.assert_allclose(same, same[0], rtol=1e-5)


def test_the_place_of_members_is_forgotten_when_a_shard_is_answered(
    made_run: Path, shards: Path, tmp_path: Path
) -> None:
    answerer = SetAnswerer(made_run, [shards / "s-0.tar"], tmp_path / "a")
    [part] = answerer.plan.parts
    answerer.answer(part.images())
    assert not [key for key in containers._shards._items if "s-0.tar" in str(key)]


def test_a_broken_shard_does_not_keep_the_others_from_being_answered(
    made_run: Path, shards: Path, tmp_path: Path, cli: Cli
) -> None:
    broken, empty = tmp_path / "broken.tar", tmp_path / "empty.tar"
    broken.write_bytes((shards / "s-0.tar").read_bytes()[:3000])
    tarfile.open(empty, "w").close()
    words = ("predict", made_run, broken, empty, shards / "s-2.tar", "-o", tmp_path / "a")
    status, out, err = cli(*words)
    assert status == 2
    assert "1 part cannot be read; once that is mended, the same command answers them" in err
    assert "broken.tar: " in err
    assert "part-00002.parquet: 5 images, 1 cannot be read" in out
    assert sorted(path.name for path in (tmp_path / "a").glob("part*")) == [
        "part-00001.parquet",
        "part-00002.parquet",
    ]
    assert len(pd.read_parquet(tmp_path / "a" / "part-00001.parquet")) == 0


def test_mistakes_are_one_sentence(
    made_run: Path, shards: Path, tmp_path: Path, cli: Cli, monkeypatch
) -> None:
    shard = shards / "s-0.tar"
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").touch()
    for words, sentence in (
        ((shard,), "are answered into a folder of Parquet files: give one with --output"),
        ((shard, "-o", tmp_path / "a.csv"), "give one with --output"),
        ((shard, "-o", tmp_path / "full"), "holds something else than answers"),
        ((shard, shards / "0-0.png", "-o", tmp_path / "a"), "cannot be answered together"),
    ):
        status, out, err = cli("predict", made_run, *words)
        assert (status, out) == (2, "")
        assert sentence in err
    for rank, count in (("2", "2"), ("x", "2"), ("", "2"), ("0", "")):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", count)
        status, _, err = cli("predict", made_run, shard, "-o", tmp_path / "a")
        assert status == 2
        assert (
            f"RANK must be a number below WORLD_SIZE, as torchrun sets them, got '{rank}' and '{count}'"
            in err
        )


def test_processes_that_begin_together_write_one_plan(tmp_path: Path) -> None:
    parts = [Part("a", lambda: ["x.png"])]
    plan = Plan(tmp_path / "a", parts, ("A",), {"model": "m"})
    plan.begin()
    plan.begin()
    (tmp_path / "a" / "._plan.json.x.part").touch()  # which another is writing
    plan.begin()
    assert json.loads((tmp_path / "a" / "_plan.json").read_text())["parts"] == ["a"]
    with pytest.raises(LabelAssembleError, match=r"holds other answers \(model: m and now n\)"):
        plan._replace(about={"model": "n"}).begin()
    with pytest.raises(
        LabelAssembleError, match=r"answers \(model: m and now n; another calibration\): choose"
    ):
        plan._replace(about={"model": "n", "calibration": "{" * 5000}).begin()
    with pytest.raises(LabelAssembleError, match=r"part-00000\.parquet: cannot be read"):
        list(read_answers(plan))
    answered = PartAnswers(["x.png"], np.array([[np.nan]]), {0: "damaged"})
    answer_parts(plan, lambda _: answered, rank=0, count=1, wrote=lambda *_: None)
    [found] = read_answers(plan)
    assert found.errors == {0: "damaged"}
    assert np.isnan(found.probabilities).all()
