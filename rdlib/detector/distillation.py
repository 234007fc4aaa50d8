"""Define the base class of all teacher-student models."""
from torch import Tensor, nn

from rdlib.anomaly_map import fuse, scale_maps
from rdlib.detector.base import Detector, Features, eval_mode
from rdlib.detector.config import DistillationConfig
from rdlib.utils.arrays import digest
from rdlib.utils.hardware import as_float, autocast


class Distillation(Detector):
    """A frozen teacher and a student that predicts its features: the base class of all teacher-student models."""

    settings = DistillationConfig
    config: DistillationConfig
    student_sees_images = False  # whether `student_features` uses the images, or the teacher's features alone

    def trainable_modules(self) -> dict[str, nn.Module]:
        """Return the networks that training changes, by their names in a checkpoint."""
        raise NotImplementedError

    def signature(self) -> dict:
        """Return the settings in which a training run and its checkpoint must agree, besides the teacher's weights."""
        return {"model": type(self).__name__, "backbone": self.config.backbone, "normalize": self.config.normalize,
                "seed of the weights": self.seed, "roi": None if self.roi is None else digest(self.roi)}

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
