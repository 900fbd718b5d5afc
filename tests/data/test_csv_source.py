"""The reader for a user's own CSV: what it understands and how it names what it does not."""

import codecs
import os
import string
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from labelassemble.data import CsvSource, Table, assemble, csvfile
from labelassemble.errors import LabelAssembleError


def read(folder: Path, text: str | bytes, **options: object) -> Table:
    path = folder / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return CsvSource.model_validate({"name": "local", "path": path} | options).read()


def test_columns_find_their_use(tmp_path: Path) -> None:
    table = read(
        tmp_path,
        "name,path,patient,split,source,Edema,COVID-19\n"
        "one,img/1.png,p1,train,A,1,0\n"
        "two,img/2.png,p1,valid,B,-2,\n"
        "three,img/3.png,,,A,0.0,-1\n",
    )
    assert table.classes == ("Edema", "COVID-19")
    np.testing.assert_array_equal(table.labels, [[1, 0], [-2, -1], [0, -1]])
    assert list(table.names) == ["one", "two", "three"]
    assert list(table.groups) == ["p1", "p1", ""]
    assert list(table.splits) == ["train", "val", ""]
    assert list(table.sources) == ["local/A", "local/B", "local/A"]
    assert list(table.paths) == [str(tmp_path / f"img/{index}.png") for index in (1, 2, 3)]
    assert not table.assumed.any()


def test_an_empty_name_leaves_a_use_out(tmp_path: Path) -> None:
    text = "name,path,patient,split,source,Edema\none,img/1.png,p1,train,A,1\n"
    uses = ("name", "patient", "split", "source")
    table = read(tmp_path, text, classes=["Edema"], **{f"{use}_column": "" for use in uses})
    assert list(table.sources) == ["local"]
    assert (list(table.names), list(table.groups), list(table.splits)) == (["img/1.png"], [""], [""])
    assert read(tmp_path, text, source_column="").classes == ("Edema",), (
        "a known column is not a class by that"
    )


def test_columns_are_named_by_the_user(tmp_path: Path) -> None:
    table = read(
        tmp_path,
        "file,pid,fold,age,Mass\n1.png,7,test,50,\n",
        root=tmp_path / "images",
        path_column="file",
        patient_column="pid",
        split_column="fold",
        classes=["Mass"],
        blank="negative",
    )
    assert list(table.paths) == [str(tmp_path / "images/1.png")]
    assert list(table.names) == ["1.png"]
    assert list(table.sources) == ["local"]
    np.testing.assert_array_equal(table.labels, [[0]])


def test_relative_paths_start_at_the_configuration(tmp_path: Path) -> None:
    source = CsvSource(name="x", path=Path("a/labels.csv")).resolved(tmp_path)
    assert (source.path, source.root) == (tmp_path / "a/labels.csv", tmp_path / "a")
    source = CsvSource(name="x", path=Path("/abs.csv"), root=Path("pics")).resolved(tmp_path)
    assert (source.path, source.root) == (Path("/abs.csv"), tmp_path / "pics")
    assert CsvSource(name="x", path=Path("~/labels.csv")).path == Path.home() / "labels.csv"


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_any_line_ending_and_a_byte_order_mark(tmp_path: Path, ending: str, mark: bytes) -> None:
    text = ending.join(["path,Mass", "1.png,1", '"2,\n2.png",0', "", "3.png, "])
    table = read(tmp_path, mark + text.encode())
    np.testing.assert_array_equal(table.labels, [[1], [0], [-1]])
    assert table.names[1] == "2,\n2.png"


