"""`labelassemble init`: what it takes a folder or a table for, and that what it writes assembles at once."""

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labelassemble.config import load_config
from labelassemble.data import assemble
from labelassemble.init.columns import guess_uses
from labelassemble.init.profile import Column

Init = Callable[..., dict[str, Any]]
Cli = Callable[..., tuple[int, str, str]]


def png(path: Path, grey: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), grey, dtype=np.uint8)).save(path)


def images(root: Path, count: int = 6) -> None:
    for index in range(count):
        png(root / f"{index}.png", 10 * index)


def labels_of(config: Path) -> dict[str, list[int]]:
    """Return what the images are labelled by their name, classes in the order of the configuration."""
    table = assemble(load_config(config).sources).table
    return {Path(path).name: row for path, row in zip(table.paths, table.labels.tolist(), strict=True)}


@pytest.mark.parametrize("others", ["negative", "unknown"])
def test_folders_named_after_classes(tmp_path: Path, cli: Cli, others: str) -> None:
    data = tmp_path / "xrays"
    for split in ("train", "Test"):
        for index, name in enumerate(("Normal", "Pneumonia")):
            png(data / split / name / f"{split}-{name}.png", 40 * index)
    config = tmp_path / "xrays.yaml"
    status, out, err = cli("init", data, "-o", config, "--others", others)
    assert status == 0, err
    assert "nothing says which images are of one patient" in err
    assert f"Next: labelassemble assemble {config}" in out
    assert "root: xrays" in config.read_text()  # the folder may be moved as a whole
    other = 0 if others == "negative" else -1
    found = labels_of(config)
    assert found["train-Normal.png"] == [1, other]
    assert found["Test-Pneumonia.png"] == [other, 1]
    table = assemble(load_config(config).sources).table
    assert {*zip((Path(path).name for path in table.paths), table.splits.tolist(), strict=True)} >= {
        ("train-Normal.png", "train"),
        ("Test-Normal.png", "test"),
    }
    rows = (tmp_path / "xrays.csv").read_text()
    assert rows.count(",trainval") == rows.count(",test") == 2  # no folder is for validation
    assert cli("init", data, "-o", config)[0] == 2
    status, _, err = cli("init", data, "-o", tmp_path / "xrays.yml")
    assert (status, err.count("\n")) == (2, 1)
    assert "xrays.csv is there already: add --overwrite" in err


def test_a_column_per_class(tmp_path: Path, init_and_assemble: Init) -> None:
    images(tmp_path / "deep" / "pictures")
    lines = "".join(f"{index}.png,p{index // 2},Train,{index % 2},,{40 + index},F\n" for index in range(6))
    (tmp_path / "labels.csv").write_text(f"Image Name,Subject ID,set,Edema,Mass,Age,Sex\n{lines}")
    source = init_and_assemble(tmp_path / "labels.csv")
    assert source == {
        "name": "labels",
        "reader": "csv",
        "path": str(tmp_path / "labels.csv"),
        "root": str(tmp_path / "deep/pictures"),
        "path_column": "Image Name",
        "patient_column": "Subject ID",
        "split_column": "set",
        "classes": ["Edema"],
    }


def test_cells_in_chexperts_coding(tmp_path: Path, init_and_assemble: Init) -> None:
    images(tmp_path)
    (tmp_path / "a.csv").write_text("path,patient,Edema,Mass\n0.png,1,1,\n1.png,2,-1.0,0\n2.png,3,,1\n")
    source = init_and_assemble(tmp_path / "a.csv")
    assert (source["minus_one"], source["blank"], source["split_column"]) == ("uncertain", "unknown", "")


def test_one_column_of_labels(tmp_path: Path, cli: Cli) -> None:
    images(tmp_path / "images", 6)
    (tmp_path / "a.csv").write_text(
        "id,file,diagnosis\n1,images/0,flu\n2,images/1,cold\n3,images/2,flu\n4,images/3,\n5,images/4,Unknown\n6,images/5,-1\n"
    )
    config = tmp_path / "a.yaml"
    status, _, err = cli("init", tmp_path / "a.csv", "-o", config)
    assert status == 0, err
    found = labels_of(config)
    assert (found["0.png"], found["1.png"], found["2.png"]) == ([1, 0], [0, 1], [1, 0])
    assert (
        found["3.png"] == found["4.png"] == found["5.png"] == [-1, -1]
    )  # a row that names no class was not looked at
    assert "rows that name no class: 3; every class is unknown there" in err
    assert (tmp_path / "a.labels.csv").read_text().splitlines()[0] == "path,flu,cold"


