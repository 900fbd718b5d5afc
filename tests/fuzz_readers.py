"""Damages the files of every reader many times over and says what came of it.

    python tests/fuzz_readers.py --runs 5000 --seed 0

Each time the reader must return a table or raise one sentence, within the time limit, and no row may be lost without a
word: as many rows come out as another parser finds in the damaged files. A failure is printed with the number of its
run, which --only repeats.
"""

import argparse
import csv
import gzip
import io
import random
import shutil
import signal
import sys
import tarfile
import tempfile
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent / "data"))

from test_fuzz_readers import BUILDERS

from labelassemble.data import CsvSource, Source, assemble
from labelassemble.data.subgroup_report import read_with_subgroups
from labelassemble.errors import LabelAssembleError

Builder = Callable[[Path], Source]
Rows = list[list[str]]
TABLES = (".csv", ".csv.gz", ".txt")
ONE_ROW_PER_IMAGE = ("csv", "chestxray14", "chexpert", "padchest", "covidx", "long_csv", "quoted_csv")
SUBGROUPS = ("sex", "age", "view")


def long_csv(root: Path) -> Source:
    rows = [
        f"{i}.png,p{i // 2},{'MF'[i % 2]},{i % 130},{'' if i % 7 else 'train'},{i % 2},{-(i % 3)}"
        for i in range(400)
    ]
    (root / "labels.csv").write_text("path,patient,sex,age,split,Mass,Edema\n" + "\n".join(rows) + "\n")
    return CsvSource(name="x", path=root / "labels.csv")


def quoted_csv(root: Path) -> Source:
    rows = [f'"{i}, a.png",p{i // 2},"M",{i},1,"-2"' for i in range(60)]
    (root / "labels.csv.gz").write_bytes(
        gzip.compress(("path,patient,sex,age,Mass,Edema\n" + "\n".join(rows)).encode())
    )
    return CsvSource(name="x", path=root / "labels.csv.gz")


def parquet(root: Path) -> Source:
    table = pa.table(
        {"path": [f"{i}.png" for i in range(40)], "sex": ["M", None] * 20, "Mass": [1.0, None] * 20}
    )
    pq.write_table(table, root / "labels.parquet")
    return CsvSource(name="x", reader="parquet", path=root / "labels.parquet")


def cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def flip(data: bytes, draw: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(draw.choice((1, 2, 8, 64))):
        if damaged:
            damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
    return bytes(damaged)


def zero(data: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(len(data) + 1)
    length = draw.choice((1, 16, 512, len(data)))
    return data[:start] + b"\0" * len(data[start : start + length]) + data[start + length :]


def junk(data: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(len(data) + 1)
    piece = draw.choice(
        (b"\0", b'"', b",", b"\n", b"\r", b"\xff", b"\xef\xbb\xbf", b"\xc3", b"|", b"../", b"\xc2\xa0")
    )
    return data[:start] + piece + data[start:]


def huge(data: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(len(data) + 1)
    return data[:start] + draw.choice((b"x", b"9", b" ")) * 300_000 + data[start:]


def twice(data: bytes, draw: random.Random) -> bytes:
    return data + data


def encoding(data: bytes, draw: random.Random) -> bytes:
    try:
        return (
            data.decode()
            .replace("a", "ä")
            .encode(draw.choice(("latin-1", "utf-16", "utf-16-le", "utf-32", "cp500")))
        )
    except UnicodeError:
        return data[::-1]


def marks(data: bytes, draw: random.Random) -> bytes:
    old, new = draw.choice(
        (
            (b"\n", b"\r\n"),
            (b"\n", b"\r"),
            (b"\n", b"\n\n"),
            (b",", b";"),
            (b",", b"\t"),
            (b",", b", "),
            (b"", b""),
        )
    )
    return b"\xef\xbb\xbf" * draw.choice((0, 1, 2)) + (data.replace(old, new) if old else data)


def columns(rows: Rows, draw: random.Random) -> Rows:
    width = len(rows[0]) if rows else 0
    order = list(range(width))
    kind = draw.choice(("shuffle", "delete", "duplicate", "rename"))
    if not width:
        return rows
    if kind == "shuffle":
        draw.shuffle(order)
    elif kind == "delete":
        order.pop(draw.randrange(width))
    elif kind == "duplicate":
        order.insert(draw.randrange(width), draw.randrange(width))
    moved = [[row[index] if index < len(row) else "" for index in order] for row in rows]
    if kind == "rename" and moved:
        moved[0][draw.randrange(width)] = draw.choice(
            ("", "path", "Mass", "sex", "x\ty", "subgroup:sex", "split")
        )
    return moved


def lines(rows: Rows, draw: random.Random) -> Rows:
    head, body = rows[:1], rows[1:]
    kind = draw.choice(("shuffle", "delete", "duplicate", "swap"))
    if kind == "shuffle":
        draw.shuffle(body)
    elif kind == "delete" and body:
        body.pop(draw.randrange(len(body)))
    elif kind == "duplicate" and body:
        body.insert(draw.randrange(len(body) + 1), draw.choice(body))
    elif kind == "swap" and body:  # a cell from elsewhere
        row, other = draw.choice(body), draw.choice(body)
        if row and other:
            row[draw.randrange(len(row))] = draw.choice(other)
    return head + body


def cells(rows: Rows, draw: random.Random) -> Rows:
    odd = (
        "",
        " ",
        "nan",
        "-1",
        "1e400",
        "NULL",
        "é",
        "\u200b1",
        "1\u00a0",
        "a\nb",
        '"',
        "0x1",
        "1,5",
        "TRUE",
        "x" * 5000,
    )
    for _ in range(draw.choice((1, 5))):
        row = draw.choice(rows) if rows else []
        if row:
            row[draw.randrange(len(row))] = draw.choice(odd)
    return rows


BYTES = (cut, flip, zero, junk, huge, twice, encoding, marks)
ROWS = (columns, lines, cells)


def damage(path: Path, draw: random.Random) -> str:
    """Damage a file in one way or two, and return in which."""
    said = []
    for _ in range(draw.choice((1, 1, 2))):
        data = path.read_bytes()
        packed = data[:2] == b"\x1f\x8b" and draw.random() < 0.7
        try:
            data = gzip.decompress(data) if packed else data
        except (OSError, EOFError, ValueError, zlib.error):
            packed = False
        is_table = path.name.endswith(TABLES)
        way: Callable[..., object] = draw.choice((*BYTES, *ROWS, *ROWS) if is_table else BYTES)
        said.append(way.__name__)
        if way in ROWS:
            try:
                mark = " " if path.name.endswith(".txt") else ","
                rows = way(list(csv.reader(io.StringIO(data.decode(), newline=""), delimiter=mark)), draw)
            except (UnicodeError, csv.Error):
                continue
            buffer = io.StringIO(newline="")
            csv.writer(buffer, lineterminator="\n", delimiter=mark).writerows(rows)  # type: ignore[arg-type]
            data = buffer.getvalue().encode()
        else:
            data = way(data, draw)  # type: ignore[assignment]
        path.write_bytes(gzip.compress(data) if packed else data)
    return "+".join(said)


def rows_in(path: Path) -> int | None:
    """Return how many rows a table has below its header by the csv module; None where that cannot say."""
    data = path.read_bytes()
    try:
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        text = data.decode("utf-8-sig")
        if path.name.endswith(".txt"):
            return sum(bool(line.strip()) for line in text.splitlines())
        return sum(bool(row) for row in csv.reader(io.StringIO(text, newline=""), strict=True)) - 1
    except (OSError, EOFError, ValueError, zlib.error, csv.Error):
        return None


def expected_rows(name: str, files: Sequence[Path]) -> int | None:
    """Return how many rows must come out of the reader, None where no other parser can say."""
    if name in ONE_ROW_PER_IMAGE:
        counts = [rows_in(path) for path in files if not path.name.endswith("_list.txt")]
    elif name == "mimic":
        counts = [rows_in(path) for path in files if "split" in path.name]
    elif name == "webdataset":
        try:
            with tarfile.open(files[0]) as tar:
                counts = [sum(member.isfile() and member.name.endswith(".png") for member in tar)]
        except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error):
            return None
    else:
        return None
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


class HangError(Exception):
    """A reader took longer than the limit."""


@contextmanager
def limit(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise HangError(f"took more than {seconds} s of the processor")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def attempt(build: Builder, run: int, seed: int, seconds: int) -> tuple[str, str]:
    """Return what came of one run (table, sentence or failure) and a line about it."""
    draw = random.Random(f"{seed}:{run}")
    root = Path(tempfile.mkdtemp(prefix="fuzz"))
    try:
        source = build(root)
        files = sorted(path for path in root.rglob("*") if path.is_file())
        path = draw.choice(files)
        ways = damage(path, draw)
        about = f"run {run}, {build.__name__}, {path.name}, {ways}"
        wanted = SUBGROUPS if draw.random() < 0.5 else ()
        try:
            with limit(seconds), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # numpy warns of odd headers
                table = read_with_subgroups(source, wanted)
                count = expected_rows(build.__name__, files)
                if count is not None and count != len(table):
                    return (
                        "rows",
                        f"{about}: {count} rows in, {len(table)} out, notes: {'; '.join(table.notes)}",
                    )
                if len(table):
                    whole = assemble([source], subgroups=wanted)
                    if len(whole.table) + len(whole.report.duplicates) != len(table):
                        return "rows", f"{about}: {len(table)} rows read, {len(whole.table)} assembled"
        except LabelAssembleError as error:
            lines_said = str(error).splitlines()
            return ("sentence", str(error)) if len(lines_said) == 1 else ("lines", f"{about}: {error!r}")
        except HangError as error:
            return "hang", f"{about}: {error}"
        except Exception:
            return "crash", f"{about}: {traceback.format_exc(limit=-4)}"
        return "table", about
    finally:
        shutil.rmtree(root, ignore_errors=True)


def main() -> int:
    """Run the command line; the exit status is 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=int, default=20, help="Limit of one run.")
    parser.add_argument("--only", type=int, help="Repeat this run alone.")
    options = parser.parse_args()
    builders: list[Builder] = [*BUILDERS, long_csv, quoted_csv, parquet]
    counts: Counter[tuple[str, str]] = Counter()
    failures = 0
    for run in range(options.runs) if options.only is None else [options.only]:
        build = builders[run % len(builders)]
        outcome, line = attempt(build, run, options.seed, options.seconds)
        counts[build.__name__, outcome] += 1
        if outcome not in ("table", "sentence"):
            failures += 1
            print(f"{outcome}: {line}", flush=True)
        elif options.only is not None:
            print(f"{outcome}: {line}")
    for name in dict.fromkeys(build.__name__ for build in builders):
        print(f"{name:12}", ", ".join(f"{n} {what}" for (b, what), n in sorted(counts.items()) if b == name))
    print(f"{sum(counts.values())} runs, {failures} failures")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
