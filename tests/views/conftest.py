"""What tests of views share: small images of every kind."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Eleven images: grey and colour, PNG and JPEG, 16 bits, a palette, transparency; none of them 16x16."""
    rng = np.random.default_rng(0)
    shapes = [(24, 20), (30, 30, 3), (17, 40), (20, 20, 3), (33, 18), (18, 18, 3), (40, 40), (21, 35, 3)]
    images = [Image.fromarray(_smooth(rng, shape)) for shape in shapes]
    images.append(Image.fromarray(_smooth(rng, (22, 26)).astype(np.uint16) * 257))
    images.append(Image.fromarray(_smooth(rng, (25, 25, 3))).quantize(16))
    images.append(Image.fromarray(_smooth(rng, (19, 28, 4))))
    files = []
    for index, image in enumerate(images):
        path = tmp_path / f"{index}.{'jpg' if index in (2, 5) else 'png'}"
        image.save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))
        files.append(str(path))
    return files


def _smooth(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return random pixels without sharp edges."""
    small = Image.fromarray(rng.integers(0, 256, (5, 5, *shape[2:]), dtype=np.uint8))
    return np.asarray(small.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))