def test_findings_between_bars(tmp_path: Path, cli: Cli) -> None:
    images(tmp_path, 4)
    (tmp_path / "a.csv").write_text(
        "Image Index,Finding Labels,Patient ID\n0.png,Edema|Mass,1\n1.png,No Finding,1\n2.png,Mass,2\n3.png,Mass,3\n"
    )
    config = tmp_path / "b.yaml"
    assert cli("init", tmp_path / "a.csv", "-o", config)[0] == 0
    assert load_config(config).sources[0].classes == ("Mass", "Edema", "No Finding")
    assert labels_of(config) == {
        "0.png": [1, 1, 0],
        "1.png": [0, 0, 1],
        "2.png": [1, 0, 0],
        "3.png": [1, 0, 0],
    }
    table = assemble(load_config(config).sources).table
    assert table.groups.tolist()[0] == table.groups.tolist()[1] != table.groups.tolist()[2]


def test_labels_in_words_and_numbers(tmp_path: Path, cli: Cli) -> None:
    images(tmp_path, 3)
    (tmp_path / "words.csv").write_text(
        "path,Edema,Mass,Nodule\n0.png,YES,no,pos\n1.png,,Yes,unknown\n2.png,NO,,Neg\n"
    )
    assert cli("init", tmp_path / "words.csv", "-o", tmp_path / "w.yaml")[0] == 0
    assert labels_of(tmp_path / "w.yaml") == {
        "0.png": [1, 0, 1],
        "1.png": [-1, 1, -1],
        "2.png": [0, -1, 0],
    }
    (tmp_path / "mixed.csv").write_text(
        "path,Edema,smoker,Oedem\n0.png,pos,1,ja\n1.png,neg,0,unklar\n2.png,?,1,nein\n"
    )
    status, _, err = cli("init", tmp_path / "mixed.csv", "-o", tmp_path / "m.yaml")
    assert status == 0, err
    assert load_config(tmp_path / "m.yaml").sources[0].classes == ("Edema", "smoker", "Oedem")
    assert labels_of(tmp_path / "m.yaml")["1.png"] == [0, 0, -2]
    (tmp_path / "grades.csv").write_text("path,grade,label\n0.png,a,2\n1.png,a,10\n2.png,b,0\n")
    assert cli("init", tmp_path / "grades.csv", "-o", tmp_path / "g.yaml")[0] == 0
    assert load_config(tmp_path / "g.yaml").sources[0].classes == ("label 0", "label 2", "label 10")


@pytest.mark.parametrize(("yes", "no", "unsure"), [("ja", "Nein", "unklar"), ("Yes", "no", "unclear")])
def test_yes_and_no_in_a_column_of_labels_are_no_classes(
    tmp_path: Path, cli: Cli, yes: str, no: str, unsure: str
) -> None:
    images(tmp_path, 6)
    table, config = tmp_path / "t.csv", tmp_path / "t.yaml"

    def init(header: str, cells: list[str], *words: str) -> tuple[int, str]:
        rows = [f"{number}.png,{cell}" for number, cell in enumerate(cells)]
        table.write_text("\n".join([f"path,{header}", *rows]) + "\n")
        status, _, err = cli("init", table, "-o", config, "--overwrite", *words)
        return status, err

    def labels() -> list[list[int]]:
        return [row for _, row in sorted(labels_of(config).items())]

    status, err = init("diagnosis", ["flu", no, "cold", unsure, "", no.upper()])
    assert status == 0, err
    assert load_config(config).sources[0].classes == ("cold", "flu")
    assert labels() == [[0, 1], [0, 0], [1, 0], [-2, -2], [-1, -1], [0, 0]]
    assert "rows that say no: 2; every class is negative there" in err
    assert "rows that say unclear: 1; every class is uncertain there" in err
    status, err = init("dx", ["flu; cold", no, "cold", "cold;flu", "", "flu"])
    assert status == 0, err
    assert labels() == [[1, 1], [0, 0], [1, 0], [1, 1], [-1, -1], [0, 1]]

    status, err = init("Flu", [yes, no, unsure, "", "1", no], "--label-column", "Flu")
    assert status == 0, err
    assert load_config(config).sources[0].classes == ("Flu",)
    assert labels() == [[1], [0], [-2], [-1], [1], [0]]

    status, err = init("diagnosis", [yes, no, "perhaps", no, yes, no])
    assert status == 2
    assert (
        f"t.csv, column 'diagnosis': '{yes}' does not say which class there is, and 'perhaps' is neither"
        in err
    )
    status, err = init("dx", [f"flu;{no}", no, "cold", "cold;flu", "", "flu"])
    assert status == 2
    assert f"t.csv, column 'dx': a cell says both '{no}' and 'flu': mend it" in err
    assert len(err.splitlines()) == 1

    status, err = init("dx", ["n", "v", "n", "s", "v", "n"])  # codes of a letter are names
    assert status == 0, err
    assert load_config(config).sources[0].classes == ("n", "v", "s")


