"""The procedural data set: a woven fabric and a steel washer, four kinds of defect each, with exact masks.

Lengths are in image sides (x right, y down), so a seed shows the same scene at every size. Colours are linear light,
float32 (3, H, W), until a square root stands in for the display's gamma. A defect is a few layers of paint over the
clean picture, and its mask is where their cover is not 0: that is why masks are exact.
"""
import math
import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.random import PCG64, Generator

DEFECTS = {"weave": ("cut", "stain", "thread", "hole"), "washer": ("scratch", "dent", "contamination", "missing")}
CATEGORIES = tuple(DEFECTS)
MIN_SIZE = 64
Layers = list[tuple[np.ndarray, np.ndarray]]  # (cover in [0, 1], paint in linear light), from the bottom up


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

    Defective scenes take the category's four kinds in turn, at strengths drawn from [0.4, 1). Parts share no scene
    seed: even numbers train, odd ones test. Raises ValueError for an unknown category or part.
    """
    check("category", category, CATEGORIES)
    check("part", part, ("train", "test"))
    first, kinds = 200_000 * seed, DEFECTS[category]
    if part == "train":
        return [Scene(category, first + 2 * k) for k in range(train)]
    strengths = stream(category, "strengths", seed).uniform(0.4, 1, defective).tolist()
    return ([Scene(category, first + 2 * k + 1) for k in range(good)]
            + [Scene(category, first + 2 * (good + k) + 1, kinds[k % 4], s) for k, s in enumerate(strengths)])


def render(category: str, *, size: int = 256, seed: int, defect: str | None = None,
           strength: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene: image uint8 RGB (size, size, 3) and mask bool (size, size), True = defect.

    `seed` (0 or more) chooses the scene and the defect's place; `defect` is None or one of DEFECTS[category];
    `strength` in (0, 1] goes from barely visible to obvious. Outside the mask the image is, to the bit, the good one
    of the same seed and size. Raises ValueError for an unknown name or a number out of its range.
    """
    check("category", category, CATEGORIES)
    check("defect", defect, (None, *DEFECTS[category]))
    if not 0 < strength <= 1:
        raise ValueError(f"strength goes from just above 0 (barely visible) to 1 (obvious), got {strength}.")
    if size < MIN_SIZE:
        raise ValueError(f"The smallest picture is {MIN_SIZE} pixels a side, got size={size}.")
    surface = PAINTERS[category](stream(category, "scene", seed), size)
    image, mask = surface.image, np.zeros((size, size), bool)
    for cover, paint in PAINTERS[defect](surface, stream(category, defect, seed), strength) if defect else ():
        image = mix(image, paint, cover)
        mask |= cover > 0
    image = 255 * np.sqrt(image * surface.lamp)
    image += 1.6 * stream(category, "sensor", seed).standard_normal((size, size), np.float32)
    return np.ascontiguousarray(np.clip(image + 0.5, 0, 255).astype(np.uint8).transpose(1, 2, 0)), mask


def check(kind: str, name: str | None, names: tuple[str | None, ...]) -> None:
    """Raise a ValueError that lists the names there are, if `name` is not one of them."""
    if name not in names:
        raise ValueError(f"There is no {kind} '{name}'. Choose one of: {', '.join(map(str, names))}.")


def stream(category: str, purpose: str, seed: int) -> Generator:
    """A random stream of its own for each purpose, so that the scene does not depend on the defect drawn over it."""
    if seed < 0:
        raise ValueError(f"A seed is 0 or more, got {seed}.")
    return Generator(PCG64([zlib.crc32(f"{category}/{purpose}".encode()), seed]))


