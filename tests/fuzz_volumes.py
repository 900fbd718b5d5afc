"""Damages volumes and masks many times over and says what came of it.

    python tests/fuzz_volumes.py --runs 5000 --seed 0

Each time the reader must give what an independent reading of the same bytes gives, or one sentence that names the file,
within the time and memory limits and without a warning. A failure is printed with the number of its run, which --only
repeats.
"""

import argparse
import gzip
import math
import random
import resource
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent / "data"))

from test_dicom_series import series, slices

from labelassemble.data.errors import ImageError
from labelassemble.data.mask_files import read_mask
from labelassemble.data.volumes import read_grid, read_volume

ORDERS: tuple[Literal["<"], Literal[">"]] = ("<", ">")
SECONDS = 5.0
KILOBYTES = 400 * 1024
TYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
FIELDS = {  # of a NIfTI-1 header: offset and type
    "sizeof_hdr": (0, "i"), "dim": (40, "8h"), "datatype": (70, "h"), "bitpix": (72, "h"), "pixdim": (76, "8f"),
    "vox_offset": (108, "f"), "scl_slope": (112, "f"), "scl_inter": (116, "f"), "xyzt_units": (123, "B"),
    "qform_code": (252, "h"), "sform_code": (254, "h"), "quatern": (256, "3f"), "qoffset": (268, "3f"),
    "srow": (280, "12f"), "magic": (344, "4s"),
}  # fmt: skip
Read = tuple[NDArray[Any], NDArray[np.float64] | None]
Attempt = Callable[[Path, random.Random], tuple[str, str, "Read | None"]]


def nifti(draw: random.Random) -> bytearray:
    """Return a NIfTI file of 5 x 4 x 3 voxels in one of the usual types and either order of bytes."""
    order, code = draw.choice(ORDERS), draw.choice(list(TYPES))
    voxels = np.arange(60).astype(TYPES[code]).astype(np.dtype(TYPES[code]).newbyteorder(order))
    header = bytearray(352)

    def put(field: str, *values: Any) -> None:
        at, kind = FIELDS[field]
        struct.pack_into(order + kind, header, at, *values)

    put("sizeof_hdr", 348)
    put("dim", 3, 5, 4, 3, 1, 1, 1, 1)
    put("datatype", code)
    put("bitpix", 8 * voxels.itemsize)
    put("pixdim", 1, 2, 2, 3, 1, 1, 1, 1)
    put("vox_offset", 352)
    put("scl_slope", draw.choice([0.0, 1.0, 2.0]))
    put("scl_inter", draw.choice([0.0, -10.0]))
    put("xyzt_units", 2)
    put("sform_code", 1)
    put("srow", -2, 0, 0, 5, 0, 2, 0, 6, 0, 0, 3, 7)
    put("magic", b"n+1\0")
    return header + voxels.tobytes()


def change_nifti(data: bytearray, draw: random.Random) -> str:
    """Change a field of a header, some bytes, or the length; return what was done."""
    kind = draw.choice(["field", "field", "field", "byte", "cut", "more"])
    if kind == "cut":
        del data[draw.randrange(len(data)) :]
    elif kind == "more":
        data += bytes(draw.randrange(1, 50))
    elif kind == "byte":
        for _ in range(draw.randrange(1, 6)):
            data[draw.randrange(len(data))] = draw.randrange(256)
    else:
        name = draw.choice([field for field in FIELDS if field != "magic"])
        at, form = FIELDS[name]
        order = "<" if data[0] else ">"
        count, letter = int(form[:-1] or 1), form[-1]
        size = struct.calcsize(letter)
        where = at + size * draw.randrange(count)
        whole = [0, 1, 2, 3, 5, 8, 16, 64, 128, 255, 256, 512, 2304, -1, 32767, -32768]
        real = [
            0.0,
            1.0,
            -1.0,
            0.5,
            2.0,
            348.0,
            352.0,
            400.0,
            1e9,
            -1e30,
            1e38,
            math.nan,
            math.inf,
            -math.inf,
        ]
        value: float = draw.choice(real) if letter == "f" else draw.choice(whole)
        value = int(value) % 256 if letter == "B" else value
        struct.pack_into(order + letter, data, where, value)
        kind = f"{name}[{(where - at) // size}] = {value}"
    return kind


