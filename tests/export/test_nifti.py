"""Volumes as the C++ library reads and writes them, against nibabel."""

import gzip
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from labelassemble.data.errors import ImageError
from labelassemble.data.mask_files import read_mask
from labelassemble.data.volumes import read_grid, read_volume

sys.path.insert(0, str(Path(__file__).parents[1]))
from nifti_bytes import changed

nib = pytest.importorskip("nibabel")

Program = Callable[[str], Path]
DTYPES = ("u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
# Voxel sizes 0.7, 2 and 3 mm, turned by 20 degrees and with the first axis to the left.
TURNED = np.array(
    [[-0.7 * 0.9397, 2 * 0.342, 0, 10.5], [0.7 * 0.342, 2 * 0.9397, 0, -20.25], [0, 0, 3, 5], [0, 0, 0, 1]]
)


class Copy(NamedTuple):
    """What the C++ library said of a file, and what it wrote again."""

    said: str
    values: Path
    mask: Path
    map: Path

    def floats(self, shape: Sequence[int]) -> Any:
        return np.fromfile(self.values, np.float32).reshape(shape)


@pytest.fixture(scope="module")
def copies(cpp_program: Program) -> Callable[[Sequence[Path]], list[Copy]]:
    """Read files by the C++ library and write them again, all in one process."""
    program = cpp_program("nifti_copy")

    def run(files: Sequence[Path]) -> list[Copy]:
        kinds = [".values", ".mask.nii.gz", ".map.nii"]
        written = [[Path(f"{file}{kind}") for kind in kinds] for file in files]
        lines = ["\t".join(map(str, [file, *paths])) for file, paths in zip(files, written, strict=True)]
        done = subprocess.run(
            [program], input="\n".join(lines), capture_output=True, text=True, check=True, errors="replace"
        )
        said = done.stdout.splitlines()
        assert len(said) == len(files)
        return [Copy(text, *paths) for text, paths in zip(said, written, strict=True)]

    return run


def _files(folder: Path) -> list[Path]:
    """Return files of every dtype, byte order, form of place, scale and size."""
    rng = np.random.default_rng(0)
    files = []
    for index, dtype in enumerate(DTYPES):
        for order in "<>":
            shape = [(5, 7, 20), (17, 4, 33), (6, 9), (3, 1, 2), (4, 5, 6, 1)][(index + (order == ">")) % 5]
            kind = np.dtype(dtype).kind
            values = rng.normal(0, 50, shape) if kind == "f" else rng.integers(0, 120, shape)
            header = nib.Nifti1Header(endianness=order)
            image = nib.Nifti1Image(values.astype(dtype), TURNED, header, dtype=dtype)
            if index % 3 == 0:
                image.header.set_slope_inter(0.25, -1000)
            if index % 3 == 1:
                image.set_sform(None, 0)
                image.set_qform(TURNED, 1)
            if index % 5 == 4:
                image.set_sform(None, 0)
                image.set_qform(None, 0)
            path = folder / f"{index}{'le' if order == '<' else 'be'}.nii{'.gz' if index % 2 else ''}"
            nib.save(image, path)
            files.append(path)
    return files


def test_values_and_places_are_those_of_nibabel(
    tmp_path: Path, copies: Callable[[Sequence[Path]], list[Copy]]
) -> None:
    files = _files(tmp_path)
    for file, copy in zip(files, copies(files), strict=True):
        image = nib.load(file)
        shape = (*image.shape, 1, 1)[:3]
        said = np.array(copy.said.split(), float)
        assert said[:3].tolist() == list(shape), file
        np.testing.assert_allclose(said[3:].reshape(4, 4), image.affine, rtol=0, atol=1e-5, err_msg=str(file))
        expected = image.get_fdata().reshape(shape)
        np.testing.assert_array_equal(copy.floats(shape), expected.astype(np.float32), err_msg=str(file))


def test_what_is_written_lies_where_its_volume_does(
    tmp_path: Path, copies: Callable[[Sequence[Path]], list[Copy]]
) -> None:
    files = _files(tmp_path)
    for file, copy in zip(files, copies(files), strict=True):
        image, mask, both = nib.load(file), nib.load(copy.mask), nib.load(copy.map)
        shape = (*image.shape, 1, 1)[:3]
        values = image.get_fdata().reshape(shape).astype(np.float32)
        assert mask.get_data_dtype() == np.uint8
        assert both.shape == (*shape, 2)
        np.testing.assert_array_equal(np.asarray(mask.dataobj), values > 0)
        np.testing.assert_array_equal(np.asarray(both.dataobj), np.stack([values, -values], axis=-1))
        for written in (mask, both):
            np.testing.assert_array_equal(written.affine, image.affine)
            for form in ("qform_code", "sform_code", "xyzt_units"):
                assert written.header[form] == image.header[form], form


def test_a_file_of_several_gzip_members_is_read(
    tmp_path: Path, copies: Callable[[Sequence[Path]], list[Copy]]
) -> None:
    values = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    data = nib.Nifti1Image(values, np.eye(4)).to_bytes()
    path = tmp_path / "members.nii.gz"
    path.write_bytes(gzip.compress(data[:400]) + gzip.compress(data[400:]))
    (copy,) = copies([path])
    np.testing.assert_array_equal(copy.floats(values.shape), values)


def test_a_damaged_or_lying_file_is_refused_in_one_sentence(
    tmp_path: Path, copies: Callable[[Sequence[Path]], list[Copy]]
) -> None:
    good = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4)).to_bytes()
    packed = gzip.compress(good)
    wrong = packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:]
    cases: list[tuple[str, bytes, str]] = [
        ("truncated.nii", good[:-1], "damaged NIfTI file: its header tells of 240 bytes of values, and the"),
        ("truncated.nii.gz", packed[:-30], "damaged NIfTI file: gzip says"),
        ("fewer.nii.gz", gzip.compress(good[:-2]), "tells of 240 bytes of values, and fewer follow"),
        ("checksum.nii.gz", wrong, "damaged NIfTI file: gzip says 'incorrect data check'"),
        ("empty.nii", b"", "not a NIfTI-1 file: its header has 348 bytes, got 0"),
        ("text.nii", b"hello " * 100, "not a NIfTI-1 file"),
        ("analyze.nii", changed(good, magic=b""), "not a NIfTI-1 file (an Analyze 7.5 header"),
        ("pair.nii", changed(good, magic=b"ni1"), "whose values are in another file (.hdr and .img)"),
        ("two.nii", changed(good, sizeof_hdr=540), "a NIfTI-2 file, and NIfTI-1 is read"),
        ("colour.nii", changed(good, datatype=128), "got data type 128"),
        ("negative.nii", changed(good, dim__2=-5), "its size is 4 x -5"),
        ("axes.nii", changed(good, dim__0=0, dim__1=1), "a volume must have 2 or 3 axes, got 0"),
        ("line.nii", changed(good, dim__0=1), "a volume must have 2 or 3 axes, got 1"),
        ("metres.nii", changed(good, xyzt_units=1), "lengths are in metres, and mm are read"),
        ("several.nii", changed(good, dim__0=4, dim__4=3), "it must hold one volume, got 4 x 5 x 6 x 3"),
        (
            "large.nii",
            changed(good, dim__1=32767, dim__2=32767, dim__3=32767),
            "must have at most 1073741824 voxels, got 32767 x 32767 x 32767",
        ),
        (
            "bomb.nii.gz",
            gzip.compress(changed(good, dim__1=1000, dim__2=1000, dim__3=1000)),
            "damaged NIfTI file: its header tells of 2000000000 bytes of values, and no file of",
        ),
        ("flat.nii", changed(good, srow_y=[1, 0, 0, 0], sform_code=1), "its axes have no three directions"),
        ("nan.nii", changed(good, srow_y=[np.nan, 1, 0, 0], sform_code=1), "no three directions"),
        ("offset.nii", changed(good, vox_offset=10), "its values begin at byte 10"),
        ("header.nii", changed(good, vox_offset=0), "its values begin at byte 0"),
        ("code.nii", changed(good, sform_code=6), "its sform_code is 6, and NIfTI knows 0 to 5"),
        ("turned.nii", changed(good, qform_code=-1), "its qform_code is -1, and NIfTI knows 0 to 5"),
        ("small.nii", changed(good, sform_code=1, srow_z=[0, 0, 1e-13, 0]), "no three directions"),
        ("inter.nii", changed(good, scl_slope=2, scl_inter=np.inf), "its scl_inter is not finite"),
        ("turn.nii", changed(good, sform_code=0, qform_code=1, quatern_b=2), "quaternion is longer than 1"),
        (
            "size.nii",
            changed(good, sform_code=0, qform_code=1, pixdim__2=0),
            "its voxels have no size along axis 2 (pixdim), and it has no sform",
        ),
        ("nowhere.nii", changed(good, sform_code=0, pixdim__1=np.nan), "no size along axis 1 (pixdim)"),
    ]
    files = []
    for name, data, _ in cases:
        files.append(tmp_path / name)
        files[-1].write_bytes(data)
    files.append(tmp_path / "none.nii")
    said = [copy.said for copy in copies(files)]
    for (name, _, reason), sentence in zip([*cases, ("none.nii", b"", "no such volume")], said, strict=True):
        assert sentence.startswith(f"refused: {tmp_path / name}: "), sentence
        assert reason in sentence, sentence


