"""Draw test images beside their ground truth and their anomaly maps."""
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from rdlib.datasets.samples import GOOD
from rdlib.evaluation.report import Report
from rdlib.figures.canvas import Figure, canvas, check_finite, counted, number, outline
from rdlib.figures.style import MARKED, ORANGE, TRUTH, UNIT, WIDTH
from rdlib.utils.errors import checked


@checked
def examples(report: Report, n: int = 6) -> list[int]:
    """Choose images that represent a test set: typical ones first, then hard ones.

    Each defect type, "good" included, first gives its image of median score. The remaining places go to its hardest
    images: the good ones with the highest scores, the defective ones with the lowest. With more defect types than n,
    the chosen types are spread evenly over the median scores.

    Args:
        report: predictions on one or more test images.
        n: largest number of images, 1 or more.

    Returns:
        Indices in the test set, good images first, then each defect type. Equal reports give equal indices.

    Raises:
        ValueError: n is below 1.
    """
    groups: dict[str, list[int]] = {}  # the typical image of each type, then its hardest ones
    for kind in sorted(set(report.defect_types)):
        members = np.flatnonzero(report.defect_types == kind)
        members = members[np.argsort(report.scores[members], kind="stable")]
        typical = members[(len(members) - 1) // 2]
        hardest = members[::-1] if kind == GOOD else members
        groups[kind] = [int(i) for i in (typical, *hardest[hardest != typical])]
    good, kinds = [groups.pop(GOOD)] if GOOD in groups else [], list(groups.values())
    if len(kinds) > (room := n - len(good)):
        kinds.sort(key=lambda group: report.scores[group[0]])
        kinds = [kinds[i] for i in np.linspace(0, len(kinds) - 1, room).round().astype(int)]
    chosen = sorted((rank, g) for g, group in enumerate(good + kinds) for rank in range(len(group)))[:n]
    return [(good + kinds)[g][rank] for g, rank in sorted((g, rank) for rank, g in chosen)]


def contour_threshold(report: Report) -> tuple[float, str]:
    """Choose the threshold for the outlines of `gallery`. Return it and the rule that gives it, in words.

    With masks, the threshold is the one with the highest pixel F1 on this test set. Without masks, it is the next
    number above the maximum of all good images' maps. Raises ValueError without masks and without good images.
    """
    if report.pixels:
        return report.pixels.f1_max()[1], "best pixel F1 on this test set"
    good = report.maps[report.labels == 0]
    if not len(good):
        raise ValueError("This report has neither masks nor good test images to choose a threshold. Pass threshold=.")
    return float(np.nextafter(good.max(), np.float32(np.inf))), "above all good test images"


@checked
def gallery(report: Report, n: int = 6, indices: Sequence[int] | None = None, *, threshold: float | None = None,
            unit: str = UNIT) -> Figure:
    """Draw a row for each image: the image, its ground truth, its anomaly map, and the outlines on the image.

    The outlines show the ground truth and the thresholded map. The maps share one color scale, so that equal colors are
    equal values. Without masks, the ground truth is left out.

    Args:
        report: predictions on the test set.
        n: number of images, 1 or more; `examples` chooses them.
        indices: indices of the images to draw, one or more; `n` is then ignored.
        threshold: threshold of the outline, in the maps' unit; default: that of `contour_threshold`.
        unit: unit of the maps, for the label of the color bar.

    Returns:
        The figure; its summary counts the images in which the thresholded map marks pixels.

    Raises:
        ValueError: `n` or `indices` is invalid, scores or maps hold NaN or infinity, or no threshold can be chosen.
    """
    check_finite(report)
    indices = examples(report, n) if indices is None else list(indices)
    wrong = {*indices} - {*range(len(report.scores))}
    if wrong or not indices:
        raise ValueError(f"Choose test images by index, 0 to {len(report.scores) - 1}; got {sorted(wrong) or 'none'}.")
    value, origin = contour_threshold(report) if threshold is None else (threshold, "given")
    maps, truth = report.maps[indices], report.pixels is not None
    columns = ["image", "ground truth", "anomaly map", "outlines"] if truth else ["image", "anomaly map", "outlines"]
    height = len(indices) * (WIDTH / len(columns) * maps.shape[1] / maps.shape[2] + 0.2) + 1.2
    scale = Normalize(maps.min(), maps.max())  # shared by every map and the color bar
    with canvas(len(indices), len(columns), height) as (figure, axes):
        for row, i in zip(axes, indices, strict=True):
            mappable = _gallery_row(row, report, i, value, scale)
        for axis, name in zip(axes[0], columns, strict=True):
            axis.annotate(name, (0.5, 1), (0, 20), ha="center", xycoords="axes fraction", textcoords="offset points",
                          weight="bold", annotation_clip=False)
        bar = figure.colorbar(mappable, ax=axes, location="bottom", aspect=50, pad=0.01, label=f"anomaly map ({unit})")
        if maps.min() < value < maps.max():
            bar.ax.plot(value, 1.3, "v", color=ORANGE, markeredgecolor="black", clip_on=False,
                        transform=bar.ax.get_xaxis_transform())
        handles = [Line2D([], [], label="ground truth", **TRUTH)] * truth
        handles.append(Line2D([], [], label=f"map ≥ {number(value)} ({origin})", **MARKED))
        figure.legend(handles=handles, loc="outside lower center", ncols=2, handlelength=3)
    figure.summary = _gallery_summary(report, indices, f"at {number(value)} ({origin})", maps >= value)
    return figure


def _gallery_row(row: Sequence[Axes], report: Report, i: int, value: float, scale: Normalize) -> AxesImage:
    for axis in row:
        axis.imshow(report.image(i))
        axis.set_axis_off()
    row[0].set_title(f"{report.defect_types[i]}, score {number(report.scores[i])}", loc="left", fontsize=9, pad=3)
    if report.pixels:
        truth = np.where(report.unknown[i], 0.5, report.masks[i])
        row[1].imshow(truth, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        outline(row[-1], report.masks[i], TRUTH)
    outline(row[-1], report.maps[i] >= value, MARKED)
    return row[-2].imshow(report.maps[i], norm=scale)


def _gallery_summary(report: Report, indices: list[int], threshold: str, marked: NDArray) -> str:
    scores, bad = report.scores[indices], report.labels[indices] == 1
    top, hits = indices[int(scores.argmax())], marked[bad]
    counts = []
    if not bad.all():
        counts.append(f"marks pixels in {marked[~bad].any(axis=(1, 2)).sum()} of {counted((~bad).sum(), 'good image')}")
    if report.pixels:
        hits, bad = hits & report.masks[indices][bad], bad & ~report.unknown[indices].all((1, 2))
    if bad.any():
        verb = "meets the true region in" if report.pixels else "marks pixels in"
        counts.append(f"{verb} {hits.any(axis=(1, 2)).sum()} of {counted(bad.sum(), 'defective image')}")
    return (f"{counted(len(indices), 'test image')}, scores {number(scores.min())} to {number(scores.max())}, the "
            f"highest of kind '{report.defect_types[top]}'; {threshold} the map {' and '.join(counts)}.")
