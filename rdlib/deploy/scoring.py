"""Score a folder of images: write a table of scores, and overlays that show where each image is anomalous."""
import csv
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from rdlib.datasets.leftover import is_unread, walk
from rdlib.datasets.workers import read_batches
from rdlib.deploy.drift import drift_warnings
from rdlib.deploy.export import OnnxDetector
from rdlib.deploy.table import COLUMNS, SHOWN, begin, cell, finished, listed_name, opened, overlay_name, remove_outdated
from rdlib.detector import Scorer
from rdlib.images import EXTENSIONS, as_images, images_below, read_image
from rdlib.threshold import Threshold, agreed_size
from rdlib.utils.arrays import as_array
from rdlib.utils.errors import DataError, NotFiniteError, check_choice, checked, shown
from rdlib.utils.files import explained, written_atomically
from rdlib.utils.hardware import best_device
from rdlib.variants.load import load

DRAWN: dict[str, Any] = {"anomalous": lambda value: value == 1, "all": lambda value: True, "none": lambda value: False}
NOT_FINITE = "The map or score is NaN or infinite. Usually training has diverged: train again with a smaller lr."


@checked
def score_folder(model: Scorer, folder: str | Path, out: str | Path, *, size: int | tuple[int, int] | None = None,
                 overlays: str = "anomalous", batch_size: int = 16, num_workers: int = 0, resume: bool = False,
                 progress: bool = True) -> pd.DataFrame:
    """Score every image file below a folder, and write a table and overlays.

    OUT/scores.csv is the returned table, and OUT/overlays/FILE.png is the overlay of a file. A hash ends its name where
    this would be too long. Each row is written as soon as its image is scored, so a stopped run keeps its rows. At the
    end, overlays of rows that an earlier run wrote there are removed. Nothing else is removed.

    Args:
        model: model with its threshold, see `rdlib.threshold`; without a threshold, no image is called anomalous.
        folder: folder of images of any size, in a format that `rdlib.images` reads. Linked folders are searched too;
            hidden and system folders and `out` are skipped.
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
        `table.attrs["notes"]` lists what a warning has said: what was left out in `folder`, what was left in
        OUT/overlays, and signs that the scores cannot be trusted.

    Raises:
        DataError: `folder` is missing, a file, or inside `out`, or it holds no image file.
        ValueError: `size` is missing, invalid or not the model's, `overlays` is unknown, or the rows in `out` are of
            another model, folder or size and `resume` is set.
        OSError: the table cannot be written.
    """
    folder, out = Path(folder), Path(out)
    check_choice("choice of overlays", overlays, DRAWN)
    images, size = find_images(folder, out), agreed_size(model.image_size, size)
    names = {listed_name(path, folder): path for path in images}
    model.warn_if_unfinished("used")
    run = model.describe() | {"size": size, "folder": str(folder.resolve())}
    with opened(out):
        done = begin(out, run, names, resume)
        files = [path for name, path in names.items() if name not in done]
        scored = _scored(model, files, size, batch_size, num_workers)
        with (explained(place := out / "scores.csv", "could not be written"),
              place.open("a", 1, "utf-8", newline="") as file):  # buffering of 1 writes each line at once
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            for path, row, values in tqdm(scored, "scoring", len(files), unit="image", disable=not progress or None):
                listed = listed_name(path, folder)
                if values is not None and DRAWN[overlays](row.get("anomalous")):
                    drawn = overlay_name(path.relative_to(folder).as_posix(), listed)
                    _draw(path, out / "overlays" / drawn, row, values, model)
                writer.writerow(row | {"file": listed, "error": cell(" ".join(row["error"].split()))})
        table = finished(out)
        wanted = table["file"][(table["error"] == "") & DRAWN[overlays](table["anomalous"])]
        notes = not_scored(folder, out, images) + remove_outdated(out, {*wanted}, done) + doubts(table, model.threshold)
    if notes:
        warnings.warn("\n".join(notes), stacklevel=3)
    table.attrs["notes"] = notes
    return table


