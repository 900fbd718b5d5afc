import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from labelassemble.data.errors import ImageError
from labelassemble.errors import LabelAssembleError
from labelassemble.views.options import StrongOptions, ViewOptions, WeakOptions
from labelassemble.views.params import WeakParams
from labelassemble.views.plots import describe_geometry, plot_views, write_views_plot


@pytest.fixture
def ramp(tmp_path: Path) -> str:
    """An image that is black on the left and white on the right."""
    path = tmp_path / "ramp.png"
    Image.fromarray(np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))).save(path)
    return str(path)


def _pixels(plot: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(plot)).convert("RGB"))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_picture_grows_with_its_views_and_repeats(ramp: str, channels: int) -> None:
    options = ViewOptions(size=32, channels=channels)
    one, two, five = (_pixels(plot_views(ramp, options, count=count)) for count in (1, 2, 5))
    assert one.shape[1] < two.shape[1] < five.shape[1]
    assert one.shape[0] > two.shape[0] > five.shape[0]  # the options take more lines
    assert np.array_equal(two, _pixels(plot_views(ramp, options, count=2)))
    assert not np.array_equal(two, _pixels(plot_views(ramp, options, count=2, seed=1)))


def test_a_forbidden_flip_is_seen_in_no_view(ramp: str) -> None:
    def rises(flip: float) -> int:
        """Return by how many steps the middle line goes up more often than down."""
        options = ViewOptions(
            size=32,
            weak=WeakOptions(flip=flip, rotate=0, noise=0),
            strong=StrongOptions(
                flip=flip, rotate=0, noise=0, salt_pepper=0, brightness=0, contrast=0, erase=0
            ),
        )
        plot = _pixels(plot_views(ramp, options, count=3)).astype(int)
        steps = np.sign(np.diff(plot[int(plot.shape[0] * 0.75), :, 0]))
        return int(steps[np.abs(np.diff(plot[int(plot.shape[0] * 0.75), :, 0])) < 40].sum())

    # A ramp rises to the right in all four cells of a row, or falls in all but the evaluated view.
    assert rises(0.0) > 50
    assert rises(1.0) < 0


def test_how_a_view_lies_is_said_in_words() -> None:
    params = WeakParams(
        mirrored=torch.tensor([True, False, False, True]),
        radians=torch.tensor([4.0, -7.4, 0.2, 0.0]).deg2rad(),
        noise_at=torch.zeros(4),
    )
    assert describe_geometry(params) == ["mirrored, ↺ 4°", "↻ 7°", "", "mirrored"]


def test_mistakes_are_named(ramp: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"missing\.png: cannot be opened"):
        plot_views(str(tmp_path / "missing.png"), ViewOptions())
    with pytest.raises(LabelAssembleError, match="at least one view of each kind, got 0"):
        plot_views(ramp, ViewOptions(), count=0)
    with pytest.raises(LabelAssembleError, match=r"ramp\.png.grid\.png: cannot be written"):
        write_views_plot(ramp, ViewOptions(size=16), Path(ramp) / "grid.png", count=1)


def test_the_picture_is_written_where_asked(ramp: str, tmp_path: Path) -> None:
    write_views_plot(ramp, ViewOptions(size=16), tmp_path / "new" / "grid.png", count=1)
    assert (tmp_path / "new" / "grid.png").read_bytes() == plot_views(ramp, ViewOptions(size=16), count=1)
