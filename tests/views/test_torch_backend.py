from pathlib import Path

import numpy as np
import pytest
import torch

from labelassemble.data.errors import ImageError
from labelassemble.data.images import decode_image
from labelassemble.views import torch_backend, view_pair
from labelassemble.views.bad_files import BadFiles
from labelassemble.views.options import StrongOptions, ViewOptions, WeakOptions
from labelassemble.views.sampler import Sampler
from labelassemble.views.torch_backend import TorchViews, evaluation_batches

OPTIONS = ViewOptions(size=16)


def test_the_evaluated_view_is_the_preprocessing_of_the_file(paths: list[str]) -> None:
    batches = list(evaluation_batches(paths, OPTIONS, batch_size=3))
    assert torch.cat([batch.rows for batch in batches]).tolist() == list(range(11))
    views = torch.cat([batch.images for batch in batches])
    for path, view in zip(paths, views, strict=True):
        pixels = torch.tensor(decode_image(path))[None]
        assert torch.equal(view, OPTIONS.preprocess()(pixels)[0])


def test_evaluation_without_bad_files_stops_at_one_and_with_them_leaves_it_out(paths: list[str]) -> None:
    for row in (3, 4, 5):
        Path(paths[row]).write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    with pytest.raises(ImageError, match=r"3\.png"):
        list(evaluation_batches(paths, OPTIONS, batch_size=3))
    bad = BadFiles(11, policy="skip", limit=0.5)
    batches = list(evaluation_batches(paths, OPTIONS, batch_size=3, bad_files=bad))
    assert torch.cat([batch.rows for batch in batches]).tolist() == [0, 1, 2, 6, 7, 8, 9, 10]
    assert sorted(bad.errors) == [3, 4, 5]


def test_options_without_randomness_give_the_evaluated_view(paths: list[str]) -> None:
    still = ViewOptions(
        size=16,
        channels=3,
        mean=(0.4, 0.5, 0.6),
        weak=WeakOptions(flip=0, rotate=0, noise=0),
        strong=StrongOptions(
            flip=0, rotate=0, noise=0, salt_pepper=0, brightness=0, contrast=0, saturation=0, erase=0
        ),
    )
    evaluated = torch.cat([batch.images for batch in evaluation_batches(paths, still, batch_size=5)])
    views = TorchViews(paths, np.zeros((11, 1), np.float32), still, Sampler(11, batch_size=4, seed=0))
    for batch in views.epoch(0, strong=True):
        assert batch.strong is not None
        assert torch.equal(batch.weak, evaluated[batch.rows])
        assert torch.allclose(batch.strong, evaluated[batch.rows], atol=1e-5)


def test_each_image_is_decoded_once_and_not_again_from_the_cache(
    paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    reference = torch_backend.decode
    monkeypatch.setattr(torch_backend, "decode", lambda path: (decoded.append(path), reference(path))[1])
    for cache_mb, times in ((0, 2), (1, 1)):
        decoded.clear()
        options = OPTIONS.model_copy(update={"cache_mb": cache_mb})
        views = TorchViews(paths, np.zeros((11, 1), np.float32), options, Sampler(11, batch_size=4, seed=0))
        for epoch in (0, 1):
            list(views.epoch(epoch, strong=True))
        assert sorted(decoded) == sorted(paths * times)


def test_the_strong_view_is_not_computed_where_it_is_not_needed(
    paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a strong view was computed")

    monkeypatch.setattr(view_pair, "strong_view", refuse)
    views = TorchViews(paths, np.zeros((11, 1), np.float32), OPTIONS, Sampler(11, batch_size=4, seed=0))
    assert len(list(views.epoch(0, strong=False))) == 3
    with pytest.raises(AssertionError, match="a strong view was computed"):
        list(views.epoch(0, strong=True))
