"""Define what every model that predicts has in common, and check the images that it is given."""
from typing import NamedTuple

from torch import Tensor

from rdlib.detector.config import Config, checked_sides
from rdlib.images import Images, as_images
from rdlib.threshold import Threshold, agreed_size
from rdlib.utils.errors import warn

OF_TRAINING = ("weights", "image_size", "value_range", "white", "version", "unfinished")  # settings that it sets
TOLERANCE = 1e-3  # by which a value may lie outside the range of the training images


class Decision(NamedTuple):
    """The result of `Scorer.decide` for B images."""

    scores: Tensor  # (B,), higher is more anomalous
    maps: Tensor  # (B, H, W), higher is more anomalous
    anomalous: Tensor  # (B,) bool, True where the score is at least that of the threshold


class Scorer:
    """The base class of all models that predict: `Detector` and `rdlib.deploy.export.OnnxDetector`."""

    config = Config()  # of a model that knows nothing about its training
    threshold: Threshold | None
    _chosen_with: dict[str, object]  # the settings when the threshold was set

    def __setattr__(self, name: str, value: object) -> None:
        if name == "threshold" and not isinstance(value, Threshold | None):
            raise ValueError(f"A threshold is what threshold_from_good(scores, maps) returns, got {value!r}.")
        super().__setattr__(name, value)
        if name == "threshold":
            super().__setattr__("_chosen_with", self._scoring())

    def _scoring(self) -> dict[str, object]:
        """Return the settings that scores depend on, besides the weights."""
        return {name: value for name, value in vars(self.config).items() if name not in OF_TRAINING}

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Return (H, W) of the images that the model takes, in pixels, or None if it takes any size."""
        raise NotImplementedError

    def warn_if_unfinished(self, action: str) -> None:
        """Warn if training was interrupted or failed; `action` is what is done with the model: "evaluated"."""
        if self.config.unfinished:
            warn(f"The model's training is unfinished: it ended {self.config.unfinished}. The model is {action} all "
                 "the same. Train it to the end with fit.")

    def check_threshold(self) -> None:
        """Raise ValueError if the threshold was chosen at another size or with other settings than the model's."""
        if self.threshold:
            agreed_size(self.image_size, checked_sides(self.threshold.size))
            if changed := [name for name, value in self._scoring().items() if self._chosen_with.get(name) != value]:
                raise ValueError(f"The model's {', '.join(changed)} changed after its threshold was chosen. Choose it "
                                 "again, or set model.threshold = None.")

    def describe(self) -> dict:
        """Describe the model for a JSON file, with "config" and "threshold"."""
        raise NotImplementedError

    def predict(self, images: Images, batch_size: int = 32, precision: str = "float32") -> tuple[Tensor, Tensor]:
        """Compute maps (B, H, W) and scores (B,), all finite, of one or more images."""
        raise NotImplementedError

    def decide(self, images: Images, batch_size: int = 32, precision: str = "float32") -> Decision:
        """Predict, and decide at the model's threshold which images are anomalous.

        Args:
            images: an image, a batch, or a list of these, see `rdlib.images.as_images`.
            batch_size: number of images at a time, 1 or more.
            precision: precision of the networks, see `predict`.

        Returns:
            Scores (B,), maps (B, H, W) and decisions (B,), True = anomalous, in the order of the images.

        Raises:
            ValueError: the model has no threshold, or one for another image size; or `predict` refuses the images.
            NotFiniteError: maps or scores are NaN or infinite.
        """
        if self.threshold is None:
            raise ValueError("The model has no threshold, so it cannot decide. Choose one on images that it was not "
                             "trained on: model.threshold = threshold_from_good(scores, maps).")
        maps, scores = self.predict(images, batch_size, precision)
        agreed_size(self.threshold.size, maps.shape[1:])
        self.check_threshold()
        anomalous = scores.cpu().double() >= self.threshold.score  # in float64, as in tables and in other programs
        return Decision(scores, maps, anomalous.to(scores.device))


def checked_images(images: Images, size: tuple[int, int] | None, value_range: tuple[float, float] | None,
                   white: float | None = None, tolerance: float = TOLERANCE) -> Tensor:
    """Convert images to a batch, and check its size and range.

    Args:
        images: an image, a batch, or a list of these, see `rdlib.images.as_images`.
        size: (H, W) that files and Pillow's images are resized to and all others must have; None if it is unknown.
        value_range: smallest and largest value of the training images; None, or a range within [0, 1], means [0, 1].
        white: value of white in images of more than 8 bits a channel; None if the model knows none.
        tolerance: by which a value may lie outside this range.

    Returns:
        (B, 3, H, W) floating point RGB on the device of `images`.

    Raises:
        DataError: a file is missing or no readable image, or an image does not fit `white`.
        ValueError: images of another kind, shape, dtype, size or range.
    """
    batch = as_images(images, size, white)
    agreed_size(size, batch.shape[2:])
    least, most = accepted_range(value_range)
    if not (-0.5 <= least and most <= 1.5) and _holds_bytes(images):  # no noise or change of light goes so far
        raise ValueError(f"The model was trained on values from {least:.4g} to {most:.4g}, but files and 8-bit images "
                         "give 0 to 1. Convert them as for training, and pass them as floating point.")
    if batch.numel():
        _check_range(batch, least, most, tolerance)
    return batch


def accepted_range(value_range: tuple[float, float] | None) -> tuple[float, float]:
    """Return the range of images that a model takes: that of its training images, or [0, 1] if that contains it."""
    least, most = value_range or (0.0, 1.0)
    return (0.0, 1.0) if -TOLERANCE <= least and most <= 1 + TOLERANCE else (least, most)


def _check_range(images: Tensor, least: float, most: float, tolerance: float) -> None:
    """Raise ValueError, with the likely cause, for values outside [least, most], besides NaN and infinity."""
    low, high = map(float, images.nan_to_num(least, least, least).aminmax())  # maps of NaN are refused later
    if least - tolerance <= low and high <= most + tolerance:
        return
    causes = {
        f"The model was trained on values from {least:.4g} to {most:.4g}: prepare images in the same way.":
            (least, most) != (0, 1),
        "If they were resampled, which overshoots, clamp them to [0, 1].": -0.5 <= low and high <= 1.5,
        "If they are 0 to 255, divide by 255, or pass them as uint8.": -0.5 <= low and high <= 256,
        "They look normalized, as with ImageNet's statistics. The model does that. Undo it.": max(-low, high) < 3}
    cause = next((text for text, applies in causes.items() if applies), "Scale them as the training images.")
    raise ValueError(f"The images' values must lie in [{least:.4g}, {most:.4g}], as those of the training images; got "
                     f"{low:.4g} to {high:.4g}. {cause}")


def _holds_bytes(images: Images) -> bool:
    """Tell whether any image is a file, Pillow's or uint8, so that its values become 0 to 1."""
    if isinstance(images, list | tuple):
        return any(map(_holds_bytes, images))
    return "float" not in str(getattr(images, "dtype", ""))
