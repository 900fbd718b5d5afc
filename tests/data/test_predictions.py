"""predictions.csv: read back as written, and every kind of damage named in one sentence."""

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation import Predictions, read_predictions, write_predictions

# Busy machines are slow at times, which says nothing about the rule.
unhurried = settings(deadline=None, max_examples=60)

HEADER = "path,name,source,group,split,assumed,label:Edema,probability:Edema\n"
ROW = "a.png,a,nih,p1,test,,1,0.5\n"


def predictions(**changes):
    values = {
        "classes": ("Edema", 'a "quoted", <odd>\u2603 class'),
        "labels": np.array([[1, 0], [-1, -2], [0, 1]], np.int8),
        "probabilities": np.array([[0.1, 1.0], [1 / 3, 0.0], [1e-12, 0.999999999]]),
        "origins": np.array([[0, 1], [0, 0], [2, 1]], np.uint8),
        "names": np.array(["a", "b,c", "d"]),
        "sources": np.array(["nih", "nih", "covid"]),
        "groups": np.array(["p1", "", "p2"]),
        "splits": np.array(["test", "val", "test"]),
        "paths": np.array(["a.png", 'b "x".png', "d\u00e9.png"]),
    }
    return Predictions(**(values | changes))


def same(one, other):
    arrays = ("labels", "origins", "names", "sources", "groups", "splits", "paths")
    return one.classes == other.classes and all(
        np.array_equal(getattr(one, n), getattr(other, n)) for n in arrays
    )


