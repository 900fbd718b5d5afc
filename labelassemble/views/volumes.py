"""Volumes and slices as the network sees them: turned, resampled and scaled, whole or in crops with their targets."""

import threading
from collections.abc import Iterator
from importlib import import_module
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray

from labelassemble.data import Table
from labelassemble.data.errors import ImageError, PluginError
from labelassemble.data.exclusion import Exclusions
from labelassemble.data.grid import Grid, check_same_grid, turned_back, turned_to_ras
from labelassemble.data.mask_files import read_mask
from labelassemble.data.masks import voxel_targets
from labelassemble.data.volumes import read_volume
from labelassemble.views.bad_files import BadFiles
from labelassemble.views.batch import Batch
from labelassemble.views.crops import Case, Crop, draw_crop
from labelassemble.views.sampler import BatchRows, Sampler
from labelassemble.views.threads import image_threads, made_ahead
from labelassemble.views.transfer import pinned_for, to_device
from labelassemble.views.volume_lists import ViewsOfCrops
from labelassemble.views.volume_options import VolumeOptions

_MOST_VOXELS = 2**30  # kMaxVolumeVoxels of the C++ library
_SAME = 1e-3  # mm; voxels of a spacing this near to the asked one stay as they are


class Volume(NamedTuple):
    """A volume or a slice as the network sees it.

    Attributes:
        image: float32 [*s] in 0..1: the axes run to the right, front and top (RAS) where the file says how it lies,
            with the spacing of the options.
        affine: from indices of `image` to millimetres, float64 [4, 4]; None where the file does not say.
        stored: the voxels of the file, to which `to_stored` goes back.
        resampled: the spacing that was asked for, in mm; None where the voxels are those of the file.
        path: the file.
    """

    image: NDArray[np.float32]
    affine: NDArray[np.float64] | None
    stored: Grid
    resampled: tuple[float, ...] | None
    path: str

    @property
    def spacing(self) -> tuple[float, ...]:
        """The edges of a voxel of `image` in mm; 1 each where the file does not say."""
        return tuple(Grid(self.image.shape, self.affine).spacing()[: self.image.ndim].tolist())


def load_case(path: str, options: VolumeOptions) -> Volume:
    """Return the volume or slice at `path`: turned to RAS, resampled (trilinear), scaled to 0..1 and cut off there.

    What becomes 0 and 1 is `options.window`, or the percentiles of all voxels that the file holds.

    Raises:
        ImageError: The file is missing, empty, damaged or of another kind; has other than `options.dims` axes; has
            voxels that are not finite; or no voxel size where `options.spacing` asks for one.
    """
    values, affine = read_volume(path)
    if values.dtype.kind not in "biuf":
        raise ImageError(path, f"the voxels of an image must be numbers, got {values.dtype}")
    values = _of_dims(values, options.dims, path).astype(np.float32, copy=False)
    if not values.size:
        raise ImageError(path, f"the image has no voxels, its shape is {list(values.shape)}")
    odd = int(np.count_nonzero(~np.isfinite(values)))
    if odd:
        raise ImageError(path, f"{odd} of its {values.size} voxels are NaN or infinite")
    if options.window is not None:
        low, high = options.window
    else:
        low, high = (float(value) for value in np.percentile(values, options.percentiles))
    stored = Grid(values.shape, affine)
    spacing = _resampled(stored, options.spacing, path)
    _check_size(stored, spacing, path)
    image, affine = _on_grid(values, stored, spacing, path, mode="bilinear")
    image = (image - np.float32(low)) / np.float32(high - low) if high > low else np.zeros_like(image)
    return Volume(np.clip(image, 0.0, 1.0, out=image), affine, stored, spacing, path)


