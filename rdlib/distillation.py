"""Distillation as such: a student that learns what the teacher says of good images, and fails to follow elsewhere.

What is common to the reverse student and to the forward one that it is compared with: how the two are trained and how
their disagreement becomes a map. They differ in what the student is given to see.
"""
from dataclasses import dataclass

from torch import Tensor, nn

from rdlib.anomaly_map import FUSIONS, fuse, scale_maps
from rdlib.detector import Config, Detector, Features, evaluating
from rdlib.hardware import as_float, autocast


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

    def learners(self) -> dict[str, nn.Module]:
        """The networks that training changes, by the name they have in a checkpoint."""
        raise NotImplementedError

    def identity(self) -> dict:
        """What a training run must agree in with its checkpoint, apart from the teacher's weights."""
        return {"model": type(self).__name__, "backbone": self.config.backbone, "normalise": self.config.normalise}

    def student_features(self, images: Tensor | None, teacher: Features) -> Features:
        """The student's g1, g2, g3, shaped as the teacher's f1, f2, f3; the images, RGB in [0, 1], may be None unless
        `student_sees_images`."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> tuple[Features, Features]:
        """(B, 3, H, W) images, RGB in [0, 1] -> teacher (f1, f2, f3) and student (g1, g2, g3), fine to coarse."""
        teacher = self.teach(images)
        return teacher, self.student_features(images, teacher)

    def scale_maps(self, images: Tensor, precision: str = "float32") -> Tensor:
        """Eq. 1 at each scale, before fusion and smoothing: (B, 3, H, W) images -> (B, 3, H, W) distances in [0, 2].

        In eval mode and without gradient, whatever mode the model is in; computed on the model's device. With
        precision="bf16" the networks run in bfloat16; the distances never do, since 1 - cos is a small difference.
        """
        with evaluating(self, self.device):
            with autocast(precision, self.device):
                teacher, student = self(images.to(self.device))
            return scale_maps([as_float(t) for t in teacher], [as_float(s) for s in student], images.shape[-2:])

    def anomaly_maps(self, images: Tensor, precision: str = "float32") -> Tensor:
        """The distances of the chosen scales, joined: (B, 3, H, W) images -> (B, H, W), before smoothing."""
        return fuse(self.scale_maps(images, precision), self.config.fusion, self.config.scales)
