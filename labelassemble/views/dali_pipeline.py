"""The augmentation as a DALI graph: one decode, two branches, all that is random fed from outside."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import Pipeline, fn, math, types
from nvidia.dali.data_node import DataNode
from nvidia.dali.plugin.pytorch import feed_ndarray
from torch import Tensor

from labelassemble.views.noise import NoiseBank, windows
from labelassemble.views.options import StrongOptions, ViewOptions, WeakOptions
from labelassemble.views.params import AugmentationParams

_LUMA = torch.tensor([0.299, 0.587, 0.114])

Decoder = Literal["cpu", "mixed"]


class ViewPipeline:
    """A DALI pipeline that makes the weak and the strong view.

    The decoder is the only difference between a pipeline on the GPU and one on the CPU: after a "mixed" decoder all
    that follows runs on the GPU. Nothing in the graph is random: angles, factors, rectangles and windows of noise
    come from `params` and `noise`, so a batch is the same whenever it is made, and differs from the torch backend's by
    the two libraries' arithmetic only.

    Args:
        options: size, channels and augmentation.
        batch_size: images a batch, at most.
        strong: whether there is a strong view.
        decoder: "cpu" or "mixed".
        device_id: number of the GPU; None without one.

    Attributes:
        output_devices: "cpu" or "gpu" for each view.
    """

    def __init__(
        self,
        options: ViewOptions,
        *,
        batch_size: int,
        strong: bool,
        decoder: Decoder,
        device_id: int | None,
    ) -> None:
        self._options = options
        self._device = torch.device("cpu" if device_id is None else f"cuda:{device_id}")
        self._pipeline = Pipeline(
            batch_size=batch_size,
            num_threads=options.decoders(),
            device_id=device_id,
            prefetch_queue_depth=1,  # as inputs handed to run() need; batches are made ahead around it
            exec_dynamic=True,
        )
        with self._pipeline:
            graph = _Graph(options, decoder)
            views = graph.views(strong=strong)
            self._pipeline.set_outputs(*views)
        self._inputs = graph.inputs
        self.output_devices: tuple[str, ...] = tuple(view.device for view in views)

    def run(self, encoded: Sequence[bytes], params: AugmentationParams, bank: NoiseBank) -> list[Tensor]:
        """Return the views of a batch, float32 [B, channels, size, size], the weak one first.

        Raises:
            RuntimeError: an image that the decoder refuses; the pipeline cannot be used any more.
        """
        values = _values(self._options, params, bank)
        outputs = self._pipeline.run(
            encoded=[np.frombuffer(data, dtype=np.uint8) for data in encoded],
            **{name: values[name] for name in self._inputs},
        )
        stream = torch.cuda.current_stream(self._device) if self._device.type == "cuda" else None
        views = []
        for output in outputs:
            pixels = output.as_tensor()
            view = torch.empty(pixels.shape(), device=self._device)
            feed_ndarray(pixels, view, cuda_stream=stream)
            views.append(view)
        if stream is not None:
            stream.synchronize()  # the copy must be done before DALI uses its buffers again
        return views


def decodes(encoded: bytes, options: ViewOptions) -> bool:
    """Return whether DALI decodes an image at all."""
    pipeline = Pipeline(batch_size=1, num_threads=1, device_id=None, exec_dynamic=True)
    with pipeline:
        pipeline.set_outputs(_decoded(options, "cpu"))
    pipeline.feed_input("encoded", [np.frombuffer(encoded, dtype=np.uint8)])
    try:
        pipeline.run()
    except RuntimeError:
        return False
    return True


def _decoded(options: ViewOptions, decoder: Decoder) -> DataNode:
    encoded = fn.external_source(name="encoded", dtype=types.UINT8, ndim=1, no_copy=True)
    return fn.decoders.image(
        encoded,
        device=decoder,
        output_type=types.GRAY if options.channels == 1 else types.RGB,
        adjust_orientation=False,
    )


class _Graph:
    """The nodes of the graph, and the names of the inputs that they take beside the encoded images."""

    def __init__(self, options: ViewOptions, decoder: Decoder) -> None:
        self._options = options
        self._decoder = decoder
        self._device = "gpu" if decoder == "mixed" else "cpu"
        self.inputs: list[str] = []

    def views(self, *, strong: bool) -> list[DataNode]:
        size = self._options.size
        pixels = _decoded(self._options, self._decoder)
        image = fn.resize(
            pixels, size=[size, size], interp_type=types.INTERP_LINEAR, antialias=True, dtype=types.FLOAT
        ) * (1.0 / 255.0)
        weak_options, strong_options = self._options.weak, self._options.strong
        assert isinstance(weak_options, WeakOptions)  # ViewOptions refuses a list beside DALI
        assert isinstance(strong_options, StrongOptions)
        views = [self._weak(image, weak_options)]
        if strong:
            views.append(self._strong(image, strong_options))
        return [self._normalized(view) for view in views]

    def _weak(self, image: DataNode, options: WeakOptions) -> DataNode:
        x = self._planes(self._turned("weak", image, options))
        return self._noisy("weak", x, options.noise)

    def _strong(self, image: DataNode, options: StrongOptions) -> DataNode:
        x = self._turned("strong", image, options)
        # Brightness, contrast and saturation are one linear map of a pixel and a shift by the image's mean.
        mean = fn.reductions.mean(x, axes=[0, 1, 2], keep_dims=True)
        if self._options.channels == 3:
            x = fn.coord_transform(x, M=self._argument("strong_colours", 2))
        else:
            x = x * self._factor("strong_scale")
        x = self._planes(x + mean * self._factor("strong_shift"))
        x = self._noisy("strong", x, options.noise)
        if options.salt_pepper > 0.0:
            uniform = self._window("strong_salt")
            half = options.salt_pepper / 2
            x = x * (uniform >= 2 * half) + (uniform >= half) * (uniform < 2 * half)
        if options.erase > 0.0:
            fill = self._window("strong_fill")
            box = self._argument("strong_box", 1)
            x = self._erased(x, box) + (fill - self._erased(fill, box))
        return x

    def _turned(self, view: str, image: DataNode, options: WeakOptions | StrongOptions) -> DataNode:
        if options.flip == 0.0 and options.rotate == 0.0:
            return image
        return fn.warp_affine(
            image,
            matrix=self._argument(f"{view}_matrix", 2),
            fill_value=0.0,
            interp_type=types.INTERP_LINEAR,
        )

    def _planes(self, x: DataNode) -> DataNode:
        """Return HWC as CHW."""
        if self._options.channels == 1:
            return fn.reshape(x, shape=[1, self._options.size, self._options.size], layout="CHW")
        return fn.transpose(x, perm=[2, 0, 1], output_layout="CHW")

    def _noisy(self, view: str, x: DataNode, std: float) -> DataNode:
        return x + self._window(f"{view}_noise") * std if std > 0.0 else x

    def _erased(self, x: DataNode, box: DataNode) -> DataNode:
        return fn.erase(x, anchor=box[0:2], shape=box[2:4], axes=[1, 2])

    def _normalized(self, x: DataNode) -> DataNode:
        options = self._options
        mean = self._constant(options.mean)
        return (math.clamp(x, 0.0, 1.0) - mean) / self._constant(options.std)

    def _constant(self, values: Sequence[float]) -> DataNode | float:
        if len(values) == 1:
            return values[0]
        return types.Constant(np.array(values, dtype=np.float32).reshape(-1, 1, 1), device=self._device)

    def _argument(self, name: str, ndim: int) -> DataNode:
        """Return a small input that an operator takes as an argument, which stays on the CPU."""
        self.inputs.append(name)
        return fn.external_source(name=name, dtype=types.FLOAT, ndim=ndim)

    def _factor(self, name: str) -> DataNode:
        """Return a number of each image."""
        node = self._argument(name, 3)
        return node.gpu() if self._device == "gpu" else node

    def _window(self, name: str) -> DataNode:
        """Return an image of noise, which is where the graph runs already."""
        self.inputs.append(name)
        return fn.external_source(
            name=name, device=self._device, dtype=types.FLOAT, ndim=3, layout="CHW", no_copy=True
        )


def _values(
    options: ViewOptions, params: AugmentationParams, bank: NoiseBank
) -> dict[str, NDArray[np.float32] | list[Tensor] | list[NDArray[np.float32]]]:
    """Return what the inputs of the graph take for a batch."""
    channels, size = options.channels, options.size
    weak, strong = params
    assert weak is not None
    assert strong is not None
    image, plane = (channels, size, size), (1, size, size)
    scale = strong.brightness * strong.contrast
    shift = strong.brightness * (1.0 - strong.contrast)
    return {
        "weak_matrix": _matrices(weak.mirrored, weak.radians, size),
        "weak_noise": _fed(windows(bank.gaussian, weak.noise_at, image)),
        "strong_matrix": _matrices(strong.mirrored, strong.radians, size),
        "strong_colours": _colour_matrices(scale, strong.saturation),
        "strong_scale": scale.view(-1, 1, 1, 1).numpy(),
        "strong_shift": shift.view(-1, 1, 1, 1).numpy(),
        "strong_noise": _fed(windows(bank.gaussian, strong.noise_at, image)),
        "strong_salt": _fed(windows(bank.uniform, strong.salt_at, plane)),
        "strong_fill": _fed(windows(bank.uniform, strong.box_at, image)),
        "strong_box": strong.box.numpy(),
    }


def _fed(parts: list[Tensor]) -> list[Tensor] | list[NDArray[np.float32]]:
    return parts if parts[0].is_cuda else [part.numpy() for part in parts]


def _matrices(mirrored: Tensor, radians: Tensor, size: int) -> NDArray[np.float32]:
    """Return the map from output to input pixels of each image, [B, 2, 3]: turned back, then mirrored back."""
    cos, sin = radians.double().cos(), radians.double().sin()
    sign = 1.0 - 2.0 * mirrored.double()
    linear = torch.stack((torch.stack((sign * cos, -sign * sin), 1), torch.stack((sin, cos), 1)), 1)
    centre = torch.full((2, 1), size / 2, dtype=torch.float64)
    matrices: NDArray[np.float32] = torch.cat((linear, centre - linear @ centre), 2).float().numpy()
    return matrices


def _colour_matrices(scale: Tensor, saturation: Tensor) -> NDArray[np.float32]:
    """Return scale * (saturation * I + (1 - saturation) * grey), [B, 3, 3]."""
    grey = _LUMA.expand(3, 3)
    mixed = saturation.view(-1, 1, 1) * torch.eye(3) + (1.0 - saturation).view(-1, 1, 1) * grey
    matrices: NDArray[np.float32] = (scale.view(-1, 1, 1) * mixed).numpy()
    return matrices