def test_a_link_that_leads_back_is_not_followed(tmp_path: Path, cli: Cli) -> None:
    images(tmp_path / "all" / "Mass", 3)
    (tmp_path / "all" / "Mass" / "up").symlink_to("..")
    status, _, err = cli("init", tmp_path / "all", "-o", tmp_path / "a.yaml")
    assert status == 2
    assert "all holds 3 images in one folder, 'Mass', and no table of labels" in err
    images(tmp_path / "elsewhere", 2)
    (tmp_path / "all" / "Edema").symlink_to(tmp_path / "elsewhere")
    status, _, err = cli("init", tmp_path / "all", "-o", tmp_path / "a.yaml")
    assert status == 0, err
    assert len(assemble(load_config(tmp_path / "a.yaml").sources).table) == 5


def test_columns_in_german_are_known(tmp_path: Path, cli: Cli) -> None:
    images(tmp_path, 4)
    rows = "".join(
        f"{index}.png;00{index % 2};{'ja' if index % 2 else 'nein'};5{index};x\r\n" for index in range(4)
    )
    head = "\ufeffBilddatei;Patienten-Nr.;Melanom;Alter;Bemerkung\r\n"
    (tmp_path / "befunde.csv").write_text(head + rows, newline="")
    status, _, err = cli("init", tmp_path / "befunde.csv", "-o", tmp_path / "a.yaml")
    assert status == 0, err
    table = assemble(load_config(tmp_path / "a.yaml").sources).table
    assert len(set(table.groups.tolist())) == 2
    assert table.labels[:, 0].tolist() == [0, 1, 0, 1]
    assert "columns that are not used: Bemerkung" in err


def test_a_column_that_one_cell_keeps_from_being_a_class_is_named(tmp_path: Path, cli: Cli) -> None:
    images(tmp_path, 4)
    (tmp_path / "a.csv").write_text(
        "path,Edema,Mass,place\n0.png,0,1,hand\n1.png,1,0,hand\n2.png,1,1,foot\n3.png,9,0,foot\n"
    )
    status, _, err = cli("init", tmp_path / "a.csv", "-o", tmp_path / "a.yaml")
    assert status == 0, err
    assert load_config(tmp_path / "a.yaml").sources[0].classes == ("Mass",)
    assert "column 'Edema' is not taken as a class, since a cell of it is '9'" in err
    assert err.endswith("columns that are not used: place\n")


def test_a_folder_called_unknown_is_no_class(tmp_path: Path, cli: Cli) -> None:
    for index, name in enumerate(("flu", "cold", "unknown")):
        png(tmp_path / "data" / name / f"{index}.png", index)
    status, _, err = cli("init", tmp_path / "data", "-o", tmp_path / "a.yaml")
    assert status == 0, err
    assert labels_of(tmp_path / "a.yaml") == {"0.png": [0, 1], "1.png": [1, 0], "2.png": [-1, -1]}
    assert "images that name no class: 1;" in err


