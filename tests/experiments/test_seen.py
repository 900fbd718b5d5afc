"""What an arm sees: a border, a thumbnail, or the images as they are."""

from pathlib import Path

import numpy as np

from labelassemble.data.images import decode_image
from labelassemble.experiments.seen import border, seen, thumbnail
from labelassemble.experiments.stack import Stack


def test_a_border_of_an_eighth() -> None:
    images = np.random.default_rng(0).integers(1, 255, (2, 16, 16), dtype=np.uint8)
    left = border(images)
    assert (left[:, 2:-2, 2:-2] == 0).all()
    outside = np.ones((16, 16), dtype=np.bool_)
    outside[2:-2, 2:-2] = False
    assert (left[:, outside] == images[:, outside]).all()
    assert (border(images[:, :12, :12])[:, 1:-1, 1:-1] == 0).all()  # 12 / 8 is one pixel
    assert (border(images[:, :12, :12])[:, 0] == images[:, 0, :12]).all()


def test_a_thumbnail_of_eight_pixels() -> None:
    images = np.random.default_rng(0).integers(0, 255, (3, 32, 32), dtype=np.uint8)
    found = thumbnail(images)
    means = images.reshape(3, 8, 4, 8, 4).mean(axis=(2, 4)).round()
    assert (found == means.repeat(4, axis=1).repeat(4, axis=2)).all()
    odd = thumbnail(images[:, :20, :20])
    assert odd.shape == (3, 20, 20)
    assert len(np.unique(odd[0])) <= 64


def test_colours_are_kept_apart() -> None:
    images = np.zeros((1, 16, 16, 3), dtype=np.uint8)
    images[..., 1] = 200
    assert (thumbnail(images) == images).all()
    assert (border(images)[0, 0] == [0, 200, 0]).all()


def test_a_stack_is_changed_once_and_beside_its_file(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(1, 255, (4, 16, 16), dtype=np.uint8)
    np.savez(tmp_path / "s.npz", images=images)
    stack = Stack(
        tmp_path / "s.npz", ("a",), np.zeros((4, 1), np.float32), np.full(4, "test"), np.full(4, "p"), "f"
    )
    assert seen(stack, "whole") is stack
    for sees, change in (("border", border), ("thumbnail", thumbnail)):
        found = seen(stack, sees)  # type: ignore[arg-type]
        assert found.file == tmp_path / f"s-{sees}.npz"
        pixels = decode_image(found.paths(np.array([2]))[0])
        assert (pixels[0] == change(images)[2]).all()
        written = found.file.stat().st_mtime_ns
        assert seen(stack, sees).file.stat().st_mtime_ns == written  # type: ignore[arg-type]
        assert found.targets is stack.targets
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s-border.npz", "s-thumbnail.npz", "s.npz"]
