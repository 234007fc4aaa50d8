"""Make the parts of the procedural images: filtered noise, lookups, shading. Fields are float32 (S, S)."""
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.fft import irfft2, rfft2
from scipy.ndimage import map_coordinates

Field = NDArray[np.float32]


def log_uniform(rng: Generator, low: float, high: float) -> float:
    """Draw a number between `low` and `high`, every factor of two as likely as another."""
    return float(low * (high / low) ** rng.random())


def chance(rng: Generator, probability: float) -> bool:
    """Return True with that probability."""
    return bool(rng.random() < probability)


def grid(size: int) -> tuple[Field, Field]:
    """Return x and y of every pixel, (S, S) each, from -0.5 to 0.5 over the image."""
    line = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    return tuple(np.broadcast_to(axis, (size, size)) for axis in (line[None, :], line[:, None]))


def turned(size: int, angle: float, stretch: float = 1.0) -> tuple[Field, Field]:
    """Turn the coordinates of `grid` by `angle` (radians) and multiply the second one by `stretch`."""
    x, y = grid(size)
    return np.cos(angle) * x + np.sin(angle) * y, stretch * (np.cos(angle) * y - np.sin(angle) * x)


def spectrum(size: int, slope: float, angle: float = 0.0, stretch: float = 1.0,
             band: tuple[float, float] | None = None) -> Field:
    """Compute amplitudes (S, S // 2 + 1): 1 / frequency^slope, or a log-normal band = (center, width in octaves).

    Frequencies are in cycles per image. `stretch` above 1 makes what is drawn with it longer across `angle`.
    """
    fx, fy = np.fft.rfftfreq(size, 1 / size)[None, :], np.fft.fftfreq(size, 1 / size)[:, None]
    along, across = np.cos(angle) * fx + np.sin(angle) * fy, np.cos(angle) * fy - np.sin(angle) * fx
    frequency = np.hypot(along, stretch * across)
    frequency[0, 0] = 1.0
    amplitude = np.maximum(frequency, 1.0) ** -slope
    if band is not None:
        amplitude = np.exp(-0.5 * (np.log2(frequency / band[0]) / band[1]) ** 2)
    amplitude[0, 0] = 0.0
    return amplitude.astype(np.float32)


def filtered(rng: Generator, amplitude: Field) -> Field:
    """Draw Gaussian noise (S, S) with these amplitudes, mean 0, variance 1."""
    size = len(amplitude)
    noise = irfft2(rfft2(rng.standard_normal((size, size), dtype=np.float32)) * amplitude, s=(size, size))
    return noise / (noise.std() + 1e-8)


def random_spectrum(rng: Generator, size: int) -> Field:
    """Draw a spectrum at random: natural (slope 0.5 to 2), a band, or both; even or along a direction."""
    angle, stretch = rng.uniform(0, np.pi), 1.0 if chance(rng, 0.5) else log_uniform(rng, 1.3, 12)
    natural = spectrum(size, rng.uniform(0.5, 2.0), angle, stretch)
    if chance(rng, 0.5):
        return natural
    band = spectrum(size, 0, angle, stretch, (log_uniform(rng, 4, size / 4), rng.uniform(0.15, 0.8)))
    return band + rng.uniform(0, 0.5) * natural * np.sqrt((band**2).sum() / (natural**2).sum())


def smooth(x: Field, low: float, high: float) -> Field:
    """Compute a smooth step: 0 below `low`, 1 above `high`."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def bump(rng: Generator, harmonics: int, roughness: float) -> NDArray:
    """Draw the radius of a closed random outline at 256 angles, mean about 1."""
    theta = np.arange(256) * (2 * np.pi / 256)
    orders = np.arange(1, harmonics + 1)[:, None]
    heights, phases = rng.normal(0, roughness, (harmonics, 1)) / orders, rng.uniform(0, 7, (harmonics, 1))
    return np.clip(1 + (heights * np.cos(orders * theta + phases)).sum(0), 0.3, 2).astype(np.float32)


def inside(outline: NDArray, x: Field, y: Field) -> Field:
    """Compute how deep points lie within an outline: 1 at its center, 0 on it, negative outside."""
    index = ((np.arctan2(y, x) / (2 * np.pi)) % 1 * 256).astype(np.int32) % 256
    return 1 - np.hypot(x, y) / outline[index]


def lookup(image: Field, u: Field, v: Field) -> Field:
    """Look up `image` (M, M) at u, v in [-0.5, 0.5], bilinear; its border goes on outside."""
    scale = len(image)
    return map_coordinates(image, [(v + 0.5) * scale - 0.5, (u + 0.5) * scale - 0.5], order=1, mode="nearest")


def relief(height: Field, angle: float, gain: float) -> Field:
    """Light a height field from `angle`: 0.5 on level ground, up to 1 on slopes that face the light."""
    dy, dx = np.gradient(height)
    slope = np.cos(angle) * dx + np.sin(angle) * dy
    return (0.5 + 0.5 * np.tanh(gain * slope / (slope.std() + 1e-3))).astype(np.float32)
