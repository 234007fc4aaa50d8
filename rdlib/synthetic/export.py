"""The procedural benchmark as files, in MVTec AD's layout, for any program that reads it.

OUT/CATEGORY/train/good/000.png, test/good/000.png, test/KIND/000.png, ground_truth/KIND/000_mask.png
"""
import shutil
import uuid
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from PIL import Image
from tqdm.auto import tqdm

from rdlib.synthetic import MIN_SIZE, Scene, scene_list
from rdlib.utils.errors import DataError


def export(category: str, out: str | Path, *, size: int = 256, seed: int = 0, jobs: int | None = None,
           progress: bool = True) -> Path:
    """Write one category's default split below `out` and return its folder, OUT/CATEGORY.

    Images are uint8 RGB PNG, masks uint8 PNG of 0 and 255. The folder appears when it is complete, so a broken-off
    export leaves no half of one. `jobs` processes draw (default: one a core; a script that calls this on Windows or
    macOS needs the usual `if __name__ == "__main__":`). Raises DataError if the folder exists, ValueError for an
    unknown category or a number out of its range, OSError where nothing can be written.
    """
    if size < MIN_SIZE or (jobs is not None and jobs < 1):
        raise ValueError(f"size is at least {MIN_SIZE} and jobs at least 1, got size={size} and jobs={jobs}.")
    plan = _plan(category, seed)
    folder = Path(out) / category
    if folder.exists():
        raise DataError(f"{folder} exists already. Remove it, or choose another folder to write to.")
    partial = folder.with_name(f".{category}-{uuid.uuid4().hex}")
    for path in {partial / name for _, *names in plan for name in names}:
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with ProcessPoolExecutor(jobs) as pool:
            work = pool.map(_write, [(partial, size, *row) for row in plan], chunksize=8)
            for _ in tqdm(work, total=len(plan), unit="image", desc=category, disable=not progress):
                pass
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _plan(category: str, seed: int) -> list[tuple[Scene, str, str]]:
    """Each scene with the names of its image and, if it is defective, of its mask (else the image's again)."""
    plan, numbers = [], Counter()
    for part in ("train", "test"):
        for scene in scene_list(category, part, seed):
            kind = scene.defect or "good"
            number = f"{numbers[part, kind]:03d}"
            numbers[part, kind] += 1
            image = f"{part}/{kind}/{number}.png"
            plan.append((scene, image, f"ground_truth/{kind}/{number}_mask.png" if scene.defect else image))
    return plan


def _write(job: tuple[Path, int, Scene, str, str]) -> None:
    folder, size, scene, image_name, mask_name = job
    image, mask = scene.render(size)
    Image.fromarray(image).save(folder / image_name)
    if scene.defect:
        Image.fromarray(mask).convert("L").save(folder / mask_name)