def load_mask(path: str, volume: Volume) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return the mask at `path` on the voxels of `volume.image`, uint8 or uint16 [*s], by the nearest voxel.

    Raises:
        ImageError: It cannot be read as a mask, or has another shape, spacing, orientation or place than the image.
    """
    mask = read_mask(path)
    values = _of_dims(mask.values, volume.image.ndim, path)
    check_same_grid(path, Grid(values.shape, mask.affine), volume.path, volume.stored)
    turned, _ = _on_grid(values, volume.stored, volume.resampled, path, mode="nearest")
    return turned.astype(np.uint8) if mask.values.dtype == np.uint8 else turned.astype(np.uint16)


def to_stored(values: NDArray[np.float32], volume: Volume, *, nearest: bool = False) -> NDArray[np.float32]:
    """Return values on the voxels of the file that a volume was read from, in the order of its axes.

    Args:
        values: on the voxels of `volume.image`, float32 [*s] or [C, *s]: probabilities, or with `nearest` numbers of
            classes.
        volume: whose file it is.
        nearest: take the nearest voxel, else interpolate (trilinear).
    """
    if volume.affine is None or volume.stored.affine is None:
        return values
    dims = volume.image.ndim
    if volume.resampled is None:
        return values if dims == 2 else np.ascontiguousarray(turned_back(values, volume.stored))
    data, transforms = _monai(volume.path)
    channels = np.ascontiguousarray(values[None] if values.ndim == dims else values)
    tensor = data.MetaTensor(torch.from_numpy(channels), affine=_small(volume.affine, dims))
    mode = "nearest" if nearest else "bilinear"
    resample = transforms.SpatialResample(mode=mode, padding_mode="border", dtype=np.float32)
    place = torch.from_numpy(_small(volume.stored.affine, dims))
    back = resample(tensor, dst_affine=place, spatial_size=volume.stored.shape)
    found = back.numpy().astype(np.float32, copy=False)
    return cast(NDArray[np.float32], found[0] if values.ndim == dims else found)


def _of_dims(values: NDArray[Any], dims: int, path: str) -> NDArray[Any]:
    """Return values with `dims` axes; a volume of one slice is a slice."""
    if values.ndim == 3 and dims == 2 and values.shape[2] == 1:
        return values[:, :, 0]
    if values.ndim != dims:
        raise ImageError(
            path,
            f"volumes.patch has {dims} numbers, so an image must have {dims} axes, got {list(values.shape)}",
        )
    return values


def _resampled(stored: Grid, spacing: tuple[float, ...] | None, path: str) -> tuple[float, ...] | None:
    """Return the spacing to which a volume has to be resampled, None where it has it already."""
    if spacing is None:
        return None
    if stored.affine is None:
        raise ImageError(
            path, "the file does not say how large its voxels are, so volumes.spacing must be null"
        )
    present = _present_spacing(stored, len(spacing))
    return None if np.allclose(present, spacing, atol=_SAME, rtol=0) else spacing


def _present_spacing(stored: Grid, dims: int) -> NDArray[np.float64]:
    """Return the spacing of a file in the order in which one is asked for: along right, front, top."""
    return (stored.turned_to_ras() if dims == 3 else stored).spacing()[:dims]


def _check_size(stored: Grid, spacing: tuple[float, ...] | None, path: str) -> None:
    """Raise where resampling would make more voxels than the C++ library takes."""
    if spacing is None:
        return
    present = _present_spacing(stored, len(spacing))
    # which axis is which changes nothing of the product
    voxels = float(np.prod(stored.shape) * np.prod(present) / np.prod(spacing))
    if voxels > _MOST_VOXELS:
        ours, asked = (" x ".join(f"{edge:.4g}" for edge in edges) for edges in (present, spacing))
        raise ImageError(
            path,
            f"volumes.spacing would make {voxels:.2g} voxels of it, and at most {_MOST_VOXELS} are taken: its own "
            f"spacing is {ours} mm, and {asked} mm are asked for",
        )


def _on_grid(
    values: NDArray[Any], stored: Grid, spacing: tuple[float, ...] | None, path: str, *, mode: str
) -> tuple[NDArray[np.float32], NDArray[np.float64] | None]:
    """Return values turned to RAS and resampled to a spacing, float32 [*s], and their affine."""
    dims, affine = values.ndim, stored.affine
    if affine is None:
        return values.astype(np.float32, copy=False), affine
    if dims == 3:
        values, affine = turned_to_ras(values, affine)
    if spacing is None:
        return np.ascontiguousarray(values, dtype=np.float32), affine
    data, transforms = _monai(path)
    own = torch.from_numpy(np.array(values, dtype=np.float32, order="C"))  # those of a file cannot be written
    tensor = data.MetaTensor(own[None], affine=_small(affine, dims))
    tensor = transforms.Spacing(pixdim=spacing, mode=mode, padding_mode="border", dtype=np.float32)(tensor)
    found = np.ascontiguousarray(tensor.numpy()[0], dtype=np.float32)
    return found, _large(tensor.affine.numpy(), affine)


def _small(affine: NDArray[np.float64], dims: int) -> NDArray[np.float64]:
    """Return the affine that MONAI takes for so many axes; in a slice only sizes count, [3, 3]."""
    if dims == 3:
        return affine
    row, column = np.linalg.norm(affine[:3, :2], axis=0)
    return np.diag([row, column, 1.0])


def _large(affine: NDArray[np.float64], stored: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an affine [4, 4] of what MONAI returns; of a slice, the stored one with the new sizes."""
    if affine.shape == (4, 4):
        return affine.astype(np.float64)
    result = stored.copy()
    for axis in range(2):
        result[:3, axis] *= affine[axis, axis] / np.linalg.norm(stored[:3, axis])
    result[:3, 3] += stored[:3, :2] / np.linalg.norm(stored[:3, :2], axis=0) @ affine[:2, 2]
    return result


