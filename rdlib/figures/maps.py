"""Draw how one image gets its anomaly map."""
from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from rdlib.anomaly_map import check_finite, fuse, gaussian_smooth, image_score
from rdlib.datasets.samples import AnomalyDataset
from rdlib.figures.canvas import Figure, canvas, check_indices, number, outline, show_mask
from rdlib.figures.style import HALO, ORANGE, TRUTH
from rdlib.model import ReverseDistillation


def scale_maps(model: ReverseDistillation, dataset: AnomalyDataset, index: int) -> Figure:
    """Draw the steps from an image to its anomaly map (eq. 1): distances at three scales, fused, smoothed.

    The scales share one colour scale, the fused and the smoothed map another. The titles give the resolution of the
    features at each scale.

    Args:
        model: trained.
        dataset: the test images.
        index: of the image.

    Returns:
        The figure; its summary gives the highest distances, the score and its place.

    Raises:
        ValueError: an index outside the data set.
        NotFiniteError: the distances hold NaN or infinity.
    """
    check_indices([index], len(dataset))
    item, fusion, sigma = dataset[index], model.config.fusion, model.config.sigma
    maps = model.scale_maps(item.image[None])
    check_finite(maps)
    fused = fuse(maps, fusion, model.config.scales)
    smoothed = gaussian_smooth(fused, sigma)
    score = image_score(smoothed, model.config.score).item()
    scales, total, final = (m[0].cpu().numpy() for m in (maps, fused, smoothed))
    joined, unit = ("sum", "summed") if fusion == "add" else ("product", "multiplied")
    height, width = dataset.size
    sizes = [f"{height // side} x {width // side}" for side in (4, 8, 16)]
    one_scale, all_scales = Normalize(scales.min(), scales.max()), Normalize(total.min(), total.max())
    peak = np.unravel_index(final.argmax(), final.shape)
    with canvas(2, 4, 3.5 * height / width + 0.85, layout="compressed") as (figure, axes):
        figure.suptitle(f"Test image {index}: {dataset.defect_types[index]}, score {number(score)}")
        for axis, title in ((axes[0, 0], "image"), (axes[1, 3], "+ highest value")):
            axis.imshow(item.image.permute(1, 2, 0).numpy())
            axis.set_title(title)
        axes[1, 3].plot(peak[1], peak[0], "+", color=ORANGE, markersize=12, markeredgewidth=2, path_effects=HALO)
        if dataset.has_masks:
            show_mask(axes[1, 0], item.mask.numpy())
            axes[1, 0].set_title("ground truth")
            outline(axes[1, 3], item.mask.numpy(), TRUTH)
        fine = _row(axes[0, 1:], scales, [f"distance {size}" for size in sizes], one_scale)
        joint = _row(axes[1, 1:3], (total, final), (joined, f"smoothed, σ {sigma:g} px"), all_scales)
        for axis in axes.flat:
            axis.set_axis_off()
        figure.colorbar(fine, ax=axes[0], label="cosine distance")
        figure.colorbar(joint, ax=axes[1], label=f"distances {unit}")
    where = f", {'inside' if item.mask[peak] else 'outside'} the true region" if item.mask.any() else ""
    highest = ", ".join(f"{number(values.max())} at {size}" for size, values in zip(sizes, scales, strict=True))
    highest_at = " at" if model.config.score == "max" else ", highest at"
    figure.summary = (f"Image {index} ({dataset.defect_types[index]}): highest distance {highest}; score "
                      f"{number(score)}{highest_at} row {peak[0]}, column {peak[1]}{where}.")
    return figure


def _row(axes: Iterable[Axes], maps: Iterable[NDArray], titles: Iterable[str], norm: Normalize) -> AxesImage:
    """Draw maps side by side with one colour scale. Return the last, for the colour bar."""
    for axis, values, title in zip(axes, maps, titles, strict=True):
        drawn = axis.imshow(values, norm=norm)
        axis.set_title(title)
    return drawn
