"""Resizing by products, and files that appear whole."""

from pathlib import Path

import pytest
import torch

from labelassemble.errors import LabelAssembleError
from labelassemble.export.files import written_whole
from labelassemble.export.resize import resize_by_products
from labelassemble.views.preprocess import resize


@pytest.mark.parametrize("shape", [(1, 1), (12, 12), (13, 11), (5, 400), (900, 37)])
def test_resizing_by_products_is_resizing(shape: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *shape)
    torch.testing.assert_close(resize_by_products(images, 12), resize(images, 12), atol=1e-6, rtol=0)


def test_resizing_by_products_leaves_what_fits() -> None:
    images = torch.rand(1, 1, 224, 224)
    torch.testing.assert_close(resize_by_products(images, 224), images, atol=0, rtol=0)


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_text("old")

    def fail() -> None:
        with written_whole(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_one_sentence() -> None:
    with (
        pytest.raises(LabelAssembleError, match=r"/proc/m\.pt: cannot be written \("),
        written_whole(Path("/proc/m.pt")),
    ):
        pass