def _monai(path: str) -> tuple[Any, Any]:
    """Return monai.data and monai.transforms, which take seconds to import."""
    try:
        return import_module("monai.data"), import_module("monai.transforms")
    except ImportError:
        raise PluginError(path, "needs monai: pip install 'labelassemble[ct]'") from None


class VolumeStore:
    """Volumes and their masks by row, kept in memory up to a limit; the first ones read stay.

    Args:
        table: the cases.
        options: grid, intensities, and how much is kept.
        bad_files: where files that cannot be read are recorded.
    """

    def __init__(self, table: Table, options: VolumeOptions, bad_files: BadFiles) -> None:
        self._table, self._options, self._bad_files = table, options, bad_files
        self._kept: dict[int, Case] = {}
        self._free = options.cache_mb * 2**20
        self._lock = threading.Lock()

    def get(self, row: int) -> Case | None:
        """Return the case of a row, its mask 0 throughout where it has none; None if it cannot be read.

        Raises:
            ImageError: a file that cannot be read, where that is to stop the run.
            LabelAssembleError: too many files that cannot be read.
        """
        if row in self._kept:
            return self._kept[row]
        if row in self._bad_files:
            return None
        try:
            volume = load_case(self._table.paths[row], self._options)
            mask: NDArray[np.integer[Any]] = np.zeros(volume.image.shape, dtype=np.uint8)
            if self._table.masks[row]:
                mask = load_mask(self._table.masks[row], volume)
        except ImageError as error:
            self._bad_files.add(row, error)
            return None
        case = Case.of(volume.image, mask)
        with self._lock:
            if case.nbytes <= self._free and row not in self._kept:
                self._kept[row] = case
                self._free -= case.nbytes
        return case


