"""Write the procedural benchmark as files, in the layout of MVTec AD.

OUT/CATEGORY/train/good/000.png, test/good/000.png, test/TYPE/000.png, ground_truth/TYPE/000_mask.png
"""
import os
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from multiprocessing import parent_process
from pathlib import Path
from threading import Thread
from typing import Any

from PIL import Image
from tqdm.auto import tqdm

from rdlib.synthetic import MIN_SIZE, Scene, scene_list
from rdlib.utils.errors import DataError, check_whole, checked
from rdlib.utils.files import folder_written_atomically


@checked
def export(category: str, out: str | Path, *, size: int = 256, seed: int = 0, jobs: int | None = None,
           progress: bool = True) -> Path:
    """Write the default split of a category as files. The folder appears only when it is complete.

    Args:
        category: one of `CATEGORIES`.
        out: folder to write to; created if necessary.
        size: side of the square images, in pixels; at least `MIN_SIZE`.
        seed: 0 or more; chooses the scenes.
        jobs: number of processes, 1 or more; default: one per core. On Windows and macOS, a script that calls this
            function needs `if __name__ == "__main__":`.
        progress: show a progress bar.

    Returns:
        The path OUT/CATEGORY. Images are uint8 RGB PNG files, masks uint8 PNG files of 0 and 255.

    Raises:
        DataError: OUT/CATEGORY exists already.
        ValueError: the category is unknown, or a number is outside its range.
        OSError: the files cannot be written.
    """
    check_whole("size", size, MIN_SIZE)
    numbers: defaultdict[str, count[int]] = defaultdict(count)  # of the images in each folder
    plan = [(scene, part := f"{train_or_test}/{scene.defect or 'good'}", next(numbers[part]))
            for train_or_test in ("train", "test") for scene in scene_list(category, train_or_test, seed)]
    folder = Path(out) / category
    if folder.exists():
        raise DataError(f"{folder} exists already. Remove it, or write to another folder.")
    with folder_written_atomically(folder) as partial, ProcessPoolExecutor(jobs, initializer=_watch_parent) as pool:
        work = pool.map(_write, [(partial, size, *row) for row in plan], chunksize=8)
        list(tqdm(work, total=len(plan), unit="image", desc=category, disable=not progress or None))
    return folder


def _watch_parent() -> None:
    """End this worker when its parent is killed; else it would wait for work for ever."""
    parent: Any = parent_process()
    Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _write(job: tuple[Path, int, Scene, str, int]) -> None:
    root, size, scene, folder, number = job
    image, mask = scene.render(size)
    files = {root / folder / f"{number:03d}.png": Image.fromarray(image)}
    if scene.defect:
        files[root / "ground_truth" / scene.defect / f"{number:03d}_mask.png"] = Image.fromarray(mask).convert("L")
    for path, picture in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