def own_nifti(data: bytes) -> Read:
    """Return voxels and affine as the standard says; any exception means that it is no such file."""
    order = ORDERS[0] if 1 <= struct.unpack_from("<h", data, 40)[0] <= 7 else ORDERS[1]  # of dim[0]

    def get(field: str) -> tuple[Any, ...]:
        at, kind = FIELDS[field]
        return struct.unpack_from(order + kind, data, at)

    if get("magic")[0] != b"n+1\0":
        raise ValueError("no NIfTI")
    dim = get("dim")
    shape = list(dim[1 : dim[0] + 1])
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if dim[0] not in range(1, 8) or min(shape) < 0 or len(shape) not in (2, 3):
        raise ValueError("shape")
    raw = np.dtype(TYPES[get("datatype")[0]]).newbyteorder(order)
    count = math.prod(shape)
    values = np.frombuffer(data, raw, count, int(get("vox_offset")[0])).reshape(shape, order="F")
    slope, inter = get("scl_slope")[0], get("scl_inter")[0]
    if math.isfinite(slope) and slope != 0:
        if not math.isfinite(inter):
            raise ValueError("intercept")
        values = values.astype(np.float64) * slope + inter
    affine = np.eye(4)
    if get("sform_code")[0] > 0:
        affine[:3] = np.array(get("srow")).reshape(3, 4)
    else:
        affine = own_qform(get("pixdim"), get("quatern"), get("qoffset"), get("qform_code")[0], shape)
    return values, affine


def own_qform(pixdim: Any, quatern: Any, offset: Any, code: int, shape: list[int]) -> NDArray[np.float64]:
    affine = np.eye(4)
    sizes = np.abs(np.array(pixdim[1:4], np.float64))
    if code <= 0:  # nobody says: as nibabel, to the left, front and top, from the middle
        sizes[: len(shape)][np.array(shape[:3]) == 1] += sizes[: len(shape)][np.array(shape[:3]) == 1] == 0
        affine[:3, :3] = np.diag(sizes * (-1, 1, 1))
        affine[:3, 3] = -affine[:3, :3] @ ((np.array([*shape, 1][:3]) - 1) / 2)
        return affine
    b, c, d = quatern
    a = math.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    turn = np.array([
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
    ])  # fmt: skip
    sizes[2] *= -1 if pixdim[0] == -1 else 1
    affine[:3, :3], affine[:3, 3] = turn * sizes, offset
    return affine


def try_nifti(folder: Path, draw: random.Random) -> tuple[str, str, Read | None]:
    data = nifti(draw)
    what = "as it is" if draw.random() < 0.1 else change_nifti(data, draw)
    path = folder / draw.choice(["a.nii", "a.nii.gz"])
    stored = bytes(data)
    if path.suffix == ".gz":
        packed = bytearray(gzip.compress(stored))
        if draw.random() < 0.3:
            what += ", then its stream"
            if draw.random() < 0.5:
                del packed[draw.randrange(len(packed)) :]
            else:
                packed[draw.randrange(len(packed))] ^= 1 << draw.randrange(8)
        path.write_bytes(packed)
        try:
            stored = gzip.decompress(bytes(packed))
        except (EOFError, OSError, zlib.error):
            return str(path), what, None
    else:
        path.write_bytes(stored)
    try:
        return str(path), what, own_nifti(stored)
    except Exception:
        return str(path), what, None


def try_npz(folder: Path, draw: random.Random) -> tuple[str, str, Read | None]:
    shape = tuple(draw.choice([0, 1, 3, 5]) for _ in range(draw.randrange(1, 5)))
    kind = draw.choice(["u1", "i2", "f4", "f8", "?", ">u2", "c8", "U3", "M8[s]"])
    array = np.arange(math.prod(shape)).astype("i8").reshape(shape).astype(kind)
    buffer = BytesIO()
    (np.savez_compressed if draw.random() < 0.5 else np.savez)(buffer, case=array)
    data, path = bytearray(buffer.getvalue()), folder / "a.npz"
    what = f"{kind} {shape}"
    if draw.random() < 0.7:
        if draw.random() < 0.3:
            del data[draw.randrange(len(data)) :]
        for _ in range(draw.randrange(1, 4)):
            if data:
                data[draw.randrange(len(data))] = draw.randrange(256)
        what += " damaged"
    path.write_bytes(data)
    try:
        with np.load(BytesIO(bytes(data)), allow_pickle=False) as archive:
            return f"{path}::case", what, (archive["case"], None)
    except Exception:
        return f"{path}::case", what, None