class VolumeViews:
    """Batches of crops in two views with the targets of their voxels, the same for the same seed.

    A step's batch has `options.crops_per_case` crops of each of its cases, one after the other. Both views show the
    same voxels. Everything random about a crop comes from (seed, pass over the table, row), so that a run goes on from
    any step as if it had never stopped, whatever the number of threads, processes or devices.

    Args:
        table: the cases, N of them.
        options: grid, crops and augmentation.
        sampler: which cases are in which batch, and the seed of the crops.
        device: where the views end up.
        exclusions: which classes exclude each other in a voxel, for each of the N cases; None where none do.

    Attributes:
        steps: steps in an epoch.
        bad_files: the files that could not be read so far.
    """

    def __init__(
        self,
        table: Table,
        options: VolumeOptions,
        sampler: Sampler,
        device: torch.device | str = "cpu",
        *,
        exclusions: Exclusions | None = None,
    ) -> None:
        limit = options.bad_files_limit
        self.bad_files = BadFiles(
            len(table), policy=options.bad_files, limit=limit, key="volumes.bad_files_limit", noun="case"
        )
        self._table, self._options, self._sampler = table, options, sampler
        self._exclusions = exclusions
        self._store = VolumeStore(table, options, self.bad_files)
        self._views = ViewsOfCrops(options)
        self._device = torch.device(device)
        self._pool = image_threads(options.readers(), "volumes")
        self.steps: int = sampler.steps

    def epoch(self, epoch: int, *, strong: bool, first_step: int = 0) -> Iterator[Batch]:
        """Yield the batch of each step of an epoch from `first_step` on; without `strong` there is no strong view.

        A batch lacks the cases that cannot be read, and may be left without any.
        """
        batches = self._sampler.epoch(epoch)

        def make(step: int) -> Batch:
            return self._batch(step, batches[step], strong)

        yield from made_ahead(make, range(first_step, self.steps))

    def _batch(self, step: int, batch: BatchRows, strong: bool) -> Batch:
        pairs = zip(batch.rows.tolist(), batch.passes.tolist(), strict=True)
        found = self._pool.map(lambda pair: self._crops(*pair, strong=strong), pairs)
        crops = [crop for some in found for crop in some]
        patch, classes = self._options.patch, len(self._table.classes)
        if not crops:
            views = torch.empty((0, 1, *patch), device=self._device)
            targets = torch.empty((0, classes, *patch), device=self._device)
            rows = torch.empty(0, dtype=torch.int64)
            return Batch(step, rows, views, views.clone() if strong else None, targets)
        weak = torch.from_numpy(np.stack([crop.weak for crop in crops])[:, None])
        other = torch.from_numpy(np.stack([crop.strong for crop in crops])[:, None]) if strong else None
        targets = torch.from_numpy(np.stack([crop.targets for crop in crops]))
        rows = torch.tensor([crop.row for crop in crops])
        return Batch(
            step,
            rows,
            to_device(weak, self._device),
            None if other is None else to_device(other, self._device),
            pinned_for(targets, self._device),
        )

    def _crops(self, row: int, one_pass: int, *, strong: bool) -> list["_Views"]:
        """Return the crops of a case; none where it cannot be read."""
        case = self._store.get(row)
        if case is None:
            return []
        crops = []
        drawn = self._table.drawn(row)
        for index in range(self._options.crops_per_case):
            # The last number keeps these apart from the shuffle of a pass, which comes from [seed, pass].
            rng = np.random.default_rng([self._sampler.seed, one_pass, row, 2, index])
            crop = draw_crop(case, sorted(drawn), self._options, rng)
            found = self._views.of(crop, rng, (self._sampler.seed, one_pass, row), index, strong=strong)
            crops.append(_Views(row, found.weak, found.strong, self._targets(row, found.crop, drawn)))
        return crops

    def _targets(self, row: int, crop: Crop, drawn: dict[int, int]) -> NDArray[np.float32]:
        excluded = None
        if self._exclusions is not None:
            excluded = self._exclusions.matrices[self._exclusions.rows[row]]
        labels, classes = self._table.labels[row], len(self._table.classes)
        if crop.beyond is not None:
            moved = voxel_targets(crop.mask, drawn, labels, classes, excluded=excluded)
            return np.where(crop.beyond, np.float32(np.nan), moved)
        known = voxel_targets(crop.mask[crop.inside], drawn, labels, classes, excluded=excluded)
        if known.shape[1:] == crop.mask.shape:
            return known
        # Beyond the volume there is no patient: an absent lesion there would be a label that nobody gave.
        targets = np.full((classes, *crop.mask.shape), np.nan, dtype=np.float32)
        targets[:, *crop.inside] = known
        return targets


class _Views(NamedTuple):
    """A crop in both views, float32 [*patch], and its targets, float32 [C, *patch]."""

    row: int
    weak: NDArray[np.float32]
    strong: NDArray[np.float32]
    targets: NDArray[np.float32]