def test_mixed_line_endings(tmp_path: Path) -> None:
    table = read(tmp_path, "path,Mass\r\n1.png,1\n2.png,0\r3.png,1\r\n")
    np.testing.assert_array_equal(table.labels[:, 0], [1, 0, 1])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "path;patient;Mass;Edema\n1.png;p1;1,0;\n2.png;p2;0;nan\n"),
        ("t.csv", "sep=;\npath;patient;Mass;Edema\n1.png;p1;1;NA\n2.png;p2;0,0;\n"),
        ("t.csv", '"path";"patient";"Mass";"Edema"\n"1.png";"p1";"1";""\n"2.png";"p2";"0";""\n'),
        ("t.txt", "path\tpatient\tMass\tEdema\n1.png\tp1\t1\t\n2.png\tp2\t0\tNaN\n"),
        ("t.tsv", "path\tpatient\tMass\tEdema\n1.png \tp1\t1\t\n\u00a02.png\tp2\t0\t\n"),
        ("t.csv", "path|patient|Mass|Edema\n1.png|p1|1|\n 2.png|p2|0|\n"),
        ("t.csv", "path,patient,Mass,Edema\n1.png\t,p1,1.0,<NA>\n2.png,p2,0,\n"),
        ("t.tsv", "path,patient,Mass,Edema\n1.png,p1,1.0,\n2.png,p2,0,\n"),
    ],
)
def test_other_separators_blanks_and_spaces(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    table = CsvSource(name="a", path=tmp_path / name).read()
    assert table.classes == ("Mass", "Edema")
    assert [Path(path).name for path in table.paths] == ["1.png", "2.png"] == table.names.tolist()
    assert table.groups.tolist() == ["p1", "p2"]
    assert table.labels.tolist() == [[1, -1], [0, -1]]


def test_what_is_missing_is_unknown_even_where_blanks_are_negative(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,Mass\n1.png,NA\n2.png,\n3.png,nan\n4.png,1\n")
    table = assemble([CsvSource(name="a", path=tmp_path / "t.csv", blank="negative")]).table
    assert table.labels[:, 0].tolist() == [-1, 0, -1, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "a CSV must have a header, got an empty file"),
        (b"\n\n", "a CSV must have a header, got an empty file"),
        (b"file,Mass\n", "line 1: no column 'path' .*known: file, Mass"),
        (b"path Mass\n1.png 1\n", "line 1: no column 'path' .*did you mean 'path Mass'"),
        (b"path;Mass\n1.png;1,5\n", "line 2, column 'Mass': a label must be 1, 0, .*, got '1,5'"),
        (b"path;Mass, left\n1.png;1\n", "no column 'path' .*'path;Mass,left'"),
        (b"path;Mass\n1.png;1;0\n", "line 2: the header has 2 columns, this row 3"),
        (b"path,Mass,Mass\n", "line 1, column 3: the column 'Mass' stands twice"),
        (b"path,,Mass\n", "line 1: column 2 has no name"),
        (b"path,patient\n", "line 1: no column is a class"),
        (b"path,group\n", "line 1: a class must not be named 'group'"),
        (b"path,Mass\n1.png,1\n2.png,2\n", r"line 3, column 'Mass': a label must be 1, 0, .*, got '2'"),
        (b"path,Mass\n1.png,yes\n", r"line 2, column 'Mass': .*, got 'yes'"),
        (b'path,Mass\n"1\n.png",yes\n', r"line 3, column 'Mass': .*, got 'yes'"),
        (b"path,Mass\n1.png,1\n2.png\n", "line 3: the header has 2 columns, this row 1"),
        (b"path,Mass\n1.png,1,0\n", "line 2: the header has 2 columns, this row 3"),
        (b'path,Mass\n1.png,"1\n', "line 2: not a valid CSV"),
        (b'path,Mass\n"1".png,1\n', "line 2: not a valid CSV"),
        (b"path,Mass\n1\x00.png,1\n", "line 2: a CSV must not contain NUL"),
        ("path,Mass\n1.png,1\nü.png,1\n".encode("latin-1"), r"a CSV must be UTF-8, got the byte 0xfc"),
        (b'path,Mass\n"' + b"x" * 200_000 + b'",1\n', "line 2: not a valid CSV"),
        (b"path,Mass\n" + b"x" * 200_000 + b",1\n\r\ny,2\n", "line 4, column 'Mass': a label must be"),
        (b"path,Mass\n ,1\n", "line 2, column 'path': the path of an image must not be blank"),
        *(
            (
                f"path,Mass\na,0\n{space},1\n".encode(),
                "line 3, column 'path': the path of an image must not be",
            )
            for space in "\u00a0\u3000\u2028\u0085\x0b\x1c"
        ),
        (b"path,Mass\n../x.png,1\n", r"line 2, column 'path': the path '../x.png' leaves the root"),
        (b"path,Mass\na/../../x.png,1\n", "leaves the root"),
        (b"path,Mass\n/etc/x.png,1\n", "leaves the root"),
        (b"path,split,Mass\n1.png,tests,1\n", "line 2, column 'split': .* got 'tests', did you mean 'test'"),
    ],
)
def test_bad_input_is_one_sentence_with_its_place(tmp_path: Path, text: bytes, message: str) -> None:
    with pytest.raises(LabelAssembleError, match=message) as caught:
        read(tmp_path, text)
    assert str(tmp_path / "labels.csv") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lines_are_counted_through_blank_lines_and_line_breaks_in_cells(tmp_path: Path) -> None:
    text = 'path,Mass\n"a\r\nb.png",1\n\n\n"c\nd\re.png",1\r\nf.png,x\n'
    with pytest.raises(LabelAssembleError, match="line 9, column 'Mass'"):
        read(tmp_path, text)
    with pytest.raises(LabelAssembleError, match="line 9: the header has 2 columns, this row 1"):
        read(tmp_path, text.replace("f.png,x", "f.png"))
    many = "path,Mass\n" + "".join(f"{index}.png,1\n" for index in range(3000))
    with pytest.raises(LabelAssembleError, match="line 2002, column 'Mass'"):
        read(tmp_path, many.replace("\n2000.png,1", "\n2000.png,y"))
    assert len(read(tmp_path, many)) == 3000


