"""Draw comparisons for the lessons: images in a grid, and the maps of several methods."""
from collections.abc import Mapping, Sequence

from matplotlib.colors import Normalize
from numpy.typing import ArrayLike

from rdlib.datasets.samples import AnomalyDataset, Item
from rdlib.figures.canvas import Figure, canvas, check_indices, counted, handle, head, number, outline
from rdlib.figures.networks import Panel, panels
from rdlib.figures.style import TRUTH, WIDTH
from rdlib.utils.arrays import as_finite


def pictures(items: Sequence[Item], titles: Sequence[str], columns: int, summary: str, *,
             outlines: bool = True) -> Figure:
    """Draw images of a data set in rows, with titles and with the outlines of the true regions.

    Args:
        items: elements of a data set; the images (3, H, W) in [0, 1] have one size.
        titles: one title for each item.
        columns: number of images in a row, 1 or more.
        summary: what a reader should see in the images, in a sentence.
        outlines: draw the outlines of the masks.

    Returns:
        The figure, with `summary` as its summary.

    Raises:
        ValueError: `items` is empty, or `titles` has another length.
    """
    if not items or len(items) != len(titles):
        raise ValueError(f"Give one or more images and a title for each; got {len(items)} images, {len(titles)} "
                         "titles.")
    cells = [Panel(item.image, title, region=item.mask if outlines else None)
             for item, title in zip(items, titles, strict=True)]
    grid = [*cells, *[None] * (-len(cells) % columns)]
    figure = panels([grid[i:i + columns] for i in range(0, len(grid), columns)])
    figure.summary = summary
    return figure


def side_by_side(dataset: AnomalyDataset, maps: Mapping[str, ArrayLike], indices: Sequence[int], unit: str, *,
                 shared: bool = True) -> Figure:
    """Draw a row for each test image: the image with its true region outlined, then the map of every method.

    Args:
        dataset: the test images.
        maps: (N, H, W) maps of the whole test set by the method's name; higher is more anomalous.
        indices: indices of the images to draw, one or more.
        unit: unit of the maps, for the label of the color bar.
        shared: True: one color scale for all maps; False: one for each method.

    Returns:
        The figure; its summary lists each map's highest value.

    Raises:
        ValueError: `indices` is empty or invalid, `maps` is empty, or maps hold NaN or infinity.
    """
    check_indices(indices, len(dataset))
    if not maps:
        raise ValueError("No maps to compare, got an empty mapping. Give the maps of one or more methods.")
    chosen = {name: as_finite(values, f"maps of {name}")[list(indices)] for name, values in maps.items()}
    parts = list(chosen.values())
    norms = [Normalize(min(p.min() for p in part), max(p.max() for p in part)) for part in
             ([parts] * len(parts) if shared else [[p] for p in parts])]
    columns = 1 + len(maps)
    tall = len(indices) * (WIDTH / max(columns, 4) * dataset.size[0] / dataset.size[1] + 0.2) + 1.1
    with canvas(len(indices), columns, tall, layout="compressed") as (figure, axes):
        for r, i in enumerate(indices):
            item = dataset[i]
            axes[r, 0].imshow(item.image.permute(1, 2, 0).numpy())
            axes[r, 0].set_title(f"{dataset.defect_types[i]} ({i})", loc="left", fontsize=9, pad=3)
            outline(axes[r, 0], item.mask.numpy(), TRUTH)
            drawn = [axis.imshow(part[r], norm=norm)
                     for axis, part, norm in zip(axes[r, 1:], parts, norms, strict=True)]
        for axis in axes.flat:
            axis.set_axis_off()
        head(axes[0], ["image", *maps])
        for c, mappable in enumerate(drawn[:1] if shared else drawn, 1):
            figure.colorbar(mappable, ax=axes[:, 1:] if shared else axes[:, c], location="bottom",
                            aspect=50 if shared else 20, pad=0.02, label=unit)
        figure.legend(handles=[handle(TRUTH, "ground truth")], loc="outside lower left", handlelength=3)
    kinds = [dataset.defect_types[i] for i in indices]
    figure.summary = f"Highest values on {counted(len(indices), 'test image')}: " + "; ".join(
        f"{name} " + ", ".join(f"{number(m.max())} ({kind})" for m, kind in zip(part, kinds, strict=True))
        for name, part in chosen.items()) + "."
    return figure
