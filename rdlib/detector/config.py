"""Define the settings of a model."""
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from rdlib.anomaly_map import FUSIONS, SCALES, SCORES, checked_scales
from rdlib.utils.arrays import as_size
from rdlib.utils.errors import check_argument, check_choice


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

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a setting, converted from what a file holds. Raises ValueError for a value that is not allowed."""
        value = check_argument(name, value, {each.name: each.type for each in fields(self)}.get(name))
        if name in self.choices:
            check_choice(name, value, self.choices[name])
        elif name == "scales":
            value = checked_scales(value)
        elif name == "image_size" and value is not None:
            value = checked_sides(value)
        elif name == "value_range" and value is not None:
            if value[0] > value[1]:
                raise ValueError(f"value_range is the smallest and the largest value of images; got {value!r:.60}.")
        super().__setattr__(name, value)


def checked_sides(size: int | Sequence[int]) -> tuple[int, int]:
    """Convert the size of images that a model takes, see `as_size`. Raises ValueError unless 32 divides both sides."""
    height, width = as_size(size)
    if height % 32 or width % 32:
        raise ValueError(f"An image's sides must be multiples of 32, got {height} x {width}. Pass another size.")
    return height, width


@dataclass(kw_only=True)
class DistillationConfig(Config):
    """The settings of a teacher-student model: those of `Config`, and how the maps of the scales are joined."""

    choices = Config.choices | {"fusion": FUSIONS}
    fusion: str = "add"
