"""Define the base class of all methods: a frozen teacher at the start, anomaly maps and scores at the end.

Subclasses add the method itself, `anomaly_maps`. Smoothing and score are the same for all methods, so a comparison of
methods does not depend on them.
"""
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from rdlib.anomaly_map import check_finite, gaussian_smooth, image_score
from rdlib.detector.config import Config
from rdlib.detector.saving import Saved
from rdlib.detector.scorer import checked_images
from rdlib.encoder import TeacherEncoder
from rdlib.images import Images
from rdlib.utils.arrays import as_size, as_truth
from rdlib.utils.display import Shown
from rdlib.utils.errors import checked
from rdlib.utils.hardware import in_common, memory_format, neutral
from rdlib.utils.version import __version__

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in [0, 1], as torchvision's networks expect
IMAGENET_STD = (0.229, 0.224, 0.225)  # standard deviation

Features = tuple[Tensor, Tensor, Tensor]


class Detector(Shown, Saved):
    """A frozen teacher and the steps from anomaly maps to scores: the base class of all models.

    A subclass adds its networks in `_add_networks`. `load` can then build it without its constructor.
    """

    @checked
    def _build(self, config: Config, weights: str | Path | None, seed: int) -> torch.Generator:
        """Build the model in place of `__init__`, and return the generator of its random weights.

        Args:
            config: the model's settings; `config.weights` is set here.
            weights: the teacher's weights, see `TeacherEncoder`.
            seed: seed of all random weights.

        Returns:
            The generator, after the networks' initial weights were drawn.

        Raises:
            ValueError: unknown backbone.
            WeightsError: weights that cannot be downloaded or read, do not fit, or are not finite.
        """
        super().__init__()
        self.config = config
        self.seed: int | None = seed  # of the initial weights; None: they come from a file
        self.threshold = None  # chosen by the user for this model, see `rdlib.threshold`
        self.teacher = TeacherEncoder(config.backbone, weights, seed=seed)
        config.weights = self.teacher.weights
        self.mean = nn.Buffer(torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.std = nn.Buffer(torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        self.register_buffer("roi", None)
        generator = torch.Generator().manual_seed(seed)
        self._add_networks(generator)
        self._layers = self.layers()
        return generator

    def _add_networks(self, generator: torch.Generator) -> None:
        """Add the networks of the method, with initial weights drawn from `generator`."""
        raise NotImplementedError

    def summary(self) -> dict[str, object]:
        """Return what `repr` shows: the teacher, the settings, what the model was trained on, and its threshold."""
        shown = {name: f"{name}={value!r}" for name, value in vars(self.config).items() if name != "unfinished"}
        trained = ", ".join(shown.pop(name) for name in ("image_size", "value_range", "version", "white"))
        return {"teacher": f"{shown.pop('backbone')}, {shown.pop('weights')}", "settings": ", ".join(shown.values()),
                "trained": trained if self.config.version else None, "unfinished": self.config.unfinished
                and f"training ended {self.config.unfinished}", "threshold": self.threshold or "none",
                "region of interest": "whole image" if self.roi is None else f"{int(self.roi.sum())} pixels"}

    @property
    def device(self) -> torch.device:
        """Return the device of the model."""
        return self.mean.device

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Return the size that the model was trained at or, if it knows none, that of its threshold or ROI."""
        known = self.config.image_size or (self.threshold.size if self.threshold else None)
        return (self.roi.shape[0], self.roi.shape[1]) if known is None and self.roi is not None else known

    @checked
    def set_trained(self, image_size: int | Sequence[int], value_range: tuple[float, float],
                    white: float | None = None) -> None:
        """Note what the model was trained on. Its threshold becomes None, since it was chosen for other weights.

        Args:
            image_size: (H, W) or the side of a square, in pixels.
            value_range: smallest and largest value of the training images.
            white: value of white in their files, if these have more than 8 bits a channel, such as 4095 for 12 bits.
        """
        self.config.image_size, self.config.value_range = as_size(image_size), value_range
        self.config.white, self.config.version, self.threshold = white, __version__, None

    def set_roi(self, mask: ArrayLike | Tensor | None) -> None:
        """Restrict training and prediction to a region of interest (ROI). The threshold becomes None.

        Outside of it, images are 0 after normalization, so that they influence nothing, and maps are 0.

        Args:
            mask: (H, W) bool, or of 0 and 1 or 255, of the images' size; True inside. None is the whole image.

        Raises:
            ValueError: the mask is no (H, W) mask, contains no pixel, or has another size than the training images.
        """
        roi = None if mask is None else torch.tensor(as_truth(mask), device=self.device)
        size = self.config.image_size
        if roi is not None and (roi.ndim != 2 or not roi.any() or size and roi.shape != size):
            raise ValueError(f"A region of interest is a mask (H, W) of the images' size {size or ''} with at least "
                             f"one pixel; got {tuple(roi.shape)}, {int(roi.sum())} pixels.")
        self.roi, self.threshold = roi, None

    def inside_roi(self, values: Tensor) -> Tensor:
        """Set images or maps (..., H, W) to 0 outside the region of interest. Raises ValueError for another size."""
        if self.roi is not None and values.shape[-2:] != self.roi.shape:
            raise ValueError(f"The model's region of interest has the size {tuple(self.roi.shape)}, the images have "
                             f"{tuple(values.shape[-2:])}. Resize them, or set a region of their size.")
        return values if self.roi is None else torch.where(self.roi, values, 0)

    def prepare(self, images: Tensor) -> Tensor:
        """Normalize images (B, 3, H, W), RGB in [0, 1], if `config.normalize`, and set them to 0 outside the ROI.

        Raises ValueError for other images.
        """
        fits = images.ndim == 4 and images.shape[1] == 3 and not any(side % 32 for side in images.shape[2:])
        if not (fits and images.is_floating_point()):
            raise ValueError(f"images must be (B, 3, H, W), floating point in [0, 1], H and W multiples of 32; got "
                             f"{tuple(images.shape)} {images.dtype}. Resize them, and divide 8-bit images by 255.")
        return self.inside_roi((images - self.mean) / self.std if self.config.normalize else images)

    def extract_features(self, images: Tensor) -> Features:
        """Extract the teacher's features of images (B, 3, H, W), RGB in [0, 1], without gradient.

        Returns t1 (B, 64e, H/4, W/4), t2 (B, 128e, H/8, W/8), t3 (B, 256e, H/16, W/16). Raises ValueError for other
        images.
        """
        return self.teacher(self.prepare(images))

    def anomaly_maps(self, images: Tensor, precision: str) -> Tensor:
        """Compute the maps (B, H, W) of images (B, 3, H, W) before smoothing; higher is more anomalous."""
        raise NotImplementedError

    @checked
    def predict(self, images: Images, batch_size: int = 32, precision: str = "float32") -> tuple[Tensor, Tensor]:
        """Compute smoothed anomaly maps and image scores; higher is more anomalous.

        Runs in eval mode and without gradient on the model's device, where the results stay. The model's mode and the
        caller's autocast, default dtype and grad mode have no effect.

        Args:
            images: an image, a batch, or a list of these, see `rdlib.images.as_images`: RGB in [0, 1], or in the range
                of the training images. Files and Pillow's images are resized as in training. All others have the size
                of the training images; an untrained model takes any sides that are multiples of 32.
            batch_size: number of images at a time, 1 or more.
            precision: precision of the networks: "float32", "bf16", or "auto" (bf16 on hardware where it is fast).

        Returns:
            Maps (B, H, W) and scores (B,), the maximum or sum of each map; never bfloat16.

        Raises:
            ValueError: images of another type, shape, dtype, size or range, or an unknown precision.
            DataError: a file is missing or no readable image.
            NotFiniteError: maps or scores are NaN or infinite, because images or weights are.
        """
        with eval_mode(self, self.device):
            batch = checked_images(images, self.image_size, self.config.value_range, self.config.white)
            maps = torch.cat([self.anomaly_maps(part.to(self.device, self.mean.dtype), precision)
                              for part in batch.split(batch_size)])
            maps = self.inside_roi(gaussian_smooth(maps, self.config.sigma))
            scores = image_score(maps, self.config.score)
            check_finite(maps, scores)
        return maps, scores


@contextmanager
def eval_mode(model: nn.Module, device: torch.device) -> Generator[None, None, None]:
    """Run a block with the model in eval mode and in the device's memory format, without gradient.

    The caller's autocast and default dtype do not apply inside, see `neutral`. The modes of the model's modules are
    restored afterwards. Several threads may predict with one model: the last one restores them.

    Args:
        model: the model to put into eval mode.
        device: the model's device.
    """
    def evaluate() -> Callable[[], object]:
        modes = [(module, module.training) for module in model.modules()]
        model.eval().to(memory_format=memory_format(device))  # no work from the second call on
        return lambda: [vars(module).update(training=mode) for module, mode in modes]

    with neutral(device), torch.no_grad(), in_common(model, evaluate):
        yield
