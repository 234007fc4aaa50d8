"""Define the base class of all methods: a frozen teacher at the start, anomaly maps and scores at the end.

Subclasses add the method itself, `anomaly_maps`. Smoothing and score are the same for all methods, so a comparison of
methods does not depend on them.
"""
import zlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from rdlib.anomaly_map import (
    FUSIONS,
    SCALES,
    SCORES,
    check_finite,
    checked_scales,
    fuse,
    gaussian_smooth,
    image_score,
    scale_maps,
)
from rdlib.encoder import TeacherEncoder
from rdlib.scorer import Decision as Decision
from rdlib.scorer import Images, Scorer, checked_images
from rdlib.threshold import Threshold
from rdlib.utils.arrays import as_array, as_size, as_truth
from rdlib.utils.errors import check_choice
from rdlib.utils.hardware import as_float, autocast, memory_format, neutral
from rdlib.utils.version import __version__

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in [0, 1], as torchvision's networks expect
IMAGENET_STD = (0.229, 0.224, 0.225)  # standard deviation

Features = tuple[Tensor, Tensor, Tensor]


@dataclass(kw_only=True)
class Config:
    """The settings of a model. Settings and state dict together define it."""

    backbone: str = "resnet18"
    weights: str = "unknown"  # the teacher's, see `TeacherEncoder.weights`; the model sets it
    sigma: float = 4.0  # width of the smoothing, in pixels of the input
    normalize: bool = True
    scales: Sequence[int] = SCALES  # scales that the map is made of
    score: str = "max"
    image_size: tuple[int, int] | None = None  # (H, W) of the images it was trained on, see `Detector.set_trained`
    value_range: tuple[float, float] | None = None  # smallest and largest value of these images
    version: str | None = None  # of the kit that trained it

    def __post_init__(self) -> None:
        if self.image_size is not None:
            self.image_size = as_size(self.image_size)  # a list in a file
        if self.value_range is not None:
            self.value_range = (float(self.value_range[0]), float(self.value_range[1]))
        self.scales = checked_scales(self.scales)
        if self.sigma < 0:
            raise ValueError(f"sigma is a width in pixels and cannot be negative, got {self.sigma}. Use 0 for no "
                             "smoothing.")
        check_choice("score", self.score, SCORES)