def test_what_is_written_is_read(tmp_path):
    written = predictions()
    write_predictions(written, tmp_path / "predictions.csv")
    read = read_predictions(tmp_path / "predictions.csv")
    assert same(written, read)
    np.testing.assert_allclose(read.probabilities, written.probabilities, rtol=1e-8)
    lines = (tmp_path / "predictions.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("path,name,source,group,split,assumed,label:Edema,probability:Edema,")
    assert lines[2].split(",")[-4:] == ["", "0.333333333", "-2", "0"]
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.csv"]


@unhurried
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20))
def test_float32_probabilities_survive_bit_for_bit(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("predictions") / "predictions.csv"
    size = len(values)
    text = np.array([str(i) for i in range(size)])
    written = Predictions(
        classes=("a",),
        labels=np.zeros((size, 1), np.int8),
        probabilities=np.array(values, np.float64)[:, None],
        origins=np.zeros((size, 1), np.uint8),
        names=text,
        sources=text,
        groups=text,
        splits=np.full(size, "test"),
        paths=text,
    )
    write_predictions(written, path)
    read = read_predictions(path).probabilities
    assert np.array_equal(read.astype(np.float32), written.probabilities.astype(np.float32))


def test_no_rows_are_no_mistake(tmp_path):
    write_predictions(predictions().select([]), tmp_path / "p.csv")
    assert len(read_predictions(tmp_path / "p.csv")) == 0


def full_disk(*_paths):
    raise OSError(28, "No space left on device")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "predictions.csv"
    write_predictions(predictions(), path)
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(LabelAssembleError, match=r"predictions\.csv: cannot be written \(No space left"):
        write_predictions(predictions(names=["other", "b", "d"]), path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["predictions.csv"]
    with pytest.raises(LabelAssembleError, match="cannot be written"):
        write_predictions(predictions(), tmp_path / "nowhere" / "predictions.csv")


def test_only_given_labels_are_counted():
    np.testing.assert_array_equal(
        predictions().given_targets(), np.array([[1, np.nan], [np.nan, np.nan], [np.nan, np.nan]])
    )


def test_a_split_is_chosen_by_name():
    assert predictions().subset_by_split("test").names.tolist() == ["a", "d"]
    assert len(predictions().subset_by_split("train")) == 0
    with pytest.raises(
        LabelAssembleError, match="split must be train, val or test, got 'tset', did you mean 'test'"
    ):
        predictions().subset_by_split("tset")


def test_a_class_is_found_by_name():
    assert predictions().column("Edema") == 0
    with pytest.raises(LabelAssembleError, match="no class 'Edma' in the table, did you mean 'Edema'"):
        predictions().column("Edma")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"probabilities": np.array([[0.1, np.nan]] * 3)},
            "must be a number from 0 to 1, got nan for 'a.png'",
        ),
        (
            {"probabilities": np.full((3, 2), 1.5)},
            "the probability of 'Edema' must be a number from 0 to 1, got 1.5",
        ),
        ({"labels": np.full((3, 2), 2, np.int8)}, "labels must be 1, 0, -1 or -2, got 2"),
        ({"origins": np.ones((3, 2), np.uint8)}, "only a known label"),
        ({"splits": np.array(["test", "tset", "val"])}, "a split must be train, val or test, got 'tset'"),
        ({"labels": np.zeros((3, 1), np.int8)}, r"labels must be int8 \[3, 2\], got int8 \[3, 1\]"),
        ({"groups": np.array(["a"])}, r"groups must have one entry per path \(3\), got 1"),
        ({"classes": ("a", "a")}, "each class must be named once"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(LabelAssembleError, match=message):
        predictions(**changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a CSV must have a header"),
        ("path,name\n", "the columns of predictions must start with path,name,source,group,split,assumed"),
        ("path,name,source,group,split,assumed\n", "must have at least one class"),
        (HEADER.replace(",probability:Edema", ""), "the class 'Edema' has no column 'probability:Edema'"),
        (HEADER.replace("label:Edema,", ""), "the class 'Edema' has no column 'label:Edema'"),
        (
            HEADER.replace("label:", "lable:"),
            "must be called label:<class>, probability:<class> or uncalibrated:<class>, got 'lable:Edema'",
        ),
        (HEADER.replace("label:Edema", "label:Edema,label:Edema"), "the column 'label:Edema' stands twice"),
        (
            HEADER + ROW.replace("0.5", "half"),
            "line 2, column 'probability:Edema': a probability must be .* 'half'",
        ),
        (HEADER + ROW.replace("0.5", ""), "line 2, column 'probability:Edema': a probability must be"),
        (HEADER + ROW.replace("0.5", "nan"), "line 2, column 'probability:Edema': a probability must be"),
        (HEADER + ROW.replace("0.5", "1.01"), "a number from 0 to 1, got '1.01'"),
        (HEADER + ROW.replace(",1,", ",2,"), "line 2, column 'label:Edema': a label must be 1, 0, -2"),
        (HEADER + ROW.replace("test", "tset"), "line 2, column 'split': a split must be"),
        (
            HEADER + ROW.replace("test,,", "test,Edma,"),
            "line 2, column 'assumed': no class 'Edma', did you mean 'Edema'",
        ),
        (HEADER + ROW.replace("test,,1", "test,Edema,"), "'Edema' is assumed but has no label"),
        (HEADER + ROW + "b.png,b,nih\n", "line 3: the header has 8 columns, this row 3"),
        (HEADER + ROW.rstrip("\n"), "the last line has no end, so the file may have been cut off"),
        (HEADER + ROW.replace("a.png", "a\0.png"), "must not contain NUL"),
    ],
)
def test_damage_is_named(tmp_path, text, message):
    path = tmp_path / "predictions.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(LabelAssembleError, match=message) as caught:
        read_predictions(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(LabelAssembleError, match="cannot be read"):
        read_predictions(tmp_path / "none.csv")


@unhurried
@given(st.data())
def test_a_file_cut_anywhere_is_never_read_as_whole(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("cut")
    write_predictions(predictions(), folder / "whole.csv")
    content = (folder / "whole.csv").read_bytes()
    cut = folder / "cut.csv"
    cut.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    try:
        read = read_predictions(cut)
    except LabelAssembleError:
        return
    # Only a cut between two lines leaves a sound, shorter file.
    assert cut.read_bytes().endswith(b"\n")
    assert same(read, predictions().select(np.arange(len(read))))


def test_compressed_predictions_are_read_and_written(tmp_path):
    written = predictions()
    write_predictions(written, tmp_path / "predictions.csv")
    write_predictions(written, tmp_path / "predictions.csv.gz")
    packed = (tmp_path / "predictions.csv.gz").read_bytes()
    assert gzip.decompress(packed) == (tmp_path / "predictions.csv").read_bytes()
    assert read_predictions(tmp_path / "predictions.csv.gz") == read_predictions(tmp_path / "predictions.csv")
    (tmp_path / "unnamed.csv").write_bytes(packed)  # as a browser saves it
    assert same(read_predictions(tmp_path / "unnamed.csv"), written)
    write_predictions(written, tmp_path / "predictions.csv.gz")
    assert (tmp_path / "predictions.csv.gz").read_bytes() == packed
    text = gzip.decompress(packed)
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(text[:-1]))
    with pytest.raises(LabelAssembleError, match=r"cut\.csv\.gz: the last line has no end"):
        read_predictions(tmp_path / "cut.csv.gz")
    (tmp_path / "torn.csv.gz").write_bytes(packed[:-12])
    with pytest.raises(LabelAssembleError, match=r"torn\.csv\.gz, after line \d+: cannot be read"):
        read_predictions(tmp_path / "torn.csv.gz")
