"""What benchmarks/views.py compares: ours, what people write by hand, and DALI as its documentation writes it."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from labelassemble.views import decode
from labelassemble.views.batch import Views
from labelassemble.views.choice import Choice, choose_backend, open_views
from labelassemble.views.options import ViewOptions
from labelassemble.views.sampler import Sampler

SIDE = 1024
BATCH = 16
WORKERS = 2
FILES = 24

FORMATS = ("PNG grey", "PNG colour", "JPEG grey", "JPEG colour")
IMPLEMENTATIONS = {
    "torch": "labelassemble, backend torch, PNG by kornia_rs",
    "torch-pillow": "labelassemble, backend torch, without kornia_rs (PNG alone differs)",
    "dali": "labelassemble, backend dali, on the CPU",
    "hand": "by hand: DataLoader with 2 workers, Pillow, torch",
    "dali-docs": "DALI as its documentation writes it, on the CPU",
    "memory": "labelassemble, backend torch, images in memory (no decoding)",
}
KORNIA_WEAK = [
    {"RandomHorizontalFlip": {"p": 0.5}},
    {"RandomRotation": {"degrees": 10, "p": 1.0}},
    {"RandomGaussianNoise": {"std": 0.01, "p": 1.0}},
]
KORNIA_STRONG = [
    {"RandomHorizontalFlip": {"p": 0.5}},
    {"RandomRotation": {"degrees": 15, "p": 1.0}},
    {"RandomBrightness": {"brightness": [0.8, 1.2], "p": 1.0}},
    {"RandomContrast": {"contrast": [0.8, 1.2], "p": 1.0}},
    {"RandomGaussianNoise": {"std": 0.05, "p": 1.0}},
    {"RandomSaltAndPepperNoise": {"amount": [0.02, 0.02], "p": 1.0}},
    {"RandomErasing": {"scale": [0.02, 0.2], "p": 0.5}},
]


def implementations(kind: str) -> list[str]:
    """Return what is compared on files of this kind."""
    return [name for name in IMPLEMENTATIONS if name != "torch-pillow" or kind.startswith("PNG")]


def epochs(name: str, paths: list[str], kind: str) -> Callable[[], Iterator[int]]:
    """Return a function that begins the next epoch, which gives the number of images of each batch."""
    channels = 3 if "colour" in kind else 1
    if name == "hand":
        return _by_hand(paths, channels)
    return _dali_docs(paths, channels) if name == "dali-docs" else _ours(name, paths, channels)


# --- the files ---------------------------------------------------------------------------------------------------


def make_files(folder: Path, kind: str) -> list[str]:
    """Write pictures with the size on disk of a radiograph: smooth shapes and a sensor's noise."""
    rng = np.random.default_rng(0)
    channels, paths = (3 if "colour" in kind else 1), []
    for index in range(FILES):
        planes = []
        for _ in range(channels):
            small = Image.fromarray(rng.random((32, 32), dtype=np.float32) * 180 + 30)
            plane = np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
            planes.append(plane + rng.normal(0, 2, (SIDE, SIDE)))
        pixels = np.stack(planes, -1).clip(0, 255).astype(np.uint8)
        image = Image.fromarray(pixels if channels == 3 else pixels[..., 0])
        path = folder / f"{index}.{'png' if kind.startswith('PNG') else 'jpg'}"
        image.save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))
        paths.append(str(path))
    return paths


# --- what people write by hand -----------------------------------------------------------------------------------


