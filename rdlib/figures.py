"""Every static figure of the kit, a function each: results go in, a matplotlib Figure comes out.

A figure carries a sentence drawn from its own data, `figure.summary`, so that nothing is told by picture alone: `show`
prints it below the picture and stores it as alt text. No figure stays open in pyplot and no global style is changed.
Colours are Okabe and Ito's and viridis, safe for the colour-blind, and never the only sign of a difference.
"""
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from rdlib.anomaly_map import fuse, gaussian_smooth, image_score
from rdlib.evaluation import Report
from rdlib.model import ReverseDistillation
from rdlib.run import Run
from rdlib.samples import GOOD, AnomalyDataset

BLUE, VERMILION, GREEN, ORANGE, GREY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#767676"
STYLE = {"figure.constrained_layout.use": True, "figure.facecolor": "white", "font.size": 10, "axes.titlesize": 10,
         "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "legend.fontsize": 9,
         "image.cmap": "viridis", "xtick.labelsize": 9, "ytick.labelsize": 9}
WIDTH = 8.0  # inches, a notebook's column
SCREEN_DPI, STORED_DPI = 96, 100  # how large `show` makes an inch, and how finely it draws it
LARGE = 200_000  # bytes; a notebook should stay below 2 MB
UNIT = "cosine distance, summed over 3 scales"
HALO = [withStroke(linewidth=3, foreground="black")]  # keeps a bright line visible on any image
TRUTH = {"colors": "white", "linestyles": "solid", "linewidths": 1.5}
MARKED = {"colors": ORANGE, "linestyles": "dashed", "linewidths": 1.5}


@contextmanager
def _canvas(rows: int, columns: int, height: float, **options) -> Iterator[tuple[Figure, NDArray]]:
    """A figure and its (rows, columns) axes, drawn on in the kit's style whatever style the caller has set.

    It is made by pyplot, so that notebooks know how to display it, and closed at once, so that they do so only once.
    """
    with plt.style.context(["default", STYLE]):
        figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, height), squeeze=False, **options)
        plt.close(figure)
        yield figure, axes


def show(figure: Figure, summary: str | None = None) -> None:
    """Display a figure in a notebook, with its summary as alt text, and print the summary below; elsewhere print only.

    `summary` is for figures that are drawn by hand. Raises ValueError where there is none.
    """
    summary = summary or getattr(figure, "summary", None)
    if not summary:
        raise ValueError("Say in a sentence what the figure shows: show(figure, summary='...').")
    try:
        from IPython import get_ipython
        from IPython.display import Image, display
    except ImportError:
        shell = None
    else:
        shell = get_ipython()
    if shell is not None:
        # metadata= and not alt=: Colab's IPython 7 does not know the latter.
        display(Image(_stored(figure), width=round(figure.get_figwidth() * SCREEN_DPI), metadata={"alt": summary}))
    plt.close(figure)
    print(fill(summary, 100))  # a page would break a long line in the middle of a word


def _stored(figure: Figure) -> bytes:
    """The figure as a notebook keeps it: PNG, or, where photographs make that large, JPEG."""
    png, jpeg = BytesIO(), BytesIO()
    figure.savefig(png, format="png", dpi=STORED_DPI)
    if png.tell() <= LARGE:
        return png.getvalue()
    figure.savefig(jpeg, format="jpeg", dpi=STORED_DPI, pil_kwargs={"quality": 90, "subsampling": 0})
    return jpeg.getvalue()