class Detector(Scorer, nn.Module):
    """A frozen teacher and the steps from anomaly maps to scores: the base class of all models.

    Args:
        config: the model's settings; `config.weights` is set here.
        weights: the teacher's weights, see `TeacherEncoder`.
        seed: seed of the teacher's weights if they are random.

    Raises:
        ValueError: unknown backbone.
        WeightsError: weights that cannot be downloaded or read, do not fit, or are not finite.
    """

    mean: Tensor
    std: Tensor
    roi: Tensor | None  # (H, W) bool, True where defects are looked for; None is everywhere

    def __init__(self, config: Config, weights: str | Path | None, seed: int):
        super().__init__()
        self.config = config
        self.threshold: Threshold | None = None  # chosen by the user for this model, see `rdlib.threshold`
        self.teacher = TeacherEncoder(config.backbone, weights, seed=seed)
        config.weights = self.teacher.weights
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        self.register_buffer("roi", None)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self.config).items())
        return f"{type(self).__name__}({settings})"

    @property
    def device(self) -> torch.device:
        """Return the device of the model."""
        return self.mean.device

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Return the size that the model was trained at or, if it knows none, that of its threshold or ROI."""
        known = self.config.image_size or (self.threshold.size if self.threshold else None)
        return (self.roi.shape[0], self.roi.shape[1]) if known is None and self.roi is not None else known

    def set_trained(self, image_size: int | Sequence[int], value_range: tuple[float, float]) -> None:
        """Note what the model was trained on. Its threshold becomes None, since it was chosen for other weights.

        Args:
            image_size: (H, W) or the side of a square, in pixels.
            value_range: smallest and largest value of the training images.
        """
        low, high = value_range
        self.config.image_size, self.config.value_range = as_size(image_size), (float(low), float(high))
        self.config.version, self.threshold = __version__, None

    def set_roi(self, mask: ArrayLike | Tensor | None) -> None:
        """Restrict training and prediction to a region of interest (ROI). The threshold becomes None.

        Outside of it, images are 0 after normalization, so that they influence nothing, and maps are 0.

        Args:
            mask: (H, W) bool, or of 0 and 1 or 255, of the images' size; True inside. None is the whole image.

        Raises:
            ValueError: the mask is no (H, W) mask, contains no pixel, or has another size than the training images.
        """
        roi = None if mask is None else torch.tensor(as_truth(mask), device=self.device)
        if roi is not None and (roi.ndim != 2 or not roi.any()):
            raise ValueError(f"A region of interest is a mask (H, W) with at least one pixel, got shape "
                             f"{tuple(roi.shape)} with {int(roi.sum())} pixels. Mark the part to inspect as True.")
        if roi is not None and roi.shape != (self.config.image_size or roi.shape):
            raise ValueError(f"The region of interest must have the size of the training images, "
                             f"{self.config.image_size}; got {tuple(roi.shape)}. Resize the mask.")
        self.roi, self.threshold = roi, None

    def inside_roi(self, values: Tensor) -> Tensor:
        """Set images or maps (..., H, W) to 0 outside the region of interest. Raises ValueError for another size."""
        if self.roi is None:
            return values
        if values.shape[-2:] != self.roi.shape:
            raise ValueError(f"The model's region of interest has {self.roi.shape[0]} x {self.roi.shape[1]} pixels, "
                             f"the images {values.shape[-2]} x {values.shape[-1]}. Resize the images, or set it again.")
        return torch.where(self.roi, values, 0)

    def prepare(self, images: Tensor) -> Tensor:
        """Normalize images (B, 3, H, W), RGB in [0, 1], if `config.normalize`, and set them to 0 outside the ROI.

        Raises ValueError for other images.
        """
        _check_images(images)
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
            batches = checked_images(images, self.image_size, self.config.value_range).split(batch_size)
            maps = torch.cat([self.anomaly_maps(batch.to(self.device, self.mean.dtype), precision)
                              for batch in batches])
            maps = self.inside_roi(gaussian_smooth(maps, self.config.sigma))
            scores = image_score(maps, self.config.score)
            check_finite(maps, scores)
        return maps, scores


@dataclass(kw_only=True)
class DistillationConfig(Config):
    """The settings of a teacher-student model: those of `Config`, and how the maps of the scales are joined."""

    fusion: str = "add"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("fusion", self.fusion, FUSIONS)


class Distillation(Detector):
    """A frozen teacher and a student that predicts its features: the base class of all teacher-student models."""

    config: DistillationConfig
    student_sees_images = False  # whether `student_features` uses the images, or the teacher's features alone

    def trainable_modules(self) -> dict[str, nn.Module]:
        """Return the networks that training changes, by their names in a checkpoint."""
        raise NotImplementedError

    def signature(self) -> dict:
        """Return the settings in which a training run and its checkpoint must agree, besides the teacher's weights."""
        roi = None if self.roi is None else zlib.crc32(as_array(self.roi).tobytes())
        return {"model": type(self).__name__, "backbone": self.config.backbone, "normalize": self.config.normalize,
                "roi": roi}

    def student_features(self, images: Tensor | None, teacher: Features) -> Features:
        """Compute the student's s1, s2, s3, shaped as the teacher's t1, t2, t3.

        `images` (B, 3, H, W), RGB in [0, 1], may be None unless `student_sees_images`.
        """
        raise NotImplementedError

    def forward(self, images: Tensor) -> tuple[Features, Features]:
        """Compute the teacher's (t1, t2, t3) and the student's (s1, s2, s3) of images (B, 3, H, W), RGB in [0, 1]."""
        teacher = self.extract_features(images)
        return teacher, self.student_features(images, teacher)

    def scale_maps(self, images: Tensor, precision: str = "float32") -> Tensor:
        """Compute eq. 1 at each scale, before fusion and smoothing: images (B, 3, H, W) -> (B, 3, H, W) in [0, 2].

        Runs in eval mode and without gradient on the model's device. With precision="bf16", the networks run in
        bfloat16. The distances stay in float32, since 1 - cos is a small difference. Raises ValueError for other images
        or an unknown precision.
        """
        with eval_mode(self, self.device):
            with autocast(precision, self.device):
                teacher, student = self(images.to(self.device))
            return scale_maps([as_float(t) for t in teacher], [as_float(s) for s in student], images.shape[-2:])

    def anomaly_maps(self, images: Tensor, precision: str = "float32") -> Tensor:
        """Join the distances of the chosen scales: images (B, 3, H, W) -> (B, H, W), before smoothing."""
        return fuse(self.scale_maps(images, precision), self.config.fusion, self.config.scales)


@contextmanager
def eval_mode(model: nn.Module, device: torch.device) -> Generator[None, None, None]:
    """Run a block with the model in eval mode and in the device's memory format, without gradient.

    The caller's autocast and default dtype do not apply inside, see `neutral`. The model's mode is restored afterwards.

    Args:
        model: the model to put into eval mode.
        device: the model's device.
    """
    was_training = model.training
    try:
        with neutral(device), torch.no_grad():
            model.eval().to(memory_format=memory_format(device))  # no work from the second call on
            yield
    finally:
        model.train(was_training)


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must be (B, 3, H, W), got {tuple(images.shape)}. Repeat gray images to 3 channels; "
                         "pass a single image as image[None].")
    if not images.is_floating_point():
        raise ValueError(f"images must be floating point in [0, 1], got {images.dtype}. Divide 8-bit images by 255.")
    if images.shape[2] % 32 or images.shape[3] % 32:
        raise ValueError(f"The sides of the images must be multiples of 32, because the networks halve them five "
                         f"times; got {images.shape[2]} x {images.shape[3]}. Resize them; the paper uses 256 x 256.")
