"""Score a folder of images: a table of scores, and pictures that show where each image is anomalous."""
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from rdlib.anomaly_map import check_finite
from rdlib.deploy.export import OnnxDetector
from rdlib.detector import Scorer
from rdlib.figures.overlay import overlay, overlay_size
from rdlib.images import list_images, read_image
from rdlib.model import ReverseDistillation
from rdlib.threshold import Threshold, agreed_size
from rdlib.utils.arrays import as_array
from rdlib.utils.errors import DataError, NotFiniteError
from rdlib.utils.files import written_atomically
from rdlib.utils.hardware import best_device

COLUMNS = ("file", "score", "anomalous", "row", "column", "height", "width", "error")
OVERLAYS = ("anomalous", "all", "none")
NOT_FINITE = ("The map or score is NaN or infinite, so the image is neither good nor anomalous. Usually the model's "
              "training has diverged: train again with a smaller lr.")


def score_folder(model: Scorer, folder: str | Path, out: str | Path, *, size: int | tuple[int, int] | None = None,
                 overlays: str = "anomalous", batch_size: int = 16, num_workers: int = 0,
                 progress: bool = True) -> pd.DataFrame:
    """Score every image file below `folder`, write OUT/scores.csv and overlay pictures, and return the table.

    Args:
        model: with the threshold that was chosen for it, see `rdlib.threshold`; without one, scores alone are written.
        folder: with pictures of any size and kind that `rdlib.images` reads; hidden folders and `out` are left out.
        out: made if need be. Each file in it is written whole or not at all; what an earlier run left is replaced.
        size: (H, W) or side of the square that images are resized to. Default: that of the threshold.
        overlays: draw "anomalous" images, "all" or "none".
        batch_size: images at a time.
        num_workers: processes that read images.
        progress: show a progress bar.

    Returns:
        One row a file, by name: file (below `folder`), score (float), anomalous (1 or 0, missing without threshold),
        row and column of the map's highest value, and height and width, in pixels of the file turned upright; error,
        empty or what is wrong with the file or, as NOT_FINITE, with its score, and then all else is missing.

    Raises:
        DataError: no folder, or no image file in it.
        ValueError: no size, another than the threshold's, or an unknown word for overlays.
    """
    folder, out = Path(folder), Path(out)
    if overlays not in OVERLAYS:
        raise ValueError(f"There is no choice of overlays '{overlays}'. Choose one of: {', '.join(OVERLAYS)}.")
    files = _Files(find_images(folder, out), agreed_size(model.threshold, size or getattr(model, "image_size", None)))
    rows = []
    for path, row, values in _scored(model, files, batch_size, num_workers, progress):
        row["file"] = path.relative_to(folder).as_posix()
        _draw(path, row, values, model.threshold, overlays, out)
        rows.append(row)
    table = pd.DataFrame(rows, columns=COLUMNS)
    table = table.astype(dict.fromkeys(("anomalous", "row", "column", "height", "width"), "Int64"))
    with written_atomically(out / "scores.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    return table


def find_images(folder: Path, out: Path) -> list[Path]:
    """All image files in `folder` and below, by name; hidden ones and those in `out` left out. Raises DataError."""
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}. Check the path.")
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    found = [path for part in folders if not any(name.startswith(".") for name in part.relative_to(folder).parts)
             and not part.resolve().is_relative_to(out.resolve()) for path in list_images(part)]
    if not found:
        raise DataError(f"{folder} holds no images, nor do its subfolders. Put some there (png, jpg, bmp, tif or "
                        "webp).")
    return sorted(found)


class _Files(Dataset):
    """Index, image (3, H, W) float32, height and width of the file, and the error, empty if there was none."""

    def __init__(self, paths: list[Path], size: tuple[int, int]):
        self.paths, self.size = paths, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, Tensor, int, int, str]:
        try:
            image, (height, width) = read_image(self.paths[index], self.size)
        except DataError as error:
            return index, torch.zeros(3, *self.size), 0, 0, str(error)
        return index, image.float() / 255, height, width, ""