@settings(deadline=None)
@given(
    cells=st.lists(st.text(st.sampled_from("aé😀 \t\u00a0\ufeff0."), max_size=5), min_size=2, max_size=60),
    width=st.integers(1, 3),
    ends=st.lists(st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\r\r\n", "\n\r"]), min_size=60, max_size=60),
    block=st.integers(
        2, 80
    ),  # of one byte each Arrow would take a line feed behind a carriage return for the end
    mark=st.sampled_from([b"", codecs.BOM_UTF8]),
)
def test_arrow_reads_what_the_csv_module_reads_whatever_the_blocks_are(
    tmp_path_factory: pytest.TempPathFactory,
    cells: list[str],
    width: int,
    ends: list[str],
    block: int,
    mark: bytes,
) -> None:
    rows = [",".join(cells[first : first + width]) for first in range(0, len(cells), width)]
    path = tmp_path_factory.mktemp("blocks") / "x.csv"
    header = ",".join("abc"[:width]) + ends[-1]
    text = header + "".join(row + end for row, end in zip(rows, ends, strict=False))
    path.write_bytes(mark + text.encode())

    def read_all() -> list[tuple[str, ...]] | str:
        try:
            with csvfile.CsvFile(path) as file:
                return [
                    (chunk.place(row), *values)
                    for chunk in file.chunks(file.header)
                    for row, values in enumerate(zip(*map(chunk.cells, file.header), strict=True))
                ]
        except LabelAssembleError as error:
            return str(error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csvfile, "_BLOCK_BYTES", block)
        by_arrow = read_all()
        patch.setattr(csvfile.CsvFile, "_is_plain", lambda _self: False)
        assert by_arrow == read_all()


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for label in "17":
        writer = threading.Thread(target=pipe.write_text, args=(f"path,Mass\n\na,{label}\n",), daemon=True)
        writer.start()
        if label == "1":
            assert list(CsvSource(name="s", path=pipe).read().names) == ["a"]
        else:
            with pytest.raises(LabelAssembleError, match="line 3, column 'Mass': a label must be"):
                CsvSource(name="s", path=pipe).read()
        writer.join()


def test_paths_that_stay_below_the_root_are_kept(tmp_path: Path) -> None:
    table = read(tmp_path, f"path,Mass\na/../x.png,1\n{tmp_path}/y.png,0\nz..png,1\n")
    assert list(table.paths) == [str(tmp_path / name) for name in ("x.png", "y.png", "z..png")]


def test_one_image_has_one_path(tmp_path: Path) -> None:
    table = read(tmp_path, "path,Mass\na/1.png,1\n./a/1.png,1\na//1.png,1\na/./1.png,1\nx.tar::a/./1.png,0\n")
    assert table.paths.tolist() == [f"{tmp_path}/a/1.png"] * 4 + [f"{tmp_path}/x.tar::a/./1.png"]


def test_missing_columns_and_files(tmp_path: Path) -> None:
    with pytest.raises(LabelAssembleError, match=r"no column 'Masss' \(classes\), did you mean 'Mass'"):
        read(tmp_path, "path,Mass\n", classes=["Masss"])
    with pytest.raises(LabelAssembleError, match=r"no column 'pid' \(patient_column\)"):
        read(tmp_path, "path,Mass\n", patient_column="pid")
    with pytest.raises(LabelAssembleError, match=r"gone\.csv: cannot be read \(No such file"):
        CsvSource(name="x", path=tmp_path / "gone.csv").read()
    with pytest.raises(LabelAssembleError, match=r"cannot be read \(Is a directory\)"):
        CsvSource(name="x", path=tmp_path).read()


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        CsvSource.model_validate({"name": "x", "path": "a.csv", "pth": 1})
    with pytest.raises(ValidationError, match="Could not determine home directory"):
        CsvSource.model_validate({"name": "x", "path": "~nobody_of_that_name/a.csv"})
    with pytest.raises(ValidationError, match="a path must not contain NUL"):
        CsvSource.model_validate({"name": "x", "path": "a\0.csv"})
    with pytest.raises(ValidationError, match="String should match pattern"):
        CsvSource.model_validate({"name": "x\ny", "path": "a.csv"})
    with pytest.raises(ValidationError, match="Input should be 'negative' or 'positive'"):
        CsvSource.model_validate({"name": "x", "path": "a.csv", "assume": {"COVID-19": "maybe"}})


cells = st.sampled_from(["1", "0", "1.0", "0.0", "", "-1", "-2"])
states = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "": -1, "-1": -1, "-2": -2}


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(st.text(string.ascii_letters, min_size=1), cells, cells), max_size=20),
    data=st.data(),
)
def test_damage_never_drops_a_row(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]], data: st.DataObject
) -> None:
    """Whatever bytes are put into a good file: an error, or a row for each line that has one."""
    folder = tmp_path_factory.mktemp("damage")
    text = "path,A,B\n" + "".join(f"{name},{a},{b}\n" for name, a, b in rows)
    table = read(folder, text)
    np.testing.assert_array_equal(
        table.labels, np.array([[states[a], states[b]] for _, a, b in rows]).reshape(-1, 2)
    )
    position = data.draw(st.integers(0, len(text)))
    kind = data.draw(st.sampled_from(["cut", "insert", "replace"]))
    junk = b"" if kind == "cut" else data.draw(st.binary(min_size=1, max_size=4))
    raw = text.encode()
    end = len(raw) if kind == "cut" else position + (len(junk) if kind == "replace" else 0)
    damaged = raw[:position] + junk + raw[end:]
    try:
        table = read(folder, damaged)
    except LabelAssembleError:
        return
    if b'"' not in damaged:  # without quotes a line is a row
        lines = damaged.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").split("\n")
        assert len(table) == sum(line != "" for line in lines) - 1


