"""A class is negative only where somebody looked for it: lists, blanks, readers at odds, implications both ways."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from labelassemble.data import (
    ChestXray14Source,
    CheXpertSource,
    CsvSource,
    MedMnistSource,
    MimicCxrSource,
    NpzSource,
    PadChestSource,
    SplitOptions,
    Taxonomy,
    VinDrCxrSource,
    WebDatasetSource,
    assemble,
)
from labelassemble.data.readers.chexpert import CHEXPERT_CLASSES
from labelassemble.data.readers.mimic import MIMIC_CLASSES
from labelassemble.data.readers.padchest_labels import PADCHEST_LABELS, PERHAPS, general_labels
from labelassemble.errors import LabelAssembleError

ALL = SplitOptions(val=0, test=0)
THORAX = Taxonomy.load("thorax")
PNEUMONIA = Taxonomy.model_validate(
    {
        "classes": [
            {"name": "Opacity"},
            {"name": "Pneumonia", "implies": ["Opacity"]},
            {"name": "Viral", "implies": ["Pneumonia"]},
            {"name": "Bacterial", "implies": ["Pneumonia"]},
            {"name": "Normal"},
        ],
        "no_finding": "Normal",
    }
)


def padchest(folder: Path, *lists: str, classes: tuple[str, ...]) -> PadChestSource:
    rows = [f'{number}.png,0,{number},PA,"{cell}"' for number, cell in enumerate(lists)]
    table = "\n".join(["ImageID,ImageDir,PatientID,Projection,Labels", *rows]) + "\n"
    (folder / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv").write_text(table)
    return PadChestSource(name="pc", root=folder, classes=classes)


@pytest.mark.parametrize("taxonomy", [None, THORAX])
def test_padchest_names_as_finely_as_it_can(tmp_path: Path, taxonomy: Taxonomy | None) -> None:
    source = padchest(
        tmp_path,
        "['normal']",
        "['laminar atelectasis', ' costophrenic angle blunting']",
        "['multiple nodules']",
        "['loculated pleural effusion']",
        "['atypical pneumonia']",
        "['atelectasis', ' nodule', ' pleural effusion', ' pneumonia']",
        classes=("atelectasis", "nodule", "pleural effusion", "pneumonia"),
    )
    assembly = assemble([source], taxonomy=taxonomy, split=ALL)
    np.testing.assert_array_equal(
        assembly.table.labels,
        [[0] * 4, [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1] * 4],
    )
    assert not assembly.table.assumed.any()  # the publisher's own tree says so
    (note,) = [note for note in assembly.report.notes if "a kind of theirs alone" in note]
    assert "'atelectasis' ('laminar atelectasis' 1)" in note
    assert not [note for note in assembly.report.notes if "does not know" in note]
    assert not len(assembly.report.conflicts)


def test_padchest_up_and_down_its_tree(tmp_path: Path) -> None:
    classes = ("atelectasis", "laminar atelectasis", "lobar atelectasis", "infiltrates", "consolidation")
    source = padchest(
        tmp_path,
        "['laminar atelectasis']",  # the other kind is not named beside it
        "['atelectasis']",  # of which kind nobody said
        "['consolidation']",
        "['infiltrates']",
        "['air bronchogram']",  # in a consolidation or beside one
        classes=classes,
    )
    np.testing.assert_array_equal(
        source.read().labels,
        [[1, 1, 0, 0, 0], [1, -1, -1, 0, 0], [0, 0, 0, 1, 1], [0, 0, 0, 1, -1], [0, 0, 0, 1, -1]],
    )
    np.testing.assert_array_equal(
        assemble([source], taxonomy=THORAX, split=ALL).table.labels, source.read().labels
    )
    tuberculosis = padchest(tmp_path, "['tuberculosis sequelae']", "[]", classes=("tuberculosis",))
    assert tuberculosis.read().labels.tolist() == [[-1], [-1]]  # what is left of it is no tuberculosis


def test_padchest_reports_that_say_nothing(tmp_path: Path) -> None:
    source = padchest(
        tmp_path,
        "['unchanged']",
        "['unchanged', 'cardiomegaly']",
        "['normal', 'unchanged']",
        "['suboptimal study']",
        "['suboptimal study', 'laminar atelectasis']",
        "['exclude', 'cardiomegaly']",
        "",
        classes=("cardiomegaly", "atelectasis"),
    )
    assembly = assemble([source], taxonomy=THORAX, split=ALL)
    np.testing.assert_array_equal(
        assembly.table.labels, [[-1, -1], [1, -1], [0, 0], [-1, -1], [-1, 1], [-1, -1], [-1, -1]]
    )
    (note,) = [note for note in assembly.report.notes if "what is not named" in note]
    assert "unknown in 4 images" in note
    assert "everything in 2 whose list" in note


def test_padchest_labels_that_are_no_class_reach_a_taxonomy_of_ones_own(tmp_path: Path) -> None:
    mine = Taxonomy.model_validate(
        {
            "classes": [
                {"name": "Edema", "synonyms": ["pulmonary edema"]},
                {"name": "Kerley Lines", "implies": ["Edema"]},
                {"name": "Scoliosis"},
            ]
        }
    )
    source = padchest(
        tmp_path,
        "['kerley lines']",
        "['scoliosis']",
        "['goiter', 'kyphosis', 'hypertrophy of something']",
        "['exclude', 'kerley lines']",
        "['goiter']",
        classes=("pulmonary edema",),
    )
    assembly = assemble([source], taxonomy=mine, split=ALL)
    assert assembly.table.classes == ("Edema",)
    assert assembly.table.labels.tolist() == [[1], [0], [0], [-1], [0]]
    assert assembly.table.assumed.tolist() == [[True], [False], [False], [False], [False]]
    notes = "\n".join(assembly.report.notes)
    assert "source 'pc': the taxonomy does not know 3 of the labels in its lists" in notes
    assert "by images: 'goiter' 2, 'hypertrophy of something' 1, 'kyphosis' 1" in notes
    assert "the publisher's tree lacks these labels of the reports, by images: 'hypertrophy of so" in notes
    with pytest.raises(LabelAssembleError, match="no report has the label 'goitre', did you mean 'goiter'"):
        padchest(tmp_path, "['scoliosis']", classes=("goitre",)).read()
    assert padchest(tmp_path, "['scoliosis']", classes=("goiter",)).read().labels.tolist() == [[0]]


def test_thorax_knows_each_label_of_padchest_by_a_name_of_its_own() -> None:
    names = {word: THORAX.find(word) for word in PADCHEST_LABELS}
    assert not [word for word, name in names.items() if name is None]
    assert len(set(names.values())) == len(names) == 194
    for word, name in names.items():  # what thorax implies, the publisher's tree has too
        known = {names[general] for general in general_labels([word])}
        of_padchest = set(THORAX.implied(str(name))) & set(names.values())
        assert of_padchest <= known, word
    for general, kinds in PERHAPS.items():
        for kind in kinds:
            assert general not in general_labels([kind])
    assert THORAX.find("round atelectasis") == "Round Atelectasis"
    assert "Support Devices" in THORAX.implied("Central Venous Catheter via Umbilical Vein")
    assert THORAX.exempts("Pacemaker")
    assert not THORAX.exempts("Edema")


def csv(folder: Path, text: str, **options: object) -> CsvSource:
    (folder / "t.csv").write_text(text)
    return CsvSource.model_validate({"name": "s", "path": folder / "t.csv", "root": folder} | options)


def test_a_negative_that_somebody_wrote_contradicts_what_implies_it(tmp_path: Path) -> None:
    source = csv(tmp_path, "path,Viral,Pneumonia,Bacterial\n1.png,1,0,\n2.png,1,,\n3.png,,0,\n4.png,1,-2,0\n")
    assembly = assemble([source], taxonomy=PNEUMONIA, split=ALL)
    np.testing.assert_array_equal(assembly.table.labels, [[1, -2, -1], [1, 1, -1], [0, 0, 0], [1, 1, 0]])
    conflicts = assembly.report.conflicts
    assert conflicts[["class", "positive", "result"]].values.tolist() == [
        ["Pneumonia", "1.png", "uncertain, implied by Viral"]
    ]
    assert "conflicting labels: 1" in assembly.report.to_text()
    only = assemble([source], classes=["Pneumonia"], taxonomy=PNEUMONIA, split=ALL)
    assert only.table.labels[:, 0].tolist() == [-2, 1, 0, 1]
    assert len(only.report.conflicts) == 1


def test_a_blank_that_means_negative_yields_to_what_implies_it(tmp_path: Path) -> None:
    text = "path,Viral,Bacterial,Pneumonia\n1.png,1,,\n2.png,,,1\n3.png,,,\n4.png,-2,,\n5.png,1,0,0\n"
    source = csv(tmp_path, text, blank="negative")
    assert source.read().labels.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0], [-2, 0, 0], [1, 0, 0]]
    assembly = assemble([source], taxonomy=PNEUMONIA, split=ALL)
    np.testing.assert_array_equal(
        assembly.table.labels, [[1, 0, 1], [-1, -1, 1], [0, 0, 0], [-2, 0, -1], [1, 0, -2]]
    )
    assert len(assembly.report.conflicts) == 1  # what somebody wrote in the last row


def test_two_sources_of_an_image_contradict_each_other_by_the_taxonomy(tmp_path: Path) -> None:
    first = csv(tmp_path, "path,Viral\n1.png,1\n2.png,0\n")
    (tmp_path / "u.csv").write_text("path,Pneumonia\n1.png,0\n2.png,0\n")
    second = CsvSource(name="u", path=tmp_path / "u.csv", root=tmp_path)
    assembly = assemble([first, second], taxonomy=PNEUMONIA, split=ALL)
    np.testing.assert_array_equal(assembly.table.labels, [[1, -2], [0, 0]])
    assert assembly.report.conflicts["result"].tolist() == ["uncertain, implied by Viral"]


@pytest.mark.parametrize("publisher", ["chexpert", "mimic"])
def test_a_row_of_blanks_says_nothing(tmp_path: Path, publisher: str) -> None:
    classes = CHEXPERT_CLASSES if publisher == "chexpert" else MIMIC_CLASSES
    cells = {"all": "," * 13, "edema": ",".join("1.0" if name == "Edema" else "" for name in classes)}
    if publisher == "chexpert":
        head = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(classes)
        path = "CheXpert-v1.0/{}/patient{}/study1/view1_frontal.jpg,Male,5,Frontal,AP,{}"
        (tmp_path / "train.csv").write_text(f"{head}\n{path.format('train', '00001', cells['all'])}\n")
        (tmp_path / "valid.csv").write_text(f"{head}\n{path.format('valid', '00002', cells['edema'])}\n")
        source: CheXpertSource | MimicCxrSource = CheXpertSource(
            name="s", root=tmp_path, blank="negative", valid="val"
        )
    else:
        head = "subject_id,study_id," + ",".join(classes)
        rows = f"10000032,50000001,{cells['all']}\n10000033,50000002,{cells['edema']}\n"
        (tmp_path / "mimic-cxr-2.0.0-chexpert.csv").write_text(f"{head}\n{rows}")
        (tmp_path / "mimic-cxr-2.0.0-split.csv").write_text(
            "dicom_id,study_id,subject_id,split\na,50000001,10000032,train\nb,50000002,10000033,train\n"
        )
        source = MimicCxrSource(name="s", root=tmp_path, blank="negative")
    table = source.read()
    assert table.labels[0].tolist() == [-1] * 14
    assert table.labels[1].tolist() == [int(name in ("Edema", "Lung Opacity")) for name in classes]
    effusion = Taxonomy.model_validate(
        {
            "classes": [
                {"name": name, **({"implies": ["Pleural Effusion"]} if name == "Edema" else {})}
                for name in classes
            ]
        }
    )
    labels = assemble([source], taxonomy=effusion, split=ALL).table.labels
    present = ("Edema", "Lung Opacity", "Pleural Effusion")
    assert labels[1].tolist() == [int(name in present) for name in classes]


def test_chestxray14_looked_for_fourteen_findings_but_not_against_a_taxonomy(tmp_path: Path) -> None:
    (tmp_path / "Data_Entry_2017.csv").write_text(
        "Image Index,Finding Labels,Patient ID\n0.png,Pneumonia,1\n1.png,No Finding,2\n2.png,Infiltration,3\n"
    )
    source = ChestXray14Source(name="nih", root=tmp_path)
    columns = [source.read().column(name) for name in ("Pneumonia", "Infiltration", "Edema")]
    plain = assemble([source], taxonomy=THORAX, split=ALL).table.labels[:, columns]
    assert plain.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]
    classes = [{"name": name} for name in source.read().classes if name != "Pneumonia"]
    mine = Taxonomy.model_validate(
        {"classes": [*classes, {"name": "Pneumonia", "implies": ["Infiltration"]}]}
    )
    assert assemble([source], taxonomy=mine, split=ALL).table.labels[:, columns].tolist() == [
        [1, 1, 0],
        [0, 0, 0],
        [-1, 1, 0],
    ]


def test_single_labels_and_a_taxonomy(tmp_path: Path) -> None:
    """One class a image: its general class is there too, and "Pneumonia" does not say which."""
    names = ("Viral", "Pneumonia", "Normal", "Bacterial")
    with tarfile.open(tmp_path / "s.tar", "w") as shard:
        for number in range(4):
            for ending, content in (("png", b"x"), ("cls", str(number).encode())):
                member = tarfile.TarInfo(f"{number}.{ending}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    web = WebDatasetSource(name="s", shards=tmp_path / "s.tar", labels="cls", classes=names)
    for split, count in (("train", 4), ("test", 1)):
        pixels = np.zeros((count, 8, 8), dtype=np.uint8)
        np.savez(tmp_path / f"{split}.npz", images=pixels, labels=np.arange(count))
    npz = NpzSource(name="s", root=tmp_path, labels=names)
    for source in (web, npz):
        table = assemble([source], taxonomy=PNEUMONIA, split=ALL).table
        assert table.labels[:4].tolist() == [[1, 1, 0, 0], [-1, 1, 0, -1], [0, 0, 1, 0], [0, 1, 0, 1]]
        assert table.assumed[:4].tolist() == [
            [False, True, False, False],
            [False] * 4,
            [False] * 4,
            [False, True, False, False],
        ]


def test_webdataset_json_says_each_label_by_word(tmp_path: Path) -> None:
    samples: list[dict[str, int]] = [{"Viral": 1, "Pneumonia": 0}, {"Viral": 1}, {"Pneumonia": 0}]
    with tarfile.open(tmp_path / "s.tar", "w") as shard:
        for number, labels in enumerate(samples):
            for ending, content in (("png", b"x"), ("json", json.dumps({"labels": labels}).encode())):
                member = tarfile.TarInfo(f"{number}.{ending}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    source = WebDatasetSource(name="s", shards=tmp_path / "s.tar")
    assembly = assemble([source], taxonomy=PNEUMONIA, split=ALL)
    assert assembly.table.labels.tolist() == [[1, -2], [1, 1], [0, 0]]
    assert len(assembly.report.conflicts) == 1


def test_medmnist_with_a_taxonomy(tmp_path: Path) -> None:
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = np.zeros((5, 28, 28, 3), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(5)[:, None]
    np.savez(tmp_path / "retinamnist.npz", **arrays)
    thresholds = MedMnistSource(name="s", path=tmp_path / "retinamnist.npz", ordinal="thresholds")
    grades = MedMnistSource(name="t", path=tmp_path / "retinamnist.npz")
    grading = Taxonomy.model_validate(
        {
            "classes": [
                *({"name": f"grade {grade}"} for grade in (0, 1)),
                *({"name": f"grade {grade}", "implies": ["grade >= 2"]} for grade in (2, 3, 4)),
                *({"name": f"grade >= {grade}"} for grade in (1, 2, 3, 4)),
            ]
        }
    )
    assert assemble([thresholds], taxonomy=grading).table.classes[1] == "grade >= 2"  # not "grade 2"
    both = assemble([grades, thresholds], taxonomy=grading, classes=["grade 3", "grade >= 2"]).table
    assert both.labels[:5].tolist() == [[0, 0], [0, 0], [0, 1], [1, 1], [0, 1]]


def test_vindr_readers_who_agree_on_nothing(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    head = "ILD,Fibrosis,Infiltration,Edema,No finding"
    votes = {
        "a": ("1,0,0,0,0", "0,1,0,0,0", "0,0,1,0,0"),  # each saw something else
        "b": ("1,0,0,0,0", "1,0,0,1,0", "0,0,0,0,1"),
        "c": ("1,0,0,0,0", "0,0,0,0,1", "0,0,0,0,1"),
        "d": ("0,1,0,0,0", "0,0,1,0,0", "0,0,0,0,1"),
    }
    rows = [f"{image},R{number},{cells}" for image, of in votes.items() for number, cells in enumerate(of)]
    (tmp_path / "annotations/image_labels_train.csv").write_text(
        "\n".join([f"image_id,rad_id,{head}", *rows]) + "\n"
    )
    (tmp_path / "annotations/image_labels_test.csv").write_text(f"image_id,{head}\nz,0,0,0,0,1\n")
    labels = VinDrCxrSource(name="v", root=tmp_path).read().labels
    np.testing.assert_array_equal(
        labels,
        [[-2, -2, -2, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0, -2, -2, 0, -2], [0, 0, 0, 0, 1]],
    )


def test_no_finding_beside_a_finding_is_a_conflict_and_says_nothing_of_the_others(tmp_path: Path) -> None:
    lines = ["path,Normal,A,C", "1.png,1,1,", "2.png,1,,", "3.png,0,1,0", "4.png,,0,1"]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    taxonomy = Taxonomy.model_validate(
        {"classes": [{"name": "Normal"}, {"name": "A"}, {"name": "C"}], "no_finding": "Normal"}
    )
    assembly = assemble([CsvSource(name="s", path=tmp_path / "t.csv")], taxonomy=taxonomy)
    table = assembly.table.select_classes(["Normal", "A", "C"])
    assert table.labels[:2].tolist() == [[-2, 1, -1], [1, 0, 0]]