def test_nothing_is_written_where_a_file_cannot_be(
    tmp_path: Path, copies: Callable[[Sequence[Path]], list[Copy]]
) -> None:
    path = tmp_path / "in.nii"
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4)), path)
    (tmp_path / "in.nii.mask.nii.gz").mkdir()
    (copy,) = copies([path])
    assert copy.said.startswith(f"refused: {copy.mask}: cannot be written")
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "in.nii",
        "in.nii.mask.nii.gz",
        "in.nii.values",
    ]


@pytest.mark.slow
def test_reading_survives_damage_under_the_sanitizers(cpp_program: Program, tmp_path: Path) -> None:
    files = _files(tmp_path)
    program = cpp_program("nifti_mutants")
    (tmp_path / "mutants").mkdir()
    done = subprocess.run(
        [program, "150", tmp_path / "mutants", *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    read, refused = (int(part.split()[0]) for part in done.stdout.split(","))
    assert read + refused == 150 * len(files)
    assert min(read, refused) > 300


WHOLE = (-32768, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 255, 256, 348, 512, 32767)
REAL = (0, 1, -1, 0.5, -3, 352, 400, 1e30, 1e-30, np.nan, np.inf)


def _changed_headers(folder: Path) -> list[Path]:
    """Return files of which a field of the header or two hold another value."""
    rng, made = np.random.default_rng(0), []
    fields = [name for name, (kind, *_) in nib.nifti1.header_dtype.fields.items() if kind.base.kind in "iuf"]
    files = [path for path in _files(folder) if path.suffix == ".nii"]
    for number in range(1200):
        source = files[number % len(files)]
        data = bytearray(source.read_bytes())
        kind = nib.nifti1.header_dtype.newbyteorder("<" if "le" in source.name else ">")
        header = np.frombuffer(data, kind, count=1)
        for name in rng.choice(fields, rng.integers(1, 3)):
            cells = header[name].reshape(-1)  # a view
            value = rng.choice(REAL if cells.dtype.kind == "f" else WHOLE)
            with np.errstate(all="ignore"):
                cells[rng.integers(cells.size)] = np.array(value).astype(cells.dtype)
        made.append(folder / f"{number}.nii")
        made[-1].write_bytes(data)
    return made


def test_python_reads_and_refuses_what_the_library_does(
    tmp_path: Path, copies: Callable[[Sequence[Path]], list[Copy]]
) -> None:
    files = _changed_headers(tmp_path)
    read = 0
    for path, copy in zip(files, copies(files), strict=True):
        if copy.said.startswith("refused"):
            with pytest.raises(ImageError):
                read_volume(str(path))
            continue
        found = read_volume(str(path))
        np.testing.assert_allclose(copy.floats(found.values.shape), found.values, rtol=1e-5, atol=1e-4)
        place = np.array(copy.said.split(), float)[3:]
        np.testing.assert_allclose(place, found.affine.ravel(), rtol=1e-5, atol=1e-5 * abs(place).max())
        read += 1
    assert 400 < read < 1000


FLIPPED = np.diag([-0.7, 2.0, 3.0, 1.0])
COARSE = np.diag([0.7, 2.0, 3.1, 1.0])
TILTED = np.array(
    [[0.7 * 0.9848, -2 * 0.1736, 0, 50], [0.7 * 0.1736, 2 * 0.9848, 0, 3], [0, 0, 3, 5], [0, 0, 0, 1]]
)


@pytest.mark.parametrize(
    ("sform", "qform", "codes", "sentence"),
    [
        (np.diag([0.7, 2.0, 3.0, 1.0]), FLIPPED, (1, 1), "axes to RAS and to LAS"),
        (np.diag([0.7, 2.0, 3.0, 1.0]), COARSE, (4, 1), "voxels of 0.7 x 2 x 3 mm and of 0.7 x 2 x 3.1 mm"),
        (np.diag([0.7, 2.0, 3.0, 1.0]), FLIPPED, (1, 0), ""),  # the other one is not given
        (np.diag([0.7, 2.0, 3.0, 1.0]), FLIPPED, (0, 1), ""),
        (np.diag([0.7, 2.0, 3.0, 1.0]), np.diag([0.7, 2.0, 3.02, 1.0]), (1, 1), ""),
        (np.diag([0.7, 2.0, 3.0, 1.0]), TILTED, (2, 1), ""),  # the same voxels and sides
        (TURNED, TURNED, (1, 1), ""),
    ],
)
def test_forms_that_contradict_each_other_are_refused_as_in_python(
    tmp_path: Path,
    copies: Callable[[Sequence[Path]], list[Copy]],
    sform: Any,
    qform: Any,
    codes: tuple[int, int],
    sentence: str,
) -> None:
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), None)
    image.set_sform(sform, codes[0])
    image.set_qform(qform, codes[1])
    path = tmp_path / "a.NII.GZ"
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(image.to_bytes()))
    (tmp_path / "a.nii.gz").rename(path)
    (copy,) = copies([path])
    if sentence:
        assert copy.said.startswith(
            f"refused: {path}: its sform and its qform contradict each other, {sentence}"
        )
        for read in (read_volume, read_grid, read_mask):
            with pytest.raises(ImageError) as error:
                read(str(path))
            assert f"refused: {error.value}" == copy.said
        return
    assert np.array(copy.said.split(), float)[3:] == pytest.approx(
        read_volume(str(path)).affine.ravel(), abs=1e-6
    )
