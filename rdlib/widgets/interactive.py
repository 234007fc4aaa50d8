"""What the explorers compute, without a slider in sight: plain functions, for widgets, static figures and tests alike.

Thresholds here are multiples of the highest value that the map reaches on good training images. Those are the only
images that a threshold may be taken from without looking at the test set; being training images, they flatter.
"""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from rdlib.anomaly_map import FUSIONS, SCALES, check_finite, gaussian_smooth
from rdlib.datasets.samples import AnomalyData
from rdlib.deploy.folding import fold_batchnorm
from rdlib.detector import Distillation
from rdlib.utils.arrays import as_array, as_truth

REFERENCE = 16  # training images that the threshold's unit is taken from
KEPT = 256  # test images whose maps are kept


def weighted_map(scales: Tensor, weights: Sequence[float] = (1, 1, 1), sigma: float = 4.0,
                 fusion: str = "add") -> Tensor:
    """Scales joined and smoothed: (..., 3, H, W) distances -> (..., H, W).

    "add" is the weighted sum; "multiply" the product of the scales, each to the power of its weight. Weight 1 is the
    kit's own fusion, weight 0 leaves a scale out. Raises ValueError for weights that are negative or all zero, another
    word, or a negative sigma.
    """
    if fusion not in FUSIONS:
        raise ValueError(f"There is no fusion '{fusion}'. Choose one of: {', '.join(FUSIONS)}.")
    if len(weights) != len(SCALES) or min(weights) < 0 or max(weights) == 0:
        raise ValueError(f"Give three weights, none negative and one above 0; got {tuple(weights)}.")
    factors = torch.tensor(weights, dtype=scales.dtype, device=scales.device)[:, None, None]
    joined = (scales * factors).sum(-3) if fusion == "add" else (scales.clamp(min=0) ** factors).prod(-3)
    return gaussian_smooth(joined, sigma)


@dataclass(frozen=True)
class Settings:
    """How a map is made of the three distances, and where it is cut."""

    weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    sigma: float = 4.0  # pixels
    fusion: str = "add"
    factor: float = 1.0  # threshold, in multiples of the highest value on good training images


@dataclass(frozen=True)
class View:
    """An image as a model sees it under some `Settings`."""

    image: NDArray  # (H, W, 3) float32 in [0, 1]
    mask: NDArray  # (H, W) bool
    map: NDArray  # (H, W) float32
    normal: float  # the highest value of such maps on the reference images
    threshold: float  # normal * factor

    @property
    def score(self) -> float:
        """The map's maximum."""
        return float(self.map.max())

    @property
    def marked(self) -> NDArray:
        """(H, W) bool, where the map reaches the threshold."""
        return self.map >= self.threshold

    @property
    def verdict(self) -> str:
        """In words, what the threshold makes of the image."""
        alarm = "anomalous" if self.score >= self.threshold else "normal"
        words = f"score {self.score:.3f}, {self.score / max(self.normal, 1e-12):.2f} x normal: called {alarm}"
        if self.mask.any():
            words += (f"; marks {self.marked[self.mask].mean():.0%} of the defect and "
                      f"{self.marked[~self.mask].mean():.1%} of the rest")
        elif alarm == "anomalous":
            words += f"; marks {self.marked.mean():.1%} of the image"
        return words


class InteractiveModel:
    """A trained model and its data, made ready for quick answers: BatchNorm folded, maps kept once they are there.

    Args:
        model: trained; it stays as it is.
        data: where the reference (good training images) and the test images come from.
        reference: how many training images give the threshold its unit.
    """

    def __init__(self, model: Distillation, data: AnomalyData, reference: int = REFERENCE):
        self.model, self.data = fold_batchnorm(model), data
        images = [data.train[i].image for i in range(min(reference, len(data.train)))]
        self.reference = torch.stack([self.ask(image) for image in images])  # (R, 3, H, W)
        self._scales: dict[int, Tensor] = {}
        self._normal: dict[tuple, float] = {}

    @property
    def settings(self) -> Settings:
        """The model's own."""
        config = self.model.config
        return Settings(tuple(float(k in config.scales) for k in SCALES), config.sigma, config.fusion)

    def scales(self, index: int) -> Tensor:
        """(3, H, W) distances of a test image, the network asked once."""
        if index not in self._scales:
            if len(self._scales) >= KEPT:
                self._scales.pop(next(iter(self._scales)))
            self._scales[index] = self.ask(self.data.test[index].image)
        return self._scales[index]

    def ask(self, image: Tensor) -> Tensor:
        """(3, H, W) image in [0, 1] -> its (3, H, W) distances. Raises NotFiniteError where they are NaN."""
        scales = self.model.scale_maps(image[None])
        check_finite(scales)
        return scales[0].cpu()

    def normal(self, settings: Settings) -> float:
        """The highest value of the map on the reference images."""
        key = (settings.weights, settings.sigma, settings.fusion)
        if key not in self._normal:
            self._normal[key] = weighted_map(self.reference, *key).max().item()
        return self._normal[key]

    def view(self, index: int, settings: Settings) -> View:
        """A test image under `settings`."""
        item = self.data.test[index]
        return self._view(item.image, item.mask.numpy(), self.scales(index), settings)

    def view_of(self, image: Tensor, settings: Settings, mask: ArrayLike | None = None) -> View:
        """Any image (3, H, W) in [0, 1] under `settings`, the network asked anew."""
        mask = np.zeros(image.shape[1:], bool) if mask is None else as_truth(mask)
        return self._view(image, mask, self.ask(image), settings)

    def _view(self, image: Tensor, mask: NDArray, scales: Tensor, settings: Settings) -> View:
        values = weighted_map(scales, settings.weights, settings.sigma, settings.fusion).numpy()
        normal = self.normal(settings)
        return View(as_array(image.permute(1, 2, 0)), mask, values, normal, normal * settings.factor)
