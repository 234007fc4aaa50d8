"""Cut patches from photographs that scikit-image brings along, and paint defects on them, with exact masks."""
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

import numpy as np
from PIL import Image

from rdlib.synthetic.noise import sensor_noise, stream, uniform
from rdlib.synthetic.scenes import VISIBLE, Scene, damaged, shown, visible
from rdlib.synthetic.surface import Surface, colour
from rdlib.utils.errors import DataError, check_choice

DEFECTS = {
    "brick": ("crack", "hole", "scratch", "stain"),
    "grass": ("contamination", "cut", "hole", "thread"),
    "gravel": ("contamination", "cut", "hole", "thread"),
}
SHA256 = {  # of the pixels, so that results on several machines are results on the same images
    "brick": "664a145c5253f0d66db1a12776785f0ea35a44cc7447ffc933f6d6118dc58643",
    "grass": "b18dae4c68bf850a7a7b28a29d1846c76be890665117b57fd125fe29c4d4ede6",
    "gravel": "3d51ad45f789cd8b98534b7af6bce774e499ead45421135afd757358c7230009",
}
SIDE, HEIGHT = 128, 512  # of a patch and of a photograph, in pixels
COLUMNS = {"train": (0, 300), "test": (320, 512)}  # of the photograph; the gap is in no patch
COUNTS = {"train": (100, 0), "test": (40, 60)}  # good and defective patches


@dataclass(frozen=True)
class Patch(Scene):
    """A square of a photograph, good or with a painted defect. `category` is the photograph.

    Args:
        left, top: its corner in the photograph, in pixels.
        mirrored: whether left and right are swapped.
    """

    left: int = 0
    top: int = 0
    mirrored: bool = False

    def render(self, size: int = 256) -> tuple[np.ndarray, np.ndarray]:
        """Cut out the patch, paint its defect, and resize both to (size, size). See `synthetic.render`."""
        pixels = photograph(self.category)[self.top:self.top + SIDE, self.left:self.left + SIDE]
        pixels = pixels[:, ::-1] if self.mirrored else pixels
        image, mask = resized(pixels, size), np.zeros((size, size), bool)
        if self.defect:
            rng = stream(self.category, "photo", seed=self.seed)
            surface, light = Surface(rng, SIDE), (pixels / np.float32(255)) ** 2
            surface.image, surface.edge = np.stack([light] * 3), 0.012
            surface.flesh = colour(*[float(pixels.mean())] * 3)  # a sum of integers, exact in any order
            green = damaged(surface, self.category, self.seed, self.defect, self.strength)[1]  # the photograph is gray
            faulty = shown(green, np.ones_like(light))
            faulty += sensor_noise(rng, SIDE, 3) * (np.abs(faulty - pixels) >= VISIBLE)
            faulty = resized(np.clip(faulty + 0.5, 0, 255).astype(np.uint8), size)
            mask = visible(np.abs(faulty.astype(np.int16) - image))
            image = np.where(mask, faulty, image)
        return np.stack([image] * 3, axis=-1), mask


def patch_list(category: str, part: str, seed: int = 0) -> list[Patch]:
    """List the patches of a train or test set at random places, good ones first.

    Defective patches cycle through `DEFECTS[category]`, with strengths drawn from [0.6, 1).

    Raises:
        ValueError: unknown category.
        DataError: the photograph cannot be read.
    """
    check_choice("category", category, DEFECTS)
    height = len(photograph(category))  # an error here, and not from a worker process
    rng, (left, right), (good, defective) = stream("photo", category, part, seed=seed), COLUMNS[part], COUNTS[part]
    kinds = [None] * good + [DEFECTS[category][k % len(DEFECTS[category])] for k in range(defective)]
    return [Patch(category, 1000 * seed + k, kind, uniform(rng, 0.6, 1), int(rng.integers(left, right - SIDE + 1)),
                  int(rng.integers(height - SIDE + 1)), bool(rng.integers(2))) for k, kind in enumerate(kinds)]


@lru_cache
def photograph(name: str) -> np.ndarray:
    """Read a photograph of scikit-image, (512, 512) uint8. Raises DataError if it is missing or another one."""
    try:
        from skimage import data  # here: an optional package
        pixels = getattr(data, name)()
        if (found := sha256(pixels.tobytes()).hexdigest()) != SHA256[name]:
            raise OSError(f"the SHA-256 of its pixels is {found}, not {SHA256[name]}")
    except (ImportError, OSError) as error:
        raise DataError(f"The photograph '{name}' of scikit-image cannot be read ({error}). Install that package: "
                        "pip install scikit-image.") from error
    return pixels


def resized(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize a gray image to (size, size) uint8."""
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))
