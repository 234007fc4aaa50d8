"""Draw scenes of the procedural benchmark: textures and objects, their defect types, and exact masks.

A category's painter draws a good scene from a seed (`textures`, `objects`). Damage to the surface is painted over it
(`defects`). For a bent, missing or misplaced part, the painter builds the scene with this part changed. In both cases,
the mask compares the defective image with the good one of the same seed. It marks differences of 2 gray levels or more.
A moved part is marked at its old and its new place. A missing part is marked together with its missing shadow.

The tests record hashes of the pixels. These hashes hold on x86-64 with and without AVX, for numpy 1.26 and 2.
"""
from dataclasses import dataclass

import numpy as np

from rdlib.synthetic import defects, objects, textures
from rdlib.synthetic.noise import sensor_noise, stream, uniform
from rdlib.synthetic.surface import Fault, Surface, mix
from rdlib.utils.errors import check_choice, check_whole, checked

TEXTURES = {
    "weave": ("cut", "hole", "stain", "thread"),
    "leather": ("cut", "fold", "scuff", "stain", "thread"),
    "tiles": ("crack", "hole", "stain", "thread", "scratch"),
    "wood": ("crack", "hole", "scratch", "stain"),
    "mesh": ("blocked", "contamination", "scratch", "thread"),
}
OBJECTS = {
    "gear": ("broken_tooth", "missing_hole", "contamination", "dent", "scratch"),
    "capsule": ("misprint", "crack", "dent", "scratch", "stain"),
    "connector": ("bent_pin", "missing_pin", "contamination", "crack", "scratch"),
    "blister": ("broken_tablet", "empty", "wrong_tablet", "contamination", "hole"),
}
DEFECTS = TEXTURES | OBJECTS
CATEGORIES = tuple(DEFECTS)
MIN_SIZE = 64
VISIBLE = 2.0  # gray levels: smaller differences from the good image are no defect


@dataclass(frozen=True)
class Scene:
    """The parameters of one image and its mask.

    Args:
        category: one of `CATEGORIES`.
        seed: 0 or more; chooses the scene and the defect's place.
        defect: None for a good image, or one of `DEFECTS[category]`.
        strength: in (0, 1], barely visible to obvious; no effect on a good image or a missing, added or swapped part.
    """

    category: str
    seed: int
    defect: str | None = None
    strength: float = 0.7

    def render(self, size: int = 256) -> tuple[np.ndarray, np.ndarray]:
        """Draw the image, (size, size, 3) uint8, and the mask, (size, size) bool. See the function `render`."""
        return render(self.category, size=size, seed=self.seed, defect=self.defect, strength=self.strength)


@checked
def scene_list(category: str, part: str, seed: int = 0, train: int = 200, good: int = 40,
               defective: int = 100) -> list[Scene]:
    """List the scenes of a train or test set, good ones first.

    Defective scenes cycle through the category's defect types, with strengths drawn from [0.4, 1). No scene is in both
    parts or in the lists of two seeds.

    Args:
        category: one of `CATEGORIES`.
        part: "train" or "test".
        seed: 0 or more; chooses the scenes.
        train: number of images in "train", all good, 0 to 100,000.
        good: number of good images in "test", 0 or more.
        defective: number of defective images in "test", 0 or more; at most 100,000 together with the good ones.

    Returns:
        The scenes; `Scene.render` draws them.

    Raises:
        ValueError: the category or part is unknown, or a number is outside its range.
    """
    check_choice("category", category, CATEGORIES)
    check_choice("part", part, ("train", "test"))
    if max(train, good + defective) > 100_000:
        raise ValueError(f"A part has at most 100000 scenes; got {train=}, {good=}, {defective=}.")
    first, kinds = 200_000 * seed, DEFECTS[category]
    if part == "train":
        return [Scene(category, first + 2 * k) for k in range(train)]
    rng = stream(category, "strengths", seed=seed)
    strengths = [uniform(rng, 0.4, 1) for _ in range(defective)]
    return ([Scene(category, first + 2 * k + 1) for k in range(good)]
            + [Scene(category, first + 2 * (good + k) + 1, kinds[k % len(kinds)], s) for k, s in enumerate(strengths)])


@checked
def render(category: str, *, size: int = 256, seed: int, defect: str | None = None, strength: float = 0.7
           ) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene. Outside the mask, the image equals the good one of the same seed and size, bit by bit.

    Args:
        category: one of `CATEGORIES`.
        size: side of the square image, in pixels; at least `MIN_SIZE`.
        seed: 0 or more; chooses the scene and the defect's place.
        defect: None for a good image, or one of `DEFECTS[category]`.
        strength: in (0, 1], barely visible to obvious; no effect on a missing, added or swapped part.

    Returns:
        The image, (size, size, 3) uint8 RGB, and the mask, (size, size) bool, True = defect.

    Raises:
        ValueError: the category or defect type is unknown, or a number is outside its range.
    """
    check_choice("category", category, CATEGORIES)
    check_choice("defect", defect, (None, *DEFECTS[category]))
    check_whole("size", size, MIN_SIZE)
    good = build_surface(category, seed, size, None)
    image, mask = shown(good.image, good.lamp), np.zeros((size, size), bool)
    if defect:
        faulty = shown(damaged(good, category, seed, defect, strength), good.lamp)
        mask = visible(np.abs(faulty - image).max(0))
        image = np.where(mask, faulty, image)
    image += sensor_noise(stream(category, "sensor", seed=seed), size, 1.6)
    return np.ascontiguousarray(np.clip(image + 0.5, 0, 255).astype(np.uint8).transpose(1, 2, 0)), mask


def build_surface(category: str, seed: int, size: int, fault: Fault | None) -> Surface:
    """Build the scene of a seed, with one faulty part or none."""
    rng = stream(category, "scene", seed=seed)
    surface = Surface(rng, size)
    getattr(textures if category in TEXTURES else objects, category)(surface, rng, fault)
    return surface


def damaged(good: Surface, category: str, seed: int, defect: str, strength: float) -> np.ndarray:
    """Draw the scene with the defect, painted over it or as a faulty part: (3, size, size) in linear light."""
    rng = stream(category, defect, seed=seed)
    if not hasattr(defects, defect):  # a faulty part
        return build_surface(category, seed, good.size, Fault(defect, strength, rng)).image
    image = good.image
    for cover, layer in getattr(defects, defect)(good, rng, strength):
        image = mix(image, layer, cover)
    return image


def shown(image: np.ndarray, lamp: np.ndarray) -> np.ndarray:
    """Convert linear light under the lamp to gray levels, 0 to 255, not yet rounded."""
    return 255 * np.sqrt(np.clip(image * lamp, 0, 1))


def visible(difference: np.ndarray) -> np.ndarray:
    """Mark pixels of an (H, W) difference in gray levels that are visible, with 5 or more visible in their 3 x 3."""
    seen = np.pad(difference >= VISIBLE, 1).astype(np.uint8)
    rows = seen[:-2] + seen[1:-1] + seen[2:]
    return (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] >= 5) & (difference >= VISIBLE)