def _scored(model: Scorer, files: _Files, batch_size: int, num_workers: int,
            progress: bool) -> Iterator[tuple[Path, dict, NDArray | None]]:
    """Of every file its path, its row of the table, and its map, None where it cannot be read."""
    loader = DataLoader(files, batch_size, num_workers=num_workers, generator=torch.Generator())  # else torch's global one
    with tqdm(total=len(files), unit="image", desc="scoring", disable=not progress) as bar:
        for indices, images, heights, widths, errors in loader:
            predicted = iter(_predicted(model, images[[not error for error in errors]]))
            for i, height, width, error in zip(indices, heights, widths, errors, strict=True):
                row, values = {"error": error}, None
                if not error:
                    values, score = next(predicted)
                    row |= _said(model.threshold, int(height), int(width), values, float(score))
                yield files.paths[i], row, values
            bar.update(len(indices))


def _predicted(model: Scorer, images: Tensor) -> list[tuple[NDArray | None, float]]:
    """Of every image its map and score; None and NaN where they are not finite, which costs the others nothing."""
    if not len(images):
        return []
    try:
        maps, scores = model.predict(images)
        check_finite(maps, scores)
    except NotFiniteError as error:
        rest = iter(_predicted(model, images[[i not in error.indices for i in range(len(images))]]))
        return [(None, np.nan) if i in error.indices else next(rest) for i in range(len(images))]
    return list(zip(as_array(maps), as_array(scores), strict=True))


def _said(threshold: Threshold | None, height: int, width: int, values: NDArray | None, score: float) -> dict:
    """An image's columns of the table."""
    if values is None:
        return {"error": NOT_FINITE}
    row, column = np.unravel_index(values.argmax(), values.shape)
    said = {"score": score, "row": int((row + 0.5) * height / values.shape[0]),
            "column": int((column + 0.5) * width / values.shape[1]), "height": height, "width": width}
    return said | ({"anomalous": int(score >= threshold.score)} if threshold else {})


def _draw(path: Path, row: dict, values: NDArray | None, threshold: Threshold | None, overlays: str, out: Path) -> None:
    """Write the picture that is asked for; where none is, remove that of an earlier run."""
    place = out / "overlays" / f"{row['file']}.png"
    if row["error"] or not (overlays == "all" or (overlays == "anomalous" and row.get("anomalous"))):
        place.unlink(missing_ok=True)
        return
    pixels, _ = read_image(path, overlay_size(row["height"], row["width"]))
    picture = overlay(pixels.permute(1, 2, 0).numpy(), values, row["score"], threshold)
    with written_atomically(place) as temporary:
        picture.save(temporary)


def load_scorer(path: str | Path) -> Scorer:
    """Load a model file: .onnx with onnxruntime, any other as a `ReverseDistillation` on the best device.

    Raises WeightsError for a file that is missing or not of this kit.
    """
    if Path(path).suffix.lower() == ".onnx":
        return OnnxDetector(path)
    return ReverseDistillation.load(path).to(best_device())


def scoring_messages(table: pd.DataFrame, threshold: Threshold | None, out: Path) -> tuple[str, str]:
    """Return the result of `score_folder` in one line, and a warning, empty if all scores are finite."""
    not_finite = int((table["error"] == NOT_FINITE).sum())
    unread = int((table["error"] != "").sum()) - not_finite
    verdict = (f"{int(table['anomalous'].sum())} anomalous (score at least {threshold.score:.4g})" if threshold else
               "no threshold was saved with the model, so none is called anomalous")
    warning = f"{not_finite} of them have no score: {NOT_FINITE}" if not_finite else ""
    return f"{len(table)} files, {unread} unreadable; {verdict}: {out / 'scores.csv'}", warning
