"""Define the settings of a model."""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rdlib.anomaly_map import FUSIONS, SCALES, SCORES, checked_scales
from rdlib.utils.arrays import as_size
from rdlib.utils.errors import check_choice


@dataclass(kw_only=True)
class Config:
    """The settings of a model. Settings and state dict together define it."""

    choices: ClassVar[dict[str, tuple[str, ...]]] = {"score": SCORES}  # what other settings may be
    backbone: str = "resnet18"
    weights: str = "unknown"  # the teacher's, see `TeacherEncoder.weights`; the model sets it
    sigma: float = 4.0  # width of the smoothing, in pixels of the input
    normalize: bool = True
    scales: Sequence[int] = SCALES  # scales that the map is made of
    score: str = "max"
    image_size: tuple[int, int] | None = None  # (H, W) of the images it was trained on, see `Detector.set_trained`
    value_range: tuple[float, float] | None = None  # smallest and largest value of these images
    white: float | None = None  # value of white in their files of more than 8 bits a channel; None without such files
    version: str | None = None  # of the kit that trained it
    unfinished: str | None = None  # how far training came that was interrupted or failed; None if it was not

    def __post_init__(self) -> None:
        self.image_size = self.image_size and as_size(self.image_size)  # a list in a file
        self.value_range = self.value_range and (float(self.value_range[0]), float(self.value_range[1]))
        self.scales = checked_scales(self.scales)
        if self.sigma < 0:
            raise ValueError(f"sigma is a width in pixels and cannot be negative; got {self.sigma}. Use 0 for none.")
        for name, choices in self.choices.items():
            check_choice(name, getattr(self, name), choices)


@dataclass(kw_only=True)
class DistillationConfig(Config):
    """The settings of a teacher-student model: those of `Config`, and how the maps of the scales are joined."""

    choices = Config.choices | {"fusion": FUSIONS}
    fusion: str = "add"
