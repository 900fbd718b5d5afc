#!/usr/bin/env bash
# What `make wheel` left in dist/, as a stranger meets it: the wheel holds what users of Python and of C++ need and no
# tests, it works in a fresh environment away from the sources, and the sdist holds what the wheel was built from.
#
#   tests/check_wheel.sh [PYTHON] [TORCH]     for instance: tests/check_wheel.sh python3.12 "torch==2.11.0"
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3} torch=${2:-torch==2.13.0}
sources=$PWD
wheel=$(ls dist/labelassemble-*.whl) sdist=$(ls dist/labelassemble-*.tar.gz)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"$python" - "$wheel" <<'EOF'
import re, sys, zipfile

names = zipfile.ZipFile(sys.argv[1]).namelist()
for needed in (
    r"labelassemble/_C\..*so",
    r"labelassemble/liblabelassemble_(ops|runtime)\.so",
    r"labelassemble/include/labelassemble/classifier\.h",
    r"labelassemble/share/cmake/labelassemble/labelassembleConfig\.cmake",
    r"labelassemble/bin/labelassemble-predict",
    r"labelassemble/report/templates/report\.html\.j2",
    r"labelassemble/data/taxonomies/thorax\.yaml",
    r"labelassemble/py\.typed",
    r".*\.dist-info/licenses/LICENSE",
):
    assert any(re.fullmatch(needed, name) for name in names), f"the wheel lacks {needed}"
outside = [name for name in names if not re.match(r"labelassemble(/|\.libs/|-[^/]+\.dist-info/)", name)]
assert not outside, f"the wheel holds what is not the package's: {outside}"
strange = [name for name in names if re.search(r"test|\.(cpp|cu|o|pyc)$", name)]
assert not strange, f"the wheel holds what no user needs: {strange}"
programs = [name for name in names if name.endswith(("labelassemble-predict", "labelassemble-serve"))]
assert len(programs) == len({name.rsplit("/", 1)[1] for name in programs}), f"a program twice: {programs}"
assert re.search(r"\+torch[0-9.]+\.(cpu|cu\d+)-.*-manylinux_\d+_\d+_", sys.argv[1]), "its name lacks torch or manylinux"
(metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
(torch,) = re.findall(r"^Requires-Dist: torch([^a-z].*)$", zipfile.ZipFile(sys.argv[1]).read(metadata).decode(), re.MULTILINE)
assert re.fullmatch(r"==[0-9.]+", torch), f"it asks for torch{torch}"
print(f"{sys.argv[1]}: {len(names)} files, asks for torch{torch}")
EOF

tar xzf "$sdist" -C "$folder"
for part in CMakeLists.txt LICENSE README.md pyproject.toml cmake csrc; do
  diff -r "$part" "$folder"/labelassemble-*/"$part"
done
git ls-files labelassemble | while read -r file; do cmp "$file" "$folder"/labelassemble-*/"$file"; done
echo "$sdist: what the wheel was built from"

"$python" -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
unset PYTHONPATH
pip install --quiet "$torch"
pip install --quiet "$wheel"
cd "$folder"
python -c '
import re, sys
(block,) = re.findall(r"```python\n(.*?)```", open(sys.argv[1], encoding="utf-8").read(), re.DOTALL)
exec(block)
import labelassemble
assert labelassemble.__file__.startswith(sys.prefix), labelassemble.__file__
' "$sources/README.md"
python "$sources/examples/drop_in_head.py"
labelassemble doctor
labelassemble-predict --version

# A C++ program outside: built against the wheel, it answers as the wheel's own program does.
pip install --quiet cmake
cmake -S "$sources/csrc/example" -B build -DCMAKE_PREFIX_PATH="$(labelassemble doctor --cmake-path)" >/dev/null
cmake --build build >/dev/null
grep -q "labelassemble_DIR:PATH=$folder/venv/" build/CMakeCache.txt
python -c '
import numpy as np
from PIL import Image
from labelassemble import AssembleNet
from labelassemble.export import export_torchscript
from labelassemble.views.preprocess import Preprocess

net = AssembleNet("cnn_small", classes=["Edema", "Mass"], in_channels=1).eval()
image = np.full((20, 30), 128, np.uint8)
Image.fromarray(image).save("image.pgm")
preprocess = Preprocess(1, 32, (0.5,), (0.5,))
export_torchscript(net, "model.pt", classes=net.classes, preprocess=preprocess, images=[image[None]])
'
build/classify model.pt image.pgm
labelassemble-predict model.pt image.pgm --format json | grep probabilities
