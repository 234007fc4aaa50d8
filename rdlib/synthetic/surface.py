"""Build a scene under a lamp: the grid of pixels, shapes from signed distances, and shading from heights.

Lengths are in image sides (x right, y down), so a seed shows the same scene at every size. Colors are linear light,
float32 (3, H, W) or (3, 1, 1). They are in [0, 1], and above 1 where the lamp glares. At the end, a square root
approximates the display's gamma. Fields (distances, covers, heights) are float32 (H, W), or (1, W) and (H, 1) if they
depend on one axis.
"""
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from rdlib.synthetic.noise import blur, cosine, direction, norm, rough_noise, uniform

Layers = list[tuple[np.ndarray, np.ndarray]]  # (cover in [0, 1], paint in linear light), from the bottom up


class Fault(NamedTuple):
    """A faulty part that a painter builds.

    Args:
        kind: the defect type.
        strength: in (0, 1], barely visible to obvious.
        rng: random stream that chooses the part.
    """

    kind: str
    strength: float
    rng: Generator

    def which(self, count: int) -> int:
        """Draw the index of the faulty part, 0 to `count` - 1."""
        return int(self.rng.integers(count))


class Surface:
    """A scene that a category's painter fills in and that defects read.

    Attributes:
        size: height and width, in pixels.
        x, y: (1, size) and (size, 1) float32, the centers of the pixels in image sides.
        light: unit vector (x, y) towards the lamp, which is at the upper left.
        lamp: (size, size) brightness of the light at each pixel, around 1.
        image: (3, size, size) in linear light, without the lamp; set by the painter.
        part: (size, size) in [0, 1] or 1.0, the object's share of each pixel; most defects stay on the object.
        beneath: color of the ground that a hole shows, (3, 1, 1) or (3, size, size).
        flesh: the material's color where its surface is broken, (3, 1, 1).
        spot: draws a place (x, y) for a defect from a random stream; by default not close to the border.
        edge: width of a broken edge, in image sides: wide in cloth, small in metal.
    """

    def __init__(self, rng: Generator, size: int):
        self.size = size
        self.x = ((np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size))[None]
        self.y = self.x.T
        turns, slope, level = uniform(rng, 0.56, 0.67), uniform(rng, 0.05, 0.25), uniform(rng, 0.94, 1.06)
        self.light = direction(turns)
        self.lamp = level * (1 + slope * self.along(turns)[0])
        self.image: np.ndarray
        self.part: np.ndarray | float = 1.0
        self.beneath, self.flesh, self.edge = colour(20, 20, 20), colour(40, 38, 36), 0.02
        self.spot = anywhere

    def along(self, turns: float, x: float = 0.5, y: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
        """Compute coordinates (u, v) around (x, y) whose u axis points at `turns`."""
        right, down = direction(turns)
        dx, dy = self.x - x, self.y - y
        return right * dx + down * dy, right * dy - down * dx


def colour(red: float, green: float, blue: float) -> np.ndarray:
    """Convert a displayed color, 0 to 255, to linear light, (3, 1, 1)."""
    shown = np.array((red, green, blue), np.float32)[:, None, None] / np.float32(255)
    return shown * shown


def mix(below: np.ndarray | float, above: np.ndarray | float, cover: np.ndarray) -> np.ndarray:
    """Blend by alpha: `below` where `cover` is 0, `above` where it is 1."""
    return below + cover * (above - below)


def inside(distance: np.ndarray, softness: float = 0.0) -> np.ndarray:
    """Compute a shape's cover from the signed distance to its outline: 1 in, 0 out.

    The edge is soft over `softness` image sides, and over at least 1.5 pixels.
    """
    return np.clip(0.5 - distance * (1 / max(softness, 1.5 / distance.shape[-1])), 0, 1)


def bell(x: np.ndarray) -> np.ndarray:
    """Compute a bell curve: 1 at 0, falling smoothly to 0 at -1 and 1, and 0 beyond."""
    rest = np.maximum(1 - x * x, 0)
    return rest * rest


def relief(height: np.ndarray, light: tuple[float, float], contrast: float = 0.8) -> np.ndarray:
    """Compute Lambert's shading of a height field in image sides: 1 where flat, more where it faces the lamp."""
    edge = np.pad(height, 1, "edge") * np.float32(len(height) / 2)
    right, down = edge[1:-1, 2:] - edge[1:-1, :-2], edge[2:, 1:-1] - edge[:-2, 1:-1]
    facing = 1 - (contrast * light[0]) * right - (contrast * light[1]) * down
    return np.maximum(facing, 0) / np.sqrt(1 + right * right + down * down)


def shadow(s: Surface, cover: np.ndarray, height: float, darkness: float = 0.65) -> np.ndarray:
    """Compute the light, in [0, 1], on the ground that lies `height` image sides below an object with this cover."""
    right, down = s.light
    way = (-1.2 * height * right, -1.2 * height * down)
    return 1 - darkness * np.minimum(blur(cover, max(1.3 * height, 2 / s.size), way), 1)


def box(u: np.ndarray, v: np.ndarray, half_u: float, half_v: float, corner: float = 0.0) -> np.ndarray:
    """Compute the signed distance to a rectangle with rounded corners, in the units of u and v."""
    across, down = np.abs(u) - (half_u - corner), np.abs(v) - (half_v - corner)
    outside = norm(np.maximum(across, 0), np.maximum(down, 0))
    return outside + np.minimum(np.maximum(across, down), 0) - corner


def blob(s: Surface, rng: Generator, x: float, y: float, radius: float, roughness: float) -> np.ndarray:
    """Approximate the signed distance to the outline of a disc that noise deforms."""
    return norm(s.x - x, s.y - y) - radius - radius * roughness * rough_noise(rng, s.size, 9, 3)


def curve(rng: Generator, x: float, y: float, length: float, bend: float) -> np.ndarray:
    """Draw the points (33, 2) of a random smooth line around (x, y). `bend` is how far it winds, in turns."""
    knots = uniform(rng, -1, 1, (5,)).astype(np.float64)
    i = np.minimum(np.arange(33) // 8, 3)
    t = np.arange(33) / 8 - i
    turns = uniform(rng, 0, 1) + bend * np.cumsum((knots[i] * (1 - t) + knots[i + 1] * t) / 8)
    steps = np.stack([cosine(turns), cosine(turns - 0.25)], axis=1).astype(np.float64) * length / 32
    points = np.cumsum(steps, axis=0)
    return ((x, y) + points - points[16]).astype(np.float32)


def stroke(s: Surface, points: np.ndarray, reach: float = 0.04) -> tuple[np.ndarray, np.ndarray]:
    """Compute the distance to a line, at most `reach`, and the position of the nearest point on it, in [0, 1]."""
    distance, place = np.full((s.size, s.size), reach, np.float32), np.zeros((s.size, s.size), np.float32)
    for k, (p, q) in enumerate(zip(points[:-1], points[1:], strict=True)):
        (left, top), (right, bottom) = (  # the pixels that this segment can reach
            (s.size * np.clip((np.minimum(p, q) - reach, np.maximum(p, q) + reach), 0, 1)).astype(int))
        window, (a, b) = (slice(top, bottom), slice(left, right)), q - p
        dx, dy = s.x[:, left:right] - p[0], s.y[top:bottom] - p[1]
        t = np.clip((a * dx + b * dy) / (a * a + b * b), 0, 1)
        d = norm(dx - t * a, dy - t * b)
        np.copyto(place[window], (k + t) / (len(points) - 1), where=d < distance[window])
        np.minimum(distance[window], d, out=distance[window])
    return distance, place


def anywhere(rng: Generator) -> tuple[float, float]:
    """Draw a random place (x, y) that is not close to the image's border."""
    return uniform(rng, 0.2, 0.8), uniform(rng, 0.2, 0.8)