def examples(report: Report, n: int = 6) -> list[int]:
    """Up to n places in the test set that show it fairly, good images first, then kind by kind, the same every time.

    Each kind gives its image of median score, good images included; then, as far as n reaches, its hardest ones: the
    good images that score highest, the defects that score lowest. With more kinds than n, those that are taken are
    spread evenly from the lowest to the highest median score. Raises ValueError for n < 1.
    """
    if n < 1:
        raise ValueError(f"A gallery needs at least one image, got n={n}.")
    good, kinds = [], []
    for kind in sorted(set(report.defects)):
        members = np.flatnonzero(report.defects == kind)
        members = members[np.argsort(report.scores[members], kind="stable")]
        typical = members[(len(members) - 1) // 2]
        hardest = members[::-1] if kind == GOOD else members
        (good if kind == GOOD else kinds).append([typical, *hardest[hardest != typical]])
    room = n - len(good)
    if len(kinds) > room:
        kinds.sort(key=lambda group: report.scores[group[0]])
        kinds = [kinds[i] for i in np.linspace(0, len(kinds) - 1, room).round().astype(int)]
    places = [(rank, g) for g, group in enumerate(good + kinds) for rank in range(len(group))]
    chosen = sorted(sorted(places)[:n], key=lambda place: (place[1], place[0]))
    return [int((good + kinds)[g][rank]) for rank, g in chosen]


def contour_threshold(report: Report) -> tuple[float, str]:
    """The value from which `gallery` calls a pixel anomalous, and where it comes from.

    With masks the threshold of the highest pixel F1, chosen on the very masks it is shown with; without, the next
    number above all maps of good images. Raises ValueError where there are neither masks nor good images.
    """
    if report.pixels:
        return report.pixels.f1_max()[1], "best pixel F1 on this test set"
    good = report.maps[report.labels == 0]
    if not len(good):
        raise ValueError("Without masks and good test images there is no threshold to draw: pass threshold=.")
    return float(np.nextafter(good.max(), np.float32(np.inf))), "above all good test images"


def gallery(report: Report, n: int = 6, indices: Sequence[int] | None = None, *, threshold: float | None = None,
            unit: str = UNIT) -> Figure:
    """A row per image: the image, its ground truth, its anomaly map, and the outlines of truth and thresholded map.

    The maps share one colour scale and are opaque, so that a colour reads as a value. Without masks there is no truth.

    Args:
        n: so many images, chosen by `examples`.
        indices: or these images.
        threshold: of the outline; default `contour_threshold`.
        unit: of the maps.

    Raises:
        ValueError: an image that is not there, non-finite maps, no image, or no threshold to be had.
    """
    _check_finite(report)
    indices = examples(report, n) if indices is None else list(indices)
    _check_indices(indices, len(report.scores))
    value, origin = contour_threshold(report) if threshold is None else (threshold, "given")
    maps, truth = report.maps[indices], report.pixels is not None
    columns = ["image", "ground truth", "anomaly map", "outlines"] if truth else ["image", "anomaly map", "outlines"]
    height = len(indices) * (WIDTH / len(columns) * maps.shape[1] / maps.shape[2] + 0.2) + 1.2
    scale = Normalize(maps.min(), maps.max())  # one object: whatever the bar does to it holds for every map
    with _canvas(len(indices), len(columns), height) as (figure, axes):
        for row, i in zip(axes, indices, strict=True):
            mappable = _gallery_row(row, report, i, value, scale)
        _head(axes[0], columns)
        bar = figure.colorbar(mappable, ax=axes, location="bottom", aspect=50, pad=0.01, label=f"anomaly map ({unit})")
        if maps.min() < value < maps.max():
            bar.ax.plot(value, 1.3, "v", color=ORANGE, markeredgecolor="black", clip_on=False,
                        transform=bar.ax.get_xaxis_transform())
        handles = [_handle(TRUTH, "ground truth")] * truth + [_handle(MARKED, f"map ≥ {_number(value)} ({origin})")]
        figure.legend(handles=handles, loc="outside lower center", ncols=2, handlelength=3)
    figure.summary = _gallery_summary(report, indices, f"at {_number(value)} ({origin})", maps >= value)
    return figure


def _gallery_row(row: Sequence[Axes], report: Report, i: int, value: float, scale: Normalize) -> AxesImage:
    for axis in row:
        axis.imshow(report.image(i))
        axis.set_axis_off()
    row[0].set_title(f"{report.defects[i]}, score {_number(report.scores[i])}", loc="left", fontsize=9, pad=3)
    if report.pixels:
        _show_mask(row[1], report.masks[i])
        _outline(row[-1], report.masks[i], TRUTH)
    _outline(row[-1], report.maps[i] >= value, MARKED)
    return row[-2].imshow(report.maps[i], norm=scale)


def _gallery_summary(report: Report, indices: list[int], threshold: str, marked: NDArray) -> str:
    scores, bad = report.scores[indices], report.labels[indices] == 1
    top, hits = indices[int(scores.argmax())], marked[bad]
    counts = []
    if not bad.all():
        counts.append(f"marks pixels in {marked[~bad].any(axis=(1, 2)).sum()} of {_count((~bad).sum(), 'good image')}")
    if report.pixels:
        hits = hits & report.masks[indices][bad]
    if bad.any():
        verb = "meets the true region in" if report.pixels else "marks pixels in"
        counts.append(f"{verb} {hits.any(axis=(1, 2)).sum()} of {_count(bad.sum(), 'defective image')}")
    return (f"{_count(len(indices), 'test image')}, scores {_number(scores.min())} to {_number(scores.max())}, the "
            f"highest of kind '{report.defects[top]}'; {threshold} the map {' and '.join(counts)}.")


def score_histogram(report: Report, *, unit: str = UNIT) -> Figure:
    """Which scores good and anomalous images get, in shares of either class: blind to their sizes, as AUROC is.

    Raises ValueError for non-finite scores.
    """
    _check_finite(report)
    classes = [(f"{name} ({_count(len(scores), 'image')})", scores, style) for name, label, style in (
        ("good", 0, {"facecolor": (BLUE, 0.3), "edgecolor": BLUE}),
        ("anomalous", 1, {"facecolor": "none", "edgecolor": VERMILION, "hatch": "///", "linestyle": "dashed"}))
        if len(scores := report.scores[report.labels == label])]
    count = np.clip(len(np.histogram_bin_edges(report.scores, "auto")) - 1, 10, 40)
    edges = np.histogram_bin_edges(report.scores, count)
    auroc = f"AUROC {report.image_auroc:.3f}" if len(classes) == 2 else "no AUROC without both classes"
    with _canvas(1, 1, 3.4) as (figure, ((axis,),)):
        for name, scores, style in classes:
            axis.hist(scores, edges, weights=np.full(len(scores), 100 / len(scores)), histtype="stepfilled",
                      linewidth=1.5, label=name, **style)
        axis.set(xlabel=f"image score: highest value of its map ({unit})", ylabel="share of good / of anomalous (%)",
                 title=f"Image scores, {auroc}")
        axis.legend()
    ranges = "; ".join(f"{name} {_number(scores.min())} to {_number(scores.max())}" for name, scores, _ in classes)
    figure.summary = f"Image scores, {auroc}: {ranges}."
    if len(classes) == 2:
        above = int((classes[1][1] > classes[0][1].max()).sum())
        figure.summary += f" {above} of the anomalous score higher than every good image."
    return figure


def roc_and_pro(report: Report) -> Figure:
    """ROC of images and pixels, beside it PRO with the area up to the FPR limit that AUPRO is the mean height of.

    What the test set has no truth for is left out; raises ValueError where nothing remains.
    """
    curves = []
    if not np.isnan(report.image_auroc):
        curves.append(("image", report.image_auroc, roc_curve(report.labels, report.scores), BLUE, "solid"))
    if report.pixels:
        curves.append(("pixel", report.pixel_auroc, report.pixels.roc_curve(), VERMILION, "dashed"))
    if not curves:
        raise ValueError("A ROC curve needs both good and anomalous test images, or masks. Add such images.")
    panels = 1 + (report.pixels is not None)
    with _canvas(1, panels, 4.2) as (figure, (axes,)):
        for name, area, (fpr, tpr, _), colour, line in curves:
            axes[0].plot(*_thinned(fpr, tpr), color=colour, linestyle=line, label=f"{name} AUROC {area:.3f}")
        axes[0].plot([0, 1], [0, 1], color=GREY, linestyle="dotted", label="chance 0.500")
        axes[0].set(title="ROC", ylabel="true-positive rate", xlabel="false-positive rate")
        axes[0].legend(loc="lower right")
        if report.pixels:
            _draw_pro(axes[1], report)
        for axis in axes:
            axis.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    figure.summary = "Areas: " + ", ".join(f"{name} AUROC {area:.3f}" for name, area, *_ in curves)
    figure.summary += f", AUPRO {report.aupro:.3f} up to FPR {report.fpr_limit:g}." if report.pixels else "; no masks."
    return figure


def _draw_pro(axis: Axes, report: Report) -> None:
    fpr, pro, _ = report.pixels.pro_curve()
    limit = report.fpr_limit
    inside = int(np.searchsorted(fpr, limit, side="right"))
    area = np.append(fpr[:inside], limit), np.append(pro[:inside], np.interp(limit, fpr, pro))
    axis.fill_between(*_thinned(*area), facecolor=(GREEN, 0.2), edgecolor=GREEN, hatch="..", linewidth=0)
    axis.plot(*_thinned(fpr, pro), color=GREEN)
    axis.axvline(limit, color=GREY, linestyle="dashed", linewidth=1)
    # A limit far to the right leaves no room beside it.
    side, place = ("left", 6) if limit <= 0.6 else ("right", -6)
    axis.annotate(f"AUPRO {report.aupro:.3f}:\nmean height up to\nFPR limit {limit:g}", (limit, 0.1), (place, 0),
                  textcoords="offset points", ha=side, backgroundcolor="white")
    axis.set(title="PRO", ylabel="per-region overlap, mean over regions", xlabel="false-positive rate of pixels")


def loss_curve(run: Run) -> Figure:
    """The loss of every step, faint, and the mean of every epoch; logarithmic once it spans a factor of ten.

    Raises ValueError before the first step.
    """
    if not run.losses:
        raise ValueError("There is no loss before the first step: train with fit(model, data.train, epochs) first.")
    steps, epochs = np.array(run.losses), np.array(run.epoch_losses)
    with _canvas(1, 1, 3.4) as (figure, ((axis,),)):
        done = np.arange(1, run.step + 1) / run.steps_per_epoch
        axis.plot(done, steps, color=BLUE, alpha=0.4, linewidth=1, label="step")
        if len(epochs):
            middles = np.arange(len(epochs)) + 0.5
            axis.plot(middles, epochs, color=BLUE, linewidth=2.5, marker="o" if len(epochs) <= 30 else None,
                      label="mean of an epoch, at its middle")
        if steps.min() > 0 and steps.max() > 10 * steps.min():
            axis.set_yscale("log")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set(xlabel="epoch", ylabel="loss (sum of 3 cosine distances)",
                 title=f"Training loss over {_count(run.step, 'step')}")
        axis.legend()
    figure.summary = f"Loss {_number(steps[0])} in the first step, {_number(steps[-1])} in the last, step {run.step}"
    figure.summary += f"; mean of epoch {len(epochs)}: {_number(epochs[-1])}." if len(epochs) else "."
    return figure


def scale_maps(model: ReverseDistillation, dataset: AnomalyDataset, index: int) -> Figure:
    """How one image gets its map (eq. 1, §3.4): the distances at three scales, fused, smoothed.

    The scales share one colour scale, the fused and the smoothed map another. Titles give the resolution at which a
    scale is compared before it is brought to the image's. Raises ValueError for an image that is not there.
    """
    _check_indices([index], len(dataset))
    item, fusion, sigma = dataset[index], model.config.fusion, model.config.sigma
    maps = model.scale_maps(item.image[None])
    fused = fuse(maps, fusion, model.config.scales)
    smoothed = gaussian_smooth(fused, sigma)
    score = image_score(smoothed, model.config.score).item()
    scales, fused, smoothed = (m[0].cpu().numpy() for m in (maps, fused, smoothed))
    joined, unit = ("sum", "summed") if fusion == "add" else ("product", "multiplied")
    height, width = dataset.size
    sizes = [f"{height // side} x {width // side}" for side in (4, 8, 16)]
    one_scale, all_scales = Normalize(scales.min(), scales.max()), Normalize(fused.min(), fused.max())
    peak = np.unravel_index(smoothed.argmax(), smoothed.shape)
    with _canvas(2, 4, 3.5 * height / width + 0.85, layout="compressed") as (figure, axes):
        figure.suptitle(f"Test image {index}: {dataset.defects[index]}, score {_number(score)}")
        for axis, title in ((axes[0, 0], "image"), (axes[1, 3], "+ highest value")):
            axis.imshow(item.image.permute(1, 2, 0).numpy())
            axis.set_title(title)
        axes[1, 3].plot(peak[1], peak[0], "+", color=ORANGE, markersize=12, markeredgewidth=2, path_effects=HALO)
        if dataset.has_masks:
            _show_mask(axes[1, 0], item.mask.numpy())
            axes[1, 0].set_title("ground truth")
            _outline(axes[1, 3], item.mask.numpy(), TRUTH)
        for axis, size, values in zip(axes[0, 1:], sizes, scales, strict=True):
            fine = axis.imshow(values, norm=one_scale)
            axis.set_title(f"distance {size}")
        for axis, values, title in ((axes[1, 1], fused, joined), (axes[1, 2], smoothed, f"smoothed, σ {sigma:g} px")):
            joint = axis.imshow(values, norm=all_scales)
            axis.set_title(title)
        for axis in axes.flat:
            axis.set_axis_off()
        figure.colorbar(fine, ax=axes[0], label="cosine distance")
        figure.colorbar(joint, ax=axes[1], label=f"distances {unit}")
    where = f", {'inside' if item.mask[peak] else 'outside'} the true region" if item.mask.any() else ""
    highest = ", ".join(f"{_number(values.max())} at {size}" for size, values in zip(sizes, scales, strict=True))
    highest_at = " at" if model.config.score == "max" else ", highest at"
    figure.summary = (f"Image {index} ({dataset.defects[index]}): highest distance {highest}; score "
                      f"{_number(score)}{highest_at} row {peak[0]}, column {peak[1]}{where}.")
    return figure


def per_defect(report: Report) -> Figure:
    """Image AUROC, pixel AUROC and AUPRO of every kind of defect, each against all good images; hardest kind on top.

    Raises ValueError without anomalous images, or where there is neither a good image nor a mask.
    """
    table = report.per_defect().dropna(axis="columns", how="all")
    names = [name for name in ("image_auroc", "aupro", "pixel_auroc") if name in table]
    if not names:
        raise ValueError("There is nothing to compare. Add defective test images, and good ones or masks.")
    table = table.sort_values(names[0], kind="stable", ascending=False)
    looks = {"image_auroc": ("image AUROC", BLUE, "o"), "aupro": (f"AUPRO, FPR limit {report.fpr_limit:g}", GREEN, "s"),
             "pixel_auroc": ("pixel AUROC", VERMILION, "^")}
    with _canvas(1, 1, 1.5 + 0.4 * len(table)) as (figure, ((axis,),)):
        for name in names:
            label, colour, marker = looks[name]
            axis.plot(table[name], range(len(table)), marker, color=colour, label=label, markersize=8)
        axis.set_yticks(range(len(table)), [f"{kind} ({n})" for kind, n in table.images.items()])
        axis.set(xlabel="area under the curve (1 is perfect; an AUROC of 0.5 is chance)", ylim=(-0.5, len(table) - 0.5),
                 ylabel="kind of defect (images)", xlim=(min(0.5, table[names].min(axis=None)) - 0.02, 1.02))
        axis.grid(axis="y", alpha=0.4)
        figure.legend(loc="outside upper center", ncols=3)
    best = table[names[0]].dropna()
    figure.summary = (f"For {_count(len(table), 'kind')} of defect, {looks[names[0]][0]} is lowest for "
                      f"'{best.index[-1]}', {best.iloc[-1]:.3f}, highest for '{best.index[0]}', {best.iloc[0]:.3f}.")
    return figure


def _show_mask(axis: Axes, mask: NDArray) -> None:
    axis.imshow(mask, cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def _outline(axis: Axes, region: NDArray, style: dict) -> None:
    """Draw the border of an (H, W) bool region; a region that reaches the image's edge is closed there."""
    if region.any():
        height, width = region.shape
        lines = axis.contour(np.arange(-1, width + 1), np.arange(-1, height + 1), np.pad(region, 1).astype(float),
                             [0.5], **style)
        lines.set_path_effects(HALO)
        axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def _head(row: Sequence[Axes], names: Sequence[str]) -> None:
    """Name the columns above the first row, clear of its title."""
    for axis, name in zip(row, names, strict=True):
        axis.annotate(name, (0.5, 1), (0, 20), ha="center", xycoords="axes fraction", textcoords="offset points",
                      weight="bold", annotation_clip=False)


def _handle(style: dict, label: str) -> Line2D:
    return Line2D([], [], color=style["colors"], linestyle=style["linestyles"], linewidth=style["linewidths"],
                  path_effects=HALO, label=label)


def _thinned(x: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
    """At most 2001 of the corners of a rising curve, which may have millions; it moves by no more than 0.001."""
    along = x + y
    keep = np.unique(np.searchsorted(along, np.linspace(along[0], along[-1], 2001)))
    return x[keep], y[keep]


def _number(value: float) -> str:
    return f"{value:#.3g}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _check_finite(report: Report) -> None:
    if not np.isfinite(report.scores).all():
        raise ValueError("The scores hold NaN or infinity: training has probably diverged, see loss_curve(run).")


def _check_indices(indices: Sequence[int], n: int) -> None:
    wrong = [i for i in indices if not 0 <= i < n]
    if wrong or not len(indices):
        raise ValueError(f"Choose images by their places in the test set, 0 to {n - 1}; got {wrong or 'none'}.")
