"""Draw random numbers, smooth noise and waves that are the same to the last bit on every machine.

Pixels are computed only from integers, tables, + - * / and the square root, which IEEE 754 defines exactly. The order
of additions in a weighted sum depends on the library and the processor. The sums here are therefore of integers so
small that float32 represents them exactly (below 2**24), in any order. A new release of numpy may change its random
streams. The recorded hashes in the tests would then fail.

Fields are float32 (size, size) unless stated otherwise.
"""
import math
import zlib
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.random import PCG64, Generator

STEPS = 4096  # a full turn, in the table of cosines
COSINES = np.array([round(2**14 * math.cos(2 * math.pi * k / STEPS)) for k in range(STEPS)], np.float32) / 2**14


def stream(*names: str, seed: int) -> Generator:
    """Return the random stream of a purpose, so that a scene does not depend on the defect drawn over it."""
    return Generator(PCG64([zlib.crc32("/".join(names).encode()), seed]))


def uniform(rng: Generator, low: float, high: float, shape: tuple[int, ...] | None = None) -> Any:
    """Draw a Python float in [low, high), or with a shape a float32 array, in which rounding may reach `high`."""
    drawn = low + (high - low) * rng.random(shape)
    return drawn if shape is None else drawn.astype(np.float32)


def cosine(turns: np.ndarray | float) -> np.ndarray:
    """Compute the cosine of angles in full turns, of any shape, from a table: float32, accurate to 0.001."""
    return COSINES[np.floor(np.multiply(turns, STEPS)).astype(np.int64) & (STEPS - 1)]


def direction(turns: float) -> tuple[float, float]:
    """Compute the unit vector at an angle in full turns: x right, y down."""
    return float(cosine(turns)), float(cosine(turns - 0.25))


def norm(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Compute the lengths of vectors, of any shape, since numpy.hypot differs between machines."""
    return np.sqrt(x * x + y * y)


def cells(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split numbers into the cell of width 1, int32, and the position in it, float32 in [0, 1)."""
    floor = np.floor(x)
    return floor.astype(np.int32), x - floor


def angle(dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Compute the angle of vectors, of any shape, in full turns in [0, 1]: a polynomial, accurate to 0.00001 turns."""
    ax, ay = np.abs(dx), np.abs(dy)
    ratio = np.minimum(ax, ay) / np.maximum(np.maximum(ax, ay), 1e-9)
    square = ratio * ratio
    turns = 0.0286703 - square * (0.0135494 - 0.003316 * square)  # Hastings' arc tangent, over 2 pi
    turns = ratio * (0.15913 - square * (0.0525688 - square * turns))
    turns = np.where(ay > ax, 0.25 - turns, turns)
    turns = np.where(dx < 0, 0.5 - turns, turns)
    return np.where(dy < 0, 1 - turns, turns)


@lru_cache(maxsize=128)
def spline_weights(size: int, count: int) -> Any:
    """Compute cubic B-spline weights (size, count + 3), in 1/256, of the knots of `count` cells at an axis' pixels."""
    from scipy.sparse import csr_array  # here: slow to import
    t = np.abs(((np.arange(size) + 0.5) / size * count + 1)[:, None] - np.arange(count + 3))
    away = np.maximum(2 - t, 0)
    weights = np.rint(256 * np.where(t < 1, 2 / 3 - t * t + t * t * t / 2, away * away * away / 6))
    return csr_array(weights.astype(np.float32))  # up to four weights in a row are not 0


def smooth_noise(rng: Generator, size: int, rows: int, columns: int | None = None) -> np.ndarray:
    """Draw (size, size) float32 noise, about [-1, 1]: random knots on rows x columns cells, joined by splines."""
    columns = columns or rows
    knots = rng.integers(-127, 128, (rows + 3, columns + 3)).astype(np.float32)
    sums = spline_weights(size, rows) @ (spline_weights(size, columns) @ knots.T).T  # integers up to 257 * 257 * 127
    return sums * np.float32(1.7 / (127 * 256 * 256))


def line_noise(rng: Generator, length: int, count: int) -> np.ndarray:
    """Draw (length,) float32 smooth noise, about [-1, 1], along a line of `count` cells."""
    knots = rng.integers(-127, 128, count + 3).astype(np.float32)
    return spline_weights(length, count) @ knots * np.float32(1.7 / (127 * 256))


def rough_noise(rng: Generator, size: int, count: int, octaves: int = 4) -> np.ndarray:
    """Draw (size, size) float32 noise, about [-1, 1]: several scales, each half as strong as the coarser one."""
    octave = (smooth_noise(rng, size, count << k) * 0.5**k for k in range(octaves))
    return sum(octave, np.zeros((size, size), np.float32))


@lru_cache(maxsize=8)  # large, and of little use to the next scene, whose lamp stands elsewhere
def blur_weights(size: int, radius: float, shift: float) -> Any:
    """Compute the (size, size) weights, in 1/256, of a bell of `radius` pixels that looks `shift` pixels ahead."""
    from scipy.sparse import csr_array  # here: slow to import
    away = (np.arange(size)[None] - np.arange(size)[:, None] - shift) / radius
    rest = np.maximum(1 - away * away, 0)
    return csr_array(np.floor(256 * (rest * rest) / (radius * 16 / 15)).astype(np.float32))


def blur(cover: np.ndarray, radius: float, shift: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """Blur a field in [0, 1] over `radius` image sides and move it by `shift` (x, y). Beyond the edges it is 0.

    The weights of a bell of few pixels do not add up to 1. At a radius of 1 to 2 pixels, 1 becomes 0.8 to 1.5.
    """
    size = len(cover)
    right, down = (blur_weights(size, radius * size, round(-way * size, 3)) for way in shift)
    half = np.floor(down @ np.floor(cover * 255 + 0.5) / 256)  # whole numbers again: the second sum is exact too
    return np.multiply(half @ right.T, np.float32(1 / (255 * 256)), order="C")


def cell_distances(rng: Generator, u: np.ndarray, v: np.ndarray, jitter: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    """Compute the distances to the two nearest random points, in cells. Each cell of (u, v) has one point.

    u and v must be in [1, 126]. Voronoi cells meet where both distances are equal.
    """
    points = uniform(rng, 0.5 - jitter / 2, 0.5 + jitter / 2, (2, 128 * 128))
    (i, a), (j, b) = cells(u), cells(v)
    first = second = np.full(u.shape, 3, np.float32)
    for row, column in product((-1, 0, 1), repeat=2):
        index = (j + row) * 128 + (i + column)
        distance = norm(points[0].take(index) + (column - a), points[1].take(index) + (row - b))
        first, second = np.minimum(first, distance), np.minimum(second, np.maximum(first, distance))
    return first, second


def sensor_noise(rng: Generator, size: int, sigma: float) -> np.ndarray:
    """Draw (size, size) float32 camera noise: nearly normal, with a standard deviation of `sigma` gray levels."""
    parts = np.frombuffer(rng.bytes(4 * size * size), np.uint8).reshape(4, size, size).astype(np.int16)
    return (parts[0] + parts[1] + parts[2] + parts[3] - 510).astype(np.float32) * np.float32(sigma / 147.8)