class ByHand(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """The policy as it is usually written: an image at a time, in worker processes."""

    def __init__(self, paths: list[str], channels: int) -> None:
        self.paths = paths
        self.mode = "L" if channels == 1 else "RGB"
        self.targets = torch.zeros(len(paths), 2)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        image = Image.open(self.paths[index]).convert(self.mode).resize((224, 224), Image.Resampling.BILINEAR)
        weak = _tensor(_turned(image, 10.0))
        weak = (weak + 0.01 * torch.randn_like(weak)).clamp(0, 1)
        image = _turned(image, 15.0)
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = enhance(image).enhance(random.uniform(0.8, 1.2))
        strong = _tensor(image)
        strong = strong + 0.05 * torch.randn_like(strong)
        draw = torch.rand_like(strong[:1])
        strong = torch.where(draw < 0.01, 0.0, torch.where(draw > 0.99, 1.0, strong))
        if random.random() < 0.5:
            side = int(224 * random.uniform(0.02, 0.2) ** 0.5)
            top, left = random.randint(0, 224 - side), random.randint(0, 224 - side)
            strong[:, top : top + side, left : left + side] = torch.rand(strong.shape[0], side, side)
        return (weak - 0.5) / 0.25, (strong.clamp(0, 1) - 0.5) / 0.25, self.targets[index]


def _turned(image: Image.Image, degrees: float) -> Image.Image:
    if random.random() < 0.5:
        image = ImageOps.mirror(image)
    return image.rotate(random.uniform(-degrees, degrees), Image.Resampling.BILINEAR)


def _tensor(image: Image.Image) -> Tensor:
    pixels = torch.from_numpy(np.array(image, dtype=np.float32)) / 255
    return pixels[None] if pixels.dim() == 2 else pixels.permute(2, 0, 1).contiguous()


def _by_hand(paths: list[str], channels: int) -> Callable[[], Iterator[int]]:
    loader = DataLoader(
        ByHand(paths, channels), BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True
    )
    return lambda: (len(targets) for _, _, targets in loader)


# --- DALI as its documentation writes it -------------------------------------------------------------------------


def _dali_docs(paths: list[str], channels: int) -> Callable[[], Iterator[int]]:
    from nvidia.dali import fn, pipeline_def, types
    from nvidia.dali.plugin.pytorch import DALIGenericIterator, LastBatchPolicy

    @pipeline_def(batch_size=BATCH, num_threads=WORKERS, device_id=None, seed=0)
    def pipeline():  # type: ignore[no-untyped-def]
        encoded, labels = fn.readers.file(
            files=paths, labels=[0] * len(paths), random_shuffle=True, name="reader"
        )
        kind = types.GRAY if channels == 1 else types.RGB
        image = fn.resize(fn.decoders.image(encoded, device="cpu", output_type=kind), size=[224, 224])

        def turned(degrees):  # type: ignore[no-untyped-def]
            angle = fn.random.uniform(range=[-degrees, degrees])
            return fn.rotate(
                fn.flip(image, horizontal=fn.random.coin_flip()), angle=angle, keep_size=True, fill_value=0
            )

        def normalized(x):  # type: ignore[no-untyped-def]
            return fn.crop_mirror_normalize(
                x, mean=[127.5] * channels, std=[63.75] * channels, output_layout="CHW"
            )

        weak = fn.noise.gaussian(turned(10.0), stddev=2.55)
        strong = turned(15.0)
        brightness, contrast, saturation = (fn.random.uniform(range=[0.8, 1.2]) for _ in range(3))
        if channels == 1:  # color_twist takes colour only
            strong = fn.brightness_contrast(strong, brightness=brightness, contrast=contrast)
        else:
            strong = fn.color_twist(strong, brightness=brightness, contrast=contrast, saturation=saturation)
        strong = fn.noise.salt_and_pepper(fn.noise.gaussian(strong, stddev=12.75), prob=0.02)
        strong = fn.erase(
            strong,
            anchor=fn.random.uniform(range=[0.0, 0.6], shape=2),
            shape=fn.random.uniform(range=[0.1, 0.4], shape=2),
            axis_names="HW",
            normalized=True,
        )
        return normalized(weak), normalized(strong), labels

    loader = DALIGenericIterator(
        [pipeline()],
        ["weak", "strong", "labels"],
        reader_name="reader",
        auto_reset=True,
        last_batch_policy=LastBatchPolicy.PARTIAL,
    )
    return lambda: (len(part[0]["labels"]) for part in loader)


# --- ours --------------------------------------------------------------------------------------------------------


def _ours(name: str, paths: list[str], channels: int) -> Callable[[], Iterator[int]]:
    backend = "dali" if name == "dali" else "torch"
    options = ViewOptions(
        backend=backend, channels=channels, threads=WORKERS, cache_mb=4096 if name == "memory" else 0
    )
    if name == "torch-pillow":
        decode._png_reader = lambda: None  # type: ignore[assignment]
    views = open_ours(choose_backend(options, torch.device("cpu")), paths, options, "cpu")
    epochs = iter(range(10**9))
    return lambda: (len(batch.rows) for batch in views.epoch(next(epochs), strong=True))


def open_ours(
    choice: Choice, paths: list[str], options: ViewOptions, device: str, *, batch: int = BATCH
) -> Views:
    """Return views of unlabelled files."""
    targets = np.zeros((len(paths), 2), np.float32)
    return open_views(choice, paths, targets, options, Sampler(len(paths), batch_size=batch, seed=0), device)


def built_in_and_kornia(channels: int) -> tuple[ViewOptions, ViewOptions]:
    """Return the built-in policy, and lists of kornia's classes that do the same things."""
    lists = {"channels": channels, "weak": KORNIA_WEAK, "strong": KORNIA_STRONG}
    return ViewOptions(channels=channels), ViewOptions.model_validate(lists)
