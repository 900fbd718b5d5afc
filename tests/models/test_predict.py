"""Probabilities of a network for files: what cannot be read is told apart from what is no number."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.backends import cudnn

from labelassemble.errors import LabelAssembleError
from labelassemble.explain.images import explained
from labelassemble.models import AssembleNet
from labelassemble.models.evaluating import evaluating
from labelassemble.models.features import predict_with_features
from labelassemble.models.predict import predict
from labelassemble.training.distributed import SINGLE_PROCESS
from labelassemble.training.validation import Validation, validate
from labelassemble.views.bad_files import BadFiles
from labelassemble.views.options import ViewOptions

VIEWS = ViewOptions(size=16)


class Net(nn.Module):
    """Two classes; the second becomes `value` for images whose mean is above 0.9."""

    classes = ("Edema", "COVID-19")

    def __init__(self, value):
        super().__init__()
        self.backbone = nn.Conv2d(1, 2, 1)
        self.value = value
        mean, std = VIEWS.mean[0], VIEWS.std[0]
        self.limit = (0.9 - mean) / std

    def forward(self, images):
        logits = self.backbone(images).mean(dim=(2, 3))
        bright = images.mean(dim=(1, 2, 3)) > self.limit
        second = torch.where(bright, torch.full_like(logits[:, 1], self.value), logits[:, 1])
        return torch.stack([logits[:, 0], second], dim=1)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Eight images, of which "white" ones are bright, and one is cut off."""
    folder = tmp_path_factory.mktemp("files")
    for index in range(8):
        grey = 250 if index in (2, 5) else 10 * index
        name = f"white-{index}" if grey == 250 else f"grey-{index}"
        Image.fromarray(np.full((16, 16), grey, np.uint8)).save(folder / f"{name}.png")
    cut = folder / "grey-7.png"
    cut.write_bytes(cut.read_bytes()[:40])
    return sorted(str(path) for path in folder.glob("*.png"))


def bad_files(count):
    return BadFiles(count, policy="skip", limit=0.5)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("ask", [predict, predict_with_features])
def test_an_answer_that_is_not_finite_is_an_error_with_image_and_class(files, ask, value):
    said = (
        rf"white-2\.png: the model's answer for 'COVID-19' must be finite, got {value}, and likewise for 1 more of "
        "these 7 images: the model is broken"
    )
    with pytest.raises(LabelAssembleError, match=said):
        ask(Net(value), files, VIEWS, bad_files=bad_files(len(files)))


def test_what_cannot_be_read_is_what_the_record_says(files):
    record = bad_files(len(files))
    answers = predict_with_features(Net(1.0), files, VIEWS, bad_files=record)
    read = record.readable(len(files))
    assert [files[row].rpartition("/")[2] for row in np.flatnonzero(~read)] == ["grey-7.png"]
    assert np.isnan(answers.probabilities[~read]).all()
    assert np.isfinite(answers.probabilities[read]).all()
    assert np.isfinite(answers.features[read]).all()


@pytest.mark.parametrize("value", [float("nan"), 1.0])
def test_validation_leaves_out_what_cannot_be_read_and_nothing_else(files, value):
    targets = np.tile(np.array([[0, 1]], np.float32), (len(files), 1))
    seen = []

    def auroc(probabilities, known):
        seen.append(len(probabilities))
        return [None, None]

    validation = Validation(files, targets, VIEWS, auroc, [0], bad_files(len(files)))
    if np.isnan(value):
        with pytest.raises(LabelAssembleError, match=r"white-2\.png: .* 'COVID-19' must be finite, got nan"):
            validate(Net(value), validation, SINGLE_PROCESS)
    else:
        assert validate(Net(value), validation, SINGLE_PROCESS).loss > 0
        assert seen == [7]


def test_heat_maps_of_an_answer_that_is_not_finite_are_an_error(files):
    white = [path for path in files if "white" in path]
    with pytest.raises(LabelAssembleError, match=r"white-2\.png: .* 'COVID-19' must be finite, got nan"):
        explained(Net(float("nan")).eval(), white, VIEWS, Net.classes, [0])


@pytest.mark.parametrize("training", [True, False])
def test_answers_are_in_float32_and_what_was_set_comes_back(training: bool) -> None:
    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[bool] = []

        def forward(self) -> None:
            self.seen += [cudnn.allow_tf32, cudnn.benchmark, self.training, torch.is_inference_mode_enabled()]
            raise ZeroDivisionError

    net = Watched().train(training)
    with cudnn.flags(enabled=True, benchmark=True, allow_tf32=True):
        with pytest.raises(ZeroDivisionError), evaluating(net):
            net()
        assert net.seen == [False, True, False, True]
        assert (cudnn.allow_tf32, cudnn.benchmark, net.training) == (True, True, training)


def test_a_part_that_was_in_eval_mode_stays_in_it() -> None:
    """Norms of a frozen part keep their statistics so."""
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Dropout())
    net[1].eval()
    with evaluating(net):
        assert [module.training for module in net.modules()] == [False] * 4
    assert [module.training for module in net.modules()] == [True, True, False, True]


def test_answers_are_in_float32_until_the_last_thread_has_its_own() -> None:
    begun, end = threading.Event(), threading.Event()

    def answer() -> None:
        with evaluating(nn.Linear(2, 2)):
            begun.set()
            end.wait(60)

    other = threading.Thread(target=answer)
    with cudnn.flags(enabled=True, allow_tf32=True):
        with evaluating(nn.Linear(2, 2)):
            other.start()
            assert begun.wait(60)
        assert not cudnn.allow_tf32
        end.set()
        other.join()
        assert cudnn.allow_tf32


def test_answers_are_in_float32_whichever_of_torchs_names_was_used() -> None:
    """Where a newer one was used torch refuses to read the older one: in a process of its own."""
    code = """
import torch
from labelassemble.models.evaluating import evaluating
cudnn = torch.backends.cudnn
def said():
    return cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision
for where in (cudnn.conv, cudnn.rnn, torch.backends):
    cudnn.conv.fp32_precision = cudnn.rnn.fp32_precision = "tf32"
    where.fp32_precision = "ieee"
    before = said()
    with evaluating(torch.nn.Linear(2, 2)):
        print(*said())
    assert said() == before
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["ieee"] * 6


@pytest.mark.cuda
def test_a_gpu_answers_as_the_processor_does_whatever_the_batch(tmp_path: Path) -> None:
    paths = []
    for index in range(9):
        pixels = np.random.default_rng(index).integers(0, 256, (64, 64), dtype=np.uint8)
        paths.append(str(tmp_path / f"{index}.png"))
        Image.fromarray(pixels).save(paths[-1])
    net = AssembleNet("densenet_small", classes=["a", "b"])
    views = ViewOptions(size=64)
    here = predict(net, paths, views)
    for batch_size in (1, 4, 64):
        there = predict(net.cuda(), paths, views, batch_size=batch_size)
        np.testing.assert_allclose(there, here, rtol=2e-6)
