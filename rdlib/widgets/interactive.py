"""Compute the data of the explorers, without widgets.

Here, a threshold is a multiple of the map's highest value on good training images. So it can be chosen without the test
set. The model has seen the training images, so such a threshold is a little low.
"""
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from rdlib.anomaly_map import SCALES, check_finite, fuse, gaussian_smooth
from rdlib.datasets.samples import AnomalyData, AnomalyDataset
from rdlib.detector import Distillation
from rdlib.utils.arrays import as_array, as_truth

REFERENCE = 16  # training images that the threshold's unit is taken from


def weighted_map(scales: Tensor, weights: Sequence[float] = (1, 1, 1), sigma: float = 4.0,
                 fusion: str = "add") -> Tensor:
    """Fuse and smooth the distances at three scales, each with a weight.

    "add" is the weighted sum. "multiply" is the product of the scales, each to the power of its weight. Weights of 1
    give the usual fusion, and weight 0 leaves a scale out.

    Args:
        scales: (B, 3, H, W) distances in [0, 2], fine to coarse.
        weights: three numbers, fine to coarse; each is 0 or more, and at least one is above 0.
        sigma: standard deviation of the Gaussian, in pixels; 0 for no smoothing.
        fusion: "add" or "multiply".

    Returns:
        (B, H, W) anomaly maps with the dtype of `scales`.

    Raises:
        ValueError: `weights` is invalid, `fusion` is unknown, or `sigma` is negative.
    """
    if len(weights) != len(SCALES) or min(weights) < 0 or max(weights) == 0:
        raise ValueError(f"weights must be three numbers, none negative and one above 0; got {tuple(weights)}.")
    factors = torch.tensor(weights, dtype=scales.dtype, device=scales.device)[:, None, None]
    weighted = scales * factors if fusion == "add" else scales.clamp(min=0) ** factors
    return gaussian_smooth(fuse(weighted, fusion), sigma)


def painted(image: Tensor, layer: NDArray) -> Tensor:
    """Paint a layer over an image.

    Args:
        image: (3, H, W) float32 in [0, 1].
        layer: (H, W, 4) uint8 RGBA, not premultiplied.

    Returns:
        The painted image, (3, H, W) float32 in [0, 1]; `image` is not changed.
    """
    paint = torch.from_numpy(layer.astype(np.float32) / 255).permute(2, 0, 1)
    return image + paint[3:] * (paint[:3] - image)


class Settings(NamedTuple):
    """The settings that turn three distance maps into one anomaly map, and its threshold.

    Args:
        weights: weight of each scale, fine to coarse, 0 or more; 0 leaves the scale out.
        sigma: standard deviation of the Gaussian, in pixels; 0 for no smoothing.
        fusion: "add" or "multiply".
        factor: threshold, in multiples of the highest value on good training images.
    """

    weights: tuple[float, ...] = (1.0, 1.0, 1.0)
    sigma: float = 4.0
    fusion: str = "add"
    factor: float = 1.0


class View(NamedTuple):
    """An image, its anomaly map for some `Settings`, and the threshold.

    Args:
        image: (H, W, 3) float32 in [0, 1].
        mask: (H, W) bool, True = defect.
        map: (H, W) float32, higher is more anomalous.
        normal: highest value of the maps of the reference images, for the same settings.
        threshold: normal * factor, in the unit of the map.
    """

    image: NDArray
    mask: NDArray
    map: NDArray
    normal: float
    threshold: float

    @property
    def score(self) -> float:
        """Return the image score, the map's maximum."""
        return float(self.map.max())

    @property
    def ratio(self) -> float:
        """Return the image score in multiples of `normal`."""
        return self.score / max(self.normal, 1e-12)

    @property
    def marked(self) -> NDArray:
        """Return (H, W) bool, True where the map reaches the threshold."""
        return self.map >= self.threshold

    @property
    def verdict(self) -> str:
        """Describe score, decision and marked pixels in a sentence."""
        alarm = "anomalous" if self.score >= self.threshold else "normal"
        words = f"score {self.score:.3f}, {self.ratio:.2f} x normal: called {alarm}"
        if self.mask.any():
            words += (f"; marks {self.marked[self.mask].mean():.0%} of the defect and "
                      f"{self.marked[~self.mask].mean():.1%} of the rest")
        elif alarm == "anomalous":
            words += f"; marks {self.marked.mean():.1%} of the image"
        return words


class InteractiveModel:
    """A trained model for the explorers, and for figures of what they show.

    It computes the distances of a test image only once.

    Args:
        model: trained model; it is not changed.
        data: good training images for the reference, and test images.
        reference: largest number of training images that give the threshold its unit, 1 or more.

    Raises:
        NotFiniteError: distances of a training image are NaN or infinite.
    """

    def __init__(self, model: Distillation, data: AnomalyData, reference: int = REFERENCE):
        self.model, self.data = model, data
        self.reference = torch.stack([self.ask(data.train[i].image) for i in range(min(reference, len(data.train)))])
        self.scales = cache(lambda index: self.ask(self.test[index].image))  # distances of a test image, by its index
        self._normal = cache(lambda *settings: weighted_map(self.reference, *settings).max().item())

    @property
    def settings(self) -> Settings:
        """Return the model's own settings, with factor 1."""
        config = self.model.config
        return Settings(tuple(float(k in config.scales) for k in SCALES), config.sigma, config.fusion)

    @property
    def test(self) -> AnomalyDataset:
        """Return the test images. Raises ValueError without test images."""
        if not self.data.test:
            raise ValueError("The data have no test images. Put them in test/good and test/NAME_OF_DEFECT.")
        return self.data.test

    def ask(self, image: Tensor) -> Tensor:
        """Compute the (3, H, W) distances of a (3, H, W) image in [0, 1]. Raises NotFiniteError for NaN or infinity."""
        scales = self.model.scale_maps(image[None])
        check_finite(scales)
        return scales[0].cpu()

    def normal(self, settings: Settings) -> float:
        """Compute the highest value of the maps of the reference images."""
        return self._normal(settings.weights, settings.sigma, settings.fusion)

    def view(self, index: int, settings: Settings) -> View:
        """Compute the view of a test image with these settings."""
        item = self.test[index]
        return self.view_of(item.image, settings, item.mask, self.scales(index))

    def view_of(self, image: Tensor, settings: Settings, mask: ArrayLike | Tensor | None = None,
                scales: Tensor | None = None) -> View:
        """Compute the view of any (3, H, W) image in [0, 1] with these settings, an (H, W) mask and its distances."""
        mask = np.zeros(image.shape[1:], bool) if mask is None else as_truth(mask)
        scales = self.ask(image) if scales is None else scales
        values = weighted_map(scales[None], settings.weights, settings.sigma, settings.fusion)[0].numpy()
        normal = self.normal(settings)
        return View(as_array(image.permute(1, 2, 0)), mask, values, normal, normal * settings.factor)
