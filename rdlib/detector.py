"""What every method starts from and ends with (paper Fig. 3, §3.4): a frozen teacher, and anomaly maps with scores.

Between the two lies the method: `anomaly_maps` of a subclass. Smoothing and score are the same for all, so that methods
are compared and not their post-processing.
"""
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
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
from rdlib.threshold import Threshold
from rdlib.utils.hardware import as_float, autocast, memory_format, neutral

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # what torchvision's networks expect to be taken off RGB in [0, 1] ...
IMAGENET_STD = (0.229, 0.224, 0.225)  # ... and what the rest is divided by

Features = tuple[Tensor, Tensor, Tensor]


class Scorer(Protocol):
    """What predicts: a `Detector`, or a `rdlib.deploy.export.OnnxDetector`."""

    threshold: Threshold | None

    def predict(self, images: Tensor, batch_size: int = 32, precision: str = "float32") -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) RGB in [0, 1] -> maps (B, H, W) and scores (B,), finite."""


@dataclass(kw_only=True)
class Config:
    """What a model needs, besides its weights, to be built again and to predict as it did."""

    backbone: str = "resnet18"
    sigma: float = 4.0  # width of the smoothing, in pixels of the input
    normalize: bool = True
    scales: tuple[int, ...] = SCALES  # that the map is made of
    score: str = "max"

    def __post_init__(self) -> None:
        self.scales = checked_scales(self.scales)
        if self.sigma < 0:
            raise ValueError(f"sigma is a width in pixels, at least 0 (no smoothing); got {self.sigma}.")
        if self.score not in SCORES:
            raise ValueError(f"There is no score '{self.score}'. Choose one of: {', '.join(SCORES)}.")


class Detector(nn.Module):
    """A frozen teacher, and what turns its features into anomaly maps; the base of `ReverseDistillation` and others.

    Args:
        config: the model's settings; `config.backbone` is the teacher's.
        weights, seed: the teacher's, see `TeacherEncoder`.
    """

    def __init__(self, config: Config, weights: str | Path | None, seed: int):
        super().__init__()
        self.config = config
        self.threshold: Threshold | None = None  # chosen by the user for this model, see `rdlib.threshold`
        self.teacher = TeacherEncoder(config.backbone, weights, seed=seed)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.mean.device

    def prepare(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images, RGB in [0, 1] -> the same, normalized if the model does so.

        Raises ValueError for images of another kind."""
        _check_images(images)
        return (images - self.mean) / self.std if self.config.normalize else images

    def extract_features(self, images: Tensor) -> Features:
        """(B, 3, H, W) images, RGB in [0, 1] -> the teacher's f1 (B, 64e, H/4, W/4), f2 (B, 128e, H/8, W/8),
        f3 (B, 256e, H/16, W/16), without gradient. Raises ValueError for images of another kind."""
        return self.teacher(self.prepare(images))

    def anomaly_maps(self, images: Tensor, precision: str) -> Tensor:
        """The method itself: (B, 3, H, W) images -> (B, H, W) maps before smoothing, higher is more anomalous."""
        raise NotImplementedError

    def predict(self, images: Tensor, batch_size: int = 32, precision: str = "float32") -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) images, RGB in [0, 1], any B -> anomaly maps (B, H, W) and image scores (B,), higher is worse.

        The maps are smoothed; the score is their maximum, or sum (§3.4). Runs `batch_size` images at a time on the
        model's device, where the results stay, in eval mode and without gradient, whatever mode the model is in.
        `precision` is that of the networks, "float32", "bf16" or "auto"; maps never are bfloat16. The caller's
        autocast, default dtype and grad mode change nothing.

        Raises:
            ValueError: images of another kind.
            NotFiniteError: maps or scores are NaN or infinite, since weights or images are.
        """
        with eval_mode(self, self.device):
            maps = torch.cat([self.anomaly_maps(batch, precision) for batch in images.split(batch_size)])
            maps = gaussian_smooth(maps, self.config.sigma)
            scores = image_score(maps, self.config.score)
            check_finite(maps, scores)
        return maps, scores


@dataclass(kw_only=True)
class DistillationConfig(Config):
    """`Config`, and how the scales' maps are joined."""

    fusion: str = "add"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fusion not in FUSIONS:
            raise ValueError(f"There is no fusion '{self.fusion}'. Choose one of: {', '.join(FUSIONS)}.")


class Distillation(Detector):
    """A frozen teacher and a student of its features; the base of `ReverseDistillation` and `ForwardStudent`."""

    config: DistillationConfig
    student_sees_images = False  # whether `student_features` looks at the images, or at the teacher's features alone

    def trainable_modules(self) -> dict[str, nn.Module]:
        """The networks that training changes, by the name they have in a checkpoint."""
        raise NotImplementedError

    def signature(self) -> dict:
        """What a training run must agree in with its checkpoint, apart from the teacher's weights."""
        return {"model": type(self).__name__, "backbone": self.config.backbone, "normalize": self.config.normalize}

    def student_features(self, images: Tensor | None, teacher: Features) -> Features:
        """The student's g1, g2, g3, shaped as the teacher's f1, f2, f3; the images, RGB in [0, 1], may be None unless
        `student_sees_images`."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> tuple[Features, Features]:
        """(B, 3, H, W) images, RGB in [0, 1] -> teacher (f1, f2, f3) and student (g1, g2, g3), fine to coarse."""
        teacher = self.extract_features(images)
        return teacher, self.student_features(images, teacher)

    def scale_maps(self, images: Tensor, precision: str = "float32") -> Tensor:
        """Eq. 1 at each scale, before fusion and smoothing: (B, 3, H, W) images -> (B, 3, H, W) distances in [0, 2].

        In eval mode and without gradient, whatever mode the model is in; computed on the model's device. With
        precision="bf16" the networks run in bfloat16; the distances never do, since 1 - cos is a small difference.
        """
        with eval_mode(self, self.device):
            with autocast(precision, self.device):
                teacher, student = self(images.to(self.device))
            return scale_maps([as_float(t) for t in teacher], [as_float(s) for s in student], images.shape[-2:])

    def anomaly_maps(self, images: Tensor, precision: str = "float32") -> Tensor:
        """The distances of the chosen scales, joined: (B, 3, H, W) images -> (B, H, W), before smoothing."""
        return fuse(self.scale_maps(images, precision), self.config.fusion, self.config.scales)


@contextmanager
def eval_mode(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Eval mode, no gradient, none of the caller's switches, and the layout that the device likes; afterwards the mode
    is what it was."""
    was_training = model.training
    try:
        with neutral(device), torch.no_grad():
            model.eval().to(memory_format=memory_format(device))  # nothing to do from the second time on
            yield
    finally:
        model.train(was_training)


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must be (B, 3, H, W), got {tuple(images.shape)}. Repeat grey images to 3 channels.")
    if not images.is_floating_point():
        raise ValueError(f"images must be floating point in [0, 1], got {images.dtype}. Divide 8-bit images by 255.")
    if images.shape[2] % 32 or images.shape[3] % 32:
        raise ValueError(f"The sides of the images must be multiples of 32, since the bottleneck halves them five "
                         f"times; got {images.shape[2]} x {images.shape[3]}. Resize them, 256 x 256 is the paper's.")
