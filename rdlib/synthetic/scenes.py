"""The procedural benchmark: textures and objects, each with kinds of defect and exact masks, the same on every machine.

    image, mask = render("leather", seed=7, defect="cut", strength=0.6)

A category's painter draws a good scene from a seed (`textures`, `objects`); damage to a surface is painted over it
(`defects`), and a part that is bent, missing or misplaced makes the painter build the scene otherwise. Either way the
defective picture is compared with the good one of the same seed, and the mask is where they differ by 2 grey levels or
more: a part that moved is marked where it was and where it is, a lost part with the shadow it no longer casts.

Hashes of the pixels are on record in the tests; they hold on x86-64 with and without AVX, for numpy 1.26 and 2.
"""
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from rdlib.synthetic import defects, objects, textures
from rdlib.synthetic.noise import sensor_noise, single_threaded_blas, stream, uniform
from rdlib.synthetic.surface import Fault, Layers, Surface, mix

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
VISIBLE = 2.0  # grey levels: what differs less from the good picture is no defect
WEAKEST = 0.4  # of the strengths that the default test set draws, from here to 1

Painter = Callable[[Surface, Generator, Fault | None], None]
Damage = Callable[[Surface, Generator, float], Layers]
PAINTERS: dict[str, Painter] = {f.__name__: f for f in (
    textures.weave, textures.leather, textures.tiles, textures.wood, textures.mesh,
    objects.gear, objects.capsule, objects.connector, objects.blister)}
DAMAGE: dict[str, Damage] = {f.__name__: f for f in (
    defects.contamination, defects.crack, defects.cut, defects.dent, defects.fold, defects.hole, defects.scratch,
    defects.scuff, defects.stain, defects.thread)}


@dataclass(frozen=True)
class Scene:
    """One picture, not yet drawn: `defect` is None for a good one, and its `strength` then means nothing."""

    category: str
    seed: int
    defect: str | None = None
    strength: float = 0.7

    def render(self, size: int = 256) -> tuple[np.ndarray, np.ndarray]:
        """Image uint8 (size, size, 3) and mask bool (size, size), as the function `render` gives them."""
        return render(self.category, size=size, seed=self.seed, defect=self.defect, strength=self.strength)


def scene_list(category: str, part: str, seed: int = 0, train: int = 200, good: int = 40,
               defective: int = 100) -> list[Scene]:
    """The scenes of "train" (`train` good ones) or of "test" (`good` good ones, then `defective` defective ones).

    Defective scenes take the category's kinds in turn, at strengths drawn from [0.4, 1). Parts share no scene seed:
    even numbers train, odd ones test; nor do two seeds. Raises ValueError for an unknown category or part, a negative
    number, or more than 100,000 scenes.
    """
    check("category", category, CATEGORIES)
    check("part", part, ("train", "test"))
    if min(seed, train, good, defective) < 0 or max(train, good + defective) > 100_000:
        raise ValueError(f"A seed is 0 or more and a part has 0 to 100000 scenes, got seed={seed}, train={train}, "
                         f"good={good}, defective={defective}.")
    first, kinds = 200_000 * seed, DEFECTS[category]
    if part == "train":
        return [Scene(category, first + 2 * k) for k in range(train)]
    rng = stream(category, "strengths", seed=seed)
    strengths = [uniform(rng, WEAKEST, 1) for _ in range(defective)]
    return ([Scene(category, first + 2 * k + 1) for k in range(good)]
            + [Scene(category, first + 2 * (good + k) + 1, kinds[k % len(kinds)], s) for k, s in enumerate(strengths)])


def render(category: str, *, size: int = 256, seed: int, defect: str | None = None, strength: float = 0.7,
           place: tuple[float, float] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene: image uint8 RGB (size, size, 3) and mask bool (size, size), True = defect.

    `seed` (0 or more) chooses the scene and the defect's place; `defect` is None or one of DEFECTS[category];
    `strength` in (0, 1] goes from barely visible to obvious; a logical defect (a part missing, added, moved or swapped)
    is there or not, whatever the strength. `place`, (x, y) in image sides, moves damage (one of DAMAGE) there and
    leaves its shape; off the object there is nothing to damage, and the mask is empty. Outside the mask the image is,
    to the bit, the good one of the same seed and size.

    Raises ValueError for an unknown name, a number out of its range, or a place for what is no damage.
    """
    check("category", category, CATEGORIES)
    check("defect", defect, (None, *DEFECTS[category]))
    if not 0 < strength <= 1:
        raise ValueError(f"strength goes from just above 0 (barely visible) to 1 (obvious), got {strength}.")
    if place is not None and defect not in DAMAGE:
        raise ValueError(f"Only damage can be put somewhere ({', '.join(DAMAGE)}); got defect={defect!r}. Leave place "
                         "out.")
    if size < MIN_SIZE:
        raise ValueError(f"The smallest picture is {MIN_SIZE} pixels a side, got size={size}.")
    with single_threaded_blas():
        good = build_surface(category, seed, size, None)
        if place:
            good.pin(place)
        picture, mask = shown(good.image, good.lamp), np.zeros((size, size), bool)
        if defect:
            faulty = shown(damaged(good, category, seed, defect, strength), good.lamp)
            mask = visible(np.abs(faulty - picture).max(0))
            picture = np.where(mask, faulty, picture)
    picture += sensor_noise(stream(category, "sensor", seed=seed), size, 1.6)
    return np.ascontiguousarray(np.clip(picture + 0.5, 0, 255).astype(np.uint8).transpose(1, 2, 0)), mask


def build_surface(category: str, seed: int, size: int, fault: Fault | None) -> Surface:
    """The scene of a seed, with one of its parts at fault or none."""
    rng = stream(category, "scene", seed=seed)
    surface = Surface(rng, size)
    PAINTERS[category](surface, rng, fault)
    return surface


def damaged(good: Surface, category: str, seed: int, defect: str, strength: float) -> np.ndarray:
    """The picture (3, size, size) of the same scene, linear light, with the defect: painted over it, or the scene built
    anew with a part at fault."""
    rng = stream(category, defect, seed=seed)
    if defect not in DAMAGE:
        return build_surface(category, seed, good.size, Fault(defect, strength, rng)).image
    image = good.image
    for cover, layer in DAMAGE[defect](good, rng, strength):
        image = mix(image, layer, cover)
    return image


def shown(image: np.ndarray, lamp: np.ndarray) -> np.ndarray:
    """Linear light under the lamp as grey levels, 0 to 255, not yet rounded."""
    return 255 * np.sqrt(np.clip(image * lamp, 0, 1))


def visible(difference: np.ndarray) -> np.ndarray:
    """Where a difference (H, W) in grey levels can be seen: at the pixel and at most of the 3 x 3 around it; bool."""
    seen = np.pad(difference >= VISIBLE, 1).astype(np.uint8)
    rows = seen[:-2] + seen[1:-1] + seen[2:]
    return (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] >= 5) & (difference >= VISIBLE)


def check(kind: str, name: str | None, names: tuple[str | None, ...]) -> None:
    """Raise a ValueError that lists the names there are, if `name` is not one of them."""
    if name not in names:
        raise ValueError(f"There is no {kind} '{name}'. Choose one of: {', '.join(map(str, names))}.")