def png(depth: int, colour: int, rows: list[bytes], width: int, palette: int = 0) -> bytes:
    """Return a PNG of filtered rows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    colours = chunk(b"PLTE", bytes(range(3 * palette))) if palette else b""
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + colours + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def try_png_mask(folder: Path, draw: random.Random) -> tuple[str, str, Read | None]:
    depth, colour = draw.choice(
        [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (1, 3), (2, 3), (4, 3), (8, 3), (8, 2), (8, 4)]
    )
    width, height = draw.randrange(1, 12), draw.randrange(1, 6)
    values = np.array([[draw.randrange(min(1 << depth, 7)) for _ in range(width)] for _ in range(height)])
    channels = {2: 3, 4: 2}.get(colour, 1)
    rows = []
    for row in values:
        bits = "".join(f"{value:0{depth}b}" * channels for value in row.tolist())
        bits += "0" * (-len(bits) % 8)
        rows.append(bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)))
    data = bytearray(
        png(depth, colour, rows, width, (1 << depth) if colour == 3 and depth < 8 else 80 * (colour == 3))
    )
    path = folder / "mask.png"
    expected: Read | None = (values, None) if channels == 1 else None
    what = f"{depth} bits, colour type {colour}"
    if draw.random() < 0.5:
        expected, what = None, what + " damaged"
        for _ in range(draw.randrange(1, 4)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        if draw.random() < 0.3:
            del data[draw.randrange(len(data)) :]
    path.write_bytes(data)
    return str(path), what, expected


def own_series(items: list[dict[str, Any]]) -> Read:
    """Return the volume of slices that are all right, by their places."""
    across, down = np.array(items[0]["ImageOrientationPatient"], float).reshape(2, 3)
    normal = np.cross(across, down)
    order = sorted(items, key=lambda item: float(normal @ np.array(item["ImagePositionPatient"])))
    volume = np.stack(
        [
            item["pixels"].astype(np.float64) * float(item.get("RescaleSlope", "2"))
            + float(item.get("RescaleIntercept", "-1024"))
            for item in order
        ],
        axis=2,
    )
    if items[0].get("PhotometricInterpretation") == "MONOCHROME1":
        volume = 2 * 65535 - 2048 - volume
    first, last = (np.array(item["ImagePositionPatient"], float) for item in (order[0], order[-1]))
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = down * items[0]["PixelSpacing"][0], across * items[0]["PixelSpacing"][1]
    affine[:3, 2], affine[:3, 3] = (last - first) / (len(order) - 1), first
    return volume, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def try_series(folder: Path, draw: random.Random) -> tuple[str, str, Read | None]:
    items = slices(draw.randrange(4, 7))
    which = draw.randrange(1, len(items) - 1)
    one = items[which]
    kind = draw.choice(
        ["nothing", "missing", "twice", "spacing", "series", "tilt", "moved", "slope", "slope 0", "slope nan",
         "inverted", "some inverted", "shape", "frames", "signed", "turned", "bytes", "no pixels"]
    )  # fmt: skip
    good = kind in ("nothing", "tilt", "slope", "inverted")
    if kind == "missing":
        del items[which]
    elif kind == "twice":
        items.append({**one, "pixels": one["pixels"] + 5})
    elif kind == "spacing":
        one["PixelSpacing"] = [0.8, 0.6]
    elif kind == "series":
        one["SeriesInstanceUID"] = "1.2.10"
    elif kind == "tilt":
        for index, item in enumerate(items):
            item["ImagePositionPatient"] = [-7.0 - 2.5 * index, 20.0, 30.0 + 0.7 * index]
    elif kind == "moved":
        one["ImagePositionPatient"] = [one["ImagePositionPatient"][0], 20.0, 33.0]
    elif kind == "slope":
        for index, item in enumerate(items):
            item.update(RescaleSlope=str(index + 1), RescaleIntercept=str(-10 * index))
    elif kind == "slope 0":
        one["RescaleSlope"] = "0"
    elif kind == "slope nan":
        one["RescaleSlope"] = "nan"
    elif kind in ("inverted", "some inverted"):
        for item in items if kind == "inverted" else [one]:
            item["PhotometricInterpretation"] = "MONOCHROME1"
    elif kind == "shape":
        one["pixels"] = one["pixels"][:4]
    elif kind == "frames":
        one["NumberOfFrames"] = 2
    elif kind == "signed":
        one["PixelRepresentation"] = 1
        good = True
    elif kind == "turned":
        one["ImageOrientationPatient"] = [0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    place = folder / "series"
    place.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is written on purpose
        series(place, items)
    if kind == "no pixels":
        file = sorted(place.glob("*.dcm"))[0]
        file.write_bytes(file.read_bytes()[:-61])
    elif kind == "bytes":
        file = draw.choice(sorted(place.glob("*.dcm")))
        data = bytearray(file.read_bytes())
        for _ in range(draw.randrange(1, 4)):
            data[draw.randrange(len(data) - 60)] = draw.randrange(256)
        file.write_bytes(data)
        return str(place), kind, None
    return str(place), kind, own_series(items) if good else None


ATTEMPTS: dict[str, Attempt] = {"nifti": try_nifti, "npz": try_npz, "png": try_png_mask, "series": try_series}


def attempt(name: str, run: int, seed: int) -> tuple[str, str]:
    """Make one file and read it; return how it ended ("read", "refused", or a failure) and what was done."""
    draw = random.Random(f"{name} {seed} {run}")
    with tempfile.TemporaryDirectory() as folder:
        path, what, expected = ATTEMPTS[name](Path(folder), draw)
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
        ending = "read"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                if name == "png":
                    found = read_mask(path)
                else:
                    found = read_volume(path)  # type: ignore[assignment]
                    grid = read_grid(path)
        except ImageError as error:
            ending = "refused"
            if folder not in str(error) or "\n" in str(error) or "object at 0x" in str(error):
                return f"FAILED: a sentence such as '{error}'", what
            sentence = str(error).removeprefix(path)
        except Exception:
            return f"FAILED: {traceback.format_exc()}", what
        if time.monotonic() - began > SECONDS:
            return f"FAILED: took {time.monotonic() - began:.1f} s", what
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > KILOBYTES:
            return "FAILED: took too much memory", what
        if ending == "refused":
            if what in ("as it is", "nothing", "tilt", "slope") or (name == "png" and expected is not None):
                return f"FAILED: refused what is right:{sentence}", what
            return "refused", what
        if found.values.dtype.kind not in "biuf":
            return "refused", what  # by whoever takes the voxels, since they are no numbers
        if name != "png" and grid.shape != found.values.shape:
            return f"FAILED: header {grid.shape} and voxels {found.values.shape}", what
        if expected is None:
            damaged = (name == "png" and "damaged" in what) or (name == "series" and what == "bytes")
            return ("read" if damaged else "FAILED: read what is none"), what
        return compared(found.values, found.affine, *expected), what


def compared(
    values: NDArray[Any], affine: NDArray[Any] | None, right: NDArray[Any], place: NDArray[Any] | None
) -> str:
    if values.shape != right.shape:
        return f"FAILED: shape {values.shape}, and it is {right.shape}"
    if right.dtype.kind in "biufc" and not np.allclose(values, right, rtol=1e-5, atol=1e-5, equal_nan=True):
        return f"FAILED: other values, {values.reshape(-1)[:5]} and {right.reshape(-1)[:5]}"
    if place is not None:
        known = ~np.isnan(place)
        if affine is None or not np.allclose(affine[known], place[known], rtol=1e-4, atol=1e-4):
            return f"FAILED: another place, {affine} and {place}"
    return "read"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--kind", choices=list(ATTEMPTS))
    arguments = parser.parse_args()
    failed = 0
    for name in [arguments.kind] if arguments.kind else ATTEMPTS:
        endings: Counter[str] = Counter()
        for run in range(arguments.runs) if arguments.only is None else [arguments.only]:
            ending, what = attempt(name, run, arguments.seed)
            endings[ending.split(":")[0]] += 1
            if ending.startswith("FAILED"):
                failed += 1
                print(f"{name} {run} ({what}): {ending}", flush=True)
        print(f"{name}: {dict(endings)}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