class Surface:
    """A clean scene: the grid, the lamp, and what `weave` or `washer` add: `image` and what their defects look up."""

    def __init__(self, rng: Generator, size: int):
        self.size, self.x = size, ((np.arange(size, dtype=np.float32) + 0.5) / size)[None]
        self.y = self.x.T
        angle, slope, level = rng.uniform(-2.75, -2.05), rng.uniform(0.05, 0.3), rng.uniform(0.9, 1.1)
        self.light = a, b = math.cos(angle), math.sin(angle)  # where the light comes from: the upper left, more or less
        self.lamp = level * (1 + slope * (a * (self.x - 0.5) + b * (self.y - 0.5)))  # and how it falls off


@lru_cache(maxsize=64)
def spline_weights(size: int, cells: int) -> np.ndarray:
    """The (size, cells + 3) cubic B-spline weights of the knots of `cells` cells at the pixels of one axis."""
    t = np.abs(((np.arange(size) + 0.5) / size * cells + 1)[:, None] - np.arange(cells + 3))
    return np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.maximum(2 - t, 0)**3 / 6).astype(np.float32)


def value_noise(rng: Generator, size: int, rows: int, columns: int) -> np.ndarray:
    """Smooth noise (size, size), about [-1, 1]: random knots on a grid of cells, joined by splines along each axis."""
    knots = rng.uniform(-1.7, 1.7, (rows + 3, columns + 3)).astype(np.float32)
    return spline_weights(size, rows) @ knots @ spline_weights(size, columns).T


