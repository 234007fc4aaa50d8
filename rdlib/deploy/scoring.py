"""Score a folder of images: write a table of scores, and overlays that show where each image is anomalous."""
import csv
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from rdlib.deploy.drift import drift_warnings
from rdlib.deploy.export import OnnxDetector
from rdlib.deploy.table import COLUMNS, begin_table, finished_table, listed_name
from rdlib.detector import Scorer
from rdlib.images import list_images, read_image
from rdlib.threshold import Threshold, agreed_size
from rdlib.utils.arrays import as_array
from rdlib.utils.errors import DataError, NotFiniteError, check_choice
from rdlib.utils.files import written_atomically
from rdlib.utils.hardware import best_device
from rdlib.variants.load import load

OVERLAYS = ("anomalous", "all", "none")
NOT_FINITE = "The map or score is NaN or infinite. Usually training has diverged: train again with a smaller lr."


def score_folder(model: Scorer, folder: str | Path, out: str | Path, *, size: int | tuple[int, int] | None = None,
                 overlays: str = "anomalous", batch_size: int = 16, num_workers: int = 0, resume: bool = False,
                 progress: bool = True) -> pd.DataFrame:
    """Score every image file below a folder, and write a table and overlays.

    OUT/scores.csv is the returned table, and OUT/overlays/FILE.png is the overlay of a file. Each row is written as
    soon as its image is scored, so a stopped run keeps its rows. Outdated overlays of an earlier run are removed.

    Args:
        model: model with its threshold, see `rdlib.threshold`; without a threshold, no image is called anomalous.
        folder: folder of images of any size, in a format that `rdlib.images` reads. Hidden folders and `out` are
            skipped.
        out: folder for the results; created if necessary.
        size: (H, W) or the side of a square, in pixels, to resize images to; default: the size that the model knows.
        overlays: images to draw: "anomalous", "all" or "none".
        batch_size: images at a time.
        num_workers: number of processes that read images.
        resume: keep the rows of an earlier run of the same model on the same folder, also those of images that have
            left it. Images that are new, have changed or had an error are scored.
        progress: show a progress bar.

    Returns:
        One row per file, sorted by name. `file` is its path below `folder`, `score` its image score. `anomalous` is 1
        or 0; it is missing without a threshold. `row` and `column` locate the map's maximum, in pixels of the upright
        image. `height` and `width` are the size of this image in pixels. `error` describes what is wrong with the file,
        its score or its overlay; it is empty if nothing is. Without a score, only `file` and `error` have values.

    Raises:
        DataError: the folder does not exist or holds no image file.
        ValueError: `size` is missing, invalid or not the model's, `overlays` is unknown, or the rows in `out` are of
            another model, folder or size and `resume` is set.
        OSError: the table cannot be written.
    """
    folder, out = Path(folder), Path(out)
    check_choice("choice of overlays", overlays, OVERLAYS)
    images, size = find_images(folder, out), agreed_size(model.image_size, size)
    names = {listed_name(path, folder): path for path in images}
    run = model.describe() | {"size": size, "folder": str(folder.resolve())}
    done = begin_table(out, run, names, resume)
    files = _Files([path for name, path in names.items() if name not in done], size)
    scored = _scored(model, files, batch_size, num_workers)
    # Buffering of 1 writes each line at once. The words of an error may name a file whose name is no UTF-8.
    with (out / "scores.csv").open("a", 1, "utf-8", "backslashreplace", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        for path, row, values in tqdm(scored, "scoring", len(files), unit="image", disable=not progress or None):
            target = out / "overlays" / f"{path.relative_to(folder).as_posix()}.png"
            _draw(path, target, row, values, model, overlays)
            table.writerow(row | {"file": listed_name(path, folder), "error": " ".join(row["error"].split())})
    return finished_table(out)


def find_images(folder: Path, out: Path) -> list[Path]:
    """Find all image files in a folder and below, sorted by name in the same way on every system.

    Hidden files and folders, and those in `out`, are skipped. Raises DataError if the folder does not exist or no image
    is left.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}. Check the path.")
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    found = [path for part in folders if not any(name.startswith(".") for name in part.relative_to(folder).parts)
             and not part.resolve().is_relative_to(out.resolve()) for path in list_images(part)]
    if not found:
        raise DataError(f"{folder} and its subfolders hold no images. Put some there (png, jpg, bmp, tif or webp).")
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


class _Files(Dataset):
    """Image files as index, image (3, H, W) uint8, height and width of the file, and error ("" if none)."""

    def __init__(self, paths: list[Path], size: tuple[int, int]):
        self.paths, self.size = paths, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, Tensor, int, int, str]:
        try:
            image, (height, width) = read_image(self.paths[index], self.size)
        except DataError as error:
            return index, torch.zeros(3, *self.size, dtype=torch.uint8), 0, 0, str(error)
        return index, image, height, width, ""


def _scored(model: Scorer, files: _Files, batch_size: int, num_workers: int) -> Iterator[tuple]:
    """Yield the path of every file, its row of the table, and its map, or None without a map."""
    loader = DataLoader(files, batch_size, num_workers=num_workers, generator=torch.Generator())  # not the global one
    for indices, images, heights, widths, errors in loader:
        predicted = iter(_predicted(model, images[[not error for error in errors]]))
        for i, height, width, error in zip(indices, heights.tolist(), widths.tolist(), errors, strict=True):
            values, score = (None, np.nan) if error else next(predicted)
            row = {"error": error or NOT_FINITE} if values is None else _row(values, score, (height, width), model)
            yield files.paths[i], row, values


def _predicted(model: Scorer, images: Tensor) -> list[tuple[NDArray | None, float]]:
    """Predict map and score of each image. An image whose map or score is not finite gets None and NaN."""
    if not len(images):
        return []
    try:
        maps, scores = model.predict(images)
    except NotFiniteError as error:
        rest = iter(_predicted(model, images[[i not in error.indices for i in range(len(images))]]))
        return [(None, np.nan) if i in error.indices else next(rest) for i in range(len(images))]
    return list(zip(as_array(maps), as_array(scores).tolist(), strict=True))


def _row(values: NDArray, score: float, size: tuple[int, int], model: Scorer) -> dict:
    """Create an image's row of the table, without its name."""
    roi = getattr(model, "roi", None)
    inside = values if roi is None else np.where(as_array(roi), values, -np.inf)  # a map may be 0 everywhere
    place = np.unravel_index(inside.argmax(), values.shape)
    row, column = (int((p + 0.5) * large / small) for p, large, small in zip(place, size, values.shape, strict=True))
    decision = {"anomalous": int(score >= model.threshold.score)} if model.threshold else {}
    return {"score": f"{score:.9g}", "row": row, "column": column, "height": size[0], "width": size[1], "error": "",
            **decision}


def _draw(path: Path, target: Path, row: dict, values: NDArray | None, model: Scorer, overlays: str) -> None:
    """Write the overlay of a file if `overlays` selects it, else remove an earlier one. Add what failed to the row."""
    from rdlib.figures.overlay import overlay, overlay_size  # here: matplotlib is slow to import
    try:
        if values is not None and {"all": True, "anomalous": row.get("anomalous"), "none": False}[overlays]:
            pixels, _ = read_image(path, overlay_size(row["height"], row["width"]))
            drawn = overlay(pixels.permute(1, 2, 0).numpy(), values, float(row["score"]), model.threshold,
                            getattr(model, "roi", None))
            with written_atomically(target) as temporary:
                drawn.save(temporary)
        elif os.path.exists(target):  # False, unlike Path.exists, for a name that is too long
            target.unlink()
    except (OSError, ValueError) as error:
        row["error"] += f" The overlay could not be written or removed: {error}"


def load_scorer(path: str | Path) -> Scorer:
    """Load a model file: .onnx with onnxruntime, any other by `rdlib.load` on the best device.

    Raises WeightsError if the file is missing or unreadable, and ImportError if onnxruntime is not installed.
    """
    if Path(path).suffix.lower() == ".onnx":
        return OnnxDetector(path)
    return load(path).to(best_device())


def scoring_messages(table: pd.DataFrame, threshold: Threshold | None, out: Path) -> tuple[str, list[str]]:
    """Summarize the result of `score_folder` in a line, and in warnings of scores that are not finite and of drift."""
    not_finite, errors = int((table["error"] == NOT_FINITE).sum()), int((table["error"] != "").sum())
    verdict = (f"{int(table['anomalous'].sum())} anomalous (score at least {threshold.score:.4g})" if threshold else
               "no threshold was saved with the model, so none is called anomalous")
    warnings = [f"{not_finite} of them have no score: {NOT_FINITE}"] if not_finite else []
    if threshold:
        warnings += drift_warnings(table["score"].dropna().to_numpy(), threshold)
    return f"{len(table)} files, {errors} with an error; {verdict}: {out / 'scores.csv'}", warnings