def test_a_table_without_its_images(tmp_path: Path, cli: Cli, init_and_assemble: Init) -> None:
    (tmp_path / "a.csv").write_text("file,Edema\nfar/1.png,1\nfar/2.png,0\n")
    assert init_and_assemble(tmp_path / "a.csv")["path_column"] == "file"
    _, out, err = cli("init", tmp_path / "a.csv", "-o", tmp_path / "b.yaml")
    assert "no image of column 'file' was found below" in err
    assert "set `root` to the folder that its paths start at" in err
    assert "files that do not exist: 2" in out
    (tmp_path / "a.csv").write_text("file,Edema\nfar\\1.png,1\nfar\\2.png,0\n")
    _, _, err = cli("init", tmp_path / "a.csv", "-o", tmp_path / "c.yaml")
    assert "folders in it must be separated by / instead of \\" in err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.tsv", "path\tpatient\tEdema\n1.png\tp1\t1\n2.png\tp2\t0\n"),
        ("t.txt", "path\tpatient\tEdema\n1.png\tp1\t1\n2.png\tp2\t0\n"),
        ("t.csv", "path;patient;Edema\n1.png;p1;1,0\n2.png;p2;0,0\n"),
        ("t.csv", "path,patient,Edema,Mass\n1.png,p1,1,nan\n2.png,p2,nan,0\n"),
    ],
)
def test_tables_as_spreadsheets_and_pandas_write_them(
    tmp_path: Path, init_and_assemble: Init, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    assert init_and_assemble(tmp_path / name)["path"] == str(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b\n1,0\n", (), "no column names the images: say which by --path-column (of a, b)"),
        (
            "path,b\n1.png,some text\n",
            (),
            "no column holds labels (1, 0, -1, -2 or blank, or the name of a class)",
        ),
        (
            "path,b\n1.png,1\n",
            ("--path-column", "pth"),
            "no column 'pth' (--path-column), did you mean 'path'?",
        ),
        ("path,b\n1.png,1\n", ("--classes", "c"), "no column 'c' (--classes)"),
        ("path,b,s\n1.png,1,x\n", ("--split-column", "s"), "column 's': a split must be train, val, test"),
        (
            "1.png,p1,0\n2.png,p2,1\n",
            (),
            "the first line must name the columns, such as path,patient,Edema; got '1.png'",
        ),
        ("path,b\n1.png,1\n", ("--others", "none"), "--others must be negative or unknown, got 'none'"),
        ("path,b\n1.png,1\n", ("-o", "x.json"), "--output must end in .yaml, got 'x.json'"),
    ],
)
def test_mistakes_are_one_sentence(
    tmp_path: Path, cli: Cli, text: str, options: tuple[str, ...], message: str
) -> None:
    (tmp_path / "t.csv").write_text(text)
    status, _, err = cli("init", tmp_path / "t.csv", "-o", tmp_path / "t.yaml", *options)
    assert (status, err.count("\n")) == (2, 1), err
    assert message in err


def test_folders_that_hold_nothing(tmp_path: Path, cli: Cli) -> None:
    images(tmp_path / "images", 2)
    for data, message in (
        (tmp_path / "absent", "absent does not exist: give a folder of images, or a table"),
        (tmp_path, "and no table of labels: put them into a folder per class, or give a table"),
        (tmp_path / "images" / "0.png", "0.png is no table (.csv, .tsv, .txt, .parquet)"),
    ):
        status, _, err = cli("init", data, "-o", tmp_path / "t.yaml")
        assert (status, err.count("\n")) == (2, 1)
        assert message in err


def test_archives(tmp_path: Path, init_and_assemble: Init) -> None:
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        pixels = rng.integers(0, 255, (4, 8, 8), dtype=np.uint8)
        np.savez(tmp_path / f"x_{part}.npz", images=pixels, labels=np.array([0, 2, 1, 2]))
    source = init_and_assemble(tmp_path)
    assert (source["reader"], source["labels"]) == ("npz", ["0", "1", "2"])
    arrays = {}
    for part in ("train", "val", "test"):
        arrays[f"{part}_images"] = rng.integers(0, 255, (3, 28, 28), dtype=np.uint8)
        arrays[f"{part}_labels"] = np.array([[0], [1], [1]])
    (tmp_path / "m").mkdir()
    np.savez(tmp_path / "m" / "pneumoniamnist.npz", **arrays)
    for data in (tmp_path / "m", tmp_path / "m" / "pneumoniamnist.npz"):
        assert init_and_assemble(data)["reader"] == "medmnist"


def test_mnist(tmp_path: Path, init_and_assemble: Init) -> None:
    for part in ("train", "t10k"):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(
            struct.pack(">4I", 2051, 2, 2, 2) + bytes(range(8))
        )
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 2049, 2) + bytes((3, 4)))
    assert init_and_assemble(tmp_path)["reader"] == "mnist"


def test_answers_on_a_terminal(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    images(tmp_path, 2)
    (tmp_path / "a.csv").write_text("path,who,Edema\n0.png,x,1\n1.png,y,0\n")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal("\nwho\n-\n"))
    assert cli("init", tmp_path / "a.csv", "-o", tmp_path / "a.yaml")[0] == 0
    source = load_config(tmp_path / "a.yaml").sources[0]
    assert (source.path_column, source.patient_column, source.split_column) == ("path", "who", "")


def test_a_subgroup_or_an_identifier_is_no_class() -> None:
    columns = {
        name: Column(name, dict.fromkeys(cells, 1))
        for name, cells in {
            "path": ["a.png", "b.png"],
            "sex": ["1", "0"],
            "Follow-up #": ["1", "0"],
            "group": ["1", "0"],
            "Edema": ["1", "0"],
        }.items()
    }
    uses = guess_uses(columns, {})
    assert (uses.path, uses.patient, uses.classes) == ("path", "group", ("Edema",))
    assert uses.subgroups == {"sex": "sex"}