def mix(below: np.ndarray, above: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """Alpha blending: `below` where `cover` is 0 (to the bit), `above` where it is 1."""
    return below + cover * (above - below)


def relief(height: np.ndarray, light: tuple[float, float]) -> np.ndarray:
    """Lambert's shading of a height field, from its gradient: 1 where flat, more where it faces the light."""
    edge = np.pad(height * (len(height) / 2), 1, "edge")
    right, down = edge[1:-1, 2:] - edge[1:-1, :-2], edge[2:, 1:-1] - edge[:-2, 1:-1]
    return np.maximum(1 - 0.8 * (light[0] * right + light[1] * down), 0) / np.sqrt(1 + right**2 + down**2)


def inside(distance: np.ndarray, softness: float = 0.0) -> np.ndarray:
    """Cover of a shape from the signed distance to its outline: 1 in, 0 out, soft over 1.5 pixels or `softness`."""
    cover = np.clip(0.5 - distance / max(softness, 1.5 / len(distance)), 0, 1)
    return cover * (cover > 0.15)  # no fringe that is in the mask but cannot be seen


def colour(red: float, green: float, blue: float) -> np.ndarray:
    """A displayed colour, 0 to 255, as linear light, (3, 1, 1)."""
    return (np.array((red, green, blue), np.float32)[:, None, None] / 255)**2


def blob(s: Surface, rng: Generator, centre: np.ndarray, radius: float, roughness: float) -> np.ndarray:
    """Signed distance, roughly, to the outline of a disc that noise has bent."""
    noise = value_noise(rng, s.size, 9, 9) + 0.3 * value_noise(rng, s.size, 36, 36)
    return np.sqrt((s.x - float(centre[0]))**2 + (s.y - float(centre[1]))**2) - radius * (1 + roughness * noise)


def curve(rng: Generator, centre: np.ndarray, length: float, bend: float) -> np.ndarray:
    """Points (33, 2) of a smooth line around a centre, in any direction; `bend` says how far it winds, in radians."""
    turns = np.interp(np.arange(33), (0, 8, 16, 24, 32), rng.uniform(-1, 1, 5)).cumsum() / 8
    heading = rng.uniform(0, 2 * math.pi) + bend * turns
    points = np.stack([np.cos(heading), np.sin(heading)], 1).cumsum(0) * length / 32
    return (points - points.mean(0) + centre).astype(np.float32)


def stroke(s: Surface, points: np.ndarray, reach: float = 0.04) -> tuple[np.ndarray, np.ndarray]:
    """Distance to a line of points, at most `reach`, and how far along it the nearest point lies, in [0, 1]."""
    distance, place = np.full((s.size, s.size), reach, np.float32), np.zeros((s.size, s.size), np.float32)
    for k, (p, q) in enumerate(zip(points[:-1], points[1:], strict=True)):
        (left, top), (right, bottom) = (  # the pixels that this segment can reach
            (s.size * np.clip((np.minimum(p, q) - reach, np.maximum(p, q) + reach), 0, 1)).astype(int))
        window, (a, b) = (slice(top, bottom), slice(left, right)), q - p
        dx, dy = s.x[:, left:right] - p[0], s.y[top:bottom] - p[1]
        t = np.clip((a * dx + b * dy) / (a * a + b * b), 0, 1)
        d = np.sqrt((dx - t * a)**2 + (dy - t * b)**2)
        np.copyto(place[window], (k + t) / (len(points) - 1), where=d < distance[window])
        np.minimum(distance[window], d, out=distance[window])
    return distance, place


def weave(rng: Generator, size: int) -> Surface:
    """A plain weave: upright warp and level weft threads that pass over and under each other by turns."""
    s, pitch = Surface(rng, size), 1 / 24
    angle, left, top = rng.uniform(-0.06, 0.06), rng.uniform(3, 5), rng.uniform(3, 5)
    c, n = math.cos(angle) / pitch, math.sin(angle) / pitch
    u = c * s.x + n * s.y + left + 0.25 * value_noise(rng, size, 5, 5)
    v = c * s.y - n * s.x + top + 0.25 * value_noise(rng, size, 5, 5)
    i, j = u.astype(np.intp), v.astype(np.intp)  # which thread; a and b: where across it, from its axis
    a, b = (u - i - 0.5).astype(np.float32), (v - j - 0.5).astype(np.float32)
    over = (1 - 2 * ((i + j) & 1)).astype(np.float32)
    slim = rng.uniform(3.9, 5.3, (2, 40)).astype(np.float32)
    tone = rng.uniform(0.86, 1.12, (2, 40)).astype(np.float32)
    warp = np.maximum(1 - slim[0][i] * a * a, 0) + 0.6 * over * np.cos(math.pi * b)
    weft = np.maximum(1 - slim[1][j] * b * b, 0) - 0.6 * over * np.cos(math.pi * a)
    height, upper = np.maximum(warp, weft), (warp > weft).astype(np.float32)
    s.fibre = mix(value_noise(rng, size, 150, 24), value_noise(rng, size, 24, 150), upper)
    shade = relief((height + 0.12 * s.fibre) * (0.3 * pitch), s.light) * np.clip(0.2 + 0.5 * height, 0.12, 1)
    shade *= mix(tone[1][j], tone[0][i], upper) * (1 + 0.2 * s.fibre)
    dye = 1 + rng.uniform(-0.04, 0.04, (2, 3, 1, 1)).astype(np.float32)
    s.image = mix(colour(188, 195, 202) * dye[1], colour(112, 136, 170) * dye[0], upper) * shade
    return s


def seen(strength: float) -> float:
    """How opaque a defect of this strength is, in [0, 1]; from 0.75 on, strength shows in size alone."""
    return min(0.25 + strength, 1)


def torn(s: Surface, rng: Generator, distance: np.ndarray, strength: float) -> Layers:
    """An opening with a frayed edge: loose fibres over the dark; the cloth around it sinks and so darkens."""
    fibres = np.maximum(value_noise(rng, s.size, 12, 130), value_noise(rng, s.size, 130, 12))
    beneath = colour(24, 21, 19) + s.image * 0.4 * np.clip(3 * fibres - 1.7, 0, 1)
    return [(inside(distance - 0.01, 0.025) * 0.6 * seen(strength), s.image * 0.4),
            (inside(distance + 0.011 * s.fibre) * seen(strength), beneath)]


def cut(s: Surface, rng: Generator, strength: float) -> Layers:
    """A slit, wide in the middle."""
    distance, place = stroke(s, curve(rng, rng.uniform(0.25, 0.75, 2), 0.2 + 0.1 * strength, 0.35))
    distance -= 0.002 + (0.008 + 0.012 * strength) * np.sqrt(4 * place * (1 - place))
    return torn(s, rng, distance, strength)


def hole(s: Surface, rng: Generator, strength: float) -> Layers:
    """A round opening."""
    radius = rng.uniform(0.04, 0.06) * (0.6 + 0.5 * strength)
    return torn(s, rng, blob(s, rng, rng.uniform(0.25, 0.75, 2), radius, 0.25), strength)


def stain(s: Surface, rng: Generator, strength: float) -> Layers:
    """Spilt coffee: it browns the cloth, most at the rim, where it dried."""
    distance = blob(s, rng, rng.uniform(0.25, 0.75, 2), rng.uniform(0.08, 0.15), 0.5)
    rim = 0.75 + 0.25 * np.exp(-(distance / 0.012)**2)
    return [(inside(distance, 0.016) * 0.85 * rim * seen(strength), s.image * colour(205, 160, 95))]


def thread(s: Surface, rng: Generator, strength: float) -> Layers:
    """A loose twisted thread lying on the cloth, with its shadow on the side away from the light."""
    points, radius = curve(rng, rng.uniform(0.25, 0.75, 2), rng.uniform(0.4, 0.65), 5.0), 0.006 + 0.004 * strength
    shadow = stroke(s, points - 0.008 * np.array(s.light, np.float32))[0]
    distance, place = stroke(s, points)
    shading = relief(0.6 * np.sqrt(np.maximum(radius**2 - distance**2, 0)), s.light)
    dye = colour(*((176, 40, 44), (238, 226, 190), (40, 36, 44))[rng.integers(3)])
    return [(inside(shadow - radius, 0.01) * 0.6 * seen(strength), s.image * 0.35),
            (inside(distance - radius) * seen(strength), dye * shading * (0.9 + 0.25 * np.sin(400 * place)))]


def washer(rng: Generator, size: int) -> Surface:
    """A turned steel ring with three radial grooves, turned anyhow, on a rubber mat."""
    s = Surface(rng, size)
    scale, turn = rng.uniform(0.95, 1.05), rng.uniform(0, 2 * math.pi)
    s.pose = *rng.uniform(0.46, 0.54, 2).tolist(), 0.165 * scale, 0.37 * scale  # centre, inner and outer radius
    s.mat = colour(*rng.normal((52, 82, 92), 1.5)) * (
        1 + 0.25 * value_noise(rng, size, 130, 130) + 0.1 * value_noise(rng, size, 6, 6))
    dx, dy = s.x - s.pose[0], s.y - s.pose[1]
    radius = np.sqrt(dx**2 + dy**2) + 1e-6
    outline = np.maximum(radius - s.pose[3], s.pose[2] - radius)
    grooves = np.zeros_like(radius)
    for k in range(3):
        c, n = math.cos(turn + k * 2 * math.pi / 3), math.sin(turn + k * 2 * math.pi / 3)
        grooves += np.exp(-((c * dy - n * dx) / 0.012)**2) * (c * dx + n * dy > 0)
    bevel = np.maximum(1 + outline / 0.016, 0)
    marks = np.interp(np.arange(4096), np.arange(0, 4097, 24), rng.uniform(-1, 1, 171)).astype(np.float32)
    marks = marks[(radius * 4096).astype(np.intp)]  # rings that the lathe left: a function of the radius
    facing = ((s.light[0] * dx + s.light[1] * dy) / radius)**2  # turned metal shines where the light crosses its rings
    shine = (0.27 + 0.04 * marks + (0.40 + 0.14 * marks) * facing * facing) * (1 - 0.35 * grooves)
    shine *= 1 + 0.08 * value_noise(rng, size, 8, 8) + 0.05 * value_noise(rng, size, 90, 90)
    steel = colour(*rng.normal(250, 2, 3)) * shine * relief(-0.008 * grooves - 0.012 * bevel * bevel, s.light)
    s.metal = inside(outline)
    s.image = mix(s.mat * unshadowed(s, s.metal), steel, s.metal)
    return s


def unshadowed(s: Surface, metal: np.ndarray) -> np.ndarray:
    """The light that the metal leaves on the mat: 1 less its cover, blurred and moved away from the lamp."""
    right, down = (np.exp(-((s.y - s.x + 0.022 * way) / 0.018)**2) for way in s.light)
    return 1 - 0.7 / (math.pi * (0.018 * s.size)**2) * (down @ metal @ right.T)


def on_ring(s: Surface, rng: Generator, low: float, high: float) -> np.ndarray:
    """A place on the washer, between the shares `low` and `high` of the way from its inner to its outer rim."""
    (left, top, inner, outer), turn = s.pose, rng.uniform(0, 2 * math.pi)
    radius = inner + (outer - inner) * rng.uniform(low, high)
    return np.array((left + radius * math.cos(turn), top + radius * math.sin(turn)))


def scratch(s: Surface, rng: Generator, strength: float) -> Layers:
    """A score across the face: a dark groove with a bright burr beside it."""
    points = curve(rng, on_ring(s, rng, 0.4, 0.6), 0.24 + 0.1 * strength, 0.3)
    layers, light = [], np.array(s.light, np.float32)
    for side, paint in ((0.003, colour(240, 228, 206)), (-0.003, colour(22, 24, 30))):
        distance, place = stroke(s, points + side * light)
        distance -= (0.002 + 0.003 * strength) * (0.5 + np.sqrt(place * (1 - place)))
        layers.append((inside(distance) * s.metal * seen(strength), paint))
    return layers


def dent(s: Surface, rng: Generator, strength: float) -> Layers:
    """A blow: a hollow, dark towards the light and bright away from it, its metal a little yellowed."""
    radius = rng.uniform(0.045, 0.06) * (0.75 + 0.25 * strength)
    distance = blob(s, rng, on_ring(s, rng, 0.4, 0.6), radius, 0.15)
    hollow = np.clip(-distance / radius, 0, 1)
    shading = relief(-0.02 * (0.3 + 0.7 * strength) * hollow * (2 - hollow), s.light) * (0.9 - 0.3 * strength * hollow)
    return [(inside(distance, 0.006) * s.metal, s.image * colour(255, 252, 243) * shading)]


def contamination(s: Surface, rng: Generator, strength: float) -> Layers:
    """Rust in a ragged patch, through which the metal shows a little."""
    distance = blob(s, rng, on_ring(s, rng, 0.3, 0.7), rng.uniform(0.065, 0.09), 0.5)
    grain = value_noise(rng, s.size, 70, 70)
    rust = colour(118, 70, 34) * (0.8 + 0.5 * grain) + 0.15 * s.image * colour(255, 160, 90)
    return [(inside(distance + 0.02 * grain, 0.014) * 0.9 * s.metal * seen(strength), rust)]


def missing(s: Surface, rng: Generator, strength: float) -> Layers:
    """A bite out of the outer rim: the mat shows, and the washer's shadow follows the new outline."""
    bite = inside(blob(s, rng, on_ring(s, rng, 0.95, 1), rng.uniform(0.06, 0.09) * (0.5 + 0.5 * strength), 0.15))
    light = unshadowed(s, s.metal * (1 - bite))
    brighter = light - unshadowed(s, s.metal) > 0.1
    return [(np.maximum(bite * (s.metal > 0), brighter * (1 - s.metal)), s.mat * light)]


PAINTERS = {f.__name__: f for f in (weave, cut, stain, thread, hole, washer, scratch, dent, contamination, missing)}