def find_images(folder: Path, out: Path) -> list[Path]:
    """Find all image files in a folder and below, sorted by name in the same way on every system.

    Linked folders are searched too. Hidden files, hidden and system folders, and files in `out` are skipped. Raises
    DataError if the folder is missing or inside `out`, or if no image is left.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} {'is a file' if folder.exists() else 'is missing'}, but a folder is wanted.")
    if folder.resolve().is_relative_to(out.resolve()):
        raise DataError(f"OUT holds FOLDER; name another. OUT is {out.resolve()}, FOLDER is {folder.resolve()}.")
    found = images_below(folder, skip=[out])
    if not found:
        raise DataError(" ".join([f"{folder} and its subfolders hold no images. Put some there (png, jpg, bmp, tif or "
                                  "webp).", *not_scored(folder, out, [])]))
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def not_scored(folder: Path, out: Path, images: list[Path]) -> list[str]:
    """Count the files below `folder`, but not in `out`, that look like images and are not among `images`."""
    scored = {(os.path.realpath(path.parent), path.name) for path in images}
    left = [place / name for _, place, names in walk([folder], [out]) for name in names
            if (os.path.realpath(place), name) not in scored]
    hidden = sorted(listed_name(path, folder) for path in left if path.suffix.lower() in EXTENSIONS or path.is_dir())
    unread = Counter(path.suffix.lower() for path in left if is_unread(path))
    names, kinds = shown(hidden, SHOWN), ", ".join(f"{number} {suffix}" for suffix, number in sorted(unread.items()))
    lines = {f"Left out, since hidden, not accessible or a broken link: {len(hidden)} ({names}).": hidden,
             f"Left out, since these formats are not read: {kinds}. Convert them to PNG.": unread}
    return [line for line, found in lines.items() if found]


def _scored(model: Scorer, paths: list[Path], size: tuple[int, int], batch_size: int, workers: int) -> Iterator[tuple]:
    """Yield the path of every file, its row of the table, and its map, or None without a map."""
    read = partial(_read, size=size, white=model.config.white)
    for batch in read_batches(cast(Dataset, paths), batch_size, read, workers):
        predicted = iter(_predicted(model, [image for _, image, *_ in batch if image is not None]))
        for path, image, own, error in batch:
            values, score = (None, np.nan) if image is None else next(predicted)
            yield path, {"error": error or NOT_FINITE} if values is None else _row(values, score, own, model), values


def _read(paths: list[Path], size: tuple[int, int], white: float | None) -> list[tuple]:
    """Read files. Return path, image (3, H, W), height and width of each, and None and the error where it has one.

    Images are uint8, or float32 in [0, 1] for a model of deep images, whose folders may hold 8-bit files too.
    """
    batch: list[tuple] = []
    for path in paths:
        try:
            image, own = read_image(path, size, white)
            batch.append((path, image if white is None else as_images(image)[0], own, ""))
        except Exception as error:  # one odd file must not stop the others
            batch.append((path, None, (0, 0), str(error) or type(error).__name__))
    return batch


def _predicted(model: Scorer, images: list[Tensor]) -> list[tuple[NDArray | None, float]]:
    """Predict map and score of each image. An image whose map or score is not finite gets None and NaN."""
    if not images:
        return []
    try:
        maps, scores = model.predict(torch.stack(images))
        return list(zip(as_array(maps), as_array(scores).tolist(), strict=True))
    except NotFiniteError:
        return [(None, np.nan)] if len(images) == 1 else [_predicted(model, [image])[0] for image in images]


def _row(values: NDArray, score: float, size: tuple[int, int], model: Scorer) -> dict:
    """Create an image's row of the table, without its name."""
    roi = getattr(model, "roi", None)
    inside = values if roi is None else np.where(as_array(roi), values, -np.inf)  # a map may be 0 everywhere
    place = np.unravel_index(inside.argmax(), values.shape)
    row, column = (int((p + 0.5) * large / small) for p, large, small in zip(place, size, values.shape, strict=True))
    decision = {"anomalous": int(score >= model.threshold.score)} if model.threshold else {}
    return {"score": f"{score:.9g}", "row": row, "column": column, "height": size[0], "width": size[1], "error": "",
            **decision}


def _draw(path: Path, target: Path, row: dict, values: NDArray, model: Scorer) -> None:
    """Write the overlay of a file. If that fails, add the reason to the row."""
    from rdlib.figures.picture import overlay, overlay_size  # here: matplotlib is slow to import
    try:
        pixels, _ = read_image(path, overlay_size(row["height"], row["width"]), model.config.white)
        pixels = (as_images(pixels)[0].permute(1, 2, 0) * 255).round().byte()
        drawn = overlay(pixels.numpy(), values, float(row["score"]), model.threshold, getattr(model, "roi", None))
        with written_atomically(target) as temporary:
            drawn.save(temporary)
    except Exception as error:  # for instance, the file is gone
        row["error"] += f" The overlay could not be written: {error or type(error).__name__}"


def load_scorer(path: str | Path) -> Scorer:
    """Load a model file: .onnx with onnxruntime, any other by `rdlib.load` on the best device.

    Raises WeightsError if the file is missing or unreadable, and ImportError if onnxruntime is not installed.
    """
    return OnnxDetector(path) if Path(path).suffix.lower() == ".onnx" else load(path).to(best_device())


def doubts(table: pd.DataFrame, threshold: Threshold | None) -> list[str]:
    """Say why the scores cannot be trusted: some are not finite, or they have drifted."""
    failed = int((table["error"] == NOT_FINITE).sum())
    drifted = drift_warnings(table["score"].dropna().to_numpy(), threshold) if threshold else ()
    return [f"{failed} of {len(table)} files have no score: {NOT_FINITE}"] * bool(failed) + [*drifted]


def in_words(table: pd.DataFrame, threshold: Threshold | None, out: Path) -> str:
    """Summarize the result of `score_folder` in lines: the numbers of files and errors, and the first errors."""
    bad = table[table["error"] != ""]
    verdict = (f"{int(table['anomalous'].sum())} anomalous (score at least {threshold.score:.4g})" if threshold else
               "no threshold was saved with the model, so none is called anomalous")
    more = [f"{len(bad) - SHOWN} more files have an error, see the table."] * (len(bad) > SHOWN)
    first = [f"{name}: {error}" for name, error in zip(bad["file"][:SHOWN], bad["error"], strict=False)]
    return "\n".join([f"{len(table)} files, {len(bad)} with an error; {verdict}: {out / 'scores.csv'}", *first, *more])