def test_a_line_break_in_the_name_of_a_column_is_a_space(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(b'path,"Pleural\r\n Effusion"\n1.png,1\n')
    assert CsvSource(name="x", path=path).read().classes == ("Pleural Effusion",)
    path.write_bytes(b'path,"' + b" " * 130_000 + b'\nMass"\n1.png,1\n')
    assert CsvSource(name="x", path=path).read().classes == ("Mass",)
    path.write_bytes(b'path,"a' + b" " * 130_000 + b'b"\n1.png,1\n')
    assert len(CsvSource(name="x", path=path).read().classes[0]) == 130_002
    path.write_bytes(b'"pa\nth",Mass\n1.png,1\n')
    with pytest.raises(LabelAssembleError, match="no column 'path'") as raised:
        CsvSource(name="x", path=path).read()
    assert "\n" not in str(raised.value)


def test_a_file_in_utf_16_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("path,Edema\na.png,1\n".encode("utf-16"))
    with pytest.raises(
        LabelAssembleError, match=r"must be UTF-8, .* \(a file in UTF-16 must be saved as UTF-8"
    ):
        assemble([CsvSource(name="s", path=tmp_path / "t.csv")])


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("file,Mass\n1.png,1\n", r"no column 'path' \(path_column: the path of each image\)"),
        ("path,age,Mass\n1.png,old,1\n", "if this column is no class, list those that are in `classes`"),
        ("path,split,Mass\n1.png,7,1\n", '`split_column` names another column, `split_column: ""` none'),
        ("path,patient\n1.png,1\n", "name the columns in `classes`"),
    ],
)
def test_an_error_about_a_column_names_the_key(tmp_path: Path, text: str, key: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(LabelAssembleError, match=key):
        CsvSource(name="a", path=tmp_path / "a.csv").read()
    if "classes`" in key and "list" in key:  # nothing of the kind where the columns were chosen
        with pytest.raises(LabelAssembleError, match=r"got 'old'$"):
            CsvSource(name="a", path=tmp_path / "a.csv", classes=("age",)).read()


@pytest.mark.parametrize("content", [b"PAR1\x15\x04\xac\n", b"PAR1\x15\x04\x00\n"])
def test_a_parquet_file_is_told_by_its_first_bytes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(
        LabelAssembleError, match=r"labels\.csv is a Parquet file, not a CSV: its reader is parquet"
    ):
        CsvSource(name="a", path=tmp_path / "labels.csv").read()
